package idempotency

import (
	"sync"

	"github.com/accrue/accrue/pkg/message"
)

// shards is how many parts the table has, each with a lock: partitions commit at the same time, and a part is swept while
// the others are asked.
const shards = 64

// table is the keys themselves. Its methods may be called at the same time.
type table struct {
	shards [shards]shard
}

type shard struct {
	mu   sync.Mutex
	keys map[message.Key]entry
}

// entry is what is known of a key.
type entry struct {
	// generation is when it was counted, or underWay.
	generation uint32
	print      uint16
}

// underWay is the generation of keys whose Commit is.
const underWay = 0

func newTable() *table {
	t := &table{}
	for i := range t.shards {
		t.shards[i].keys = make(map[message.Key]entry)
	}
	return t
}

// of returns the part that a key belongs to. Keys are hashes: any of their bits will do.
func (t *table) of(key *message.Key) *shard { return &t.shards[key[1]%shards] }

// claim puts a key under way, unless it is known: then it returns the print that it is known with.
func (t *table) claim(key message.Key, what uint16) (seen uint16, known bool) {
	s := t.of(&key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, known := s.keys[key]; known {
		return e.print, true
	}
	s.keys[key] = entry{underWay, what}
	return 0, false
}

// release takes a key off that is under way.
func (t *table) release(key message.Key) {
	s := t.of(&key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[key].generation == underWay {
		delete(s.keys, key)
	}
}

// keep puts a key into a generation, and says whether it was in none before.
func (t *table) keep(key message.Key, what uint16, generation uint32) (added bool) {
	s := t.of(&key)
	s.mu.Lock()
	defer s.mu.Unlock()
	added = s.keys[key].generation == underWay
	s.keys[key] = entry{generation, what}
	return added
}

// sweep drops the keys of generations before one, and returns how many those were.
func (t *table) sweep(before uint32) (dropped int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for key, e := range s.keys {
			if e.generation != underWay && e.generation < before {
				delete(s.keys, key)
				dropped++
			}
		}
		s.mu.Unlock()
	}
	return dropped
}
