package checkpoint_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/checkpoint"
)

// What a checkpoint owes and what was paid adds up to its totals after each step, whatever is owed, paid, removed and packed.
func TestWhatIsOwedAndPaidAddsUpToTheTotals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var c checkpoint.Checkpoint
		documents := make(map[string]int64)
		for step := range rapid.IntRange(1, 20).Draw(t, "steps") {
			before, packed := c, c.PackOwed()
			added := deltas(drawValues(t))
			next := c.Next(start.Add(time.Duration(step)*time.Second), retention, nil, added)
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0: // the documents get it at once
				for _, d := range added {
					documents[d.Name] += d.Value
				}
			case 1:
				next.Owe(added)
				var paid []checkpoint.Delta
				for _, d := range next.Owed {
					if rapid.Bool().Draw(t, "paid") {
						paid = append(paid, d)
						documents[d.Name] += d.Value
					}
				}
				next.Pay(paid)
			case 2:
				next.Owe(added)
			case 3:
				next.Owe(added)
				if len(next.Totals) == 0 {
					break
				}
				name := next.Totals[rapid.IntRange(0, len(next.Totals)-1).Draw(t, "removed")].Name
				removed, owed, known := next.Remove(name)
				if documents[name] += owed.Value - removed.Total; !known || documents[name] != 0 {
					t.Fatalf("the document of %s has %d after its removal", name, documents[name])
				}
			}
			if string(before.PackOwed()) != string(packed) {
				t.Fatal("a change of the next checkpoint changed the one before")
			}
			if size := len(next.PackOwed()); size > next.OwedSize()+10 {
				t.Fatalf("%d bytes are owed, OwedSize() = %d", size, next.OwedSize())
			}
			owed, err := checkpoint.UnpackOwed(next.PackOwed())
			if err != nil || !slices.Equal(owed, next.Owed) {
				t.Fatalf("UnpackOwed() = %v, %v, want %v", owed, err, next.Owed)
			}
			if (len(next.Owed) == 0) != next.OwedSince.IsZero() || (len(next.Owed) == 0) != (next.FormatVersion() == checkpoint.Version) {
				t.Fatalf("owes %v since %v in version %d", next.Owed, next.OwedSince, next.FormatVersion())
			}
			sums, totals := maps.Clone(documents), make(map[string]int64)
			for _, d := range next.Owed {
				sums[d.Name] += d.Value
			}
			for _, total := range next.Totals {
				totals[total.Name] = total.Total
			}
			maps.DeleteFunc(sums, func(_ string, sum int64) bool { return sum == 0 })
			if !maps.Equal(sums, totals) {
				t.Fatalf("documents and what is owed are %v, the totals %v", sums, totals)
			}
			c = next
		}
	})
}

func TestOwedSinceTheFirstThatIsNotPaid(t *testing.T) {
	t.Parallel()
	var c checkpoint.Checkpoint
	for i, step := range []struct {
		owe, pay []string
		want     int // seconds, or -1 if nothing is owed
	}{{[]string{"foo"}, nil, 0}, {[]string{"bar", "foo"}, nil, 0}, {nil, []string{"bar"}, 0}, {nil, []string{"foo"}, -1}, {[]string{"zoo"}, nil, 4}} {
		c = c.Next(start.Add(time.Duration(i)*time.Second), retention, nil, nil)
		values := make(map[string]int64)
		for _, name := range step.owe {
			values[name] = 1
		}
		c.Owe(deltas(values))
		var paid []checkpoint.Delta
		for _, d := range c.Owed {
			if slices.Contains(step.pay, d.Name) {
				paid = append(paid, d)
			}
		}
		c.Pay(paid)
		want := start.Add(time.Duration(step.want) * time.Second)
		if step.want < 0 {
			want = time.Time{}
		}
		if !c.OwedSince.Equal(want) {
			t.Errorf("after step %d owed since %v, want %v", i, c.OwedSince, want)
		}
	}
}

// The packed format of version 3 does not change.
func TestGoldenOwed(t *testing.T) {
	t.Parallel()
	c := checkpoint.Checkpoint{Owed: []checkpoint.Delta{{Name: "ballz", Value: 76, Increments: 9}, {Name: "foo", Value: 13, Increments: 2}, {Name: "food", Value: -1, Increments: 1}}}
	const want = "03000562616c6c7a98011200" + "03666f6f1a0403016401" + "02"
	if got := hex.EncodeToString(c.PackOwed()); got != want {
		t.Errorf("packed %s, want %s", got, want)
	}
}

func FuzzUnpackOwed(f *testing.F) {
	c := checkpoint.Checkpoint{Owed: deltas(map[string]int64{"foo": 4, "food": 1})}
	f.Add(c.PackOwed())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, packed []byte) {
		owed, err := checkpoint.UnpackOwed(packed)
		if err != nil {
			if !errors.Is(err, checkpoint.ErrCorrupt) {
				t.Errorf("UnpackOwed() error = %v", err)
			}
			return
		}
		again := checkpoint.Checkpoint{Owed: owed}
		if second, err := checkpoint.UnpackOwed(again.PackOwed()); err != nil || len(owed) > 0 && !reflect.DeepEqual(second, owed) {
			t.Errorf("owed changes changed on the round trip: %v, %v, %v", owed, second, err)
		}
	})
}

// The same window as in BenchmarkNextAndPack, for a checkpoint that owes something to the documents of all tags.
func BenchmarkOwe(b *testing.B) {
	values, window := make(map[string]int64), make(map[string]int64)
	for i := range 3_400 {
		name := fmt.Sprintf("tag%c%c%c", 'a'+i/676%26, 'a'+i/26%26, 'a'+i%26)
		if values[name] = 3; i < 400 {
			window[name] = 5
		}
	}
	c := checkpoint.Checkpoint{Owed: deltas(values)}
	changed := deltas(window)
	b.ReportAllocs()
	for b.Loop() {
		next := c.Next(start, retention, nil, nil)
		next.Owe(changed)
		next.PackOwed()
	}
}
