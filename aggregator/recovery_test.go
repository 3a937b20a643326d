package aggregator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/aggregator/internal/partition"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/faults"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// While the store is away for three minutes and messages come, the leases of what is held are kept: each message is
// delivered about once. Afterwards the backlog is drained at full speed.
func TestLeasesAreKeptThroughAnOutage(t *testing.T) {
	t.Parallel()
	messages := heavy(400_000)
	for _, frozen := range []bool{true, false} {
		inBubble(t, map[bool]string{true: "the store is frozen", false: "the store fails"}[frozen], func(t *testing.T) {
			r := newRig(t)
			thawed := make(chan struct{})
			fault := faults.DelayThen(50*time.Millisecond, faults.Fail(faults.ErrLost))
			if frozen {
				fault = func(ctx context.Context, request func(context.Context) error) error {
					select {
					case <-thawed:
						return request(ctx)
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			}
			r.config.BufferBytes = int64(messages) * 128 << 20 / 400_000 // the default's share: less than half of the messages have room
			run := r.startFar(t, r.subscription, sick(16, fault))
			backlog := make([]*message.Batch, messages)
			for n := range backlog {
				backlog[n] = single(uint32(n%16), n+1, "foo")
			}
			for begin := 0; begin < messages; begin += messages / 40 {
				r.publishAll(t, backlog[begin:begin+messages/40])
				time.Sleep(50 * time.Millisecond)
			}
			r.want["foo"] = int64(messages)
			time.Sleep(3 * time.Minute)
			close(thawed)
			run.faults.Follow(distant(nil))
			took := r.awaitDrained(t, 5*time.Second+time.Duration(messages/15_000)*time.Second) // at full speed
			pulled := run.metric(t, "accrue_messages_pulled_total")
			t.Logf("%d messages, %.0f delivered, %.0f released, drained in %v, %d extensions", messages, pulled,
				run.metric(t, "accrue_messages_released_total"), took, run.faults.Requests("Extend"))
			if pulled > 1.1*float64(messages) {
				t.Errorf("%d messages were delivered %.0f times", messages, pulled)
			}
			run.stop(t)
			r.verify(t)
		})
	}
}

// A lease whose extension failed is extended again before it ends.
func TestALeaseWhoseExtensionFailedIsExtendedAgain(t *testing.T) {
	t.Parallel()
	for what, fault := range map[string]func(number int) faults.Fault{
		"every other extension fails": func(number int) faults.Fault {
			if number%2 == 1 {
				return faults.Fail(faults.ErrLost)
			}
			return nil
		},
		"every other extension hangs": func(number int) faults.Fault {
			if number%2 == 1 {
				return faults.Hang()
			}
			return nil
		},
	} {
		inBubble(t, what, func(t *testing.T) {
			r := newRig(t)
			run := r.startFar(t, r.subscription, func(call faults.Call) faults.Fault {
				switch call.Method {
				case "Extend":
					return fault(call.Number)
				case "Commit":
					return faults.Hang()
				}
				return nil
			})
			r.publish(t, 1, "foo")
			time.Sleep(5 * time.Minute)
			if got := run.metric(t, "accrue_messages_pulled_total"); got != 1 {
				t.Errorf("the message was delivered %v times, want 1", got)
			}
			run.faults.Follow(distant(nil))
			r.awaitDrained(t, 15*time.Second)
			run.stop(t)
			r.verify(t)
		})
	}
}

// An aggregator that is killed keeps its messages for the length of a lease. Another one has them then.
func TestACrashCostsALease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		crashed := false
		run := r.startFar(t, r.subscription, func(call faults.Call) faults.Fault {
			if crashed || call.Method == "Commit" {
				return faults.Hang()
			}
			return nil
		})
		for n := range uint32(16) {
			r.publish(t, n, "foo")
		}
		time.Sleep(time.Minute) // the leases are extended
		run.faults.Follow(func(faults.Call) faults.Fault { return faults.Hang() })
		began := time.Now()
		another := r.startFar(t, r.subscription, nil)
		r.awaitDrained(t, AckDeadline+2*r.config.Window)
		t.Logf("counted %v after the crash", time.Since(began))
		another.stop(t)
		r.verify(t)
		run.stop(t)
	})
}

// Pulls that are never answered end, and others follow them.
func TestPullsThatHangAreCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		f := faults.New(func(call faults.Call) faults.Fault {
			if call.Method == "Pull" && call.Number <= 8 { // of each puller two
				return faults.Hang()
			}
			return nil
		})
		run := r.start(t, f.Subscription(r.subscription), r.store)
		r.publish(t, 1, "foo")
		r.awaitDrained(t, 30*time.Second)
		run.stop(t)
		r.verify(t)
	})
}

