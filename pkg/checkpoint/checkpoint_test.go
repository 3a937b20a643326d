package checkpoint_test

import (
	"cmp"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
)

const retention = 8 * 24 * time.Hour

var (
	update = flag.Bool("update", false, "update the golden file, for a new version of the packed format only")
	start  = time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	ada    = message.Publisher{1}
	bob    = message.Publisher{2}
)

func deltas(values map[string]int64) []checkpoint.Delta {
	sorted := make([]checkpoint.Delta, 0, len(values))
	for name, value := range values {
		sorted = append(sorted, checkpoint.Delta{Name: name, Value: value, Increments: 1})
	}
	slices.SortFunc(sorted, func(a, b checkpoint.Delta) int { return cmp.Compare(a.Name, b.Name) })
	return sorted
}

func TestNextCountsMessagesAndAddsDeltas(t *testing.T) {
	t.Parallel()
	var zero checkpoint.Checkpoint
	one := zero.Next(start, retention, []checkpoint.Message{{ada, 1}, {ada, 2}, {bob, 7}}, deltas(map[string]int64{"foo": 4, "ballz": 9}))
	two := one.Next(start.Add(time.Second), retention, []checkpoint.Message{{ada, 3}}, deltas(map[string]int64{"foo": 1, "zoo": 2}))

	if one.Commit != 1 || two.Commit != 2 {
		t.Errorf("commits = %d, %d, want 1, 2", one.Commit, two.Commit)
	}
	for m, want := range map[checkpoint.Message]bool{{ada, 1}: true, {ada, 3}: true, {ada, 4}: false, {bob, 7}: true, {bob, 1}: false} {
		if got := two.Contains(m); got != want {
			t.Errorf("Contains(%v) = %v, want %v", m, got, want)
		}
	}
	want := []checkpoint.Total{
		{"ballz", 9, 1, start, 9, 9}, {"foo", 5, 2, start.Add(time.Second), 5, 5}, {"zoo", 2, 1, start.Add(time.Second), 2, 2},
	}
	if !reflect.DeepEqual(two.Totals, want) {
		t.Errorf("totals = %v, want %v", two.Totals, want)
	}
}

// A failed Commit is undone by discarding the result of Next, so Next must not change its receiver.
func TestNextDoesNotChangeItsReceiver(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, _ := drawCheckpoint(t)
		publishers, totals := c.PackPublishers(), c.PackTotals()
		for range 2 {
			c.Next(start.Add(time.Hour), retention, drawMessages(t), deltas(drawValues(t)))
		}
		if string(c.PackPublishers()) != string(publishers) || string(c.PackTotals()) != string(totals) {
			t.Fatal("Next changed its receiver")
		}
	})
}

func TestTotalsEqualTheSumsOfDeltas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, want := drawCheckpoint(t)
		got := make(map[string]int64)
		for _, total := range c.Totals {
			got[total.Name] = total.Total
		}
		if !maps.Equal(got, want) {
			t.Fatalf("totals = %v, want %v", got, want)
		}
		if !slices.IsSortedFunc(c.Totals, func(a, b checkpoint.Total) int { return cmp.Compare(a.Name, b.Name) }) {
			t.Fatalf("totals are not sorted: %v", c.Totals)
		}
	})
}

func TestSilentPublishersAreRemoved(t *testing.T) {
	t.Parallel()
	var zero checkpoint.Checkpoint
	c := zero.Next(start, retention, []checkpoint.Message{{ada, 1}, {bob, 1}}, nil)
	c = c.Next(start.Add(retention), retention, []checkpoint.Message{{bob, 2}}, nil)
	if !c.Contains(checkpoint.Message{Publisher: ada, Sequence: 1}) {
		t.Error("a publisher was removed at the retention, not after it")
	}
	c = c.Next(start.Add(retention+time.Second), retention, []checkpoint.Message{{bob, 3}}, nil)
	c = c.Next(start.Add(retention+2*time.Second), retention, nil, nil)
	if _, ok := c.Publishers[ada]; ok {
		t.Error("a publisher was not removed after the retention")
	}
	if want := (checkpoint.Intervals{{1, 3}}); !slices.Equal(c.Publishers[bob].Sequences, want) {
		t.Errorf("sequences of the other publisher = %v, want %v", c.Publishers[bob].Sequences, want)
	}
}

