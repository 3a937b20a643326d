package batching_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// partitions is what most tests spread over.
const partitions = 16

var errBroken = errors.New("broken")

// publish is one Publish request as a recordingPublisher saw it.
type publish struct {
	batches []*message.Batch
	bytes   int
	landed  bool
}

// recordingPublisher records all requests. React gets the number of the request, from 0, and returns whether the messages are
// published and the error for the caller. A nil react publishes everything immediately.
type recordingPublisher struct {
	react func(ctx context.Context, n int) (landed bool, err error)

	mu       sync.Mutex
	requests []publish
	invalid  error
}

func (p *recordingPublisher) Publish(ctx context.Context, messages []broker.Message) error {
	var request publish
	for _, m := range messages {
		b, err := message.Decode(m.Data)
		if err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.invalid = errors.Join(p.invalid, err)
			return err
		}
		request.batches = append(request.batches, b)
		request.bytes += m.Size()
	}
	p.mu.Lock()
	n := len(p.requests)
	p.requests = append(p.requests, request)
	p.mu.Unlock()
	landed, err := true, error(nil)
	if p.react != nil {
		landed, err = p.react(ctx, n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests[n].landed = landed
	return err
}

// seen returns the requests so far.
func (p *recordingPublisher) seen() []publish {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// counts returns how often each tag and contributor was in what landed.
func (p *recordingPublisher) counts() map[string]int {
	counts := make(map[string]int)
	for _, request := range p.seen() {
		if !request.landed {
			continue
		}
		for _, b := range request.batches {
			for _, i := range b.Increments {
				counts[i.Tag]++
			}
			for _, c := range b.Contributions {
				counts[c.Contributor]++
			}
		}
	}
	return counts
}

// maxMessages is what one Publish request of Pub/Sub may carry.
const maxMessages = 1000

// check returns what no sequence of requests may break: each message has one partition and no more entries than allowed, each
// request has at most so many messages and fewer bytes than Pub/Sub takes, and each publisher numbers the messages of a
// partition from 1 without gaps or repetition, even when publishes fail.
func (p *recordingPublisher) check(partitions uint32, maxMessages int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	faults := p.invalid
	fault := func(format string, args ...any) { faults = errors.Join(faults, fmt.Errorf(format, args...)) }
	type source struct {
		publisher message.Publisher
		partition uint32
	}
	sequences := make(map[source][]uint64)
	for n, request := range p.requests {
		if len(request.batches) == 0 || len(request.batches) > maxMessages || request.bytes > 9_500_000 {
			fault("request %d has %d messages and %d bytes", n, len(request.batches), request.bytes)
		}
		for _, b := range request.batches {
			from := source{b.Publisher, b.Partition}
			sequences[from] = append(sequences[from], b.Sequence)
			if b.Entries() > message.MaxEntries {
				fault("request %d: a message of %d entries", n, b.Entries())
			}
			for _, i := range b.Increments {
				if increment.Partition(i.Tag, partitions) != b.Partition {
					fault("request %d: tag %s in partition %d", n, i.Tag, b.Partition)
				}
			}
			for _, c := range b.Contributions {
				if increment.Partition(c.Contributor, partitions) != b.Partition {
					fault("request %d: contributor %s in partition %d", n, c.Contributor, b.Partition)
				}
			}
		}
	}
	for from, numbers := range sequences {
		slices.Sort(numbers)
		for i, n := range numbers {
			if n != uint64(i)+1 {
				fault("publisher %v numbers the messages of partition %d %v", from.publisher, from.partition, numbers)
				break
			}
		}
	}
	return faults
}

// publishers returns the ids of the requests, without repetition.
func (p *recordingPublisher) publishers() (ids []message.Publisher) {
	for _, request := range p.seen() {
		for _, b := range request.batches {
			if !slices.Contains(ids, b.Publisher) {
				ids = append(ids, b.Publisher)
			}
		}
	}
	return ids
}

// running starts a batcher and returns it with a function that stops it and waits.
func running(t *testing.T, p batching.Publisher, partitions, limit int) (*batching.Batcher, func()) {
	t.Helper()
	return runningWith(t, p, partitions, limit, zerolog.Nop())
}

func newBatcher(tb testing.TB, p batching.Publisher, partitions, limit int, log zerolog.Logger) *batching.Batcher {
	tb.Helper()
	b, err := batching.New(p, partitions, limit, log, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func runningWith(t *testing.T, p batching.Publisher, partitions, limit int, log zerolog.Logger) (*batching.Batcher, func()) {
	t.Helper()
	b := newBatcher(t, p, partitions, limit, log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	t.Cleanup(stop)
	return b, stop
}

// name returns a tag of its own for each number.
func name(n int) string {
	digits := fmt.Sprintf("%06d", n)
	return strings.Map(func(r rune) rune { return r - '0' + 'a' }, digits)
}

// contributor returns a contributor of its own for each number, which is no tag.
func contributor(n int) string { return fmt.Sprintf("contributor %d", n) }

func one(tag string) []batching.Entry { return []batching.Entry{{Tag: tag, Value: 1}} }

// step is one Add of a client in the property below, after a pause. The context of an impatient client ends.
type step struct {
	pause      time.Duration
	increments int
	both       int // how many of them name a contributor
	alone      int // contributions alone
	patience   time.Duration
}

// entries are those of the step, all different, numbered from first.
func (s *step) entries(first int) []batching.Entry {
	entries := make([]batching.Entry, s.increments+s.alone)
	for i := range entries {
		if i < s.increments {
			entries[i].Tag, entries[i].Value = name(first+i), 9
		}
		if i < s.both || i >= s.increments {
			entries[i].Contributor = contributor(first + i)
		}
	}
	return entries
}

// landings returns how often an entry may land if its Add returned err.
func landings(err error) []int {
	switch {
	case err == nil:
		return []int{1}
	case errors.Is(err, batching.ErrFull):
		return []int{0}
	case errors.Is(err, batching.ErrPublish) && errors.Is(err, errBroken):
		return []int{0, 1}
	default:
		return nil
	}
}

// answer is what the publisher does with a request in the property below.
type answer struct {
	delay  time.Duration
	landed bool
	failed bool
}

func TestNothingIsLostOrDoubled(t *testing.T) {
	t.Parallel()
	milliseconds := func(most int) *rapid.Generator[time.Duration] {
		return rapid.Map(rapid.IntRange(0, most), func(n int) time.Duration { return time.Duration(n) * time.Millisecond })
	}
	steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
		s := step{
			pause: milliseconds(20).Draw(rt, "pause"), increments: rapid.IntRange(0, 30).Draw(rt, "increments"),
			alone: rapid.IntRange(0, 3).Draw(rt, "alone"), patience: time.Hour,
		}
		s.both = rapid.IntRange(0, s.increments).Draw(rt, "both")
		if rapid.IntRange(0, 5).Draw(rt, "impatient") == 0 {
			s.patience = milliseconds(20).Draw(rt, "patience")
		}
		return s
	}), 1, 6)
	answers := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) answer {
		a := answer{delay: milliseconds(30).Draw(rt, "delay"), failed: rapid.IntRange(0, 2).Draw(rt, "failed") == 0}
		a.landed = !a.failed || rapid.Bool().Draw(rt, "landed")
		return a
	}), 1, 20)
	rapid.Check(t, func(rt *rapid.T) {
		clients := rapid.SliceOfN(steps, 1, 12).Draw(rt, "clients")
		script := answers.Draw(rt, "answers")
		spread := rapid.SampledFrom([]int{1, 2, 16, 300}).Draw(rt, "partitions")
		limit := rapid.SampledFrom([]int{300, 2000, 1 << 20}).Draw(rt, "limit")
		if err := play(t, clients, script, spread, limit); err != nil {
			rt.Fatal(err)
		}
	})
}

