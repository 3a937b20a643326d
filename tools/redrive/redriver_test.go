package redrive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/tools/cli"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ackDeadline = time.Minute

// letters are dead letters and the increments that they are redriven to.
type letters struct {
	t            *testing.T
	dead         *databasetest.Topic
	waiting      *brokerembedded.Subscription
	increments   *databasetest.Topic
	redriven     *brokerembedded.Subscription
	publisher    message.Publisher
	lastSequence uint64
}

func newLetters(t *testing.T) *letters {
	t.Helper()
	l := &letters{t: t, dead: databasetest.NewTopic(t), increments: databasetest.NewTopic(t), publisher: message.NewPublisher()}
	l.waiting, l.redriven = l.dead.Subscribe(ackDeadline), l.increments.Subscribe(ackDeadline)
	return l
}

// batch is a message that can be decoded, the next of its publisher.
func (l *letters) batch() []byte {
	l.t.Helper()
	l.lastSequence++
	b := message.Batch{Publisher: l.publisher, Sequence: l.lastSequence, Increments: []message.Increment{{Tag: "foo", Value: 1}}}
	data, err := b.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	return data
}

// add dead-letters a message for a reason.
func (l *letters) add(data []byte, reason string) {
	l.t.Helper()
	m := broker.Message{Data: data, Attributes: map[string]string{message.ReasonAttribute: reason, "trace": "kept"}}
	if err := l.dead.Publish(l.t.Context(), []broker.Message{m}); err != nil {
		l.t.Fatal(err)
	}
}

// redriver redrives l, with all that it leaves to be found at once.
func (l *letters) redriver(o options) *redriver {
	if o.limit == 0 {
		o.limit = 1000
	}
	if o.maxAge == 0 {
		o.maxAge = 7 * 24 * time.Hour
	}
	return &redriver{from: l.waiting, to: l.increments, options: o, progress: io.Discard}
}

// pulled is what a subscription delivers now.
func pulled(t *testing.T, s *brokerembedded.Subscription) []broker.Delivery {
	t.Helper()
	deliveries, err := s.Pull(t.Context(), broker.MaxPull)
	if err != nil {
		t.Fatal(err)
	}
	return deliveries
}

func TestRedrive(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		options options
		want    found
	}{
		"all":          {options{}, found{redriven: 5, invalid: 2, old: 1}},
		"for a reason": {options{reason: "full"}, found{redriven: 3, invalid: 2, old: 1, others: 2}},
		"a dry run":    {options{dryRun: true}, found{redriven: 5, invalid: 2, old: 1}},
		"some":         {options{limit: 4}, found{redriven: 3, old: 1}},
		"old ones too": {options{maxAge: 1000 * time.Hour}, found{redriven: 6, invalid: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLetters(t)
				l.add(l.batch(), "full")
				time.Sleep(8 * 24 * time.Hour)
				for range 3 {
					l.add(l.batch(), "the checkpoint is full")
				}
				l.add(l.batch(), "refused")
				l.add(l.batch(), "refused")
				l.add([]byte("nonsense"), "invalid batch message: nonsense")
				l.add(nil, "invalid batch message: empty")
				const all = 8

				start := time.Now()
				got, err := l.redriver(tc.options).run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); tc.options.limit > 0 && took > 0 {
					t.Errorf("waited for %v although the limit was reached", took)
				}
				if got.redriven != tc.want.redriven || got.invalid != tc.want.invalid || got.old != tc.want.old || got.others != tc.want.others || got.returned != 0 {
					t.Errorf("found %+v, want %+v", got, tc.want)
				}
				want := tc.want.redriven
				if tc.options.dryRun {
					want = 0
				}
				out := pulled(t, l.redriven)
				if len(out) != want {
					t.Errorf("%d messages were published, want %d", len(out), want)
				}
				for _, d := range out {
					if _, dead := d.Attributes[message.ReasonAttribute]; dead || d.Attributes["trace"] != "kept" {
						t.Errorf("published with the attributes %v", d.Attributes)
					}
					if _, err := message.Decode(d.Data); err != nil {
						t.Error(err)
					}
				}
				// What was left can be pulled at once.
				if left := pulled(t, l.waiting); len(left) != all-want {
					t.Errorf("%d dead letters can be pulled, want %d", len(left), all-want)
				}
			})
		})
	}
}

// returningTopic dead-letters again what is published, as an aggregator whose checkpoint is still full does.
type returningTopic struct{ letters *letters }

func (r returningTopic) Publish(_ context.Context, messages []broker.Message) error {
	for _, m := range messages {
		r.letters.add(m.Data, "still full")
	}
	return nil
}

func TestLeavesMessagesThatReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLetters(t)
		for range 10 {
			l.add(l.batch(), "full")
		}
		r := l.redriver(options{})
		r.to = returningTopic{l}
		got, err := r.run(t.Context())
		if err != nil || got.redriven != 10 || got.returned != 10 {
			t.Errorf("found %+v, %v, want 10 redriven and 10 that came back", got, err)
		}
		if left := pulled(t, l.waiting); len(left) != 10 {
			t.Errorf("%d dead letters are left, want 10", len(left))
		}
	})
}

// failing fails at one call, and otherwise does what the broker does.
type failing struct {
	*brokerembedded.Subscription
	to                         topic
	pull, publish, acknowledge error
	release                    error
}

func (f *failing) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	if f.pull != nil {
		return nil, f.pull
	}
	return f.Subscription.Pull(ctx, limit)
}

func (f *failing) Acknowledge(ctx context.Context, receipts []string) error {
	if f.acknowledge != nil {
		return f.acknowledge
	}
	return f.Subscription.Acknowledge(ctx, receipts)
}

func (f *failing) Extend(ctx context.Context, receipts []string, d time.Duration) error {
	if f.release != nil {
		return f.release
	}
	return f.Subscription.Extend(ctx, receipts, d)
}

func (f *failing) Publish(ctx context.Context, messages []broker.Message) error {
	if f.publish != nil {
		return f.publish
	}
	return f.to.Publish(ctx, messages)
}

func TestFailureLosesNothing(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		fail      func(*failing)
		published int
		left      int
		redriven  int
	}{
		"to pull":        {func(f *failing) { f.pull = broken }, 0, 4, 0},
		"to publish":     {func(f *failing) { f.publish = broken }, 0, 4, 0},
		"to acknowledge": {func(f *failing) { f.acknowledge = broken }, 3, 4, 0},
		"to release":     {func(f *failing) { f.release = broken }, 3, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLetters(t)
				for range 3 {
					l.add(l.batch(), "full")
				}
				l.add([]byte("nonsense"), "invalid")
				f := &failing{Subscription: l.waiting, to: l.increments}
				tc.fail(f)
				r := l.redriver(options{})
				r.from, r.to = f, f
				got, err := r.run(t.Context())
				if !errors.Is(err, broken) || got.redriven != tc.redriven {
					t.Errorf("run() = %+v, %v, want %d redriven and %v", got, err, tc.redriven, broken)
				}
				if tc.redriven == 0 && tc.published == 0 {
					// What was not published is released at once.
					if left := len(pulled(t, l.waiting)); left != tc.left {
						t.Errorf("%d left at once, want %d", left, tc.left)
					}
				}
				time.Sleep(ackDeadline)
				if out, left := len(pulled(t, l.redriven)), len(pulled(t, l.waiting)); out != tc.published || left != tc.left {
					t.Errorf("%d published and %d left, want %d and %d", out, left, tc.published, tc.left)
				}
			})
		})
	}
}

// interruptingTopic ends a context with the first publish.
type interruptingTopic struct {
	topic
	interrupt context.CancelFunc
}

func (i interruptingTopic) Publish(ctx context.Context, messages []broker.Message) error {
	i.interrupt()
	return i.topic.Publish(ctx, messages)
}

func TestInterruptFinishesMessagesInProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLetters(t)
		for range 3 {
			l.add(l.batch(), "full")
		}
		l.add([]byte("nonsense"), "invalid")
		ctx, interrupt := context.WithCancel(t.Context())
		r := l.redriver(options{})
		r.to = interruptingTopic{l.increments, interrupt}
		got, err := r.run(ctx)
		if err != nil || got.redriven != 3 {
			t.Errorf("run() = %+v, %v, want 3 redriven", got, err)
		}
		if out, left := len(pulled(t, l.redriven)), len(pulled(t, l.waiting)); out != 3 || left != 1 {
			t.Errorf("%d published and %d left, want 3 and 1", out, left)
		}
	})
}

func TestInterruptedPullIsNotAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, interrupt)
		if got, err := newLetters(t).redriver(options{}).run(ctx); err != nil || got.all() != 0 {
			t.Errorf("run() = %+v, %v", got, err)
		}
	})
}

// A dry run over many messages can take longer than a lease. Messages that are redelivered are not counted again.
func TestDryRunCountsADeadLetterOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLetters(t)
		for range 10 {
			l.add(l.batch(), "full")
		}
		r := l.redriver(options{dryRun: true})
		r.from = slowSource{l.waiting}
		got, err := r.run(t.Context())
		if err != nil || got.redriven != 10 {
			t.Errorf("run() = %+v, %v, want 10", got, err)
		}
		if left := pulled(t, l.waiting); len(left) != 10 {
			t.Errorf("%d dead letters can be pulled, want 10", len(left))
		}
	})
}

// slowSource takes as long as half a lease for two messages.
type slowSource struct{ *brokerembedded.Subscription }

