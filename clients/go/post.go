package client

import (
	"bytes"
	"context"
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

	"github.com/accrue/accrue/pkg/problem"
)

const (
	// firstPause and longestPause are the times between two tries, give or take a half, where the answer names none.
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
	// longestRetryAfter bounds what an answer may ask for.
	longestRetryAfter = 24 * time.Hour
	// maxAnswer is how much of an answer is read, in bytes: more than the faults of a thousand items take.
	maxAnswer = 1 << 20
)

// deliver posts a batch, and what is left of it when a part was refused, until every entry has its outcome.
func (c *Client) deliver(b *batch) {
	for left := []*batch{b}; len(left) > 0; {
		next := left[len(left)-1]
		left = append(left[:len(left)-1], c.settle(next)...)
	}
}

// settle posts a batch until there is an outcome, and reports it. If the outcome is a refusal of some entries only, the
// others are returned, as other batches.
func (c *Client) settle(b *batch) (left []*batch) {
	body := b.finish()
	begun := time.Now()
	o := Outcome{Entries: b.entries}
	report := func(err error) {
		o.Err, o.Took = err, time.Since(begun)
		c.report(o)
	}
	pauses := newPauses()
	var arrived time.Time // when the first try began that may have arrived
	var last error
	for {
		switch {
		case c.trying.Err() == nil:
		case arrived.IsZero():
			report(ErrNotCounted)
			return nil
		default:
			report(fmt.Errorf("%w: given up by the end of close: %w", ErrUnknown, last))
			return nil
		}
		tried := time.Now()
		a := c.try(b, body)
		o.Tries++
		last = a.err
		switch {
		case a.result == accepted:
			report(nil)
			return nil
		case a.result == refused && arrived.IsZero():
			o.Took = time.Since(begun)
			return c.divide(b, o, &a)
		case a.result == refused:
			// An earlier try may be counted, and who refuses now does not know of it.
			report(fmt.Errorf("%w: %s", ErrUnknown, last.Error()))
			return nil
		case a.result == unknown && arrived.IsZero():
			arrived = tried
		}
		wait := max(pauses.NextBackOff(), spread(a.retryAfter))
		if !arrived.IsZero() && time.Since(arrived)+wait > c.patience() {
			report(fmt.Errorf("%w: no answer for %v: %w", ErrUnknown, time.Since(arrived).Round(time.Second), last))
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.trying.Done():
			timer.Stop()
		}
	}
}

// report tells an outcome, to who is told, and to Close.
func (c *Client) report(o Outcome) {
	c.failed.note(&o)
	if c.config.Report != nil {
		c.config.Report(o)
	}
}

// patience is how long after the first try that may have arrived the last one may begin: it must not be counted after the
// horizon, however long it is on its way.
func (c *Client) patience() time.Duration {
	return c.config.Horizon - max(c.config.Horizon/10, c.config.Timeout)
}

// newPauses are the times between the tries of one post.
func newPauses() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = firstPause, longestPause, 2, 0.5
	return b
}

// spread makes a time that many were told longer, by up to a half.
func spread(d time.Duration) time.Duration {
	return d + rand.N(d/2+1) //nolint:gosec // no secret
}

// divide reports the entries of a refused batch that are at fault and returns the others. The batch was certainly not
// counted, so that others may be posted with other keys.
func (c *Client) divide(b *batch, o Outcome, a *answer) (left []*batch) {
	if a.status == http.StatusRequestEntityTooLarge && len(b.entries) > 1 {
		half := len(b.entries) / 2
		return []*batch{b.of(b.entries[half:]), b.of(b.entries[:half])}
	}
	faults := b.faultsByEntry(a.problem.Errors)
	if len(faults) == 0 {
		o.Err = a.err
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

// result is what a try means for the entries.
type result int

const (
	unknown   result = iota // they may be counted: the same again, with the same key
	uncounted               // they are certainly not counted yet
	accepted                // they are counted
	refused                 // they are not, and the same again would not be either
)

// answer is what came of a try.
type answer struct {
	result     result
	status     int
	retryAfter time.Duration
	problem    problem.Document
	err        error
}

// try posts a batch once.
func (c *Client) try(b *batch, body []byte) answer {
	ctx, cancel := context.WithTimeout(c.trying, c.config.Timeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.paths[b.kind], bytes.NewReader(body))
	if err != nil {
		return answer{result: refused, err: &RefusedError{Detail: err.Error()}} // cannot be: New has parsed the address
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", b.key)
	request.Header.Set("User-Agent", "accrue-client")
	response, err := c.http.Do(request)
	if err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" && !connected.Load() {
			return answer{result: uncounted, err: err} // nobody was there
		}
		return answer{result: unknown, err: err}
	}
	defer response.Body.Close() //nolint:errcheck // read
	return read(response)
}

// read makes an answer of a response.
func read(response *http.Response) answer {
	// Of a body that breaks off, the status says all that matters.
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	a := answer{status: response.StatusCode, retryAfter: retryAfter(response.Header)}
	media, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	if media == problem.ContentType && json.Unmarshal(body, &a.problem) != nil {
		a.problem = problem.Document{}
	}
	switch {
	case a.status == http.StatusAccepted:
		return answer{result: accepted}
	case a.status == http.StatusTooManyRequests,
		a.status == http.StatusServiceUnavailable && strings.Contains(a.problem.Detail, problem.NothingCounted):
		a.result, a.err = uncounted, &answerError{a.status, a.problem.Detail}
	case a.status >= http.StatusInternalServerError, a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly:
		a.result, a.err = unknown, &answerError{a.status, a.problem.Detail}
	default:
		a.result, a.err = refused, &RefusedError{Status: a.status, Detail: a.problem.Detail, Faults: a.problem.Errors}
	}
	return a
}

// answerError is an answer after which the same is tried again.
type answerError struct {
	status int
	detail string
}

func (e *answerError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("answered %d %s %s", e.status, http.StatusText(e.status), e.detail))
}

// retryAfter is how long an answer asks to wait: a number of seconds, or a date.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return min(longestRetryAfter, time.Duration(max(0, min(seconds, int(longestRetryAfter/time.Second))))*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(longestRetryAfter, max(0, time.Until(at)))
	}
	return 0
}
