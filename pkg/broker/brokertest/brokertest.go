// Package brokertest has the tests that every broker must pass. They cover everything that the services rely on. The embedded
// broker, Pub/Sub's emulator and Google's in-process fake of Pub/Sub pass them.
package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/pkg/broker"
)

// Topic is the publishing side of a broker.
type Topic interface {
	Publish(context.Context, []broker.Message) error
	Check(context.Context) error
}

// Subscription is the pulling side of a broker.
type Subscription interface {
	Pull(ctx context.Context, limit int) ([]broker.Delivery, error)
	Acknowledge(ctx context.Context, receipts []string) error
	Extend(ctx context.Context, receipts []string, d time.Duration) error
	Describe(context.Context) (broker.SubscriptionInfo, error)
	Check(context.Context) error
}

// Broker is the implementation under test.
type Broker struct {
	// New returns a new topic with the given number of subscriptions, whose leases last ackDeadline.
	New func(t *testing.T, subscriptions int, ackDeadline time.Duration) (Topic, []Subscription)
	// AckDeadline is the shortest one that the broker allows. Tests wait for it to pass.
	AckDeadline time.Duration
	// OwnClock is set for a broker without a network. Its tests run in a synctest bubble.
	OwnClock bool
}

const (
	// plenty is an ack deadline longer than any test.
	plenty = time.Minute
	// wait is how long a Pull may wait for a first message.
	wait = 10 * time.Second
	// patience bounds the time to wait for messages that must arrive.
	patience = 2 * time.Minute
	// moment is the time to wait for messages that must not arrive.
	moment = 1500 * time.Millisecond
	// slack is how much too early a broker may end a lease.
	slack = time.Second
)

// Run runs the suite. Its tests run in parallel, since some wait for leases to end.
func Run(t *testing.T, b Broker) {
	for name, test := range map[string]func(*testing.T, Broker){
		"a message arrives complete and once":                 testRoundTrip,
		"the caller may change its bytes after Publish":       testOwnsBytes,
		"a message is redelivered when its lease ends":        testLeaseEnds,
		"a released message is redelivered at once":           testRelease,
		"an extended lease lasts longer":                      testExtend,
		"a thousand messages in one publish":                  testCount(1000),
		"more messages than fit in a request":                 testCount(1500),
		"more bytes than fit in a request":                    testLargeMessages,
		"the largest message passes, a larger one is refused": testMessageSize,
		"a pull returns no more than its limit":               testPullLimit,
		"a pull returns although there are no messages":       testEmptyPull,
		"a pull ends with its context":                        testPullEndsWithContext,
		"nothing happens after the context has ended":         testEndedContext,
		"each subscription gets every message":                testTwoSubscriptions,
		"concurrent pulls share the messages":                 testConcurrentPulls,
		"empty calls succeed":                                 testNone,
		"a subscription describes itself":                     testDescribe,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if b.OwnClock {
				synctest.Test(t, func(t *testing.T) { test(t, b) })
				return
			}
			test(t, b)
		})
	}
}

func testRoundTrip(t *testing.T, b Broker) {
	topic, subs := b.New(t, 1, plenty)
	before := time.Now()
	published := []broker.Message{
		{Data: []byte{0, 0xff, 0xc3, 0x28, '\n'}, Attributes: map[string]string{"reason": "héllo\n", "empty": ""}},
		{Data: []byte("plain")},
		{Attributes: map[string]string{"only": "attributes"}},
	}
	publish(t, topic, published...)
	got := collect(t, subs[0], len(published))
	for i, want := range published {
		d := find(t, got, want)
		if !maps.Equal(d.Attributes, want.Attributes) {
			t.Errorf("message %d has the attributes %v, want %v", i, d.Attributes, want.Attributes)
		}
		if d.ID == "" || d.Receipt == "" {
			t.Errorf("message %d has the id %q and the receipt %q", i, d.ID, d.Receipt)
		}
		if age := d.PublishedAt.Sub(before); age < -slack || age > patience {
			t.Errorf("message %d was published %v after the test began", i, age)
		}
	}
	acknowledge(t, subs[0], got...)
	nothing(t, subs[0])
}

