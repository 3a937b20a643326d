package logging

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

// Panic logs what a function that panicked was given, with the stack, from a deferred function that recovered it. It is one
// line, in the form that Error Reporting groups by: the stack is part of the message.
func Panic(ctx context.Context, log zerolog.Logger, cause any) {
	log.Error().Ctx(ctx).Msg(panicText(cause))
}

func panicText(cause any) string { return fmt.Sprintf("panic: %v\n\n%s", cause, debug.Stack()) }

// Panics are those that a service survives, such as those of the handlers of requests. A fault of ours that every request
// meets is not logged for each: the first is, and then one in SummaryInterval, with how many there were. Its method may be
// called at the same time.
type Panics struct {
	log      zerolog.Logger
	mu       sync.Mutex
	survived summary
}

// NewPanics makes Panics that are logged to log.
func NewPanics(log zerolog.Logger) *Panics { return &Panics{log: log} }

// Recovered counts a panic, and logs it as Panic does if it is time. More adds to the line, if there is one.
func (p *Panics) Recovered(cause any, more func(*zerolog.Event)) {
	p.mu.Lock()
	n := p.survived.occurred(time.Now())
	p.mu.Unlock()
	if n == 0 {
		return
	}
	event := p.log.Error().Int64("panics", n)
	more(event)
	event.Msg(panicText(cause))
}

// Fatal logs the error that ends the process, in the form of Error Reporting for errors without a stack. It does not end
// it.
func Fatal(log zerolog.Logger, err error, message string) {
	frame := caller()
	log.WithLevel(zerolog.FatalLevel).
		Str("@type", "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent").
		Dict("context", zerolog.Dict().Dict("reportLocation", zerolog.Dict().
			Str("filePath", frame.File).Str("lineNumber", strconv.Itoa(frame.Line)).Str("functionName", frame.Function))).
		Err(err).Msg(fmt.Sprintf("%s: %v", message, err))
}

// The lines of libraries: a few at once, then one a second.
const (
	writerBurst    = 5
	writerASecond  = 1
	maxWriterBytes = 16 << 10
)

// Writer logs what libraries write as text, one warning a Write: net/http's complaints of handlers and clients among it,
// which may be as many as the requests. So there is one line a second at most, after a first few, and each says how many
// before it were dropped.
func Writer(log zerolog.Logger) io.Writer {
	return &writer{log: log, lines: rate.NewLimiter(writerASecond, writerBurst)}
}

type writer struct {
	log     zerolog.Logger
	lines   *rate.Limiter
	dropped atomic.Int64
}

// Write is io.Writer's. It never fails.
func (w *writer) Write(text []byte) (int, error) {
	if !w.lines.Allow() {
		w.dropped.Add(1)
		return len(text), nil
	}
	event := w.log.Warn()
	if n := w.dropped.Swap(0); n > 0 {
		event.Int64("dropped", n)
	}
	event.Msg(strings.ToValidUTF8(strings.TrimSpace(string(text[:min(len(text), maxWriterBytes)])), "\uFFFD"))
	return len(text), nil
}
