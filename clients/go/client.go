// Package accrue counts from a Go program. A Client collects increments and contributions, posts them to Accrue in
// batches, and retries until each is counted exactly once.
//
//	client, err := accrue.New(accrue.Config{URL: "https://ingest.example.com", Report: report})
//	…
//	err = client.Add(ctx, accrue.Entry{Name: "foo", Value: 4})
//	…
//	err = client.Close(ctx) // posts the rest; nil means that everything was counted
//
// # Retries
//
// After a 503, a timeout or a lost connection, a request may or may not have been counted. The client posts the same body
// with the same Idempotency-Key again, and Accrue counts a key once. The pause before each retry grows exponentially, is
// randomized, and is at least as long as Retry-After asks for.
//
// Accrue remembers a key for a horizon (IDEMPOTENCY_HORIZON), so the client stops retrying before the horizon ends and
// reports ErrUnknown: the entries are counted once or not at all. A request that certainly did not arrive, because no
// connection could be made or because the answer says that nothing was counted, is retried until Close gives up.
//
// An answer of 400 or 422 names the entries that are wrong, and nothing of the batch was counted. The client reports those
// entries and posts the others again.
//
// An answer that is not from Accrue, such as a proxy's 403 or 404, is retried for a minute and then reported. An address
// that cannot be right (an unknown host, https for an http server, a certificate that does not verify) is reported at
// once, unless the client has been connected before.
package accrue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrClosed is returned by Add and Flush after Close was called. The entry was not taken.
	ErrClosed = errors.New("client closed")
	// ErrFull is returned by Add when its context ends while the queue is full. The entry was not taken.
	ErrFull = errors.New("queue full")
	// ErrUnknown means that entries may have been counted, each at most once: they were posted, and no answer came before
	// the horizon or the end of Close. Adding them again may count them twice. It wraps the error of the last request.
	ErrUnknown = errors.New("possibly counted")
	// ErrNotCounted means that entries were certainly not counted, because no request with them can have arrived. They may
	// be added again. It wraps the error of the last request, if there was one.
	ErrNotCounted = errors.New("not counted")
)

// RefusedError means that entries were refused and certainly not counted. Posting them again would not help.
type RefusedError struct {
	// Status is the HTTP status of the answer.
	Status int
	// Detail is the explanation in the answer, or where it came from if it is not an answer of Accrue.
	Detail string
	// Faults are the rules that the entry breaks, with pointers into the entry, such as "#/value". When the answer does not
	// say which entry is wrong, they are the faults of the whole request, which is then refused as a whole.
	Faults []Fault
}

// Fault is one thing that is wrong with a request.
type Fault struct {
	// Pointer is a JSON pointer as a URI fragment (RFC 6901, section 6).
	Pointer string `json:"pointer"`
	// Parameter names a header or a query parameter, in place of Pointer.
	Parameter string `json:"parameter"`
	// Detail is the rule.
	Detail string `json:"detail"`
}

func (e *RefusedError) Error() string {
	text := fmt.Sprintf("refused: %d %s", e.Status, http.StatusText(e.Status))
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	for _, fault := range e.Faults {
		text += " " + strings.TrimSpace(fault.Pointer+" "+fault.Parameter) + ": " + fault.Detail
	}
	return text
}

// Outcome is the result of posting some entries.
type Outcome struct {
	// Entries are the entries that the outcome applies to, in the order in which they were added.
	Entries []Entry
	// Err is nil if they were counted. Otherwise it is a *RefusedError, or wraps ErrUnknown or ErrNotCounted.
	Err error
	// Tries is the number of requests that were made, and Took the time from the first of them to the outcome.
	Tries int
	Took  time.Duration
}

// Retry describes a request that failed and will be repeated.
type Retry struct {
	// Entries is the number of entries in the request.
	Entries int
	// Tries is the number of requests with these entries so far.
	Tries int
	// Err is the reason of the failure.
	Err error
	// Wait is the pause before the next request.
	Wait time.Duration
}

// Config configures a client. Only URL is required.
type Config struct {
	// URL is the address of ingest, such as "https://ingest-abc.a.run.app".
	URL string
	// Batch is the maximum number of entries in one request: 1 to 1000, default 500.
	Batch int
	// Linger is how long an entry waits for others before it is posted: up to 1 minute, default 20 ms. A full batch is
	// posted at once.
	Linger time.Duration
	// Queue is the maximum number of entries that wait to be posted, besides those in requests under way: 1 to 1,000,000,
	// default 10,000. Each place takes 56 bytes, plus the text of its entry.
	Queue int
	// Posts is the maximum number of requests under way at the same time: 1 to 1000, default 4.
	Posts int
	// Horizon is how long the system remembers a key (its IDEMPOTENCY_HORIZON): at least 1 minute, default 15 minutes. A
	// request that may have arrived is retried for the horizon less a tenth of it or one Timeout, whichever is longer.
	Horizon time.Duration
	// Timeout bounds one request: up to a quarter of the horizon, default 15 s, which is three times as long as ingest waits
	// for a publish.
	Timeout time.Duration
	// Transport carries the requests, for example with credentials. The default is a transport of the client's own with one
	// connection for each post.
	Transport http.RoundTripper
	// Report, if not nil, is called once with each outcome, from several goroutines. It should return quickly: a post waits
	// for it. Calling Add, Flush or Close in it may deadlock.
	Report func(Outcome)
	// ReportRetry, if not nil, is called after each request that failed and will be repeated, under the same conditions as
	// Report. It shows what is wrong while entries wait.
	ReportRetry func(Retry)
}