// A publisher that returns after a long silence keeps its settled sequences.
func TestReturningPublishersKeepTheirSequences(t *testing.T) {
	t.Parallel()
	var zero checkpoint.Checkpoint
	c := zero.Next(start, retention, []checkpoint.Message{{ada, 1}}, nil)
	c = c.Next(start.Add(2*retention), retention, []checkpoint.Message{{ada, 2}}, nil)
	if want := (checkpoint.Intervals{{1, 2}}); !slices.Equal(c.Publishers[ada].Sequences, want) {
		t.Errorf("sequences = %v, want %v", c.Publishers[ada].Sequences, want)
	}
}

func TestUnpackReturnsWhatWasPacked(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, _ := drawCheckpoint(t)
		publishers, err := checkpoint.UnpackPublishers(c.PackPublishers())
		if err != nil || !reflect.DeepEqual(publishers, c.Publishers) {
			t.Fatalf("publishers = %v, %v, want %v", publishers, err, c.Publishers)
		}
		totals, updated, err := checkpoint.UnpackTotals(c.PackTotals())
		if err != nil || !slices.Equal(totals, c.Totals) || !updated.Equal(c.UpdatedAt) {
			t.Fatalf("totals = %v, %v, %v, want %v, %v", totals, updated, err, c.Totals, c.UpdatedAt)
		}
	})
}

func TestSizesBoundThePackedForm(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, _ := drawCheckpoint(t)
		for i := range c.Totals { // the largest values
			c.Totals[i].Total, c.Totals[i].Increments = 1<<48-1, 1<<48-1
			c.Totals[i].UpdatedAt, c.Totals[i].Minute, c.Totals[i].Hour = c.UpdatedAt.AddDate(-60, 0, 0), 0, 0
			if rapid.Bool().Draw(t, "changed in this hour") {
				c.Totals[i].UpdatedAt, c.Totals[i].Minute, c.Totals[i].Hour = c.UpdatedAt.Add(-time.Hour), 1<<34-1, 1<<41-1
			}
		}
		if packed := len(c.PackTotals()); packed > c.TotalsSize() {
			t.Fatalf("packed into %d bytes, TotalsSize() = %d", packed, c.TotalsSize())
		}
		if packed := len(c.PackPublishers()); packed != c.PublishersSize() {
			t.Fatalf("packed into %d bytes, PublishersSize() = %d", packed, c.PublishersSize())
		}
	})
}

// Publishers are removed by the time of the previous checkpoint, so one Commit with a wrong time removes none.
func TestJumpInTimeRemovesNoPublisher(t *testing.T) {
	t.Parallel()
	var c checkpoint.Checkpoint
	c = c.Next(start, retention, []checkpoint.Message{{ada, 1}}, nil)
	c = c.Next(start.Add(retention+24*time.Hour), retention, []checkpoint.Message{{bob, 1}}, nil)
	if !c.Contains(checkpoint.Message{Publisher: ada, Sequence: 1}) {
		t.Error("the message of the previous Commit is no longer settled")
	}
}

func TestCheckpointHoldsTwentyThousandTags(t *testing.T) {
	t.Parallel()
	values := make(map[string]int64)
	for i := range 20_000 {
		values[fmt.Sprintf("%s_%s", "longest", strings.Map(func(r rune) rune { return r - '0' + 'a' }, fmt.Sprintf("%07d", i)))] = 1
	}
	var zero checkpoint.Checkpoint
	c := zero.Next(start, retention, []checkpoint.Message{{ada, 1}}, deltas(values))
	if len(c.Totals) != 20_000 || c.TotalsSize() > checkpoint.MaxTotals {
		t.Errorf("%d tags of 15 characters have size %d, more than %d", len(c.Totals), c.TotalsSize(), checkpoint.MaxTotals)
	}
}

