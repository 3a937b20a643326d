// Package simulate has the simulation: two of each service in one process, on the embedded broker and store, behind faults that a
// seed decides, with a simulated clock. It has tests only: make simulate runs many seeds, go test some.
package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/storetest"
	"github.com/accrue/accrue/tools/reconcile"
	"github.com/accrue/accrue/tools/redrive"
)

const (
	// trouble is how long there are faults, and patience how long after them everything must be exact: a tag's document that the
	// store has refused is left alone for ten minutes if it is written later than its checkpoint.
	trouble, patience = 25 * time.Second, 20 * time.Minute
	// few is how many seeds go test runs.
	few = 20
)

// totals of a run, over its seeds.
type totals struct {
	tally      *tally
	simulated  atomic.Int64
	posts      atomic.Int64
	increments atomic.Int64
	recognized atomic.Int64
}

func TestSimulation(t *testing.T) {
	first, seeds := uint64(1), few
	if n, err := strconv.Atoi(os.Getenv("SEEDS")); err == nil {
		seeds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("FIRST"), 10, 64); err == nil {
		first = n
	}
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		first, seeds = n, 1
	}
	all := &totals{tally: &tally{counts: make(map[kind]int)}}
	began := time.Now()
	t.Run("seeds", func(t *testing.T) {
		for seed := first; seed < first+uint64(seeds); seed++ {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					if found := simulate(t, seed, all, nil); found != "" {
						t.Error(found)
					}
				})
				if t.Failed() {
					t.Logf("to repeat it: make simulate SEED=%d", seed)
				}
			})
		}
	})
	table, missing := all.tally.report()
	t.Logf("%d seeds, %.1f simulated hours in %v: %d posts, the values of which add up to %d, %d recognitions; faults:\n%s", seeds,
		time.Duration(all.simulated.Load()).Hours(), time.Since(began).Round(time.Second), all.posts.Load(), all.increments.Load(),
		all.recognized.Load(), table)
	if seeds > 1 && len(missing) > 0 {
		t.Errorf("never reached: %q", missing)
	}
}

// simulate runs one seed: trouble, then none, and then everything must be exact.
// It returns what is not.
func simulate(t *testing.T, seed uint64, all *totals, plant func(storetest.Store) storetest.Store) (found string) {
	t.Helper()
	w := newWorld(t, seed, all.tally, plant)
	random := w.random("beginning")
	time.Sleep(time.Hour - trouble + time.Duration(random.Int64N(int64(2*trouble)))) // an hour ends during the trouble, or not
	began := time.Now()
	for _, name := range []string{ingests, aggregators, queries} {
		for slot := range slots {
			w.start(name, slot, random)
		}
	}
	ctx, end := context.WithTimeout(t.Context(), trouble)
	defer end()
	reading, endReading := context.WithCancel(t.Context())
	defer endReading()
	var producers, readers sync.WaitGroup
	for id := range 3 {
		producers.Go(func() { w.keyed(ctx, id) })
	}
	for id := range 2 {
		producers.Go(func() { w.plain(ctx, id) })
	}
	for slot := range slots {
		readers.Go(func() { w.read(reading, slot) })
	}
	w.conduct(ctx)
	w.heal()
	producers.Wait() // each keyed post is accepted now

	wrong := w.settle()
	endReading()
	readers.Wait()
	for _, name := range []string{ingests, aggregators, queries} {
		for slot := range slots {
			w.stop(name, slot)
		}
	}
	for _, l := range w.links {
		l.faults.Wait()
	}
	w.ending.Wait()
	if wrong == "" {
		wrong = w.wrong() // late requests changed nothing
	}
	if wrong != "" {
		w.faulty("%v after the last fault: %s", patience, wrong)
	}
	all.recognized.Add(int64(w.verifyEvents()))
	w.verifyLetters()
	w.reconcile()
	if text := w.lines.String(); strings.Contains(text, "panic") || strings.Contains(text, "an assertion failed") {
		w.faulty("logged: %.2000s", text)
	}
	all.simulated.Add(int64(time.Since(began)))
	all.posts.Add(int64(w.ledger.posts))
	for _, least := range w.ledger.least {
		all.increments.Add(least)
	}
	return w.faults()
}

// settle waits until everything is exact, and stays so, and returns what is not.
func (w *world) settle() (wrong string) {
	time.Sleep(latest) // a publish that arrives only now counts, and its tags' documents are written later
	for began := time.Now(); time.Since(began) < patience; time.Sleep(max(time.Second, time.Since(began)/10)) {
		if _, left, err := redrive.Entries(w.t.Context(), w.store, 4); err != nil || left > 0 {
			continue
		}
		if wrong = w.wrong(); wrong == "" {
			time.Sleep(20 * time.Second) // late requests arrive, and leases end
			return w.wrong()
		}
	}
	return wrong
}

