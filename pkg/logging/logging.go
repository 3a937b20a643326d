// Package logging makes the logger of every service: one JSON object a line in the form that Cloud Logging reads
// (https://cloud.google.com/logging/docs/structured-logging), or plain text on a terminal.
package logging

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// setup gives zerolog Cloud Logging's names. They are variables of that library, so they are set once for all loggers.
var setup = sync.OnceFunc(func() {
	zerolog.LevelFieldName = "severity"
	zerolog.LevelFieldMarshalFunc = severity
	zerolog.TimestampFieldName = "time"
	zerolog.MessageFieldName = "message"
	zerolog.ErrorFieldName = "error"
	zerolog.TimeFieldFormat = time.RFC3339Nano
	zerolog.DurationFieldUnit = time.Millisecond
})

// severity is Cloud Logging's word for a level.
func severity(level zerolog.Level) string {
	switch level {
	case zerolog.TraceLevel, zerolog.DebugLevel:
		return "DEBUG"
	case zerolog.WarnLevel:
		return "WARNING"
	case zerolog.ErrorLevel:
		return "ERROR"
	case zerolog.FatalLevel, zerolog.PanicLevel:
		return "CRITICAL"
	case zerolog.InfoLevel, zerolog.NoLevel, zerolog.Disabled:
		return "INFO"
	}
	return "DEFAULT"
}

// New makes the logger of a service that writes to w. Level is one of zerolog's names ("debug", "info", "warn",
// "error"); others mean info.
func New(w io.Writer, service, level string) zerolog.Logger {
	setup()
	parsed, err := zerolog.ParseLevel(level)
	if err != nil || parsed == zerolog.NoLevel {
		parsed = zerolog.InfoLevel
	}
	if f, ok := w.(*os.File); ok && terminal(f) {
		w = zerolog.ConsoleWriter{Out: f, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(w).Level(parsed).With().Timestamp().Str("service", service).Logger()
}

// terminal says whether a person reads f.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
