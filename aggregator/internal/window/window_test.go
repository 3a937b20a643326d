package window_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/aggregator/internal/window"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
)

func batches(t *rapid.T) []*message.Batch {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *message.Batch {
		return &message.Batch{
			Increments: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) message.Increment {
				return message.Increment{
					Tag:   rapid.StringMatching(`[ab]{3,4}`).Draw(t, "tag"),
					Value: uint8(rapid.IntRange(1, 9).Draw(t, "value")),
				}
			}), 0, 8).Draw(t, "increments"),
			Contributions: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) message.Contribution {
				return message.Contribution{Contributor: rapid.StringMatching(`[ab]{3}`).Draw(t, "contributor")}
			}), 0, 4).Draw(t, "contributions"),
		}
	}), 0, 20).Draw(t, "batches")
}

func TestSumEqualsCountingOneByOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := batches(t)
		values, increments, contributions := map[string]int64{}, map[string]int64{}, map[string]int64{}
		for _, b := range all {
			for _, inc := range b.Increments {
				values[inc.Tag] += int64(inc.Value)
				increments[inc.Tag]++
			}
			for _, c := range b.Contributions {
				contributions[c.Contributor]++
			}
		}
		sums := window.Sum(all)
		gotValues, gotIncrements, gotContributions := map[string]int64{}, map[string]int64{}, map[string]int64{}
		for _, d := range sums.Tags {
			gotValues[d.Name], gotIncrements[d.Name] = d.Value, d.Increments
		}
		for _, c := range sums.Contributors {
			gotContributions[c.Contributor] = c.Contributions
		}
		if !maps.Equal(values, gotValues) || !maps.Equal(increments, gotIncrements) || !maps.Equal(contributions, gotContributions) {
			t.Fatalf("Sum() = %+v, want %v, %v, %v", sums, values, increments, contributions)
		}
		if len(sums.Tags) != len(values) || len(sums.Contributors) != len(contributions) {
			t.Fatalf("Sum() = %+v has a document twice", sums)
		}
		if !slices.IsSortedFunc(sums.Tags, func(a, b checkpoint.Delta) int { return strings.Compare(a.Name, b.Name) }) {
			t.Fatalf("Sum() = %+v is not sorted", sums)
		}
	})
}

func TestCutKeepsToTheLimitAndLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rest, limit := batches(t), rapid.IntRange(1, 12).Draw(t, "limit")
		for len(rest) > 0 {
			n := window.Cut(rest, limit)
			if n < 1 || n > len(rest) {
				t.Fatalf("Cut() = %d of %d", n, len(rest))
			}
			documents := func(batches []*message.Batch) int {
				sums := window.Sum(batches)
				return len(sums.Tags) + len(sums.Contributors)
			}
			if got := documents(rest[:n]); got > limit && n > 1 {
				t.Fatalf("Cut() = %d messages with %d documents, limit %d", n, got, limit)
			}
			if n < len(rest) && documents(rest[:n+1]) <= limit {
				t.Fatalf("Cut() = %d, although one more fits", n)
			}
			rest = rest[n:]
		}
	})
}

// The window's hot path: what one partition of 16 sums in a second at half a million increments a second.
func BenchmarkSum(b *testing.B) {
	var all []*message.Batch
	for range 30 {
		batch := &message.Batch{}
		for i := range message.MaxEntries {
			name := strings.Map(func(r rune) rune { return r - '0' + 'a' }, fmt.Sprintf("%05d", i*7919%3400))
			batch.Increments = append(batch.Increments, message.Increment{Tag: name, Value: 1})
		}
		all = append(all, batch)
	}
	for b.Loop() {
		window.Sum(all)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*30*message.MaxEntries), "ns/increment")
}
