package adapters_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// Firestore accepts what Commit.CheckLimits accepts, and refuses what it refuses.
func TestCheckLimitsAgreesWithFirestore(t *testing.T) {
	t.Parallel()
	client := connectFirestore(t)
	period := func(bytes int) checkpoint.Period {
		return checkpoint.Period{
			Resolution: checkpoint.Minute, Begin: time.Now(),
			Changes: []checkpoint.Change{{Name: strings.Repeat("x", bytes)}},
		}
	}
	contributor := func(id string) []store.Contributions {
		return []store.Contributions{{Contributor: id, Contributions: 1}}
	}
	for name, tc := range map[string]struct {
		closed       []checkpoint.Period
		contributors []store.Contributions
		refused      bool
	}{
		"a large document":          {[]checkpoint.Period{period(store.MaxDocumentBytes - 600)}, nil, false},
		"a field that is too large": {[]checkpoint.Period{period(store.MaxValueBytes + 1)}, nil, true},
		"the longest id":            {nil, contributor(strings.Repeat("x", store.MaxIDBytes-2)), false},
		"an id that is too long":    {nil, contributor(strings.Repeat("x", store.MaxIDBytes-1)), true},
		"an id that looks reserved": {nil, contributor("__x__"), false},
		"an id with a slash":        {nil, contributor("a/b"), false},
		"three large documents":     {[]checkpoint.Period{period(1_000_000), period(1_000_000), period(1_000_000)}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			commit := store.Commit{Partition: uint32(len(name)), Closed: tc.closed, Contributors: tc.contributors}
			for i := range commit.Closed {
				commit.Closed[i].Begin = commit.Closed[i].Begin.Add(time.Duration(i) * time.Minute)
			}
			commit.Next = commit.Next.Next(time.Now(), time.Hour, nil, nil)
			if err := commit.CheckLimits(); errors.Is(err, store.ErrRefused) != tc.refused {
				t.Errorf("CheckLimits() = %v, want refused %v", err, tc.refused)
			}
			if _, err := client.Commit(t.Context(), commit); errors.Is(err, store.ErrRefused) != tc.refused {
				t.Errorf("Commit() = %v, want refused %v", err, tc.refused)
			}
		})
	}
}
