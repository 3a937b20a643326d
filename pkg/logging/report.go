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

// Panic logs a recovered panic with its stack, in the form that Error Reporting groups by: one line whose message contains
// the stack. A deferred function calls it with what it recovered.
func Panic(ctx context.Context, log zerolog.Logger, cause any) {
	log.Error().Ctx(ctx).Msg(panicText(cause))
}

func panicText(cause any) string { return fmt.Sprintf("panic: %v\n\n%s", cause, debug.Stack()) }

// Panics logs recovered panics, such as those of HTTP handlers: the first, and then at most one per SummaryInterval, with the
// number since the line before. It is safe for concurrent use.
type Panics struct {
	log    zerolog.Logger
	mu     sync.Mutex
	panics limit
}

// NewPanics returns a Panics that logs to log.
func NewPanics(log zerolog.Logger) *Panics { return &Panics{log: log} }

// Recovered counts a panic and logs it as Panic does, unless it is too early for another line. More adds fields to the line.
func (p *Panics) Recovered(cause any, more func(*zerolog.Event)) {
	p.mu.Lock()
	n := p.panics.occurred(time.Now())
	p.mu.Unlock()
	if n == 0 {
		return
	}
	event := p.log.Error().Int64("panics", n)
	more(event)
	event.Msg(panicText(cause))
}

// Fatal logs the error that ends the process, in the form that Error Reporting expects for errors without a stack. It does not
// exit.
func Fatal(log zerolog.Logger, err error, message string) {
	frame := caller()
	log.WithLevel(zerolog.FatalLevel).
		Str("@type", "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent").
		Dict("context", zerolog.Dict().Dict("reportLocation", zerolog.Dict().
			Str("filePath", frame.File).Str("lineNumber", strconv.Itoa(frame.Line)).Str("functionName", frame.Function))).
		Err(err).Msg(fmt.Sprintf("%s: %v", message, err))
}

// The bounds of library logs.
const (
	writerBurst     = 5
	writerPerSecond = 1
	maxWriterBytes  = 16 << 10
)

// Writer returns a writer that logs each Write as a warning, for libraries that log text. Net/http may log a line for every
// request, so after a burst only one line a second is logged, with the number of lines dropped before it.
func Writer(log zerolog.Logger) io.Writer {
	return &writer{log: log, lines: rate.NewLimiter(writerPerSecond, writerBurst)}
}

type writer struct {
	log     zerolog.Logger
	lines   *rate.Limiter
	dropped atomic.Int64
}

// Write implements io.Writer. It never fails.
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
