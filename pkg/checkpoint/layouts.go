package checkpoint

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// Layouts are the numbers of partitions that ingest divides entries with keys among. There is more than one for as long as
// keys are known after PARTITIONS has changed: then a key can be known in more than one partition.
type Layouts struct {
	// Version grows when a number of partitions is added.
	Version uint64
	// Used is when a number of partitions was used last, as far as it was noted, to the second.
	Used map[uint32]time.Time
}

// layoutsVersion is the first byte of what PackLayouts returns.
const layoutsVersion = 1

// PackLayouts returns l, packed: the version of the form, then, as varints, the version of l, the number of entries, and of
// each its number of partitions and second.
func PackLayouts(l *Layouts) []byte {
	b := binary.AppendUvarint([]byte{layoutsVersion}, l.Version)
	b = binary.AppendUvarint(b, uint64(len(l.Used)))
	for _, partitions := range slices.Sorted(maps.Keys(l.Used)) {
		b = binary.AppendUvarint(b, uint64(partitions))
		b = binary.AppendVarint(b, l.Used[partitions].Unix())
	}
	return b
}

// UnpackLayouts reads what PackLayouts wrote. The error is ErrCorrupt.
func UnpackLayouts(packed []byte) (Layouts, error) {
	r := reader{rest: packed}
	r.failed = r.byte() != layoutsVersion
	l := Layouts{Version: r.uvarint(), Used: make(map[uint32]time.Time)}
	for range r.count(2) {
		partitions := uint32(r.uvarint()) //nolint:gosec // was one
		l.Used[partitions] = time.Unix(r.varint(), 0).UTC()
	}
	return l, r.end("layouts")
}
