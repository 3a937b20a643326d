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

// sum adds batches as a partition does.
func sum(batches ...*message.Batch) *window.Sums {
	sums := window.NewSums()
	for _, b := range batches {
		for i := range b.Increments {
			tag, _ := sums.Tag(b.Increments[i].Tag)
			tag.Add(int64(b.Increments[i].Value))
		}
		for i := range b.Contributions {
			contributor, _ := sums.Contributor(b.Contributions[i].Contributor)
			contributor.Add(1)
		}
	}
	return sums
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
		sums := sum(all...)
		gotValues, gotIncrements, gotContributions := map[string]int64{}, map[string]int64{}, map[string]int64{}
		for _, d := range sums.Deltas() {
			gotValues[d.Name], gotIncrements[d.Name] = d.Value, d.Increments
		}
		for _, c := range sums.Contributions() {
			gotContributions[c.Contributor] = c.Contributions
		}
		if !maps.Equal(values, gotValues) || !maps.Equal(increments, gotIncrements) || !maps.Equal(contributions, gotContributions) {
			t.Fatalf("sums = %+v, want %v, %v, %v", sums, values, increments, contributions)
		}
		if len(sums.Deltas()) != len(values) || len(sums.Contributions()) != len(contributions) {
			t.Fatalf("sums = %+v has a document twice", sums)
		}
		if !slices.IsSortedFunc(sums.Deltas(), func(a, b checkpoint.Delta) int { return strings.Compare(a.Name, b.Name) }) {
			t.Fatalf("sums = %+v is not sorted", sums)
		}
	})
}

func TestFitsIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all, limit := batches(t), rapid.IntRange(1, 12).Draw(t, "limit")
		if len(all) == 0 {
			return
		}
		before, last := all[:len(all)-1], all[len(all)-1]
		want := sum(before...).Documents() == 0 || sum(all...).Documents() <= limit
		if got := sum(before...).Fits(last, limit); got != want {
			t.Fatalf("Fits() = %v for %d documents of %d, want %v", got, sum(all...).Documents(), limit, want)
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
		sum(all...).Deltas()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*30*message.MaxEntries), "ns/increment")
}
