package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/store"
)

func recognitionTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"a recognition is stored and raises the tier":                      recognizes,
		"a second recognition of a tier changes nothing":                   recognizesOnce,
		"an unknown contributor is not recognized":                         recognizesUnknown,
		"a recognized tier never falls":                                    neverLowers,
		"one of twenty concurrent recognitions succeeds":                   recognitionRace,
		"concurrent recognizing and counting lose nothing":                 recognitionAndCounting,
		"raising needs a recognition":                                      raises,
		"contributors are due by contributions and recognized tier":        finds,
		"recognitions of contributors with unusual ids are distinct":       recognizesUnusualIDs,
		"a pending recognition is found until it is marked sent":           pending,
		"pending recognitions come in pages":                               pendingPages,
		"recognitions come in pages, the latest first, of any filter":      recognitionPages,
		"contributors with a prefix come in pages":                         listsWith,
		"a pending recognition is claimed once":                            claimRace,
		"a claim at an old revision fails, others in the call succeed":     claimsIndependently,
		"marking a recognition that is marked or missing is allowed":       marksTwice,
		"contributors are listed in every order, in pages":                 lists,
		"recognized tiers are found":                                       recognizedTiers,
		"a missing recognition shows in the counts and in the pages":       findsMissing,
		"pages of unrecognized contributors miss none":                     walks,
		"nothing changes after the context has ended":                      refusesLateRecognition,
		"an unknown contributor has no standing":                           noStanding,
		"more recognitions are claimed and marked than fit in one request": manyAtOnce,
	}
}

