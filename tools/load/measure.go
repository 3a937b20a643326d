package load

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// measuredTags is the number of tags that measurements post.
const measuredTags = 1000

// Shape describes what is posted.
type Shape struct {
	// Ingest is the address of ingest.
	Ingest      string
	Connections int
	Batch       int
	Duration    time.Duration
	// Keys gives each request an idempotency key.
	Keys bool
	// Rate is the number of increments a second; 0 for as many as are accepted.
	Rate float64
	// Tags is the number of tags; 0 for 1,000.
	Tags int
	// InTurn posts each tag in its turn, so that all of them change as often, and not at random.
	InTurn bool
}

// Measured is the result of Measure.
type Measured struct {
	// Accepted is the number of increments that were answered 202.
	Accepted int64
	// Sum is the sum of their values.
	Sum     int64
	Elapsed time.Duration
	// P50 and P99 are quantiles of the time from a request to its 202.
	P50, P99 time.Duration
	// Refused is the number of times that a request was refused for the load, counted nothing, and was made again while there was time.
	Refused int64
}

// silent is a progress that shows nothing.
type silent struct{}

func (silent) follow(ctx context.Context, _ *load) { <-ctx.Done() }

// Measure posts increments. An answer that leaves it open whether increments are counted is an error, and so is a request that is wrong.
func Measure(ctx context.Context, s Shape) (Measured, error) {
	address, err := url.Parse(s.Ingest)
	if err != nil {
		return Measured{}, fmt.Errorf("measure: %w", err)
	}
	c := &config{ingest: address, connections: s.Connections, batch: s.Batch, keys: s.Keys, duration: s.Duration, rate: s.Rate}
	posted := newLedger()
	l := &load{config: c, ingest: connect(c).ingest, source: s.source(posted), ledger: posted}
	posting, stop := context.WithTimeout(ctx, s.Duration)
	defer stop()
	start := time.Now()
	if err := l.post(posting, silent{}); err != nil {
		return Measured{}, fmt.Errorf("measure: %w", err)
	}
	if ctx.Err() != nil {
		return Measured{}, ctx.Err()
	}
	if n := l.counts.Unknown.Load(); n > 0 {
		return Measured{}, fmt.Errorf("measure: it is unknown whether %d increments are counted", n)
	}
	return Measured{
		Accepted: l.counts.Accepted.Load(), Sum: posted.sum(), Elapsed: l.ended.Sub(start),
		P50: l.latency.quantile(0.5), P99: l.latency.quantile(0.99), Refused: l.counts.Retries.Load(),
	}, nil
}

// source returns the source of what Measure posts.
func (s Shape) source(posted *ledger) source {
	random := newRandomSource(posted, cmp.Or(s.Tags, measuredTags), 1)
	if s.InTurn {
		return &turnSource{randomSource: random}
	}
	return random
}

// Fresh is the result of Freshness.
type Fresh struct {
	// P50 and P99 are quantiles of the time from a 202 until the increment is in /stats.
	P50, P99 time.Duration
	// Rate is the number of increments that were accepted a second.
	Rate float64
}

// probeInterval is the time between two probes of Freshness. They come at every phase of a window.
const probeInterval = 70 * time.Millisecond

// Freshness measures, with so many probes, the time from a 202 until the increment is in /stats, while a shape of Rate, Batch and Tags is
// posted. It fails if a total is not exact in the end.
func Freshness(ctx context.Context, s Shape, query string, probes int) (Fresh, error) {
	c, err := parse("--ingest", s.Ingest, "--query", query)
	if err != nil {
		return Fresh{}, err
	}
	c.connections, c.rate, c.batch, c.tags = s.Connections, s.Rate, s.Batch, cmp.Or(s.Tags, measuredTags)
	c.probe, c.duration = probeInterval, time.Duration(probes)*probeInterval
	c.poll, c.abandon = 10*time.Millisecond, true
	r, err := run(ctx, c, connect(c), silent{})
	switch {
	case err != nil:
		return Fresh{}, fmt.Errorf("measure freshness: %w", err)
	case !r.ok():
		return Fresh{}, fmt.Errorf("measure freshness: %d totals differ; %s", len(r.Differences), r.Fault)
	}
	ms := func(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
	return Fresh{ms(r.Freshness.P50), ms(r.Freshness.P99), r.Rate}, nil
}

// Counted is the result of CountWords.
type Counted struct {
	Words, Tags int64
	// Elapsed is the time from the first post until /stats was exact.
	Elapsed time.Duration
}

// CountWords posts the words of files, which are named as for accrue load, as fast as they are accepted. It fails if a total is not exact in
// the end.
func CountWords(ctx context.Context, s Shape, query string, files ...string) (Counted, error) {
	c, err := parse(append([]string{"--ingest", s.Ingest, "--query", query, "--words"}, files...)...)
	if err != nil {
		return Counted{}, err
	}
	c.connections, c.batch, c.probe, c.abandon = s.Connections, s.Batch, 0, true
	r, err := run(ctx, c, connect(c), silent{})
	switch {
	case err != nil:
		return Counted{}, fmt.Errorf("count words: %w", err)
	case !r.ok():
		return Counted{}, fmt.Errorf("count words: %d totals differ; %s", len(r.Differences), r.Fault)
	}
	// The ledger has one tag more, for probes, of which there are none.
	return Counted{r.Accepted, int64(r.Tags) - 1, time.Duration(r.ExactSeconds * float64(time.Second))}, nil
}

// Settle waits until the totals of query have not changed for the time still, at most for limit.
func Settle(ctx context.Context, query string, still, limit time.Duration) error {
	address, err := url.Parse(query)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	stats, err := newStatsReader(transport, address)
	if err != nil {
		return err
	}
	_, err = stats.settle(ctx, still, limit)
	return err
}
