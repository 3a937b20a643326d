package aggregator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// Three committers come and go on one subscription, while requests and replies get lost, messages come twice and
// acknowledgements are forgotten. Taken out, one at a time, each guard makes this fail at once: without Contains in
// dropCounted tags come out 4 to 6 times too high; without the precondition in the store 1.3 times too high, and twice as
// high as the checkpoints; without joining the second deliveries in a window 1.6 times too high.
func TestEachMessageCountsOnceThroughFaults(t *testing.T) {
	t.Parallel()
	for range heavy(30) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.config.CommitDocuments = 1 + rand.N(8)
			r.config.BufferBytes = 1 + rand.N[int64](100_000)
			var stops []*running
			for range 3 {
				stops = append(stops, r.start(t, &chaoticSource{Subscription: r.subscription}, &chaoticLedger{r.store}))
			}
			for n := range 200 {
				var tags []string
				for range 1 + rand.N(5) {
					tags = append(tags, "tag_"+string(rune('a'+rand.N(12))))
				}
				r.publish(t, rand.N[uint32](3), tags...)
				time.Sleep(rand.N(100 * time.Millisecond))
				if n%20 == 0 { // one is stopped, and another takes its place
					i := rand.N(len(stops))
					stops[i].stop(t)
					stops[i] = r.start(t, &chaoticSource{Subscription: r.subscription}, &chaoticLedger{r.store})
				}
			}
			for databasetest.Held(t, r.subscription) > 0 { // forgotten acknowledgements come back with the lease's end
				time.Sleep(AckDeadline)
			}
			for _, one := range stops {
				one.stop(t)
			}
			time.Sleep(time.Second) // Commits that were given up on come in
			r.verify(t)
		})
	}
}

// The same, with producers that post again with the key that they have posted with, while the committers come and go.
func TestEachKeyCountsOnceThroughFaults(t *testing.T) {
	t.Parallel()
	for range heavy(30) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			var stops []*running
			for range 3 {
				stops = append(stops, r.start(t, &chaoticSource{Subscription: r.subscription}, &chaoticLedger{r.store}))
			}
			posted := make(map[string]bool)
			for n := range 300 {
				key := fmt.Sprint(rand.N(100))
				partition := uint32(len(key)) // a key's retry is of the same tag, and so of the same partition
				r.post(t, partition, "tag_"+string('a'+key[len(key)-1]-'0'), key, !posted[key])
				posted[key] = true
				time.Sleep(rand.N(200 * time.Millisecond))
				if n%15 == 0 { // one is stopped, and another, which knows nothing, takes its place
					i := rand.N(len(stops))
					stops[i].stop(t)
					stops[i] = r.start(t, &chaoticSource{Subscription: r.subscription}, &chaoticLedger{r.store})
				}
			}
			for databasetest.Held(t, r.subscription) > 0 {
				time.Sleep(AckDeadline)
			}
			for _, one := range stops {
				one.stop(t)
			}
			time.Sleep(time.Second)
			r.verify(t)
		})
	}
}

// A producer that gives one key to two tags of a partition has the first counted.
func TestAKeyThatIsReusedForAnotherTagIsNotCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		run := r.start(t, r.subscription, r.store)
		for n := range 20 {
			key := fmt.Sprint(n)
			r.post(t, 1, "foo", key, true)
			if n%2 == 0 {
				time.Sleep(2 * time.Second)
			}
			r.post(t, 1, "bar", key, false)
			time.Sleep(2 * time.Second)
		}
		if repeated, reused := run.metric(t, "accrue_keys_repeated_total"), run.metric(t, "accrue_keys_reused_total"); repeated != 20 || reused != 20 {
			t.Errorf("%v repeated, %v of them reused, want 20 and 20", repeated, reused)
		}
		run.stop(t)
		r.verify(t)
	})
}

