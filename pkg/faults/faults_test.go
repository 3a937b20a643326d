package faults_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/brokertest"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/faults"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStorePassesTheContractSuite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Store { return faults.New(nil).Store(databasetest.Store(t)) })
}

func TestBrokerPassesTheContractSuite(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, brokertest.Broker{
		New: func(t *testing.T, subscriptions int, ackDeadline time.Duration) (brokertest.Topic, []brokertest.Subscription) {
			f, topic := faults.New(nil), databasetest.NewTopic(t)
			subs := make([]brokertest.Subscription, subscriptions)
			for i := range subs {
				subs[i] = f.Subscription(topic.Subscribe(ackDeadline))
			}
			return f.Topic(topic), subs
		},
		AckDeadline: 10 * time.Second,
		OwnClock:    true,
	})
}

// A new method of a store, a topic or a subscription has no faults until the wrapper has it.
func TestEveryMethodFollowsTheRule(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var last string
	f := faults.New(func(c faults.Call) faults.Fault {
		last = c.Method
		return faults.Fail(broken)
	})
	topic := databasetest.NewTopic(t)
	for _, wrapper := range []any{f.Store(databasetest.Store(t)), f.Topic(topic), f.Subscription(topic.Subscribe(time.Minute))} {
		v := reflect.ValueOf(wrapper)
		for i := range v.NumMethod() {
			name, method := v.Type().Method(i).Name, v.Method(i)
			arguments := make([]reflect.Value, method.Type().NumIn())
			arguments[0] = reflect.ValueOf(t.Context())
			for n := 1; n < len(arguments); n++ {
				arguments[n] = reflect.Zero(method.Type().In(n))
				switch arguments[n].Interface().(type) {
				case []string:
					arguments[n] = reflect.ValueOf([]string{"receipt"})
				case []broker.Message:
					arguments[n] = reflect.ValueOf([]broker.Message{{Data: []byte("x")}})
				}
			}
			last = ""
			results := method.Call(arguments)
			err, _ := results[len(results)-1].Interface().(error)
			if !errors.Is(err, broken) || !strings.HasPrefix(last, name) { // Check is CheckTopic, too
				t.Errorf("%s.%s() = %v, and the rule saw %q", v.Type(), name, err, last)
			}
		}
	}
}

// commit returns the first Commit of partition 1, with one contribution.
func commit() store.Commit {
	var c checkpoint.Checkpoint
	return store.Commit{
		Partition: 1, Next: c.Next(time.Now(), time.Hour, nil, nil),
		Contributors: []store.Contributions{{Contributor: "ada", Contributions: 1}},
	}
}

func TestFaultsOfARequest(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	f := faults.New(nil)
	for name, tc := range map[string]struct {
		fault     faults.Fault
		want      error
		committed bool
		takes     time.Duration
	}{
		"none":                        {nil, nil, true, 0},
		"a delay":                     {faults.Delay(time.Second), nil, true, time.Second},
		"a delay beyond the deadline": {faults.Delay(time.Hour), context.DeadlineExceeded, false, time.Minute},
		"a failure":                   {faults.Fail(broken), broken, false, 0},
		"a failure after a delay":     {faults.DelayThen(time.Second, faults.Fail(broken)), broken, false, time.Second},
		"a lost reply":                {faults.LoseReply(broken), broken, true, 0},
		"a hang":                      {faults.Hang(), context.DeadlineExceeded, false, time.Minute},
		"a late arrival":              {f.Late(time.Hour, broken), broken, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f.Follow(func(faults.Call) faults.Fault { return tc.fault })
				kept := databasetest.Store(t)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				begun := time.Now()
				revision, err := f.Store(kept).Commit(ctx, commit())
				if !errors.Is(err, tc.want) || (revision == store.Revision{}) == (err == nil) {
					t.Errorf("Commit() = %v, %v, want %v", revision, err, tc.want)
				}
				if took := time.Since(begun); took != tc.takes {
					t.Errorf("Commit() took %v, want %v", took, tc.takes)
				}
				f.Wait()
				state, err := kept.Load(t.Context(), 1)
				if err != nil || (state.Revision != store.Revision{}) != tc.committed {
					t.Errorf("the store has %v, %v, want committed %v", state.Revision, err, tc.committed)
				}
			})
		})
	}
}

