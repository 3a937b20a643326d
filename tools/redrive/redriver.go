package redrive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

const (
	// callTimeout bounds one call to the broker.
	callTimeout = 10 * time.Second
	// idlePulls is how many pulls in a row bring nothing new before the subscription counts as empty: a pull may return
	// nothing although there is something.
	idlePulls = 3
	// maxReasons bounds the number of reasons that are counted separately.
	maxReasons = 50
)

// source is the subscription of dead letters.
type source interface {
	Pull(ctx context.Context, limit int) ([]broker.Delivery, error)
	Acknowledge(ctx context.Context, receipts []string) error
	Extend(ctx context.Context, receipts []string, d time.Duration) error
}

// topic is the increments topic.
type topic interface {
	Publish(ctx context.Context, messages []broker.Message) error
}

type options struct {
	// reason, if not empty, is what the reason of a dead letter must contain.
	reason string
	// limit bounds how many dead letters are looked at.
	limit int
	// maxAge is the age beyond which a dead letter is left.
	maxAge time.Duration
	dryRun bool
	// discard removes what cannot be decoded, and redrives nothing.
	discard bool
	json    bool
}

// redriver moves messages from the dead letters to the increments.
type redriver struct {
	from     source
	to       topic
	audit    func(context.Context, store.AuditRecord) error
	options  options
	progress io.Writer
}

// identity identifies a message.
type identity struct {
	publisher message.Publisher
	partition uint32
	sequence  uint64
}

// found is the result of a run.
type found struct {
	// redriven were published and acknowledged; in a dry run, they would have been.
	redriven int
	// The rest was left: it cannot be decoded, is too old, has another reason than the one asked for, or returned after it
	// was redriven. Discarded ones are gone, after an audit record of each.
	invalid, old, others, returned, discarded int
	// reasons counts all of them by reason.
	reasons map[string]int
}

// run redrives until there is nothing new, the limit is reached, or ctx ends. At the end it releases the messages that it
// leaves, so that they can be pulled at once. It returns what it found also with an error.
func (r *redriver) run(ctx context.Context) (f *found, err error) {
	f = &found{reasons: make(map[string]int)}
	// Messages that are left, by their broker id, are held until the end: released at once, they would return at once.
	left := make(map[string]string)
	redriven := make(map[identity]bool)
	defer func() {
		err = errors.Join(err, r.release(ctx, slices.Collect(maps.Values(left))))
	}()
	for idle := 0; idle < idlePulls && f.all() < r.options.limit && ctx.Err() == nil; {
		deliveries, err := r.from.Pull(ctx, min(broker.MaxPull, r.options.limit-f.all()))
		if err != nil {
			if ctx.Err() != nil {
				return f, nil // Ctrl-C is not a failure
			}
			return f, fmt.Errorf("pull dead letters: %w", err)
		}
		var messages []broker.Message
		var receipts []string
		fresh := false
		for _, d := range deliveries {
			_, again := left[d.ID]
			if again { // its lease has ended
				left[d.ID] = d.Receipt
				continue
			}
			fresh = true
			if r.options.discard && !r.options.dryRun && r.invalid(d) {
				if err := r.discard(ctx, d); err != nil {
					left[d.ID] = d.Receipt
					return f, err
				}
				f.discarded++
				continue
			}
			id, ok := r.sort(f, d, redriven)
			if !ok || r.options.dryRun || r.options.discard {
				left[d.ID] = d.Receipt
				continue
			}
			redriven[id] = true
			messages = append(messages, withoutReason(d.Message))
			receipts = append(receipts, d.Receipt)
		}
		if idle++; fresh {
			idle = 0
		}
		if err := r.move(ctx, messages, receipts); err != nil {
			f.redriven -= len(messages)
			return f, err
		}
		if fresh {
			fmt.Fprintf(r.progress, "%d dead letters, %d of them redriven\n", f.all(), f.redriven)
		}
	}
	return f, nil
}

// invalid reports whether a dead letter that has the reason can never be counted.
func (r *redriver) invalid(d broker.Delivery) bool {
	_, err := message.Decode(d.Data)
	return err != nil && strings.Contains(d.Attributes[message.ReasonAttribute], r.options.reason)
}

// maxRecorded bounds the bytes of a dead letter that its audit record keeps.
const maxRecorded = 256 << 10