// play runs clients against a publisher that repeats script, and returns everything that is wrong afterwards.
func play(t *testing.T, clients [][]step, script []answer, spread, limit int) (faults error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &recordingPublisher{react: func(_ context.Context, n int) (bool, error) {
			a := script[n%len(script)]
			time.Sleep(a.delay) // the bubble's clock
			if a.failed {
				return a.landed, errBroken
			}
			return a.landed, nil
		}}
		b, stop := running(t, p, spread, limit)
		var mu sync.Mutex
		wants := make(map[string][]int) // by tag or contributor: how often it may have landed
		var adding sync.WaitGroup
		unique := 0
		for _, steps := range clients {
			first := unique
			unique += 1000
			adding.Go(func() {
				for _, s := range steps {
					time.Sleep(s.pause)
					entries := s.entries(first)
					first += len(entries)
					ctx, cancel := context.WithTimeout(t.Context(), s.patience)
					err := b.Add(ctx, entries)
					cancel()
					mu.Lock()
					for _, e := range entries {
						wants[e.Tag], wants[e.Contributor] = landings(err), landings(err)
					}
					mu.Unlock()
					clear(entries) // Add has copied them
				}
			})
		}
		adding.Wait()
		stop()
		delete(wants, "")
		faults = p.check(uint32(spread), maxMessages)
		counts := p.counts()
		for key, want := range wants {
			if !slices.Contains(want, counts[key]) {
				faults = errors.Join(faults, fmt.Errorf("%s landed %d times, want one of %v", key, counts[key], want))
			}
			delete(counts, key)
		}
		if len(counts) > 0 {
			faults = errors.Join(faults, fmt.Errorf("landed but was not added: %v", slices.Collect(maps.Keys(counts))))
		}
	})
	return faults
}

