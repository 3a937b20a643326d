package api

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/increment"
)

const (
	// maxBody is the maximum size of a body, in bytes, as it is sent and after decompression.
	maxBody = 1 << 20
	// firstRead is how much is reserved for a body of unknown size at first. It doubles as the body goes on.
	firstRead = 4 << 10
	// gzipCost is the memory that decompression takes, in bytes.
	gzipCost = 48 << 10
	// maxPooled is the maximum size of a body whose memory is kept for other requests: a thousand typical items.
	maxPooled = 128 << 10
	// minItemSize is less than the size of the shortest item in a body, with its comma.
	minItemSize = len(`{"contributor":"x"},`)
)

// memory is where a request reserves the memory for its body. Counter has it.
type memory interface {
	Reserve(n int) bool
	Release(n int)
}

// scratch is the memory that reading and decoding a body takes. Entries do not refer to it.
type scratch struct {
	data     []byte
	buffer   bytes.Buffer
	json     jsontext.Decoder
	gzip     *gzip.Reader
	limited  io.LimitedReader
	memory   memory
	reserved int
}

// scratches caches memory for other requests. Its contents have no meaning.
var scratches sync.Pool // a cache

func newScratch(memory memory) *scratch {
	s, _ := scratches.Get().(*scratch)
	if s == nil {
		s = new(scratch)
	}
	s.memory = memory
	return s
}

// release gives back the reservation, and keeps the memory for other requests unless it is large.
func (s *scratch) release() {
	s.memory.Release(s.reserved)
	s.memory, s.reserved, s.limited.R = nil, 0, nil
	if cap(s.data) <= maxPooled {
		scratches.Put(s)
	}
}

// reserve raises the reservation to n bytes. The error is batching.ErrFull.
func (s *scratch) reserve(n int) error {
	if !s.memory.Reserve(n - s.reserved) {
		return fmt.Errorf("reserve memory for a body: %w", batching.ErrFull)
	}
	s.reserved = n
	return nil
}

// cost returns the memory that a body of n bytes takes: itself, its text, and its entries.
func cost(n int) int {
	return 2*n + min(n/minItemSize+1, increment.MaxBatch)*int(unsafe.Sizeof(batching.Entry{}))
}

// read reads the body of a request into data. Memory is reserved before it is read: all of it if the size is known, and
// else in steps. The errors are errTooLarge, errIncomplete, errSlow, errGzip, and batching.ErrFull.
func (s *scratch) read(r *http.Request, gzipped bool) error {
	if r.ContentLength > maxBody {
		return errTooLarge
	}
	source, size, base := io.Reader(r.Body), int(r.ContentLength), 0
	known := size >= 0 && !gzipped
	if !known {
		size = firstRead
	}
	if gzipped {
		base = gzipCost
		if err := s.reserve(base); err != nil {
			return err
		}
		if err := s.inflate(r.Body); err != nil {
			return readError(err)
		}
		source = s.gzip
	}
	s.data = s.data[:0]
	for {
		if err := s.reserve(base + cost(size)); err != nil {
			return err
		}
		s.data = slices.Grow(s.data, size-len(s.data))
		for len(s.data) < size {
			n, err := source.Read(s.data[len(s.data):size])
			s.data = s.data[:len(s.data)+n]
			switch {
			case len(s.data) > maxBody:
				return errTooLarge
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return readError(err)
			}
		}
		if known {
			return nil
		}
		size = min(2*size, maxBody+1)
	}
}

// inflate prepares s.gzip to decompress body.
func (s *scratch) inflate(body io.Reader) error {
	// A body that inflates to nothing, however long it is, ends here.
	s.limited = io.LimitedReader{R: body, N: maxBody + 1}
	if s.gzip == nil {
		s.gzip = new(gzip.Reader)
	}
	return s.gzip.Reset(&s.limited)
}

// readError classifies an error of reading a body.
func readError(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %w", errSlow, err)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt), errors.Is(err, io.EOF):
		return fmt.Errorf("%w: %w", errGzip, err)
	default:
		return fmt.Errorf("%w: %w", errIncomplete, err)
	}
}
