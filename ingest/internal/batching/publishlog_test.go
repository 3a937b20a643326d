package batching_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/tracing"
)

// keepingPublisher keeps what it is given, or fails.
type keepingPublisher struct {
	messages []broker.Message
	err      error
}

func (p *keepingPublisher) Publish(_ context.Context, messages []broker.Message) error {
	if p.err == nil {
		p.messages = append(p.messages, messages...)
	}
	return p.err
}

// logged runs a batcher until do has returned, and returns what it logged, a line each.
func logged(t *testing.T, p batching.Publisher, do func(b *batching.Batcher)) []map[string]any {
	t.Helper()
	var written bytes.Buffer
	b := newBatcher(t, p, partitions, batching.MinLimit, logging.New(&written, "ingest", map[string]string{"GOOGLE_CLOUD_PROJECT": "p"}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	do(b)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run() = %v", err)
	}
	return decoded(t, &written)
}

// decoded are the lines of a log.
func decoded(t *testing.T, written *bytes.Buffer) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(written.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines = append(lines, fields)
	}
	return lines
}

// totals are the sums over the lines about published messages.
type totals struct{ Lines, Messages, Count, Sum, Bytes int }

func totalsOf(lines []map[string]any) (t totals) {
	number := func(line map[string]any, field string) int {
		n, _ := line[field].(float64)
		return int(n)
	}
	for _, line := range lines {
		if line["message"] == logging.Published {
			t.Lines++
			t.Messages += number(line, "messages")
			t.Count += number(line, "count")
			t.Sum += number(line, "sum")
			t.Bytes += number(line, "bytes")
		}
	}
	return t
}

// The log is an audit: its lines sum to what was accepted and published.
func TestPublishedLinesSumToAccepted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		publisher := new(keepingPublisher)
		var want totals
		lines := logged(t, publisher, func(b *batching.Batcher) {
			for range rapid.IntRange(1, 5).Draw(rt, "requests") {
				var entries []batching.Entry
				for range rapid.IntRange(1, 50).Draw(rt, "entries") {
					e := batching.Entry{Tag: name(rapid.IntRange(0, 99).Draw(rt, "tag")), Value: uint8(rapid.IntRange(1, 9).Draw(rt, "value"))}
					if rapid.Bool().Draw(rt, "contributes") {
						e.Contributor = contributor(rapid.IntRange(0, 9).Draw(rt, "contributor"))
						want.Count++
					}
					want.Sum += int(e.Value)
					want.Count++
					entries = append(entries, e)
				}
				if err := b.Add(context.Background(), entries); err != nil {
					rt.Fatalf("Add() = %v", err)
				}
			}
		})
		for _, m := range publisher.messages {
			want.Bytes += len(m.Data)
		}
		got := totalsOf(lines)
		want.Messages, want.Lines = len(publisher.messages), min(got.Lines, 6) // a few at once and one at the end
		if got != want {
			rt.Errorf("the log has %+v, want %+v", got, want)
		}
	})
}

// While messages are few, each has a line with its partition and sequence.
func TestAMessageHasALineOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		publisher := new(keepingPublisher)
		lines := logged(t, publisher, func(b *batching.Batcher) {
			for n := range 40 {
				if err := b.Add(t.Context(), one(name(n))); err != nil {
					t.Errorf("Add() = %v", err)
				}
				time.Sleep(250 * time.Millisecond)
			}
		})
		if len(lines) != len(publisher.messages) {
			t.Fatalf("%d lines for %d messages", len(lines), len(publisher.messages))
		}
		for i, line := range lines {
			batch, err := message.Decode(publisher.messages[i].Data)
			if err != nil {
				t.Fatal(err)
			}
			for field, want := range map[string]any{
				"message": "published", "severity": "INFO", "partition": float64(batch.Partition), "sequence": float64(batch.Sequence),
				"messages": 1.0, "count": 1.0, "sum": float64(batch.Increments[0].Value), "bytes": float64(len(publisher.messages[i].Data)),
			} {
				if line[field] != want {
					t.Errorf("%s = %v, want %v", field, line[field], want)
				}
			}
		}
	})
}

// However many messages there are in a second, there are few lines, the last of them soon after the last message.
func TestManyMessagesAreLoggedInFewLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		publisher, log := new(keepingPublisher), new(bytes.Buffer)
		b, stop := runningWith(t, publisher, partitions, batching.MinLimit, logging.New(log, "ingest", nil))
		const posts = 5000 // 10 s
		for n := range posts {
			if err := b.Add(t.Context(), one(name(n))); err != nil {
				t.Errorf("Add() = %v", err)
			}
		}
		took := 10 * time.Second
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		got := totalsOf(decoded(t, log))
		if got.Messages != posts || got.Count != posts || got.Sum != posts {
			t.Errorf("a quarter of a second after the last of %d messages the log has %+v", posts, got)
		}
		if most := 5 + 4*int(took.Seconds()) + 1; got.Lines > most || got.Lines < most/2 {
			t.Errorf("%d lines in %v, want %d or a few less", got.Lines, took, most)
		}
		stop()
		if after := totalsOf(decoded(t, log)); after != got {
			t.Errorf("after the stop the log has %+v", after)
		}
	})
}

