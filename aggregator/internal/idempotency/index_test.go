package idempotency_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/aggregator/internal/idempotency"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

const (
	horizon = 15 * time.Minute
	plenty  = 1 << 30
)

var start = time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)

// keyed is a batch accepted at a time, of increments of one tag and value with these keys; "" is none.
func keyed(at time.Time, tag string, value uint8, keys ...string) *message.Batch {
	b := &message.Batch{AcceptedAt: at}
	for _, k := range keys {
		inc := message.Increment{Tag: tag, Value: value}
		if k != "" {
			inc.Key = message.KeyOf(k)
		}
		b.Increments = append(b.Increments, inc)
	}
	return b
}

// count claims and confirms at once, and returns how many entries were left.
func count(x *idempotency.Index, at time.Time, batches ...*message.Batch) (idempotency.Claim, int) {
	c := x.Claim(1, batches)
	x.Confirm(c, at)
	n := 0
	for _, b := range c.Batches {
		n += b.Entries()
	}
	return c, n
}

func TestTheFirstOfAKeyCounts(t *testing.T) {
	t.Parallel()
	x := idempotency.NewIndex(horizon, plenty)
	c, n := count(x, start, keyed(start, "foo", 4, "a", "b", "a", ""), keyed(start, "foo", 4, "b", "", "c"))
	if n != 5 || c.Repeated != 2 || c.Reused != 0 || len(c.Keys) != 3 {
		t.Errorf("counted %d of 7, %+v", n, c)
	}
	if c, n = count(x, start.Add(horizon), keyed(start.Add(horizon), "foo", 4, "a", "b", "c", "d")); n != 1 || c.Repeated != 3 {
		t.Errorf("counted %d of 4 at the horizon, %+v", n, c)
	}
}

func TestAKeyOfSomethingElseIsReused(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]*message.Batch{
		"another value": keyed(start, "foo", 5, "k"),
		"another tag":   keyed(start, "bar", 4, "k"),
	} {
		x := idempotency.NewIndex(horizon, plenty)
		count(x, start, keyed(start, "foo", 4, "k"))
		if c, n := count(x, start, again); n != 0 || c.Repeated != 1 || c.Reused != 1 {
			t.Errorf("%s: counted %d, %+v", name, n, c)
		}
	}
}

func TestAnIncrementAndItsContributionHaveOneKey(t *testing.T) {
	t.Parallel()
	x := idempotency.NewIndex(horizon, plenty)
	b := keyed(start, "foo", 4, "k")
	b.Contributions = []message.Contribution{{Contributor: "ada", Key: message.KeyOf("k")}}
	if c, n := count(x, start, b); n != 2 || c.Repeated != 0 {
		t.Errorf("counted %d of 2, %+v", n, c)
	}
	if c, n := count(x, start, b); n != 0 || c.Repeated != 2 || c.Reused != 0 {
		t.Errorf("counted %d of the repeat, %+v", n, c)
	}
}

// What another partition's Commit has under way is claimed: a key that was given to two tags counts once.
func TestAClaimHoldsUntilItIsReleased(t *testing.T) {
	t.Parallel()
	x := idempotency.NewIndex(horizon, plenty)
	first := x.Claim(1, []*message.Batch{keyed(start, "foo", 4, "k")})
	if c := x.Claim(2, []*message.Batch{keyed(start, "bar", 4, "k")}); c.Repeated != 1 || c.Reused != 1 {
		t.Errorf("claimed twice: %+v", c)
	}
	x.Release(first)
	if c := x.Claim(1, first.Batches); c.Repeated != 0 || len(c.Keys) != 1 {
		t.Errorf("not released: %+v", c)
	}
	if x.Size() != 0 {
		t.Errorf("%d keys are known of no Commit", x.Size())
	}
}

func TestWhatWasLearnedIsKnown(t *testing.T) {
	t.Parallel()
	x := idempotency.NewIndex(horizon, plenty)
	counted := idempotency.NewIndex(horizon, plenty).Claim(1, []*message.Batch{keyed(start, "foo", 4, "k")}).Keys
	x.Learn(1, start.Add(-horizon), []store.CommitKeys{{Commit: 7, At: start, Keys: counted}})
	if c, n := count(x, start, keyed(start, "foo", 4, "k", "l")); n != 1 || c.Late != 0 {
		t.Errorf("counted %d, %+v", n, c)
	}
	if c, _ := count(x, start, keyed(start.Add(-time.Minute), "foo", 4, "m", "")); c.Late != 1 {
		t.Errorf("of keys that were not read: late %d, want 1", c.Late)
	}
}

// Messages wait for hours while no aggregator runs; their repeats wait with them.
func TestKeysWaitForMessages(t *testing.T) {
	t.Parallel()
	x := idempotency.NewIndex(horizon, plenty)
	count(x, start, keyed(start, "foo", 4, "first"))
	for i := range 300 { // a backlog of five minutes that takes five hours to count
		accepted, now := start.Add(time.Duration(i)*time.Second), start.Add(time.Duration(i)*time.Minute)
		if c, n := count(x, now, keyed(accepted, "foo", 4, fmt.Sprint(i), "first")); n != 1 || c.Repeated != 1 || c.Late > 0 {
			t.Fatalf("after %v counted %d, %+v", now.Sub(start), n, c)
		}
	}
}

