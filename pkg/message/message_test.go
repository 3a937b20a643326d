package message_test

import (
	"encoding/hex"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/message/messagepb"
)

var update = flag.Bool("update", false, "update the golden files, for a format that no deployment has used only")

func example() *message.Batch {
	return &message.Batch{
		Publisher:     message.Publisher{0: 0xac, 15: 0x01},
		Partition:     3,
		Sequence:      812,
		AcceptedAt:    time.UnixMicro(1_790_000_000_123_456).UTC(),
		Increments:    []message.Increment{{Tag: "foo", Value: 4}, {Tag: "__init__", Value: 9}, {Tag: "foo", Value: 1}},
		Contributions: []message.Contribution{{Contributor: "ada/👩‍💻"}},
	}
}

// keyed is an example with idempotency keys.
func keyed() *message.Batch {
	b := example()
	b.Increments[0].Key = message.KeyOf("order-17")
	b.Increments[1].Key = message.KeyOfBatch("order-17").Next()
	b.Contributions[0].Key = message.KeyOf("order-17")
	return b
}

// followed is an example with one key for a batch, some of whose entries are in another message.
func followed() *message.Batch {
	b := divided()
	key := message.KeyOfBatch("order-17")
	for i := range b.Increments {
		b.Increments[i].Key = key
		key = key.Next().Next()
	}
	b.Contributions = append(b.Contributions, b.Contributions[0])
	b.Contributions[0].Key, b.Contributions[1].Key = key, key.Next()
	return b
}

// divided is an example that says how many partitions there are.
func divided() *message.Batch {
	b := example()
	b.Partitions = 16
	return b
}

// A deployed aggregator must read what an older or newer ingest writes, so the golden files never change.
func TestGoldenFiles(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]*message.Batch{"batch": example(), "keyed": keyed(), "divided": divided(), "followed": followed()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := batch.Encode()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".hex")
			if *update {
				if err := os.WriteFile(path, []byte(hex.EncodeToString(data)+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, err := hex.DecodeString(strings.TrimSpace(string(golden)))
			if err != nil {
				t.Fatal(err)
			}
			if string(data) != string(want) {
				t.Errorf("Encode() = %x, want %x", data, want)
			}
			got, err := message.Decode(want)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, batch) {
				t.Errorf("Decode() = %+v, want %+v", got, batch)
			}
		})
	}
}

// Equal keys stay equal and different keys stay different in every release.
func TestKeysDiffer(t *testing.T) {
	t.Parallel()
	keys := map[message.Key]string{{}: "none"}
	for name, key := range map[string]message.Key{
		"k": message.KeyOf("k"), "k0": message.KeyOf("k0"), "K": message.KeyOf("K"),
		"k, item 0": message.KeyOfBatch("k"), "k, item 1": message.KeyOfBatch("k").Next(), "k1, item 0": message.KeyOfBatch("k1"),
		"k, item 2": message.KeyOfBatch("k").Next().Next(),
	} {
		if other, taken := keys[key]; taken {
			t.Errorf("%s and %s are one key", name, other)
		}
		keys[key] = name
	}
	if got, want := message.KeyOf("k").String(), "8254c329a92850f6d539dd376f4816ee"; got != want { // sha256sum
		t.Errorf("KeyOf() = %s, want %s", got, want)
	}
}

func TestNextCarries(t *testing.T) {
	t.Parallel()
	for key, want := range map[message.Key]message.Key{
		{15: 1}:                     {15: 2},
		{13: 7, 14: 0xff, 15: 0xff}: {13: 8},
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}: {},
	} {
		if got := key.Next(); got != want {
			t.Errorf("after %v comes %v, want %v", key, got, want)
		}
	}
}