func TestRuleSeesTheRequest(t *testing.T) {
	t.Parallel()
	var calls []faults.Call
	f := faults.New(func(c faults.Call) faults.Fault {
		calls = append(calls, c)
		return nil
	})
	s := f.Store(databasetest.Store(t))
	c := commit()
	_, _ = s.Load(t.Context(), 7)
	_, _ = s.Commit(t.Context(), c)
	_, _ = s.Load(t.Context(), 8)
	want := []faults.Call{
		{Method: "Load", Number: 1, Partition: 7},
		{Method: "Commit", Number: 1, Partition: 1, Commit: &c},
		{Method: "Load", Number: 2, Partition: 8},
	}
	if !reflect.DeepEqual(calls, want) {
		t.Errorf("the rule saw %+v, want %+v", calls, want)
	}
	if got := f.Requests("Load"); got != 2 {
		t.Errorf("Requests(Load) = %d, want 2", got)
	}
}

func TestRandomFaultsFollowOddsAndSeed(t *testing.T) {
	t.Parallel()
	outcomes := func(seed uint64) map[string]int {
		counts := make(map[string]int)
		synctest.Test(t, func(t *testing.T) {
			f := faults.New(nil)
			f.Follow(f.Random(seed, faults.Odds{Fail: 100, LoseReply: 100, Late: 100, Hang: 100, Delay: time.Second}))
			s := databasetest.Store(t)
			for partition := range uint32(1000) {
				c := commit()
				c.Partition = partition
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				_, err := f.Store(s).Commit(ctx, c)
				cancel()
				now, _ := s.Load(t.Context(), partition)
				f.Wait()
				later, _ := s.Load(t.Context(), partition)
				switch {
				case errors.Is(err, context.DeadlineExceeded):
					counts["hang"]++
				case err == nil:
					counts["none"]++
				case now.Revision != store.Revision{}:
					counts["lost reply"]++
				case later.Revision != store.Revision{}:
					counts["late"]++
				default:
					counts["failure"]++
				}
			}
		})
		return counts
	}
	first := outcomes(1)
	for _, name := range []string{"hang", "lost reply", "late", "failure"} {
		if n := first[name]; n < 50 || n > 150 {
			t.Errorf("%s: %d of 1000, want about 100", name, n)
		}
	}
	if again := outcomes(1); !reflect.DeepEqual(again, first) {
		t.Errorf("the same seed gives %v, then %v", first, again)
	}
	if other := outcomes(2); reflect.DeepEqual(other, first) {
		t.Errorf("two seeds give %v", other)
	}
}

func TestStoreRefusesWhatFirestoreRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change  func(*store.Commit)
		refused bool
	}{
		"an empty commit":            {func(*store.Commit) {}, false},
		"a checkpoint of 1,000,000":  {publishersOf(1_000_000), false},
		"a checkpoint of 1 MiB":      {publishersOf(1 << 20), true},
		"two fields of 600,000":      {func(c *store.Commit) { publishersOf(600_000)(c); totalsOf(600_000)(c) }, true},
		"one field of 600,000":       {totalsOf(600_000), false},
		"keys of more than 1 MiB":    {func(c *store.Commit) { c.Keys = make([]checkpoint.KeyRange, 70_000) }, true},
		"ten documents of 1,000,000": {periods(10), false},
		"eleven large documents":     {periods(11), true},
		"one contributor 250 times":  {contributors(250, "ada"), false},
		"one contributor 251 times":  {contributors(251, "ada"), true},
		"an id that is too long":     {contributors(1, strings.Repeat("x", 1499)), true},
		"an id that is not UTF-8":    {contributors(1, "\xff"), true},
		"a name that looks reserved": {contributors(1, "__x__"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := commit()
			tc.change(&c)
			s := databasetest.Store(t)
			_, err := faults.New(nil).Store(s).Commit(t.Context(), c)
			if errors.Is(err, store.ErrRefused) != tc.refused || (err != nil) != tc.refused {
				t.Errorf("Commit() = %v, want refused %v", err, tc.refused)
			}
			if state, _ := s.Load(t.Context(), 1); (state.Revision == store.Revision{}) != tc.refused {
				t.Errorf("the store has %v", state.Revision)
			}
		})
	}
}

// publishersOf adds intervals of two bytes each to a checkpoint, up to about the given number of bytes.
func publishersOf(bytes int) func(*store.Commit) {
	gaps := make(checkpoint.Intervals, bytes/2)
	for i := range gaps {
		gaps[i] = checkpoint.Interval{First: uint64(2*i + 1), Last: uint64(2*i + 1)}
	}
	return func(c *store.Commit) {
		c.Next.Publishers = map[message.Publisher]checkpoint.Counted{{1}: {Sequences: gaps, LastSeen: time.Now()}}
	}
}

func totalsOf(bytes int) func(*store.Commit) {
	return func(c *store.Commit) { c.Next.Totals = []checkpoint.Total{{Name: strings.Repeat("x", bytes)}} }
}

