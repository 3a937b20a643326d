package idempotency_test

import (
	"encoding/binary"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/accrue/accrue/aggregator/internal/idempotency"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// Batches of 100 increments of as many tags, each with one key, 100 batches a second over 64 partitions: a batch takes some 50
// ranges, so the limit is reached within the test. Whatever comes then, the memory stays within what the limit promises, 80 bytes
// a range, and the ranges that wait to be folded, and a partition never forgets more than half of its keys at once. Five minutes by a stepped clock, or with MEASURE=1 an hour and the default limit.
func TestManyKeysStayWithinTheirMemory(t *testing.T) { // not parallel: it measures the heap
	if testing.Short() {
		t.Skip("counts 3,000,000 increments")
	}
	const (
		partitions, tags, perSecond = 64, 100, 100
		bytesPerRange, bytesPerTail = 80, 32
	)
	limit, duration := 500_000, 5*time.Minute
	if os.Getenv("MEASURE") != "" {
		limit, duration = 5_000_000, time.Hour
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	names, items := make([]string, tags), make([][]uint16, partitions) // items are the places of a batch, by partition
	for i := range names {
		names[i] = "tag_" + string([]byte{'a' + byte(i/10), 'a' + byte(i%10)})
		p := increment.Partition(names[i], partitions)
		items[p] = append(items[p], uint16(i))
	}
	before := heap()
	budget := idempotency.NewBudget(limit)
	indexes, numbers := make([]*idempotency.Index, partitions), make([]uint64, partitions)
	for p := range indexes {
		indexes[p] = idempotency.New(uint32(p), 24*time.Hour, budget)
	}
	var batches uint64
	var counted, worst, worstBound int64
	for at := start; at.Before(start.Add(duration)); at = at.Add(time.Second) {
		for p, x := range indexes {
			claim := x.Claim()
			claim.Begin(at, partitions)
			for n := range uint64(perSecond) {
				var key message.Key
				binary.BigEndian.PutUint64(key[:], (batches+n+1)*0x9e3779b97f4a7c15)
				for _, i := range items[p] {
					binary.BigEndian.PutUint16(key[14:], i)
					inc := message.Increment{Tag: names[i], Value: 1, Key: key}
					if claim.Increment(&inc) {
						counted++
					}
				}
			}
			fold := x.Fold()
			if fold != nil {
				x.Folded(fold)
			}
			numbers[p]++
			held := x.Held()
			x.Confirm(claim, store.KeysPosition{At: at, Commit: numbers[p]})
			if left := x.Held(); left < held/2 {
				t.Fatalf("%s: %d of %d ranges were evicted at once", at.Sub(start), held-left, held)
			}
		}
		batches += perSecond
		if at.Sub(start)%(15*time.Second) == 0 {
			tail := int64(partitions * idempotency.FoldCommits * perSecond) // at most one range a batch, partition and Commit
			bound := bytesPerRange*int64(limit) + bytesPerTail*tail
			if got := heap() - before; got > worst {
				worst, worstBound = got, bound
			}
			if budget.Held() > int64(limit) {
				t.Fatalf("%d ranges are held, where %d are allowed", budget.Held(), limit)
			}
		}
	}
	if want := int64(duration/time.Second) * perSecond * tags; counted != want {
		t.Errorf("%d increments counted, want %d", counted, want)
	}
	if budget.Held() < int64(limit)/2 {
		t.Errorf("%d ranges are held at the end: the limit of %d is not tested", budget.Held(), limit)
	}
	t.Logf("%d increments in %d batches: at most %d MiB, %d B for each of %d ranges; the bound is %d MiB",
		counted, batches, worst>>20, worst/int64(limit), limit, worstBound>>20)
	if worst > worstBound {
		t.Errorf("%d MiB, where the bound is %d MiB", worst>>20, worstBound>>20)
	}
	runtime.KeepAlive(indexes)
}
