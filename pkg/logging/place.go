package logging

import (
	"runtime"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/tracecontext"
)

// place adds to each line where it belongs: to a trace, if the event's context carries one; from warnings on, to a line of
// the code; and from errors on, to the service as Error Reporting names it.
type place struct{ project, service, revision string }

// Run is zerolog's.
func (p place) Run(e *zerolog.Event, level zerolog.Level, _ string) {
	if trace := tracecontext.From(e.GetCtx()); trace.Valid() {
		p.trace(e, trace)
	}
	if level < zerolog.WarnLevel || level > zerolog.PanicLevel {
		return
	}
	frame := caller()
	e.Dict("logging.googleapis.com/sourceLocation", zerolog.Dict().
		Str("file", frame.File).Str("line", strconv.Itoa(frame.Line)).Str("function", frame.Function))
	if level >= zerolog.ErrorLevel {
		context := zerolog.Dict().Str("service", p.service)
		if p.revision != "" {
			context.Str("version", p.revision)
		}
		e.Dict("serviceContext", context)
	}
}

func (p place) trace(e *zerolog.Event, trace tracecontext.Trace) {
	text := trace.String() // 00-trace-span-flags
	e.Str("logging.googleapis.com/trace", "projects/"+p.project+"/traces/"+text[3:35])
	e.Str("logging.googleapis.com/spanId", text[36:52])
	e.Bool("logging.googleapis.com/trace_sampled", trace.Sampled)
}

// caller returns the place that logs: the nearest that is neither the library nor this package.
func caller() runtime.Frame {
	var counters [16]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(3, counters[:])]) // without Callers, caller and Run
	for {
		frame, more := frames.Next()
		if !more || !strings.HasPrefix(frame.Function, "github.com/rs/zerolog.") &&
			!strings.HasPrefix(frame.Function, "github.com/accrue/accrue/pkg/logging.") {
			return frame
		}
	}
}
