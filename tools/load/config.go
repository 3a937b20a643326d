package load

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/pflag"

	"github.com/accrue/accrue/pkg/increment"
)

// config is the command line.
type config struct {
	ingest, query *url.URL

	// What is posted: increments of random tags, or the words of files.
	tags         int
	seed         uint64
	zipf         bool
	shop         bool
	words        bool
	files        []string
	contributors int
	// recognitions is the number of new contributors whose recognition is timed.
	recognitions int

	// How it is posted: until the duration or the count is reached, or the words end.
	batch       int
	rate        float64
	connections int
	client      bool
	keys        bool // an idempotency key for each request; for measurements
	duration    time.Duration
	count       int64

	// How it is watched.
	settle, hold, wait   time.Duration
	poll, probe, refresh time.Duration
	json                 bool
	// abandon ends the run without a comparison when its context ends; for measurements.
	abandon bool
}

// register adds the flags of accrue load. The function that it returns completes and checks the configuration once the flags
// are parsed, and returns all errors at once.
func (c *config) register(flags *pflag.FlagSet) (complete func(files []string) error) {
	both := flags.String("url", "http://127.0.0.1:8080", "address of accrue run: both ingest and query")
	ingest := flags.String("ingest", "", "address of ingest, if it is a service of its own")
	query := flags.String("query", "", "address of query, if it is a service of its own")
	flags.IntVar(&c.tags, "tags", 1000, "number of random tags")
	flags.Uint64Var(&c.seed, "seed", 1, "seed of the names of the tags")
	flags.BoolVar(&c.zipf, "zipf", false, "the n-th tag is drawn 1/n as often as the first")
	flags.BoolVar(&c.shop, "shop", false, "the day of a shop in 10 minutes: its goods, its regulars, its busy hours")
	flags.BoolVar(&c.words, "words", false, "post the words of the given files")
	flags.IntVar(&c.contributors, "contributors", 0, "number of contributors, one of whom each increment names; 0 for none")
	flags.IntVar(&c.recognitions, "recognitions", 0, "number of new contributors whose recognition is timed, through Pub/Sub")
	flags.IntVar(&c.batch, "batch", 1, "increments in a request, 1 to 1000")
	flags.Float64Var(&c.rate, "rate", 0, "increments a second; 0 for as many as possible")
	flags.IntVar(&c.connections, "connections", 64, "number of connections, with one request each at a time")
	flags.BoolVar(&c.client, "client", false, "post with the Go client: with idempotency keys and retries")
	flags.DurationVar(&c.duration, "duration", 0, "time after which posting ends (default 10s if nothing else ends it)")
	flags.Int64Var(&c.count, "count", 0, "number of increments after which posting ends")
	flags.DurationVar(&c.settle, "settle", 2500*time.Millisecond, "how long totals must be unchanged before the start: more than two windows")
	flags.DurationVar(&c.hold, "hold", 2500*time.Millisecond, "how long totals must stay exact at the end: more than two windows")
	flags.DurationVar(&c.wait, "wait", 75*time.Second, "how long to wait at the end while totals do not change")
	flags.DurationVar(&c.poll, "poll", 20*time.Millisecond, "time between two reads of /stats")
	flags.DurationVar(&c.probe, "probe", 50*time.Millisecond, "time between two probes of freshness; 0 for none")
	flags.DurationVar(&c.refresh, "progress", time.Second, "time between two lines of progress, where there is no terminal")
	flags.BoolVar(&c.json, "json", false, "print the report as JSON")
	return func(files []string) error {
		c.files = files
		if c.shop {
			c.openShop(flags)
		}
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
			if text == "" {
				name, text = "url", *both
			}
			u, err := url.Parse(text)
			check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "--%s must be an address such as http://127.0.0.1:8080", name)
			return u
		}
		c.ingest, c.query = address("ingest", *ingest), address("query", *query)
		check(c.tags >= 1 && c.tags <= 10_000_000, "--tags must be 1 to 10000000")
		check(c.contributors >= 0 && c.contributors <= 10_000_000, "--contributors must be 0 to 10000000")
		check(!c.shop || c.duration > 0 && c.rate > 0, "--shop needs a --duration and a --rate")
		check(!c.shop || !c.words && !flags.Changed("tags"), "--shop has tags of its own")
		check(c.recognitions >= 0 && c.recognitions <= 100_000, "--recognitions must be 0 to 100000")
		check(c.batch >= 1 && c.batch <= increment.MaxBatch, "--batch must be 1 to %d", increment.MaxBatch)
		check(c.rate >= 0, "--rate must not be negative")
		check(c.connections >= 1 && c.connections <= 10_000, "--connections must be 1 to 10000")
		check(!c.client || c.connections <= 1000, "--connections must be 1 to 1000 with --client")
		check(c.duration >= 0 && c.count >= 0, "--duration and --count must not be negative")
		check(c.settle >= 0 && c.hold >= 0 && c.wait >= 0 && c.probe >= 0, "--settle, --hold, --wait and --probe must not be negative")
		check(c.poll > 0 && c.refresh > 0, "--poll and --progress must be positive")
		check(c.words == (len(files) > 0), "files need --words, and --words needs files")
		return errors.Join(faults...)
	}
}

// openShop sets what the command line does not.
func (c *config) openShop(flags *pflag.FlagSet) {
	for name, set := range map[string]func(){
		"duration": func() { c.duration = 10 * time.Minute }, "rate": func() { c.rate = 300 },
		"contributors": func() { c.contributors = 400 }, "connections": func() { c.connections = 8 },
	} {
		if !flags.Changed(name) {
			set()
		}
	}
}

// parse returns the configuration of a command line.
func parse(arguments ...string) (*config, error) {
	c := &config{}
	flags := pflag.NewFlagSet("load", pflag.ContinueOnError)
	complete := c.register(flags)
	if err := flags.Parse(arguments); err != nil {
		return nil, fmt.Errorf("flags: %w", err)
	}
	return c, complete(flags.Args())
}
