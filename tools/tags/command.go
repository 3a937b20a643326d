package tags

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/documents"
)

// Command returns the command accrue tags. Variables are the environment.
func Command(variables map[string]string) *cobra.Command {
	command := &cobra.Command{Use: "tags", Short: "Remove tags", Example: "  accrue tags retire mistake", Args: cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	command.AddCommand(retireCommand(variables))
	return command
}

// ContributorsCommand returns the command accrue contributors. Variables are the environment.
func ContributorsCommand(variables map[string]string) *cobra.Command {
	command := &cobra.Command{
		Use: "contributors", Short: "Remove contributors", Example: "  accrue contributors erase ada", Args: cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	command.AddCommand(eraseCommand(variables))
	return command
}

func retireCommand(variables map[string]string) *cobra.Command {
	var of documents.Flags
	var asJSON bool
	command := &cobra.Command{
		Use:   "retire NAME...",
		Short: "Remove tags, and print what they had counted",
		Long: `Removes tags from the checkpoints, which makes room for others, and from the view, and deletes their documents. What they
had counted is printed and kept in the collection audit. Services may run meanwhile. A tag that is counted again starts
at 0. The history of past minutes and hours keeps what it has until it expires.`,
		Example: `  accrue tags retire mistake another_one`,
		Args: func(_ *cobra.Command, names []string) error {
			if len(names) == 0 {
				return cli.Usagef("which tags?")
			}
			for _, name := range names {
				if err := increment.ValidateName(name); err != nil {
					return cli.Usagef("%q: a name %w", name, err)
				}
			}
			return nil
		},
		RunE: func(c *cobra.Command, names []string) error {
			if err := of.Check(); err != nil {
				return err
			}
			kept, err := of.Open(c.Context())
			if err != nil {
				return err
			}
			defer kept.Close() //nolint:errcheck // the process ends
			all := make([]retired, 0, len(names))
			for _, name := range names {
				r, err := retire(c.Context(), kept, name)
				if err != nil {
					return fmt.Errorf("retire %s, of which %d in %d increments are removed so far: %w", name, r.Total, r.Increments, err)
				}
				if !asJSON {
					fmt.Fprintf(c.OutOrStdout(), "%s: %d in %d increments, retired\n", r.Tag, r.Total, r.Increments)
				}
				all = append(all, r)
			}
			if asJSON {
				return cli.PrintJSON(c.OutOrStdout(), all)
			}
			return nil
		},
	}
	of.Add(command, variables)
	command.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return command
}

func eraseCommand(variables map[string]string) *cobra.Command {
	var of documents.Flags
	command := &cobra.Command{
		Use:   "erase ID...",
		Short: "Delete contributors and their recognitions",
		Long: `Deletes the documents of contributors and of their recognitions. A record with the hash of each id is kept in the
collection audit. What they have added to tags stays, without their ids. Ids in rejected entries and in messages that
are not counted yet stay until those are counted or discarded; a contributor who contributes again starts at 0.`,
		Example: `  accrue contributors erase ada@example.com`,
		Args: func(_ *cobra.Command, ids []string) error {
			if len(ids) == 0 {
				return cli.Usagef("which contributors?")
			}
			for _, id := range ids {
				if err := increment.ValidateContributor(id); err != nil {
					return cli.Usagef("%q: an id %w", id, err)
				}
			}
			return nil
		},
		RunE: func(c *cobra.Command, ids []string) error {
			if err := of.Check(); err != nil {
				return err
			}
			kept, err := of.Open(c.Context())
			if err != nil {
				return err
			}
			defer kept.Close() //nolint:errcheck // the process ends
			var missing int
			for _, id := range ids {
				erased, err := erase(c.Context(), kept, id)
				switch {
				case errors.Is(err, store.ErrNotFound):
					missing++
					fmt.Fprintf(c.OutOrStdout(), "%s: not found\n", id)
				case err != nil:
					return fmt.Errorf("erase a contributor: %w", err)
				default:
					fmt.Fprintf(c.OutOrStdout(), "%s: %d contributions and %d recognitions, erased\n", id, erased.Contributions, len(erased.Recognitions))
				}
			}
			if missing > 0 {
				return cli.ErrFailed
			}
			return nil
		},
	}
	of.Add(command, variables)
	return command
}
