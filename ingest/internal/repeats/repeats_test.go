package repeats_test

import (
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/ingest/internal/repeats"
	"github.com/accrue/accrue/pkg/message"
)

// batch returns the keys of a batch of n items that was posted with one key.
func batch(text string, n int) []message.Key {
	keys := make([]message.Key, n)
	for i, key := 0, message.KeyOfBatch(text); i < n; i, key = i+1, key.Next() {
		keys[i] = key
	}
	return keys
}

// pointers returns a sequence of pointers to keys.
func pointers(keys []message.Key) iter.Seq[*message.Key] {
	return func(yield func(*message.Key) bool) {
		for i := range keys {
			if !yield(&keys[i]) {
				return
			}
		}
	}
}

func TestRepeatedKeysAreKnown(t *testing.T) {
	t.Parallel()
	a, b := message.KeyOf("a"), message.KeyOf("b")
	carrying := message.Key{14: 0xff, 15: 0xfe}
	for name, test := range map[string]struct {
		first, second []message.Key
		repeated      int
	}{
		"the same key":                       {[]message.Key{a}, []message.Key{a}, 1},
		"another key":                        {[]message.Key{a}, []message.Key{b}, 0},
		"no key":                             {[]message.Key{{}, {}}, []message.Key{{}, {}}, 0},
		"some items with a key":              {[]message.Key{a, {}, b}, []message.Key{{}, b, {}, a}, 2},
		"the same batch":                     {batch("a", 1000), batch("a", 1000), 1000},
		"a longer batch":                     {batch("a", 10), batch("a", 15), 10},
		"a shorter batch":                    {batch("a", 10), batch("a", 4), 4},
		"another batch":                      {batch("a", 10), batch("b", 10), 0},
		"a batch that names an item's key":   {[]message.Key{a}, batch("a", 10), 0},
		"a batch whose numbers carry":        {[]message.Key{carrying, carrying.Next(), carrying.Next().Next()}, []message.Key{carrying, carrying.Next(), carrying.Next().Next()}, 3},
		"a batch, a part of it given by ids": {append(batch("a", 5), b), append([]message.Key{b}, batch("a", 5)...), 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m repeats.Memory
			if n := m.Add(pointers(test.first)); n != 0 {
				t.Errorf("the first time, %d are known", n)
			}
			if n := m.Add(pointers(test.second)); n != test.repeated {
				t.Errorf("%d are known, want %d", n, test.repeated)
			}
		})
	}
}

func TestAKeyTwiceInOneBatchIsRepeated(t *testing.T) {
	t.Parallel()
	var m repeats.Memory
	a, b := message.KeyOf("a"), message.KeyOf("b")
	if n := m.Add(pointers([]message.Key{a, b, a})); n != 1 {
		t.Errorf("%d are known, want 1", n)
	}
}

// What is known here is not counted by an aggregator with the shortest horizon, one minute from the first acceptance,
// however often the key was repeated meanwhile.
func TestKeysAreKnownForLessThanAMinute(t *testing.T) {
	t.Parallel()
	for _, offset := range []time.Duration{0, 10 * time.Second, 29 * time.Second, 31 * time.Second, 59 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var m repeats.Memory
			m.Add(pointers(batch("earlier", 1)))
			time.Sleep(offset)
			m.Add(pointers(batch("a", 3)))
			for age := time.Second; age <= 2*time.Minute; age += time.Second {
				time.Sleep(time.Second)
				n := m.Add(pointers(batch("a", 3)))
				if age < 30*time.Second && n != 3 {
					t.Fatalf("begun %s before: after %s, %d are known, want 3", offset, age, n)
				}
				if n == 0 {
					return
				}
				if age > time.Minute {
					t.Fatalf("begun %s before: still known after %s", offset, age)
				}
			}
		})
	}
}

func TestKeysAreBounded(t *testing.T) {
	t.Parallel()
	var m repeats.Memory
	const n = 200_000
	for i := range n {
		m.Add(pointers(batch(fmt.Sprint(i), 1)))
	}
	known := 0
	for i := range n {
		known += m.Add(pointers(batch(fmt.Sprint(i), 1)))
	}
	if m.Add(pointers(batch(fmt.Sprint(n-1), 1))) != 1 {
		t.Error("the latest key is not known")
	}
	if known > 2*65_536 {
		t.Errorf("%d keys are known of %d, want at most 131072", known, n)
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("batches of %d", n), func(b *testing.B) {
			var m repeats.Memory
			keys := make([][]message.Key, 4096)
			for i := range keys {
				keys[i] = batch(fmt.Sprint(i), n)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				m.Add(pointers(keys[i%len(keys)]))
			}
		})
	}
}
