// Command cost says what counting costs on Google Cloud, in dollars for a billion increments, from list prices and the
// shape of a load. Without flags it prints the tables of docs/scaling.md; with flags, one table for the load that they
// describe:
//
//	go run ./tools/cost -rate 500 -batch 10 -tags 200
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "cost:", err)
		os.Exit(1)
	}
}

func run(arguments []string, stdout, stderr io.Writer) error {
	l := usual()
	flags := flag.NewFlagSet("cost", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Float64Var(&l.rate, "rate", l.rate, "increments a second")
	flags.Float64Var(&l.batch, "batch", l.batch, "increments that a request posts, 1 to 1000")
	flags.Float64Var(&l.tags, "tags", l.tags, "tags that the increments are spread over")
	flags.Float64Var(&l.contributors, "contributors", l.contributors, "contributors that the increments name, 0 for none")
	flags.DurationVar(&l.window, "window", l.window, "the aggregator's WINDOW")
	flags.DurationVar(&l.refresh, "refresh", l.refresh, "query's REFRESH")
	flags.Float64Var(&l.partitions, "partitions", l.partitions, "ingest's PARTITIONS")
	flags.Float64Var(&l.ingests, "ingests", l.ingests, "instances of ingest, 0 for as many as the rate needs")
	flags.Float64Var(&l.queries, "queries", l.queries, "instances of query")
	flags.BoolVar(&l.byRequests, "by-requests", l.byRequests, "ingest is billed by requests (cpu_idle), not by instances")
	flags.BoolVar(&l.requestLogs, "request-logs", l.requestLogs, "Cloud Run's line for each request is stored")
	flags.BoolVar(&l.multiRegion, "multi-region", l.multiRegion, "the database is in several regions")
	flags.BoolVar(&l.publishLogs, "publish-logs", l.publishLogs, "ingest's lines of what it publishes are stored")
	if err := flags.Parse(arguments); err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	if flags.NFlag() == 0 {
		fmt.Fprint(stdout, document(listPrices()))
		return nil
	}
	if err := l.validate(); err != nil {
		return err
	}
	fmt.Fprint(stdout, table([]row{{"your load", l}}, listPrices()))
	return nil
}

func (l *load) validate() error {
	var faults []error
	check := func(ok bool, name, rule string) {
		if !ok {
			faults = append(faults, fmt.Errorf("-%s must be %s", name, rule))
		}
	}
	check(l.rate > 0, "rate", "positive")
	check(l.batch >= 1 && l.batch <= 1000, "batch", "1 to 1000")
	check(l.tags >= 1, "tags", "1 or more")
	check(l.contributors >= 0, "contributors", "0 or more")
	check(l.window >= 50*time.Millisecond, "window", "50ms or more")
	check(l.refresh >= 10*time.Millisecond, "refresh", "10ms or more")
	check(l.partitions >= 1, "partitions", "1 or more")
	check(l.ingests >= 0, "ingests", "0 or more")
	check(l.queries >= 1, "queries", "1 or more")
	return errors.Join(faults...)
}
