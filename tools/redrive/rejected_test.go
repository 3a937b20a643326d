package redrive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/faults"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/storetest"
)

const full = "the partition's checkpoint is full"

// tagName returns the name of the i-th tag.
func tagName(i int) string {
	b := []byte("tag_")
	for ; i > 0; i /= 26 {
		b = append(b, byte('a'+i%26))
	}
	return string(b)
}

// reject commits n entries of n tags, of 1 each, and ada's contribution as rejected by partition 0.
func reject(t *testing.T, s storetest.Store, n int, reason string) {
	t.Helper()
	state, err := s.Load(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	commit := store.Commit{Revision: state.Revision, Next: state.Checkpoint.Next(time.Now(), time.Hour, nil, nil)}
	for i := range n {
		commit.Rejected = append(commit.Rejected, checkpoint.Rejected{Tag: tagName(i), Value: 1, Reason: reason})
	}
	commit.Rejected = append(commit.Rejected, checkpoint.Rejected{Contributor: "ada", Reason: reason})
	if _, err := s.Commit(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
}

// counted returns the sum of all totals and ada's contributions, and checks that tags' documents agree with the checkpoints.
func counted(t *testing.T, s storetest.Store) (sum, contributions int64) {
	t.Helper()
	partitions, _, err := s.Totals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range partitions {
		for _, total := range p.Totals {
			sum += total.Total
		}
	}
	tags, err := s.Tags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var documents int64
	for _, tag := range tags {
		documents += tag.Total
	}
	if documents != sum {
		t.Errorf("the documents of tags add up to %d, the checkpoints to %d", documents, sum)
	}
	ada, err := s.Contributor(t.Context(), "ada")
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return sum, ada.Contributions
}

func waiting(t *testing.T, s storetest.Store) (entries int) {
	t.Helper()
	documents, err := s.Rejected(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents {
		entries += len(d.Entries)
	}
	return entries
}

func TestRejectedEntriesAreCountedOnce(t *testing.T) {
	t.Parallel()
	s := databasetest.Store(t)
	reject(t, s, 700, full) // more than one Commit counts in a partition
	reject(t, s, 3, "another reason")
	r := &rejectedRedriver{ledger: s, partitions: 1, reason: "full", progress: io.Discard}
	n, err := r.run(t.Context())
	if err != nil || n.counted != 701 || n.others != 4 || n.rejected != 0 {
		t.Errorf("run() = %+v, %v, want 701 counted and 4 of another reason", n, err)
	}
	if n, err = r.run(t.Context()); err != nil || n.counted != 0 {
		t.Errorf("a second run() = %+v, %v, want none counted", n, err)
	}
	if sum, contributions := counted(t, s); sum != 700 || contributions != 1 {
		t.Errorf("counted %d and %d contributions, want 700 and 1", sum, contributions)
	}
	r = &rejectedRedriver{ledger: s, partitions: 64, progress: io.Discard}
	if n, err = r.run(t.Context()); err != nil || n.counted != 4 || waiting(t, s) != 0 {
		t.Errorf("run() without a reason = %+v, %v and leaves %d, want 4 and 0", n, err, waiting(t, s))
	}
}

// A full partition keeps what does not fit, and more partitions take it.
func TestRejectedEntriesFitAfterPartitionsWereRaised(t *testing.T) {
	t.Parallel()
	s := databasetest.Store(t)
	filled := store.Commit{}
	size := 0
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s_%s", "full", strings.TrimPrefix(tagName(i), "tag_"))
		if size += checkpoint.TagSize(name); size > checkpoint.MaxTotals-2*checkpoint.TagSize("tag_bb") {
			break
		}
		filled.Next.Totals = append(filled.Next.Totals, checkpoint.Total{Name: name, Total: 1, Increments: 1})
	}
	slices.SortFunc(filled.Next.Totals, func(a, b checkpoint.Total) int { return strings.Compare(a.Name, b.Name) })
	filled.Next.Commit, filled.Next.UpdatedAt = 1, time.Now().UTC().Truncate(time.Millisecond)
	if _, err := s.Commit(t.Context(), filled); err != nil {
		t.Fatal(err)
	}
	reject(t, s, 100, full)
	r := &rejectedRedriver{ledger: s, partitions: 1, progress: io.Discard}
	n, err := r.run(t.Context())
	if err != nil || n.rejected == 0 || n.counted == 0 || n.rejected+n.counted != 101 || waiting(t, s) != n.rejected {
		t.Fatalf("run() = %+v, %v, and %d wait: want a few counted and the rest waiting", n, err, waiting(t, s))
	}
	r.partitions = 64 // of which partition 0 is still full
	if n, err = r.run(t.Context()); err != nil || n.rejected != 0 || waiting(t, s) != 0 {
		t.Fatalf("run() with 64 partitions = %+v, %v, and %d wait: want all counted", n, err, waiting(t, s))
	}
	tags, err := s.Tags(t.Context())
	if err != nil || len(tags) != 100 {
		t.Errorf("%d tags are counted, %v, want 100", len(tags), err)
	}
}

// Two redrivers at once, lost replies, failures and conflicts count each entry once.
func TestRedriversAtTheSameTimeCountOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s := databasetest.Store(t)
			reject(t, s, 300, full)
			reject(t, s, 300, full)
			unreliable := faults.New(func(call faults.Call) faults.Fault {
				if call.Method != "Commit" {
					return nil
				}
				switch (uint64(call.Number) + seed) % 4 {
				case 0:
					return faults.LoseReply(context.DeadlineExceeded)
				case 1:
					return faults.Fail(context.DeadlineExceeded)
				default:
					return nil
				}
			})
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					r := &rejectedRedriver{ledger: unreliable.Store(s), partitions: 4, progress: io.Discard}
					if _, err := r.run(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			both.Wait()
			if sum, contributions := counted(t, s); sum != 600 || contributions != 2 || waiting(t, s) != 0 {
				t.Errorf("counted %d and %d contributions, %d wait: want 600, 2 and 0", sum, contributions, waiting(t, s))
			}
		})
	}
}

