// Package compare runs Accrue side by side with what would be picked in its place, on this machine, with one load generator
// and in interleaved rounds, and writes docs/benchmarks.md.
package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/rivals/process"
	"github.com/accrue/accrue/tools/cli"
)

// settings are the flags.
type settings struct {
	rounds, kills int
	each          time.Duration
	accrue        string
	folder        string
	page, chart   string
	only          string
	system        string
	install       bool
}

// Command returns the command rivals.
func Command() *cobra.Command {
	var s settings
	command := &cobra.Command{
		Use:   "rivals",
		Short: "Compare Accrue with Redis, PostgreSQL and NATS on this machine",
		Long: `Runs Accrue side by side with the same API on Redis, PostgreSQL and NATS, measures all with one load generator in interleaved
rounds, kills all, and writes a page with the results. Servers run on free ports, with their data in a temporary folder. Root
installs redis-server and postgresql by apt-get where they are missing. Where the Cloud SDK's emulators are installed, Accrue on
them is compared with counters in Firestore.`,
		Args: cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case s.rounds < 1, s.kills < 0:
				return cli.Usagef("--rounds must be 1 or more, --kills not negative")
			case s.each < 100*time.Millisecond:
				return cli.Usagef("--each must be 100ms or more")
			}
			return run(c.Context(), s, c.OutOrStdout())
		},
	}
	flags := command.Flags()
	flags.IntVar(&s.rounds, "rounds", 5, "number of measurements of each")
	flags.DurationVar(&s.each, "each", 3*time.Second, "duration of a measurement")
	flags.IntVar(&s.kills, "kills", 3, "number of kills of each, 0 for none")
	flags.StringVar(&s.accrue, "accrue", "bin/accrue", "the program accrue, as make build creates it")
	flags.StringVar(&s.folder, "folder", os.TempDir(), "where a temporary folder for data is made; its disk is measured")
	flags.StringVar(&s.page, "page", "docs/benchmarks.md", "the page to write")
	flags.StringVar(&s.chart, "chart", "docs/images/benchmarks.svg", "the chart to write")
	flags.StringVar(&s.only, "only", "", "compare only subjects with this in their names or classes, such as emulator")
	flags.StringVar(&s.system, "system", "", "a file with what accrue bench --json prints, for the page")
	flags.BoolVar(&s.install, "install", true, "install what is missing")
	return command
}

func run(ctx context.Context, s settings, log io.Writer) (err error) {
	system, err := s.readSystem()
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp(s.folder, "rivals-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // PostgreSQL, as another user, enters it
		return fmt.Errorf("make a folder: %w", err)
	}
	p, err := s.places(folder)
	if err != nil {
		return err
	}
	subjects, err := p.subjects(ctx)
	if err != nil {
		return err
	}
	var e emulators
	emulated, err := p.emulated(ctx, &e)
	if err != nil {
		return err
	}
	subjects, emulated = s.selected(subjects), s.selected(emulated)
	if len(subjects)+len(emulated) == 0 {
		return cli.Usagef("no subject has %q in its name or class", s.only)
	}
	if err := prepare(ctx, subjects, s.install, log); err != nil {
		return err
	}
	machine, err := describe(ctx, folder)
	if err != nil {
		return err
	}
	defer func() {
		for _, x := range subjects {
			err = errors.Join(err, x.stop())
		}
	}()
	began := time.Now()
	emulation, err := s.emulate(ctx, &e, emulated, log)
	if err != nil {
		return err
	}
	for _, x := range subjects {
		if err := x.start(ctx); err != nil {
			return err
		}
	}
	results, err := measure(ctx, subjects, shapes(), s.rounds, s.each, log)
	if err != nil {
		return err
	}
	losses, err := killAll(ctx, subjects, s.kills, log)
	if err != nil {
		return err
	}
	r := &report{
		settings: s, machine: machine, subjects: subjects, results: results, losses: losses, emulation: emulation, system: system,
		took: time.Since(began),
	}
	if err := os.WriteFile(s.page, []byte(r.page()), 0o644); err != nil { //nolint:gosec // a page of the documentation
		return fmt.Errorf("write page: %w", err)
	}
	if err := os.WriteFile(s.chart, []byte(r.chart()), 0o644); err != nil { //nolint:gosec // part of the page
		return fmt.Errorf("write chart: %w", err)
	}
	fmt.Fprintf(log, "wrote %s and %s after %s\n", s.page, s.chart, r.took.Round(time.Second))
	return nil
}

// places returns where subjects find what they need, with their data in a folder.
func (s settings) places(folder string) (places, error) {
	self, err := os.Executable()
	if err != nil {
		return places{}, fmt.Errorf("find this program: %w", err)
	}
	accrue, err := filepath.Abs(s.accrue)
	if err != nil {
		return places{}, fmt.Errorf("find accrue: %w", err)
	}
	return places{folder: folder, self: self, accrue: accrue}, nil
}

// selected returns the subjects that the flags name.
func (s settings) selected(subjects []*subject) []*subject {
	return slices.DeleteFunc(subjects, func(x *subject) bool {
		return !strings.Contains(x.name, s.only) && !strings.Contains(string(x.class), s.only)
	})
}

// killAll kills each subject, those that count nothing excepted.
func killAll(ctx context.Context, subjects []*subject, kills int, log io.Writer) (map[*subject]loss, error) {
	losses := make(map[*subject]loss)
	for _, x := range subjects {
		if x.nothing || kills == 0 {
			continue
		}
		if x.class == memory { // so that it loses only what is posted now
			if err := errors.Join(x.stop(), x.start(ctx)); err != nil {
				return nil, err
			}
		}
		l, err := killing(ctx, x, kills, time.Second)
		if err != nil {
			return nil, err
		}
		losses[x] = l
		fmt.Fprintf(log, "%s, killed %d times: accepted %d, counted %d (%+d)\n", x.name, kills, l.accepted, l.counted, l.counted-l.accepted)
	}
	return losses, nil
}

// debian has the packages of programs.
func debian(program string) string {
	if program == "postgres" {
		return "postgresql"
	}
	return program
}

// prepare installs the Debian packages of programs that are missing.
func prepare(ctx context.Context, subjects []*subject, install bool, log io.Writer) error {
	var packages []string
	var faults []error
	for _, x := range subjects {
		if x.program == "" || slices.Contains(packages, debian(x.program)) {
			continue
		}
		if _, err := process.Find(x.program); err != nil {
			packages, faults = append(packages, debian(x.program)), append(faults, err)
		}
	}
	if len(packages) == 0 {
		return nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil || !install || os.Getuid() != 0 {
		return errors.Join(faults...)
	}
	for _, arguments := range [][]string{{"update", "-qq"}, append([]string{"install", "-y", "-qq", "--no-install-recommends"}, packages...)} {
		command := exec.CommandContext(ctx, apt, arguments...) //nolint:gosec // packages named above
		command.Stdout, command.Stderr = log, log
		if err := command.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", strings.Join(arguments, " "), err)
		}
	}
	return nil
}
