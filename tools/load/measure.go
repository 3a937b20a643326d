package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// measuredTags is the number of tags that measurements post.
const measuredTags = 1000

// Shape describes what Measure posts.
type Shape struct {
	// Ingest is the address of ingest.
	Ingest      string
	Connections int
	Batch       int
	Duration    time.Duration
	// Keys gives each request an idempotency key.
	Keys bool
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
}

// silent is a progress that shows nothing.
type silent struct{}

func (silent) follow(ctx context.Context, _ *load) { <-ctx.Done() }

// Measure posts random increments as fast as they are accepted. Any answer but a 202 is an error.
func Measure(ctx context.Context, s Shape) (Measured, error) {
	address, err := url.Parse(s.Ingest)
	if err != nil {
		return Measured{}, fmt.Errorf("measure: %w", err)
	}
	c := &config{ingest: address, connections: s.Connections, batch: s.Batch, keys: s.Keys, duration: s.Duration}
	posted := newLedger()
	l := &load{config: c, ingest: connect(c).ingest, source: newRandomSource(posted, measuredTags, 1), ledger: posted}
	posting, stop := context.WithTimeout(ctx, s.Duration)
	defer stop()
	start := time.Now()
	if err := l.post(posting, silent{}); err != nil {
		return Measured{}, fmt.Errorf("measure: %w", err)
	}
	if ctx.Err() != nil {
		return Measured{}, ctx.Err()
	}
	if l.counts.Unknown.Load()+l.counts.Lost.Load()+l.counts.Retries.Load() > 0 {
		return Measured{}, errors.New("measure: not every request was answered 202")
	}
	return Measured{
		Accepted: l.counts.Accepted.Load(), Sum: posted.sum(), Elapsed: l.ended.Sub(start),
		P50: l.latency.quantile(0.5), P99: l.latency.quantile(0.99),
	}, nil
}

// Freshness measures, with so many probes, the time from a 202 until the increment is in /stats, while rate increments a
// second are posted. It returns p50 and p99, and fails if a total is not exact in the end.
func Freshness(ctx context.Context, ingest, query string, connections int, rate float64, probes int) (p50, p99 time.Duration, err error) {
	c, err := parse("--ingest", ingest, "--query", query)
	if err != nil {
		return 0, 0, err
	}
	c.connections, c.rate, c.probe = connections, rate, 130*time.Millisecond // at every phase of the window
	c.duration = time.Duration(probes) * c.probe
	c.poll = 10 * time.Millisecond
	r, err := run(ctx, c, connect(c), silent{})
	switch {
	case err != nil:
		return 0, 0, err
	case !r.ok():
		return 0, 0, fmt.Errorf("measure freshness: %d totals differ; %s", len(r.Differences), r.Fault)
	}
	ms := func(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
	return ms(r.Freshness.P50), ms(r.Freshness.P99), nil
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