func testOwnsBytes(t *testing.T, b Broker) {
	topic, subs := b.New(t, 1, plenty)
	m := broker.Message{Data: []byte("before"), Attributes: map[string]string{"when": "before"}}
	publish(t, topic, m)
	copy(m.Data, "after!")
	m.Attributes["when"] = "after"
	d := collect(t, subs[0], 1)[0]
	if string(d.Data) != "before" || d.Attributes["when"] != "before" {
		t.Errorf("delivered %q, %v", d.Data, d.Attributes)
	}
}

func testLeaseEnds(t *testing.T, b Broker) {
	topic, subs := b.New(t, 1, b.AckDeadline)
	publish(t, topic, broker.Message{Data: []byte("again")})
	start := time.Now()
	first := collect(t, subs[0], 1)[0]
	second := collect(t, subs[0], 1)[0]
	if took := time.Since(start); took < b.AckDeadline-slack {
		t.Errorf("redelivered after %v, want %v", took, b.AckDeadline)
	}
	if string(second.Data) != "again" || second.ID != first.ID || second.Receipt == first.Receipt {
		t.Errorf("delivered %+v after %+v", second, first)
	}
	acknowledge(t, subs[0], first) // late, and ignored
	acknowledge(t, subs[0], second)
	nothing(t, subs[0])
}

func testRelease(t *testing.T, b Broker) {
	topic, subs := b.New(t, 1, plenty)
	publish(t, topic, broker.Message{Data: []byte("released")}, broker.Message{Data: []byte("kept")})
	first := find(t, collect(t, subs[0], 2), broker.Message{Data: []byte("released")})
	start := time.Now()
	if err := subs[0].Extend(t.Context(), []string{first.Receipt}, 0); err != nil {
		t.Fatal(err)
	}
	second := collect(t, subs[0], 1)[0]
	if took := time.Since(start); took > plenty/2 {
		t.Errorf("redelivered after %v, want at once", took)
	}
	if string(second.Data) != "released" || second.Receipt == first.Receipt {
		t.Errorf("delivered %+v after %+v", second, first)
	}
}

func testExtend(t *testing.T, b Broker) {
	topic, subs := b.New(t, 1, b.AckDeadline)
	publish(t, topic, broker.Message{Data: []byte("extended")})
	start := time.Now()
	d := collect(t, subs[0], 1)[0]
	if err := subs[0].Extend(t.Context(), []string{d.Receipt}, 2*b.AckDeadline); err != nil {
		t.Fatal(err)
	}
	collect(t, subs[0], 1)
	if took := time.Since(start); took < 2*b.AckDeadline-slack {
		t.Errorf("redelivered after %v, want %v", took, 2*b.AckDeadline)
	}
	if err := subs[0].Extend(t.Context(), []string{d.Receipt}, b.AckDeadline); err != nil {
		t.Errorf("Extend() of a lease that has ended = %v", err)
	}
}

func testCount(n int) func(*testing.T, Broker) {
	return func(t *testing.T, b Broker) {
		topic, subs := b.New(t, 1, plenty)
		publish(t, topic, numbered(n)...)
		got := collect(t, subs[0], n)
		for i, d := range got {
			if string(d.Data) != d.Attributes["number"] {
				t.Fatalf("delivery %d mixes %q and %v", i, d.Data, d.Attributes)
			}
		}
		acknowledge(t, subs[0], got...)
		nothing(t, subs[0])
	}
}

func testLargeMessages(t *testing.T, b Broker) {
	topic, subs := b.New(t, 1, plenty)
	large := make([]broker.Message, 3)
	for i := range large {
		large[i].Data = bytes.Repeat([]byte{byte(i)}, 4_000_000)
	}
	publish(t, topic, large...)
	got := collect(t, subs[0], len(large))
	for _, want := range large {
		find(t, got, want)
	}
	acknowledge(t, subs[0], got...)
}

