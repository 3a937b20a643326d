package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/accrue/accrue/tools/recognitions/consumer"
)

// settleLimit bounds the wait for totals that keep changing.
const settleLimit = 30 * time.Second

// run reads the totals, posts until ctx or the source ends, watches what becomes visible, and compares. The report is
// complete even if the totals are not exact; an error means that it is unknown whether they are.
func run(ctx context.Context, c *config, s services, show progress) (*report, error) {
	posted := newLedger()
	from, closing, err := newSource(c, posted)
	if err != nil {
		return nil, err
	}
	defer closing.Close() //nolint:errcheck // a file that was only read
	if err := s.reach(ctx); err != nil {
		return nil, err
	}
	stats, err := newStatsReader(s.query, c.query)
	if err != nil {
		return nil, err
	}
	before, err := stats.settle(ctx, c.settle, settleLimit)
	if err != nil {
		return nil, err
	}

	posting, stop := context.WithCancel(ctx)
	defer stop()
	if c.duration > 0 {
		posting, stop = context.WithTimeout(posting, c.duration)
		defer stop()
	}
	l := &load{
		config: c, ingest: s.ingest, producer: s.producer, source: from, ledger: posted,
		freshness: newFreshness(posted, func(tag string) int64 { return before[tag] }),
	}
	w := &watch{config: c, stats: stats, before: before, ledger: posted, freshness: l.freshness}
	start := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- l.post(posting, show) }()
	people := newRecognizing(c.ingest, s.recognitions, c.recognitions)
	recognized := make(chan error, 1)
	go func() {
		if c.recognitions == 0 {
			recognized <- nil
			return
		}
		recognized <- people.run(ctx)
	}()
	// What was posted is verified also after ctx has ended.
	watching := context.WithoutCancel(ctx)
	if c.abandon {
		watching = ctx
	}
	seen, err := w.until(watching, ended)
	faults := errors.Join(err, <-recognized)
	if faults != nil {
		return nil, faults
	}
	r := newReport(l, seen, start)
	r.Recognition = quantilesOf(&people.times)
	return r, nil
}

// newSource returns the source of increments, and what to close at the end.
func newSource(c *config, l *ledger) (source, io.Closer, error) {
	var from source
	var closing io.Closer = io.NopCloser(nil)
	if c.words {
		files, err := find(c.files)
		if err != nil {
			return nil, nil, err
		}
		of := newWordSource(l, files)
		from, closing = of, of
	} else if c.shop {
		from = newShopSource(l)
	} else {
		random := newRandomSource(l, c.tags, c.seed)
		if c.zipf {
			random.zipf = newZipf(c.tags)
		}
		from = random
	}
	if c.contributors > 0 {
		from = newContributing(c, from)
	}
	if c.count > 0 {
		from = &limited{source: from, count: c.count}
	}
	return from, closing, nil
}

// newContributing returns a source whose increments name contributors.
func newContributing(c *config, from source) source {
	if c.shop {
		return &contributing{source: from, people: shopPeople(c.contributors), zipf: newZipf(c.contributors), part: shopPart}
	}
	people := make([]string, c.contributors)
	for i := range people {
		people[i] = fmt.Sprintf("contributor-%d", i)
	}
	return &contributing{source: from, people: people}
}

// services are the connections to the system under test.
type services struct {
	// ingest opens a connection for posts to a path. The function that it returns closes it.
	ingest func(path string) (server, func())
	// query carries the reads of totals.
	query http.RoundTripper
	// producer carries the posts of package client; nil for its own.
	producer http.RoundTripper
	// recognitions is the subscription of events, if recognitions are timed.
	recognitions consumer.Source
	// reach returns an error if ingest cannot be connected to.
	reach func(ctx context.Context) error
}

// connect returns connections over the network.
func connect(c *config) services {
	return services{
		ingest: func(path string) (server, func()) {
			opened := newConnection(c.ingest, path)
			if c.keys {
				opened.key = []byte(rand.Text() + "-")
			}
			return opened, opened.close
		},
		reach: func(ctx context.Context) error {
			conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", net.JoinHostPort(c.ingest.Hostname(), portOf(c.ingest)))
			if err != nil {
				return fmt.Errorf("ingest at %s: %w", c.ingest, err)
			}
			return conn.Close()
		},
		query: &http.Transport{
			ResponseHeaderTimeout: responseTimeout,
			DisableCompression:    true, // the system on the same machine should count, not compress
			ForceAttemptHTTP2:     true, // where there is TLS
		},
	}
}

