package accrue

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// firstPause and maxPause bound the pause before a retry, before randomization, unless Retry-After asks for a longer one.
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second
	// maxRetryAfter bounds Retry-After.
	maxRetryAfter = 24 * time.Hour
	// foreignPatience is how long answers that are not from Accrue are retried.
	foreignPatience = time.Minute
	// maxAnswer bounds how much of an answer is read, in bytes: more than the faults of a thousand items take.
	maxAnswer = 1 << 20
)

// errForeign is the error of an answer that is not from Accrue.
var errForeign = errors.New("not an answer of Accrue")

// deliver posts a batch until every entry has its outcome. A batch of which a part was refused is divided.
func (c *Client) deliver(b *batch) {
	for left := []*batch{b}; len(left) > 0; {
		next := left[len(left)-1]
		left = append(left[:len(left)-1], c.settle(next)...)
	}
}

// settle posts a batch until there is an outcome, and reports it. If only some entries are refused, or the body is too
// large, it returns what is left to post as new batches.
func (c *Client) settle(b *batch) (left []*batch) {
	body := b.finish()
	start := time.Now()
	o := Outcome{Entries: b.entries}
	report := func(err error) {
		o.Err, o.Took = err, time.Since(start)
		c.report(o)
	}
	pauses := newPauses()
	var arrived time.Time // start of the first request that may have arrived
	var foreign time.Time // start of the first of the latest requests that were answered by something else
	var last error
	for c.trying.Err() == nil {
		tried := time.Now()
		a := c.try(b, body)
		o.Tries++
		if last == nil || c.trying.Err() == nil { // a request that Close cuts off says nothing
			last = a.err
		}
		if a.result == unknown && arrived.IsZero() {
			arrived = tried
		}
		switch {
		case !a.foreign:
			foreign = time.Time{}
		case foreign.IsZero():
			foreign = tried
		}
		wait := max(pauses.NextBackOff(), spread(a.retryAfter))
		if a.foreign {
			wait = min(wait, foreignPatience/4)
		}
		switch {
		case a.result == accepted:
			report(nil)
			return nil
		case a.status == http.StatusRequestEntityTooLarge && len(b.entries) > 1 && arrived.IsZero():
			half := len(b.entries) / 2
			return []*batch{b.of(b.entries[half:]), b.of(b.entries[:half])}
		case a.result == refused && arrived.IsZero():
			o.Took = time.Since(start)
			return c.divide(b, o, &a)
		case a.result == refused:
			// An earlier request may have been counted. The text of the refusal is kept and its type is not: it is not known
			// that nothing was counted.
			report(fmt.Errorf("%w: an earlier request had no answer: %s", ErrUnknown, a.err.Error()))
			return nil
		case a.result == misdirected && arrived.IsZero():
			report(fmt.Errorf("%w: %w", ErrNotCounted, a.err))
			return nil
		case a.foreign && time.Since(foreign)+wait > foreignPatience && arrived.IsZero():
			report(a.refusal())
			return nil
		case a.foreign && time.Since(foreign)+wait > foreignPatience:
			report(fmt.Errorf("%w: %w", ErrUnknown, a.err))
			return nil
		case !arrived.IsZero() && time.Since(arrived)+wait > c.patience():
			report(fmt.Errorf("%w: no answer for %v: %w", ErrUnknown, time.Since(arrived).Round(time.Second), a.err))
			return nil
		}
		if c.config.ReportRetry != nil {
			c.config.ReportRetry(Retry{Entries: len(b.entries), Tries: o.Tries, Err: a.err, Wait: wait})
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.trying.Done():
			timer.Stop()
		}
	}
	class := ErrUnknown
	if arrived.IsZero() {
		class = ErrNotCounted
	}
	if last == nil {
		report(fmt.Errorf("%w: closed before it was posted", class))
	} else {
		report(fmt.Errorf("%w: closed while retrying: %w", class, last))
	}
	return nil
}

// report passes an outcome to Config.Report, Flush and Close.
func (c *Client) report(o Outcome) {
	c.failed.note(&o)
	c.failedSinceFlush.note(&o)
	if c.config.Report != nil {
		c.config.Report(o)
	}
}

// patience is how long after the first request that may have arrived the last one may begin: it must not be counted after
// the horizon, however long it is under way.
func (c *Client) patience() time.Duration {
	return c.config.Horizon - max(c.config.Horizon/10, c.config.Timeout)
}

// newPauses returns the pauses between the requests of one batch.
func newPauses() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = firstPause, maxPause, 2, 0.5
	return b
}

// spread makes d longer by a random part, up to a half, so that producers that were all given it do not return together.
func spread(d time.Duration) time.Duration {
	return d + rand.N(d/2+1) //nolint:gosec // not a secret
}

