package store_test

import (
	"strings"
	"testing"
	"unicode/utf8"

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

func FuzzContributorIDsWith(f *testing.F) {
	for _, seed := range []string{"a", "a/", "a%", ".", "\U0010ffff", "a\ud7ff", "a\U0010ffff\U0010ffff", ":", "$"} {
		f.Add(seed, "ada")
		f.Add("a", seed)
		f.Add(seed[:1], seed)
	}
	f.Fuzz(func(t *testing.T, prefix, contributor string) {
		if increment.ValidateContributor(prefix) != nil || increment.ValidateContributor(contributor) != nil {
			return
		}
		first, end := store.ContributorIDsWith(prefix)
		if strings.Contains(end, "/") || !utf8.ValidString(end) {
			t.Errorf("ContributorIDsWith(%q) ends at %q, which Firestore refuses", prefix, end)
		}
		for _, of := range []string{contributor, prefix + contributor} {
			id := store.ContributorID(of)
			if within := first <= id && id < end; within != strings.HasPrefix(of, prefix) {
				t.Errorf("ContributorIDsWith(%q) = %q, %q: %q is within: %v", prefix, first, end, id, within)
			}
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
		if !strings.HasSuffix(id, store.RecognitionIDSuffix(tier)) || strings.HasSuffix(id, store.RecognitionIDSuffix(tier+1)) {
			t.Errorf("RecognitionID(%q, %d) = %q", contributor, tier, id)
		}
		if strings.HasPrefix(id, store.RecognitionIDPrefix(other)) != (contributor == other) {
			t.Errorf("RecognitionID(%q) = %q, the prefix of %q is %q", contributor, id, other, store.RecognitionIDPrefix(other))
		}
	})
}
