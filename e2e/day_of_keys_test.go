package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/tools/emulator"
)

// An aggregator that starts after a day of 100 Commits with keys a second counts its first increment within 10 s, and a
// repeat of a key from the beginning, the middle or the end does not count. It runs with MEASURE=1 only; package aggregator has
// a test with a simulated clock.
func TestADayOfKeysIsKnownSoonAfterAStart(t *testing.T) {
	if !measuring() {
		t.Skip("MEASURE is not set")
	}
	const partitions, perFold, folds = 100, 256, 337 // a Commit a second in each partition, for a day
	e, err := emulator.StartFirestore(t.Context(), emulator.Options{HeapMiB: 6000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := newSystemOn(t, e.Host)
	s.variables["PARTITIONS"], s.variables["IDEMPOTENCY_HORIZON"] = fmt.Sprint(partitions), "24h"
	s.variables["IDEMPOTENCY_KEYS"] = fmt.Sprint(2 * partitions * perFold * folds)
	documents, err := firestore.Connect(t.Context(), s.project, "(default)", e.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close() //nolint:errcheck // all writes are answered
	key := func(partition uint32, commit int) string { return fmt.Sprintf("%d-%d", partition, commit) }
	begun := time.Now().Add(-perFold * folds * time.Second)
	seed := func(partition uint32) error {
		var state store.State
		position := store.KeysPosition{At: begun}
		for n := range folds {
			next := state.Checkpoint.Next(begun.Add(time.Duration(n+1)*perFold*time.Second), 8*24*time.Hour, nil, nil)
			next.Commit = uint64(perFold * (n + 1))
			fold := &store.Fold{After: position}
			fold.KeysPosition = store.KeysPosition{At: next.UpdatedAt, Commit: next.Commit}
			for commit := perFold * n; commit < perFold*(n+1); commit++ {
				prefix, item := message.KeyOf(key(partition, commit)).Split()
				fold.Keys = append(fold.Keys, checkpoint.KeyRange{Prefix: prefix, First: item, Last: item})
			}
			revision, err := documents.Commit(t.Context(), store.Commit{
				Partition: partition, Revision: state.Revision, Next: next, Fold: fold, KeepKeys: 25 * time.Hour,
			})
			if err != nil {
				return fmt.Errorf("partition %d: %w", partition, err)
			}
			state, position = store.State{Checkpoint: next, Revision: revision}, fold.KeysPosition
		}
		return nil
	}
	numbers, faults := make(chan uint32), make(chan error, partitions)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for partition := range numbers {
				faults <- seed(partition)
			}
		})
	}
	for partition := range uint32(partitions) {
		numbers <- partition
	}
	close(numbers)
	workers.Wait()
	close(faults)
	for err := range faults {
		if err != nil {
			t.Fatal(err)
		}
	}

	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	names := make(map[uint32]string) // by partition
	for first := 'a'; first <= 'z'; first++ {
		for second := 'a'; second <= 'z'; second++ {
			name := fmt.Sprintf("tag_%c%c", first, second)
			names[increment.Partition(name, partitions)] = name
		}
	}
	want := make(map[string]int64)
	post := func(name, key string) {
		p := posting{path: "/increments", body: fmt.Sprintf(`{"name":%q,"value":4}`, name), key: key}
		if status, err := p.try(t.Context(), ingest.url); err != nil || status != http.StatusAccepted {
			t.Fatalf("%d, %v", status, err)
		}
	}
	const asked = 1 // the emulator looks at all partitions' documents for each query, so that many at once take minutes
	for partition, name := range names {
		if len(want) == asked {
			break
		}
		for _, commit := range []int{5, perFold * folds / 2, perFold*folds - 1} {
			post(name, key(partition, commit))
		}
		post(name, "new-"+name)
		want[name] = 4
	}
	started := time.Now()
	aggregator := s.start(t, "aggregator")
	var first time.Duration
	await(t, "all new increments counted", 2*time.Minute, func() error {
		got, err := stats(query)
		if err == nil && len(got) > 0 && first == 0 {
			first = time.Since(started)
		}
		if err == nil && len(got) < len(want) {
			err = errors.New("some are missing")
		}
		return err
	})
	all := time.Since(started)
	awaitStats(t, query, want, time.Minute)
	if first > 10*time.Second {
		t.Errorf("the first increment was counted after %v", first)
	}
	if repeated := metric(t, aggregator, "accrue_keys_repeated_total"); repeated != 3*asked {
		t.Errorf("%v repeated, want %d", repeated, 3*asked)
	}
	t.Logf("%d keys in %d partitions: the first of %d counted after %v, all after %v", partitions*perFold*folds, partitions, asked, first, all)
}
