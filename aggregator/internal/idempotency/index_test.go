package idempotency_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/aggregator/internal/idempotency"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

const (
	horizon = 15 * time.Minute
	plenty  = 1 << 30
	// partition is that of the indexes, by partitions.
	partition, partitions = 3, 16
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

// commits numbers the Commits of a test.
var commits atomic.Uint64

// claim claims the keys of batches, and returns how many entries are to be counted.
func claim(x *idempotency.Index, batches ...*message.Batch) (c *idempotency.Claim, n int) {
	c = x.Claim()
	for _, b := range batches {
		c.Begin(b.AcceptedAt, b.Partitions)
		for i := range b.Increments {
			if c.Increment(&b.Increments[i]) {
				n++
			}
		}
		for i := range b.Contributions {
			if c.Contribution(&b.Contributions[i]) {
				n++
			}
		}
	}
	return c, n
}

// count claims and confirms.
func count(x *idempotency.Index, at time.Time, batches ...*message.Batch) (*idempotency.Claim, int) {
	c, n := claim(x, batches...)
	x.Confirm(c, store.KeysPosition{At: at, Commit: commits.Add(1)})
	return c, n
}

func newIndex(limit int) (*idempotency.Index, *idempotency.Budget) {
	budget := idempotency.NewBudget(limit)
	return idempotency.New(partition, horizon, budget), budget
}

func TestFirstEntryOfAKeyCounts(t *testing.T) {
	t.Parallel()
	x, _ := newIndex(plenty)
	c, n := count(x, start, keyed(start, "foo", 4, "a", "b", "a", ""), keyed(start, "foo", 4, "b", "", "c"))
	if n != 5 || c.Repeated != 2 || c.Reused != 0 || len(c.Ranges) != 3 {
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
		x, _ := newIndex(plenty)
		count(x, start, keyed(start, "foo", 4, "k"))
		if c, n := count(x, start, again); n != 0 || c.Repeated != 1 || c.Reused != 1 {
			t.Errorf("%s: counted %d, %+v", name, n, c)
		}
	}
}

func TestAnIncrementAndItsContributionHaveOneKey(t *testing.T) {
	t.Parallel()
	x, _ := newIndex(plenty)
	b := keyed(start, "foo", 4, "k")
	b.Contributions = []message.Contribution{{Contributor: "ada", Key: message.KeyOf("k")}}
	if c, n := count(x, start, b); n != 2 || c.Repeated != 0 {
		t.Errorf("counted %d of 2, %+v", n, c)
	}
	if c, n := count(x, start, b); n != 0 || c.Repeated != 2 || c.Reused != 0 {
		t.Errorf("counted %d of the repeat, %+v", n, c)
	}
}

// keysOf are the keys of Commits at times, one each.
func keysOf(first uint64, at ...time.Time) (all []store.CommitKeys) {
	for i, t := range at {
		x, _ := newIndex(plenty)
		c, _ := claim(x, keyed(t, "foo", 4, t.String()))
		all = append(all, store.CommitKeys{KeysPosition: store.KeysPosition{At: t, Commit: first + uint64(i)}, Keys: c.Ranges})
	}
	return all
}

// learn reads what is missing in pages of two from kept, as a partition does, and returns how many it read.
func learn(t interface{ Fatal(...any) }, x *idempotency.Index, kept []store.CommitKeys, acceptedAt time.Time, commit uint64) (read int) {
	for pages := 0; x.Missing(acceptedAt, commit); pages++ {
		if pages > 2*len(kept)+4 {
			t.Fatal("learning does not end")
		}
		after := x.Next()
		var page []store.CommitKeys
		for _, k := range kept {
			if store.KeysID(k.KeysPosition) > store.KeysID(after) && len(page) < 2 {
				page = append(page, k)
			}
		}
		read += len(page)
		x.Learn(after, page, len(page) < 2, commit)
	}
	return read
}

func TestKeysAreLearnedInPages(t *testing.T) {
	t.Parallel()
	times := make([]time.Time, 10)
	for i := range times {
		times[i] = start.Add(time.Duration(i) * time.Minute)
	}
	kept := keysOf(1, times...)
	x, _ := newIndex(plenty)
	now := times[9]
	if read := learn(t, x, kept, now.Add(15*time.Minute), 10); read > 4 { // the horizon and the slack
		t.Errorf("read %d Commits, more than the message can repeat", read)
	}
	if _, n := claim(x, keyed(now, "foo", 4, times[9].String(), times[8].String(), "new")); n != 1 {
		t.Errorf("%d entries are new, want 1", n)
	}
	if read := learn(t, x, kept, now.Add(15*time.Minute), 10); read != 0 {
		t.Errorf("read %d Commits again", read)
	}
	// A message from earlier comes late: what it can repeat is read then.
	learn(t, x, kept, start.Add(5*time.Minute), 10)
	if _, n := claim(x, keyed(start.Add(5*time.Minute), "foo", 4, times[0].String(), times[4].String(), "newer")); n != 1 {
		t.Errorf("%d entries of a late message are new, want 1", n)
	}
	// Another aggregator has committed meanwhile.
	kept = append(kept, keysOf(11, now.Add(time.Second))...)
	learn(t, x, kept, now, 11)
	if _, n := claim(x, keyed(now, "foo", 4, now.Add(time.Second).String())); n != 0 {
		t.Error("a key that another aggregator has counted is new")
	}
}

// Whatever is learned in whatever order, every key is known that a message can repeat.
func TestEveryKeyThatAMessageCanRepeatIsLearned(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var times []time.Time
		now := start
		for range rapid.IntRange(1, 40).Draw(t, "commits") {
			now = now.Add(time.Duration(rapid.Int64Range(1, int64(3*time.Minute)).Draw(t, "pause")))
			times = append(times, now)
		}
		all := keysOf(1, times...)
		x, _ := newIndex(plenty)
		committed := 1
		for range rapid.IntRange(1, 10).Draw(t, "messages") {
			committed = rapid.IntRange(committed, len(all)).Draw(t, "committed")
			acceptedAt := start.Add(time.Duration(rapid.Int64Range(0, int64(now.Sub(start))).Draw(t, "accepted")))
			learn(t, x, all[:committed], acceptedAt, uint64(committed))
			for _, at := range times[:committed] {
				if acceptedAt.Sub(at) > horizon {
					continue
				}
				if _, n := claim(x, keyed(acceptedAt, "foo", 4, at.String())); n != 0 {
					t.Fatalf("the key of %v is new to a message of %v", at, acceptedAt)
				}
			}
		}
	})
}

