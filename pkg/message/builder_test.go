package message_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/message/messagepb"
)

// encode encodes a message with generated code.
func encode(t *testing.T, b *message.Batch) []byte {
	t.Helper()
	pb := &messagepb.Batch{
		Publisher: b.Publisher[:], Partition: b.Partition, Sequence: b.Sequence, AcceptedAt: b.AcceptedAt.UnixMicro(),
	}
	wire := func(k message.Key) []byte {
		if k == (message.Key{}) {
			return nil
		}
		return k[:]
	}
	var before message.Key
	// next returns how often Next leads from before to a key, if that is at most 100 times, and the bytes of the key otherwise.
	next := func(k message.Key) (n uint32, key []byte) {
		after := before
		before = k
		for n = 1; n <= 100 && after != (message.Key{}); n++ {
			if after = after.Next(); after == k {
				return n, nil
			}
		}
		return 0, wire(k)
	}
	for _, i := range b.Increments {
		n, key := next(i.Key)
		pb.Increments = append(pb.Increments, &messagepb.Batch_Increment{Tag: i.Tag, Value: uint32(i.Value), Key: key, Next: n})
	}
	before = message.Key{}
	for _, c := range b.Contributions {
		n, key := next(c.Key)
		pb.Contributions = append(pb.Contributions, &messagepb.Batch_Contribution{Contributor: c.Contributor, Key: key, Next: n})
	}
	data, err := proto.Marshal(pb)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Builder writes the same bytes as generated code.
func TestBuilderAgreesWithGeneratedCode(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string { return strings.Repeat([]string{"a", "𝒳"}[random.IntN(2)], random.IntN(150)) }
	var batch message.Key
	key := func() (k message.Key) {
		switch random.IntN(3) {
		case 0:
			batch = message.Key(message.NewPublisher())
			batch[15] = 0 // so that it does not carry
			return batch
		case 1:
			batch = batch.Next()
			return batch
		}
		return k
	}
	var builder message.Builder // one for all messages, so that Reset is tested too
	for range 500 {
		want := message.Batch{
			Publisher: message.NewPublisher(), Partition: random.Uint32() >> random.IntN(33),
			Sequence: random.Uint64() >> random.IntN(65), AcceptedAt: time.UnixMicro(random.Int64() - random.Int64()),
		}
		builder.Reset()
		size := 0
		for range random.IntN(40) {
			if random.IntN(2) == 0 {
				i := message.Increment{Tag: text(), Value: uint8(random.UintN(256)), Key: key()}
				want.Increments = append(want.Increments, i)
				builder.AddIncrement(i.Tag, i.Value, i.Key)
				if i.Value == 0 || i.Value > 127 { // not a valid value
					size = -1 << 30
				}
				size += message.IncrementSize(i.Tag, i.Key)
			} else {
				c := message.Contribution{Contributor: text(), Key: key()}
				want.Contributions = append(want.Contributions, c)
				builder.AddContribution(c.Contributor, c.Key)
				size += message.ContributionSize(c.Contributor, c.Key)
			}
		}
		data := encode(t, &want)
		got := builder.Encode(want.Publisher, want.Partition, want.Sequence, want.AcceptedAt)
		if !bytes.Equal(got, data) {
			t.Fatalf("Builder encodes %+v as %x, want %x", want, got, data)
		}
		if builder.Entries() != want.Entries() {
			t.Errorf("Entries() = %d, want %d", builder.Entries(), want.Entries())
		}
		var empty message.Builder
		header := len(empty.Encode(want.Publisher, want.Partition, want.Sequence, want.AcceptedAt))
		if size >= 0 && header+size < len(data) {
			t.Errorf("the sizes add up to %d, and the message has %d bytes", header+size, len(data))
		}
	}
}

func TestBuilderWritesTheGoldenMessage(t *testing.T) {
	t.Parallel()
	want := example()
	var builder message.Builder
	for _, c := range want.Contributions { // the order of kinds does not matter
		builder.AddContribution(c.Contributor, c.Key)
	}
	for _, i := range want.Increments {
		builder.AddIncrement(i.Tag, i.Value, i.Key)
	}
	if data := builder.Encode(want.Publisher, want.Partition, want.Sequence, want.AcceptedAt); !bytes.Equal(data, encode(t, want)) {
		t.Errorf("Builder encodes %x, want %x", data, encode(t, want))
	}
}

func BenchmarkBuilder(b *testing.B) {
	for name, first := range map[string]message.Key{"plain": {}, "keyed": message.KeyOfBatch("order-17")} {
		b.Run(name, func(b *testing.B) {
			var builder message.Builder
			for b.Loop() {
				builder.Reset()
				key := first
				for range message.MaxEntries {
					builder.AddIncrement("some_word", 1, key)
					if key != (message.Key{}) {
						key = key.Next()
					}
				}
				builder.Encode(message.Publisher{}, 1, 1, time.Time{})
			}
		})
	}
}
