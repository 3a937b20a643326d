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
	for _, i := range b.Increments {
		pb.Increments = append(pb.Increments, &messagepb.Batch_Increment{Tag: i.Tag, Value: uint32(i.Value), Key: wire(i.Key)})
	}
	for _, c := range b.Contributions {
		pb.Contributions = append(pb.Contributions, &messagepb.Batch_Contribution{Contributor: c.Contributor, Key: wire(c.Key)})
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
	key := func() (k message.Key) {
		if random.IntN(2) == 0 {
			k = message.Key(message.NewPublisher())
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
		if size >= 0 && header+size != len(data) {
			t.Errorf("the sizes add up to %d, the message has %d bytes", header+size, len(data))
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
	var builder message.Builder
	for b.Loop() {
		builder.Reset()
		for range message.MaxEntries {
			builder.AddIncrement("some_word", 1, message.Key{})
		}
		builder.Encode(message.Publisher{}, 1, 1, time.Time{})
	}
}
