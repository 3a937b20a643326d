package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	client "github.com/accrue/accrue/clients/go"
	"github.com/accrue/accrue/tools/load"
)

// shape is what is posted.
type shape struct{ connections, batch int }

// shapes are measured in this order. The chart shows the first.
func shapes() []shape { return []shape{{128, 1}, {512, 1}, {128, 100}, {128, 1000}} }

func (s shape) String() string {
	if s.batch == 1 {
		return fmt.Sprintf("Single posts, %d connections", s.connections)
	}
	return fmt.Sprintf("Batches of %s, %d connections", thousands(float64(s.batch)), s.connections)
}

// turn is one measurement of a subject.
type turn struct {
	// rate is the increments accepted in a second.
	rate     float64
	p50, p99 time.Duration
	// cpu is the seconds of processors that each part takes for a million increments, until all are counted.
	cpu []float64
	// refused is the number of requests that were answered 503 for the load, and made again.
	refused int64
}

const (
	// countLimit bounds the wait until everything is counted.
	countLimit = 30 * time.Second
	// still is how long a total must be unchanged before a wrong one is taken as the last word.
	still = 4 * time.Second
	// poll is the pause between reads of totals.
	poll = 50 * time.Millisecond
)

var errInexact = errors.New("not exact")

// take measures one turn and waits until everything is counted. A total that is wrong without kills is an error.
func take(ctx context.Context, s *subject, of shape, each time.Duration) (turn, error) {
	before, err := s.total(ctx)
	if err != nil {
		return turn{}, err
	}
	began, err := s.cpu()
	if err != nil {
		return turn{}, err
	}
	m, err := load.Measure(ctx, load.Shape{
		Ingest: s.url(), Connections: of.connections, Batch: of.batch, Duration: each, Keys: s.keys,
	})
	if err != nil {
		return turn{}, fmt.Errorf("%s: %w", s.name, err)
	}
	if !s.nothing {
		counted, err := settle(ctx, s, before+m.Sum)
		if err != nil {
			return turn{}, err
		}
		if off := counted - before - m.Sum; off != 0 {
			return turn{}, fmt.Errorf("%s: %w: %+d of %d", s.name, errInexact, off, m.Sum)
		}
	}
	ended, err := s.cpu()
	if err != nil {
		return turn{}, err
	}
	t := turn{rate: float64(m.Accepted) / m.Elapsed.Seconds(), p50: m.P50, p99: m.P99, refused: m.Refused, cpu: make([]float64, len(ended))}
	for i := range ended {
		t.cpu[i] = (ended[i] - began[i]).Seconds() / float64(m.Accepted) * 1e6
	}
	return t, nil
}

// settle waits until the total is want, and returns the total. It returns another when that stays.
func settle(ctx context.Context, s *subject, want int64) (int64, error) {
	last, changed := int64(-1), time.Now()
	for began := time.Now(); ; {
		total, err := s.total(ctx)
		switch {
		case err != nil && time.Since(began) > countLimit:
			return 0, fmt.Errorf("%s: %w", s.name, err)
		case err != nil:
		case total == want:
			return total, nil
		case total != last:
			last, changed = total, time.Now()
		case time.Since(changed) > still || time.Since(began) > countLimit:
			return total, nil
		}
		if err := sleep(ctx, poll); err != nil {
			return 0, err
		}
	}
}

// measure measures every subject in some shapes, in rounds, so that what disturbs the machine for a while disturbs all.
// The result is by shape and subject.
func measure(ctx context.Context, subjects []*subject, of []shape, rounds int, each time.Duration, log io.Writer) ([][][]turn, error) {
	results := make([][][]turn, len(of))
	for i := range results {
		results[i] = make([][]turn, len(subjects))
	}
	for _, s := range subjects {
		if _, err := take(ctx, s, of[0], min(each, time.Second)); err != nil { // warms up
			return nil, err
		}
	}
	for round := range rounds {
		for i, shape := range of {
			fmt.Fprintf(log, "round %d of %d: %s\n", round+1, rounds, shape)
			for j := range subjects {
				at := (j + round) % len(subjects) // each begins a round in turn
				if shape.batch > 1 && subjects[at].singles {
					continue
				}
				t, err := take(ctx, subjects[at], shape, each)
				if err != nil {
					return nil, err
				}
				results[i][at] = append(results[i][at], t)
				fmt.Fprintf(log, "  %-32s %9.0f/s\n", subjects[at].name, t.rate)
			}
		}
	}
	return results, nil
}

// loss is what a run with kills shows.
type loss struct {
	posts, retries    int64
	accepted, counted int64
}

const (
	// producers post at the same time while the subject is killed.
	producers = 64
	// tags are what they post.
	tags = 100
	// closeLimit bounds how long they retry.
	closeLimit = time.Minute
)

// killing posts with retries while all processes of a subject are killed and started again, kills times, and compares. Every
// post has a key and is retried until it is accepted.
func killing(ctx context.Context, s *subject, kills int, every time.Duration) (loss, error) {
	before, err := s.total(ctx)
	if err != nil {
		return loss{}, err
	}
	var accepted, retries, posts atomic.Int64
	var failed atomic.Pointer[error]
	c, err := client.New(client.Config{
		URL: s.url(), Batch: 1, Linger: time.Millisecond, Queue: producers, Posts: producers, Timeout: 5 * time.Second,
		Report: func(o client.Outcome) {
			if o.Err != nil {
				failed.Store(&o.Err)
				return
			}
			posts.Add(1)
			retries.Add(int64(o.Tries - 1))
			for _, e := range o.Entries {
				accepted.Add(e.Value)
			}
		},
	})
	if err != nil {
		return loss{}, fmt.Errorf("post: %w", err)
	}
	adding, stop := context.WithCancel(ctx)
	var posting sync.WaitGroup
	posting.Go(func() {
		for n := 0; adding.Err() == nil; n++ {
			if err := c.Add(adding, client.Entry{Name: tag(n % tags), Value: int64(1 + n%9)}); err != nil && adding.Err() == nil {
				failed.Store(&err)
				return
			}
		}
	})
	err = func() error {
		for range kills {
			if err := sleep(ctx, every); err != nil {
				return err
			}
			if err := errors.Join(s.kill(), s.start(ctx)); err != nil {
				return err
			}
		}
		return sleep(ctx, every)
	}()
	stop()
	posting.Wait()
	closing, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	err = errors.Join(err, c.Close(closing))
	if cause := failed.Load(); cause != nil {
		err = errors.Join(err, *cause)
	}
	if err != nil {
		return loss{}, fmt.Errorf("%s: %w", s.name, err)
	}
	l := loss{accepted: accepted.Load(), posts: posts.Load(), retries: retries.Load()}
	total, err := settle(ctx, s, before+l.accepted)
	l.counted = total - before
	return l, err
}

// tag returns a name with a number in it.
func tag(n int) string { return "kills_" + string([]byte{byte('a' + n/26%26), byte('a' + n%26)}) }
