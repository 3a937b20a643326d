package idempotency

import (
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
)

// table holds ranges of keys by their prefix, one prefix several if need be. It is a hash table with linear probing in one array
// without pointers: as it grows a range takes 37 to 56 bytes, which the garbage collector does not look at, and the ranges of a generation are
// removed in place. A map would have to be copied for that, since it never shrinks: with as many ranges as the budget allows that took
// more than all else.
type table struct {
	seed maphash.Seed
	// slots are where ranges are: at their home, a number below homes, or after it, without an empty slot between.
	slots []slot
	homes int
	held  int
}

// slot is a checkpoint.KeyRange and the generation that it belongs to, or empty if that is 0.
type slot struct {
	generation                           uint32
	prefix                               message.KeyPrefix
	first, last, partitions, fingerprint uint16
}

const (
	// none is the place of no range.
	none = -1
	// leastHomes is the size of a table that holds little.
	leastHomes = 64
	// overflow is the number of slots after the last home. If a run needs more, the table grows, with another seed.
	overflow = 64
)

func slotOf(r *checkpoint.KeyRange, generation uint32) slot {
	return slot{generation, r.Prefix, r.First, r.Last, r.Partitions, r.Fingerprint}
}

// keyRange returns the range in a slot.
func (s *slot) keyRange() checkpoint.KeyRange {
	return checkpoint.KeyRange{Prefix: s.prefix, First: s.first, Last: s.last, Partitions: s.partitions, Fingerprint: s.fingerprint}
}

// same reports whether two ranges have the same items.
func (s *slot) same(as *slot) bool {
	return s.prefix == as.prefix && s.first == as.first && s.last == as.last && s.partitions == as.partitions
}

// home returns where the ranges of a prefix begin. The seed is random, so a producer cannot choose keys that all have the same
// home.
func (t *table) home(prefix *message.KeyPrefix) int {
	home, _ := bits.Mul64(maphash.Bytes(t.seed, prefix[:]), uint64(t.homes)) //nolint:gosec // not negative
	return int(home)                                                         //nolint:gosec // less than homes
}

// find returns the place of the first range of a prefix, or none.
func (t *table) find(prefix message.KeyPrefix) int {
	if t.held == 0 {
		return none
	}
	return t.from(t.home(&prefix), prefix)
}

// next returns the place of the next range of the same prefix after a place, or none.
func (t *table) next(place int) int { return t.from(place+1, t.slots[place].prefix) }

func (t *table) from(place int, prefix message.KeyPrefix) int {
	for ; place < len(t.slots) && t.slots[place].generation != 0; place++ {
		if t.slots[place].prefix == prefix {
			return place
		}
	}
	return none
}

// add adds a range, and reports whether no range of the same items was there.
func (t *table) add(s *slot) bool {
	if 4*(t.held+1) > 3*t.homes {
		t.resize(t.homes + t.homes/2)
	}
	for at := t.find(s.prefix); at != none; at = t.next(at) {
		if t.slots[at].same(s) {
			return false
		}
	}
	for !t.put(s) { // the run at the end is longer than overflow
		t.seed = maphash.MakeSeed() // so it is elsewhere
		t.resize(t.homes + t.homes/2)
	}
	t.held++
	return true
}

// put puts a range into the first empty slot from its home on, and reports whether there is one.
func (t *table) put(s *slot) bool {
	for at := t.home(&s.prefix); at < len(t.slots); at++ {
		if t.slots[at].generation == 0 {
			t.slots[at] = *s
			return true
		}
	}
	return false
}

// resize gives the table another number of homes, or more if that is not enough.
func (t *table) resize(homes int) {
	if t.homes == 0 {
		t.seed = maphash.MakeSeed()
	}
	old := t.slots
	for homes = max(homes, leastHomes); ; homes += homes / 2 {
		t.homes, t.slots = homes, make([]slot, homes+overflow)
		if !slices.ContainsFunc(old, func(s slot) bool { return s.generation != 0 && !t.put(&s) }) {
			return
		}
		t.seed = maphash.MakeSeed()
	}
}

// remove removes the ranges of a generation. What is behind one of them moves towards its home, in order, so that nothing is behind an
// empty slot.
func (t *table) remove(generation uint32) {
	behind := false
	for at := range t.slots {
		switch s := t.slots[at]; {
		case s.generation == 0:
			behind = false
		case s.generation == generation:
			t.slots[at] = slot{}
			t.held--
			behind = true
		case behind:
			t.slots[at] = slot{}
			t.put(&s) // its own place is empty, if no other is
		}
	}
	if t.homes > leastHomes && 4*t.held < t.homes {
		t.resize(2 * t.held)
	}
}
