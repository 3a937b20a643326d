// Package window sums the messages of one partition's window. It is pure: it knows no clock, no network and no store.
package window

import (
	"slices"
	"strings"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// Sums is what messages add, one entry for each document that changes.
type Sums struct {
	// Tags is sorted by name.
	Tags []checkpoint.Delta
	// Contributors is sorted by id.
	Contributors []store.Contributions
}

// Sum adds up batches. The order of batches does not matter.
func Sum(batches []*message.Batch) Sums {
	var sums Sums
	// The maps hold an index, so that counting an increment of a known tag allocates nothing.
	tags, contributors := make(map[string]int), make(map[string]int)
	for _, b := range batches {
		for i := range b.Increments {
			inc := &b.Increments[i]
			at, ok := tags[inc.Tag]
			if !ok {
				at = len(sums.Tags)
				tags[inc.Tag] = at
				sums.Tags = append(sums.Tags, checkpoint.Delta{Name: inc.Tag})
			}
			sums.Tags[at].Value += int64(inc.Value)
			sums.Tags[at].Increments++
		}
		for i := range b.Contributions {
			id := b.Contributions[i].Contributor
			at, ok := contributors[id]
			if !ok {
				at = len(sums.Contributors)
				contributors[id] = at
				sums.Contributors = append(sums.Contributors, store.Contributions{Contributor: id})
			}
			sums.Contributors[at].Contributions++
		}
	}
	slices.SortFunc(sums.Tags, func(a, b checkpoint.Delta) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(sums.Contributors, func(a, b store.Contributions) int { return strings.Compare(a.Contributor, b.Contributor) })
	return sums
}

// Cut returns how many of the first batches, at least one, change at most limit documents together. A batch that alone
// changes more is cut off by itself: a message is never divided, since it is counted as a whole or not at all.
func Cut(batches []*message.Batch, limit int) int {
	entries := 0
	for _, b := range batches {
		entries += b.Entries()
	}
	if entries <= limit { // no need to look at each
		return len(batches)
	}
	type document struct{ tag, contributor string }
	changed := make(map[document]struct{}, limit)
	for n, b := range batches {
		for i := range b.Increments {
			changed[document{tag: b.Increments[i].Tag}] = struct{}{}
		}
		for i := range b.Contributions {
			changed[document{contributor: b.Contributions[i].Contributor}] = struct{}{}
		}
		if len(changed) > limit {
			return max(n, 1)
		}
	}
	return len(batches)
}
