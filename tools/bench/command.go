// Package bench measures the whole system on this machine: emulators, the three services as processes, and the load share
// its cores. What is compared is measured in turns within one run, and reported as medians and ratios. docs/measured.md has
// the results.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/load"
)

// settings are the shape of the run.
type settings struct {
	binaries    string
	rounds      int
	each        time.Duration
	connections int
	batch       int
	probes      int
	json        bool
}

// Command returns the command accrue bench.
func Command() *cobra.Command {
	var s settings
	command := &cobra.Command{
		Use:   "bench",
		Short: "Measure the three services and the emulators on this machine",
		Long: `Measures ingest against a baseline that keeps nothing, batches, idempotency keys and freshness, in turns, with the
emulators and the three services as processes on this machine. Prints a table of medians.`,
		Example: "  make build && bin/accrue bench --rounds 3 --each 3s",
		Args:    cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case s.rounds < 1:
				return cli.Usagef("--rounds must be 1 or more")
			case s.each < 100*time.Millisecond:
				return cli.Usagef("--each must be 100ms or more")
			case s.connections < 1, s.batch < 1, s.batch > 1000, s.probes < 10:
				return cli.Usagef("--connections must be 1 or more, --batch 1 to 1000, --probes 10 or more")
			}
			system, err := start(c.Context(), s.binaries)
			if err != nil {
				return err
			}
			return errors.Join(measure(c.Context(), s, system, c.OutOrStdout(), c.ErrOrStderr()), system.stop())
		},
	}
	flags := command.Flags()
	flags.StringVar(&s.binaries, "bin", "bin", "folder of the programs that make build creates")
	flags.IntVar(&s.rounds, "rounds", 5, "number of measurements of each")
	flags.DurationVar(&s.each, "each", 4*time.Second, "duration of a measurement")
	flags.IntVar(&s.connections, "connections", 128, "number of connections")
	flags.IntVar(&s.batch, "batch", 500, "increments in a batch")
	flags.BoolVar(&s.json, "json", false, "print the table as JSON")
	flags.IntVar(&s.probes, "probes", 200, "number of measurements of freshness")
	command.AddCommand(baselineCommand())
	return command
}

// result is one measurement.
type result struct {
	load.Measured
	// counted is the rate of increments until the last of them is in /stats.
	counted float64
}

func (r result) rate() float64 { return float64(r.Accepted) / r.Elapsed.Seconds() }

// background is the load under which freshness is measured, in posts a second.
const background = 2000

func measure(ctx context.Context, s settings, system *system, stdout, stderr io.Writer) error {
	var baseline, service, batch, keyed []result
	turns := []struct {
		results *[]result
		shape   load.Shape
	}{
		{&baseline, load.Shape{Ingest: system.baseline.url, Batch: 1}},
		{&service, load.Shape{Ingest: system.ingest.url, Batch: 1}},
		{&batch, load.Shape{Ingest: system.ingest.url, Batch: s.batch}},
		{&keyed, load.Shape{Ingest: system.ingest.url, Batch: s.batch, Keys: true}},
	}
	fmt.Fprintln(stderr, "warming up: the emulators' first writes are ten times slower")
	for round := -2; round < s.rounds; round++ { // rounds before 0 warm up
		for _, turn := range turns {
			turn.shape.Connections, turn.shape.Duration = s.connections, s.each
			start := time.Now()
			measured, err := load.Measure(ctx, turn.shape)
			if err != nil {
				return err
			}
			// The next turn begins when everything is counted.
			if err := load.Settle(ctx, system.query.url, still, settleLimit); err != nil {
				return err
			}
			if round >= 0 {
				counted := time.Since(start) - still
				*turn.results = append(*turn.results, result{measured, float64(measured.Accepted) / counted.Seconds()})
			}
		}
		if round >= 0 {
			fmt.Fprintf(stderr, "round %d of %d: baseline %.0f/s, ingest %.0f/s, batches %.0f increments/s, with keys %.0f\n", round+1, s.rounds,
				baseline[round].rate(), service[round].rate(), batch[round].rate(), keyed[round].rate())
		}
	}
	ratios := func(of, to []result, value func(result) float64) []float64 {
		all := make([]float64, s.rounds)
		for i := range all {
			all[i] = value(of[i]) / value(to[i])
		}
		return all
	}
	p50, p99, err := load.Freshness(ctx, system.ingest.url, system.query.url, 64, background, s.probes)
	if err != nil {
		return err
	}
	var rows []row
	add := func(what, format string, values []float64) {
		rows = append(rows, row{what, median(values), slices.Min(values), slices.Max(values), format})
	}
	pick := func(results []result, value func(result) float64) []float64 {
		values := make([]float64, len(results))
		for i, r := range results {
			values[i] = value(r)
		}
		return values
	}
	rate := result.rate
	count := func(r result) float64 { return r.counted }
	slowest := func(r result) float64 { return r.P99.Seconds() * 1000 }
	add("baseline: decode, validate, answer 202; posts/s", "%.0f", pick(baseline, rate))
	add("ingest: single increments/s", "%.0f", pick(service, rate))
	add("ingest / baseline", "%.2f", ratios(service, baseline, rate))
	add("single post, p99 in ms", "%.1f", pick(service, slowest))
	add(fmt.Sprintf("ingest: increments/s in batches of %d", s.batch), "%.0f", pick(batch, rate))
	add("the same, with an idempotency key a batch", "%.0f", pick(keyed, rate))
	add("with keys / without", "%.2f", ratios(keyed, batch, rate))
	add("counted, until the last is in `/stats`: increments/s of batches", "%.0f", pick(batch, count))
	add("the same with keys", "%.0f", pick(keyed, count))
	add("counted, with keys / without", "%.2f", ratios(keyed, batch, count))
	freshness := fmt.Sprintf("in ms (%d probes at 2,000 posts/s)", s.probes)
	add("freshness, 202 to visible in /stats, p50 "+freshness, "%.0f", []float64{p50.Seconds() * 1000})
	add("the same, p99 "+freshness, "%.0f", []float64{p99.Seconds() * 1000})
	if err := system.stop(); err != nil {
		return err
	}
	c := system.counted
	writes := c.Documents + c.CommitsByAge + c.CommitsBySize + c.CommitsByDrain
	add(fmt.Sprintf("increments per Firestore write (%d increments, %d writes)", c.Increments, writes), "%.0f",
		[]float64{float64(c.Increments) / float64(max(writes, 1))})
	if s.json {
		return cli.PrintJSON(stdout, rows)
	}
	fmt.Fprintf(stdout, "| what | median | of %d rounds |\n|---|---|---|\n", s.rounds)
	for _, r := range rows {
		fmt.Fprintf(stdout, "| %s | "+r.format+" | "+r.format+" to "+r.format+" |\n", r.What, r.Median, r.Least, r.Most)
	}
	return nil
}

// row is one line of the table.
type row struct {
	What   string  `json:"what"`
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
	format string
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
