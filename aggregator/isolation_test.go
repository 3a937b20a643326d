package aggregator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/faults"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// sick is a rule under which the partitions below a number fail: their requests to the store have a fault.
func sick(below uint32, fault faults.Fault) faults.Rule {
	return func(call faults.Call) faults.Fault {
		if call.Partition < below && (call.Method == "Load" || call.Method == "Commit") {
			return fault
		}
		return nil
	}
}

// sicknesses are ways in which a partition cannot commit.
var sicknesses = map[string]faults.Fault{
	"a checkpoint that is corrupt":     faults.DelayThen(20*time.Millisecond, faults.Fail(checkpoint.ErrCorrupt)),
	"a store that loses its requests":  faults.DelayThen(time.Second, faults.Fail(faults.ErrLost)),
	"a store that does not answer it":  faults.Hang(),
	"a store that is slow":             faults.Delay(5 * time.Second),
	"a store that conflicts all along": faults.DelayThen(50*time.Millisecond, faults.Fail(store.ErrConflict)),
}

// One partition that cannot commit takes nothing that another needs, however long it lasts and however many messages come
// for it.
func TestASickPartitionDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	for what, fault := range sicknesses {
		inBubble(t, what, func(t *testing.T) {
			r := newRig(t)
			r.config.BufferBytes = 1 << 20 // some 400 messages
			run := r.startFar(t, r.subscription, sick(1, fault))
			const seconds = 120
			large := manyTags(40)
			for range seconds {
				for range 40 {
					r.publish(t, 0, large...)
				}
				r.publish(t, 1, "healthy")
				time.Sleep(time.Second)
			}
			time.Sleep(5 * time.Second)
			if oldest, _ := run.ages.of(1); oldest > 2*r.config.Window {
				t.Errorf("an increment of the healthy partition was %v old when it was in", oldest)
			}
			tags, err := r.store.Tags(t.Context())
			if err != nil || !slices.ContainsFunc(tags, func(tag store.Tag) bool { return tag.Name == "healthy" && tag.Total == seconds }) {
				t.Errorf("of %d of the healthy partition: %.300s, %v", seconds, fmt.Sprint(tags), err)
			}
			run.faults.Follow(distant(nil)) // the partition recovers
			r.awaitDrained(t, 10*time.Minute)
			run.stop(t)
			r.verify(t)
		})
	}
}

// Many sick partitions hold no slot for committing while they load, fail and pause.
func TestSickPartitionsHoldNoSlots(t *testing.T) {
	t.Parallel()
	for what, fault := range map[string]faults.Fault{
		"Loads hang": faults.Hang(), "Loads fail": faults.DelayThen(20*time.Millisecond, faults.Fail(checkpoint.ErrCorrupt)),
	} {
		inBubble(t, what, func(t *testing.T) {
			r := newRig(t)
			r.config.Commits = 4
			run := r.startFar(t, r.subscription, sick(64, fault))
			for range 60 {
				for n := range uint32(64) {
					r.publish(t, n, "sick")
				}
				r.publish(t, 100, "healthy")
				time.Sleep(time.Second)
			}
			if oldest, ok := run.ages.of(100); !ok || oldest > 2*r.config.Window {
				t.Errorf("an increment of the healthy partition was %v old when it was in (%v)", oldest, ok)
			}
			run.stop(t)
		})
	}
}

// With 1,024 partitions, each of which has a message a second, and Commits of 150 ms, no increment is older than two
// windows when it is in.
func TestAThousandPartitionsAreFresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.config.BufferBytes = 128 << 20
		run := r.startFar(t, r.subscription, func(call faults.Call) faults.Fault {
			if call.Method == "Commit" {
				return faults.Delay(150 * time.Millisecond)
			}
			return nil
		})
		const partitions = 1024
		seconds := heavy(50)
		for n := range seconds {
			batches := make([]*message.Batch, partitions)
			for p := range batches {
				batches[p] = single(uint32(p), n+1, "foo")
			}
			r.publishAll(t, batches)
			time.Sleep(time.Second)
		}
		r.want["foo"] = int64(partitions * seconds)
		r.awaitDrained(t, 3*time.Second)
		for p := range uint32(partitions) {
			if oldest, _ := run.ages.of(p); oldest > 2*r.config.Window {
				t.Fatalf("an increment of partition %d was %v old when it was in", p, oldest)
			}
		}
		run.stop(t)
		r.verify(t)
	})
}

