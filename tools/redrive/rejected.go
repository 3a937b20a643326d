package redrive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/tools/documents"
)

const (
	// maxEntries bounds the entries that one Commit counts, and with them the documents that it changes.
	maxEntries = 500
	// maxShift is how many partitions are tried for an entry.
	maxShift = 4
	// maxTries bounds the attempts at one Commit, which may conflict with aggregators that work on the same partition.
	maxTries = 20
)

// ledger is the store that rejected entries wait in and are counted in.
type ledger interface {
	Load(ctx context.Context, partition uint32) (store.State, error)
	Commit(ctx context.Context, commit store.Commit) (store.Revision, error)
	Rejected(ctx context.Context, after string, limit int) ([]store.RejectedEntries, error)
}

// rejectedRedriver counts rejected entries. Each Commit counts entries of one document in one partition, and shrinks or
// deletes the document, under preconditions on both: so an entry counts once, also if two redrivers work at the same time or
// one is killed.
type rejectedRedriver struct {
	ledger     ledger
	partitions uint32
	// reason, if not empty, is what the reason of an entry must contain.
	reason string
	dryRun bool
	// discard removes the entries instead of counting them.
	discard bool
	// shift is how far from where they belong entries are counted.
	shift    uint32
	progress io.Writer
}

// Entries counts the rejected entries that fit now, in one of so many partitions, and returns how many it counted and how many
// wait on. It is what the command does, for a program that has a store already.
func Entries(ctx context.Context, kept ledger, partitions uint32) (counted, left int, err error) {
	n, err := (&rejectedRedriver{ledger: kept, partitions: partitions, progress: io.Discard}).run(ctx)
	return n.counted, n.rejected + n.others, err
}

// recount is the result of a run over rejected entries.
type recount struct {
	// counted entries are in the totals, or discarded; in a dry run, all that have the reason. Rejected ones could not be counted now
	// either, and others have another reason: both remain.
	counted, rejected, others int
	// reasons counts all of them by reason.
	reasons map[string]int
}

// run redrives every document of rejected entries once. It returns what it did also with an error. It stops between two
// Commits if ctx ends.
func (r *rejectedRedriver) run(ctx context.Context) (*recount, error) {
	n := &recount{reasons: make(map[string]int)}
	for after := ""; ctx.Err() == nil; {
		page, err := r.ledger.Rejected(ctx, after, 1)
		if err != nil {
			return n, err
		}
		if len(page) == 0 {
			return n, nil
		}
		if err := r.document(ctx, &page[0], after, n); err != nil {
			return n, fmt.Errorf("redrive %s: %w", page[0].ID(), err)
		}
		after = page[0].ID()
		fmt.Fprintf(r.progress, "%d rejected entries, %d of them %s\n", n.all(), n.counted, r.verb())
	}
	return n, nil
}

// verb says what is done with entries.
func (r *rejectedRedriver) verb() string {
	if r.discard {
		return "discarded"
	}
	return "counted"
}

// document counts what it can of one document, which follows after in the order of ids.
func (r *rejectedRedriver) document(ctx context.Context, from *store.RejectedEntries, after string, n *recount) error {
	for _, e := range from.Entries {
		n.reasons[e.Reason]++
	}
	for i := range from.Entries {
		if !strings.Contains(from.Entries[i].Reason, r.reason) {
			n.others++
		}
	}
	if r.dryRun {
		n.counted = n.all() - n.others - n.rejected
		return nil
	}
	defer func(before int) { n.counted += before - len(from.Entries) }(len(from.Entries))
	// What does not fit where it belongs is tried in other partitions: a tag is the sum of all that have it.
	defer func() { r.shift = 0 }()
	for r.shift = 0; ; r.shift++ {
		rejected, err := r.pass(ctx, from, after)
		if err != nil {
			return err
		}
		if rejected == 0 || r.discard || r.shift+1 >= min(r.partitions, maxShift) {
			n.rejected += rejected
			return nil
		}
	}
}

