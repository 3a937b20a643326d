// Package load posts increments to a running system and compares its totals with what it posted, to the last unit. It
// proves that nothing is lost and nothing is counted twice, and measures how fast that is.
package load

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/tools/cli"
)

// Command returns the command accrue load. Variables are the environment.
func Command(variables map[string]string) *cobra.Command {
	c := &config{}
	command := &cobra.Command{
		Use:   "load [--words FILE...]",
		Short: "Post increments and verify every total",
		Long: `Posts increments of random tags, or one for each word of files, and compares the totals with what it posted. No other
producer may post meanwhile. Ctrl-C ends the posting, and what was posted is still verified. A request without an
answer may be counted and is not repeated, except with --client, which uses idempotency keys.
FILE is a file, a folder, or a pattern such as 'src/**/*.go'. Exit code 0 means that all totals are exact.`,
		Example: `  accrue load --duration 30s --batch 100
  accrue load --shop                        # a day that is worth a look at the board
  accrue load --client --rate 5000 --contributors 1000
  accrue load --words 'docs/**/*.md'`,
	}
	complete := c.register(command.Flags())
	command.RunE = func(command *cobra.Command, files []string) error {
		if err := complete(files); err != nil {
			return cli.Usage(err)
		}
		services := connect(c)
		if c.recognitions > 0 {
			if variables["GOOGLE_CLOUD_PROJECT"] == "" {
				return cli.Usagef("--recognitions needs GOOGLE_CLOUD_PROJECT, and PUBSUB_EMULATOR_HOST for an emulator")
			}
			events, closing, err := subscribe(command.Context(), variables)
			if err != nil {
				return err
			}
			defer closing()
			services.recognitions = events
		}
		r, err := run(command.Context(), c, services, newProgress(command.ErrOrStderr(), c.refresh))
		if err != nil {
			return err
		}
		if c.json {
			if err := cli.PrintJSON(command.OutOrStdout(), r); err != nil {
				return fmt.Errorf("print the report: %w", err)
			}
		} else {
			r.print(command.OutOrStdout())
		}
		if !r.ok() {
			return cli.ErrFailed
		}
		return nil
	}
	return command
}