// However long an outage is, what the closed periods and the open ones say adds up to the totals: a minute leaves the
// checkpoint only with the Commit that writes its document.
func TestHistoryAddsUpToTheTotalsThroughFaults(t *testing.T) {
	t.Parallel()
	for range heavy(10) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			begun := time.Now()
			stopOne := r.start(t, &chaoticSource{Subscription: r.subscription}, &chaoticLedger{r.store})
			stopTwo := r.start(t, &chaoticSource{Subscription: r.subscription}, &chaoticLedger{r.store})
			for range 200 {
				r.publish(t, rand.N[uint32](3), "foo", "bar")
				time.Sleep(rand.N(2 * time.Minute))
			}
			for databasetest.Held(t, r.subscription) > 0 {
				time.Sleep(AckDeadline)
			}
			stopOne.stop(t)
			stopTwo.stop(t)
			time.Sleep(time.Second)
			r.verify(t)
			for _, resolution := range checkpoint.Resolutions() {
				if got := r.history(t, resolution, begun); got["foo"] != 200 || got["bar"] != 200 {
					t.Errorf("periods of %v add up to %v, want 200 each", time.Duration(resolution), got)
				}
			}
		})
	}
}

func TestAPartitionCommitsOnceAWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ledger := &countingLedger{Ledger: r.store}
		stop := r.start(t, r.subscription, ledger)
		defer stop.stop(t)
		for range 10 {
			r.publish(t, 1, "foo", "bar")
			time.Sleep(90 * time.Millisecond)
		}
		time.Sleep(99 * time.Millisecond) // 999 ms after the first message
		if got := ledger.commits.Load(); got != 0 {
			t.Errorf("%d commits before the window's end", got)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if commits, documents := ledger.commits.Load(), ledger.documents.Load(); commits != 1 || documents != 2 {
			t.Errorf("%d commits of %d documents at the window's end, want 1 of 2", commits, documents)
		}
		r.verify(t)
	})
}

func TestAFullWindowIsCommittedEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.config.BufferBytes = 16 * 1000
		ledger := &countingLedger{Ledger: r.store}
		stop := r.start(t, r.subscription, ledger)
		defer stop.stop(t)
		r.publish(t, 1, manyTags(20)...) // more than 1,000 bytes in memory
		time.Sleep(10 * time.Millisecond)
		if got := ledger.commits.Load(); got != 1 {
			t.Errorf("%d commits of a full window, want 1", got)
		}
	})
}

func TestNothingIsAcknowledgedBeforeItsCommitIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		source := &recordingSource{Subscription: r.subscription}
		ledger := &stallingLedger{r.store, make(chan struct{})}
		stop := r.start(t, source, ledger)
		defer stop.stop(t)
		r.publish(t, 1, "foo")
		time.Sleep(5 * time.Minute)
		if got := source.acknowledged.Load(); got != 0 {
			t.Errorf("%d messages acknowledged while their commit was under way", got)
		}
		if r.sequences[1] != 1 || source.pulls.Load() != 1 {
			t.Errorf("the message was delivered %d times: its lease was not kept", source.pulls.Load())
		}
		if source.extended.Load() == 0 {
			t.Error("no lease was extended")
		}
		close(ledger.release)
		time.Sleep(10 * time.Second)
		if got := source.acknowledged.Load(); got != 1 {
			t.Errorf("%d messages acknowledged after the commit, want 1", got)
		}
		r.verify(t)
	})
}

func TestLeasesAreNotExtendedWhileCommitsAreInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		source := &recordingSource{Subscription: r.subscription}
		stop := r.start(t, source, r.store)
		defer stop.stop(t)
		for range 300 {
			r.publish(t, 1, "foo")
			time.Sleep(time.Second)
		}
		if got := source.extended.Load(); got != 0 {
			t.Errorf("%d leases were extended", got)
		}
	})
}

func TestNothingIsPulledWhileTheBufferIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.config.BufferBytes = 10_000
		ledger := &stallingLedger{r.store, make(chan struct{})}
		run := r.start(t, r.subscription, ledger)
		defer run.stop(t)
		for range 10 {
			for range 20 { // some 18,000 bytes in memory
				r.publish(t, 1, manyTags(10)...)
			}
			for range 50 {
				time.Sleep(100 * time.Millisecond)
				if held := run.metric(t, "accrue_held_bytes"); held > 12_000 {
					t.Fatalf("%v bytes are held, more than the buffer", held)
				}
			}
		}
		close(ledger.release)
		time.Sleep(5 * time.Minute)
		r.verify(t)
	})
}