// wrong returns what is not as it must be, or "".
func (w *world) wrong() string {
	ctx := w.t.Context()
	waiting, err := w.broker.Waiting(ctx)
	if err != nil {
		return err.Error()
	}
	if n := waiting["increments/aggregator"]; n > 0 {
		return fmt.Sprintf("%d messages wait", n)
	}
	if n, err := w.store.Waiting(ctx); err != nil || n > 0 {
		return fmt.Sprintf("%d rejected entries wait: %v", n, err)
	}
	partitions, _, err := w.store.Totals(ctx)
	if err != nil {
		return err.Error()
	}
	sums := make(map[string]int64)
	for _, p := range partitions {
		for _, total := range p.Totals {
			sums[total.Name] += total.Total
		}
	}
	if fault := w.compare(sums); fault != "" {
		return fault
	}
	documents, err := w.store.Tags(ctx)
	if err != nil {
		return err.Error()
	}
	for _, tag := range documents {
		if tag.Total != sums[tag.Name] {
			return fmt.Sprintf("the document of %s has %d, its checkpoints %d", tag.Name, tag.Total, sums[tag.Name])
		}
	}
	for _, resolution := range []checkpoint.Resolution{checkpoint.Minute, checkpoint.Hour} {
		history, err := w.history(ctx, partitions, resolution)
		if err != nil {
			return err.Error()
		}
		for tag, sum := range sums {
			if history[tag] != sum {
				return fmt.Sprintf("the history of %s adds up to %d, its total is %d", tag, history[tag], sum)
			}
		}
	}
	return w.standings(ctx)
}

// compare compares totals with what producers know.
func (w *world) compare(sums map[string]int64) string {
	l := &w.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for tag, sum := range sums {
		least, most := l.least[tag], l.most[tag]
		if sum < least || sum > most {
			return fmt.Sprintf("%s is %d, want %d to %d", tag, sum, least, most)
		}
		if !strings.HasPrefix(tag, "plain_") && sum != least {
			return fmt.Sprintf("%s is %d, want %d", tag, sum, least)
		}
	}
	for tag, least := range l.least {
		if sums[tag] < least {
			return fmt.Sprintf("%s is %d, want %d", tag, sums[tag], least)
		}
	}
	return ""
}

func (w *world) history(ctx context.Context, partitions []store.PartitionTotals, r checkpoint.Resolution) (map[string]int64, error) {
	sums := make(map[string]int64)
	for _, p := range partitions {
		for _, total := range p.Totals {
			sums[total.Name] += total.Open(r)
		}
		periods, err := w.store.History(ctx, p.Partition, r, time.Now().Add(-5*time.Hour), time.Now().Add(5*time.Hour))
		if err != nil {
			return nil, err
		}
		for _, period := range periods {
			changes, err := checkpoint.UnpackChanges(period.Changes)
			if err != nil {
				return nil, err
			}
			for _, c := range changes {
				sums[c.Name] += c.Change
			}
		}
	}
	return sums, nil
}

// due returns who must be recognized.
func (w *world) due() map[string]bool {
	due := make(map[string]bool)
	for id, n := range w.ledger.contributions {
		if n >= 3 {
			due[id] = true
		}
	}
	return due
}

// standings checks that everybody has their contributions, and one recognition if they have three, and none otherwise.
func (w *world) standings(ctx context.Context) string {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	for id, n := range w.ledger.contributions {
		standing, err := w.store.Standing(ctx, id)
		if err != nil || standing.Contributions != n || len(standing.Recognitions) > 1 || (len(standing.Recognitions) == 1) != (n >= 3) {
			return fmt.Sprintf("%s is %+v, want %d contributions: %v", id, standing, n, err)
		}
	}
	pending, _, err := w.store.Pending(ctx, store.Recognition{}, 10)
	if err != nil || len(pending) > 0 {
		return fmt.Sprintf("%d events are not sent: %v", len(pending), err)
	}
	return ""
}

// reconcile has a second opinion: everything that was published, whoever was told so, adds up to what was counted.
func (w *world) reconcile() {
	var published []*message.Batch
	for _, d := range pull(w.t, w.archive) {
		if b, err := message.Decode(d.Data); err == nil {
			published = append(published, b)
		}
	}
	if err := reconcile.Messages(w.t.Context(), w.store, published); err != nil {
		w.faulty("%v", err)
	}
}

// verifyEvents checks that there is one event for everybody who is due, or unchanged copies of it. It returns their number.
func (w *world) verifyEvents() int {
	events := make(map[string]string)
	for _, d := range pull(w.t, w.recognized) {
		var event struct{ Contributor string }
		if err := json.Unmarshal(d.Data, &event); err != nil {
			w.faulty("an event is %s: %v", d.Data, err)
		}
		text := d.Attributes["ce-id"] + " " + string(d.Data)
		if before, ok := events[event.Contributor]; ok && before != text {
			w.faulty("two events for %s: %s and %s", event.Contributor, before, text)
		}
		events[event.Contributor] = text
	}
	due := w.due()
	for id := range due {
		if events[id] == "" {
			w.faulty("no event for %s", id)
		}
	}
	for id := range events {
		if !due[id] {
			w.faulty("an event for %s, who is not due", id)
		}
	}
	return len(events)
}

// verifyLetters checks that the dead letters are what could not be decoded, and nothing else. A copy is none too many.
func (w *world) verifyLetters() {
	found := make(map[string]bool)
	for _, d := range pull(w.t, w.letters) {
		found[string(d.Data)] = true
		if !w.ledger.letters[string(d.Data)] {
			w.faulty("a dead letter was not sent: %q", d.Data)
		}
	}
	for text := range w.ledger.letters {
		if !found[text] {
			w.faulty("%q is not among the dead letters", text)
		}
	}
}
