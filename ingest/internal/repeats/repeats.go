// Package repeats remembers, for a short time, which idempotency keys an instance of ingest accepted, so that the answer to a
// repeated request can say so. It decides nothing: the aggregator counts each key once, whatever is remembered here.
package repeats

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/message"
)

const (
	// generation is how long keys are added to one generation. Two are remembered, so a key is known for one to two of them.
	// That is never longer than the shortest horizon of the aggregator, a minute: what is known here is not counted there.
	generation = 30 * time.Second
	// maxRuns bounds a generation. A run takes some 40 bytes, so both take 6 MB at most.
	maxRuns = 65_536
)

// run is a range of consecutive items that share a key prefix: the items of a batch, or one item.
type run struct{ first, last uint16 }

// Memory remembers keys. It is safe for concurrent use. The zero value is empty and ready.
type Memory struct {
	mu             sync.Mutex
	began          time.Time // when the first key of recent could be added
	recent, before map[message.KeyPrefix]run
}

// Add remembers accepted keys and returns how many of them it knew. A zero key stands for an item without a key, which costs
// next to nothing.
func (m *Memory) Add(keys func(yield func(*message.Key) bool)) (repeated int) {
	// The open run, as numbers: the higher half of its keys, and the lower half of its first and last key. There is none while all are 0.
	var high, first, last uint64
	for key := range keys {
		h, l := binary.BigEndian.Uint64(key[:8]), binary.BigEndian.Uint64(key[8:])
		switch {
		case h|l == 0:
			continue
		case high|last == 0:
		case h == high && l == last+1 && l&0xffff != 0: // the number of the item did not carry
			last = l
			continue
		default:
			repeated += m.add(high, first, last)
		}
		high, first, last = h, l, l
	}
	if high|last != 0 {
		repeated += m.add(high, first, last)
	}
	return repeated
}

// add remembers a run and returns how many of its items were known.
func (m *Memory) add(high, first, last uint64) int {
	prefix, begin := keyOf(high, first).Split()
	_, end := keyOf(high, last).Split()
	r := run{begin, end}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
	known, ok := m.recent[prefix]
	if !ok {
		known, ok = m.before[prefix]
	}
	n := 0
	if first, last := max(known.first, r.first), min(known.last, r.last); ok && first <= last {
		n = int(last-first) + 1
	}
	if n == int(r.last-r.first)+1 {
		return n // a repetition does not prolong what the aggregator remembers either
	}
	if len(m.recent) >= maxRuns {
		m.recent, m.before, m.began = nil, m.recent, time.Now()
	}
	if m.recent == nil {
		m.recent = make(map[message.KeyPrefix]run)
	}
	m.recent[prefix] = r
	return n
}

func keyOf(high, low uint64) (key message.Key) {
	binary.BigEndian.PutUint64(key[:], high)
	binary.BigEndian.PutUint64(key[8:], low)
	return key
}

// forget drops what is too old to be known for certain.
func (m *Memory) forget() {
	switch age := time.Since(m.began); {
	case age >= 2*generation:
		m.recent, m.before, m.began = nil, nil, time.Now()
	case age >= generation:
		m.recent, m.before, m.began = nil, m.recent, time.Now()
	}
}