func TestStopCommitsWhatIsHeldWithoutWaitingForTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.config.Window = 20 * time.Second
		stop := r.start(t, r.subscription, r.store)
		for partition := range uint32(5) {
			r.publish(t, partition, "foo")
		}
		time.Sleep(100 * time.Millisecond)
		before := time.Now()
		stop.stop(t)
		if took := time.Since(before); took > 600*time.Millisecond { // a Pull ends after 500 ms
			t.Errorf("the stop took %v", took)
		}
		if got := databasetest.Held(t, r.subscription); got != 0 {
			t.Errorf("%d messages are not acknowledged", got)
		}
		r.verify(t)
	})
}

func TestStopGivesBackWhatItCannotCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		source := &recordingSource{Subscription: r.subscription}
		stop := r.start(t, source, &stallingLedger{r.store, make(chan struct{})})
		for range 3 {
			r.publish(t, 1, "foo")
			time.Sleep(time.Second)
		}
		before := time.Now()
		stop.stop(t)
		if took := time.Since(before); took > 8*time.Second {
			t.Errorf("the stop took %v", took)
		}
		if got := source.released.Load(); got != 3 {
			t.Errorf("%d messages given back, want 3", got)
		}
		again := r.start(t, r.subscription, r.store) // has them at once
		time.Sleep(2 * time.Second)
		again.stop(t)
		r.verify(t)
	})
}

func TestAWindowIsSplitAtTheLimitOfDocuments(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.config.CommitDocuments = 10
		ledger := &countingLedger{Ledger: r.store}
		stop := r.start(t, r.subscription, ledger)
		tags := manyTags(40)
		for i := range 10 {
			r.publish(t, 1, tags[i*4:i*4+4]...)
		}
		time.Sleep(2 * time.Second)
		stop.stop(t)
		if commits, most := ledger.commits.Load(), ledger.most.Load(); commits != 5 || most != 8 {
			t.Errorf("%d commits of up to %d documents, want 5 of 8", commits, most)
		}
		r.verify(t)
	})
}

func TestUndecodableMessagesAreDeadLettered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		stop := r.start(t, r.subscription, r.store)
		r.publishRaw(t, []byte("garbage"))
		r.publish(t, 1, "foo")
		time.Sleep(2 * time.Second)
		stop.stop(t)
		letters := deadLetters(t, r)
		if len(letters) != 1 || string(letters[0].Data) != "garbage" || !strings.Contains(letters[0].Attributes[message.ReasonAttribute], "invalid") {
			t.Errorf("dead letters = %v", letters)
		}
		if got := databasetest.Held(t, r.subscription); got != 0 {
			t.Errorf("%d messages are not acknowledged", got)
		}
		r.verify(t)
	})
}

// Of messages with an entry that the store refuses, that entry alone is rejected.
func TestEntriesThatTheStoreRefusesAreRejected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		run := r.start(t, r.subscription, &refusingLedger{r.store, "poison"})
		for i := range 100 {
			r.publish(t, 1, "foo", name(i))
			if i%40 == 17 {
				r.publish(t, 1, "poison", "foo")
			}
		}
		delete(r.want, "poison")
		time.Sleep(2 * time.Second)
		if got := run.metric(t, "accrue_entries_rejected_total"); got != 3 {
			t.Errorf("%v entries rejected, want 3", got)
		}
		run.stop(t)
		r.verify(t)
		entries := rejected(t, r)
		if len(entries) != 3 {
			t.Errorf("%d rejected entries, want 3", len(entries))
		}
		for _, e := range entries {
			if e.Tag != "poison" || e.Value != 1 || !strings.Contains(e.Reason, "refuses") {
				t.Errorf("rejected %+v", e)
			}
		}
		if held := databasetest.Held(t, r.subscription); held != 0 {
			t.Errorf("%d messages are not settled", held)
		}
	})
}