// However wrong the clock of a process is, and however it jumps, the checkpoint's time is the store's: no publisher is
// forgotten, and the history goes on.
func TestAClockThatJumpsChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		begun := time.Now()
		r.publish(t, 1, "foo")
		r.publish(t, 1, "foo")
		run := r.startFar(t, r.subscription, nil)
		r.awaitDrained(t, 5*time.Second)
		run.stop(t)

		// The bubble's clock is that of the process, and is set ahead. The store is behind it by as much.
		const jump = 40 * 24 * time.Hour
		time.Sleep(jump)
		behind := behindLedger{r.store, jump}
		again := r.start(t, r.subscription, behind)
		r.publishRaw(t, encode(single(1, 1, "foo"))) // a second delivery: it is counted already
		r.publish(t, 2, "bar")
		other := single(1, 1, "foo") // something new in the same partition
		other.Publisher = message.Publisher{2}
		r.publishRaw(t, encode(other))
		r.want["foo"]++
		r.awaitDrained(t, 5*time.Second)
		r.publishRaw(t, encode(single(1, 2, "foo"))) // counted already
		r.awaitDrained(t, 5*time.Second)
		state, err := behind.Load(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if late := state.Checkpoint.UpdatedAt.Sub(begun); late > time.Minute {
			t.Errorf("the checkpoint's time is %v late", late)
		}
		if len(state.Checkpoint.Publishers) != 2 {
			t.Errorf("%d publishers are known, want 2", len(state.Checkpoint.Publishers))
		}

		// The clock is set right: the history goes on.
		time.Sleep(2 * time.Minute)
		r.publish(t, 1, "foo")
		r.awaitDrained(t, 5*time.Second)
		again.stop(t)
		r.verify(t)
		if state, err = behind.Load(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if total := state.Checkpoint.Totals[0]; total.Open(checkpoint.Minute) != 1 {
			t.Errorf("the open minute has %d of foo, want 1", total.Open(checkpoint.Minute))
		}
	})
}

// behindLedger is a store whose clock is behind that of the process.
type behindLedger struct {
	partition.Ledger
	by time.Duration
}

func (l behindLedger) shift(t time.Time, by time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(by)
}

func (l behindLedger) Load(ctx context.Context, partition uint32) (store.State, error) {
	state, err := l.Ledger.Load(ctx, partition)
	state.ReadAt = l.shift(state.ReadAt, -l.by)
	state.Revision.UpdateTime = l.shift(state.Revision.UpdateTime, -l.by)
	return state, err
}

func (l behindLedger) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	c.Revision.UpdateTime = l.shift(c.Revision.UpdateTime, l.by)
	revision, err := l.Ledger.Commit(ctx, c)
	revision.UpdateTime = l.shift(revision.UpdateTime, -l.by)
	return revision, err
}

// A stop takes less than 8 s from the signal on, whatever does not answer.
func TestStopIsShortWhileNothingAnswers(t *testing.T) {
	t.Parallel()
	for what, hanging := range map[string][]string{
		"nothing":                     {"Load", "Commit", "Keys", "Publish", "Acknowledge", "Extend", "Pull", "Describe"},
		"all but Pulls":               {"Load", "Commit", "Keys", "Publish", "Acknowledge", "Extend"},
		"the store":                   {"Load", "Commit", "Keys"},
		"the Commits":                 {"Commit"},
		"the topic of dead letters":   {"Publish"},
		"acknowledgements and leases": {"Acknowledge", "Extend"},
	} {
		inBubble(t, what+" hangs", func(t *testing.T) {
			r := newRig(t)
			run := r.startFar(t, r.subscription, nil)
			r.publish(t, 1, "foo")
			r.awaitDrained(t, 5*time.Second)
			run.faults.Follow(func(call faults.Call) faults.Fault {
				for _, method := range hanging {
					if call.Method == method {
						return faults.Hang()
					}
				}
				return faults.Delay(latencies[call.Method])
			})
			for n := range uint32(20) {
				r.publish(t, n, "foo")
				r.publishRaw(t, []byte("garbage"))
				time.Sleep(500 * time.Millisecond)
			}
			before := time.Now()
			run.stop(t)
			took := time.Since(before)
			t.Logf("the stop took %v", took)
			if took > 8*time.Second-serverDrain-telemetryDrain {
				t.Errorf("the stop took %v", took)
			}
			again := r.startFar(t, r.subscription, nil)
			r.awaitDrained(t, 2*AckDeadline)
			again.stop(t)
			r.verify(t)
		})
	}
}

// telemetryDrain is what the flush of the telemetry may take at the end of a stop.
const telemetryDrain = time.Second
