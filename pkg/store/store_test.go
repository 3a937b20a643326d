package store_test

import (
	"strings"
	"testing"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/store"
)

func FuzzContributorID(f *testing.F) {
	for _, seed := range []string{"ada", "a/b", "%2F", "__x__", "..", strings.Repeat("/", 128), strings.Repeat("𝒳", 128)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, contributor string) {
		if increment.ValidateContributor(contributor) != nil {
			return
		}
		id := store.ContributorID(contributor)
		if strings.Contains(id, "/") || len(id) > 1500 {
			t.Errorf("ContributorID(%q) = %q, which Firestore refuses", contributor, id)
		}
		if got, err := store.ContributorOf(id); err != nil || got != contributor {
			t.Errorf("ContributorOf(%q) = %q, %v, want %q", id, got, err, contributor)
		}
	})
}

func FuzzRecognitionID(f *testing.F) {
	for _, seed := range []string{"ada", "a:3", "a", "a%3A3", strings.Repeat(":", 128), strings.Repeat("/", 128), strings.Repeat("𝒳", 128)} {
		f.Add(seed, "a", int64(3))
		f.Add("a", seed, int64(33))
	}
	f.Fuzz(func(t *testing.T, contributor, other string, tier int64) {
		if increment.ValidateContributor(contributor) != nil || increment.ValidateContributor(other) != nil || tier <= 0 {
			return
		}
		id := store.RecognitionID(contributor, tier)
		if strings.Contains(id, "/") || len(id) > 1500 {
			t.Errorf("RecognitionID(%q) = %q, which Firestore refuses", contributor, id)
		}
		if strings.HasPrefix(id, store.RecognitionIDPrefix(other)) != (contributor == other) {
			t.Errorf("RecognitionID(%q) = %q, the prefix of %q is %q", contributor, id, other, store.RecognitionIDPrefix(other))
		}
	})
}
