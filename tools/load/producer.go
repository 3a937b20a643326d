package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/accrue/accrue/clients/go"
)

// postByClient posts as a producer should, by package client: what is lost on the way is posted again with its key, and
// must be counted once. The raw connections of the other mode stay for measuring: they cost half of what an http.Transport
// does, and never post again what they do not know about.
func (l *load) postByClient(ctx context.Context, transport http.RoundTripper) error {
	var mu sync.Mutex
	var failed error
	c, err := accrue.New(accrue.Config{
		URL: l.config.ingest.String(), Batch: l.config.batch, Posts: l.config.connections, Transport: transport,
		Report: func(o accrue.Outcome) {
			mu.Lock()
			defer mu.Unlock()
			if err := l.enter(&o); err != nil && failed == nil {
				failed = err
			}
		},
	})
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	adding := l.addAll(ctx, c)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	// What Close says is in the outcomes too.
	_ = c.Close(closing)
	return errors.Join(adding, failed)
}

// addAll adds what the source has, until ctx or the source ends.
func (l *load) addAll(ctx context.Context, c *accrue.Client) error {
	pace := newPacer(l.config)
	for ctx.Err() == nil {
		e, err := l.source.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		pace.wait(ctx, 1)
		entry := accrue.Entry{Name: e.tally.name, Value: int64(e.value), Contributor: e.contributor}
		if err := c.Add(ctx, entry); err != nil {
			if ctx.Err() != nil {
				break // it was not taken
			}
			return fmt.Errorf("post: %w", err)
		}
	}
	return nil //nolint:nilerr // the end of the run is no fault
}

// enter enters an outcome in the tallies. The error is errRefused. Its caller sees to it that there is one at a time.
func (l *load) enter(o *accrue.Outcome) error {
	n := int64(len(o.Entries))
	l.counts.Retries.Add(int64(max(0, o.Tries-1)))
	var refused *accrue.RefusedError
	switch {
	case o.Err == nil:
		l.latency.record(o.Took)
		l.counts.Posts.Add(1)
		l.counts.Accepted.Add(n)
		for _, e := range o.Entries {
			l.ledger.tag([]byte(e.Name)).accepted.Add(e.Value)
		}
	case errors.Is(o.Err, accrue.ErrUnknown):
		l.counts.Unknown.Add(n)
		for _, e := range o.Entries {
			l.ledger.tag([]byte(e.Name)).unknown.Add(e.Value)
		}
	default:
		l.counts.Lost.Add(n)
		if errors.As(o.Err, &refused) {
			return fmt.Errorf("%w: %w", errRefused, refused)
		}
	}
	return nil
}
