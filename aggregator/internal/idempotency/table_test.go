package idempotency

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/message"
)

// A table finds what was added and not removed, however it grew and shrank.
func TestTableFindsWhatItHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var (
			x    table
			held = make(map[slot]bool) // by their items, without the generation
			live = make(map[slot]uint32)
			last uint32
		)
		items := func(s slot) slot { s.generation = 0; return s }
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if last > 0 && rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				generation := rapid.Uint32Range(1, last).Draw(t, "generation")
				x.remove(generation)
				if x.homes > leastHomes && 4*x.held < x.homes {
					t.Fatalf("room for %d ranges is kept for %d", x.homes, x.held)
				}
				for s, of := range live {
					if of == generation {
						delete(live, s)
						delete(held, s)
					}
				}
			} else {
				last++
				for range rapid.IntRange(1, 200).Draw(t, "ranges") {
					prefix := rapid.Uint16Range(0, 300).Draw(t, "prefix")
					s := slot{generation: last, prefix: message.KeyPrefix{byte(prefix), byte(prefix >> 8)}, first: rapid.Uint16Range(0, 2).Draw(t, "first")}
					if got, want := x.add(&s), !held[items(s)]; got != want {
						t.Fatalf("add(%+v) = %t, want %t", s, got, want)
					} else if got {
						held[items(s)], live[items(s)] = true, last
					}
				}
			}
			if x.held != len(held) {
				t.Fatalf("%d ranges are held, want %d", x.held, len(held))
			}
		}
		for prefix := range uint16(302) {
			found := make(map[slot]bool)
			key := message.KeyPrefix{byte(prefix), byte(prefix >> 8)}
			for at := x.find(key); at != none; at = x.next(at) {
				s := x.slots[at]
				if s.prefix != key || found[items(s)] || live[items(s)] != s.generation {
					t.Fatalf("%+v is found for prefix %v", s, key)
				}
				found[items(s)] = true
			}
			for s := range held {
				if s.prefix == key && !found[s] {
					t.Fatalf("%+v is not found", s)
				}
			}
		}
	})
}

// The runs at the end of a table have somewhere to go.
func TestTableGrowsWhenItsEndIsFull(t *testing.T) {
	t.Parallel()
	var x table
	for n := range uint16(2000) { // of one prefix, so of one home
		if s := (slot{generation: 1, first: n}); !x.add(&s) {
			t.Fatalf("range %d was there", n)
		}
	}
	n := 0
	for at := x.find(message.KeyPrefix{}); at != none; at = x.next(at) {
		n++
	}
	if n != 2000 {
		t.Errorf("%d ranges are found, want 2000", n)
	}
	x.remove(1)
	if x.held != 0 || x.homes != leastHomes {
		t.Errorf("%d ranges, and room for %d, are left", x.held, x.homes)
	}
}
