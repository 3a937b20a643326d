package recognition

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/store"
)

// Consumers are written against this, and copies that a later release makes must be the same.
func TestEventMatchesTheContract(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 7, 8, 9, int(87*time.Millisecond), time.FixedZone("elsewhere", 3600))
	got := event(store.Recognition{Contributor: "ada/<é>", Tier: 3, Contributions: 4, RecognizedAt: at})
	const data = `{"contributor":"ada/\u003cé\u003e","tier":3,"contributions":4,"recognized_at":"2026-11-23T06:08:09.087Z"}`
	if string(got.Data) != data {
		t.Errorf("data = %s, want %s", got.Data, data)
	}
	want := map[string]string{
		"ce-id":          "2711d037c263ed19d793c2bbe632a3508726d60c67aad383f780c4498f19355e",
		"ce-source":      "/accrue/query",
		"ce-specversion": "1.0",
		"ce-type":        "dev.accrue.contributor.recognized.v1",
		"ce-subject":     "ada/<é>",
		"ce-time":        "2026-11-23T06:08:09.087Z",
		"content-type":   "application/json",
	}
	if !maps.Equal(got.Attributes, want) {
		t.Errorf("attributes = %q, want %q", got.Attributes, want)
	}
}

// anyContributor is what ingest lets in.
func anyContributor() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringN(1, increment.MaxContributorLength, -1),
		rapid.SampledFrom([]string{"ada", "ada\ufffe", "a3", "\ufdd0", "\U0010ffff", strings.Repeat("𝒳", 128), "__x__", "..", "<&>\u2028"}),
	).Filter(func(s string) bool { return increment.ValidateContributor(s) == nil })
}

func TestEveryContributorHasAnEventWithinTheLimits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := store.Recognition{
			Contributor:   anyContributor().Draw(t, "contributor"),
			Tier:          rapid.Int64Min(1).Draw(t, "tier"),
			Contributions: rapid.Int64Min(1).Draw(t, "contributions"),
			RecognizedAt:  eventTime(time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "time"))),
		}
		got := event(r)
		for name, value := range got.Attributes {
			// https://cloud.google.com/pubsub/quotas#resource_limits and CloudEvents 1.0, type system.
			if value == "" || len(value) > 1024 || !utf8.ValidString(value) || strings.ContainsFunc(value, forbidden) {
				t.Errorf("%s = %q", name, value)
			}
		}
		var data eventData
		if err := json.Unmarshal(got.Data, &data); err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, data.RecognizedAt)
		if back := (store.Recognition{Contributor: data.Contributor, Tier: data.Tier, Contributions: data.Contributions, RecognizedAt: at}); err != nil || back != r {
			t.Errorf("event of %+v says %+v, %v", r, back, err)
		}
	})
}

// forbidden says whether a CloudEvents string must not hold a character.
func forbidden(r rune) bool {
	return r <= 0x1f || (r >= 0x7f && r <= 0x9f) || (r >= 0xfdd0 && r <= 0xfdef) || r&0xffff >= 0xfffe
}

func TestEventsOfDifferentRecognitionsHaveDifferentIDs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyContributor().Draw(t, "a"), anyContributor().Draw(t, "b")
		tierA, tierB := rapid.Int64Min(1).Draw(t, "tier a"), rapid.Int64Min(1).Draw(t, "tier b")
		if same := a == b && tierA == tierB; (eventID(a, tierA) == eventID(b, tierB)) != same {
			t.Errorf("the ids of (%q, %d) and (%q, %d) tell them apart: %v", a, tierA, b, tierB, same)
		}
	})
	if eventID("a1", 1) == eventID("a", 11) {
		t.Error("a1 at 1 and a at 11 have the same id")
	}
}

func TestTiers(t *testing.T) {
	t.Parallel()
	twenty := make([]int64, MaxTiers)
	for i := range twenty {
		twenty[i] = int64(i + 1)
	}
	for name, tc := range map[string]struct {
		tiers []int64
		valid bool
	}{
		"one":           {[]int64{3}, true},
		"three":         {[]int64{3, 10, 100}, true},
		"twenty":        {twenty, true},
		"none":          {nil, false},
		"zero":          {[]int64{0}, false},
		"negative":      {[]int64{-3, 3}, false},
		"falling":       {[]int64{10, 3}, false},
		"the same":      {[]int64{3, 3}, false},
		"falling later": {[]int64{3, 10, 9}, false},
		"twenty-one":    {append(slices.Clone(twenty), 21), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := ValidateTiers(tc.tiers); (err == nil) != tc.valid {
				t.Errorf("ValidateTiers(%v) = %v", tc.tiers, err)
			}
		})
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tiers, earlier []int64
		want           []step
	}{
		"one tier":                    {[]int64{3}, nil, []step{{0, 3}}},
		"three tiers":                 {[]int64{3, 10, 100}, nil, []step{{0, 3}, {3, 10}, {10, 100}}},
		"nothing new":                 {[]int64{3, 10}, []int64{0, 3, 10}, []step{{0, 3}, {3, 10}}},
		"earlier ones below":          {[]int64{10}, []int64{3, 5}, []step{{0, 10}, {3, 10}, {5, 10}}},
		"earlier ones in between":     {[]int64{3, 10}, []int64{7, 5}, []step{{0, 3}, {3, 10}, {5, 10}, {7, 10}}},
		"an earlier one that is high": {[]int64{3}, []int64{100}, []step{{0, 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := steps(tc.tiers, tc.earlier); !slices.Equal(got, tc.want) {
				t.Errorf("steps(%v, %v) = %v, want %v", tc.tiers, tc.earlier, got, tc.want)
			}
		})
	}
}
