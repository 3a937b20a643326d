package checkpoint_test

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/checkpoint"
)

// Whatever the times of Commits, even if the clock goes back, the changes of a tag in the closed periods and the open one add up
// to its total.
func TestPeriodsAddUpToTheTotals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var c checkpoint.Checkpoint
		now := start.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "start")))
		sums := map[checkpoint.Resolution]map[string]int64{checkpoint.Minute: {}, checkpoint.Hour: {}}
		begun := map[checkpoint.Resolution]time.Time{}
		for range rapid.IntRange(1, 30).Draw(t, "commits") {
			now = now.Add(time.Duration(rapid.Int64Range(-int64(time.Minute), int64(40*time.Minute)).Draw(t, "pause")))
			next := c.Next(now, retention, nil, deltas(drawValues(t)))
			for _, p := range c.Closed(&next) {
				if !p.Begin.After(begun[p.Resolution]) || !p.Begin.Equal(p.Resolution.Begin(p.Begin)) {
					t.Fatalf("period of %v begins at %v after %v", time.Duration(p.Resolution), p.Begin, begun[p.Resolution])
				}
				begun[p.Resolution] = p.Begin
				for _, change := range p.Changes {
					sums[p.Resolution][change.Name] += change.Change
				}
			}
			c = next
		}
		for r, sum := range sums {
			for _, total := range c.Totals {
				if got := sum[total.Name] + total.Open(r); got != total.Total {
					t.Fatalf("%s: periods of %v add up to %d, total is %d", total.Name, time.Duration(r), got, total.Total)
				}
			}
		}
	})
}

func TestPeriodsCloseWithTheFirstCommitAfterThem(t *testing.T) {
	t.Parallel()
	var zero checkpoint.Checkpoint
	one := zero.Next(start.Add(59*time.Minute+59*time.Second), retention, nil, deltas(map[string]int64{"foo": 4, "zoo": 1}))
	two := one.Next(start.Add(59*time.Minute+59*time.Second+999*time.Millisecond), retention, nil, deltas(map[string]int64{"foo": 5}))
	three := two.Next(start.Add(time.Hour), retention, nil, deltas(map[string]int64{"foo": 7}))
	if closed := one.Closed(&two); closed != nil {
		t.Errorf("closed within the minute: %v", closed)
	}
	changes := []checkpoint.Change{{"foo", 9}, {"zoo", 1}}
	want := []checkpoint.Period{
		{checkpoint.Minute, start.Add(59 * time.Minute), changes}, {checkpoint.Hour, start, changes},
	}
	if closed := two.Closed(&three); !reflect.DeepEqual(closed, want) {
		t.Errorf("closed at the hour: %v, want %v", closed, want)
	}
	if foo, zoo := three.Totals[0], three.Totals[1]; foo.Minute != 7 || foo.Hour != 7 || zoo.Minute != 0 || zoo.Hour != 0 {
		t.Errorf("open after the hour: %+v, %+v", foo, zoo)
	}
	if two.Totals[0].Minute != 9 {
		t.Error("Next changed its receiver")
	}
}

func TestChangesArePackedAndFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.MapOf(rapid.StringMatching(`[a-c_]{3,6}`), rapid.Int64Min(1)).Draw(t, "values")
		var changes []checkpoint.Change
		for _, name := range slices.Sorted(maps.Keys(values)) {
			changes = append(changes, checkpoint.Change{Name: name, Change: values[name]})
		}
		packed := checkpoint.PackChanges(changes)
		if got, err := checkpoint.UnpackChanges(packed); err != nil || !slices.Equal(got, changes) {
			t.Fatalf("unpacked %v, %v, want %v", got, err, changes)
		}
		names := rapid.SliceOfDistinct(rapid.StringMatching(`[a-c_]{3,6}`), rapid.ID).Draw(t, "names")
		names = slices.Compact(slices.Sorted(slices.Values(append(names, slices.Sorted(maps.Keys(values))[:len(values)/2]...))))
		got := make([]int64, len(names))
		if err := checkpoint.FindChanges(packed, names, func(place int, change int64) { got[place] += change }); err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			if got[i] != values[name] {
				t.Fatalf("FindChanges(%q) found %d for %q, want %d", names, got[i], name, values[name])
			}
		}
		prefix := rapid.StringMatching(`[a-c_]{0,2}`).Draw(t, "prefix")
		var want int64
		for name, change := range values {
			if strings.HasPrefix(name, prefix) {
				want += change
			}
		}
		if got, err := checkpoint.SumChanges(packed, prefix); err != nil || got != want {
			t.Fatalf("SumChanges(%q) = %d, %v, want %d", prefix, got, err, want)
		}
	})
}

func FuzzChanges(f *testing.F) {
	f.Add(checkpoint.PackChanges([]checkpoint.Change{{"foo", 4}, {"food", 1}}), "foo")
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, "foo")
	f.Fuzz(func(t *testing.T, packed []byte, name string) {
		changes, err := checkpoint.UnpackChanges(packed)
		if err != nil && !errors.Is(err, checkpoint.ErrCorrupt) {
			t.Errorf("UnpackChanges() error = %v", err)
		}
		var found int64
		findErr := checkpoint.FindChanges(packed, []string{name}, func(_ int, change int64) { found = change })
		_, sumErr := checkpoint.SumChanges(packed, name)
		for _, err := range []error{findErr, sumErr} {
			if err != nil && !errors.Is(err, checkpoint.ErrCorrupt) {
				t.Errorf("error = %v", err)
			}
		}
		if err != nil {
			return
		}
		for _, c := range changes {
			if c.Name == name && (found != c.Change || findErr != nil) {
				t.Errorf("FindChanges(%q) = %d, %v, want %d", name, found, findErr, c.Change)
			}
		}
	})
}