// Keys are the same after Encode and Decode, in whatever order they are.
func TestKeysAreKept(t *testing.T) {
	t.Parallel()
	carrying, full := message.Key{0: 1, 14: 0xff, 15: 0xfe}, message.Key{7: 1, 8: 0xff, 9: 0xff, 10: 0xff, 11: 0xff, 12: 0xff, 13: 0xff, 14: 0xff, 15: 0xff}
	for name, keys := range map[string][]message.Key{
		"numbers that carry":                 {carrying, carrying.Next(), carrying.Next().Next(), carrying.Next().Next().Next()},
		"a number that carries far":          {full, full.Next(), full.Next().Next()},
		"backwards":                          {{0: 1, 15: 2}, {0: 1, 15: 1}},
		"twice":                              {{0: 1, 15: 2}, {0: 1, 15: 2}},
		"one that differs in its high half":  {{0: 1, 15: 1}, {0: 2, 15: 2}},
		"after one without":                  {{0: 1, 15: 1}, {}, {0: 1, 15: 2}},
		"the number after none":              {{}, {15: 1}},
		"the last item of a prefix, at once": {{0: 1}, {0: 1, 14: 0xff, 15: 0xff}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := example()
			want.Increments, want.Contributions = nil, nil
			for _, key := range keys {
				want.Increments = append(want.Increments, message.Increment{Tag: "foo", Value: 4, Key: key})
				want.Contributions = append(want.Contributions, message.Contribution{Contributor: "ada", Key: key})
			}
			data, err := want.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := message.Decode(data); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("Decode() = %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

func TestDecodeRefusesInvalidMessages(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*messagepb.Batch){
		"no publisher":        func(b *messagepb.Batch) { b.Publisher = nil },
		"a short publisher":   func(b *messagepb.Batch) { b.Publisher = []byte("short") },
		"a long publisher":    func(b *messagepb.Batch) { b.Publisher = make([]byte, 17) },
		"no sequence":         func(b *messagepb.Batch) { b.Sequence = 0 },
		"a huge sequence":     func(b *messagepb.Batch) { b.Sequence = 1 << 63 },
		"a huge partition":    func(b *messagepb.Batch) { b.Partition = 4096 },
		"beyond partitions":   func(b *messagepb.Batch) { b.Partitions = b.Partition },
		"many partitions":     func(b *messagepb.Batch) { b.Partitions = 4097 },
		"no entries":          func(b *messagepb.Batch) { b.Increments, b.Contributions = nil, nil },
		"a bad name":          func(b *messagepb.Batch) { b.Increments[0].Tag = "Foo" },
		"no value":            func(b *messagepb.Batch) { b.Increments[0].Value = 0 },
		"a value too large":   func(b *messagepb.Batch) { b.Increments[0].Value = 256 + 4 },
		"a short key":         func(b *messagepb.Batch) { b.Increments[0].Key = []byte("short") },
		"a long key":          func(b *messagepb.Batch) { b.Contributions[0].Key = make([]byte, 17) },
		"a key and a next":    func(b *messagepb.Batch) { b.Increments[2].Next, b.Increments[2].Key = 1, b.Increments[1].Key },
		"next after no key":   func(b *messagepb.Batch) { b.Increments[0].Next = 1 },
		"next beyond a batch": func(b *messagepb.Batch) { b.Increments[2].Next = 1 << 16 },
		"next of the other":   func(b *messagepb.Batch) { b.Contributions[0].Next = 1 },
		"a bad contributor":   func(b *messagepb.Batch) { b.Contributions[0].Contributor = "" },
		"a contributor's \\n": func(b *messagepb.Batch) { b.Contributions[0].Contributor = "a\nb" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := keyed().Encode()
			if err != nil {
				t.Fatal(err)
			}
			var pb messagepb.Batch
			if err := proto.Unmarshal(data, &pb); err != nil {
				t.Fatal(err)
			}
			change(&pb)
			if data, err = proto.Marshal(&pb); err != nil {
				t.Fatal(err)
			}
			if got, err := message.Decode(data); !errors.Is(err, message.ErrInvalid) {
				t.Errorf("Decode() = %+v, %v, want ErrInvalid", got, err)
			}
		})
	}
}

// reference is Decode with generated code.
func reference(data []byte) (*message.Batch, error) {
	var pb messagepb.Batch
	if err := proto.Unmarshal(data, &pb); err != nil {
		return nil, err
	}
	b := &message.Batch{
		Partition: pb.GetPartition(), Partitions: pb.GetPartitions(), Sequence: pb.GetSequence(), AcceptedAt: time.UnixMicro(pb.GetAcceptedAt()).UTC(),
		Increments: []message.Increment{}, Contributions: []message.Contribution{},
	}
	copy(b.Publisher[:], pb.GetPublisher())
	valid := len(pb.GetPublisher()) == len(b.Publisher) && b.Partition < increment.MaxPartitions &&
		(b.Partitions == 0 || b.Partitions <= increment.MaxPartitions && b.Partition < b.Partitions) && b.Sequence > 0 && b.Sequence <= math.MaxInt64 &&
		len(pb.GetIncrements())+len(pb.GetContributions()) > 0
	key := func(wire []byte, next uint32, before message.Key) (k message.Key) {
		if next > 0 {
			valid = valid && len(wire) == 0 && before != (message.Key{}) && next <= math.MaxUint16
			for k = before; valid && next > 0; next-- {
				k = k.Next()
				valid = valid && [14]byte(k[:]) == [14]byte(before[:])
			}
			return k
		}
		valid = valid && (len(wire) == 0 || len(wire) == len(k))
		copy(k[:], wire)
		return k
	}
	var before message.Key
	for _, i := range pb.GetIncrements() {
		valid = valid && increment.ValidateName(i.GetTag()) == nil && increment.ValidateValue(int64(i.GetValue())) == nil
		b.Increments = append(b.Increments, message.Increment{Tag: i.GetTag(), Value: uint8(i.GetValue()), Key: key(i.GetKey(), i.GetNext(), before)})
		before = b.Increments[len(b.Increments)-1].Key
	}
	before = message.Key{}
	for _, c := range pb.GetContributions() {
		valid = valid && increment.ValidateContributor(c.GetContributor()) == nil
		b.Contributions = append(b.Contributions, message.Contribution{Contributor: c.GetContributor(), Key: key(c.GetKey(), c.GetNext(), before)})
		before = b.Contributions[len(b.Contributions)-1].Key
	}
	if !valid {
		return nil, message.ErrInvalid
	}
	return b, nil
}

// Decode agrees with generated code on every input.
func FuzzDecode(f *testing.F) {
	for _, b := range []*message.Batch{example(), keyed(), divided(), followed()} {
		data, err := b.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, 0x98, 0x06, 0x01))          // a field of a newer version
		f.Add(append(data, 0x0a, 0x01, 0x07))          // another publisher, too short
		f.Add(append(data, 0x2d, 1, 2, 3, 4))          // increments of another type
		f.Add(append(data, 0x9b, 0x06, 0x9c, 0x06))    // a group
		f.Add(append(data, 0x2a, 0x05, 0x0a, 0x7f))    // cut off
		f.Add(append(data, 0x32, 0x03, 0x0a, 1, 0xff)) // no UTF-8
	}
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := reference(data)
		b, err := message.Decode(data)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(b, want) {
			t.Fatalf("Decode() = %+v, %v\ngenerated code: %+v, %v", b, err, want, wantErr)
		}
		if err != nil {
			if !errors.Is(err, message.ErrInvalid) {
				t.Errorf("Decode() error = %v, want ErrInvalid", err)
			}
			return
		}
		again, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if second, err := message.Decode(again); err != nil || !reflect.DeepEqual(b, second) {
			t.Errorf("Decode(Encode(%+v)) = %+v, %v", b, second, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for name, key := range map[string]message.Key{"plain": {}, "keyed": message.KeyOfBatch("order-17")} {
		b.Run(name, func(b *testing.B) {
			batch := example()
			batch.Increments = nil
			for range message.MaxEntries {
				batch.Increments = append(batch.Increments, message.Increment{Tag: "some_word", Value: 1, Key: key})
				if key != (message.Key{}) {
					key = key.Next()
				}
			}
			data, err := batch.Encode()
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := message.Decode(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
