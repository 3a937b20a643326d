package load

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// tally records what was sent of one tag, as sums.
type tally struct {
	name string
	// item is the start of an increment of this tag as it is posted: {"name":"foo","value":
	item []byte
	// accepted was answered 202: it must be counted. unknown got another answer or none, and may be counted, once.
	accepted, unknown atomic.Int64
}

// ledger records everything that was sent. It is safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	tallies map[string]*tally
}

func newLedger() *ledger { return &ledger{tallies: make(map[string]*tally)} }

// tag returns the tally of a tag, and creates it the first time.
func (l *ledger) tag(name []byte) *tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.tallies[string(name)]
	if !ok {
		t = &tally{name: string(name), item: fmt.Appendf(nil, `{"name":%q,"value":`, name)}
		l.tallies[t.name] = t
	}
	return t
}

// tags returns the number of tags in the ledger.
func (l *ledger) tags() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tallies)
}

// difference is a tag whose total has not grown by what was sent.
type difference struct {
	Tag string `json:"tag"`
	// Counted is what the total has grown by. It should be Accepted, or more by Unknown at most.
	Counted  int64 `json:"counted"`
	Accepted int64 `json:"accepted"`
	Unknown  int64 `json:"unknown,omitempty"`
}

// over reports whether too much was counted, which is final: totals never shrink.
func (d difference) over() bool { return d.Counted > d.Accepted+d.Unknown }

func (d difference) String() string {
	if d.Unknown == 0 {
		return fmt.Sprintf("%s: counted %d, accepted %d (%+d)", d.Tag, d.Counted, d.Accepted, d.Counted-d.Accepted)
	}
	off := d.Counted - d.Accepted
	if d.over() {
		off -= d.Unknown
	}
	return fmt.Sprintf("%s: counted %d, accepted %d and possibly %d more (%+d)", d.Tag, d.Counted, d.Accepted, d.Unknown, off)
}

// compare returns every tag, sorted by name, whose total has not grown from before to after by what was sent.
// Tags of which nothing was sent must not have changed.
func (l *ledger) compare(before, after map[string]int64) []difference {
	l.mu.Lock()
	defer l.mu.Unlock()
	var differences []difference
	check := func(d difference) {
		if d.Counted < d.Accepted || d.over() {
			differences = append(differences, d)
		}
	}
	for name, t := range l.tallies {
		check(difference{name, after[name] - before[name], t.accepted.Load(), t.unknown.Load()})
	}
	strangers := make(map[string]int64)
	maps.Copy(strangers, before) // a tag may also be gone
	maps.Copy(strangers, after)
	for name := range strangers {
		if _, ok := l.tallies[name]; !ok {
			check(difference{Tag: name, Counted: after[name] - before[name]})
		}
	}
	slices.SortFunc(differences, func(a, b difference) int { return cmp.Compare(a.Tag, b.Tag) })
	return differences
}

// sum returns the sum over all tags of what was accepted.
func (l *ledger) sum() (accepted int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.tallies {
		accepted += t.accepted.Load()
	}
	return accepted
}
