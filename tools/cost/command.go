// Package cost estimates what counting costs on Google Cloud, in dollars for a billion increments, from list prices and the
// shape of a load.
package cost

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/tools/cli"
)

// Command returns the command accrue cost.
func Command() *cobra.Command {
	l := usual()
	tagDocuments := "window"
	var asJSON, asTable, tables bool
	command := &cobra.Command{
		Use:   "cost",
		Short: "Estimate the cost on Google Cloud",
		Long: `Estimates the cost of a load on Google Cloud, from list prices, in three lines: of a billion increments, of a month, and
what most of it is for. With --table it prints the items, with --json for programs, with --tables those of docs/scaling.md.`,
		Example: "  accrue cost --rate 500 --batch 10 --tags 200\n  accrue cost --json | jq .total",
		Args:    cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if tables {
				fmt.Fprint(c.OutOrStdout(), document(listPrices()))
				return nil
			}
			var setting aggregator.TagDocuments
			if err := setting.UnmarshalText([]byte(tagDocuments)); err != nil {
				return cli.Usagef("--tag-documents must be window, off, or a duration such as 30s")
			}
			if l.tagDocuments = time.Duration(setting); l.tagDocuments < 0 {
				l.tagDocuments = never
			}
			if err := l.validate(); err != nil {
				return cli.Usage(err)
			}
			if asJSON {
				return cli.PrintJSON(c.OutOrStdout(), estimate(l, billion, listPrices()).json())
			}
			if asTable {
				fmt.Fprint(c.OutOrStdout(), table([]row{{"your load", l}}, listPrices()))
				return nil
			}
			fmt.Fprint(c.OutOrStdout(), summary(l, listPrices()))
			return nil
		},
	}
	flags := command.Flags()
	flags.Float64Var(&l.rate, "rate", l.rate, "increments a second")
	flags.Float64Var(&l.batch, "batch", l.batch, "increments in a request, 1 to 1000")
	flags.Float64Var(&l.tags, "tags", l.tags, "number of tags")
	flags.BoolVar(&l.zipf, "zipf", l.zipf, "the n-th tag has 1/n of the increments of the first, as words have; even without")
	flags.Float64Var(&l.contributors, "contributors", l.contributors, "number of contributors, 0 for none")
	flags.DurationVar(&l.window, "window", l.window, "the aggregator's WINDOW")
	flags.StringVar(&tagDocuments, "tag-documents", tagDocuments, "the aggregator's TAG_DOCUMENTS: window, off, or a duration")
	flags.Float64Var(&l.tiers, "tiers", l.tiers, "number of RECOGNITION_TIERS")
	flags.BoolVar(&l.archive, "archive", l.archive, "each message is kept in BigQuery; its storage is not estimated")
	flags.DurationVar(&l.refresh, "refresh", l.refresh, "query's REFRESH")
	flags.Float64Var(&l.partitions, "partitions", l.partitions, "ingest's PARTITIONS")
	flags.Float64Var(&l.ingests, "ingests", l.ingests, "instances of ingest, 0 for as many as the rate needs")
	flags.Float64Var(&l.queries, "queries", l.queries, "instances of query")
	flags.Float64Var(&l.reads, "reads", l.reads, "requests of /stats per second, each for all tags and not compressed")
	flags.BoolVar(&l.byRequests, "by-requests", l.byRequests, "ingest is billed by requests (cpu_idle), not by instances")
	flags.BoolVar(&l.requestLogs, "request-logs", l.requestLogs, "Cloud Run's request logs are stored")
	flags.BoolVar(&l.multiRegion, "multi-region", l.multiRegion, "the database is multi-region")
	flags.BoolVar(&l.publishLogs, "publish-logs", l.publishLogs, "ingest's log of its publishes is stored")
	flags.BoolVar(&asTable, "table", false, "print the items as a table")
	flags.BoolVar(&tables, "tables", false, "print the tables of docs/scaling.md, for whom the other flags do not count")
	flags.BoolVar(&asJSON, "json", false, "print JSON, in dollars for a billion increments")
	return command
}

// json returns the items for programs.
func (b bill) json() any {
	return struct {
		Ingest  float64 `json:"ingest"`
		PubSub  float64 `json:"pubsub"`
		Writes  float64 `json:"firestore_writes"`
		Reads   float64 `json:"firestore_reads"`
		Workers float64 `json:"aggregator_and_query"`
		Logs    float64 `json:"logs"`
		Answers float64 `json:"answers"`
		Total   float64 `json:"total"`
	}{b.ingest, b.pubsub, b.writes, b.reads, b.workers, b.logs, b.answers, b.total()}
}

func (l *load) validate() error {
	var faults []error
	check := func(ok bool, name, rule string) {
		if !ok {
			faults = append(faults, fmt.Errorf("--%s must be %s", name, rule))
		}
	}
	check(l.rate > 0 && l.rate <= 1e9, "rate", "positive, up to 1e9")
	check(l.batch >= 1 && l.batch <= 1000, "batch", "1 to 1000")
	check(l.tags >= 1 && l.tags <= 1e9, "tags", "1 to 1e9")
	check(!l.zipf || l.tags <= 1e7, "tags", "up to 1e7 with --zipf")
	check(l.contributors >= 0 && l.contributors <= 1e9, "contributors", "0 to 1e9")
	check(l.window >= 50*time.Millisecond, "window", "50ms or more")
	check(l.refresh >= 10*time.Millisecond, "refresh", "10ms or more")
	check(l.tiers >= 1 && l.tiers <= 20, "tiers", "1 to 20")
	check(l.partitions >= 1 && l.partitions <= 4096, "partitions", "1 to 4096")
	check(l.ingests >= 0 && l.ingests <= 1000, "ingests", "0 to 1000")
	check(l.reads >= 0 && l.reads <= 1e6, "reads", "0 to 1e6")
	check(l.queries >= 1 && l.queries <= 1000, "queries", "1 to 1000")
	return errors.Join(faults...)
}
