// Package client counts from a Go program: it collects increments and contributions, posts them to ingest in batches, and
// posts again what may not have arrived, so that each is counted exactly once.
//
//	c, err := client.New(client.Config{URL: "https://ingest.example.com", Report: report})
//	…
//	err = c.Add(ctx, client.Entry{Name: "foo", Value: 4})
//	…
//	err = c.Close(ctx) // posts what waits: nil says that everything was counted
//
// # What a producer should do after a 503, a timeout and a lost connection
//
// The same after each, and this package does it: post the same body with the same Idempotency-Key again, until there is
// another answer. After a 202 whose reply was lost the increment is counted already, after a refused connection it is
// not, and after a 503 it may be either; the key makes that all one, since ingest's side counts a key once. Wait before each
// new try, longer each time and by a random part, and at least for as long as Retry-After says, so that producers that
// failed together do not come back together.
//
// A key is known for a horizon, 15 minutes by default (IDEMPOTENCY_HORIZON), from the first try that can have reached
// ingest. Stop before that: a key that is posted after it counts again. What has no answer by then is unknown, counted
// once or not at all, and only who knows what it was for can say which of the two is the lesser evil. An answer of 400 or
// 422 names each item that is wrong by its place in the batch, and nothing of the batch was counted: post the others as
// another batch, with another key.
//
// A key for each batch and not for each item is enough, as long as a retried batch is the same to the byte: item i has
// the batch's key and its place in it. Who can name what it counts gives each item an id instead (Entry.ID), which also
// holds when the producer itself was killed and begins again.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/problem"
)

var (
	// ErrClosed is the case of an Add after Close has begun. The entry was not taken.
	ErrClosed = errors.New("the client is closed")
	// ErrFull is the case of an Add whose context ended while the queue was full. The entry was not taken.
	ErrFull = errors.New("the queue is full")
	// ErrUnknown is the case of entries that may be counted, each once: they were posted, and no answer came within the
	// horizon, or before the end of Close. Whoever adds them again may count them twice.
	ErrUnknown = errors.New("whether this is counted is not known")
	// ErrNotCounted is the case of entries that Close gave up before they can have reached ingest. They are certainly not
	// counted, and may be added again, to another client.
	ErrNotCounted = errors.New("not counted: given up by the end of close")
)

// RefusedError is the case of entries that ingest refuses, whoever posts them and however often. They are certainly not
// counted.
type RefusedError struct {
	// Status is the HTTP status of the answer.
	Status int
	// Detail says what was refused, if the answer does.
	Detail string
	// Faults are what is wrong with the entry, each with a pointer into it, such as "#/value". If ingest did not say which
	// entry of the post is wrong, they are those of the whole post, and so was the refusal.
	Faults []problem.Fault
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

// Entry is what counts: an increment, or, without a name, a contribution alone.
type Entry struct {
	// Name is the tag's; Value is what its total grows by, 1 to 9. A contribution has neither.
	Name  string
	Value int64
	// Contributor is who contributed; an increment need not say.
	Contributor string
	// ID, if not empty, is the entry's idempotency key: 1 to 255 visible ASCII characters that no other entry of anybody
	// has. It is for producers that can name what they count, by the id of a message or of an order: what is added again
	// with its ID within the horizon, by another client or after a crash, is counted once. Without, the client makes a key
	// for each post, which covers its own retries.
	ID string
}

// validate returns what is wrong with the entry: an error of package increment.
func (e *Entry) validate() error {
	var name, value, contributor, id error
	alone := e.Name == "" && e.Value == 0 && e.Contributor != ""
	if !alone {
		name, value = wrap("name", increment.ValidateName(e.Name)), wrap("value", increment.ValidateValue(e.Value))
	}
	if e.Contributor != "" {
		contributor = wrap("contributor", increment.ValidateContributor(e.Contributor))
	}
	if e.ID != "" {
		id = wrap("id", increment.ValidateKey(e.ID))
	}
	return errors.Join(name, value, contributor, id)
}

// wrap says which field an error is of.
func wrap(field string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	return nil
}

// Outcome is what became of entries that were posted together.
type Outcome struct {
	// Entries are those that the outcome is of, in the order in which they were added.
	Entries []Entry
	// Err is nil if they are counted: ingest has answered 202. Otherwise it is a *RefusedError, ErrUnknown or ErrNotCounted.
	Err error
	// Tries is how many requests it took, and Took the time from the first to the outcome.
	Tries int
	Took  time.Duration
}

// Config is how a client works. All but the URL may be left out.
type Config struct {
	// URL is the address of ingest, such as "https://ingest-abc.a.run.app".
	URL string
	// Batch is the most entries of one post, 1 to 1000; 0 means 500.
	Batch int
	// Linger is for how long an entry waits for others to be posted with, while a post could begin: up to 1 m; 0 means
	// 20 ms. Whoever adds 500 entries faster than that never waits.
	Linger time.Duration
	// Queue is how many entries wait at most, beside those of the posts under way: 1 to 1,000,000; 0 means 10,000. Each
	// place takes 56 bytes, and an entry its text.
	Queue int
	// Posts is how many posts are under way at most, 1 to 1000; 0 means 4.
	Posts int
	// Horizon is for how long the system knows a key, its IDEMPOTENCY_HORIZON: 1 m or more; 0 means 15 m. A post that may
	// have arrived is tried for as long, less a tenth or one Timeout, whichever is more.
	Horizon time.Duration
	// Timeout bounds one request, up to a quarter of the horizon; 0 means 15 s, three times as long as ingest waits for a
	// publish.
	Timeout time.Duration
	// Transport carries the requests, with credentials or traces as need be; nil means one of the client's own, which
	// keeps a connection for each post.
	Transport http.RoundTripper
	// Report, if not nil, is told every outcome, once, from several goroutines. It should return soon, since posts wait
	// for it; calling Add in it can wait for ever.
	Report func(Outcome)
}

// withDefaults returns the settings with the defaults in the place of zeros, and all that is wrong with them.
func (c Config) withDefaults() (Config, *url.URL, error) {
	set(&c.Batch, 500)
	set(&c.Linger, 20*time.Millisecond)
	set(&c.Queue, 10_000)
	set(&c.Posts, 4)
	set(&c.Horizon, 15*time.Minute)
	set(&c.Timeout, min(15*time.Second, c.Horizon/4))
	var faults []error
	check := func(ok bool, name, rule string) {
		if !ok {
			faults = append(faults, fmt.Errorf("%s must be %s", name, rule))
		}
	}
	address, err := url.Parse(c.URL)
	check(err == nil && (address.Scheme == "http" || address.Scheme == "https") && address.Host != "" && address.RawQuery == "",
		"URL", "an address such as https://ingest.example.com")
	check(c.Batch >= 1 && c.Batch <= increment.MaxBatch, "Batch", fmt.Sprintf("1 to %d", increment.MaxBatch))
	check(c.Linger > 0 && c.Linger <= time.Minute, "Linger", "up to 1m")
	check(c.Queue >= 1 && c.Queue <= 1_000_000, "Queue", "1 to 1000000")
	check(c.Posts >= 1 && c.Posts <= 1000, "Posts", "1 to 1000")
	check(c.Horizon >= time.Minute, "Horizon", "1m or more")
	check(c.Timeout > 0 && c.Timeout <= c.Horizon/4, "Timeout", "up to a quarter of Horizon")
	if err := errors.Join(faults...); err != nil {
		return c, nil, fmt.Errorf("settings: %w", err)
	}
	return c, address, nil
}

// set gives a setting that was left out its default.
func set[T comparable](setting *T, value T) {
	var zero T
	if *setting == zero {
		*setting = value
	}
}

// Client collects entries and posts them. Its methods may be called at the same time.
type Client struct {
	config Config
	paths  [kinds]string
	http   *http.Client

	// mu is held for reading by who adds to entries, so that nobody does after they are closed.
	mu      sync.RWMutex
	closed  bool
	entries chan Entry
	closing chan struct{} // closed with Close's begin
	once    sync.Once

	posts   chan *batch
	working sync.WaitGroup
	// trying ends when nothing more is to be tried. It is of the client's life, not of a call.
	trying context.Context
	giveUp context.CancelFunc

	failed failures
}

// New makes a client and starts its goroutines, which Close ends. It does not wait for ingest to answer. The error names
// every setting that is out of bounds.
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
			// Ingest redirects nobody. Whoever does would have a producer's posts go elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		entries: make(chan Entry, config.Queue),
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
			}
		})
	}
	return c, nil
}