func testMessageSize(t *testing.T, b Broker) {
	topic, subs := b.New(t, 1, plenty)
	largest := broker.Message{Data: make([]byte, broker.MaxMessageBytes)}
	for name, tooLarge := range map[string]broker.Message{
		"data":       {Data: make([]byte, broker.MaxMessageBytes+1)},
		"attributes": {Data: make([]byte, broker.MaxMessageBytes-10), Attributes: map[string]string{"a": "0123456789"}},
	} {
		err := topic.Publish(t.Context(), []broker.Message{{Data: []byte("small")}, tooLarge})
		if !errors.Is(err, broker.ErrMessageSize) {
			t.Errorf("Publish() of a message with too large %s = %v, want %v", name, err, broker.ErrMessageSize)
		}
	}
	nothing(t, subs[0])
	publish(t, topic, largest)
	if d := collect(t, subs[0], 1)[0]; len(d.Data) != len(largest.Data) {
		t.Errorf("delivered %d bytes, want %d", len(d.Data), len(largest.Data))
	}
}

func testPullLimit(t *testing.T, b Broker) {
	topic, subs := b.New(t, 1, plenty)
	publish(t, topic, numbered(5)...)
	for got := 0; got < 5; {
		pulled, err := subs[0].Pull(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(pulled) > 2 {
			t.Fatalf("Pull(2) returned %d", len(pulled))
		}
		got += len(pulled)
	}
}

func testEmptyPull(t *testing.T, b Broker) {
	_, subs := b.New(t, 1, plenty)
	start := time.Now()
	pulled, err := subs[0].Pull(t.Context(), 1)
	if took := time.Since(start); err != nil || len(pulled) != 0 || took > wait {
		t.Errorf("Pull() returned %d messages after %v: %v", len(pulled), took, err)
	}
}

func testPullEndsWithContext(t *testing.T, b Broker) {
	_, subs := b.New(t, 1, plenty)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	for {
		_, err := subs[0].Pull(ctx, 1)
		if err == nil && time.Since(start) < patience {
			continue // it returned empty before the context ended
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Pull() = %v, want %v", err, context.Canceled)
		}
		return
	}
}

func testEndedContext(t *testing.T, b Broker) {
	topic, subs := b.New(t, 1, plenty)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	past, cancelPast := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelPast()
	for name, call := range map[string]func(context.Context) error{
		"Publish":     func(ctx context.Context) error { return topic.Publish(ctx, []broker.Message{{Data: []byte("late")}}) },
		"Pull":        func(ctx context.Context) error { _, err := subs[0].Pull(ctx, 1); return err },
		"Acknowledge": func(ctx context.Context) error { return subs[0].Acknowledge(ctx, []string{"receipt"}) },
		"Extend":      func(ctx context.Context) error { return subs[0].Extend(ctx, []string{"receipt"}, time.Minute) },
	} {
		if err := call(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("%s() = %v, want %v", name, err, context.Canceled)
		}
		if err := call(past); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s() = %v, want %v", name, err, context.DeadlineExceeded)
		}
	}
	nothing(t, subs[0])
}

func testTwoSubscriptions(t *testing.T, b Broker) {
	topic, subs := b.New(t, 2, plenty)
	publish(t, topic, numbered(10)...)
	acknowledge(t, subs[0], collect(t, subs[0], 10)...)
	acknowledge(t, subs[1], collect(t, subs[1], 10)...)
	nothing(t, subs[0])
	nothing(t, subs[1])
}

