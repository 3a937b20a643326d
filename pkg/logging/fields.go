package logging

import (
	"runtime"
	"strconv"
	"strings"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"
)

// fields adds Cloud Logging's special fields to each line: the trace that the event's context carries; for warnings and
// errors, the source location; for errors, the service as Error Reporting names it.
type fields struct{ project, service, revision string }

// Run implements zerolog.Hook.
func (f fields) Run(e *zerolog.Event, level zerolog.Level, _ string) {
	if t := trace.SpanContextFromContext(e.GetCtx()); t.IsValid() {
		e.Str("logging.googleapis.com/trace", "projects/"+f.project+"/traces/"+t.TraceID().String())
		e.Str("logging.googleapis.com/spanId", t.SpanID().String())
		e.Bool("logging.googleapis.com/trace_sampled", t.IsSampled())
	}
	if level < zerolog.WarnLevel || level > zerolog.PanicLevel {
		return
	}
	frame := caller()
	e.Dict("logging.googleapis.com/sourceLocation", zerolog.Dict().
		Str("file", frame.File).Str("line", strconv.Itoa(frame.Line)).Str("function", frame.Function))
	if level >= zerolog.ErrorLevel {
		context := zerolog.Dict().Str("service", f.service)
		if f.revision != "" {
			context.Str("version", f.revision)
		}
		e.Dict("serviceContext", context)
	}
}

// caller returns the frame that logs: the innermost that is neither in zerolog nor in this package.
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