// withDefaults returns the configuration with defaults in place of zeros, and every setting that is out of bounds.
func (c Config) withDefaults() (Config, *url.URL, error) {
	setDefault(&c.Batch, 500)
	setDefault(&c.Linger, 20*time.Millisecond)
	setDefault(&c.Queue, 10_000)
	setDefault(&c.Posts, 4)
	setDefault(&c.Horizon, 15*time.Minute)
	setDefault(&c.Timeout, min(15*time.Second, c.Horizon/4))
	var faults []error
	check := func(ok bool, name, rule string) {
		if !ok {
			faults = append(faults, fmt.Errorf("%s must be %s", name, rule))
		}
	}
	address, err := url.Parse(c.URL)
	check(err == nil && (address.Scheme == "http" || address.Scheme == "https") && address.Host != "" && address.RawQuery == "",
		"URL", "an address such as https://ingest.example.com")
	check(c.Batch >= 1 && c.Batch <= MaxBatch, "Batch", fmt.Sprintf("1 to %d", MaxBatch))
	check(c.Linger > 0 && c.Linger <= time.Minute, "Linger", "up to 1m")
	check(c.Queue >= 1 && c.Queue <= 1_000_000, "Queue", "1 to 1000000")
	check(c.Posts >= 1 && c.Posts <= 1000, "Posts", "1 to 1000")
	check(c.Horizon >= time.Minute, "Horizon", "1m or more")
	check(c.Timeout > 0 && c.Timeout <= c.Horizon/4, "Timeout", "up to a quarter of Horizon")
	if err := errors.Join(faults...); err != nil {
		return c, nil, fmt.Errorf("config: %w", err)
	}
	return c, address, nil
}

// setDefault sets *setting to value if it is zero.
func setDefault[T comparable](setting *T, value T) {
	var zero T
	if *setting == zero {
		*setting = value
	}
}

// Client collects entries and posts them. It is safe for concurrent use.
type Client struct {
	config Config
	paths  [kinds]string
	http   *http.Client

	// mu is held for reading while an entry is sent to entries, so that Close does not close the channel meanwhile.
	mu      sync.RWMutex
	closed  bool
	entries chan Entry
	flushes chan chan<- []*batch // answered with the batches under way, once everything added before is among them
	closing chan struct{}        // closed when Close begins
	once    sync.Once

	posts   chan *batch
	working sync.WaitGroup
	// trying is canceled when Close gives up. It belongs to the client, not to a call.
	trying context.Context
	giveUp context.CancelFunc
	// connected is set once any request has had a connection.
	connected atomic.Bool

	failed, failedSinceFlush failures
}

// New returns a client and starts its goroutines, which Close ends. It does not connect to ingest. The error names every
// setting that is out of bounds.
func New(config Config) (*Client, error) {
	config, address, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	transport := config.Transport
	if transport == nil {
		transport = newTransport(config.Posts)
	}
	c := &Client{
		config: config,
		http: &http.Client{
			Transport: transport,
			// Accrue never redirects. Entries must not go where a proxy points to.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		entries: make(chan Entry, config.Queue),
		flushes: make(chan chan<- []*batch),
		closing: make(chan struct{}),
		posts:   make(chan *batch),
	}
	for kind, path := range [kinds]string{increments: "increments", contributions: "contributions"} {
		c.paths[kind] = address.JoinPath(path, "batch").String()
	}
	c.trying, c.giveUp = context.WithCancel(context.Background())
	c.working.Go(c.collect)
	for range config.Posts {
		c.working.Go(func() {
			for b := range c.posts {
				c.deliver(b)
				close(b.delivered)
			}
		})
	}
	return c, nil
}

// newTransport returns a transport that keeps one idle connection for each post.
func newTransport(posts int) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        posts,
		MaxIdleConnsPerHost: posts,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
	}
}