// divide reports the entries of a refused batch that are wrong, and returns the others in new batches: the refused one was
// certainly not counted.
func (c *Client) divide(b *batch, o Outcome, a *answer) (left []*batch) {
	faults := b.faultsByEntry(a.problem.Errors)
	if len(faults) == 0 {
		o.Err = a.refusal()
		c.report(o)
		return nil
	}
	var good []Entry
	for i, e := range b.entries {
		if faults[i] == nil {
			good = append(good, e)
			continue
		}
		c.report(Outcome{
			Entries: []Entry{e}, Tries: o.Tries, Took: o.Took,
			Err: &RefusedError{Status: a.status, Detail: a.problem.Detail, Faults: faults[i]},
		})
	}
	if len(good) == 0 {
		return nil
	}
	return []*batch{b.of(good)}
}

// result is what a request means for its entries.
type result int

const (
	unknown     result = iota // possibly counted: repeat it with the same key
	uncounted                 // certainly not counted: repeat it
	misdirected               // certainly not counted, and the address cannot be right
	accepted                  // counted
	refused                   // certainly not counted, and repeating it would not help
)

// answer is the result of one request.
type answer struct {
	result     result
	foreign    bool // the answer is not from Accrue
	status     int
	retryAfter time.Duration
	problem    problem
	err        error // nil only if accepted
}

// problem is a problem document (RFC 9457) of Accrue.
type problem struct {
	Status  int     `json:"status"`
	Detail  string  `json:"detail"`
	Counted string  `json:"counted"` // "no" or "unknown"
	Errors  []Fault `json:"errors"`
}

// refusal returns the answer as an error that says that nothing was counted.
func (a *answer) refusal() *RefusedError {
	detail := a.problem.Detail
	if a.foreign {
		detail = errForeign.Error()
	}
	return &RefusedError{Status: a.status, Detail: detail, Faults: a.problem.Errors}
}

// try posts a batch once.
func (c *Client) try(b *batch, body []byte) answer {
	ctx, cancel := context.WithTimeout(c.trying, c.config.Timeout)
	defer cancel()
	var connecting, connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { connecting.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true); c.connected.Store(true) },
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.paths[b.kind], bytes.NewReader(body))
	if err != nil {
		return answer{result: misdirected, err: err} // impossible: New has parsed the address
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", b.key)
	request.Header.Set("User-Agent", "accrue-client")
	response, err := c.http.Do(request)
	if err != nil {
		// The transport sends nothing before it has a connection, which includes the TLS handshake. A transport that does not
		// trace is not known to be connecting.
		switch {
		case !connecting.Load() || connected.Load():
			return answer{result: unknown, err: err}
		case !c.connected.Load() && cannotBeRight(err):
			return answer{result: misdirected, err: err}
		default:
			return answer{result: uncounted, err: err}
		}
	}
	defer response.Body.Close() //nolint:errcheck // only read
	return read(response)
}

// cannotBeRight reports whether a connection failed because of the address rather than an outage.
func cannotBeRight(err error) bool {
	var host *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &host) && host.IsNotFound || errors.As(err, &certificate) || errors.As(err, &record) ||
		errors.Is(err, http.ErrSchemeMismatch)
}

// read classifies a response. Accrue answers 202 with JSON and everything else with a problem document.
func read(response *http.Response) answer {
	// The status and the headers suffice if the body is cut off.
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	a := answer{status: response.StatusCode, retryAfter: retryAfter(response.Header)}
	media, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	media = strings.ToLower(strings.TrimSpace(media))
	if a.status == http.StatusAccepted && media == "application/json" {
		return answer{result: accepted, status: a.status}
	}
	if media != "application/problem+json" || json.Unmarshal(body, &a.problem) != nil || a.problem.Status != a.status {
		a.foreign, a.problem = true, problem{}
	}
	switch {
	case a.problem.Counted == "no" && (a.status >= 500 || a.status == http.StatusRequestTimeout),
		// Servers before the field "counted" say so in words.
		a.status >= 500 && strings.Contains(a.problem.Detail, "Nothing was counted."):
		a.result = uncounted
	case a.status == http.StatusTooManyRequests:
		a.result, a.foreign = uncounted, false // a rate limit, from Accrue or in front of it
	case a.status >= 500, a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly:
		a.result, a.foreign = unknown, false // a gateway that cannot reach Accrue is an outage like any other
	case a.foreign && a.status < 300:
		a.result = unknown
	case a.foreign:
		a.result = uncounted // a proxy that redirects or refuses does not pass the request on
	default:
		a.result = refused
	}
	a.err = a.error()
	return a
}

// error describes the answer.
func (a *answer) error() error {
	switch {
	case a.result == refused:
		return a.refusal()
	case a.foreign:
		return fmt.Errorf("answered %d %s: %w", a.status, http.StatusText(a.status), errForeign)
	default:
		return errors.New(strings.TrimSpace(fmt.Sprintf("answered %d %s %s", a.status, http.StatusText(a.status), a.problem.Detail)))
	}
}

// retryAfter returns how long an answer asks to wait: a number of seconds, or until a date.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(0, min(seconds, int(maxRetryAfter/time.Second)))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(maxRetryAfter, max(0, time.Until(at)))
	}
	return 0
}
