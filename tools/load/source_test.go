package load

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/increment"
)

func TestRandomIncrementsAreValid(t *testing.T) {
	t.Parallel()
	l := newLedger()
	s := newRandomSource(l, 500, 1)
	if got := l.tags(); got != 500 {
		t.Errorf("%d tags, want 500", got)
	}
	values, names := map[uint8]int{}, map[string]int{}
	for range 20_000 {
		e, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(increment.ValidateName(e.tally.name), increment.ValidateValue(int64(e.value))); err != nil {
			t.Fatalf("%s %d: %v", e.tally.name, e.value, err)
		}
		values[e.value]++
		names[e.tally.name]++
	}
	if len(values) != increment.MaxValue || len(names) != 500 {
		t.Errorf("%d values of %d tags, want all 9 of all 500", len(values), len(names))
	}
}

func TestSameSeedDrawsTheSameTags(t *testing.T) {
	t.Parallel()
	names := func(seed uint64) []string {
		l := newLedger()
		newRandomSource(l, 100, seed)
		return slices.Sorted(maps.Keys(l.tallies))
	}
	if !slices.Equal(names(1), names(1)) || slices.Equal(names(1), names(2)) {
		t.Error("the names are not those of the seed")
	}
}

func TestTagsInTurnAllChangeAsOften(t *testing.T) {
	t.Parallel()
	l := newLedger()
	s := Shape{Tags: 7, InTurn: true}.source(l)
	times := map[string]int{}
	for range 3 * 7 {
		e, err := s.next()
		if err != nil || e.value != 1 {
			t.Fatalf("value %d, %v", e.value, err)
		}
		times[e.tally.name]++
	}
	if len(times) != 7 {
		t.Errorf("%d tags, want 7", len(times))
	}
	for name, n := range times {
		if n != 3 {
			t.Errorf("%s came %d times, want 3", name, n)
		}
	}
}

func TestWordSourceReturnsEveryWord(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{"a": "foo bar", "b": "", "c": "bar\nbaz foo\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := find([]string{root})
	if err != nil {
		t.Fatal(err)
	}
	s := newWordSource(newLedger(), files)
	var got []string
	for {
		e, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || e.value != 1 {
			t.Fatal(e, err)
		}
		got = append(got, e.tally.name)
	}
	if want := []string{"foo", "bar", "bar", "baz", "foo"}; !slices.Equal(got, want) {
		t.Errorf("words %v, want %v", got, want)
	}
	if done, ok := s.progress(); !ok || done != 1 {
		t.Errorf("progress() = %v, %v at the end", done, ok)
	}
}

func TestWordSourceReportsAMissingFile(t *testing.T) {
	t.Parallel()
	s := newWordSource(newLedger(), []file{{"missing", 1}})
	if _, err := s.next(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("next() = %v, want %v", err, os.ErrNotExist)
	}
}

func TestLimitedEndsAfterItsCount(t *testing.T) {
	t.Parallel()
	s := &limited{source: newRandomSource(newLedger(), 1, 1), count: 3}
	var b batch
	var sizes []int
	for b.fill(s, 2) == nil {
		sizes = append(sizes, len(b.entries))
	}
	if want := []int{2, 1}; !slices.Equal(sizes, want) {
		t.Errorf("batches of %v, want %v", sizes, want)
	}
	if done, ok := s.progress(); !ok || done != 1 {
		t.Errorf("progress() = %v, %v at the end", done, ok)
	}
}

// item is an increment as ingest reads it.
type item struct {
	Name        string `json:"name"`
	Value       int64  `json:"value"`
	Contributor string `json:"contributor"`
}

func withContributors(from source, n int) source {
	if n == 0 {
		return from
	}
	return newContributing(&config{contributors: n}, from)
}

func TestBatchEncodesItsEntries(t *testing.T) {
	t.Parallel()
	l := newLedger()
	for name, tc := range map[string]struct{ size, contributors int }{
		"one":                    {1, 0},
		"one, by a contributor":  {1, 3},
		"some":                   {7, 0},
		"some, by contributors":  {7, 3},
		"as many as are allowed": {increment.MaxBatch, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b batch
			for range 2 { // the second in the place of the first
				if err := b.fill(withContributors(newRandomSource(l, 10, 1), tc.contributors), tc.size); err != nil {
					t.Fatal(err)
				}
			}
			items := make([]item, 1)
			decoder := json.NewDecoder(strings.NewReader(string(b.body)))
			decoder.DisallowUnknownFields()
			var err error
			if tc.size == 1 {
				err = decoder.Decode(&items[0])
			} else {
				err = decoder.Decode(&struct {
					Increments *[]item `json:"increments"`
				}{&items})
			}
			if err != nil || len(items) != tc.size || len(b.entries) != tc.size || decoder.More() {
				t.Fatalf("%d items of %d entries in %s: %v", len(items), len(b.entries), b.body, err)
			}
			for i, got := range items {
				want := b.entries[i]
				if got.Name != want.tally.name || got.Value != int64(want.value) || (got.Contributor == "") != (tc.contributors == 0) {
					t.Errorf("item %d is %+v, its entry %s %d", i, got, want.tally.name, want.value)
				}
			}
		})
	}
}

func TestZipfDrawsTheNthRankAnNthAsOften(t *testing.T) {
	t.Parallel()
	const draws = 100_000
	z, seen := newZipf(50), make([]int, 50)
	for range draws {
		seen[z.draw()]++
	}
	for _, rank := range []int{1, 4, 9, 49} {
		if ratio := float64(seen[0]) / float64(seen[rank]); ratio < 0.8*float64(rank+1) || ratio > 1.25*float64(rank+1) {
			t.Errorf("rank %d was drawn %d times, the first %d times", rank, seen[rank], seen[0])
		}
	}
}

func TestAShopHasValidTagsAndPeople(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, name := range shopTags {
		if err := increment.ValidateName(name); err != nil || seen[name] {
			t.Errorf("tag %q: %v, twice %v", name, err, seen[name])
		}
		seen[name] = true
	}
	for _, id := range shopPeople(400) {
		if err := increment.ValidateContributor(id); err != nil || seen[id] {
			t.Errorf("contributor %q: %v, twice %v", id, err, seen[id])
		}
		seen[id] = true
	}
	named := 0
	of := newContributing(&config{shop: true, contributors: 400}, newShopSource(newLedger()))
	for range 3000 {
		if e, err := of.next(); err != nil {
			t.Fatal(err)
		} else if e.contributor != "" {
			named++
		}
	}
	if named < 800 || named > 1200 {
		t.Errorf("%d of 3000 increments name a person, want about a third", named)
	}
}

func TestADayIsBusyByTheHourAndBeginsAgain(t *testing.T) {
	t.Parallel()
	const length, n = 24 * time.Minute, 4000 // an hour takes a minute
	var hours [48]int
	last := time.Duration(0)
	for i := range 2 * n {
		at := day(length, float64(i)/n)
		if at < last || at >= 2*length {
			t.Fatalf("increment %d is due at %v, after %v", i, at, last)
		}
		last = at
		hours[int(at/time.Minute)]++
	}
	if hours[2] > 1 || hours[8] < 5*hours[20]/2 || hours[8] < 300 {
		t.Errorf("the hours have %v", hours)
	}
	for hour := range 24 {
		if d := hours[hour] - hours[24+hour]; d < -1 || d > 1 {
			t.Errorf("hour %d has %d and %d increments", hour, hours[hour], hours[24+hour])
		}
	}
}