func (s slowSource) Pull(ctx context.Context, _ int) ([]broker.Delivery, error) {
	time.Sleep(ackDeadline / 2)
	return s.Subscription.Pull(ctx, 2)
}

func TestPrintShowsFrequentReasonsFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLetters(t)
		for i := range 100 {
			l.add(l.batch(), fmt.Sprintf("reason %d", i))
		}
		l.add(l.batch(), "reason 7")
		got, err := l.redriver(options{}).run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		got.print(&out, false)
		lines := slices.Collect(strings.Lines(out.String()))
		if len(lines) != 1+maxReasons+1 || lines[0] != "101 dead letters: 101 redriven\n" ||
			lines[1] != "      50  (other reasons)\n" || lines[2] != "       2  reason 7\n" {
			t.Errorf("printed %d lines:\n%s", len(lines), out.String())
		}
	})
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]int{"": 2, "--nothing": 2, "--project p extra": 2, "--project p --limit 0": 2, "--help": 0} {
		var stdout, stderr bytes.Buffer
		if got := cli.Execute(t.Context(), Command(nil), strings.Fields(arguments), &stdout, &stderr); got != want || stdout.Len()+stderr.Len() == 0 {
			t.Errorf("redrive %s: exit code %d, printed %q, want %d", arguments, got, stderr.String(), want)
		}
	}
}

func TestDiscardsWhatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLetters(t)
		l.add(l.batch(), "full")
		l.add([]byte("nonsense"), "invalid message")
		l.add([]byte("nonsense"), "another reason")
		var records []store.AuditRecord
		r := l.redriver(options{discard: true, reason: "invalid"})
		r.audit = func(_ context.Context, record store.AuditRecord) error {
			records = append(records, record)
			return nil
		}
		got, err := r.run(t.Context())
		if err != nil || got.discarded != 1 || got.redriven != 0 || got.all() != 3 {
			t.Errorf("run() = %+v, %v, want one of three discarded", got, err)
		}
		if left, redriven := len(pulled(t, l.waiting)), len(pulled(t, l.redriven)); left != 2 || redriven != 0 {
			t.Errorf("%d dead letters are left and %d redriven, want 2 and 0", left, redriven)
		}
		if len(records) != 1 || !strings.Contains(string(records[0].Record), `"bytes":8`) {
			t.Errorf("records = %+v, want one of 8 bytes", records)
		}
	})
}

// Without a record nothing is discarded.
func TestDiscardsNothingWithoutARecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLetters(t)
		l.add([]byte("nonsense"), "invalid message")
		r := l.redriver(options{discard: true, reason: "invalid"})
		broken := errors.New("broken")
		r.audit = func(context.Context, store.AuditRecord) error { return broken }
		if got, err := r.run(t.Context()); !errors.Is(err, broken) || got.discarded != 0 {
			t.Errorf("run() = %+v, %v, want %v", got, err, broken)
		}
		if left := len(pulled(t, l.waiting)); left != 1 {
			t.Errorf("%d dead letters are left, want 1", left)
		}
	})
}

// With --data the command works on the folder of accrue run.
func TestCommandWorksOnAFolder(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	d, err := database.Open(database.Options{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	messages := brokerembedded.New(d)
	if _, err := messages.Subscribe(t.Context(), "increments-dead-letter", "increments-dead-letter-redrive", ackDeadline); err != nil {
		t.Fatal(err)
	}
	m := broker.Message{Data: []byte("nonsense"), Attributes: map[string]string{message.ReasonAttribute: "invalid message"}}
	if err := messages.Topic("increments-dead-letter").Publish(t.Context(), []broker.Message{m}); err != nil {
		t.Fatal(err)
	}
	reject(t, storeembedded.New(d), 20, full)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		arguments string
		code      int
		output    string
	}{
		{"", 2, "--data is required"},
		{"--discard --data " + folder, 2, "--discard needs the --reason"},
		{"--dry-run --data " + folder, 0, "21 rejected entries: 21 to be counted"},
		{"--data " + folder, 0, "21 rejected entries: 21 counted"},
		{"--data " + folder, 0, "0 rejected entries: 0 counted"},
		{"--data " + folder, 0, "1 dead letters: 0 redriven, 1 cannot be decoded and remain"},
		{"--discard --reason invalid --data " + folder, 0, "1 dead letters: 0 redriven, 1 discarded"},
		{"--data " + folder, 0, "0 dead letters: 0 redriven"},
	} {
		var output bytes.Buffer
		if code := cli.Execute(t.Context(), Command(nil), strings.Fields(tc.arguments), &output, &output); code != tc.code || !strings.Contains(output.String(), tc.output) {
			t.Errorf("accrue redrive %s = %d, %s\nwant %d, %s", tc.arguments, code, output.String(), tc.code, tc.output)
		}
	}
}