// Messages wait for hours while no aggregator runs; their repeats wait with them.
func TestKeysWaitForMessages(t *testing.T) {
	t.Parallel()
	x, _ := newIndex(plenty)
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
	x, _ := newIndex(plenty)
	for minute := range 600 {
		at := start.Add(time.Duration(minute) * time.Minute)
		if c, n := count(x, at, keyed(at, "foo", 4, fmt.Sprint(minute))); n != 1 || c.Late > 0 {
			t.Fatalf("in minute %d counted %d, %+v", minute, n, c)
		}
		if x.Held() > 22 { // the horizon, the slack, and two generations
			t.Fatalf("in minute %d, %d keys are known", minute, x.Held())
		}
	}
	if !x.Missing(start, commits.Load()) {
		t.Error("a message that is hours late can be counted without the keys that it may repeat")
	}
}

func TestTooManyKeysLeaveEarlyAndAreSaidToBeLate(t *testing.T) {
	t.Parallel()
	x, budget := newIndex(100)
	early, late := 0, 0
	for i := range 1000 {
		at := start.Add(time.Duration(i) * time.Second)
		c, _ := claim(x, keyed(at, "foo", 4, fmt.Sprint(i)))
		early += x.Confirm(c, store.KeysPosition{At: at, Commit: commits.Add(1)})
		late += c.Late
		if budget.Held() > 100 {
			t.Fatalf("%d keys are held", x.Held())
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
		x, _ := newIndex(plenty)
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
			c := x.Claim()
			var taken []*message.Batch
			for _, b := range batches {
				c.Begin(b.AcceptedAt, b.Partitions)
				left := &message.Batch{AcceptedAt: b.AcceptedAt}
				for i := range b.Increments {
					if c.Increment(&b.Increments[i]) {
						left.Increments = append(left.Increments, b.Increments[i])
					}
				}
				taken = append(taken, left)
			}
			if rapid.Bool().Draw(t, "fails") {
				continue
			}
			x.Confirm(c, store.KeysPosition{At: now, Commit: commits.Add(1)})
			for _, b := range taken {
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

// The keys of many indexes stay within their budget together, also within the first minute.
func TestBudgetBoundsAllIndexes(t *testing.T) {
	t.Parallel()
	const limit = 10_000
	budget := idempotency.NewBudget(limit)
	indexes := make([]*idempotency.Index, 16)
	for i := range indexes {
		indexes[i] = idempotency.New(partition, horizon, budget)
	}
	at := start
	for n := range 200 { // 200,000 keys within a minute
		b := &message.Batch{AcceptedAt: at, Increments: make([]message.Increment, 1000)}
		for i := range b.Increments {
			b.Increments[i] = message.Increment{Tag: "foo", Value: 1, Key: message.KeyOf(fmt.Sprint(n, i))}
		}
		x := indexes[n%len(indexes)]
		if count(x, at, b); budget.Held() > limit {
			t.Fatalf("%d keys are held, where %d are allowed", budget.Held(), limit)
		}
		at = at.Add(300 * time.Millisecond)
	}
	held := 0
	for _, x := range indexes {
		held += x.Held()
	}
	if int64(held) != budget.Held() || held < limit/2 {
		t.Errorf("%d keys are held, the budget counts %d", held, budget.Held())
	}
}

// batch returns a message of items of one batch, each with its place as its key, and a tag of the partition.
func batch(at time.Time, id string, items ...int) *message.Batch {
	first := message.KeyOfBatch(id)
	first[14], first[15] = 0, 0
	b := &message.Batch{AcceptedAt: at, Partition: partition, Partitions: partitions}
	for _, item := range items {
		key := first
		for range item {
			key = key.Next()
		}
		b.Increments = append(b.Increments, message.Increment{Tag: tagOf(partition, partitions), Value: 1, Key: key})
	}
	return b
}

// tagOf returns a tag of a partition.
func tagOf(partition, partitions uint32) string {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("tag_%c%c%c", 'a'+i/676, 'a'+i/26%26, 'a'+i%26); increment.Partition(name, partitions) == partition {
			return name
		}
	}
}

func TestABatchTakesOneEntry(t *testing.T) {
	t.Parallel()
	x, budget := newIndex(plenty)
	var items []int
	for i := 5; i < 1000; i += 16 {
		items = append(items, i)
	}
	c, n := count(x, start, batch(start, "order", items...))
	if n != len(items) || len(c.Ranges) != 1 || budget.Held() != 1 {
		t.Errorf("%d of %d items counted, in %d ranges, %d are held, want one", n, len(items), len(c.Ranges), budget.Held())
	}
	if c, n = count(x, start, batch(start, "order", items...)); n != 0 || c.Repeated != len(items) || len(c.Ranges) != 0 {
		t.Errorf("of the repeat %d counted, %+v", n, c)
	}
	// A range holds what belongs to its partition, and nothing else.
	other := batch(start, "order", 6)
	other.Increments[0].Tag = tagOf(partition+1, partitions)
	if _, n = count(x, start, other); n != 1 {
		t.Error("an item of another partition is known")
	}
	if _, n = count(x, start, batch(start, "another", items...)); n != len(items) {
		t.Errorf("%d of another batch counted, want %d", n, len(items))
	}
}

// A batch is divided by different numbers of partitions, each part is cut into messages anywhere, and some of them are lost.
// Whatever is repeated until all of it has come, each item counts once.
func TestItemsCountOnceHoweverTheirBatchIsSplit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		layouts := []uint32{4, 6, 16}
		budget := idempotency.NewBudget(plenty)
		indexes := make(map[uint32]*idempotency.Index)
		for n := range uint32(16) {
			indexes[n] = idempotency.New(n, horizon, budget)
		}
		type item struct {
			entry   message.Increment
			counted int
			came    bool
		}
		key := message.KeyOfBatch(rapid.String().Draw(t, "key"))
		items := make([]item, rapid.IntRange(1, 60).Draw(t, "items"))
		for i := range items {
			name := fmt.Sprintf("tag_%c", 'a'+rapid.IntRange(0, 25).Draw(t, "tag"))
			items[i].entry, key = message.Increment{Tag: name, Value: 1, Key: key}, key.Next()
		}
		now := start
		for range rapid.IntRange(1, 8).Draw(t, "attempts") {
			by := rapid.SampledFrom(layouts).Draw(t, "partitions")
			parts := make(map[uint32][]*item)
			for i := range items {
				n := increment.Partition(items[i].entry.Tag, by)
				parts[n] = append(parts[n], &items[i])
			}
			for _, n := range slices.Sorted(maps.Keys(parts)) {
				for part := parts[n]; len(part) > 0; {
					size := rapid.IntRange(1, len(part)).Draw(t, "size")
					piece := part[:size]
					part = part[size:]
					if rapid.Bool().Draw(t, "lost") {
						continue
					}
					now = now.Add(time.Second)
					c := indexes[n].Claim()
					c.Begin(now, by)
					for _, other := range layouts {
						if other != by {
							c.Others = append(c.Others, idempotency.Layout{Partitions: other, Indexes: indexes})
						}
					}
					for _, one := range piece {
						if one.came = true; c.Increment(&one.entry) {
							one.counted++
						}
					}
					indexes[n].Confirm(c, store.KeysPosition{At: now, Commit: commits.Add(1)})
				}
			}
		}
		for i := range items {
			if items[i].came && items[i].counted != 1 {
				t.Fatalf("item %d counted %d times", i, items[i].counted)
			}
		}
	})
}