// load posts, and keeps the results.
type load struct {
	config    *config
	ingest    func(path string) (server, func())
	producer  http.RoundTripper
	source    source
	ledger    *ledger
	freshness *freshness

	counts  counts
	probes  counts
	cause   atomic.Pointer[error] // why the latest request failed that never arrived
	latency histogram
	// ended is when the last answer came.
	ended time.Time
	// cut is true if posting ended before the source did.
	cut bool
}

// post posts until ctx or the source ends, and returns when every request has its answer. Its error is of the source, or
// errRefused.
func (l *load) post(ctx context.Context, show progress) error {
	const single, several = "increments", "increments/batch"
	path := several
	if l.config.batch == 1 {
		path = single
	}
	var posters []*poster
	if !l.config.client {
		posters = make([]*poster, l.config.connections)
	}
	for i := range posters {
		opened, closing := l.ingest(path)
		defer closing()
		posters[i] = &poster{server: opened, counts: &l.counts, cause: &l.cause}
	}
	opened, closing := l.ingest(single)
	defer closing()
	prober := &poster{server: opened, counts: &l.probes, cause: &l.cause}

	beside, stop := context.WithCancel(ctx)
	defer stop()
	var watching errgroup.Group
	watching.Go(func() error {
		show.follow(beside, l)
		return nil
	})
	if l.config.probe > 0 {
		watching.Go(func() error { return l.freshness.probe(beside, prober, l.config.probe) })
	}
	pace := newPacer(l.config)
	posting, together := errgroup.WithContext(ctx)
	for _, p := range posters {
		posting.Go(func() error { return l.postAll(together, p, pace) })
	}
	if l.config.client {
		posting.Go(func() error { return l.postByClient(together, l.producer) })
	}
	err := posting.Wait()
	l.ended, l.cut = time.Now(), ctx.Err() != nil
	stop()
	err = errors.Join(err, watching.Wait())
	for _, p := range posters {
		l.latency.add(&p.latency)
	}
	return err
}

// postAll posts one batch after the other over one connection.
func (l *load) postAll(ctx context.Context, p *poster, pace *pacer) error {
	var b batch
	for ctx.Err() == nil {
		switch err := b.fill(l.source, l.config.batch); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		due := pace.wait(ctx, len(b.entries))
		if ctx.Err() != nil {
			break
		}
		if err := p.post(ctx, &b, due); err != nil {
			return err
		}
	}
	return nil //nolint:nilerr // the end of the run is not an error
}

// watch looks at the totals during the posting, for freshness, and after it, to compare.
type watch struct {
	config    *config
	stats     *statsReader
	before    map[string]int64
	ledger    *ledger
	freshness *freshness
}

// seen is what became visible.
type seen struct {
	differences []difference
	// exactAt is when the totals became exact and stayed so; zero if they are not.
	exactAt time.Time
	// failed is the error of the posting.
	failed error
}

// until returns when posting has ended and the totals have been exact for a while, or cannot become exact, or have not
// changed for a long time. The error means that the totals cannot be read, or that ctx has ended.
func (w *watch) until(ctx context.Context, ended <-chan error) (*seen, error) {
	ticker := time.NewTicker(w.config.poll)
	defer ticker.Stop()
	s := &seen{}
	var posted, compared bool
	var moved time.Time // when the totals have last changed since the end of the posting, or that end
	for {
		select {
		case s.failed = <-ended:
			ended, posted, moved = nil, true, time.Now()
		case <-ticker.C:
		}
		if posted && ctx.Err() != nil {
			return nil, fmt.Errorf("compare the totals: %w", ctx.Err())
		}
		changed, err := w.stats.read(ctx)
		now := time.Now()
		if err != nil {
			if posted && now.Sub(moved) > w.config.wait {
				return nil, err
			}
			continue
		}
		w.freshness.look(w.stats, now)
		if !posted {
			continue
		}
		if changed || !compared {
			totals, err := w.stats.totals()
			if err != nil {
				return nil, err
			}
			s.differences, compared = w.ledger.compare(w.before, totals), true
			switch {
			case len(s.differences) > 0:
				s.exactAt = time.Time{}
			case s.exactAt.IsZero():
				s.exactAt = now
			}
			if changed {
				moved = now
			}
		}
		exact := !s.exactAt.IsZero()
		switch {
		case exact && now.Sub(s.exactAt) >= w.config.hold:
			return s, nil
		case !exact && (now.Sub(moved) > w.config.wait || slices.ContainsFunc(s.differences, difference.over)):
			return s, nil
		}
	}
}