// periods adds documents of about 1,000,000 bytes each to a Commit.
func periods(n int) func(*store.Commit) {
	return func(c *store.Commit) {
		for range n {
			c.Closed = append(c.Closed, checkpoint.Period{
				Resolution: checkpoint.Minute, Begin: time.Now(),
				Changes: []checkpoint.Change{{Name: strings.Repeat("x", 1_000_000)}},
			})
		}
	}
}

func contributors(n int, id string) func(*store.Commit) {
	return func(c *store.Commit) {
		c.Contributors = nil
		for range n {
			c.Contributors = append(c.Contributors, store.Contributions{Contributor: id, Contributions: 1})
		}
	}
}

func TestTopicRefusesWhatPubSubRefuses(t *testing.T) {
	t.Parallel()
	attributes := func(n int) map[string]string {
		m := make(map[string]string)
		for i := range n {
			m[strings.Repeat("x", i+1)] = "y"
		}
		return m
	}
	for name, tc := range map[string]struct {
		message broker.Message
		want    error
	}{
		"the largest message":            {broker.Message{Data: make([]byte, broker.MaxMessageBytes)}, nil},
		"a larger message":               {broker.Message{Data: make([]byte, broker.MaxMessageBytes+1)}, broker.ErrMessageSize},
		"nothing":                        {broker.Message{}, faults.ErrInvalidMessage},
		"a hundred attributes":           {broker.Message{Attributes: attributes(100)}, nil},
		"one more":                       {broker.Message{Attributes: attributes(101)}, faults.ErrInvalidMessage},
		"a value of 1,024 bytes":         {broker.Message{Attributes: map[string]string{"a": strings.Repeat("x", 1024)}}, nil},
		"a longer value":                 {broker.Message{Attributes: map[string]string{"a": strings.Repeat("x", 1025)}}, faults.ErrInvalidMessage},
		"a name of more than 256 bytes":  {broker.Message{Attributes: map[string]string{strings.Repeat("x", 257): ""}}, faults.ErrInvalidMessage},
		"an attribute that is not UTF-8": {broker.Message{Attributes: map[string]string{"a": "\xff"}}, faults.ErrInvalidMessage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := faults.New(nil)
			good := broker.Message{Data: []byte("x")}
			err := f.Topic(databasetest.NewTopic(t)).Publish(t.Context(), []broker.Message{good, tc.message})
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("Publish() = %v, want %v", err, tc.want)
			}
			if sent := f.Requests("Publish"); (sent > 0) != (tc.want == nil) {
				t.Errorf("%d requests were sent", sent)
			}
		})
	}
}

func TestManyMessagesTakeSeveralRequests(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	second := func(c faults.Call) faults.Fault {
		if c.Number == 2 {
			return faults.Fail(broken)
		}
		return nil
	}
	topic := databasetest.NewTopic(t)
	kept := topic.Subscribe(time.Minute)
	f := faults.New(second)
	messages := make([]broker.Message, 2500)
	for i := range messages {
		messages[i].Data = []byte("x")
	}
	if err := f.Topic(topic).Publish(t.Context(), messages); !errors.Is(err, broken) || databasetest.Held(t, kept) != 1000 {
		t.Errorf("Publish() = %v with %d messages published, want 1000", err, databasetest.Held(t, kept))
	}
	if err := f.Topic(topic).Publish(t.Context(), messages[:1500]); err != nil || databasetest.Held(t, kept) != 2500 {
		t.Errorf("Publish() = %v with %d messages published, want 2500", err, databasetest.Held(t, kept))
	}

	subscription := f.Subscription(kept)
	f.Follow(nil)
	var receipts []string
	for range 25 {
		deliveries, err := subscription.Pull(t.Context(), broker.MaxPull)
		if err != nil || len(deliveries) != faults.MaxPull {
			t.Fatalf("Pull() = %d messages, %v, want %d", len(deliveries), err, faults.MaxPull)
		}
		for _, d := range deliveries {
			receipts = append(receipts, d.Receipt)
		}
	}
	f.Follow(second)
	if err := subscription.Acknowledge(t.Context(), receipts); !errors.Is(err, broken) || databasetest.Held(t, kept) != 1000 {
		t.Errorf("Acknowledge() = %v with %d messages left, want 1000", err, databasetest.Held(t, kept))
	}
	if err := subscription.Extend(t.Context(), receipts, 0); !errors.Is(err, broken) || f.Requests("Extend") != 3 {
		t.Errorf("Extend() = %v in %d requests, want 3", err, f.Requests("Extend"))
	}
}
