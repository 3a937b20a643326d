package committer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/aggregator/internal/committer"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/tracecontext"
)

// recordingObserver keeps what it is told.
type recordingObserver struct {
	mu       sync.Mutex
	begun    []committer.Committing
	outcomes []error
}

func (o *recordingObserver) Committing(
	ctx context.Context, c committer.Committing,
) (context.Context, []tracecontext.Trace, func(error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begun = append(o.begun, c)
	return ctx, c.Traces, func(err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.outcomes = append(o.outcomes, err)
	}
}

// lockedBuffer is a log that several write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines returns the lines of a message.
func (l *lockedBuffer) lines(t *testing.T, message string) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []map[string]any
	for line := range strings.Lines(l.b.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if text, _ := fields["message"].(string); strings.HasPrefix(text, message) {
			all = append(all, fields)
		}
	}
	return all
}

// observed runs a committer with an observer and a log.
func (r *rig) observed(t *testing.T, ledger committer.Ledger) (c *committer.Committer, o *recordingObserver, log *lockedBuffer, stop func()) {
	t.Helper()
	o, log = new(recordingObserver), new(lockedBuffer)
	r.settings.Observer = o
	c = committer.New(r.settings, r.subscription, ledger, r.dead, logging.New(log, "aggregator", map[string]string{"GOOGLE_CLOUD_PROJECT": "p"}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	return c, o, log, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}
}

// publishTraced publishes a message of one increment that carries traces.
func (r *rig) publishTraced(t *testing.T, tag string, traces ...tracecontext.Trace) {
	t.Helper()
	r.publishTracedIn(t, 0, tag, traces...)
}

func (r *rig) publishTracedIn(t *testing.T, partition uint32, tag string, traces ...tracecontext.Trace) {
	t.Helper()
	r.sequences[partition]++
	b := &message.Batch{
		Publisher: message.Publisher{1}, Partition: partition, Sequence: r.sequences[partition], AcceptedAt: time.Now(),
		Increments: []message.Increment{{Tag: tag, Value: 1}},
	}
	data, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.topic.Publish(t.Context(), []broker.Message{{Data: data, Attributes: tracecontext.Attributes(traces)}}); err != nil {
		t.Fatal(err)
	}
}

// What the messages of a window carry is told to the observer, is in the checkpoint for query to see, also after the next
// Commit, and has its line in the log.
func TestTracesAreFollowedThroughACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		_, observer, log, stop := r.observed(t, r.store)
		defer stop()
		first, second, third := tracecontext.New(true), tracecontext.New(true), tracecontext.New(true)
		r.publishTraced(t, "foo", first, second)
		r.publishTraced(t, "bar")
		time.Sleep(2 * time.Second)
		carried := func() []tracecontext.Trace {
			totals, _, err := r.store.Totals(t.Context())
			if err != nil || len(totals) != 1 {
				t.Fatalf("Totals() = %v, %v", totals, err)
			}
			return totals[0].Traces
		}
		if got := carried(); !slices.Equal(got, []tracecontext.Trace{first, second}) {
			t.Errorf("the checkpoint carries %v, want %v and %v", got, first, second)
		}
		r.publishTraced(t, "foo", third)
		time.Sleep(2 * time.Second)
		if got := carried(); !slices.Equal(got, []tracecontext.Trace{third, second, first}) {
			t.Errorf("the next checkpoint carries %v, want %v first, and the earlier ones", got, third)
		}
		time.Sleep(20 * time.Second)
		r.publishTraced(t, "foo")
		time.Sleep(2 * time.Second)
		if got := carried(); len(got) != 0 {
			t.Errorf("a much later checkpoint carries %v", got)
		}

		synctest.Wait()
		if len(observer.begun) != 3 || len(observer.outcomes) != 3 || errors.Join(observer.outcomes...) != nil {
			t.Fatalf("observed %+v with %v", observer.begun, observer.outcomes)
		}
		c := observer.begun[0]
		if len(c.Messages) != 2 || c.Documents != 2 || c.Trigger != "age" || !slices.Equal(c.Traces, []tracecontext.Trace{first, second}) {
			t.Errorf("observed %+v", c)
		}
		lines := log.lines(t, "committed")
		if len(lines) != 3 {
			t.Fatalf("the log has %d lines of commits, want one a trace: %v", len(lines), lines)
		}
		for i, trace := range []tracecontext.Trace{first, second, third} {
			if got, want := lines[i]["logging.googleapis.com/trace"], "projects/p/traces/"+trace.String()[3:35]; got != want {
				t.Errorf("line %d is of trace %v, want %s", i, got, want)
			}
		}
	})
}

func TestTracesDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		_, _, log, stop := r.observed(t, r.store)
		for range 100 { // 10 s
			for partition := range uint32(20) { // each commits once a second, with as many traces as it may
				r.publishTracedIn(t, partition, "foo", tracecontext.New(true), tracecontext.New(true))
			}
			time.Sleep(100 * time.Millisecond)
		}
		stop()
		if n := len(log.lines(t, "committed")); n == 0 || n > 130 {
			t.Errorf("%d lines in 10 s", n)
		}
	})
}