// contribute adds n contributions to each of the contributors, in one Commit.
func contribute(t *testing.T, s Store, n int64, ids ...string) {
	t.Helper()
	state, err := s.Load(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	commit := commitOf(state, 0, state.Checkpoint.Commit+1)
	for _, id := range ids {
		commit.Contributors = append(commit.Contributors, store.Contributions{Contributor: id, Contributions: n})
	}
	mustCommit(t, s, commit)
}

func recognitionOf(contributor string, tier int64) store.Recognition {
	return store.Recognition{Contributor: contributor, Tier: tier, Contributions: tier + 1, RecognizedAt: at}
}

func recognize(t *testing.T, s Store, all ...store.Recognition) {
	t.Helper()
	for _, r := range all {
		if err := s.Recognize(t.Context(), r); err != nil {
			t.Fatalf("Recognize(%+v) = %v", r, err)
		}
	}
}

// wantStanding checks a contributor and its recognitions.
func wantStanding(t *testing.T, s Store, want store.Contributor, recognitions ...store.Recognition) {
	t.Helper()
	got, err := s.Standing(t.Context(), want.ID)
	if err != nil || got.Contributor != want || !slices.Equal(got.Recognitions, recognitions) {
		t.Errorf("Standing(%q) = %+v, %v\nwant %+v with %+v", want.ID, got, err, want, recognitions)
	}
	if time.Since(got.AsOf).Abs() > time.Minute {
		t.Errorf("Standing(%q) has AsOf %v", want.ID, got.AsOf)
	}
}

func recognizes(t *testing.T, s Store) {
	contribute(t, s, 12, "ada")
	ten, three := recognitionOf("ada", 10), recognitionOf("ada", 3)
	recognize(t, s, three, ten)
	wantStanding(t, s, store.Contributor{ID: "ada", Contributions: 12, RecognizedTier: 10, UpdatedAt: at}, three, ten)
	contribute(t, s, 1, "ada")
	wantStanding(t, s, store.Contributor{ID: "ada", Contributions: 13, RecognizedTier: 10, UpdatedAt: at}, three, ten)
}

func recognizesOnce(t *testing.T, s Store) {
	contribute(t, s, 3, "ada")
	first := recognitionOf("ada", 3)
	recognize(t, s, first)
	second := first
	second.Contributions, second.RecognizedAt = 99, at.Add(time.Hour)
	if err := s.Recognize(t.Context(), second); !errors.Is(err, store.ErrExists) {
		t.Errorf("Recognize() again = %v, want ErrExists", err)
	}
	if err := s.MarkSent(t.Context(), []store.Recognition{first}); err != nil {
		t.Fatal(err)
	}
	if err := s.Recognize(t.Context(), second); !errors.Is(err, store.ErrExists) {
		t.Errorf("Recognize() of a sent recognition = %v, want ErrExists", err)
	}
	wantStanding(t, s, store.Contributor{ID: "ada", Contributions: 3, RecognizedTier: 3, UpdatedAt: at}, first)
	wantPending(t, s)
}

func recognizesUnknown(t *testing.T, s Store) {
	if err := s.Recognize(t.Context(), recognitionOf("unknown", 3)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Recognize() = %v, want ErrNotFound", err)
	}
	wantPending(t, s)
	noStanding(t, s)
}

func noStanding(t *testing.T, s Store) {
	if got, err := s.Standing(t.Context(), "unknown"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Standing() = %v, %v, want ErrNotFound", got, err)
	}
}

func neverLowers(t *testing.T, s Store) {
	contribute(t, s, 12, "ada")
	recognize(t, s, recognitionOf("ada", 10), recognitionOf("ada", 3))
	if err := s.Raise(t.Context(), "ada", 3); err != nil {
		t.Errorf("Raise() = %v", err)
	}
	wantContributor(t, s, store.Contributor{ID: "ada", Contributions: 12, RecognizedTier: 10, UpdatedAt: at})
}

func recognitionRace(t *testing.T, s Store) {
	contribute(t, s, 100, "ada")
	tiers := []int64{3, 5, 10, 50, 100}
	var made atomic.Int64
	start := make(chan struct{})
	var group sync.WaitGroup
	for recognizer := range 20 {
		group.Go(func() {
			<-start
			for i := range tiers {
				tier := tiers[(recognizer+i)%len(tiers)]
				err := s.Recognize(t.Context(), recognitionOf("ada", tier))
				for err != nil && !errors.Is(err, store.ErrExists) && t.Context().Err() == nil {
					// Contention: the outcome is unknown, so try again.
					err = s.Recognize(t.Context(), recognitionOf("ada", tier))
				}
				if err == nil {
					made.Add(1)
				}
			}
		})
	}
	close(start)
	group.Wait()
	if got := made.Load(); got > int64(len(tiers)) {
		t.Errorf("%d calls made a recognition, want %d", got, len(tiers))
	}
	var want []store.Recognition
	for _, tier := range tiers {
		want = append(want, recognitionOf("ada", tier))
	}
	wantStanding(t, s, store.Contributor{ID: "ada", Contributions: 100, RecognizedTier: 100, UpdatedAt: at}, want...)
}

func recognitionAndCounting(t *testing.T, s Store) {
	contribute(t, s, 100, "ada")
	var group sync.WaitGroup
	group.Go(func() {
		for range 20 {
			contribute(t, s, 1, "ada")
		}
	})
	group.Go(func() {
		for tier := range int64(20) {
			recognize(t, s, recognitionOf("ada", tier+1))
		}
	})
	group.Wait()
	wantContributor(t, s, store.Contributor{ID: "ada", Contributions: 120, RecognizedTier: 20, UpdatedAt: at})
}

func raises(t *testing.T, s Store) {
	contribute(t, s, 12, "ada")
	recognize(t, s, recognitionOf("ada", 3))
	if err := s.Raise(t.Context(), "ada", 10); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Raise() to a tier without recognition = %v, want ErrNotFound", err)
	}
	if err := s.Raise(t.Context(), "unknown", 3); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Raise() of an unknown contributor = %v, want ErrNotFound", err)
	}
	wantContributor(t, s, store.Contributor{ID: "ada", Contributions: 12, RecognizedTier: 3, UpdatedAt: at})
}

