package logging

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/rs/zerolog"
)

// Panic logs what a function that panicked was given, with the stack, from a deferred function that recovered it. It is one
// line, in the form that Error Reporting groups by: the stack is part of the message.
func Panic(ctx context.Context, log zerolog.Logger, cause any) {
	log.Error().Ctx(ctx).Msgf("panic: %v\n\n%s", cause, debug.Stack())
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

// Writer logs what libraries write as text, a warning each time: net/http's complaints of its clients among it.
func Writer(log zerolog.Logger) io.Writer { return writer{log} }

type writer struct{ log zerolog.Logger }

func (w writer) Write(text []byte) (int, error) {
	w.log.Warn().Msg(strings.TrimSpace(string(text)))
	return len(text), nil
}