// A Commit whose outcome is an error is told as that, counted, and told in few lines.
func TestFailedCommitsAreCountedAndSummarised(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		broken := &brokenLedger{Ledger: r.store, err: errors.New("unavailable")}
		c, observer, log, stop := r.observed(t, broken)
		defer stop()
		r.publishTraced(t, "foo", tracecontext.New(true))
		time.Sleep(time.Minute)
		counts := c.Counts()
		if counts.Pulled != 1 || counts.Decoded != 1 || counts.ByAge != 0 || counts.Unknown < 10 || counts.HeldBytes == 0 ||
			time.Since(counts.OldestHeld) < 59*time.Second {
			t.Errorf("counts = %+v", counts)
		}
		if n := len(log.lines(t, "cannot commit")); n < 2 || n > 7 {
			t.Errorf("%d lines in a minute", n)
		}
		if n := len(log.lines(t, "committed")); n != 0 {
			t.Errorf("%d lines of commits that did not happen", n)
		}
		broken.mend()
		time.Sleep(10 * time.Second)
		if n := len(log.lines(t, "works again: commit")); n != 1 {
			t.Errorf("%d lines that it works again", n)
		}
		synctest.Wait()
		failed := 0
		for _, err := range observer.outcomes {
			if err != nil {
				failed++
			}
		}
		counts = c.Counts()
		if int64(failed) != counts.Unknown || len(observer.outcomes) != failed+1 || counts.ByAge != 1 {
			t.Errorf("%d outcomes, %d of them failures; counts = %+v", len(observer.outcomes), failed, counts)
		}
		if counts.HeldBytes != 0 || !counts.OldestHeld.IsZero() || counts.Publishers != 1 || counts.Intervals != 1 || counts.CheckpointBytes == 0 {
			t.Errorf("counts = %+v", counts)
		}
	})
}

// brokenLedger fails all Commits until it is mended.
type brokenLedger struct {
	committer.Ledger
	mu  sync.Mutex
	err error
}

func (l *brokenLedger) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = nil
}

func (l *brokenLedger) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return store.Revision{}, l.err
	}
	return l.Ledger.Commit(ctx, c)
}

// A checkpoint at three fifths of what it takes is told of, now and then: the deployment's alert counts these lines.
func TestAFillingCheckpointIsTold(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		part float64
		want int
	}{"below": {0.59, 0}, "above": {0.61, 3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig()
				full := checkpoint.Checkpoint{Commit: 1}
				for size := 0.0; size < tc.part*checkpoint.MaxSize; size = float64(full.Size()) {
					for range 500 {
						full.Totals = append(full.Totals, checkpoint.Total{Name: tagNumber(len(full.Totals)), Total: 1, Increments: 1})
					}
				}
				if _, err := r.store.Commit(t.Context(), store.Commit{Next: full}); err != nil {
					t.Fatal(err)
				}
				c, _, log, stop := r.observed(t, r.store)
				defer stop()
				for range 14 { // minutes
					r.publishTraced(t, "foo")
					time.Sleep(time.Minute)
				}
				lines := log.lines(t, "a checkpoint is filling up")
				if len(lines) != tc.want {
					t.Errorf("%d lines in 14 minutes, want %d: %v", len(lines), tc.want, lines)
				}
				if ratio := float64(c.Counts().CheckpointBytes) / checkpoint.MaxSize; ratio < tc.part {
					t.Errorf("ratio = %v, want %v or more", ratio, tc.part)
				}
			})
		})
	}
}

// tagNumber makes names that rise.
func tagNumber(n int) string {
	return "tag_" + string([]byte{'a' + byte(n/17576%26), 'a' + byte(n/676%26), 'a' + byte(n/26%26), 'a' + byte(n%26)})
}

// panickingLedger is a ledger with a fault of ours in it.
type panickingLedger struct{ committer.Ledger }

func (panickingLedger) Load(context.Context, uint32) (store.State, error) { panic("oh") }

// A fault in the goroutine of one partition ends the committer with an error that has its stack; what it held is given back.
func TestAPanicInAPartitionEndsTheCommitterInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		c := committer.New(r.settings, r.subscription, panickingLedger{r.store}, r.dead, logging.New(new(lockedBuffer), "aggregator", nil))
		r.publishTraced(t, "foo")
		err := c.Run(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "panic: oh\n\ngoroutine ") || !strings.Contains(err.Error(), "panickingLedger") {
			t.Errorf("Run() = %v", err)
		}
		if again, err := r.subscription.Pull(t.Context(), 10); err != nil || len(again) != 1 {
			t.Errorf("%d messages come again (%v), want the one that was held", len(again), err)
		}
	})
}