// Add queues an entry to be posted. It blocks while the queue is full, so a producer that is faster than ingest is slowed
// down and nothing is dropped. A nil error means that the entry will be posted, not that it was counted: see Report, Flush
// and Close. The error wraps ErrInvalid, ErrClosed, ErrFull or the context's; after any of them the entry was not taken.
func (c *Client) Add(ctx context.Context, e Entry) error {
	if err := e.validate(); err != nil {
		return fmt.Errorf("add: %w", err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("add: %w", ctx.Err())
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return fmt.Errorf("add: %w", ErrClosed)
	}
	select {
	case c.entries <- e:
		return nil
	default:
	}
	select {
	case c.entries <- e:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("add: %w: %w", ErrFull, ctx.Err())
	case <-c.closing:
		return fmt.Errorf("add: %w", ErrClosed)
	}
}

// Waiting returns the number of entries in the queue. A queue that stays full means that ingest is slower than the
// producer.
func (c *Client) Waiting() int { return len(c.entries) }

// Flush posts the entries that were added before the call and returns when each of them has its outcome, or when ctx ends;
// entries are not lost when it does. It returns nil if everything that got an outcome since the last Flush was counted,
// and otherwise the same kind of error as Close.
func (c *Client) Flush(ctx context.Context) error {
	underWay := make(chan []*batch, 1)
	select {
	case c.flushes <- underWay:
	case <-ctx.Done():
		return fmt.Errorf("flush: %w", ctx.Err())
	case <-c.closing:
		return fmt.Errorf("flush: %w", ErrClosed)
	}
	select {
	case batches := <-underWay:
		for _, b := range batches {
			select {
			case <-b.delivered:
			case <-ctx.Done():
				return fmt.Errorf("flush: %w", ctx.Err())
			}
		}
	case <-ctx.Done():
		return fmt.Errorf("flush: %w", ctx.Err())
	}
	return c.failedSinceFlush.take()
}

// Close posts the queued entries and returns when each has its outcome. Add fails from then on. When ctx ends first, Close
// gives up: entries that may have arrived are reported as ErrUnknown, the others as ErrNotCounted. It returns nil if every
// entry that Add has taken was counted. Otherwise the error says how many were not, and wraps the first error of each kind
// (see Outcome). Close may be called again, and returns the same.
func (c *Client) Close(ctx context.Context) error {
	c.once.Do(func() {
		close(c.closing) // ends calls of Add that wait for the queue
		c.mu.Lock()
		defer c.mu.Unlock()
		c.closed = true
		close(c.entries)
	})
	defer context.AfterFunc(ctx, c.giveUp)()
	c.working.Wait()
	c.giveUp()
	if c.config.Transport == nil {
		c.http.CloseIdleConnections()
	}
	return c.failed.err()
}

// collect groups entries into batches until there are no more. A batch is posted when it is full or when its first entry
// has waited for Linger; while all posters are busy it keeps growing.
func (c *Client) collect() {
	defer close(c.posts)
	var open [kinds]*batch
	var underWay []*batch
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	entries, flushes := c.entries, c.flushes
	ended := false            // there are no more entries
	var flush chan<- []*batch // a flush that waits
	before := 0               // how many entries in the queue are older than the flush
	for due := false; ; {
		var ready *batch
		in, out := entries, c.posts
		flushing := flush != nil && before == 0
		for _, b := range open {
			switch {
			case b == nil:
			case b.full(c.config.Batch):
				ready, in = b, nil // there is no room for another entry of its kind
			case ready == nil && (due || ended || flushing):
				ready = b
			}
		}
		if flushing {
			in = nil
		}
		if ready == nil {
			if flushing {
				flush <- underWay
				flush, flushes = nil, c.flushes
				continue
			}
			if ended {
				return
			}
			out = nil
		}
		select {
		case e, more := <-in:
			if !more {
				entries, ended, before = nil, true, 0
				continue
			}
			before = max(0, before-1)
			if open[increments] == nil && open[contributions] == nil {
				due = false
				timer.Reset(c.config.Linger)
			}
			kind := kindOf(&e)
			if open[kind] == nil {
				open[kind] = newBatch(kind)
			}
			open[kind].add(e)
		case out <- ready:
			open[ready.kind] = nil
			underWay = append(slices.DeleteFunc(slices.Clone(underWay), (*batch).isDelivered), ready)
		case flush = <-flushes:
			flushes, before = nil, len(c.entries)
		case <-timer.C:
			due = true
		}
	}
}

// failures counts the entries that were not counted, or possibly not, and keeps the first error of each kind.
type failures struct {
	mu    sync.Mutex
	kinds [3]struct {
		entries int
		first   error
	}
}

// note adds an outcome.
func (f *failures) note(o *Outcome) {
	if o.Err == nil {
		return
	}
	var refused *RefusedError
	kind := 2
	switch {
	case errors.Is(o.Err, ErrUnknown):
		kind = 1
	case errors.As(o.Err, &refused):
		kind = 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kinds[kind].entries += len(o.Entries)
	if f.kinds[kind].first == nil {
		f.kinds[kind].first = o.Err
	}
}

// err returns all failures as one error, or nil.
func (f *failures) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []error
	for _, k := range f.kinds {
		if k.entries > 0 {
			all = append(all, fmt.Errorf("%d entries: %w", k.entries, k.first))
		}
	}
	return errors.Join(all...)
}

// take returns all failures as one error, and forgets them.
func (f *failures) take() error {
	err := f.err()
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.kinds[:])
	return err
}
