package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// errDifferent is returned if the target is not what the folder is.
var errDifferent = errors.New("the target differs from the folder")

func differs(format string, arguments ...any) error {
	return fmt.Errorf("%w: %s", errDifferent, fmt.Sprintf(format, arguments...))
}

// report is what was migrated and compared.
type report struct {
	Tags          int   `json:"tags"`
	Total         int64 `json:"total"`
	Increments    int64 `json:"increments"`
	Contributors  int   `json:"contributors"`
	Contributions int64 `json:"contributions"`
	Recognitions  int   `json:"recognitions"`
	Periods       int   `json:"periods"`
	Keys          int   `json:"keys"`
	Rejected      int   `json:"rejected"`
	Audits        int   `json:"audit_records"`
}

// verify reads everything of both and compares it.
func (m *migration) verify(ctx context.Context) (*report, error) {
	r := &report{}
	for _, compare := range []func(context.Context, *report) error{m.compareTotals, m.comparePeriods, m.compareKeys, m.compareRejected, m.compareContributors, m.compareAudits} {
		if err := compare(ctx, r); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (m *migration) compareTotals(ctx context.Context, r *report) error {
	owed := make(map[string]checkpoint.Delta) // by the folder to its documents of tags
	for _, partition := range m.from.partitions {
		want, err := m.from.Load(ctx, partition)
		if err != nil {
			return err
		}
		got, err := m.load(ctx, partition)
		if err != nil {
			return err
		}
		if !slices.Equal(want.Checkpoint.Totals, got.Checkpoint.Totals) || !want.Checkpoint.UpdatedAt.Equal(got.Checkpoint.UpdatedAt) ||
			!bytes.Equal(want.Checkpoint.PackPublishers(), got.Checkpoint.PackPublishers()) || want.Checkpoint.Layouts != got.Checkpoint.Layouts {
			return differs("partition %d", partition)
		}
		for _, t := range want.Checkpoint.Totals {
			r.Total += t.Total
			r.Increments += t.Increments
		}
		for _, d := range want.Checkpoint.Owed {
			owed[d.Name] = checkpoint.Delta{Value: owed[d.Name].Value + d.Value, Increments: owed[d.Name].Increments + d.Increments}
		}
	}
	want, err := m.from.Tags(ctx)
	if err != nil {
		return err
	}
	for i := range want {
		want[i].Total += owed[want[i].Name].Value
		want[i].Increments += owed[want[i].Name].Increments
		delete(owed, want[i].Name)
	}
	for name, d := range owed { // they have no document yet
		want = append(want, store.Tag{Name: name, Total: d.Value, Increments: d.Increments})
	}
	slices.SortFunc(want, func(a, b store.Tag) int { return strings.Compare(a.Name, b.Name) })
	got, err := m.to.Tags(ctx)
	if err != nil {
		return err
	}
	r.Tags = len(want)
	if !slices.EqualFunc(want, got, func(a, b store.Tag) bool {
		return a.Name == b.Name && a.Total == b.Total && a.Increments == b.Increments
	}) {
		return differs("the documents of tags")
	}
	return nil
}

func (m *migration) comparePeriods(ctx context.Context, r *report) error {
	now := time.Now()
	for _, partition := range m.from.partitions {
		for _, resolution := range checkpoint.Resolutions() {
			// The target may have deleted what has expired.
			first := resolution.Begin(slices.MaxFunc([]time.Time{oldest(resolution, m.from.asOf), oldest(resolution, now)}, time.Time.Compare))
			want, err := m.from.History(ctx, partition, resolution, first, never)
			if err != nil {
				return err
			}
			got, err := m.to.History(ctx, partition, resolution, first, never)
			if err != nil {
				return err
			}
			if !slices.EqualFunc(want, got, func(a, b store.Period) bool { return a.Begin.Equal(b.Begin) && bytes.Equal(a.Changes, b.Changes) }) {
				return differs("the history of partition %d", partition)
			}
			r.Periods += len(want)
		}
	}
	return nil
}

func (m *migration) compareKeys(ctx context.Context, r *report) error {
	wanted, _, err := m.from.Layouts(ctx)
	if err != nil {
		return err
	}
	found, _, err := m.to.Layouts(ctx)
	if err != nil {
		return err
	}
	if !bytes.Equal(checkpoint.PackLayouts(&wanted), checkpoint.PackLayouts(&found)) {
		return differs("the layouts of idempotency keys")
	}
	type keysReader interface {
		Keys(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error)
	}
	for _, partition := range m.from.partitions {
		pages := func(from keysReader) iter.Seq2[store.CommitKeys, error] {
			return func(yield func(store.CommitKeys, error) bool) {
				for after := (store.KeysPosition{}); ; {
					read, err := from.Keys(ctx, partition, after, page)
					if err != nil {
						yield(store.CommitKeys{}, err)
						return
					}
					if len(read) == 0 {
						return
					}
					for _, k := range read {
						if !yield(k, nil) {
							return
						}
					}
					after = read[len(read)-1].KeysPosition
				}
			}
		}
		next, stop := iter.Pull2(pages(m.to))
		defer stop()
		for want, err := range pages(m.from) {
			if err != nil {
				return err
			}
			got, err, ok := next()
			if err != nil {
				return err
			}
			if !ok || !want.At.Equal(got.At) || !slices.Equal(want.Keys, got.Keys) {
				return differs("the idempotency keys of partition %d", partition)
			}
			r.Keys += len(want.Keys)
		}
		if _, err, more := next(); more || err != nil {
			return errors.Join(err, differs("the idempotency keys of partition %d", partition))
		}
	}
	return nil
}

func (m *migration) compareRejected(ctx context.Context, r *report) error {
	count := func(read func(ctx context.Context, after string, limit int) ([]store.RejectedEntries, error)) (map[checkpoint.Rejected]int, int, error) {
		entries, n := make(map[checkpoint.Rejected]int), 0
		for after := ""; ; {
			documents, err := read(ctx, after, page)
			if err != nil || len(documents) == 0 {
				return entries, n, err
			}
			for _, d := range documents {
				for _, e := range d.Entries {
					entries[e]++
					n++
				}
			}
			after = documents[len(documents)-1].ID()
		}
	}
	want, n, err := count(m.from.Rejected)
	if err != nil {
		return err
	}
	got, others, err := count(m.to.Rejected)
	if err != nil {
		return err
	}
	r.Rejected = n
	for e, times := range want {
		if got[e] != times {
			return differs("rejected entries")
		}
	}
	if n != others {
		return differs("rejected entries")
	}
	return nil
}

func (m *migration) compareContributors(ctx context.Context, r *report) error {
	next, stop := iter.Pull2(contributorPages(ctx, m.to))
	defer stop()
	for want, err := range contributorPages(ctx, m.from) {
		if err != nil {
			return err
		}
		got, err, _ := next()
		if err != nil {
			return err
		}
		same := func(a, b store.Contributor) bool {
			return a.ID == b.ID && a.Contributions == b.Contributions && a.RecognizedTier == b.RecognizedTier
		}
		if !slices.EqualFunc(want, got, same) {
			return differs("contributors after %q", want[0].ID)
		}
		r.Contributors += len(want)
		for _, c := range want {
			r.Contributions += c.Contributions
			if c.RecognizedTier == 0 {
				continue
			}
			a, err := m.from.Standing(ctx, c.ID)
			if err != nil {
				return err
			}
			b, err := m.to.Standing(ctx, c.ID)
			if err != nil {
				return err
			}
			if !slices.EqualFunc(a.Recognitions, b.Recognitions, func(a, b store.Recognition) bool {
				return a.Tier == b.Tier && a.Contributions == b.Contributions && a.RecognizedAt.Equal(b.RecognizedAt)
			}) {
				return differs("the recognitions of %q", c.ID)
			}
			r.Recognitions += len(a.Recognitions)
		}
	}
	if got, err, more := next(); more || err != nil {
		return errors.Join(err, differs("%d more contributors", len(got)))
	}
	return nil
}

func (m *migration) compareAudits(ctx context.Context, r *report) error {
	next, stop := iter.Pull2(auditRecords(ctx, m.to))
	defer stop()
	for want, err := range auditRecords(ctx, m.from) {
		if err != nil {
			return err
		}
		got, err, _ := next()
		if err != nil {
			return err
		}
		if want.ID != got.ID || !want.At.Equal(got.At) || !bytes.Equal(want.Record, got.Record) {
			return differs("the audit record %s", want.ID)
		}
		r.Audits++
	}
	if got, err, more := next(); more || err != nil {
		return errors.Join(err, differs("the audit record %s", got.ID))
	}
	return nil
}
