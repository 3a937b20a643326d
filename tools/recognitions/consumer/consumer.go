// Package consumer is an example of a consumer of recognition events: it handles each recognition once, although its event
// may arrive twice. Pub/Sub may redeliver a message, and if an instance of query is killed after it has published an event
// and before it has recorded that, another instance publishes a copy. Both have the same source and id.
package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/recent"
)

// Source is a subscription to the events.
type Source interface {
	// Pull leases up to limit messages; none, after a while, if there are none.
	Pull(ctx context.Context, limit int) ([]broker.Delivery, error)
	// Acknowledge ends deliveries for good.
	Acknowledge(ctx context.Context, receipts []string) error
}

// Recognition is the data of an event.
type Recognition struct {
	Contributor   string    `json:"contributor"`
	Tier          int64     `json:"tier"`
	Contributions int64     `json:"contributions"`
	RecognizedAt  time.Time `json:"recognized_at"`
}

const (
	// pullTimeout and acknowledgeTimeout bound calls. A Pull ends by itself after 2 s; messages of one that is cut off are
	// redelivered only when their leases end.
	pullTimeout, acknowledgeTimeout = 10 * time.Second, 5 * time.Second
	// retryInterval is the wait after a call that failed.
	retryInterval = 2 * time.Second
)

// Consumer handles each recognition once, as far as it remembers: the latest events, in memory. Where a recognition must
// not be handled again after a restart, keep the keys of events where what is done about them is kept, and in the same
// transaction.
type Consumer struct {
	source Source
	handle func(Recognition) error
	report func(error)
	seen   *recent.Set[eventKey]
}

// New returns a consumer that remembers so many events, 1 or more. Handle is called for one recognition at a time; if
// it fails, its event will be delivered again. Report is called with every error, and for messages that are not
// recognitions, which are dropped.
func New(source Source, remember int, handle func(Recognition) error, report func(error)) *Consumer {
	return &Consumer{source: source, handle: handle, report: report, seen: recent.New[eventKey](remember)}
}

// Run consumes until ctx ends and the pulled events are handled, usually within 2 s.
func (c *Consumer) Run(ctx context.Context) error {
	calls := context.WithoutCancel(ctx) // calls under way complete
	for ctx.Err() == nil {
		if err := c.consume(calls); err != nil {
			c.report(err)
			wait(ctx, retryInterval)
		}
	}
	return nil
}

// consume pulls once, and handles and acknowledges the events.
func (c *Consumer) consume(ctx context.Context) error {
	pull, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	deliveries, err := c.source.Pull(pull, broker.MaxPull)
	if err != nil {
		return err
	}
	var failed error
	receipts := make([]string, 0, len(deliveries))
	for _, d := range deliveries {
		if err := c.take(d.Message); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		receipts = append(receipts, d.Receipt)
	}
	acknowledge, cancel := context.WithTimeout(ctx, acknowledgeTimeout)
	defer cancel()
	return errors.Join(failed, c.source.Acknowledge(acknowledge, receipts))
}

// take handles a message unless its event was handled before. After an error it must be redelivered.
func (c *Consumer) take(m broker.Message) error {
	key, recognition, err := parse(m)
	if err != nil {
		c.report(fmt.Errorf("drop a message: %w", err))
		return nil
	}
	if c.seen.Has(key) {
		return nil
	}
	if err := c.handle(recognition); err != nil {
		return err
	}
	c.seen.Add(key)
	return nil
}

// eventKey identifies a CloudEvent: two with the same source and id are copies.
type eventKey struct{ source, id string }

// parse reads a CloudEvent in binary mode, whose attributes are those of the message.
func parse(m broker.Message) (eventKey, Recognition, error) {
	key := eventKey{source: m.Attributes["ce-source"], id: m.Attributes["ce-id"]}
	var r Recognition
	if key.source == "" || key.id == "" || m.Attributes["ce-specversion"] != "1.0" {
		return key, r, errors.New("not a CloudEvent")
	}
	const recognized = "dev.accrue.contributor.recognized.v1"
	if kind := m.Attributes["ce-type"]; kind != recognized {
		return key, r, fmt.Errorf("a CloudEvent of type %q, not %s", kind, recognized)
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return key, r, fmt.Errorf("its data is not a recognition: %w", err)
	}
	return key, r, nil
}

// wait waits for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