// slowPublisher publishes everything, each request after the next of its delays, over and over. It records when requests
// begin.
type slowPublisher struct {
	delays []time.Duration
	mu     sync.Mutex
	begun  []time.Time
}

func (p *slowPublisher) Publish(ctx context.Context, _ []broker.Message) error {
	p.mu.Lock()
	delay := p.delays[len(p.begun)%len(p.delays)]
	p.begun = append(p.begun, time.Now())
	p.mu.Unlock()
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestPublishesBeginAPauseApart(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct{ latency, pause time.Duration }{
		"the shortest pause":        {0, 2 * time.Millisecond},
		"an eighth of the latency":  {40 * time.Millisecond, 5 * time.Millisecond},
		"the longest pause":         {time.Second, 10 * time.Millisecond},
		"a latency of a few pauses": {10 * time.Millisecond, 2 * time.Millisecond},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &slowPublisher{delays: []time.Duration{tc.latency}}
				b, stop := running(t, p, partitions, batching.MinLimit)
				for range 300 { // the mean latency settles
					if err := b.Add(t.Context(), one("foo")); err != nil {
						t.Errorf("Add() = %v", err)
					}
				}
				var adding sync.WaitGroup
				first := len(p.begun)
				for range 50 {
					adding.Go(func() {
						if err := b.Add(t.Context(), one("foo")); err != nil {
							t.Errorf("Add() = %v", err)
						}
					})
					time.Sleep(time.Millisecond)
				}
				adding.Wait()
				stop()
				for i := first + 1; i < len(p.begun); i++ {
					pause := p.begun[i].Sub(p.begun[i-1])
					if pause < tc.pause-tc.pause/50 || pause > tc.pause+2*time.Millisecond {
						t.Errorf("publishes began %v apart, want %v", pause, tc.pause)
					}
				}
			})
		})
	}
}

func TestAnIdleBatcherPublishesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := running(t, &slowPublisher{delays: []time.Duration{0}}, partitions, batching.MinLimit)
		for range 3 {
			time.Sleep(time.Minute)
			began := time.Now()
			if err := b.Add(t.Context(), one("foo")); err != nil || time.Since(began) != 0 {
				t.Errorf("Add() = %v after %v, want nil at once", err, time.Since(began))
			}
		}
	})
}

