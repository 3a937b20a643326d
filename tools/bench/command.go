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
)

// settings are the shape of the run.
type settings struct {
	binaries    string
	rounds      int
	each        time.Duration
	connections int
	batch       int
	probes      int
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
			case s.connections < 1, s.batch < 1, s.batch > 1000, s.probes < probers:
				return cli.Usagef("--connections must be 1 or more, --batch 1 to 1000, --probes %d or more", probers)
			}
			system, err := start(c.Context(), s.binaries)
			if err != nil {
				return err
			}
			return errors.Join(measure(c.Context(), s, system, c.OutOrStdout()), system.stop())
		},
	}
	flags := command.Flags()
	flags.StringVar(&s.binaries, "bin", "bin", "folder of the programs that make build creates")
	flags.IntVar(&s.rounds, "rounds", 5, "number of measurements of each")
	flags.DurationVar(&s.each, "each", 4*time.Second, "duration of a measurement")
	flags.IntVar(&s.connections, "connections", 128, "number of connections")
	flags.IntVar(&s.batch, "batch", 500, "increments in a batch")
	flags.IntVar(&s.probes, "probes", 200, "number of measurements of freshness")
	command.AddCommand(baselineCommand())
	return command
}

func measure(ctx context.Context, s settings, system *system, stdout io.Writer) error {
	singles, batches := singleBodies(), batchBodies(s.batch)
	fmt.Fprintln(stdout, "warming up: the emulators' first writes are ten times slower")
	for range 2 {
		for _, target := range []target{
			{system.ingest.url + "/increments", singles, 1, false},
			{system.ingest.url + "/increments/batch", batches, s.batch, false},
			{system.baseline.url + "/increments", singles, 1, false},
		} {
			if _, err := post(ctx, target, s.connections, s.each); err != nil {
				return err
			}
		}
	}

	var baseline, service, batch, keyed []result
	for round := range s.rounds {
		for _, turn := range []struct {
			results *[]result
			target  target
		}{
			{&baseline, target{system.baseline.url + "/increments", singles, 1, false}},
			{&service, target{system.ingest.url + "/increments", singles, 1, false}},
			{&batch, target{system.ingest.url + "/increments/batch", batches, s.batch, false}},
			{&keyed, target{system.ingest.url + "/increments/batch", batches, s.batch, true}},
		} {
			started := time.Now()
			r, err := post(ctx, turn.target, s.connections, s.each)
			if err != nil {
				return err
			}
			counted, err := system.settle(ctx) // what a turn left behind is not the next one's burden
			if err != nil {
				return err
			}
			r.counted = r.rate * r.elapsed.Seconds() / counted.Sub(started).Seconds()
			*turn.results = append(*turn.results, r)
		}
		fmt.Fprintf(stdout, "round %d of %d: baseline %.0f/s, ingest %.0f/s, batches %.0f increments/s, with keys %.0f\n", round+1, s.rounds,
			baseline[round].rate, service[round].rate, batch[round].rate, keyed[round].rate)
	}
	ratios := func(of, to []result, value func(result) float64) []float64 {
		all := make([]float64, s.rounds)
		for i := range all {
			all[i] = value(of[i]) / value(to[i])
		}
		return all
	}
	fresh, err := freshness(ctx, system, s.probes)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\n| what | median | of %d rounds |\n|---|---|---|\n", s.rounds)
	row := func(what, format string, values []float64) {
		fmt.Fprintf(stdout, "| %s | "+format+" | "+format+" to "+format+" |\n", what, median(values), slices.Min(values), slices.Max(values))
	}
	pick := func(results []result, value func(result) float64) []float64 {
		values := make([]float64, len(results))
		for i, r := range results {
			values[i] = value(r)
		}
		return values
	}
	rate := func(r result) float64 { return r.rate }
	count := func(r result) float64 { return r.counted }
	p99 := func(r result) float64 { return r.p99.Seconds() * 1000 }
	row("baseline: decode, validate, answer 202; posts/s", "%.0f", pick(baseline, rate))
	row("ingest: single increments/s", "%.0f", pick(service, rate))
	row("ingest / baseline", "%.2f", ratios(service, baseline, rate))
	row("single post, p99 in ms", "%.1f", pick(service, p99))
	row(fmt.Sprintf("ingest: increments/s in batches of %d", s.batch), "%.0f", pick(batch, rate))
	row("the same, with an idempotency key a batch", "%.0f", pick(keyed, rate))
	row("with keys / without", "%.2f", ratios(keyed, batch, rate))
	row("counted, until the last is in `/stats`: increments/s of batches", "%.0f", pick(batch, count))
	row("the same with keys", "%.0f", pick(keyed, count))
	row("counted, with keys / without", "%.2f", ratios(keyed, batch, count))
	fmt.Fprintf(stdout, "| freshness, 202 to visible in /stats, p50 and p99 in ms (%d probes at 2,000 posts/s) | %.0f | %.0f |\n",
		len(fresh), percentile(fresh, 50).Seconds()*1000, percentile(fresh, 99).Seconds()*1000)

	if err := system.stop(); err != nil {
		return err
	}
	c := system.counted
	writes := c.Documents + c.CommitsByAge + c.CommitsBySize + c.CommitsByDrain
	fmt.Fprintf(stdout, "| increments per Firestore write (%d increments, %d writes) | %.0f | |\n", c.Increments, writes,
		float64(c.Increments)/float64(max(writes, 1)))
	return nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func percentile(values []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}
