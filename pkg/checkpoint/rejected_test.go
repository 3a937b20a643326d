package checkpoint_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
)

func someRejected() []checkpoint.Rejected {
	return []checkpoint.Rejected{
		{Tag: "foo", Value: 9, Reason: "full"},
		{Tag: "ballz", Value: 1, Key: message.KeyOf("order-1"), Reason: "full"},
		{Contributor: "ada", Reason: "refused"},
		{Contributor: "bob/ß", Key: message.KeyOf("order-2"), Reason: "full"},
	}
}

func TestUnpackRejectedReturnsWhatWasPacked(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]checkpoint.Rejected{"none": {}, "one": someRejected()[:1], "many": someRejected()} {
		packed := checkpoint.PackRejected(want)
		got, err := checkpoint.UnpackRejected(packed)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: unpacked %v, %v, want %v", name, got, err, want)
		}
		bound := 1 + 10 + 10
		for i := range want {
			bound += want[i].Size() + len(want[i].Reason) + 3
		}
		if len(packed) > bound {
			t.Errorf("%s: packed into %d bytes, Size() allows %d", name, len(packed), bound)
		}
	}
}

func FuzzUnpackRejected(f *testing.F) {
	f.Add(checkpoint.PackRejected(someRejected()))
	f.Add([]byte{})
	f.Add([]byte{checkpoint.RejectedVersion + 1})
	f.Add([]byte{checkpoint.RejectedVersion, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, packed []byte) {
		entries, err := checkpoint.UnpackRejected(packed)
		if err != nil {
			if !errors.Is(err, checkpoint.ErrCorrupt) {
				t.Errorf("UnpackRejected() = %v, want ErrCorrupt", err)
			}
			return
		}
		if again, err := checkpoint.UnpackRejected(checkpoint.PackRejected(entries)); err != nil || !slices.Equal(again, entries) {
			t.Errorf("%v became %v, %v on the round trip", entries, again, err)
		}
	})
}