func finds(t *testing.T, s Store) {
	contribute(t, s, 2, "two")
	contribute(t, s, 3, "three", "recognized")
	contribute(t, s, 12, "twelve")
	recognize(t, s, recognitionOf("recognized", 3), recognitionOf("twelve", 3), recognitionOf("twelve", 4))
	for _, tc := range []struct {
		recognized, tier int64
		want             []string
	}{
		{0, 1, []string{"three", "two"}},
		{0, 3, []string{"three"}},
		{0, 4, nil},
		{3, 3, []string{"recognized"}},
		{3, 10, nil},
		{4, 10, []string{"twelve"}},
		{4, 13, nil},
	} {
		got, err := s.Due(t.Context(), tc.recognized, tc.tier, 10)
		if ids := idsOf(got); err != nil || !slices.Equal(ids, tc.want) {
			t.Errorf("Due(%d, %d) = %v, %v, want %v", tc.recognized, tc.tier, ids, err, tc.want)
		}
	}
	got, err := s.Due(t.Context(), 4, 10, 10)
	want := []store.Contributor{{ID: "twelve", Contributions: 12, RecognizedTier: 4, UpdatedAt: at}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Due() = %+v, %v, want %+v", got, err, want)
	}
	if got, err := s.Due(t.Context(), 0, 1, 1); err != nil || len(got) != 1 {
		t.Errorf("Due() of one = %+v, %v", got, err)
	}
}

// idsOf returns sorted ids.
func idsOf(all []store.Contributor) []string {
	var ids []string
	for _, c := range all {
		ids = append(ids, c.ID)
	}
	slices.Sort(ids)
	return ids
}

func recognizesUnusualIDs(t *testing.T, s Store) {
	ids := unusualIDs()
	contribute(t, s, 5, ids...)
	for i, id := range ids {
		recognize(t, s, recognitionOf(id, 3))
		if i%2 == 0 {
			recognize(t, s, recognitionOf(id, 5))
		}
	}
	for i, id := range ids {
		want := store.Contributor{ID: id, Contributions: 5, RecognizedTier: 3, UpdatedAt: at}
		recognitions := []store.Recognition{recognitionOf(id, 3)}
		if i%2 == 0 {
			want.RecognizedTier = 5
			recognitions = append(recognitions, recognitionOf(id, 5))
		}
		wantStanding(t, s, want, recognitions...)
	}
	all, _, err := s.Pending(t.Context(), store.Recognition{}, 1000)
	if err != nil || len(all) != len(ids)+(len(ids)+1)/2 {
		t.Errorf("Pending() = %d, %v", len(all), err)
	}
	missing, _, err := s.Unrecognized(t.Context(), 3, store.Contributor{}, 1000)
	if err != nil || len(missing) != 0 {
		t.Errorf("Unrecognized() = %v, %v", missing, err)
	}
}

// wantPending checks which recognitions are pending, and their times.
func wantPending(t *testing.T, s Store, want ...store.Recognition) {
	t.Helper()
	got, asOf, err := s.Pending(t.Context(), store.Recognition{}, 1000)
	if err != nil || len(got) != len(want) || time.Since(asOf).Abs() > time.Minute {
		t.Errorf("Pending() = %+v as of %v, %v, want %+v", got, asOf, err, want)
		return
	}
	for i, p := range got {
		age, unclaimed := asOf.Sub(p.CreatedAt), asOf.Sub(p.Revision.UpdateTime)
		if p.Recognition != want[i] || age < 0 || age > time.Minute || unclaimed < 0 || unclaimed > age+time.Second {
			t.Errorf("pending %+v for %v, since %v unclaimed, want %+v", p, age, unclaimed, want[i])
		}
	}
}