// An entry that the store refuses is left, and the others of its document are counted.
func TestRefusedEntryStaysAlone(t *testing.T) {
	t.Parallel()
	s := databasetest.Store(t)
	reject(t, s, 100, "the store refuses the document")
	refusing := faults.New(func(call faults.Call) faults.Fault {
		if call.Commit != nil {
			for _, d := range call.Commit.Tags {
				if d.Name == tagName(42) {
					return faults.Fail(store.ErrRefused)
				}
			}
		}
		return nil
	})
	r := &rejectedRedriver{ledger: refusing.Store(s), partitions: 1, progress: io.Discard}
	n, err := r.run(t.Context())
	if err != nil || n.counted != 100 || n.rejected != 1 || waiting(t, s) != 1 {
		t.Errorf("run() = %+v, %v, and %d wait: want 100 counted and one left", n, err, waiting(t, s))
	}
}

func TestDryRunChangesNoRejectedEntry(t *testing.T) {
	t.Parallel()
	s := databasetest.Store(t)
	reject(t, s, 5, full)
	r := &rejectedRedriver{ledger: s, partitions: 1, dryRun: true, progress: io.Discard}
	n, err := r.run(t.Context())
	if err != nil || n.counted != 6 || waiting(t, s) != 6 {
		t.Errorf("run() = %+v, %v, and %d wait, want 6 to be counted and 6 waiting", n, err, waiting(t, s))
	}
}

// What is discarded is gone and not counted, and a record of each entry is kept, also through lost replies.
func TestDiscardedEntriesAreRecorded(t *testing.T) {
	t.Parallel()
	s := databasetest.Store(t)
	reject(t, s, 700, "the store refuses the document")
	reject(t, s, 3, full)
	unreliable := faults.New(func(call faults.Call) faults.Fault {
		if call.Method == "Commit" && call.Number == 1 {
			return faults.LoseReply(context.DeadlineExceeded)
		}
		return nil
	})
	r := &rejectedRedriver{ledger: unreliable.Store(s), partitions: 64, reason: "refuses", discard: true, progress: io.Discard}
	n, err := r.run(t.Context())
	if err != nil || n.counted != 701 || n.others != 4 || n.rejected != 0 || waiting(t, s) != 4 {
		t.Errorf("run() = %+v, %v and leaves %d, want 701 discarded and 4 left", n, err, waiting(t, s))
	}
	if sum, contributions := counted(t, s); sum != 0 || contributions != 0 {
		t.Errorf("counted %d and %d contributions, want none", sum, contributions)
	}
	records, err := s.Audits(t.Context(), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	entries := 0
	for _, record := range records {
		var content struct {
			Entries []struct{ Tag, Contributor, Reason string }
		}
		if err := json.Unmarshal(record.Record, &content); err != nil {
			t.Error(err)
		}
		for _, e := range content.Entries {
			if (e.Tag == "") == (e.Contributor == "") || !strings.Contains(e.Reason, "refuses") {
				t.Errorf("a record of %+v", e)
			}
		}
		entries += len(content.Entries)
	}
	if entries != 701 {
		t.Errorf("the records have %d entries, want 701", entries)
	}
}
