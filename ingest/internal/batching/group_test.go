package batching

import (
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/tracecontext"
)

// The memory of a group serves the next one, but what an unusual hour has grown is let go.
func TestSpareMemoryIsBounded(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		entries int
		kept    bool
	}{
		"a usual group":   {1000, true},
		"an enormous one": {maxSpare / increment.MaxContributorLength, false},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b := New(nil, 16, MaxAdd, zerolog.Nop())
			g := b.fresh()
			entry := Entry{Contributor: strings.Repeat("x", increment.MaxContributorLength)}
			for range tc.entries {
				g.add([]Entry{entry}, entry.size(), tracecontext.Trace{})
			}
			b.held = g.size
			b.release(g)
			if (b.spare == g) != tc.kept {
				t.Errorf("%d bytes are kept: %v, want %v", g.capacity(), b.spare == g, tc.kept)
			}
			if b.held != 0 {
				t.Errorf("%d bytes are held after the publish", b.held)
			}
			if next := b.fresh(); len(next.batches) != 0 || next.size != 0 || next.published == nil {
				t.Errorf("the next group begins with %d messages", len(next.batches))
			}
		})
	}
}