func pending(t *testing.T, s Store) {
	wantPending(t, s)
	contribute(t, s, 5, "ada", "bob")
	ada, ada5, bob := recognitionOf("ada", 3), recognitionOf("ada", 5), recognitionOf("bob", 3)
	recognize(t, s, bob, ada5, ada)
	wantPending(t, s, ada, ada5, bob)
	if err := s.MarkSent(t.Context(), []store.Recognition{ada, bob}); err != nil {
		t.Fatal(err)
	}
	wantPending(t, s, ada5)
	wantStanding(t, s, store.Contributor{ID: "ada", Contributions: 5, RecognizedTier: 5, UpdatedAt: at}, ada, ada5)
}

func pendingPages(t *testing.T, s Store) {
	const n = 10
	want := make([]store.Recognition, n)
	for i := range want {
		id := fmt.Sprintf("c%02d", i)
		contribute(t, s, 3, id)
		want[i] = recognitionOf(id, 3)
		recognize(t, s, want[i])
	}
	var got []store.Recognition
	for pages := 1; ; pages++ {
		var after store.Recognition
		if len(got) > 0 {
			after = got[len(got)-1]
		}
		page, _, err := s.Pending(t.Context(), after, 4)
		if err != nil || pages > n {
			t.Fatalf("page %d: %v", pages, err)
		}
		for _, p := range page {
			got = append(got, p.Recognition)
		}
		if len(page) < 4 {
			break
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("pages of Pending() = %v, want %v", got, want)
	}
}

func recognitionPages(t *testing.T, s Store) {
	wantPages(t, s, store.RecognitionFilter{})
	var ids []string
	for i := range 40 {
		ids = append(ids, fmt.Sprintf("c%02d", i))
	}
	ids = append(ids, "c:0", "c0", "c/1")
	contribute(t, s, 30, ids...)
	var all []store.Recognition
	for i, id := range ids {
		for n, tier := range []int64{3, 10, 13}[:1+i%3] {
			r := recognitionOf(id, tier)
			// Two or more at each time, in mixed order.
			r.RecognizedAt = at.Add(time.Duration(i*7%len(ids)/2+n) * time.Second)
			all = append(all, r)
		}
	}
	recognize(t, s, all...)
	if err := s.MarkSent(t.Context(), all[:20]); err != nil { // those that are sent are there too
		t.Fatal(err)
	}
	for _, filter := range []store.RecognitionFilter{
		{}, {Tier: 3}, {Tier: 13}, {Tier: 4}, {Since: at.Add(9 * time.Second)}, {Since: at.Add(9*time.Second + time.Millisecond)},
		{Tier: 10, Since: at.Add(12 * time.Second)}, {Since: at.Add(time.Hour)}, {Contributor: "c02"}, {Contributor: "c02", Tier: 10},
		{Contributor: "c02", Since: at.Add(10 * time.Second)}, {Contributor: "c:0"}, {Contributor: "c/1"}, {Contributor: "unknown"},
	} {
		var want []store.Recognition
		for _, r := range all {
			if (filter.Contributor == "" || r.Contributor == filter.Contributor) && (filter.Tier == 0 || r.Tier == filter.Tier) &&
				!r.RecognizedAt.Before(filter.Since) {
				want = append(want, r)
			}
		}
		slices.SortFunc(want, func(a, b store.Recognition) int {
			return cmp.Or(b.RecognizedAt.Compare(a.RecognizedAt), strings.Compare(store.RecognitionID(b.Contributor, b.Tier), store.RecognitionID(a.Contributor, a.Tier)))
		})
		wantPages(t, s, filter, want...)
	}
}

// wantPages checks the recognitions of a filter, in pages of several sizes.
func wantPages(t *testing.T, s Store, filter store.RecognitionFilter, want ...store.Recognition) {
	t.Helper()
	for _, limit := range []int{1, 7, 1000} {
		var got []store.Recognition
		for after := (store.Recognition{}); len(got) <= len(want); {
			page, asOf, err := s.Recognitions(t.Context(), filter, after, limit)
			if err != nil || len(page) > limit || time.Since(asOf).Abs() > time.Minute {
				t.Fatalf("Recognitions(%+v) = %d as of %v, %v", filter, len(page), asOf, err)
			}
			if len(page) == 0 {
				break
			}
			got, after = append(got, page...), page[len(page)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("recognitions of %+v in pages of %d: %+v\nwant %+v", filter, limit, got, want)
		}
	}
}

func listsWith(t *testing.T, s Store) {
	ids := []string{"%", "&", "..", "Z", "a", "a%", "a%2F", "a/", "a/b", "ab", "a\U0010ffff", "a\U0010ffffb", "b", "ß", "é"}
	contribute(t, s, 1, ids...)
	for _, prefix := range []string{"%", "a", "a%", "a%2", "a/", "a\U0010ffff", ".", "..", "c", "é", "a/bc"} {
		var want []string
		for _, id := range ids {
			if strings.HasPrefix(id, prefix) {
				want = append(want, id)
			}
		}
		slices.SortFunc(want, func(a, b string) int { return strings.Compare(store.ContributorID(a), store.ContributorID(b)) })
		for _, limit := range []int{1, 3, 1000} {
			var got []string
			for after := (store.Contributor{}); len(got) <= len(ids); {
				page, asOf, err := s.ContributorsWith(t.Context(), prefix, after, limit)
				if err != nil || len(page) > limit || time.Since(asOf).Abs() > time.Minute {
					t.Fatalf("ContributorsWith(%q) = %d as of %v, %v", prefix, len(page), asOf, err)
				}
				if len(page) == 0 {
					break
				}
				got, after = append(got, idsOf(page)...), page[len(page)-1]
			}
			if !slices.Equal(got, want) {
				t.Errorf("contributors with %q in pages of %d: %q, want %q", prefix, limit, got, want)
			}
		}
	}
}

func claimRace(t *testing.T, s Store) {
	contribute(t, s, 5, "ada", "bob")
	recognize(t, s, recognitionOf("ada", 3), recognitionOf("ada", 5), recognitionOf("bob", 3))
	for round := range 2 {
		found, _, err := s.Pending(t.Context(), store.Recognition{}, 10)
		if err != nil || len(found) != 3 {
			t.Fatalf("Pending() = %v, %v", found, err)
		}
		var claimed atomic.Int64
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				won, err := s.Claim(t.Context(), found)
				if err != nil {
					t.Errorf("Claim() = %v", err)
				}
				claimed.Add(int64(len(won)))
			})
		}
		group.Wait()
		if got := claimed.Load(); got != 3 {
			t.Errorf("round %d: ten callers claimed %d recognitions, want 3", round, got)
		}
	}
	wantPending(t, s, recognitionOf("ada", 3), recognitionOf("ada", 5), recognitionOf("bob", 3))
}