// While the topic of dead letters fails, the good messages among the garbage are counted as fast as without it. When it
// is back, all garbage is dead-lettered.
func TestGarbageDoesNotSlowTheOthersWhileDeadLettersFail(t *testing.T) {
	t.Parallel()
	for what, fault := range map[string]faults.Fault{"answer": nil, "hang": faults.Hang(), "fail": faults.Fail(faults.ErrLost)} {
		inBubble(t, "dead letters "+what, func(t *testing.T) {
			r := newRig(t)
			const messages, garbage = 20_000, 200
			r.config.BufferBytes = 2 << 20 // half of what the garbage takes
			large := make([]byte, 20_000)
			var backlog []broker.Message
			for n := range messages {
				data := large
				if n%(messages/garbage) != 0 {
					data = encode(single(1, n+1, "foo"))
					r.want["foo"]++
				}
				backlog = append(backlog, broker.Message{Data: data})
			}
			for n := 0; n < len(backlog); n += 1000 {
				if err := r.topic.Publish(t.Context(), backlog[n:n+1000]); err != nil {
					t.Fatal(err)
				}
			}
			run := r.startFar(t, r.subscription, func(call faults.Call) faults.Fault {
				if call.Method == "Publish" {
					return fault
				}
				return nil
			})
			began := time.Now()
			for run.metric(t, "accrue_messages_decoded_total") < messages-garbage {
				if time.Since(began) > 5*time.Second {
					t.Fatalf("%v of %d good messages are taken after 5 s", run.metric(t, "accrue_messages_decoded_total"), messages-garbage)
				}
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(3 * time.Second)
			r.verify(t)
			time.Sleep(5 * time.Minute)
			run.faults.Follow(distant(nil))
			r.awaitDrained(t, time.Minute)
			run.stop(t)
			if got := len(allDeadLetters(t, r)); got < garbage {
				t.Errorf("%d of %d are dead-lettered", got, garbage)
			}
		})
	}
}

// While acknowledgements and extensions fail, everything is counted as fresh as without that. What comes again afterwards is
// dropped.
func TestFailingAcknowledgementsDelayNothing(t *testing.T) {
	t.Parallel()
	for what, fault := range map[string]faults.Fault{"hang": faults.Hang(), "fail": faults.Fail(faults.ErrLost)} {
		inBubble(t, "acknowledgements "+what, func(t *testing.T) {
			r := newRig(t)
			run := r.startFar(t, r.subscription, func(call faults.Call) faults.Fault {
				if call.Method == "Acknowledge" || call.Method == "Extend" {
					return fault
				}
				return nil
			})
			for range 60 {
				for p := range uint32(16) {
					r.publish(t, p, "foo")
				}
				time.Sleep(time.Second)
			}
			time.Sleep(2 * time.Second)
			r.verify(t)
			for p := range uint32(16) {
				if oldest, ok := run.ages.of(p); !ok || oldest > 2*r.config.Window {
					t.Errorf("an increment of partition %d was %v old when it was in", p, oldest)
				}
			}
			run.faults.Follow(distant(nil))
			r.awaitDrained(t, time.Minute)
			run.stop(t)
			r.verify(t)
		})
	}
}

// allDeadLetters pulls until nothing comes.
func allDeadLetters(t *testing.T, r *rig) (all []broker.Delivery) {
	t.Helper()
	for some := deadLetters(t, r); len(some) > 0; some = deadLetters(t, r) {
		all = append(all, some...)
	}
	return all
}

// A message that is as large as Pub/Sub takes has no room for its reason. It is dead-lettered with its data cut, and other
// dead letters do not wait for it.
func TestALargeMessageDoesNotKeepOthersFromTheDeadLetters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		attributes := make(map[string]string)
		for n := range 100 { // as many as Pub/Sub takes
			attributes[name(n)] = strings.Repeat("x", 100)
		}
		large := broker.Message{Data: make([]byte, broker.MaxMessageBytes-100*(7+100+16)), Attributes: attributes}
		if err := r.topic.Publish(t.Context(), []broker.Message{large, {Data: []byte("garbage")}, {Data: make([]byte, broker.MaxMessageBytes)}, {Data: []byte("more garbage")}}); err != nil {
			t.Fatal(err)
		}
		run := r.startFar(t, r.subscription, nil)
		r.awaitDrained(t, 2*AckDeadline)
		run.stop(t)
		letters := allDeadLetters(t, r)
		if len(letters) != 4 {
			t.Fatalf("%d dead letters, want 4", len(letters))
		}
		for i := range letters {
			if letters[i].Attributes[message.ReasonAttribute] == "" {
				t.Errorf("a dead letter of %d bytes has no reason", len(letters[i].Data))
			}
		}
	})
}

// Two subscriptions of one topic, each with an aggregator, count once: with no filters, with filters that overlap, and
// with those that divide the messages among them. So a stream can be moved from one subscription to several.
func TestTwoSubscriptionsCountOnce(t *testing.T) {
	t.Parallel()
	shards := func(first, last string) func(string) bool {
		return func(shard string) bool { return first <= shard && shard <= last }
	}
	for what, filters := range map[string][2]func(shard string) bool{
		"no filters":       {shards("0", "9"), shards("0", "9")},
		"filters overlap":  {shards("0", "5"), shards("3", "9")},
		"filters divide":   {shards("0", "4"), shards("5", "9")},
		"one takes a part": {shards("0", "9"), shards("2", "3")},
	} {
		inBubble(t, what, func(t *testing.T) {
			r := newRig(t)
			other := r.topic.Subscribe(AckDeadline)
			one, two := r.startFar(t, filtered{r.subscription, filters[0]}, nil), r.startFar(t, filtered{other, filters[1]}, nil)
			for n := range 300 {
				p := uint32(n % 10)
				r.publishAll(t, []*message.Batch{single(p, n/10+1, "foo")})
				time.Sleep(20 * time.Millisecond)
			}
			r.want["foo"] = 300
			r.awaitDrained(t, time.Minute)
			for databasetest.Held(t, other) > 0 {
				time.Sleep(time.Second)
			}
			one.stop(t)
			two.stop(t)
			r.verify(t)
			conflicts := one.ages.conflicts + two.ages.conflicts
			if what == "filters divide" && conflicts > 0 {
				t.Errorf("%d Commits of aggregators that share no partition conflicted", conflicts)
			}
		})
	}
}

// filtered is a subscription with a filter on the shard: like Pub/Sub it acknowledges what does not match.
type filtered struct {
	*brokerembedded.Subscription
	matches func(shard string) bool
}

func (s filtered) Pull(ctx context.Context, limit int) (matching []broker.Delivery, err error) {
	all, err := s.Subscription.Pull(ctx, limit)
	var others []string
	for i := range all {
		if s.matches(all[i].Attributes[message.ShardAttribute]) {
			matching = append(matching, all[i])
		} else {
			others = append(others, all[i].Receipt)
		}
	}
	return matching, errors.Join(err, s.Acknowledge(ctx, others))
}
