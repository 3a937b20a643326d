package checkpoint_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
)

func someKeys() []checkpoint.KeyRange {
	single, item := message.KeyOf("order-17").Split()
	batch, first := message.KeyOfBatch("order-18").Split()
	return []checkpoint.KeyRange{
		{Prefix: single, First: item, Last: item, Fingerprint: 0xbeef},
		{Prefix: batch, First: first, Last: first + 1000, Partitions: increment.MaxPartitions},
		{Prefix: batch, First: first, Last: first + 7},
	}
}

func someLayouts() *checkpoint.Layouts {
	return &checkpoint.Layouts{Version: 7, Used: map[uint32]time.Time{
		16: start.Truncate(time.Second), increment.MaxPartitions: start.Truncate(time.Second).Add(-time.Hour),
	}}
}

func TestKeysAndLayoutsSurviveTheirPackedForm(t *testing.T) {
	t.Parallel()
	keys, err := checkpoint.UnpackKeyRanges(checkpoint.PackKeyRanges(someKeys()))
	if err != nil || !reflect.DeepEqual(keys, someKeys()) {
		t.Errorf("keys = %+v, %v, want %+v", keys, err, someKeys())
	}
	layouts, err := checkpoint.UnpackLayouts(checkpoint.PackLayouts(someLayouts()))
	if err != nil || !reflect.DeepEqual(&layouts, someLayouts()) {
		t.Errorf("layouts = %+v, %v, want %+v", layouts, err, someLayouts())
	}
}

// The golden file is what version 0.1 wrote.
func TestReleasedKeysAreRead(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile(filepath.Join("testdata", "released-keys.hex"))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := hex.DecodeString(strings.TrimSpace(string(golden)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := checkpoint.UnpackReleasedKeys(packed)
	if err != nil || len(got) != 3 {
		t.Fatalf("UnpackReleasedKeys() = %+v, %v, want three", got, err)
	}
	batch := message.KeyOfBatch("order-18")
	for i, key := range []message.Key{message.KeyOf("order-17"), batch, batch.Next()} {
		prefix, item := key.Split()
		if want := (checkpoint.KeyRange{Prefix: prefix, First: item, Last: item, Fingerprint: uint16(i + 1)}); got[i] != want {
			t.Errorf("key %d = %+v, want %+v", i, got[i], want)
		}
	}
	if _, err := checkpoint.UnpackReleasedKeys(packed[1:]); !errors.Is(err, checkpoint.ErrCorrupt) {
		t.Errorf("UnpackReleasedKeys() of a part = %v, want ErrCorrupt", err)
	}
}

func TestARangeHoldsTheItemsOfItsPartition(t *testing.T) {
	t.Parallel()
	const partitions = 16
	inside := increment.Partition("foo", partitions)
	for name, tc := range map[string]struct {
		r         checkpoint.KeyRange
		item      uint16
		partition uint32
		want      bool
	}{
		"the first":                 {checkpoint.KeyRange{First: 3, Last: 9, Partitions: partitions}, 3, inside, true},
		"the last":                  {checkpoint.KeyRange{First: 3, Last: 9, Partitions: partitions}, 9, inside, true},
		"before":                    {checkpoint.KeyRange{First: 3, Last: 9, Partitions: partitions}, 2, inside, false},
		"after":                     {checkpoint.KeyRange{First: 3, Last: 9, Partitions: partitions}, 10, inside, false},
		"of another partition":      {checkpoint.KeyRange{First: 3, Last: 9, Partitions: partitions}, 5, inside + 1, false},
		"of all, whatever its name": {checkpoint.KeyRange{First: 3, Last: 9}, 5, inside + 1, true},
		"a single one":              {checkpoint.KeyRange{First: 3, Last: 3, Partitions: partitions}, 3, inside + 1, true},
	} {
		if got := tc.r.Holds(tc.item, "foo", tc.partition); got != tc.want {
			t.Errorf("%s: Holds() = %v", name, got)
		}
	}
}

func FuzzUnpackKeys(f *testing.F) {
	f.Add(checkpoint.PackKeyRanges(someKeys()), checkpoint.PackLayouts(someLayouts()))
	f.Add([]byte{3, 1}, []byte{1, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, keys, layouts []byte) {
		if ranges, err := checkpoint.UnpackKeyRanges(keys); err == nil {
			if again, err := checkpoint.UnpackKeyRanges(checkpoint.PackKeyRanges(ranges)); err != nil || !reflect.DeepEqual(again, ranges) {
				t.Errorf("keys changed on the round trip: %+v, %+v, %v", ranges, again, err)
			}
		} else if !errors.Is(err, checkpoint.ErrCorrupt) {
			t.Errorf("UnpackKeyRanges() error = %v", err)
		}
		if l, err := checkpoint.UnpackLayouts(layouts); err == nil {
			if again, err := checkpoint.UnpackLayouts(checkpoint.PackLayouts(&l)); err != nil || !reflect.DeepEqual(again, l) {
				t.Errorf("layouts changed on the round trip: %+v, %+v, %v", l, again, err)
			}
		} else if !errors.Is(err, checkpoint.ErrCorrupt) {
			t.Errorf("UnpackLayouts() error = %v", err)
		}
	})
}

// A checkpoint keeps the marks of version 0.1 for as long as their keys can be repeated.
func TestReleasedMarksAreKeptForADay(t *testing.T) {
	t.Parallel()
	golden, err := hex.DecodeString("01c2d99eb00d02") // what version 0.1 wrote: commit 2
	if err != nil {
		t.Fatal(err)
	}
	c := checkpoint.Checkpoint{Released: golden}
	if first, err := c.Released.First(); err != nil || first != 2 {
		t.Errorf("First() = %d, %v, want 2", first, err)
	}
	seconds, _ := binary.Varint(golden[1:])
	at := time.Unix(seconds, 0)
	if next := c.Next(at.Add(25*time.Hour), retention, nil, nil); !reflect.DeepEqual(next.Released.Packed(), golden) {
		t.Errorf("after 25 h the marks are %x, want %x", next.Released.Packed(), golden)
	}
	if next := c.Next(at.Add(25*time.Hour+time.Second), retention, nil, nil); !reflect.DeepEqual(next.Released.Packed(), []byte{0}) {
		t.Errorf("later the marks are %x, want none", next.Released.Packed())
	}
	if _, err := (checkpoint.ReleasedMarks{7}).First(); !errors.Is(err, checkpoint.ErrCorrupt) {
		t.Errorf("First() of a part = %v, want ErrCorrupt", err)
	}
}
