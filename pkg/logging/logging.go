// Package logging makes the logger of every service. It writes one JSON object per line in the form that Cloud Logging reads
// (https://cloud.google.com/logging/docs/structured-logging), or plain text to a terminal. The fields for the process, the
// source location and the trace are added here: callers log only what happened.
package logging

import (
	"crypto/rand"
	"io"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"
)

// Published is the message of the lines in which ingest reports what it has published, for log-based metrics to sum. On a
// terminal they appear at level debug only.
const Published = "published"

// setup gives zerolog the field names of Cloud Logging. They are package variables there, so setup runs once.
var setup = sync.OnceFunc(func() {
	zerolog.LevelFieldName = "severity"
	zerolog.LevelFieldMarshalFunc = severity
	zerolog.TimestampFieldName = "time"
	zerolog.MessageFieldName = "message"
	zerolog.ErrorFieldName = "error"
	zerolog.TimeFieldFormat = time.RFC3339Nano
	zerolog.DurationFieldUnit = time.Millisecond
})

// severity returns the name of a level in Cloud Logging.
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

// Level returns the level of a LOG_LEVEL: debug, info, warn or error; the empty string means info. It reports whether the name
// is known. (zerolog.ParseLevel expects the names that severity returns.)
func Level(name string) (zerolog.Level, bool) {
	switch name {
	case "debug":
		return zerolog.DebugLevel, true
	case "info", "":
		return zerolog.InfoLevel, true
	case "warn":
		return zerolog.WarnLevel, true
	case "error":
		return zerolog.ErrorLevel, true
	}
	return zerolog.NoLevel, false
}

// New returns the logger of a service that writes to w. Variables is the environment: LOG_LEVEL (info if it is invalid),
// GOOGLE_CLOUD_PROJECT for the names of traces, and the revision, which Cloud Run sets. A line belongs to a trace if its
// event has a context that carries a span context (zerolog's Event.Ctx).
func New(w io.Writer, service string, variables map[string]string) zerolog.Logger {
	setup()
	level, ok := Level(variables["LOG_LEVEL"])
	if !ok {
		level = zerolog.InfoLevel
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return console(f, service, level)
	}
	revision := variables["K_REVISION"] // of a service
	if revision == "" {
		revision = variables["CLOUD_RUN_REVISION"] // of a worker pool
	}
	// Cloud Run names revisions but not instances.
	labels := zerolog.Dict().Str("service", service).Str("instance", rand.Text()[:12])
	if revision != "" {
		labels.Str("revision", revision)
	}
	return zerolog.New(w).Level(level).
		Hook(fields{project: variables["GOOGLE_CLOUD_PROJECT"], service: service, revision: revision}).
		With().Timestamp().Str("service", service).Dict("logging.googleapis.com/labels", labels).Logger()
}

// console returns a logger for people.
func console(w io.Writer, service string, level zerolog.Level) zerolog.Logger {
	log := zerolog.New(zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}).Level(level)
	if level > zerolog.DebugLevel {
		log = log.Hook(quiet{})
	}
	return log.With().Timestamp().Str("service", service).Logger()
}

// quiet discards lines that are for machines.
type quiet struct{}

// Run implements zerolog.Hook.
func (quiet) Run(e *zerolog.Event, _ zerolog.Level, message string) {
	if message == Published {
		e.Discard()
	}
}
