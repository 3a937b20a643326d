package history

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
)

// cache keeps blocks of periods, or of what was computed from them, up to about a limit of bytes. It is safe for concurrent
// use.
type cache[T any] struct {
	limit int
	size  func(T) int // in bytes

	mu     sync.Mutex
	blocks map[blockName]*list.Element
	recent list.List // of *block[T], the most recently used first
	bytes  int
}

// blockName names periodsPerBlock periods of a partition.
type blockName struct {
	partition  uint32
	resolution checkpoint.Resolution
	begin      int64 // Unix seconds
}

// block holds the periods from its beginning to end.
type block[T any] struct {
	name blockName

	mu      sync.Mutex // held during the read, so that concurrent requests for a block share it
	end     time.Time
	periods []T

	bytes int // guarded by cache.mu
}

func newCache[T any](limit int, size func(T) int) *cache[T] {
	return &cache[T]{limit: limit, size: size, blocks: make(map[blockName]*list.Element)}
}

// get returns the periods of a block that begin before end, and perhaps later ones. It calls read for those from a time to
// end that the block does not have.
func (c *cache[T]) get(name blockName, end time.Time, read func(from time.Time) ([]T, error)) ([]T, error) {
	b := c.use(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.end.Before(end) {
		return b.periods, nil
	}
	more, err := read(b.end)
	if err != nil {
		return nil, err
	}
	// Concurrent requests may be reading the old slice.
	b.periods, b.end = append(slices.Clip(b.periods), more...), end
	bytes := blockOverhead
	for _, p := range b.periods {
		bytes += c.size(p)
	}
	c.weigh(b, bytes)
	return b.periods, nil
}

// use returns the block of a name, and marks it as the most recently used. A new block is empty.
func (c *cache[T]) use(name blockName) *block[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.blocks[name]; ok {
		c.recent.MoveToFront(e)
		return e.Value.(*block[T]) //nolint:forcetypeassert // nothing else is in the list
	}
	b := &block[T]{name: name, end: time.Unix(name.begin, 0).UTC()}
	c.blocks[name] = c.recent.PushFront(b)
	return b
}

// weigh sets the size of a block, and evicts the least recently used ones while all together exceed the limit. A block that
// is evicted during a read still answers that read.
func (c *cache[T]) weigh(b *block[T], bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.blocks[b.name]; !ok || e.Value != b {
		return
	}
	c.bytes += bytes - b.bytes
	b.bytes = bytes
	for c.bytes > c.limit && c.recent.Len() > 0 {
		oldest := c.recent.Remove(c.recent.Back()).(*block[T]) //nolint:forcetypeassert // as above
		delete(c.blocks, oldest.name)
		c.bytes -= oldest.bytes
	}
}