// A slow publish holds up its own requests only: at a publisher's median of 20 ms and p99 of 120 ms, the p99 of Add stays
// within 1.3 times the publisher's.
func TestSlowPublishesDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		delays := make([]time.Duration, 100)
		for i := range delays {
			delays[i] = time.Duration(10+i*20/len(delays)) * time.Millisecond
		}
		delays[33], delays[66] = 120*time.Millisecond, 120*time.Millisecond
		p := &slowPublisher{delays: delays}
		b, stop := running(t, p, partitions, batching.MinLimit)
		var mu sync.Mutex
		var waits []time.Duration
		var adding sync.WaitGroup
		for range 64 {
			adding.Go(func() {
				for range 200 {
					began := time.Now()
					if err := b.Add(t.Context(), one("foo")); err != nil {
						t.Errorf("Add() = %v", err)
					}
					mu.Lock()
					waits = append(waits, time.Since(began))
					mu.Unlock()
				}
			})
		}
		adding.Wait()
		stop()
		slices.Sort(waits)
		p50, p99 := waits[len(waits)/2], waits[len(waits)*99/100]
		if p50 > 26*time.Millisecond || p99 > 156*time.Millisecond {
			t.Errorf("Add took p50 %v, p99 %v; want at most 26 ms and 156 ms", p50, p99)
		}
	})
}

// hangingPublisher publishes nothing until its context ends.
type hangingPublisher struct{ begun atomic.Int32 }

func (p *hangingPublisher) Publish(ctx context.Context, _ []broker.Message) error {
	p.begun.Add(1)
	<-ctx.Done()
	return ctx.Err()
}

// While nothing answers, publishes, memory and waits are bounded: groups that cannot be published soon are refused.
func TestWaitForHangingBrokerIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := new(hangingPublisher)
		b, stop := running(t, p, partitions, batching.MinLimit)
		var failed, refused atomic.Int32
		var adding sync.WaitGroup
		for range 2000 { // 4 s
			adding.Go(func() {
				began := time.Now()
				switch err := b.Add(t.Context(), one("foo")); {
				case errors.Is(err, batching.ErrPublish):
					failed.Add(1)
				case errors.Is(err, batching.ErrFull):
					refused.Add(1)
				default:
					t.Errorf("Add() = %v", err)
				}
				if waited := time.Since(began); waited > batching.PublishTimeout+time.Second {
					t.Errorf("waited %v", waited)
				}
			})
			time.Sleep(2 * time.Millisecond)
		}
		if got := p.begun.Load(); got != 64 {
			t.Errorf("%d publishes in progress, want 64", got)
		}
		adding.Wait()
		stop()
		if failed.Load() < 64 || refused.Load() < 1000 {
			t.Errorf("%d failed, %d were refused", failed.Load(), refused.Load())
		}
	})
}

func TestAPublisherTakesANewIDAfterSomeFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &recordingPublisher{react: func(_ context.Context, n int) (bool, error) {
			if n < 20 {
				return n%2 == 0, errBroken
			}
			return true, nil
		}}
		b, stop := running(t, p, partitions, batching.MinLimit)
		for range 100 {
			_ = b.Add(t.Context(), one("foo"))
		}
		stop()
		if err := p.check(partitions, maxMessages); err != nil {
			t.Error(err)
		}
		if got := len(p.publishers()); got != 3 { // after 8 and 16 failures
			t.Errorf("%d ids, want 3", got)
		}
	})
}

func TestAMessageHasTheShardOfItsPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := new(keepingPublisher)
		b, _ := running(t, p, 200, batching.MinLimit)
		for n := range 500 {
			if err := b.Add(t.Context(), one(name(n))); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range p.messages {
			batch, err := message.Decode(m.Data)
			if err != nil {
				t.Fatal(err)
			}
			if want := strconv.Itoa(int(batch.Partition) % 64); m.Attributes["shard"] != want || len(m.Attributes) != 1 {
				t.Errorf("a message of partition %d has attributes %v, want shard %s", batch.Partition, m.Attributes, want)
			}
		}
	})
}

func TestARefusedPublishIsKnownToCountNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := running(t, &keepingPublisher{err: fmt.Errorf("publish: %w", broker.ErrRefused)}, partitions, batching.MinLimit)
		if err := b.Add(t.Context(), one("foo")); !errors.Is(err, batching.ErrRefused) || errors.Is(err, batching.ErrPublish) {
			t.Errorf("Add() = %v, want ErrRefused", err)
		}
	})
}

// panickingPublisher panics.
type panickingPublisher struct{}

func (panickingPublisher) Publish(context.Context, []broker.Message) error { panic("at the disco") }

func TestAPanicOfAPublishEndsRunAndAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBatcher(t, panickingPublisher{}, partitions, batching.MinLimit, zerolog.Nop())
		done := make(chan error, 1)
		go func() { done <- b.Run(t.Context()) }()
		if err := b.Add(t.Context(), one("foo")); !errors.Is(err, batching.ErrPublish) {
			t.Errorf("Add() = %v, want ErrPublish", err)
		}
		if err := <-done; err == nil || !strings.Contains(err.Error(), "at the disco") {
			t.Errorf("Run() = %v, want the panic", err)
		}
	})
}

func TestAnIncrementAndItsContributorAreOnePublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &recordingPublisher{}
		b, _ := running(t, p, partitions, batching.MinLimit)
		accepted := time.Now()
		if err := b.Add(t.Context(), []batching.Entry{{Tag: "foo", Value: 4, Contributor: "ada"}}); err != nil {
			t.Fatal(err)
		}
		requests := p.seen()
		if len(requests) != 1 || len(requests[0].batches) != 2 { // foo and ada are of different partitions
			t.Fatalf("requests = %+v", requests)
		}
		tag, person := requests[0].batches[0], requests[0].batches[1]
		if want := []message.Increment{{Tag: "foo", Value: 4}}; !slices.Equal(tag.Increments, want) {
			t.Errorf("increments = %v, want %v", tag.Increments, want)
		}
		if want := []message.Contribution{{Contributor: "ada"}}; !slices.Equal(person.Contributions, want) {
			t.Errorf("contributions = %v, want %v", person.Contributions, want)
		}
		if !tag.AcceptedAt.Equal(accepted) {
			t.Errorf("accepted at %v, want %v", tag.AcceptedAt, accepted)
		}
	})
}

func TestFullRefusesAndAddsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := &recordingPublisher{react: func(context.Context, int) (bool, error) { <-release; return true, nil }}
		const room = 10
		b, _ := running(t, p, partitions, room*message.IncrementSize(name(0), message.Key{}))
		var adding sync.WaitGroup
		for n := range room {
			adding.Go(func() {
				if err := b.Add(t.Context(), one(name(n))); err != nil {
					t.Errorf("Add() = %v", err)
				}
			})
		}
		synctest.Wait()
		for _, entries := range [][]batching.Entry{one(name(room)), append(one(name(room+1)), one(name(room+2))...)} {
			if err := b.Add(t.Context(), entries); !errors.Is(err, batching.ErrFull) {
				t.Errorf("Add() = %v, want ErrFull", err)
			}
		}
		close(release)
		adding.Wait()
		if got := p.counts(); len(got) != room {
			t.Errorf("landed: %v, want the first %d", got, room)
		}
		for n := range room { // what was published gave its room back
			if err := b.Add(t.Context(), one(name(n))); err != nil {
				t.Errorf("Add() after the publish = %v", err)
			}
		}
	})
}

func TestAPublishHasItsOwnDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &recordingPublisher{react: func(ctx context.Context, n int) (bool, error) {
			if n > 0 {
				return true, nil
			}
			<-ctx.Done()
			return false, context.Cause(ctx)
		}}
		b, _ := running(t, p, partitions, batching.MinLimit)
		patient := make(chan error)
		go func() { patient <- b.Add(t.Context(), one(name(1))) }()
		synctest.Wait()
		started := time.Now()
		err := <-patient
		if !errors.Is(err, batching.ErrPublish) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Add() = %v, want ErrPublish for the deadline", err)
		}
		if got := time.Since(started); got != 5*time.Second {
			t.Errorf("the publish was given %v, want 5 s", got)
		}
		if err := b.Add(t.Context(), one(name(2))); err != nil {
			t.Errorf("the next Add() = %v", err)
		}
	})
}

func TestAddWaitsForTheOutcomeThoughItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := running(t, &slowPublisher{delays: []time.Duration{time.Second}}, partitions, batching.MinLimit)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second/2, cancel)
		if err := b.Add(ctx, one("foo")); err != nil || ctx.Err() == nil {
			t.Errorf("Add() = %v", err)
		}
	})
}

func TestStopPublishesWhatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &recordingPublisher{react: func(context.Context, int) (bool, error) { time.Sleep(time.Second); return true, nil }}
		b, stop := running(t, p, partitions, batching.MinLimit)
		var adding sync.WaitGroup
		for n := range 100 {
			adding.Go(func() {
				if err := b.Add(t.Context(), one(name(n))); err != nil {
					t.Errorf("Add() = %v", err)
				}
			})
			synctest.Wait()
		}
		stop()
		adding.Wait()
		if got := p.counts(); len(got) != 100 {
			t.Errorf("%d landed, want 100", len(got))
		}
		if err := b.Add(t.Context(), one(name(0))); !errors.Is(err, batching.ErrStopped) {
			t.Errorf("Add() after the stop = %v, want ErrStopped", err)
		}
	})
}

// However many publishes hang and groups wait, a drain answers all of them in time: those that were being published with
// ErrPublish, the others with ErrStopped.
func TestDrainAnswersEverythingThoughTheBrokerHangs(t *testing.T) {
	t.Parallel()
	for title, stops := range map[string]bool{"drained, then stopped": false, "stopped": true} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := new(hangingPublisher)
				b, stop := running(t, p, partitions, batching.MinLimit)
				var adding sync.WaitGroup
				add := func() {
					adding.Go(func() {
						if err := b.Add(t.Context(), one("foo")); !errors.Is(err, batching.ErrPublish) && !errors.Is(err, batching.ErrStopped) && !errors.Is(err, batching.ErrFull) {
							t.Errorf("Add() = %v, want ErrPublish, ErrStopped or ErrFull", err)
						}
					})
				}
				for range 100 {
					add()
					time.Sleep(2 * time.Millisecond)
				}
				started := time.Now()
				if stops {
					stop()
				} else {
					b.Drain()
					for range 100 { // those that come meanwhile
						add()
						time.Sleep(10 * time.Millisecond)
					}
				}
				adding.Wait()
				if got := time.Since(started); got > batching.DrainTimeout {
					t.Errorf("the drain took %v, want at most %v", got, batching.DrainTimeout)
				}
				if err := b.Add(t.Context(), one("foo")); !errors.Is(err, batching.ErrStopped) {
					t.Errorf("Add() after the drain = %v, want ErrStopped", err)
				}
			})
		})
	}
}

