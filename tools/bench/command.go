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
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/cost"
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
	words       string
	only        []string
	json        bool
}

// validate returns the phases that are to be measured, in order.
func (s *settings) validate() ([]phase, error) {
	switch {
	case s.rounds < 1:
		return nil, cli.Usagef("--rounds must be 1 or more")
	case s.each < 100*time.Millisecond:
		return nil, cli.Usagef("--each must be 100ms or more")
	case s.connections < 1, s.batch < 1, s.batch > 1000, s.probes < 10:
		return nil, cli.Usagef("--connections must be 1 or more, --batch 1 to 1000, --probes 10 or more")
	}
	var names []string
	var chosen []phase
	for _, p := range phases() {
		names = append(names, p.name)
		if len(s.only) == 0 || slices.Contains(s.only, p.name) {
			chosen = append(chosen, p)
		}
	}
	for _, name := range s.only {
		if !slices.Contains(names, name) {
			return nil, cli.Usagef("--only must be some of %s", strings.Join(names, ", "))
		}
	}
	return chosen, nil
}

// Command returns the command accrue bench.
func Command() *cobra.Command {
	var s settings
	command := &cobra.Command{
		Use:   "bench",
		Short: "Measure the three services and the emulators on this machine",
		Long: `Measures rates against a baseline that keeps nothing, freshness, writes, memory, readers, and the words of Go's own
sources, with the emulators and the three services as processes on this machine, and adds the estimate of the cost.
Prints a table of medians.`,
		Example: "  make build && bin/accrue bench --rounds 3 --each 3s\n  bin/accrue bench --only freshness --probes 50",
		Args:    cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			chosen, err := s.validate()
			if err != nil {
				return err
			}
			b := &bench{settings: s, stderr: c.ErrOrStderr()}
			if err := b.run(c.Context(), chosen); err != nil {
				return err
			}
			if s.json {
				return cli.PrintJSON(c.OutOrStdout(), b.rows)
			}
			b.print(c.OutOrStdout())
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&s.binaries, "bin", "bin", "folder of the programs that make build creates")
	flags.IntVar(&s.rounds, "rounds", 5, "number of measurements of each")
	flags.DurationVar(&s.each, "each", 4*time.Second, "duration of a measurement")
	flags.IntVar(&s.connections, "connections", 128, "number of connections")
	flags.IntVar(&s.batch, "batch", 500, "increments in a batch")
	flags.BoolVar(&s.json, "json", false, "print the table as JSON")
	flags.IntVar(&s.probes, "probes", 200, "number of measurements of each freshness")
	flags.StringVar(&s.words, "words", "", "folder of Go files whose words are counted (default Go's own sources)")
	flags.StringSliceVar(&s.only, "only", nil, "measure some only: cost, rates, freshness, memory, streams, words")
	command.AddCommand(baselineCommand())
	return command
}

// phase is a part of the run.
type phase struct {
	name string
	run  func(*bench, context.Context) error
}

// phases returns all parts in their order: the words are the last, since the emulators are slower with so many tags.
func phases() []phase {
	return []phase{
		{"cost", (*bench).measureCost},
		{"rates", (*bench).measureRates},
		{"freshness", (*bench).measureFreshness},
		{"memory", (*bench).measureMemory},
		{"streams", (*bench).measureStreams},
		{"words", (*bench).measureWords},
	}
}

// bench is a run.
type bench struct {
	settings
	table
	lab    *lab
	stderr io.Writer
}

// say prints a line of progress.
func (b *bench) say(format string, arguments ...any) {
	fmt.Fprintf(b.stderr, format+"\n", arguments...)
}

// run measures phases.
func (b *bench) run(ctx context.Context, chosen []phase) error {
	opened, err := openLab(ctx, b.binaries)
	if err != nil {
		return err
	}
	b.lab = opened
	return errors.Join(b.measure(ctx, chosen), opened.close())
}

func (b *bench) measure(ctx context.Context, chosen []phase) error {
	b.say("warming up: the emulators' first writes are ten times slower")
	if err := b.with(ctx, func(s *system) error {
		_, err := b.post(ctx, s, load.Shape{Batch: b.batch, Connections: b.connections, Duration: b.each})
		return err
	}); err != nil {
		return err
	}
	for _, p := range chosen {
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// with calls measure with a system that has settings.
func (b *bench) with(ctx context.Context, measure func(*system) error, settings ...string) error {
	s, err := b.lab.start(ctx, settings...)
	if err != nil {
		return err
	}
	return errors.Join(measure(s), s.stop())
}

// post posts a shape to a system and returns when everything is counted.
func (b *bench) post(ctx context.Context, s *system, shape load.Shape) (load.Measured, error) {
	shape.Ingest = s.ingest.url
	measured, err := load.Measure(ctx, shape)
	if err != nil {
		return measured, err
	}
	return measured, load.Settle(ctx, s.query.url, still, settleLimit)
}

// measureCost adds what the model of the cost estimates.
func (b *bench) measureCost(context.Context) error {
	const what = "a billion increments at Google's list prices, by the model of `accrue cost`, 10,000 increments/s in batches of 100 over "
	b.add("cost_per_billion_100_tags", dollars, what+"100 tags", cost.PerBillion(100, 0))
	b.add("cost_per_billion_1000_tags_30s", dollars, what+"1,000 tags, TAG_DOCUMENTS=30s", cost.PerBillion(1000, 30*time.Second))
	return nil
}
