package store

import (
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
)

// Unpacker unpacks the totals of partitions that are read again and again. It keeps what it has unpacked last of each, so that a partition that has not
// changed costs nothing, and one that has changed shares its names. The zero value is ready, and safe for concurrent use.
//
// What it returns must not be changed.
type Unpacker struct {
	mu   sync.Mutex
	last map[uint32]unpacked
}

type unpacked struct {
	revision  Revision
	totals    []checkpoint.Total
	updatedAt time.Time
}

// Totals is checkpoint.UnpackTotals for the totals that a partition has at a revision.
func (u *Unpacker) Totals(partition uint32, revision Revision, packed []byte) ([]checkpoint.Total, time.Time, error) {
	u.mu.Lock()
	last := u.last[partition]
	u.mu.Unlock()
	if last.revision == revision && revision != (Revision{}) {
		return last.totals, last.updatedAt, nil
	}
	totals, updatedAt, err := checkpoint.UnpackTotalsAfter(packed, last.totals)
	if err != nil {
		return nil, time.Time{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = make(map[uint32]unpacked)
	}
	u.last[partition] = unpacked{revision, totals, updatedAt}
	return totals, updatedAt, nil
}

// Keep forgets all partitions but those that were just read.
func (u *Unpacker) Keep(read []PartitionTotals) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.last) <= len(read) {
		return
	}
	kept := make(map[uint32]unpacked, len(read))
	for i := range read {
		if last, ok := u.last[read[i].Partition]; ok {
			kept[read[i].Partition] = last
		}
	}
	u.last = kept
}
