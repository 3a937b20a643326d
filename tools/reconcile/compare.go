package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// page is how many documents of rejected entries are read at once.
const page = 100

// reader is what is read of a store.
type reader interface {
	Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error)
	Load(ctx context.Context, partition uint32) (store.State, error)
	Tags(ctx context.Context) ([]store.Tag, error)
	Rejected(ctx context.Context, after string, limit int) ([]store.RejectedEntries, error)
}

// result is what was compared.
type result struct {
	Tags        int          `json:"tags"`
	Total       int64        `json:"total"`
	Archived    *archive     `json:"archive,omitempty"`
	Differences []difference `json:"differences"`
}

// difference is a tag that is not everywhere the same.
type difference struct {
	Tag         string `json:"tag"`
	Checkpoints int64  `json:"checkpoints"`
	Document    int64  `json:"document"`
	// Owed is what the checkpoints have and the document gets later (TAG_DOCUMENTS).
	Owed int64 `json:"owed"`
	// Rejected entries wait to be redriven. The archive has them, and totals do not.
	Rejected int64  `json:"rejected"`
	Archive  *int64 `json:"archive,omitempty"`
}

// ErrDiffers is returned by Messages if there is a difference.
var ErrDiffers = errors.New("the messages add up to something else")

// Messages compares all messages that were ever published with a store, as the command does with an archive. It is for tests that
// keep them.
func Messages(ctx context.Context, from reader, all []*message.Batch) error {
	messages := newArchive()
	for _, b := range all {
		if err := messages.add(lineOf(b)); err != nil {
			return err
		}
	}
	found, err := compare(ctx, from, messages)
	if err != nil || len(found.Differences) == 0 {
		return err
	}
	var table strings.Builder
	if err := found.print(&table); err != nil {
		return err
	}
	return fmt.Errorf("%w:\n%s", ErrDiffers, &table)
}

// compare compares the checkpoints with the documents of tags, and with an archive unless it is nil.
func compare(ctx context.Context, from reader, messages *archive) (*result, error) {
	checkpoints, documents, owed := make(map[string]int64), make(map[string]int64), make(map[string]int64)
	partitions, _, err := from.Totals(ctx)
	if err != nil {
		return nil, err
	}
	r := &result{Archived: messages, Differences: []difference{}}
	for i := range partitions {
		if err := partitions[i].Err; err != nil {
			return nil, fmt.Errorf("partition %d: %w", partitions[i].Partition, err)
		}
		state, err := from.Load(ctx, partitions[i].Partition)
		if err != nil {
			return nil, err
		}
		for _, total := range state.Checkpoint.Totals {
			checkpoints[total.Name] += total.Total
			r.Total += total.Total
		}
		for _, o := range state.Checkpoint.Owed {
			owed[o.Name] += o.Value
		}
	}
	tags, err := from.Tags(ctx)
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		documents[tag.Name] = tag.Total
	}
	rejected, err := waiting(ctx, from)
	if err != nil {
		return nil, err
	}
	var archived map[string]int64
	names := sorted(checkpoints, documents)
	if messages != nil {
		archived = messages.totals()
		names = sorted(checkpoints, documents, archived, rejected)
	}
	r.Tags = len(checkpoints)
	for _, name := range names {
		d := difference{Tag: name, Checkpoints: checkpoints[name], Document: documents[name], Owed: owed[name], Rejected: rejected[name]}
		differs := d.Checkpoints != d.Document+d.Owed
		if messages != nil {
			sum := archived[name]
			d.Archive = &sum
			differs = differs || sum != d.Checkpoints+d.Rejected
		}
		if differs {
			r.Differences = append(r.Differences, d)
		}
	}
	return r, nil
}

// waiting adds up the rejected entries that wait.
func waiting(ctx context.Context, from reader) (map[string]int64, error) {
	sums := make(map[string]int64)
	for after := ""; ; {
		documents, err := from.Rejected(ctx, after, page)
		if err != nil {
			return nil, err
		}
		for i := range documents {
			for _, e := range documents[i].Entries {
				if e.Tag != "" {
					sums[e.Tag] += int64(e.Value)
				}
			}
			after = documents[i].ID()
		}
		if len(documents) < page {
			return sums, nil
		}
	}
}
