// Package checkpoint has the state of a partition: the settled messages of each publisher and the totals that they add up to.
// A checkpoint is written in the same Commit as its totals, so it alone decides whether a message has been counted
// (docs/design/protocol.md). The package is arithmetic and a codec. It uses no clock, no network and no store.
package checkpoint

import (
	"slices"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/message"
)

// Limits of the packed size of a checkpoint in bytes. Totals and publishers have separate limits, so that neither tags nor gaps
// in the sequences can use up the space of the other. With the document's other fields they stay below Firestore's limit of
// 1,048,487 bytes.
const (
	// MaxTotals bounds TotalsSize. A checkpoint at the limit accepts no new tags and continues to count the known ones.
	MaxTotals = 900 << 10
	// MaxPublishers bounds PublishersSize. A checkpoint may exceed it by as much as its totals leave free; MaxSize bounds both.
	MaxPublishers = 116 << 10
	// MaxSize bounds the packed totals and publishers together.
	MaxSize = MaxTotals + MaxPublishers
)

// Checkpoint is the state of one partition after a Commit. The zero value is the state before the first Commit. Next returns a
// new Checkpoint and does not change its receiver, so a failed Commit is undone by discarding the result of Next.
type Checkpoint struct {
	// Commit is the number of Commits. Because each Commit changes it, each write changes the document's update time, which is
	// the precondition of the next Commit.
	Commit uint64
	// Publishers has the settled sequences of each publisher.
	Publishers map[message.Publisher]Counted
	// Totals are the partition's tags, sorted by name.
	Totals []Total
	// UpdatedAt is the time of the Commit by the store's clock, in milliseconds. It is never before that of the previous
	// checkpoint. It determines the open minute and the open hour of the history.
	UpdatedAt time.Time
	// Layouts is the version of the Layouts that every later Commit of the partition knows, or 0.
	Layouts uint64
	// Owed is what the documents of tags lack, sorted by name, and OwedSince the time of the Commit since which some of them lack
	// something, zero if none does.
	Owed      []Delta
	OwedSince time.Time
	// Released are the marks of keys that version 0.1 has written, or nil.
	Released ReleasedMarks
}

// Counted is what a checkpoint knows of one publisher.
type Counted struct {
	Sequences Intervals
	// LastSeen is the time of the last Commit with a message of this publisher, in seconds.
	LastSeen time.Time
}

// Total is what one partition has counted for a tag. If the number of partitions has changed, a tag may have totals in several
// partitions, which add up.
type Total struct {
	Name       string
	Total      int64
	Increments int64
	// UpdatedAt is the time of the last Commit that changed the tag, in milliseconds.
	UpdatedAt time.Time
	// Minute and Hour are the changes of Total in the open minute and the open hour.
	Minute, Hour int64
}

// Delta is the change of a tag by one window.
type Delta struct {
	Name       string
	Value      int64
	Increments int64
}

// Message identifies a message within its partition.
type Message struct {
	Publisher message.Publisher
	Sequence  uint64
}

// Contains reports whether m is settled.
func (c *Checkpoint) Contains(m Message) bool {
	counted, ok := c.Publishers[m.Publisher]
	return ok && counted.Sequences.Contains(m.Sequence)
}

// Next returns the checkpoint after a Commit at the time now that settles messages, which together add deltas. Deltas must be
// sorted by name without repetition. Publishers last seen more than retention before c was committed are removed; retention is
// how long Pub/Sub may still deliver a message, plus a margin. Since the time now is not used for this, one Commit with a wrong
// time removes no publisher.
func (c *Checkpoint) Next(now time.Time, retention time.Duration, messages []Message, deltas []Delta) Checkpoint {
	if now = now.UTC().Truncate(time.Millisecond); now.Before(c.UpdatedAt) {
		now = c.UpdatedAt
	}
	next := Checkpoint{
		Commit:     c.Commit + 1,
		Publishers: make(map[message.Publisher]Counted, len(c.Publishers)+1),
		Totals:     merge(c.turned(now), deltas, now),
		UpdatedAt:  now,
		Layouts:    c.Layouts,
		Owed:       c.Owed,
		OwedSince:  c.OwedSince,
		Released:   c.Released.at(now),
	}
	oldest := c.UpdatedAt.Add(-retention)
	for publisher, counted := range c.Publishers {
		if !counted.LastSeen.Before(oldest) {
			next.Publishers[publisher] = counted
		}
	}
	owned := make(map[message.Publisher]bool)
	for _, m := range messages {
		counted := next.Publishers[m.Publisher]
		if !owned[m.Publisher] { // Add changes its receiver, which must not be part of c
			owned[m.Publisher] = true
			if counted.Sequences == nil { // new, or just removed: keep what is settled
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

// merge returns totals plus deltas. Both are sorted by name.
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

// Has reports whether the checkpoint has a total of the tag.
func (c *Checkpoint) Has(name string) bool {
	_, found := slices.BinarySearchFunc(c.Totals, name, func(t Total, name string) int {
		return strings.Compare(t.Name, name)
	})
	return found
}

// Documented returns those totals of some tags that the checkpoint has, without what their documents lack.
func (c *Checkpoint) Documented(names []string) []Total {
	var found []Total
	for _, name := range names {
		i, known := slices.BinarySearchFunc(c.Totals, name, func(t Total, name string) int { return strings.Compare(t.Name, name) })
		if !known {
			continue
		}
		total := c.Totals[i]
		if i, owed := slices.BinarySearchFunc(c.Owed, name, func(d Delta, name string) int { return strings.Compare(d.Name, name) }); owed {
			total.Total -= c.Owed[i].Value
			total.Increments -= c.Owed[i].Increments
		}
		found = append(found, total)
	}
	return found
}

// Remove removes a tag from a checkpoint that Next has returned, and returns its total and what of it its document lacks.
func (c *Checkpoint) Remove(name string) (removed Total, owed Delta, known bool) {
	i, known := slices.BinarySearchFunc(c.Totals, name, func(t Total, name string) int { return strings.Compare(t.Name, name) })
	if !known {
		return Total{}, Delta{}, false
	}
	removed = c.Totals[i]
	c.Totals = append(slices.Clone(c.Totals[:i]), c.Totals[i+1:]...)
	if i, found := slices.BinarySearchFunc(c.Owed, name, func(d Delta, name string) int { return strings.Compare(d.Name, name) }); found {
		owed = c.Owed[i]
		c.Pay(c.Owed[i : i+1])
	}
	return removed, owed, true
}

// TotalsSize returns the maximum size of the packed totals in bytes for the present tags, whatever their totals. It is compared
// with MaxTotals before a tag is added.
func (c *Checkpoint) TotalsSize() int {
	size := 16
	for i := range c.Totals {
		size += TagSize(c.Totals[i].Name)
	}
	return size
}

// TotalsRoom bounds TotalsSize. It is MaxTotals, less what the publishers take beyond MaxPublishers.
func (c *Checkpoint) TotalsRoom() int { return MaxTotals - max(0, c.PublishersSize()-MaxPublishers) }

// TagSize returns what a tag adds to TotalsSize.
func TagSize(name string) int { return len(name) + tagSize }
