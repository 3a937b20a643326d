package batching_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
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

// recordingPublisher keeps every request. Its answers come from react, which gets the number of the request, from 0,
// and says whether the messages land and what the caller is told; nil takes everything at once.
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

// check returns what no sequence of requests may break: each message has one partition and no more entries than one
// may have, each request has no more messages than most and fewer bytes than Pub/Sub takes, and sequences rise by one in
// each partition, whatever failed.
func (p *recordingPublisher) check(partitions uint32, most int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	faults := p.invalid
	fault := func(format string, args ...any) { faults = errors.Join(faults, fmt.Errorf(format, args...)) }
	sequences := make(map[uint32]uint64)
	for n, request := range p.requests {
		if len(request.batches) == 0 || len(request.batches) > most || request.bytes > 9_500_000 {
			fault("request %d has %d messages and %d bytes", n, len(request.batches), request.bytes)
		}
		for _, b := range request.batches {
			if sequences[b.Partition]++; b.Sequence != sequences[b.Partition] {
				fault("request %d: sequence %d of partition %d, want %d", n, b.Sequence, b.Partition, sequences[b.Partition])
			}
			if b.Publisher != p.requests[0].batches[0].Publisher {
				fault("request %d: publisher %v", n, b.Publisher)
			}
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
	return faults
}

// running starts a batcher in the test's bubble and returns it with a function that stops it and waits.
func running(t *testing.T, p batching.Publisher, partitions, limit int) (*batching.Batcher, func()) {
	t.Helper()
	return runningWith(t, p, partitions, limit, zerolog.Nop())
}

func runningWith(t *testing.T, p batching.Publisher, partitions, limit int, log zerolog.Logger) (*batching.Batcher, func()) {
	t.Helper()
	b := batching.New(p, partitions, limit, log)
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

// name is a lawful tag that is unlike those of other numbers.
func name(n int) string {
	digits := fmt.Sprintf("%06d", n)
	return strings.Map(func(r rune) rune { return r - '0' + 'a' }, digits)
}

// contributor is a contributor that is unlike any tag and unlike those of other numbers.
func contributor(n int) string { return fmt.Sprintf("contributor %d", n) }

func one(tag string) []batching.Entry { return []batching.Entry{{Tag: tag, Value: 1}} }

// step is one Add of a client in the property below, after a pause. A client that is impatient stops waiting.
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

// landings are how often an entry may land whose Add returned err.
func landings(err error) []int {
	switch {
	case err == nil:
		return []int{1}
	case errors.Is(err, batching.ErrFull):
		return []int{0}
	case errors.Is(err, batching.ErrPublish) && errors.Is(err, errBroken), errors.Is(err, context.DeadlineExceeded):
		return []int{0, 1}
	default:
		return nil
	}
}

// answer is what the publisher does with one request in the property below.
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

// play runs clients against a publisher that follows script, over and over, and returns everything that is wrong after.
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
			faults = errors.Join(faults, fmt.Errorf("nobody added %v", slices.Collect(maps.Keys(counts))))
		}
	})
	return faults
}

// An instant publisher is called every 2 ms and no sooner; after a pause it is called at once.
func TestPublishesAreSpaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var begun []time.Duration
		start := time.Now()
		p := &recordingPublisher{react: func(context.Context, int) (bool, error) {
			begun = append(begun, time.Since(start))
			return true, nil
		}}
		b, stop := running(t, p, partitions, batching.MaxAdd)
		for n := range 4 {
			if n == 3 {
				time.Sleep(time.Minute - time.Since(start))
			}
			if err := b.Add(t.Context(), one(name(n))); err != nil {
				t.Errorf("Add() = %v", err)
			}
		}
		stop()
		if want := []time.Duration{0, 2 * time.Millisecond, 4 * time.Millisecond, time.Minute}; !slices.Equal(begun, want) {
			t.Errorf("publishes began at %v, want %v", begun, want)
		}
	})
}

func TestWhatIsAddedDuringAPublishIsTheNextOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := &recordingPublisher{react: func(context.Context, int) (bool, error) { <-release; return true, nil }}
		b, _ := running(t, p, partitions, batching.MaxAdd)
		var adding sync.WaitGroup
		add := func(from, to int) {
			for n := from; n < to; n++ {
				adding.Go(func() {
					if err := b.Add(t.Context(), one(name(n))); err != nil {
						t.Errorf("Add() = %v", err)
					}
				})
			}
			synctest.Wait()
		}
		add(0, 1) // is published at once, alone
		add(1, 100)
		add(100, 300)
		time.Sleep(time.Second) // so that what follows is not held back by the spacing of publishes
		release <- struct{}{}
		synctest.Wait()
		add(300, 301)
		if got := len(p.seen()); got != 2 {
			t.Fatalf("%d publishes have begun, want 2", got)
		}
		release <- struct{}{}
		release <- struct{}{}
		adding.Wait()
		var sizes []int
		for _, request := range p.seen() {
			n := 0
			for _, b := range request.batches {
				n += b.Entries()
			}
			sizes = append(sizes, n)
		}
		if want := []int{1, 299, 1}; !slices.Equal(sizes, want) {
			t.Errorf("the publishes carry %v entries, want %v", sizes, want)
		}
		if got := len(p.seen()[1].batches); got != partitions {
			t.Errorf("the second publish has %d messages, want one for each of %d partitions", got, partitions)
		}
		if err := p.check(partitions, maxMessages); err != nil {
			t.Error(err)
		}
	})
}

