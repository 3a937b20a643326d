// Command accrue runs Accrue on one machine and has the tools for working with it, there or on Google Cloud.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/version"
	"github.com/accrue/accrue/tools/bench"
	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/cost"
	"github.com/accrue/accrue/tools/emulators"
	"github.com/accrue/accrue/tools/export"
	"github.com/accrue/accrue/tools/folder"
	"github.com/accrue/accrue/tools/load"
	"github.com/accrue/accrue/tools/local"
	"github.com/accrue/accrue/tools/migrate"
	"github.com/accrue/accrue/tools/post"
	"github.com/accrue/accrue/tools/recognitions"
	"github.com/accrue/accrue/tools/reconcile"
	"github.com/accrue/accrue/tools/redrive"
	"github.com/accrue/accrue/tools/tags"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(cli.Execute(ctx, command(service.Environment(os.Environ())), os.Args[1:], os.Stdout, os.Stderr))
}

// command returns the command accrue. Variables are the environment.
func command(variables map[string]string) *cobra.Command {
	root := &cobra.Command{
		Use:   "accrue",
		Short: "Counts increments exactly once, and tools to work with it",
		Example: `  accrue run                        # serves everything at http://localhost:8080
  accrue post foo=4 ballz           # counts 4 for foo and 1 for ballz
  cat *.txt | accrue post --words   # counts every word
  accrue load --duration 30s        # posts, then verifies every total`,
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) > 0 {
				return cli.Usagef("unknown command %q", arguments[0])
			}
			return nil
		},
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
		Version: version.Current().String(),
	}
	root.SetVersionTemplate("accrue {{.Version}}\n")
	root.AddCommand(
		local.Command(variables), post.Command(), load.Command(variables), bench.Command(), redrive.Command(variables),
		recognitions.Command(variables), cost.Command(), emulators.Command(), versionCommand(),
		export.Command(), folder.BackupCommand(variables), folder.RestoreCommand(variables), migrate.Command(variables), tags.Command(variables),
		tags.ContributorsCommand(variables), reconcile.Command(variables),
	)
	return root
}

func versionCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				return cli.PrintJSON(c.OutOrStdout(), version.Current())
			}
			fmt.Fprintln(c.OutOrStdout(), "accrue", version.Current())
			return nil
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return command
}