func testConcurrentPulls(t *testing.T, b Broker) {
	const publishers, pullers, each = 4, 4, 500
	topic, subs := b.New(t, 1, plenty)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var working sync.WaitGroup
	for p := range publishers {
		working.Go(func() {
			for i := 0; i < each; i += 50 {
				batch := numbered(each)[i : i+50]
				for j := range batch {
					batch[j].Data = fmt.Appendf(nil, "%d/%s", p, batch[j].Data)
				}
				if err := topic.Publish(ctx, batch); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var mu sync.Mutex
	times := make(map[string]int)
	for range pullers {
		working.Go(func() {
			for {
				mu.Lock()
				done := len(times) == publishers*each
				mu.Unlock()
				if done {
					return
				}
				pulled, err := subs[0].Pull(ctx, 100)
				if err == nil {
					err = subs[0].Acknowledge(ctx, receipts(pulled))
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, d := range pulled {
					times[string(d.Data)]++
				}
				mu.Unlock()
			}
		})
	}
	working.Wait()
	for data, n := range times {
		if n != 1 {
			t.Errorf("message %s was delivered %d times", data, n)
		}
	}
}

func testNone(t *testing.T, b Broker) {
	topic, subs := b.New(t, 1, plenty)
	if err := topic.Publish(t.Context(), nil); err != nil {
		t.Errorf("Publish(none) = %v", err)
	}
	if err := subs[0].Acknowledge(t.Context(), nil); err != nil {
		t.Errorf("Acknowledge(none) = %v", err)
	}
	if err := subs[0].Extend(t.Context(), nil, time.Minute); err != nil {
		t.Errorf("Extend(none) = %v", err)
	}
}

func testDescribe(t *testing.T, b Broker) {
	topic, subs := b.New(t, 1, plenty)
	info, err := subs[0].Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.AckDeadline != plenty || info.Retention < 10*time.Minute {
		t.Errorf("Describe() = %+v, want an ack deadline of %v and a retention of minutes or more", info, plenty)
	}
	if err := errors.Join(topic.Check(t.Context()), subs[0].Check(t.Context())); err != nil {
		t.Errorf("Check() = %v", err)
	}
}

// numbered returns n different messages.
func numbered(n int) []broker.Message {
	messages := make([]broker.Message, n)
	for i := range messages {
		number := strconv.Itoa(i)
		messages[i] = broker.Message{Data: []byte(number), Attributes: map[string]string{"number": number}}
	}
	return messages
}

func publish(t *testing.T, topic Topic, messages ...broker.Message) {
	t.Helper()
	if err := topic.Publish(t.Context(), messages); err != nil {
		t.Fatal(err)
	}
}

// collect pulls n messages and fails the test if one arrives twice.
func collect(t *testing.T, s Subscription, n int) []broker.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := make(map[string]bool, n)
	var all []broker.Delivery
	for len(all) < n {
		pulled, err := s.Pull(ctx, n)
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(all), n, err)
		}
		if len(pulled) > broker.MaxPull {
			t.Errorf("Pull(%d) returned %d", n, len(pulled))
		}
		for _, d := range pulled {
			if seen[d.ID] {
				t.Errorf("message %s arrived twice", d.ID)
			}
			seen[d.ID] = true
		}
		all = append(all, pulled...)
	}
	return all
}

// find returns the delivery with the data of want.
func find(t *testing.T, deliveries []broker.Delivery, want broker.Message) broker.Delivery {
	t.Helper()
	for _, d := range deliveries {
		if bytes.Equal(d.Data, want.Data) {
			return d
		}
	}
	t.Fatalf("no delivery has the %d bytes %.20q", len(want.Data), want.Data)
	return broker.Delivery{}
}

func receipts(deliveries []broker.Delivery) []string {
	r := make([]string, len(deliveries))
	for i, d := range deliveries {
		r[i] = d.Receipt
	}
	return r
}

func acknowledge(t *testing.T, s Subscription, deliveries ...broker.Delivery) {
	t.Helper()
	if err := s.Acknowledge(t.Context(), receipts(deliveries)); err != nil {
		t.Fatal(err)
	}
}

// nothing fails the test if a message arrives within a moment.
func nothing(t *testing.T, s Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), moment)
	defer cancel()
	pulled, err := s.Pull(ctx, 1)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if len(pulled) > 0 {
		t.Errorf("delivered %.50q, %v", pulled[0].Data, pulled[0].Attributes)
	}
}