// pass counts what it can of one document in the partitions of its entries, and returns how many it could not.
func (r *rejectedRedriver) pass(ctx context.Context, from *store.RejectedEntries, after string) (rejected int, err error) {
	targets := make(map[uint32]bool)
	for i := range from.Entries {
		if e := &from.Entries[i]; strings.Contains(e.Reason, r.reason) {
			targets[r.target(from, e)] = true
		}
	}
	for _, target := range slices.Sorted(maps.Keys(targets)) {
		// Entries are tried in groups that the store takes. A group that it refuses is halved, down to the entry at fault.
		tried := make(map[checkpoint.Rejected]int)
		for size := maxEntries; ; {
			left, err := r.attempt(ctx, from, after, target, size, tried)
			switch {
			case errors.Is(err, store.ErrRefused) && size > 1:
				size = max(1, size/2)
				continue
			case err != nil:
				return rejected, err
			}
			if left == 0 {
				break
			}
			size = min(2*size, maxEntries)
		}
		for _, kept := range tried {
			rejected += kept
		}
	}
	return rejected, nil
}

// target returns the partition that an entry counts in, or whose Commit discards it.
func (r *rejectedRedriver) target(from *store.RejectedEntries, e *checkpoint.Rejected) uint32 {
	if r.discard {
		return from.Partition
	}
	return (increment.Partition(cmp.Or(e.Tag, e.Contributor), r.partitions) + r.shift) % r.partitions
}

// attempt counts up to size entries of a document in the partition target, and returns how many of the partition's entries it
// did not look at. Tried entries cannot be counted and are left; it adds those that it finds. From is the document as it is
// after the attempt.
func (r *rejectedRedriver) attempt(
	ctx context.Context, from *store.RejectedEntries, after string, target uint32, size int, tried map[checkpoint.Rejected]int,
) (left int, err error) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 20*time.Millisecond, time.Second
	return backoff.Retry(ctx, func() (left int, err error) {
		g, err := r.group(ctx, from, target, size, tried)
		if err != nil {
			return 0, err
		}
		if g.counted == 0 {
			maps.Copy(tried, g.tried)
			return g.unseen, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		revision, err := r.ledger.Commit(ctx, g.commit)
		switch {
		case err == nil:
			from.Entries, from.Revision = g.commit.Redriven.Left, revision
			maps.Copy(tried, g.tried)
			return g.unseen, nil
		case errors.Is(err, store.ErrRefused):
			if g.counted == 1 { // the entry at fault
				maps.Copy(tried, g.tried)
				tried[g.first]++
				return g.unseen, nil
			}
			return 0, backoff.Permanent(err)
		}
		// A conflict, or an unknown outcome: read again what is left.
		if readErr := r.reread(ctx, from, after); readErr != nil {
			return 0, errors.Join(err, readErr)
		}
		return 0, err
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(maxTries))
}

// reread reads the document from again. It has no entries if it is gone.
func (r *rejectedRedriver) reread(ctx context.Context, from *store.RejectedEntries, after string) error {
	page, err := r.ledger.Rejected(ctx, after, 1)
	if err != nil {
		return err
	}
	if len(page) == 0 || page[0].ID() != from.ID() {
		from.Entries = nil
		return nil
	}
	*from = page[0]
	return nil
}

// group is the Commit of some entries.
type group struct {
	commit  store.Commit
	counted int
	first   checkpoint.Rejected
	// tried are the entries that cannot be counted: those that were known before, and new ones. Unseen entries come later.
	tried  map[checkpoint.Rejected]int
	unseen int
}

// group makes the Commit of up to size entries of a document that count in the partition target.
func (r *rejectedRedriver) group(
	ctx context.Context, from *store.RejectedEntries, target uint32, size int, tried map[checkpoint.Rejected]int,
) (*group, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	state, err := r.ledger.Load(ctx, target)
	if err != nil {
		return nil, err
	}
	g := &group{tried: make(map[checkpoint.Rejected]int)}
	tags, contributors := make(map[string]checkpoint.Delta), make(map[string]int64)
	total, room := state.Checkpoint.TotalsSize(), state.Checkpoint.TotalsRoom()-state.Checkpoint.OwedSize()
	left := make([]checkpoint.Rejected, 0, len(from.Entries))
	var discarded []checkpoint.Rejected
	for _, e := range from.Entries {
		_, summed := tags[e.Tag]
		fresh := e.Tag != "" && !summed && !state.Checkpoint.Has(e.Tag) && !r.discard
		switch {
		case r.target(from, &e) != target || !strings.Contains(e.Reason, r.reason):
			left = append(left, e)
			continue
		case tried[e] > g.tried[e], fresh && total+checkpoint.TagSize(e.Tag) > room:
			left = append(left, e)
			g.tried[e]++
			continue
		case g.counted == size:
			left = append(left, e)
			g.unseen++
			continue
		}
		if g.counted++; g.counted == 1 {
			g.first = e
		}
		if r.discard {
			discarded = append(discarded, e)
			continue
		}
		if e.Tag == "" {
			contributors[e.Contributor]++
			continue
		}
		if fresh {
			total += checkpoint.TagSize(e.Tag)
		}
		d := tags[e.Tag]
		tags[e.Tag] = checkpoint.Delta{Name: e.Tag, Value: d.Value + int64(e.Value), Increments: d.Increments + 1}
	}
	deltas := make([]checkpoint.Delta, 0, len(tags))
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		deltas = append(deltas, tags[name])
	}
	next := state.Checkpoint.Next(state.ReadAt, documents.KeepPublishers, nil, deltas)
	g.commit = store.Commit{
		Partition: target, Revision: state.Revision, Next: next, Tags: deltas, Closed: state.Checkpoint.Closed(&next),
		Redriven: &store.Redriven{From: *from, Left: left},
	}
	if r.discard {
		record, err := json.Marshal(map[string]any{"discarded": from.ID(), "rejected_at": from.RejectedAt, "entries": recordOf(discarded)})
		if err != nil {
			return nil, err
		}
		g.commit.Audit = &store.AuditRecord{ID: fmt.Sprintf("discarded-%s-%d", from.ID(), next.Commit), At: next.UpdatedAt, Record: record}
	}
	for _, id := range slices.Sorted(maps.Keys(contributors)) {
		g.commit.Contributors = append(g.commit.Contributors, store.Contributions{Contributor: id, Contributions: contributors[id]})
	}
	return g, nil
}