func claimsIndependently(t *testing.T, s Store) {
	contribute(t, s, 5, "ada", "bob", "cyd")
	recognize(t, s, recognitionOf("ada", 3), recognitionOf("bob", 3), recognitionOf("cyd", 3))
	found, _, err := s.Pending(t.Context(), store.Recognition{}, 10)
	if err != nil || len(found) != 3 {
		t.Fatalf("Pending() = %v, %v", found, err)
	}
	if err := s.MarkSent(t.Context(), []store.Recognition{found[0].Recognition}); err != nil {
		t.Fatal(err)
	}
	if won, err := s.Claim(t.Context(), found[1:2]); err != nil || len(won) != 1 {
		t.Fatalf("Claim() = %v, %v", won, err)
	}
	gone := found[2]
	gone.Contributor = "gone"
	won, err := s.Claim(t.Context(), append(found, gone))
	if err != nil || len(won) != 1 || won[0].Recognition != recognitionOf("cyd", 3) {
		t.Errorf("Claim() of one that is sent, one that is claimed, one that is neither and one that is gone = %v, %v", won, err)
	}
	wantPending(t, s, recognitionOf("bob", 3), recognitionOf("cyd", 3)) // a claim does not make a sent recognition pending
}

func marksTwice(t *testing.T, s Store) {
	contribute(t, s, 5, "ada")
	recognize(t, s, recognitionOf("ada", 3))
	for range 2 {
		if err := s.MarkSent(t.Context(), []store.Recognition{recognitionOf("gone", 3), recognitionOf("ada", 3)}); err != nil {
			t.Errorf("MarkSent() = %v", err)
		}
		wantPending(t, s)
	}
	if err := s.MarkSent(t.Context(), nil); err != nil {
		t.Errorf("MarkSent() of none = %v", err)
	}
	contribute(t, s, 5, "gone")
	recognize(t, s, recognitionOf("gone", 3)) // marking has not created it
}

