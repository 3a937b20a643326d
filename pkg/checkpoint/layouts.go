package checkpoint

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// Layouts are the numbers of partitions that ingest uses for entries with keys. After a change of PARTITIONS there is more than
// one until the old keys expire, since a key may then be known in several partitions.
type Layouts struct {
	// Version grows when a number of partitions is added.
	Version uint64
	// Used has the last recorded use of each number of partitions, in seconds.
	Used map[uint32]time.Time
}

// layoutsVersion is the first byte of what PackLayouts returns.
const layoutsVersion = 1

// PackLayouts packs l: the version of the format, and as varints the version of l, the number of entries, and the number of
// partitions and the second of each.
func PackLayouts(l *Layouts) []byte {
	b := binary.AppendUvarint([]byte{layoutsVersion}, l.Version)
	b = binary.AppendUvarint(b, uint64(len(l.Used)))
	for _, partitions := range slices.Sorted(maps.Keys(l.Used)) {
		b = binary.AppendUvarint(b, uint64(partitions))
		b = binary.AppendVarint(b, l.Used[partitions].Unix())
	}
	return b
}

// UnpackLayouts is the inverse of PackLayouts. It returns ErrCorrupt for other bytes.
func UnpackLayouts(packed []byte) (Layouts, error) {
	r := reader{rest: packed}
	r.failed = r.byte() != layoutsVersion
	l := Layouts{Version: r.uvarint(), Used: make(map[uint32]time.Time)}
	for range r.count(2) {
		partitions := uint32(r.uvarint()) //nolint:gosec // converted from a uint32
		l.Used[partitions] = time.Unix(r.varint(), 0).UTC()
	}
	return l, r.end("layouts")
}