// recordOf returns entries as an audit record shows them.
func recordOf(entries []checkpoint.Rejected) (all []map[string]any) {
	for _, e := range entries {
		record := map[string]any{"reason": e.Reason}
		if e.Tag != "" {
			record["tag"], record["value"] = e.Tag, e.Value
		} else {
			record["contributor"] = e.Contributor
		}
		if e.Key != (message.Key{}) {
			record["key"] = e.Key.String()
		}
		all = append(all, record)
	}
	return all
}

// all is how many entries were looked at.
func (n *recount) all() int {
	all := 0
	for _, of := range n.reasons {
		all += of
	}
	return all
}

// json returns the report for programs.
func (n *recount) json() any {
	return struct {
		Counted     int            `json:"counted"`
		Rejected    int            `json:"rejected"`
		OtherReason int            `json:"other_reason"`
		Reasons     map[string]int `json:"reasons"`
	}{n.counted, n.rejected, n.others, n.reasons}
}

// print writes the report, the most frequent reasons first.
func (n *recount) print(w io.Writer, verb string, dryRun bool) {
	if dryRun {
		verb = "to be " + verb + " (this was a dry run)"
	}
	fmt.Fprintf(w, "%d rejected entries: %d %s", n.all(), n.counted, verb)
	if n.rejected > 0 {
		fmt.Fprintf(w, ", %d cannot be counted now and remain", n.rejected)
	}
	if n.others > 0 {
		fmt.Fprintf(w, ", %d have another reason and remain", n.others)
	}
	fmt.Fprintln(w)
	printReasons(w, n.reasons)
}