func TestKeysLeaveAfterTheHorizon(t *testing.T) {
	t.Parallel()
	x := idempotency.NewIndex(horizon, plenty)
	for minute := range 600 {
		at := start.Add(time.Duration(minute) * time.Minute)
		if c, n := count(x, at, keyed(at, "foo", 4, fmt.Sprint(minute))); n != 1 || c.Late > 0 {
			t.Fatalf("in minute %d counted %d, %+v", minute, n, c)
		}
		if x.Size() > 22 { // the horizon, the slack, and two generations
			t.Fatalf("in minute %d, %d keys are known", minute, x.Size())
		}
	}
	// One that came so late that its repeats have left is counted, and said to be late.
	if c, n := count(x, start.Add(10*time.Hour), keyed(start, "foo", 4, "0")); n != 1 || c.Late != 1 {
		t.Errorf("hours late: counted %d, %+v", n, c)
	}
}

func TestTooManyKeysLeaveEarlyAndAreSaidToBeLate(t *testing.T) {
	t.Parallel()
	x := idempotency.NewIndex(horizon, 100)
	early, late := 0, 0
	for i := range 1000 {
		at := start.Add(time.Duration(i) * time.Second)
		c := x.Claim(1, []*message.Batch{keyed(at, "foo", 4, fmt.Sprint(i))})
		early += x.Confirm(c, at)
		late += c.Late
		if x.Size() > 100+112 { // a generation is whole
			t.Fatalf("%d keys are held", x.Size())
		}
	}
	if early == 0 || late == 0 {
		t.Errorf("%d left early, %d were late", early, late)
	}
}

// Whatever is repeated within the horizon, in whatever order Commits come and fail, is counted once.
func TestEveryKeyIsCountedOnceWithinTheHorizon(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := idempotency.NewIndex(horizon, plenty)
		now := start
		counted := make(map[message.Key]time.Time)
		for range rapid.IntRange(1, 60).Draw(t, "commits") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(4*time.Minute)).Draw(t, "pause")))
			var batches []*message.Batch
			for range rapid.IntRange(1, 3).Draw(t, "batches") {
				delay := time.Duration(rapid.Int64Range(0, int64(30*time.Second)).Draw(t, "delay"))
				keys := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f"}), 1, 5).Draw(t, "keys")
				batches = append(batches, keyed(now.Add(-delay), "foo", 4, keys...))
			}
			c := x.Claim(uint32(rapid.IntRange(0, 3).Draw(t, "partition")), batches)
			if rapid.Bool().Draw(t, "fails") {
				x.Release(c)
				continue
			}
			x.Confirm(c, now)
			for _, b := range c.Batches {
				for _, inc := range b.Increments {
					if first, again := counted[inc.Key]; again && inc.Key != (message.Key{}) && b.AcceptedAt.Sub(first) <= horizon {
						t.Fatalf("%v was counted at %v and again at %v", inc.Key, first, b.AcceptedAt)
					}
					counted[inc.Key] = b.AcceptedAt
				}
			}
		}
	})
}

func TestCutKeepsToWhatOneDocumentHolds(t *testing.T) {
	t.Parallel()
	big := &message.Batch{Increments: make([]message.Increment, checkpoint.MaxSeenKeys/2)}
	for name, test := range map[string]struct {
		batches []*message.Batch
		want    int
	}{
		"all fit":        {[]*message.Batch{big, big}, 2},
		"two of three":   {[]*message.Batch{big, big, big}, 2},
		"one is too big": {[]*message.Batch{{Increments: make([]message.Increment, checkpoint.MaxSeenKeys+1)}, big}, 1},
	} {
		if got := idempotency.Cut(test.batches); got != test.want {
			t.Errorf("%s: Cut() = %d, want %d", name, got, test.want)
		}
	}
}

// What a key costs in memory bounds how many may be held.
func BenchmarkIndex(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		const batches, each = 1000, 1000
		x := idempotency.NewIndex(horizon, plenty)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		started := time.Now()
		for n := range batches {
			batch := &message.Batch{AcceptedAt: start, Increments: make([]message.Increment, each)}
			for i := range batch.Increments {
				batch.Increments[i] = message.Increment{Tag: "foo", Value: 4, Key: message.Key{byte(n), byte(n >> 8), byte(i), byte(i >> 8)}}
			}
			x.Confirm(x.Claim(1, []*message.Batch{batch}), start.Add(time.Duration(n)*time.Second))
		}
		b.ReportMetric(float64(time.Since(started).Nanoseconds())/(batches*each), "ns/key")
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(x.Size()), "bytes/key")
		runtime.KeepAlive(x)
	}
}
