package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/accrue/accrue/pkg/increment"
)

// config is what the command line says.
type config struct {
	ingest, query *url.URL

	// What is posted: increments of random tags, or the words of files.
	tags         int
	seed         uint64
	words        bool
	files        []string
	contributors int
	// recognitions is how many new contributors are brought to a recognition meanwhile.
	recognitions int

	// How: until the duration or the count is reached, or the words end.
	batch       int
	rate        float64
	connections int
	client      bool
	duration    time.Duration
	count       int64

	// How it is watched.
	settle, hold, wait   time.Duration
	poll, probe, refresh time.Duration
	json                 bool
}

const usage = `load posts increments, and knows what it posted: in the end it compares /stats with that, to the last unit.

usage: load [flags]                         increments of random tags and values
       load [flags] -words FILE...          every word of the files is an increment of 1

A word is a run of a to z and _ that is 3 to 15 long, as of: tr -c 'a-z_' '\n' | grep -Ex '[a-z_]{3,15}'
FILE may be a folder, with all files in it, or a pattern: 'src/**/*.go'.

Nobody else should post meanwhile: tags that were not posted must not change either. What was answered 202 must be
counted. What got another answer or none may be counted, and is never posted again, unless ingest says that nothing was
counted, or -client is given: then it is posted with a key, and again, and must be counted once. Ctrl-C ends the posting, and what was posted is still compared; a second Ctrl-C ends the program.

The exit code is 0 if all totals are exact, 1 if not, and 2 if the command line is wrong.

flags:
`

// errUsage is the case of a command line that is wrong. What was wrong is printed already.
var errUsage = errors.New("usage")

// parse reads the command line. The error is errUsage or flag.ErrHelp.
func parse(arguments []string, stderr io.Writer) (*config, error) {
	c := &config{}
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	ingest := flags.String("ingest", "http://127.0.0.1:8080", "address of ingest")
	query := flags.String("query", "http://127.0.0.1:8081", "address of query")
	flags.IntVar(&c.tags, "tags", 1000, "number of random tags")
	flags.Uint64Var(&c.seed, "seed", 1, "the same seed draws the same tags")
	flags.BoolVar(&c.words, "words", false, "post the words of the files named after the flags")
	flags.IntVar(&c.contributors, "contributors", 0, "number of contributors, of whom each increment names one; 0 for none")
	flags.IntVar(&c.recognitions, "recognitions", 0, "number of new contributors, each with three contributions, whose recognition is timed; needs GOOGLE_CLOUD_PROJECT and the subscription recognitions-load, which is made at an emulator (PUBSUB_EMULATOR_HOST)")
	flags.IntVar(&c.batch, "batch", 1, "increments in a request, 1 to 1000")
	flags.Float64Var(&c.rate, "rate", 0, "increments a second; 0 for as many as are accepted")
	flags.IntVar(&c.connections, "connections", 64, "number of connections, each with one request at a time")
	flags.BoolVar(&c.client, "client", false, "post as a producer should, by pkg/client: with keys, and again what was lost on the way")
	flags.DurationVar(&c.duration, "duration", 0, "time after which posting ends; 0 for no end (10s if nothing else ends it)")
	flags.Int64Var(&c.count, "count", 0, "number of increments after which posting ends; 0 for no end")
	flags.DurationVar(&c.settle, "settle", 2500*time.Millisecond, "how long the totals must have been still before the start: more than two windows")
	flags.DurationVar(&c.hold, "hold", 2500*time.Millisecond, "how long the totals must stay exact in the end: more than two windows")
	flags.DurationVar(&c.wait, "wait", 75*time.Second, "how long to wait in the end while no total changes: longer than the ack deadline")
	flags.DurationVar(&c.poll, "poll", 20*time.Millisecond, "time between two looks at /stats")
	flags.DurationVar(&c.probe, "probe", 50*time.Millisecond, "time between two probes of freshness; 0 for none")
	flags.DurationVar(&c.refresh, "progress", time.Second, "time between two lines of progress where no terminal is")
	flags.BoolVar(&c.json, "json", false, "print the report as one JSON object")
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, flag.ErrHelp
		}
		return nil, errUsage
	}
	c.files = flags.Args()
	if !c.words && c.duration == 0 && c.count == 0 {
		c.duration = 10 * time.Second
	}

	var faults []error
	check := func(ok bool, format string, arguments ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, arguments...))
		}
	}
	address := func(name, text string) *url.URL {
		u, err := url.Parse(text)
		check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "-%s must be an address such as http://127.0.0.1:8080", name)
		return u
	}
	c.ingest, c.query = address("ingest", *ingest), address("query", *query)
	check(c.tags >= 1 && c.tags <= 10_000_000, "-tags must be 1 to 10000000")
	check(c.contributors >= 0, "-contributors must not be negative")
	check(c.recognitions >= 0 && c.recognitions <= 100_000, "-recognitions must be 0 to 100000")
	check(c.batch >= 1 && c.batch <= increment.MaxBatch, "-batch must be 1 to %d", increment.MaxBatch)
	check(c.rate >= 0, "-rate must not be negative")
	check(c.connections >= 1 && c.connections <= 10_000, "-connections must be 1 to 10000")
	check(!c.client || c.connections <= 1000, "-connections must be 1 to 1000 with -client")
	check(c.duration >= 0 && c.count >= 0, "-duration and -count must not be negative")
	check(c.settle >= 0 && c.hold >= 0 && c.wait >= 0 && c.probe >= 0, "-settle, -hold, -wait and -probe must not be negative")
	check(c.poll > 0 && c.refresh > 0, "-poll and -progress must be positive")
	check(c.words == (len(c.files) > 0), "files are named after all flags, and -words is one of them")
	if err := errors.Join(faults...); err != nil {
		fmt.Fprintln(stderr, err)
		return nil, errUsage
	}
	return c, nil
}