func lists(t *testing.T, s Store) {
	for _, c := range []struct {
		id string
		n  int64
	}{{"b", 1}, {"a/", 2}, {"a", 3}, {"%", 1}, {"&", 2}, {"a%", 3}, {"é", 1}, {"Z", 2}, {"..", 3}, {"c:1", 1}} {
		contribute(t, s, c.n, c.id)
	}
	byID := []string{"%", "&", "..", "Z", "a", "a%", "a/", "b", "c:1", "é"}
	byContributions := []string{"%", "b", "c:1", "é", "&", "Z", "a/", "..", "a", "a%"}
	for order, want := range map[store.Order][]string{
		store.ByID: byID, store.ByContributions: byContributions, store.ByContributionsDescending: reversed(byContributions),
	} {
		for _, limit := range []int{1, 3, 10, 1000} {
			var got []string
			var after store.Contributor
			for {
				page, asOf, err := s.Contributors(t.Context(), order, after, limit)
				if err != nil || len(page) > limit || time.Since(asOf).Abs() > time.Minute || len(got) > len(want) {
					t.Fatalf("Contributors(%s) = %d as of %v, %v after %v", order, len(page), asOf, err, got)
				}
				if len(page) == 0 {
					break
				}
				for _, c := range page {
					got = append(got, c.ID)
				}
				after = page[len(page)-1]
			}
			if !slices.Equal(got, want) {
				t.Errorf("contributors by %s in pages of %d: %q, want %q", order, limit, got, want)
			}
		}
	}
}

func reversed(ids []string) []string {
	ids = slices.Clone(ids)
	slices.Reverse(ids)
	return ids
}

func recognizedTiers(t *testing.T, s Store) {
	if got, err := s.RecognizedTiers(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("RecognizedTiers() of an empty store = %v, %v", got, err)
	}
	contribute(t, s, 200, "ada", "bob", "cyd", "dan")
	recognize(t, s, recognitionOf("ada", 3), recognitionOf("bob", 3), recognitionOf("bob", 10), recognitionOf("cyd", 100))
	if got, err := s.RecognizedTiers(t.Context()); err != nil || !slices.Equal(got, []int64{0, 3, 10, 100}) {
		t.Errorf("RecognizedTiers() = %v, %v, want 0, 3, 10, 100", got, err)
	}
}

func findsMissing(t *testing.T, s Store) {
	contribute(t, s, 12, "ada", "bob", "cyd", "dan")
	recognize(t, s, recognitionOf("ada", 3), recognitionOf("ada", 10), recognitionOf("bob", 10), recognitionOf("cyd", 5), recognitionOf("dan", 3))
	for tier, want := range map[int64]struct {
		contributors, recognitions int64
		missing                    []string
	}{
		3:  {4, 2, []string{"bob", "cyd"}},
		5:  {3, 1, []string{"ada", "bob"}},
		10: {2, 2, nil},
		11: {0, 0, nil},
	} {
		contributors, recognitions, err := s.CountRecognized(t.Context(), tier)
		if err != nil || contributors != want.contributors || recognitions != want.recognitions {
			t.Errorf("CountRecognized(%d) = %d, %d, %v, want %+v", tier, contributors, recognitions, err, want)
		}
		missing, _, err := s.Unrecognized(t.Context(), tier, store.Contributor{}, 10)
		if got := idsOf(missing); err != nil || !slices.Equal(got, want.missing) {
			t.Errorf("Unrecognized(%d) = %v, %v, want %v", tier, got, err, want.missing)
		}
	}
}