func TestAnIncrementAndItsContributorAreOnePublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &recordingPublisher{}
		b, _ := running(t, p, partitions, batching.MaxAdd)
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
		b, _ := running(t, p, partitions, batching.MaxAdd)
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

func TestARequestThatIsGoneLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := &recordingPublisher{react: func(ctx context.Context, _ int) (bool, error) {
			select {
			case <-release:
				return true, nil
			case <-ctx.Done():
				return false, context.Cause(ctx)
			}
		}}
		b, stop := running(t, p, partitions, batching.MaxAdd)
		ctx, cancel := context.WithCancel(t.Context())
		var adding sync.WaitGroup
		for n := range 10 { // the first is being published when the context ends, the others are pending
			adding.Go(func() {
				if err := b.Add(ctx, one(name(n))); !errors.Is(err, context.Canceled) {
					t.Errorf("Add() = %v, want context.Canceled", err)
				}
			})
			synctest.Wait()
		}
		cancel()
		adding.Wait()
		close(release)
		stop()
		if got := p.counts(); len(got) != 10 {
			t.Errorf("landed: %v, want all 10", got)
		}
	})
}

func TestStopPublishesWhatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &recordingPublisher{react: func(context.Context, int) (bool, error) { time.Sleep(time.Second); return true, nil }}
		b, stop := running(t, p, partitions, batching.MaxAdd)
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

func TestStopEndsThoughThePublisherHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &recordingPublisher{react: func(ctx context.Context, _ int) (bool, error) {
			<-ctx.Done()
			return false, context.Cause(ctx)
		}}
		b, stop := running(t, p, partitions, batching.MaxAdd)
		var adding sync.WaitGroup
		for n := range 10 {
			adding.Go(func() {
				if err := b.Add(t.Context(), one(name(n))); !errors.Is(err, batching.ErrPublish) {
					t.Errorf("Add() = %v, want ErrPublish", err)
				}
			})
			synctest.Wait()
		}
		started := time.Now()
		stop()
		if got := time.Since(started); got != batching.StopTimeout {
			t.Errorf("the stop took %v, want %v", got, batching.StopTimeout)
		}
		adding.Wait()
	})
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
			16, 40, func(int) batching.Entry { return batching.Entry{Tag: "foo", Value: 1} }, 2, maxMessages,
		},
		"everything large, one partition": {
			1, 40, func(n int) batching.Entry {
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
				var adding sync.WaitGroup
				for n := range tc.adds {
					entries := make([]batching.Entry, increment.MaxBatch)
					for i := range entries {
						entries[i] = tc.entry(n*increment.MaxBatch + i)
					}
					adding.Go(func() {
						if err := b.Add(t.Context(), entries); err != nil {
							t.Errorf("Add() = %v", err)
						}
					})
				}
				adding.Wait()
				stop()
				if err := p.check(uint32(tc.partitions), tc.mostMessages); err != nil {
					t.Error(err)
				}
				total := 0
				for _, n := range p.counts() {
					total += n
				}
				want := tc.adds * increment.MaxBatch
				if tc.entry(0).Contributor != "" {
					want *= 2
				}
				if total != want {
					t.Errorf("%d entries landed, want %d", total, want)
				}
				if got := len(p.seen()); got > tc.mostRequests {
					t.Errorf("%d requests, want at most %d", got, tc.mostRequests)
				}
			})
		})
	}
}

// MaxAdd is what the settings are held against: no request that the API lets through may take more.
func TestTheLargestAddFits(t *testing.T) {
	t.Parallel()
	entry := batching.Entry{
		Tag: strings.Repeat("x", increment.MaxNameLength), Value: increment.MaxValue,
		Contributor: strings.Repeat("𝒳", increment.MaxContributorLength),
	}
	if got := increment.MaxBatch * (message.IncrementSize(entry.Tag, entry.Key) + message.ContributionSize(entry.Contributor, entry.Key)); got > batching.MaxAdd {
		t.Errorf("the largest Add takes %d bytes, more than MaxAdd, %d", got, batching.MaxAdd)
	}
	synctest.Test(t, func(t *testing.T) {
		b, _ := running(t, &recordingPublisher{}, partitions, batching.MaxAdd)
		if err := b.Add(t.Context(), slices.Repeat([]batching.Entry{entry}, increment.MaxBatch)); err != nil {
			t.Errorf("Add() = %v", err)
		}
	})
}

func TestAddOfNothingIsPublishedAtOnce(t *testing.T) {
	t.Parallel()
	b := batching.New(&recordingPublisher{}, partitions, batching.MaxAdd, zerolog.Nop())
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
	batcher := batching.New(instantPublisher{}, partitions, 64<<20, log)
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