// A store that refuses every Commit, as one that is set up wrongly does, is no fault of any entry.
func TestNothingIsRejectedWhenTheStoreRefusesEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		run := r.start(t, r.subscription, &refusingLedger{r.store, ""})
		r.publish(t, 1, "foo")
		time.Sleep(time.Minute)
		run.stop(t)
		if entries := rejected(t, r); len(entries) != 0 {
			t.Errorf("rejected %v, want none", entries)
		}
		again := r.start(t, r.subscription, r.store)
		time.Sleep(2 * time.Second)
		again.stop(t)
		r.verify(t)
	})
}

func TestAFullCheckpointCountsKnownTagsAndRejectsNewOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		fillCheckpoint(t, r, 1)
		run := r.start(t, r.subscription, r.store)
		r.publish(t, 1, "aaaaaaa", "aaaaaab")
		r.publish(t, 1, "aaaaaaa", "brand_new", "brand_new")
		delete(r.want, "brand_new")
		r.publish(t, 2, "brand_new") // another partition has room
		time.Sleep(2 * time.Second)
		run.stop(t)
		r.verify(t)
		entries := rejected(t, r)
		if len(entries) != 2 || entries[0].Tag != "brand_new" || !strings.Contains(entries[0].Reason, "full") {
			t.Errorf("rejected %v, want two of brand_new", entries)
		}
		if held := databasetest.Held(t, r.subscription); held != 0 {
			t.Errorf("%d messages are not settled", held)
		}
	})
}

// A rejected entry counts as known: a retry with its key is neither counted nor rejected again.
func TestARetryOfARejectedEntryIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		fillCheckpoint(t, r, 1)
		for range 2 {
			run := r.start(t, r.subscription, r.store)
			r.post(t, 1, "brand_new", "order-1", false)
			time.Sleep(2 * time.Second)
			run.stop(t)
		}
		r.verify(t)
		if entries := rejected(t, r); len(entries) != 1 || entries[0].Key != message.KeyOf("order-1") {
			t.Errorf("rejected %v, want one", entries)
		}
	})
}

// rejected returns all rejected entries.
func rejected(t *testing.T, r *rig) (entries []checkpoint.Rejected) {
	t.Helper()
	documents, err := r.store.Rejected(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents {
		entries = append(entries, d.Entries...)
	}
	return entries
}

// fillCheckpoint commits as many tags to the partition as its checkpoint takes.
func fillCheckpoint(t *testing.T, r *rig, partition uint32) {
	t.Helper()
	var tags []checkpoint.Delta
	for i, size := 0, 16; size+checkpoint.TagSize("aaaaaaa") <= checkpoint.MaxTotals; i++ {
		name := name(i)
		tags = append(tags, checkpoint.Delta{Name: name, Value: 1, Increments: 1})
		r.want[name]++
		size += checkpoint.TagSize(name)
	}
	var state store.State
	for some := range slices.Chunk(tags, 10_000) { // one Commit of all would be larger than Firestore takes
		next := state.Checkpoint.Next(time.Now(), 8*24*time.Hour, nil, some)
		revision, err := r.store.Commit(t.Context(), store.Commit{Partition: partition, Revision: state.Revision, Next: next, Tags: some})
		if err != nil {
			t.Fatal(err)
		}
		state = store.State{Checkpoint: next, Revision: revision}
	}
}

func deadLetters(t *testing.T, r *rig) []broker.Delivery {
	t.Helper()
	letters, err := r.deadLetters.Pull(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	receipts := make([]string, len(letters))
	for i, letter := range letters {
		receipts[i] = letter.Receipt
	}
	if err := r.deadLetters.Acknowledge(t.Context(), receipts); err != nil {
		t.Fatal(err)
	}
	return letters
}

// name is the i-th name of seven letters, in order.
func name(i int) string {
	return strings.Map(func(r rune) rune { return r - '0' + 'a' }, fmt.Sprintf("%07d", i))
}

func manyTags(n int) []string {
	tags := make([]string, n)
	for i := range tags {
		tags[i] = name(i)
	}
	return tags
}
