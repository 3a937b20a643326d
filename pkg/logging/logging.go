// Package logging makes the logger of every service: one JSON object a line in the form that Cloud Logging reads
// (https://cloud.google.com/logging/docs/structured-logging), or plain text on a terminal. What every line says of its
// process, its place in the code and its trace is added here, so that whoever logs names only what happened.
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

// Published is the message of the lines in which ingest accounts for what it published. They are for machines to sum: on a
// terminal they are shown at debug alone.
const Published = "published"

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

// Level returns the level that LOG_LEVEL names: debug, info, which is also that of no name, warn or error. zerolog's own ParseLevel is no help: it looks
// for the words of severity, among which is no warn.
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

// New makes the logger of a service that writes to w, with what the environment's variables say: LOG_LEVEL (what
// Level does not know means info), GOOGLE_CLOUD_PROJECT, whose traces lines belong
// to, and the revision's name, which Cloud Run gives. A line belongs to a trace if its event was given a context that
// carries one (zerolog's Event.Ctx and package tracecontext).
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
	// Those of Cloud Run tell revisions apart; an instance has no name that it could know without asking.
	labels := zerolog.Dict().Str("service", service).Str("instance", rand.Text()[:12])
	if revision != "" {
		labels.Str("revision", revision)
	}
	return zerolog.New(w).Level(level).
		Hook(place{project: variables["GOOGLE_CLOUD_PROJECT"], service: service, revision: revision}).
		With().Timestamp().Str("service", service).Dict("logging.googleapis.com/labels", labels).Logger()
}

// console makes a logger for a person.
func console(w io.Writer, service string, level zerolog.Level) zerolog.Logger {
	log := zerolog.New(zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}).Level(level)
	if level > zerolog.DebugLevel {
		log = log.Hook(quiet{})
	}
	return log.With().Timestamp().Str("service", service).Logger()
}

// quiet takes out what is for machines.
type quiet struct{}

// Run is zerolog's.
func (quiet) Run(e *zerolog.Event, _ zerolog.Level, message string) {
	if message == Published {
		e.Discard()
	}
}
