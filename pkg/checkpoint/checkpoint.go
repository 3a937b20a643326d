// Package checkpoint is what one partition remembers: which messages of which publisher have been counted, and the
// totals that they add up to (design sections 4 and 5b). It is arithmetic and a codec: it knows no clock, no network and
// no store. A checkpoint is written in the same Commit as the sums that it stands for, so it is the one judge of
// whether a message has been counted.
package checkpoint

import (
	"slices"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/message"
)

// The budgets of a checkpoint, in bytes packed. They are apart, so that neither tags nor gaps in the sequences can take
// the other's room. Together with the document's own fields they stay below the 1,048,487 bytes that Firestore takes.
const (
	// MaxTotals bounds TotalsSize: a checkpoint beyond it takes no new tags, and goes on counting the known ones.
	MaxTotals = 900 << 10
	// MaxPublishers bounds PublishersSize. A checkpoint may exceed it by what its totals leave free: MaxSize bounds both.
	MaxPublishers = 116 << 10
	// MaxSize bounds the packed totals and publishers together.
	MaxSize = MaxTotals + MaxPublishers
)

// Checkpoint is the state of one partition after a Commit. The zero value is a partition that nothing was counted in.
// It is a value: Next returns another one and leaves its receiver as it was, so that a Commit that failed is forgotten
// by dropping what Next returned.
type Checkpoint struct {
	// Commit grows by one with each Commit, so that each write moves the document's update time, which is the
	// precondition of the next.
	Commit uint64
	// Publishers is what has been counted, by publisher.
	Publishers map[message.Publisher]Counted
	// Totals are the partition's tags, sorted by name.
	Totals []Total
	// UpdatedAt is when this checkpoint was committed, to the millisecond, by the store's clock, and never before the one
	// that it replaced. It says which minute and hour of the history are open.
	UpdatedAt time.Time
}

// Counted is the part of a checkpoint that one publisher has.
type Counted struct {
	Sequences Intervals
	// LastSeen is the time of the last Commit that held a message of this publisher, to the second.
	LastSeen time.Time
}

// Total is what a partition has counted of one tag. A tag that has lived in several partitions is the sum of them.
type Total struct {
	Name       string
	Total      int64
	Increments int64
	// UpdatedAt is the time of the last Commit that changed the tag, to the millisecond.
	UpdatedAt time.Time
	// Minute and Hour are what was added to Total in the minute and in the hour, in UTC, of the checkpoint's UpdatedAt.
	Minute, Hour int64
}

// Delta is what one window adds to one tag.
type Delta struct {
	Name       string
	Value      int64
	Increments int64
}

// Message identifies a batch message within its partition.
type Message struct {
	Publisher message.Publisher
	Sequence  uint64
}

// Contains says whether message m has been counted.
func (c *Checkpoint) Contains(m Message) bool {
	counted, ok := c.Publishers[m.Publisher]
	return ok && counted.Sequences.Contains(m.Sequence)
}

// Next returns the checkpoint after a Commit at the time now that settles messages, which together add deltas. Deltas
// are sorted by name, each name once. Publishers leave it that were last seen longer than retention before the checkpoint
// c was committed: retention is how long Pub/Sub may still deliver a message, plus a margin. The time now prunes nothing,
// so one wrong clock forgets no publisher.
func (c *Checkpoint) Next(now time.Time, retention time.Duration, messages []Message, deltas []Delta) Checkpoint {
	if now = now.UTC().Truncate(time.Millisecond); now.Before(c.UpdatedAt) {
		now = c.UpdatedAt
	}
	next := Checkpoint{
		Commit:     c.Commit + 1,
		Publishers: make(map[message.Publisher]Counted, len(c.Publishers)+1),
		Totals:     merge(c.turned(now), deltas, now),
		UpdatedAt:  now,
	}
	silent := c.UpdatedAt.Add(-retention)
	for publisher, counted := range c.Publishers {
		if !counted.LastSeen.Before(silent) {
			next.Publishers[publisher] = counted
		}
	}
	owned := make(map[message.Publisher]bool)
	for _, m := range messages {
		counted := next.Publishers[m.Publisher]
		if !owned[m.Publisher] { // Add changes in place: never what c holds
			owned[m.Publisher] = true
			if counted.Sequences == nil { // unknown, or just left: what was counted before is still counted
				counted.Sequences = c.Publishers[m.Publisher].Sequences
			}
			counted.Sequences = slices.Clone(counted.Sequences)
		}
		counted.Sequences = counted.Sequences.Add(m.Sequence)
		counted.LastSeen = now.Truncate(time.Second)
		next.Publishers[m.Publisher] = counted
	}
	return next
}

// merge adds deltas to totals; both are sorted by name.
func merge(totals []Total, deltas []Delta, now time.Time) []Total {
	merged := make([]Total, 0, len(totals)+len(deltas))
	for _, d := range deltas {
		i, found := slices.BinarySearchFunc(totals, d.Name, func(t Total, name string) int {
			return strings.Compare(t.Name, name)
		})
		merged = append(merged, totals[:i]...)
		t := Total{Name: d.Name}
		if totals = totals[i:]; found {
			t, totals = totals[0], totals[1:]
		}
		t.Total += d.Value
		t.Increments += d.Increments
		t.Minute += d.Value
		t.Hour += d.Value
		t.UpdatedAt = now
		merged = append(merged, t)
	}
	return append(merged, totals...)
}

// Has says whether the checkpoint has counted the tag before.
func (c *Checkpoint) Has(name string) bool {
	_, found := slices.BinarySearchFunc(c.Totals, name, func(t Total, name string) int {
		return strings.Compare(t.Name, name)
	})
	return found
}

// TotalsSize is the most that the packed totals can come to, in bytes, however far the present tags are counted. It is
// compared with MaxTotals before a new tag is let in.
func (c *Checkpoint) TotalsSize() int {
	size := 16
	for i := range c.Totals {
		size += TagSize(c.Totals[i].Name)
	}
	return size
}

// TagSize is the most that a tag adds to TotalsSize.
func TagSize(name string) int { return len(name) + tagSize }