// Parts of batches come in any order, again, and mixed with those of others in one message: each item is new once.
func TestMixedPartsOfBatchesCountOnce(t *testing.T) {
	t.Parallel()
	type item struct{ batch, number int }
	rapid.Check(t, func(t *rapid.T) {
		x := idempotency.New(0, horizon, idempotency.NewBudget(plenty))
		settled := make(map[item]bool)
		for commit := range uint64(rapid.IntRange(1, 6).Draw(t, "commits")) {
			c, taken := x.Claim(), make(map[item]bool)
			for range rapid.IntRange(1, 3).Draw(t, "messages") {
				c.Begin(start, 1)
				var parts [][]item
				for batch := range 3 {
					first := rapid.IntRange(0, 8).Draw(t, "first")
					var part []item
					for number := range rapid.IntRange(0, 8-first).Draw(t, "length") {
						part = append(part, item{batch, first + number})
					}
					parts = append(parts, part)
				}
				for {
					parts = slices.DeleteFunc(parts, func(part []item) bool { return len(part) == 0 })
					if len(parts) == 0 {
						break
					}
					from := rapid.IntRange(0, len(parts)-1).Draw(t, "from")
					next := parts[from][0]
					parts[from] = parts[from][1:]
					inc := message.Increment{Tag: "foo", Value: 4, Key: message.Key{0: byte(next.batch + 1), 15: byte(next.number)}}
					if got, want := c.Increment(&inc), !settled[next] && !taken[next]; got != want {
						t.Fatalf("item %d of batch %d is new: %t, want %t", next.number, next.batch, got, want)
					}
					taken[next] = true
				}
			}
			if rapid.Bool().Draw(t, "lands") {
				x.Confirm(c, store.KeysPosition{At: start, Commit: commit + 1})
				maps.Copy(settled, taken)
			}
		}
	})
}

