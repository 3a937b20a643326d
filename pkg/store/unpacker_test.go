package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// checkpointOf is a checkpoint of n tags, with what is added to the first of them.
func checkpointOf(n int, added int64) *checkpoint.Checkpoint {
	c := &checkpoint.Checkpoint{UpdatedAt: time.Unix(1<<31, 0).UTC()}
	for i := range n {
		c.Totals = append(c.Totals, checkpoint.Total{
			Name: fmt.Sprintf("tag%c%c%c", 'a'+i/676%26, 'a'+i/26%26, 'a'+i%26), Total: 5, Increments: 1, UpdatedAt: c.UpdatedAt,
		})
	}
	if n > 0 {
		c.Totals[0].Total += added
	}
	return c
}

func revision(n int64) store.Revision { return store.Revision{UpdateTime: time.Unix(n, 0)} }

func TestUnpackerUnpacksWhatHasChanged(t *testing.T) {
	t.Parallel()
	var u store.Unpacker
	unpack := func(partition uint32, at store.Revision, c *checkpoint.Checkpoint) []checkpoint.Total {
		t.Helper()
		totals, updatedAt, err := u.Totals(partition, at, c.PackTotals())
		if err != nil || !slices.Equal(totals, c.Totals) || !updatedAt.Equal(c.UpdatedAt) {
			t.Fatalf("Totals() = %d totals of %v, %v, want %d", len(totals), updatedAt, err, len(c.Totals))
		}
		return totals
	}
	first := unpack(1, revision(1), checkpointOf(3, 0))
	unpack(2, revision(1), checkpointOf(2, 9)) // another partition of the same revision
	if again := unpack(1, revision(1), checkpointOf(3, 0)); &again[0] != &first[0] {
		t.Error("the same revision is unpacked twice")
	}
	changed := unpack(1, revision(2), checkpointOf(4, 7))
	if unsafe.StringData(changed[1].Name) != unsafe.StringData(first[1].Name) {
		t.Error("a known name is not shared")
	}
	unpack(1, revision(3), checkpointOf(2, 1))
	if _, _, err := u.Totals(1, revision(4), []byte{0xff}); err == nil {
		t.Error("damaged totals are unpacked")
	}
	unpack(1, revision(4), checkpointOf(5, 2)) // what was damaged is not remembered
	unpack(1, store.Revision{}, checkpointOf(1, 0))
	unpack(1, store.Revision{}, checkpointOf(2, 0)) // without a revision nothing is known
	u.Keep([]store.PartitionTotals{{Partition: 2}})
	unpack(1, revision(4), checkpointOf(6, 3)) // it was forgotten
}

// 55,000 tags in 16 partitions, read once: one partition.
func BenchmarkUnpack(b *testing.B) {
	packed := checkpointOf(3_400, 0).PackTotals()
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var u store.Unpacker
			_, _, _ = u.Totals(1, revision(1), packed)
		}
	})
	b.Run("changed", func(b *testing.B) {
		b.ReportAllocs()
		var u store.Unpacker
		for n := int64(1); b.Loop(); n++ {
			_, _, _ = u.Totals(1, revision(n), packed)
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		b.ReportAllocs()
		var u store.Unpacker
		for b.Loop() {
			_, _, _ = u.Totals(1, revision(1), packed)
		}
	})
}

func BenchmarkCheckLimits(b *testing.B) {
	commit := store.Commit{Next: *checkpointOf(3_400, 0)}
	b.ReportAllocs()
	for b.Loop() {
		_ = commit.CheckLimits()
	}
}