func walks(t *testing.T, s Store) {
	var want []string
	for i := range 11 {
		id := strings.Repeat("x", i+1)
		contribute(t, s, int64(10+i%2), id)
		recognize(t, s, recognitionOf(id, int64(5+i%3)))
		want = append(want, id)
	}
	contribute(t, s, 20, "not recognized")
	var got []string
	var after store.Contributor
	for pages := 0; ; pages++ {
		missing, last, err := s.Unrecognized(t.Context(), 4, after, 4)
		if err != nil || pages > 11 {
			t.Fatalf("page %d: %v", pages, err)
		}
		if last.ID == "" {
			break
		}
		got = append(got, idsOf(missing)...)
		after = last
		// Contributors only move towards the end, so one may be on two pages.
		contribute(t, s, 1, "x")
	}
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("the pages list %v, want %v", got, want)
	}
}

func refusesLateRecognition(t *testing.T, s Store) {
	contribute(t, s, 12, "ada", "bob")
	recognize(t, s, recognitionOf("ada", 3))
	found, _, err := s.Pending(t.Context(), store.Recognition{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"Recognize": func() error { return s.Recognize(ctx, recognitionOf("bob", 3)) },
		"Raise":     func() error { return s.Raise(ctx, "ada", 3) },
		"MarkSent":  func() error { return s.MarkSent(ctx, []store.Recognition{recognitionOf("ada", 3)}) },
		"Claim":     func() error { _, err := s.Claim(ctx, found); return err },
		"Pending":   func() error { _, _, err := s.Pending(ctx, store.Recognition{}, 1); return err },
		"Recognitions": func() error {
			_, _, err := s.Recognitions(ctx, store.RecognitionFilter{}, store.Recognition{}, 1)
			return err
		},
		"ContributorsWith": func() error { _, _, err := s.ContributorsWith(ctx, "a", store.Contributor{}, 1); return err },
		"Due":              func() error { _, err := s.Due(ctx, 0, 3, 1); return err },
		"Standing":         func() error { _, err := s.Standing(ctx, "ada"); return err },
		"Contributors":     func() error { _, _, err := s.Contributors(ctx, store.ByID, store.Contributor{}, 1); return err },
		"RecognizedTiers":  func() error { _, err := s.RecognizedTiers(ctx); return err },
		"CountRecognized":  func() error { _, _, err := s.CountRecognized(ctx, 3); return err },
		"Unrecognized":     func() error { _, _, err := s.Unrecognized(ctx, 3, store.Contributor{}, 1); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s() = %v, want context.Canceled", name, err)
		}
	}
	wantPending(t, s, recognitionOf("ada", 3))
	if won, err := s.Claim(t.Context(), found); err != nil || len(won) != 1 {
		t.Errorf("Claim() = %v, %v: an ended context claimed it", won, err)
	}
}

func manyAtOnce(t *testing.T, s Store) {
	const n = 501 // Firestore allows 500
	ids := make([]string, n)
	want := make([]store.Recognition, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("c%03d", i)
		want[i] = recognitionOf(ids[i], 3)
	}
	contribute(t, s, 3, ids...)
	recognize(t, s, want...)
	found, _, err := s.Pending(t.Context(), store.Recognition{}, n)
	if err != nil {
		t.Fatal(err)
	}
	if won, err := s.Claim(t.Context(), found); err != nil || len(won) != n {
		t.Errorf("Claim() = %d, %v, want %d", len(won), err, n)
	}
	if err := s.MarkSent(t.Context(), want); err != nil {
		t.Errorf("MarkSent() = %v", err)
	}
	wantPending(t, s)
}