// The largest things that requests can add are still requests that Pub/Sub takes and messages that aggregators commit in
// one piece.
func TestGroupsAndMessagesAreCut(t *testing.T) {
	t.Parallel()
	largest := strings.Repeat("𝒳", increment.MaxContributorLength-6)
	for title, tc := range map[string]struct {
		partitions, adds int
		entry            func(n int) batching.Entry
		mostRequests     int // the first Add has the first one alone
		mostMessages     int
	}{
		"one tag": {
			16, 42, func(int) batching.Entry { return batching.Entry{Tag: "foo", Value: 1} }, 2, maxMessages,
		},
		"everything large, one partition": {
			1, 42, func(n int) batching.Entry {
				return batching.Entry{Tag: name(n), Value: 9, Contributor: largest + name(n)}
			}, 4, maxMessages,
		},
		"as many partitions as there may be": {
			increment.MaxPartitions, 4, func(n int) batching.Entry {
				return batching.Entry{Tag: name(n), Value: 9, Contributor: contributor(n)}
			}, 4, 2 * increment.MaxBatch, // each Add is one request, whole
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &recordingPublisher{react: func(context.Context, int) (bool, error) { time.Sleep(time.Second / 10); return true, nil }}
				b, stop := running(t, p, tc.partitions, 64<<20)
				adds, before := 0, 0
				for wave := 4; wave <= tc.adds; wave = wave * 3 / 2 { // the window grows to the last one
					before = len(p.seen())
					var adding sync.WaitGroup
					for range wave {
						entries := make([]batching.Entry, increment.MaxBatch)
						for i := range entries {
							entries[i] = tc.entry(adds*increment.MaxBatch + i)
						}
						adds++
						adding.Go(func() {
							if err := b.Add(t.Context(), entries); err != nil {
								t.Errorf("Add() = %v", err)
							}
						})
					}
					adding.Wait()
				}
				stop()
				if err := p.check(uint32(tc.partitions), tc.mostMessages); err != nil {
					t.Error(err)
				}
				total := 0
				for _, n := range p.counts() {
					total += n
				}
				want := adds * increment.MaxBatch
				if tc.entry(0).Contributor != "" {
					want *= 2
				}
				if total != want {
					t.Errorf("%d entries landed, want %d", total, want)
				}
				if got := len(p.seen()) - before; got > tc.mostRequests {
					t.Errorf("the last wave took %d requests, want at most %d", got, tc.mostRequests)
				}
			})
		})
	}
}

// MinLimit bounds the setting: every request that the API lets through fits.
func TestLargestAddFits(t *testing.T) {
	t.Parallel()
	entry := batching.Entry{
		Tag: strings.Repeat("x", increment.MaxNameLength), Value: increment.MaxValue,
		Contributor: strings.Repeat("𝒳", increment.MaxContributorLength),
	}
	if got := increment.MaxBatch * (message.IncrementSize(entry.Tag, entry.Key) + message.ContributionSize(entry.Contributor, entry.Key)); got > batching.MinLimit/2 {
		t.Errorf("the largest Add takes %d bytes, more than half of %d", got, batching.MinLimit)
	}
	synctest.Test(t, func(t *testing.T) {
		b, _ := running(t, &recordingPublisher{}, partitions, batching.MinLimit)
		if err := b.Add(t.Context(), slices.Repeat([]batching.Entry{entry}, increment.MaxBatch)); err != nil {
			t.Errorf("Add() = %v", err)
		}
	})
}

func TestAddOfNothingIsPublishedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBatcher(t, &recordingPublisher{}, partitions, batching.MinLimit, zerolog.Nop())
	if err := b.Add(t.Context(), nil); err != nil {
		t.Errorf("Add() = %v", err)
	}
}

// instantPublisher takes everything and keeps nothing.
type instantPublisher struct{}

func (instantPublisher) Publish(context.Context, []broker.Message) error { return nil }

func benchmarkAdd(b *testing.B, entries int) {
	b.Helper()
	benchmarkAddTo(b, entries, zerolog.Nop())
}

func benchmarkAddTo(b *testing.B, entries int, log zerolog.Logger) {
	b.Helper()
	batcher := newBatcher(b, instantPublisher{}, partitions, 64<<20, log)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- batcher.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	tags := make([]string, 1000)
	for i := range tags {
		tags[i] = name(i)
	}
	b.SetParallelism(64) // requests that wait at the same time, for each processor
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		request, cancel := context.WithCancel(ctx) // as that of an HTTP request
		defer cancel()
		add := make([]batching.Entry, entries)
		for n := 0; pb.Next(); n++ {
			for i := range add {
				add[i] = batching.Entry{Tag: tags[(n+i)%len(tags)], Value: 1}
			}
			if err := batcher.Add(request, add); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N*entries)/b.Elapsed().Seconds(), "increments/s")
}

func BenchmarkAdd(b *testing.B)          { benchmarkAdd(b, 1) }
func BenchmarkAddAThousand(b *testing.B) { benchmarkAdd(b, increment.MaxBatch) }
