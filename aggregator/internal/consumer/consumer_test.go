package consumer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func length(s string) int64 { return int64(len(s)) }

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		put     []string
		dropped int
	}{
		"nothing":                            {nil, 0},
		"what fits":                          {[]string{"aaaa", "bbbb"}, 0},
		"more than fits":                     {[]string{"aaaa", "bbbb", "cccc"}, 1},
		"a first one that is too large":      {[]string{"aaaaaaaaaaaa"}, 0},
		"a second one that is too large":     {[]string{"a", "bbbbbbbbbbbb"}, 1},
		"one that is too large before small": {[]string{"a", "bbbbbbbbbbbb", "c"}, 2},
	} {
		b := newBuffer(1000)
		q := newQueue(b, 10, length)
		dropped := q.put(test.put)
		var held int64
		for _, item := range test.put[:len(test.put)-dropped] {
			held += length(item)
		}
		if dropped != test.dropped || b.bytes() != held {
			t.Errorf("%s: %d dropped, want %d; %d bytes held, want %d", name, dropped, test.dropped, b.bytes(), held)
		}
		all := func([]string, string) bool { return true }
		q.close()
		taken := q.take(t.Context(), all)
		if b.bytes() != held { // they are held until they are done
			t.Errorf("%s: %d bytes are held of what was taken, want %d", name, b.bytes(), held)
		}
		q.done(taken)
		if b.bytes() != 0 || len(q.take(t.Context(), all)) > 0 {
			t.Errorf("%s: %d bytes are held in the end", name, b.bytes())
		}
	}
}

func TestQueueHandsOutWhatGoesTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(newBuffer(1000), 100, length)
		same := func(taken []string, next string) bool { return len(taken) < 3 && next == taken[0] }
		taken := make(chan []string)
		go func() {
			for some := q.take(t.Context(), same); len(some) > 0; some = q.take(t.Context(), same) {
				taken <- some
			}
			close(taken)
		}()
		synctest.Wait() // it waits for a first item
		q.put(strings.Split("aaaabba", ""))
		q.close()
		for _, want := range []string{"aaa", "a", "bb", "a", ""} {
			if got := strings.Join(<-taken, ""); got != want {
				t.Errorf("taken %q, want %q", got, want)
			}
		}
	})
}

func TestTakeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if got := newQueue(newBuffer(1000), 100, length).take(ctx, nil); got != nil {
			t.Errorf("take() = %v", got)
		}
	})
}

// A Pull asks for as many messages as there is room for if they are large, and all Pulls together for no more than the
// buffer holds.
func TestPullsAreSizedByTheRoom(t *testing.T) {
	t.Parallel()
	const limit = 128 << 20
	for name, test := range map[string]struct {
		limit, held int64
		came        int64 // bytes of one message that came last
		want        int
	}{
		"an empty buffer":               {limit, 0, 0, 256},
		"small messages":                {limit, 0, 500, 256},
		"huge messages":                 {limit, 0, 1 << 20, 16},
		"a buffer that is half full":    {limit, limit / 2, 500, 256},
		"little room":                   {limit, limit - limit/16, 500, 128},
		"a full buffer":                 {limit, limit, 500, 0},
		"nearly no room":                {limit, limit - limit/64, 500, 0},
		"a message larger than it":      {1 << 20, 0, 10 << 20, 1},
		"a small buffer":                {1 << 20, 0, 500, 16},
		"a small buffer with something": {1 << 20, 1 << 19, 500, 16},
	} {
		b := newBuffer(test.limit)
		if test.came > 0 {
			b.average = 0
			b.came(test.came, 1)
		}
		b.hold(test.held)
		got, bytes := b.try()
		if got != test.want || b.reserved != bytes || bytes > max(test.limit-test.held, 10<<20) {
			t.Errorf("%s: %d messages and %d bytes, want %d", name, got, bytes, test.want)
		}
	}
}

// While it waits for room, reserve calls full repeatedly. It returns when there is room.
func TestReserveWaitsForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer(1 << 20)
		b.hold(1 << 20)
		full := 0
		began := time.Now()
		time.AfterFunc(10*fullEvery+fullEvery/2, func() { b.free(1 << 20) })
		limit, reserved, err := b.reserve(t.Context(), func() { full++ })
		if err != nil || limit == 0 || time.Since(began) != 10*fullEvery+fullEvery/2 || full != 11 {
			t.Errorf("reserve() = %d, %d, %v after %v, and %d calls", limit, reserved, err, time.Since(began), full)
		}
		b.unreserve(reserved)
		if b.reserved != 0 {
			t.Errorf("%d bytes stay reserved", b.reserved)
		}
	})
}

func TestWithReasonKeepsTheLimitsOfPubSub(t *testing.T) {
	t.Parallel()
	many := make(map[string]string)
	for n := range maxAttributes {
		many[strings.Repeat("x", n+1)] = ""
	}
	for name, test := range map[string]struct {
		in     broker.Message
		reason string
		data   int // bytes that are left
	}{
		"a small message":                {broker.Message{Data: []byte("garbage")}, "invalid", 7},
		"attributes are kept":            {broker.Message{Data: []byte("garbage"), Attributes: map[string]string{"shard": "1"}}, "invalid", 7},
		"as many attributes as can be":   {broker.Message{Data: []byte("garbage"), Attributes: many}, "invalid", 7},
		"no data":                        {broker.Message{Attributes: map[string]string{"shard": "1"}}, "invalid", 0},
		"a long reason that is cut":      {broker.Message{Data: []byte("garbage")}, strings.Repeat("ä", maxReason), 7},
		"a message that is cut":          {broker.Message{Data: make([]byte, broker.MaxMessageBytes)}, "invalid", broker.MaxMessageBytes - len("reason") - len("invalid") - 16},
		"a large one with a long reason": {broker.Message{Data: make([]byte, broker.MaxMessageBytes)}, strings.Repeat("x", 5000), broker.MaxMessageBytes - len("reason") - maxReason - 16},
	} {
		before := len(test.in.Attributes)
		out := withReason(test.in, errors.New(test.reason))
		reason := out.Attributes[message.ReasonAttribute]
		if out.Size() > broker.MaxMessageBytes || len(out.Attributes) > maxAttributes || len(out.Data) != test.data ||
			!strings.HasPrefix(test.reason, strings.TrimRight(reason, "\uFFFD")) || reason == "" || len(reason) > 1024 {
			t.Errorf("%s: %d bytes, %d of them data, want %d; %d attributes; the reason has %d bytes", name, out.Size(), len(out.Data), test.data, len(out.Attributes), len(reason))
		}
		if len(test.in.Attributes) != before {
			t.Errorf("%s: the attributes of the message were changed", name)
		}
	}
}