// discard removes a dead letter. Its audit record is written first.
func (r *redriver) discard(ctx context.Context, d broker.Delivery) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	record, err := json.Marshal(map[string]any{
		"discarded": "dead letter " + d.ID, "published_at": d.PublishedAt, "attributes": d.Attributes, "bytes": len(d.Data),
		"data": d.Data[:min(len(d.Data), maxRecorded)],
	})
	if err == nil {
		err = r.audit(ctx, store.AuditRecord{ID: "discarded-dead-letter-" + d.ID, At: time.Now().UTC(), Record: record})
	}
	if err != nil {
		return fmt.Errorf("discard a dead letter: %w", err)
	}
	if err := r.from.Acknowledge(ctx, []string{d.Receipt}); err != nil {
		return fmt.Errorf("acknowledge a discarded dead letter (its record is written): %w", err)
	}
	return nil
}

// sort counts a dead letter in f, and reports whether to redrive it.
func (r *redriver) sort(f *found, d broker.Delivery, redriven map[identity]bool) (identity, bool) {
	reason := cmp.Or(d.Attributes[message.ReasonAttribute], "(no reason)")
	if _, known := f.reasons[reason]; !known && len(f.reasons) >= maxReasons {
		reason = "(other reasons)"
	}
	f.reasons[reason]++
	b, err := message.Decode(d.Data)
	if err != nil {
		f.invalid++
		return identity{}, false
	}
	id := identity{b.Publisher, b.Partition, b.Sequence}
	switch {
	case time.Since(d.PublishedAt) > r.options.maxAge:
		f.old++
		return id, false
	case !strings.Contains(d.Attributes[message.ReasonAttribute], r.options.reason):
		f.others++
		return id, false
	case redriven[id]:
		f.returned++
		return id, false
	}
	if r.options.discard {
		f.others++
		return id, false
	}
	f.redriven++
	return id, true
}

// withoutReason returns a dead letter as it was before it became one.
func withoutReason(m broker.Message) broker.Message {
	attributes := maps.Clone(m.Attributes)
	delete(attributes, message.ReasonAttribute)
	return broker.Message{Data: m.Data, Attributes: attributes}
}

// move publishes messages and then acknowledges them, in this order: a crash in between leaves them in both places, and
// they are counted once. It completes also if ctx ends.
func (r *redriver) move(ctx context.Context, messages []broker.Message, receipts []string) error {
	if len(messages) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := r.to.Publish(ctx, messages); err != nil {
		return errors.Join(fmt.Errorf("publish %d dead letters (they remain, and some may be published): %w", len(messages), err),
			r.release(ctx, receipts))
	}
	if err := r.from.Acknowledge(ctx, receipts); err != nil {
		return fmt.Errorf("acknowledge %d dead letters (they are published, and some remain): %w", len(receipts), err)
	}
	return nil
}

// release lets messages be delivered again at once.
func (r *redriver) release(ctx context.Context, receipts []string) error {
	if len(receipts) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := r.from.Extend(ctx, receipts, 0); err != nil {
		return fmt.Errorf("release %d dead letters (they return when their leases end): %w", len(receipts), err)
	}
	return nil
}

// json returns the report for programs.
func (f *found) json() any {
	return struct {
		Redriven    int            `json:"redriven"`
		Discarded   int            `json:"discarded"`
		Invalid     int            `json:"invalid"`
		TooOld      int            `json:"too_old"`
		OtherReason int            `json:"other_reason"`
		Returned    int            `json:"returned"`
		Reasons     map[string]int `json:"reasons"`
	}{f.redriven, f.discarded, f.invalid, f.old, f.others, f.returned, f.reasons}
}

// all is how many dead letters were looked at.
func (f *found) all() int {
	return f.redriven + f.discarded + f.invalid + f.old + f.others + f.returned
}

// print writes the report, the most frequent reasons first.
func (f *found) print(w io.Writer, dryRun bool) {
	verb := "redriven"
	if dryRun {
		verb = "to be redriven (this was a dry run)"
	}
	fmt.Fprintf(w, "%d dead letters: %d %s", f.all(), f.redriven, verb)
	for _, left := range []struct {
		n    int
		what string
	}{
		{f.discarded, "discarded"}, {f.invalid, "cannot be decoded and remain"}, {f.old, "are too old and remain"}, {f.others, "have another reason and remain"}, {f.returned, "returned and remain"},
	} {
		if left.n > 0 {
			fmt.Fprintf(w, ", %d %s", left.n, left.what)
		}
	}
	fmt.Fprintln(w)
	printReasons(w, f.reasons)
}

// printReasons writes reasons with their counts, the most frequent first.
func printReasons(w io.Writer, reasons map[string]int) {
	for _, reason := range slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		return cmp.Or(reasons[b]-reasons[a], strings.Compare(a, b))
	}) {
		fmt.Fprintf(w, "%8d  %s\n", reasons[reason], reason)
	}
}