func TestFailedPublishesAreNotInTheSum(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		publisher := &keepingPublisher{err: errors.New("unavailable")}
		lines := logged(t, publisher, func(b *batching.Batcher) {
			for range 300 { // 30 s
				if err := b.Add(t.Context(), one("foo")); !errors.Is(err, batching.ErrPublish) {
					t.Errorf("Add() = %v", err)
				}
				time.Sleep(100 * time.Millisecond)
			}
			publisher.err = nil
			if err := b.Add(t.Context(), one("foo")); err != nil {
				t.Errorf("Add() = %v", err)
			}
		})
		logged := map[any]int{}
		for _, line := range lines {
			logged[line["message"]]++
		}
		if logged["published"] != 1 || logged["works again: publish"] != 1 || logged["cannot publish"] < 3 || logged["cannot publish"] > 4 || len(logged) != 3 {
			t.Errorf("logged %v", logged)
		}
	})
}

// newTrace returns a trace context of its own for each number.
func newTrace(n int, sampled bool) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, byte(n), byte(n >> 8)}, SpanID: trace.SpanID{1}, TraceFlags: trace.TraceFlags(0).WithSampled(sampled),
	})
}

// The trace of a sampled request continues in the message of its entries, from the span of the publish. The trace of another
// request in the same message continues beside it. A trace that is not sampled leaves nothing.
func TestTracesGoOnInMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		publisher := new(keepingPublisher)
		first, second, ignored := newTrace(1, true), newTrace(2, true), newTrace(3, false)
		lines := logged(t, publisher, func(b *batching.Batcher) {
			if err := b.Add(t.Context(), one("foo")); err != nil { // the next ones are published together
				t.Errorf("Add() = %v", err)
			}
			for _, from := range []trace.SpanContext{first, second, ignored} {
				go func() {
					if err := b.Add(trace.ContextWithSpanContext(t.Context(), from), one("foo")); err != nil {
						t.Errorf("Add() = %v", err)
					}
				}()
				synctest.Wait()
			}
			time.Sleep(time.Second)
			if err := b.Add(t.Context(), one("foo")); err != nil {
				t.Errorf("Add() = %v", err)
			}
		})
		if len(publisher.messages) != 3 {
			t.Fatalf("%d messages", len(publisher.messages))
		}
		for i, want := range [][]trace.SpanContext{nil, {first, second}, nil} {
			got := tracing.FromAttributes(publisher.messages[i].Attributes)
			if len(got) != len(want) || len(got) == 2 && (!got[0].Equal(want[0].WithRemote(true)) || !got[1].Equal(want[1].WithRemote(true))) {
				t.Errorf("message %d carries %v, want %v", i, got, want)
			}
		}
		var followed []string
		for _, line := range lines {
			if trace, _ := line["logging.googleapis.com/trace"].(string); trace != "" {
				followed = append(followed, fmt.Sprint(trace, " ", line["message"], " ", line["messages"]))
			}
		}
		batch, err := message.Decode(publisher.messages[1].Data)
		if err != nil {
			t.Fatal(err)
		}
		place := fmt.Sprintf(" in the topic [%d:%d]", batch.Partition, batch.Sequence)
		want := []string{"projects/p/traces/" + first.TraceID().String() + place, "projects/p/traces/" + second.TraceID().String() + place}
		if !slices.Equal(followed, want) {
			t.Errorf("these lines belong to traces: %q, want %q", followed, want)
		}
	})
}

// Clients that ask for traces cannot fill the log.
func TestLinesOfTracesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lines := logged(t, new(keepingPublisher), func(b *batching.Batcher) {
			for n := range 500 { // a second
				if err := b.Add(trace.ContextWithSpanContext(t.Context(), newTrace(n+1, true)), one("foo")); err != nil {
					t.Errorf("Add() = %v", err)
				}
			}
		})
		followed := 0
		for _, line := range lines {
			if line["message"] == "in the topic" {
				followed++
			}
		}
		if followed < 5 || followed > 10 {
			t.Errorf("%d lines of traces in a second, want 5 at once and 5 a second", followed)
		}
	})
}

// BenchmarkAddLogged is BenchmarkAdd with log lines.
func BenchmarkAddLogged(b *testing.B) {
	benchmarkAddTo(b, 1, logging.New(io.Discard, "ingest", map[string]string{"GOOGLE_CLOUD_PROJECT": "p"}))
}
