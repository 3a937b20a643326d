package load

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"

	"github.com/accrue/accrue/pkg/increment"
)

// source is a source of increments. It is safe for concurrent use.
type source interface {
	// next returns the next increment. The error is io.EOF when there are no more.
	next() (entry, error)
	// progress returns how much of the source was returned, from 0 to 1, and false if it is endless.
	progress() (float64, bool)
}

// entry is one increment.
type entry struct {
	tally       *tally
	value       uint8
	contributor string // quoted as JSON is without an escape; empty for none
}

// batch is the content of one request.
type batch struct {
	entries []entry
	body    []byte
}

// fill makes b the next batch of up to size increments. The error is io.EOF when there is none.
func (b *batch) fill(from source, size int) error {
	b.entries, b.body = b.entries[:0], b.body[:0]
	for len(b.entries) < size {
		e, err := from.next()
		if err != nil {
			if errors.Is(err, io.EOF) && len(b.entries) > 0 {
				break
			}
			return err
		}
		b.entries = append(b.entries, e)
	}
	single := size == 1
	if !single {
		b.body = append(b.body, `{"increments":[`...)
	}
	for i, e := range b.entries {
		if i > 0 {
			b.body = append(b.body, ',')
		}
		b.body = append(b.body, e.tally.item...)
		b.body = append(b.body, '0'+e.value)
		if e.contributor != "" {
			b.body = append(b.body, `,"contributor":"`...)
			b.body = append(b.body, e.contributor...)
			b.body = append(b.body, '"')
		}
		b.body = append(b.body, '}')
	}
	if !single {
		b.body = append(b.body, `]}`...)
	}
	return nil
}

// limited ends a source after count increments, if count is not 0.
type limited struct {
	source
	count int64
	given atomic.Int64
}

func (l *limited) next() (entry, error) {
	if l.given.Add(1) > l.count {
		return entry{}, io.EOF
	}
	return l.source.next()
}

func (l *limited) progress() (float64, bool) {
	return min(1, float64(l.given.Load())/float64(l.count)), true
}

// randomSource returns increments of random tags and values, endlessly.
type randomSource struct {
	tallies []*tally
	zipf    *zipf // nil: all tags are as likely
}

// newRandomSource draws the names of n tags. The same seed draws the same names, so that several runs use the same tags.
func newRandomSource(l *ledger, n int, seed uint64) *randomSource {
	const letters = "abcdefghijklmnopqrstuvwxyz_"
	draw := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // names of tags are not a secret
	s := &randomSource{}
	drawn := make(map[string]bool, n)
	for len(s.tallies) < n {
		// At least seven random letters: few names are drawn twice.
		name := make([]byte, 7+draw.IntN(increment.MaxNameLength-7+1))
		for i := range name {
			name[i] = letters[draw.IntN(len(letters))]
		}
		if !drawn[string(name)] {
			drawn[string(name)] = true
			s.tallies = append(s.tallies, l.tag(name))
		}
	}
	return s
}

// newShopSource returns increments of the tags of a shop.
func newShopSource(l *ledger) *randomSource {
	s := &randomSource{zipf: newZipf(len(shopTags))}
	for _, name := range shopTags {
		s.tallies = append(s.tallies, l.tag([]byte(name)))
	}
	return s
}

func (s *randomSource) next() (entry, error) {
	draw := rand.Uint64()                         //nolint:gosec // not a secret
	of := int(draw >> 8 % uint64(len(s.tallies))) //nolint:gosec // less than a length
	if s.zipf != nil {
		of = s.zipf.draw()
	}
	return entry{tally: s.tallies[of], value: uint8(increment.MinValue + draw&0xff%increment.MaxValue)}, nil
}

func (*randomSource) progress() (float64, bool) { return 0, false }

// turnSource returns increments of 1 of each tag in its turn, endlessly.
type turnSource struct {
	*randomSource
	given atomic.Uint64
}

func (s *turnSource) next() (entry, error) {
	n := s.given.Add(1) - 1
	return entry{tally: s.tallies[n%uint64(len(s.tallies))], value: 1}, nil
}

// wordSource returns an increment of 1 for every word of some files, in order.
type wordSource struct {
	ledger *ledger

	mu      sync.Mutex
	files   []file // still to be read; the first is open
	open    *os.File
	words   Words
	read    int64 // bytes of the files that were read
	whole   int64
	tallies map[string]*tally // of the ledger, found without its lock
}

func newWordSource(l *ledger, files []file) *wordSource {
	s := &wordSource{ledger: l, files: files, tallies: make(map[string]*tally)}
	for _, f := range files {
		s.whole += f.size
	}
	return s
}

func (s *wordSource) next() (entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.open == nil {
			if len(s.files) == 0 {
				return entry{}, io.EOF
			}
			opened, err := os.Open(s.files[0].path)
			if err != nil {
				return entry{}, fmt.Errorf("read words: %w", err)
			}
			s.open = opened
			s.words.reset(opened)
		}
		word, err := s.words.Next()
		if err == nil {
			t, ok := s.tallies[string(word)]
			if !ok {
				t = s.ledger.tag(word)
				s.tallies[t.name] = t
			}
			return entry{tally: t, value: 1}, nil
		}
		if !errors.Is(err, io.EOF) {
			return entry{}, fmt.Errorf("read words: %w", err)
		}
		s.close()
		s.read += s.files[0].size
		s.files = s.files[1:]
	}
}

func (s *wordSource) close() {
	if s.open != nil {
		_ = s.open.Close() // only read
		s.open = nil
	}
}

// Close closes the file that is open, for a run that ends early.
func (s *wordSource) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
	return nil
}

func (s *wordSource) progress() (float64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(1, float64(s.read)/float64(max(1, s.whole))), true
}
