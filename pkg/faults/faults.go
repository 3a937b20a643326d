// Package faults wraps a store or a broker with the limits of Google Cloud and the faults of a network, for tests. The wrappers
// refuse what Firestore and Pub/Sub refuse, and split calls into requests of the size that the adapters send. A Rule decides what
// happens to each request: a delay, a failure, a lost reply, a hang. The wrappers work in synctest bubbles.
package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/store"
)

// ErrLost is the error of a request or a reply that was lost.
var ErrLost = errors.New("lost on the network")

// Call is one request to a store or a broker.
type Call struct {
	// Method is the name of the method of the store, the topic or the subscription.
	Method string
	// Number counts the requests of this method, from 1.
	Number int
	// Partition is that of a Load, a Commit, Keys or History, and 0 for other methods.
	Partition uint32
	// Commit is what a Commit commits, and nil for other methods.
	Commit *store.Commit
}

// Fault decides what happens to one request. It makes the request or not, and returns its error or another one. A nil Fault makes
// the request.
type Fault func(ctx context.Context, request func(context.Context) error) error

// Rule returns the fault of a request. It is called for one request at a time, and must not block.
type Rule func(Call) Fault

// Delay makes the request after d, unless the context ends before that.
func Delay(d time.Duration) Fault { return DelayThen(d, nil) }

// DelayThen applies another fault after d. The request is not made if the context ends before that.
func DelayThen(d time.Duration, then Fault) Fault {
	return func(ctx context.Context, request func(context.Context) error) error {
		if err := sleep(ctx, d); err != nil {
			return err
		}
		return then.run(ctx, request)
	}
}

// Fail returns err without making the request.
func Fail(err error) Fault {
	return func(context.Context, func(context.Context) error) error { return err }
}

// LoseReply makes the request and returns err instead of the reply.
func LoseReply(err error) Fault {
	return func(ctx context.Context, request func(context.Context) error) error {
		_ = request(ctx)
		return err
	}
}

// Twice makes the request two times, as a client that retries by itself does, and returns the outcome of the second. A result is
// that of the first which had one.
func Twice() Fault {
	return func(ctx context.Context, request func(context.Context) error) error {
		_ = request(ctx)
		return request(ctx)
	}
}

// Hang waits until the context ends and does not make the request.
func Hang() Fault {
	return func(ctx context.Context, _ func(context.Context) error) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

func (f Fault) run(ctx context.Context, request func(context.Context) error) error {
	if f == nil {
		return request(ctx)
	}
	return f(ctx, request)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Faults decides what happens to the requests of the stores, topics and subscriptions that it wraps. It is safe for
// concurrent use.
type Faults struct {
	late sync.WaitGroup

	mu       sync.Mutex
	rule     Rule
	requests map[string]int
}

// New returns Faults that follow a rule. A nil rule makes every request, within the limits.
func New(rule Rule) *Faults {
	return &Faults{rule: rule, requests: make(map[string]int)}
}

// Follow replaces the rule for later requests.
func (f *Faults) Follow(rule Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rule = rule
}

// Requests returns how many requests of a method there were.
func (f *Faults) Requests(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[method]
}

// Late returns err immediately and makes the request after d, even if the context has ended, like a request that arrives after its
// sender has given up. Wait waits for such requests.
func (f *Faults) Late(d time.Duration, err error) Fault {
	return func(ctx context.Context, request func(context.Context) error) error {
		f.late.Go(func() {
			time.Sleep(d)
			_ = request(context.WithoutCancel(ctx)) // the sender has given up
		})
		return err
	}
}

// Wait waits until the late requests are made.
func (f *Faults) Wait() { f.late.Wait() }

// Odds has the number of requests in a thousand that each fault happens to, and the length of delays.
type Odds struct {
	Fail, LoseReply, Late, Hang int
	// Delay is the maximum delay. Every request is delayed by a random time up to it.
	Delay time.Duration
}

// Random returns a rule that picks faults by odds. The same seed gives the same faults to the same sequence of requests.
func (f *Faults) Random(seed uint64, odds Odds) Rule {
	random := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // reproducible on purpose
	return func(Call) Fault {
		n := random.IntN(1000)
		delay := time.Duration(random.Int64N(int64(odds.Delay) + 1))
		for _, o := range []struct {
			odds  int
			fault Fault
		}{
			{odds.Fail, Fail(ErrLost)},
			{odds.LoseReply, DelayThen(delay, LoseReply(ErrLost))},
			{odds.Late, f.Late(delay, ErrLost)},
			{odds.Hang, Hang()},
		} {
			if n < o.odds {
				return o.fault
			}
			n -= o.odds
		}
		return Delay(delay)
	}
}

// fault counts a request and returns its fault.
func (f *Faults) fault(call Call) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests[call.Method]++
	call.Number = f.requests[call.Method]
	if f.rule == nil {
		return nil
	}
	return f.rule(call)
}

// do makes a request as the rule says. It returns the zero value with every error.
func do[T any](ctx context.Context, f *Faults, call Call, request func(context.Context) (T, error)) (T, error) {
	results := make(chan T, 1) // a channel, since a late request returns after do
	err := f.fault(call).run(ctx, func(ctx context.Context) error {
		result, err := request(ctx)
		if err == nil {
			select {
			case results <- result:
			default: // the second of two
			}
		}
		return err
	})
	var result T
	if err == nil {
		result = <-results
	}
	return result, err
}