// newTransport makes a transport that keeps as many connections as there are posts at the same time.
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

// Add takes an entry to be counted. It waits while the queue is full: a producer that is faster than ingest is slowed
// down, and nothing is dropped. A nil says that the entry will be posted, not that it is counted: Report says that, and
// Close. The errors are of package increment for an entry that ingest would refuse, ErrFull with the context's, the
// context's alone, and ErrClosed; after each the entry was not taken.
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
		return ErrClosed
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
		return ErrClosed
	}
}

// Waiting is how many entries wait to be put into a post, Queue at most: a queue that stays full says that ingest is slower
// than the producer.
func (c *Client) Waiting() int { return len(c.entries) }

// Close takes no more entries, posts those that wait, and returns when each has its outcome. When ctx ends first, nothing
// more is tried: what was posted is unknown, the rest not counted. It returns nil if everything that Add has ever taken
// is counted, and otherwise how many entries are not, by errors.Is and errors.As as in Outcome. It may be called again,
// and returns the same.
func (c *Client) Close(ctx context.Context) error {
	c.once.Do(func() {
		close(c.closing) // whoever waits in Add gives way
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

// collect makes batches of entries until there are no more. A batch leaves when it is full, or when its first entry has
// waited for as long as it may; while all posters are busy it goes on growing.
func (c *Client) collect() {
	defer close(c.posts)
	var open [kinds]*batch
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	entries, last := c.entries, false // last is set when there are no more entries
	for due := false; ; {
		var ready *batch
		in, out := entries, c.posts
		for _, b := range open {
			switch {
			case b == nil:
			case b.full(c.config.Batch):
				ready, in = b, nil // its kind has no place for another
			case ready == nil && (due || last):
				ready = b
			}
		}
		if ready == nil {
			if last {
				return
			}
			out = nil
		}
		select {
		case e, more := <-in:
			if !more {
				entries, last = nil, true
				continue
			}
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
		case <-timer.C:
			due = true
		}
	}
}

// failures are the entries that are not counted, or may not be.
type failures struct {
	mu                          sync.Mutex
	refused, unknown, uncounted int
	first                       *RefusedError
}

// note counts an outcome.
func (f *failures) note(o *Outcome) {
	if o.Err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var refused *RefusedError
	switch {
	case errors.As(o.Err, &refused):
		f.refused += len(o.Entries)
		if f.first == nil {
			f.first = refused
		}
	case errors.Is(o.Err, ErrUnknown):
		f.unknown += len(o.Entries)
	default:
		f.uncounted += len(o.Entries)
	}
}

// err is what Close returns.
func (f *failures) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []error
	for _, class := range []struct {
		n   int
		err error
	}{{f.refused, f.first}, {f.unknown, ErrUnknown}, {f.uncounted, ErrNotCounted}} {
		if class.n > 0 {
			all = append(all, fmt.Errorf("%d entries: %w", class.n, class.err))
		}
	}
	return errors.Join(all...)
}
