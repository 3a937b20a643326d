package checkpoint

import (
	"encoding/binary"
	"slices"
	"time"
)

// Resolution is the length of the periods that a history is kept in.
type Resolution time.Duration

// The resolutions. Periods begin at whole minutes and hours of UTC.
const (
	Minute = Resolution(time.Minute)
	Hour   = Resolution(time.Hour)
)

// Resolutions are all that there are.
func Resolutions() []Resolution { return []Resolution{Minute, Hour} }

// Begin is the beginning of the period that t is in.
func (r Resolution) Begin(t time.Time) time.Time { return t.UTC().Truncate(time.Duration(r)) }

// of is what a tag has changed in the period of this resolution that is open.
func (r Resolution) of(t *Total) int64 {
	if r == Hour {
		return t.Hour
	}
	return t.Minute
}

// Open is what the total has changed in the open period.
func (t Total) Open(r Resolution) int64 { return r.of(&t) }

// Period is one minute or hour of a partition that is over, and will not change: what each tag changed in it.
type Period struct {
	Resolution Resolution
	Begin      time.Time
	// Changes is sorted by name, and lists only tags that changed.
	Changes []Change
}

// Change is what was added to a tag in a period.
type Change struct {
	Name   string
	Change int64
}

// Closed returns the periods that were open in c and are over in next, which c.Next made: what the Commit of next must
// write, since next does not hold them any more.
func (c *Checkpoint) Closed(next *Checkpoint) []Period {
	var closed []Period
	for _, r := range Resolutions() {
		begin := r.Begin(c.UpdatedAt)
		if c.Commit == 0 || begin.Equal(r.Begin(next.UpdatedAt)) {
			continue
		}
		period := Period{Resolution: r, Begin: begin}
		for i := range c.Totals {
			if change := r.of(&c.Totals[i]); change != 0 {
				period.Changes = append(period.Changes, Change{c.Totals[i].Name, change})
			}
		}
		if len(period.Changes) > 0 {
			closed = append(closed, period)
		}
	}
	return closed
}

// turned returns the totals as they are at the time now, before anything is counted: what was open and is over is zero.
// It may be c's own slice.
func (c *Checkpoint) turned(now time.Time) []Total {
	minute, hour := !Minute.Begin(now).Equal(Minute.Begin(c.UpdatedAt)), !Hour.Begin(now).Equal(Hour.Begin(c.UpdatedAt))
	if !minute { // an hour ends with a minute
		return c.Totals
	}
	totals := slices.Clone(c.Totals)
	for i := range totals {
		totals[i].Minute = 0
		if hour {
			totals[i].Hour = 0
		}
	}
	return totals
}

// PackChanges returns a period's changes, packed: their number, then each, in the order of names, as PackTotals packs
// a name, and the change as a varint.
func PackChanges(changes []Change) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 8+12*len(changes)), uint64(len(changes)))
	var previous string
	for _, c := range changes {
		b = appendName(b, previous, c.Name)
		b = binary.AppendVarint(b, c.Change)
		previous = c.Name
	}
	return b
}

// UnpackChanges reads what PackChanges wrote. The error is ErrCorrupt.
func UnpackChanges(packed []byte) ([]Change, error) {
	r := reader{rest: packed}
	changes := make([]Change, r.count(3))
	var name []byte
	for i := range changes {
		name = r.name(name)
		if changes[i] = (Change{string(name), r.varint()}); r.failed || i > 0 && changes[i].Name <= changes[i-1].Name {
			r.failed = true
			break
		}
	}
	return changes, r.end("changes")
}

// FindChange looks a tag up in what PackChanges wrote, without unpacking the rest: a history keeps many periods, packed,
// and is asked for one tag. A tag that is not there has not changed. The error is ErrCorrupt.
func FindChange(packed []byte, tag string) (int64, error) {
	r := reader{rest: packed}
	n := r.count(3)
	name := make([]byte, 0, 32)
	for range n {
		name = r.name(name)
		change := r.varint()
		switch {
		case r.failed || string(name) > tag:
			return 0, r.fault("changes")
		case string(name) == tag:
			return change, nil
		}
	}
	return 0, r.fault("changes")
}
