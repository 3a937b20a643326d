// Package content serves bodies over HTTP: with an entity tag, as a 304 if the client has the body already, and compressed
// for clients that accept gzip. A body is compressed at most once.
package content

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// MinCompressed is the length from which bodies are compressed: shorter ones fit into one packet anyway.
const MinCompressed = 1400

// Body is the body of an answer. It does not change, and is safe for concurrent use.
type Body struct {
	plain []byte
	etag  string
	// compressed returns the gzip form of plain, which is made at the first call.
	compressed func() []byte
}

// New returns a body of which fresh versions are made all the time: compressing it takes little time. Its entity tag is
// etag, quotes included; a weak one begins with W/.
func New(plain []byte, etag string) *Body {
	return &Body{plain: plain, etag: etag, compressed: sync.OnceValue(func() []byte { return fast.compress(plain) })}
}

// Static returns a body that lasts as long as the process: compressing it takes some time, and makes it as small as
// possible.
func Static(plain []byte) *Body {
	b := New(plain, Tag(plain))
	b.compressed = sync.OnceValue(func() []byte { return compress(gzip.BestCompression, plain) })
	return b
}

// Tag returns the strong entity tag of some bytes.
func Tag(plain []byte) string { return fmt.Sprintf(`"%016x"`, xxhash.Sum64(plain)) }

// ETag returns the entity tag.
func (b *Body) ETag() string { return b.etag }

// Bytes returns the body as it is, not compressed. It must not be changed.
func (b *Body) Bytes() []byte { return b.plain }

// Serve answers a conditional GET or HEAD request with the body. The caller sets the headers Content-Type and
// Cache-Control before.
func (b *Body) Serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", b.etag)
	h.Add("Vary", "Accept-Encoding")
	if lines := r.Header["If-None-Match"]; len(lines) > 1 { // ServeContent reads the first line
		r.Header.Set("If-None-Match", strings.Join(lines, ","))
	}
	content := io.ReadSeeker(bytes.NewReader(b.plain))
	if len(b.plain) >= MinCompressed && acceptsGzip(r.Header.Values("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		if !strings.HasPrefix(b.etag, "W/") {
			h.Set("ETag", "W/"+b.etag) // a strong one identifies the bytes of one encoding
		}
		content = &lazyReader{content: func() []byte {
			compressed := b.compressed()
			h.Set("Content-Length", strconv.Itoa(len(compressed)))
			return compressed
		}}
	}
	http.ServeContent(w, r, "", time.Time{}, content)
}

// lazyReader reads content that is made when it is first needed. An answer of 304 does not need it.
type lazyReader struct {
	content func() []byte
	io.ReadSeeker
}

func (r *lazyReader) Seek(offset int64, whence int) (int64, error) {
	if r.ReadSeeker == nil {
		r.ReadSeeker = bytes.NewReader(r.content())
	}
	return r.ReadSeeker.Seek(offset, whence)
}

// compressor compresses bodies fast. It is safe for concurrent use; the zero value is ready.
type compressor struct {
	writers sync.Pool // of *gzip.Writer, some 800 KiB each
}

var fast compressor // a cache of memory

func (z *compressor) compress(body []byte) []byte {
	compressed := bytes.NewBuffer(make([]byte, 0, len(body)/4+64))
	w := z.writer(compressed)
	write(w, body)
	z.writers.Put(w)
	return compressed.Bytes()
}

// writer returns a writer that compresses what is written to it into another. It is to be put back into writers once it is closed.
func (z *compressor) writer(into io.Writer) *gzip.Writer {
	w, ok := z.writers.Get().(*gzip.Writer)
	if ok {
		w.Reset(into)
	} else {
		w, _ = gzip.NewWriterLevel(into, gzip.BestSpeed) // a valid level
	}
	return w
}

// compress compresses a body at a level.
func compress(level int, body []byte) []byte {
	compressed := bytes.NewBuffer(make([]byte, 0, len(body)/4+64))
	w, _ := gzip.NewWriterLevel(compressed, level) // a valid level
	write(w, body)
	return compressed.Bytes()
}

func write(w *gzip.Writer, body []byte) {
	_, _ = w.Write(body) // a buffer: no error
	_ = w.Close()        // a buffer: no error
}