// What a key costs in memory bounds how many may be held.
func BenchmarkIndex(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		const batches, each = 1000, 1000
		x, _ := newIndex(plenty)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		started := time.Now()
		for n := range batches {
			batch := &message.Batch{AcceptedAt: start, Increments: make([]message.Increment, each)}
			for i := range batch.Increments {
				batch.Increments[i] = message.Increment{Tag: "foo", Value: 4, Key: message.Key{byte(n), byte(n >> 8), byte(i), byte(i >> 8)}}
			}
			count(x, start.Add(time.Duration(n)*time.Second), batch)
		}
		b.ReportMetric(float64(time.Since(started).Nanoseconds())/(batches*each), "ns/key")
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(x.Held()), "bytes/key")
		runtime.KeepAlive(x)
	}
}

// Keys keep coming when as many are held as the budget allows: a single key each, or one for items of a batch that follow each other.
func BenchmarkIndexFull(b *testing.B) {
	for name, items := range map[string]int{"single": 1, "batches": 10} {
		b.Run(name, func(b *testing.B) {
			const ranges, limit = 1000, 300_000
			x := idempotency.New(0, horizon, idempotency.NewBudget(limit))
			now, id := start, uint64(0)
			commit := func() {
				now = now.Add(time.Second)
				batch := &message.Batch{AcceptedAt: now, Partitions: 1, Increments: make([]message.Increment, 0, ranges*items)}
				for range ranges {
					id++
					var key message.Key
					binary.BigEndian.PutUint64(key[:], id*0x9e3779b97f4a7c15)
					for item := range items {
						key[15] = byte(item)
						batch.Increments = append(batch.Increments, message.Increment{Tag: "foo", Value: 4, Key: key})
					}
				}
				if _, n := count(x, now, batch); n != ranges*items {
					b.Fatalf("%d of %d counted", n, ranges*items)
				}
			}
			for range limit / ranges {
				commit()
			}
			n := 0
			for b.Loop() {
				commit()
				n++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*ranges*items), "ns/key")
		})
	}
}
