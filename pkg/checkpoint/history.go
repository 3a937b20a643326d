package checkpoint

import (
	"encoding/binary"
	"slices"
	"time"
)

// Resolution is the length of the periods of a history.
type Resolution time.Duration

// The resolutions. Periods begin at whole minutes and hours of UTC.
const (
	Minute = Resolution(time.Minute)
	Hour   = Resolution(time.Hour)
)

// Resolutions returns all resolutions.
func Resolutions() []Resolution { return []Resolution{Minute, Hour} }

// Begin returns the beginning of the period that contains t.
func (r Resolution) Begin(t time.Time) time.Time { return t.UTC().Truncate(time.Duration(r)) }

// of returns the change of a tag in the open period of this resolution.
func (r Resolution) of(t *Total) int64 {
	if r == Hour {
		return t.Hour
	}
	return t.Minute
}

// Open returns the change of the total in the open period.
func (t Total) Open(r Resolution) int64 { return r.of(&t) }

// Period has the changes of a partition's tags in a minute or an hour that is over.
type Period struct {
	Resolution Resolution
	Begin      time.Time
	// Changes is sorted by name and has only tags that changed.
	Changes []Change
}

// Change is the change of a tag in a period.
type Change struct {
	Name   string
	Change int64
}

// Closed returns the periods that are open in c and over in next, which must be a result of c.Next. The Commit of next must
// write them, since next does not contain them.
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

// turned returns the totals with the changes of periods that are over at the time now set to zero. The result may be c.Totals.
func (c *Checkpoint) turned(now time.Time) []Total {
	minute, hour := !Minute.Begin(now).Equal(Minute.Begin(c.UpdatedAt)), !Hour.Begin(now).Equal(Hour.Begin(c.UpdatedAt))
	if !minute { // every hour ends with a minute
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

// PackChanges packs the changes of a period: their number, then for each, in the order of names, the name as in PackTotals and
// the change as a varint.
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

// UnpackChanges is the inverse of PackChanges. It returns ErrCorrupt for other bytes.
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

// VisitChanges calls visit with each change of packed changes, in the order of names, until it returns false. The name is only
// valid during the call. It returns ErrCorrupt for bytes that are not from PackChanges; what is after a stop is not looked at.
func VisitChanges(packed []byte, visit func(name []byte, change int64) bool) error {
	r := reader{rest: packed}
	n := r.count(3)
	name := make([]byte, 0, 32)
	for range n {
		name = r.name(name)
		change := r.varint()
		if r.failed || !visit(name, change) {
			return r.err("changes")
		}
	}
	return r.err("changes")
}

// FindChanges calls found with the change of each of some names, sorted, that is among packed changes, and its place among the
// names. It does not unpack the others. It returns ErrCorrupt for bytes that are not from PackChanges.
func FindChanges(packed []byte, names []string, found func(place int, change int64)) error {
	place := 0
	return VisitChanges(packed, func(name []byte, change int64) bool {
		for place < len(names) && names[place] < string(name) {
			place++
		}
		if place < len(names) && names[place] == string(name) {
			found(place, change)
		}
		return place < len(names)
	})
}

// SumChanges returns the sum of those packed changes whose names begin with a prefix. It returns ErrCorrupt for bytes that are
// not from PackChanges.
func SumChanges(packed []byte, prefix string) (int64, error) {
	var sum int64
	err := VisitChanges(packed, func(name []byte, change int64) bool {
		if len(name) >= len(prefix) && string(name[:len(prefix)]) == prefix {
			sum += change
			return true
		}
		return string(name) < prefix
	})
	return sum, err
}
