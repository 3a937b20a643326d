package batching

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/accrue/accrue/pkg/increment"
)

// The memory of a group serves the next one, but what an unusual peak has grown is dropped.
func TestSpareMemoryIsBounded(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		entries int
		kept    bool
	}{
		"a typical group": {1000, true},
		"a huge group":    {maxSpare / increment.MaxContributorLength, false},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b, err := New(nil, 16, MinLimit, zerolog.Nop(), nil)
			if err != nil {
				t.Fatal(err)
			}
			g := b.newGroup()
			entry := Entry{Contributor: strings.Repeat("x", increment.MaxContributorLength)}
			for range tc.entries {
				g.add([]Entry{entry}, entry.size(), trace.SpanContext{})
			}
			b.budget.held.Store(int64(g.size))
			b.settle(g, nil)
			if got := len(b.spares) == 1; got != tc.kept {
				t.Errorf("%d bytes are kept: %v, want %v", g.capacity(), got, tc.kept)
			}
			if got := b.budget.held.Load(); got != 0 {
				t.Errorf("%d bytes are held after the publish", got)
			}
			if next := b.newGroup(); len(next.drafts) != 0 || next.size != 0 || next.outcome == nil || time.Since(next.openedAt) > time.Minute {
				t.Errorf("the next group begins with %+v", next)
			}
			if b.spareBytes != 0 {
				t.Errorf("%d bytes are still counted as kept", b.spareBytes)
			}
		})
	}
}

func TestLargeReservationsLeaveHalfOfTheBudget(t *testing.T) {
	t.Parallel()
	b := budget{limit: 1 << 20}
	large := 0
	for b.reserve(largeReservation) {
		large++
	}
	if got := large * largeReservation; got != 1<<19 {
		t.Errorf("large reservations took %d bytes of %d", got, b.limit)
	}
	small := 0
	for b.reserve(1000) {
		small++
	}
	if got := small * 1000; got < 1<<19-1000 {
		t.Errorf("small reservations took %d bytes of the other half", got)
	}
	if b.reserveEntries(1000) {
		t.Error("entries were reserved beyond the limit")
	}
	b.release(large * largeReservation)
	b.release(small * 1000)
	if got := b.held.Load(); got != 0 {
		t.Errorf("%d bytes are held after the release", got)
	}
}
