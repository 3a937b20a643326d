package message_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/message"
)

// Batch.Encode is protobuf's own code; Builder is ours. What is published must not depend on which of them wrote it.
func TestBuilderEncodesWhatBatchDoes(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string { return strings.Repeat([]string{"a", "𝒳"}[random.IntN(2)], random.IntN(150)) }
	key := func() (k message.Key) {
		if random.IntN(2) == 0 {
			k = message.Key(message.NewPublisher())
		}
		return k
	}
	var builder message.Builder // one for all, to see that Reset leaves nothing behind
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
				if i.Value == 0 || i.Value > 127 { // not a value that may be counted
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
		data, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got := builder.Encode(want.Publisher, want.Partition, want.Sequence, want.AcceptedAt)
		if !bytes.Equal(got, data) {
			t.Fatalf("Builder of %+v encodes %x, Batch %x", want, got, data)
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
	data, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got := builder.Encode(want.Publisher, want.Partition, want.Sequence, want.AcceptedAt); !bytes.Equal(got, data) {
		t.Errorf("Builder encodes %x, want %x", got, data)
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

func BenchmarkEncode(b *testing.B) {
	batch := example()
	for b.Loop() {
		batch.Increments = batch.Increments[:0]
		for range message.MaxEntries {
			batch.Increments = append(batch.Increments, message.Increment{Tag: "some_word", Value: 1})
		}
		if _, err := batch.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}