// The golden file has the format in Firestore, which every later version of this package must read.
func TestGoldenFile(t *testing.T) {
	t.Parallel()
	var zero checkpoint.Checkpoint
	c := zero.Next(start, retention, []checkpoint.Message{{ada, 1}, {ada, 2}, {ada, 4}, {bob, 814}}, deltas(map[string]int64{"foo": 4, "ballz": 76, "food": 1}))
	c = c.Next(start.Add(1500*time.Millisecond), retention, []checkpoint.Message{{ada, 5}}, deltas(map[string]int64{"foo": 9}))
	rejected := checkpoint.PackRejected(someRejected())
	changes := checkpoint.PackChanges([]checkpoint.Change{{"ballz", 76}, {"foo", 13}, {"food", 1}})
	keys, layouts := checkpoint.PackKeyRanges(someKeys()), checkpoint.PackLayouts(someLayouts())
	path := filepath.Join("testdata", "checkpoint.hex")
	if *update {
		packed := hex.EncodeToString(c.PackPublishers()) + "\n" + hex.EncodeToString(c.PackTotals()) + "\n" +
			hex.EncodeToString(changes) + "\n" + hex.EncodeToString(rejected) + "\n" + hex.EncodeToString(keys) + "\n" + hex.EncodeToString(layouts) + "\n"
		if err := os.WriteFile(path, []byte(packed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(golden))
	for i, got := range [][]byte{c.PackPublishers(), c.PackTotals(), changes, rejected, keys, layouts} {
		if hex.EncodeToString(got) != lines[i] {
			t.Errorf("line %d: packed %x, want %s", i+1, got, lines[i])
		}
	}
}

func FuzzUnpack(f *testing.F) {
	var zero checkpoint.Checkpoint
	c := zero.Next(start, retention, []checkpoint.Message{{ada, 1}, {bob, 3}}, deltas(map[string]int64{"foo": 4, "food": 1}))
	f.Add(c.PackPublishers(), c.PackTotals())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, []byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, packedPublishers, packedTotals []byte) {
		publishers, err := checkpoint.UnpackPublishers(packedPublishers)
		if err != nil && !errors.Is(err, checkpoint.ErrCorrupt) {
			t.Errorf("UnpackPublishers() error = %v", err)
		}
		if err == nil {
			again := checkpoint.Checkpoint{Publishers: publishers}
			if second, err := checkpoint.UnpackPublishers(again.PackPublishers()); err != nil || !reflect.DeepEqual(second, publishers) {
				t.Errorf("publishers changed on the round trip: %v, %v, %v", publishers, second, err)
			}
		}
		totals, _, err := checkpoint.UnpackTotals(packedTotals)
		if err != nil && !errors.Is(err, checkpoint.ErrCorrupt) {
			t.Errorf("UnpackTotals() error = %v", err)
		}
		if err == nil && !slices.IsSortedFunc(totals, func(a, b checkpoint.Total) int { return cmp.Compare(a.Name, b.Name) }) {
			t.Errorf("totals are not sorted: %v", totals)
		}
	})
}

// drawCheckpoint returns a checkpoint after several Commits, and the sums of their deltas.
func drawCheckpoint(t *rapid.T) (checkpoint.Checkpoint, map[string]int64) {
	var c checkpoint.Checkpoint
	want := make(map[string]int64)
	now := start
	for range rapid.IntRange(1, 5).Draw(t, "commits") {
		now = now.Add(time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "pause")))
		values := drawValues(t)
		c = c.Next(now, retention, drawMessages(t), deltas(values))
		for name, value := range values {
			want[name] += value
		}
	}
	return c, want
}

func drawValues(t *rapid.T) map[string]int64 {
	return rapid.MapOfN(rapid.StringMatching(`[a-c_]{3,6}`), rapid.Int64Range(1, 9), 0, 20).Draw(t, "values")
}

func drawMessages(t *rapid.T) []checkpoint.Message {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) checkpoint.Message {
		return checkpoint.Message{
			Publisher: message.Publisher{byte(rapid.IntRange(0, 3).Draw(t, "publisher"))},
			Sequence:  rapid.Uint64Range(1, 1<<40).Draw(t, "sequence"),
		}
	}), 0, 10).Draw(t, "messages")
}

func BenchmarkNextAndPack(b *testing.B) {
	values, window := make(map[string]int64), make(map[string]int64)
	for i := range 3_400 { // 55,000 tags in 16 partitions; the window changes 400
		name := strings.Map(func(r rune) rune { return r - '0' + 'a' }, fmt.Sprintf("%07d", i*7919%10_000_000))
		if values[name] = 1; i < 400 {
			window[name] = 5
		}
	}
	var c checkpoint.Checkpoint
	c = c.Next(start, retention, []checkpoint.Message{{ada, 1}}, deltas(values))
	changed := deltas(window)
	for n := uint64(2); b.Loop(); n++ {
		c = c.Next(start, retention, []checkpoint.Message{{ada, n}}, changed)
		c.PackPublishers()
		b.SetBytes(int64(len(c.PackTotals())))
	}
}
