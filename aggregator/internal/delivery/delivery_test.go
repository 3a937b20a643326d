package delivery

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/message"
)

// encode returns a message of n increments, each with a tag.
func encode(n int, tag string) []byte {
	var b message.Builder
	for range n {
		b.AddIncrement(tag, 1, message.Key{})
	}
	return b.Encode(message.Publisher{1}, 3, 7, time.Unix(1, 0))
}

func TestDecode(t *testing.T) {
	t.Parallel()
	contributors := func(n, length int) []byte {
		var b message.Builder
		for range n {
			b.AddContribution(strings.Repeat("x", length), message.Key{})
		}
		return b.Encode(message.Publisher{1}, 3, 7, time.Unix(1, 0))
	}
	for name, test := range map[string]struct {
		data    []byte
		invalid bool
	}{
		"one increment":                {encode(1, "foo"), false},
		"as many entries as fit":       {encode(MaxEntries, "foo"), false},
		"one entry too many":           {encode(MaxEntries+1, "foo"), true},
		"long contributors":            {contributors(MaxBytes/120, 100), false},
		"more bytes than fit":          {contributors(MaxBytes/90, 100), true},
		"nothing":                      {nil, true},
		"garbage":                      {[]byte("garbage"), true},
		"a message that was cut short": {encode(3, "foo")[:20], true},
	} {
		d, err := Decode(&broker.Delivery{Message: broker.Message{Data: test.data}, Receipt: "receipt"})
		switch {
		case test.invalid != errors.Is(err, message.ErrInvalid):
			t.Errorf("%s: Decode() = %v", name, err)
		case err == nil && (d.Identity().Sequence != 7 || d.Batch.Partition != 3 || d.Receipt != "receipt"):
			t.Errorf("%s: Decode() = %+v", name, d)
		}
	}
}

// The cost grows with everything that a delivery holds.
func TestCostCountsWhatIsHeld(t *testing.T) {
	t.Parallel()
	costOf := func(n int, tag, receipt string) int64 {
		d, err := Decode(&broker.Delivery{Message: broker.Message{Data: encode(n, tag)}, Receipt: receipt})
		if err != nil {
			t.Fatal(err)
		}
		return d.Cost
	}
	least := costOf(1, "foo", "")
	for what, got := range map[string]int64{
		"a receipt of 100 bytes": costOf(1, "foo", strings.Repeat("x", 100)) - least - 100,
		"12 bytes of a tag":      costOf(1, "foo_is_longer_x", "") - least - 12,
		"99 entries":             costOf(100, "foo", "") - least - 99*entryCost,
		"a message":              least - 400,
	} {
		if got < 0 {
			t.Errorf("the cost counts %s by %d bytes too little", what, -got)
		}
	}
}

// Leases agree with a slice of what is held and when it is due.
func TestLeasesAgreeWithAModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var leases Leases
		type held struct {
			d   *Delivery
			due time.Time
		}
		var model []held
		var ended []*Delivery
		now := time.Unix(1_000_000, 0)
		remove := func(d *Delivery) {
			model = slices.DeleteFunc(model, func(h held) bool { return h.d == d })
		}
		t.Repeat(map[string]func(*rapid.T){
			"hold": func(*rapid.T) {
				d := &Delivery{}
				leases.Hold(d, now.Add(10*time.Second))
				model = append(model, held{d, now.Add(10 * time.Second)})
			},
			"hold what is due at once": func(*rapid.T) {
				d := &Delivery{}
				leases.Hold(d, time.Time{})
				model = append(model, held{d, time.Time{}})
			},
			"end": func(t *rapid.T) {
				if len(model) == 0 {
					return
				}
				d := rapid.SampledFrom(model).Draw(t, "delivery").d
				if !leases.End(d) {
					t.Fatal("End() of what is held = false")
				}
				remove(d)
				ended = append(ended, d)
			},
			"end again": func(t *rapid.T) {
				if len(ended) > 0 && leases.End(rapid.SampledFrom(ended).Draw(t, "delivery")) {
					t.Fatal("End() of what has ended = true")
				}
			},
			"extend what is due": func(t *rapid.T) {
				most := rapid.IntRange(1, 5).Draw(t, "most")
				due := leases.Due(now, most)
				want := 0
				for _, h := range model {
					if !h.due.After(now) {
						want++
					}
				}
				if len(due) != min(most, want) {
					t.Fatalf("%d are due, want %d of at most %d", len(due), want, most)
				}
				for _, d := range due {
					if rapid.Bool().Draw(t, "the request fails") {
						continue // it stays due
					}
					leases.Extended(d, now.Add(10*time.Second))
					remove(d)
					model = append(model, held{d, now.Add(10 * time.Second)})
				}
			},
			"extend what has ended": func(t *rapid.T) {
				if len(ended) > 0 {
					leases.Extended(rapid.SampledFrom(ended).Draw(t, "delivery"), now)
				}
			},
			"pass time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 8).Draw(t, "seconds")) * time.Second)
			},
			"": func(t *rapid.T) {
				all := leases.All()
				if len(all) != len(model) || leases.Held() != len(model) {
					t.Fatalf("%d in the list, %d held, want %d", len(all), leases.Held(), len(model))
				}
				for _, h := range model {
					if !slices.Contains(all, h.d) {
						t.Fatal("a delivery is missing")
					}
				}
			},
		})
	})
}
