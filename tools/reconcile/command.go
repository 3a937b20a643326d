// Package reconcile adds up again what Accrue has counted, from an archive of messages, and compares it with the checkpoints and
// with the documents of tags; or it compares the counters of the services. It shares no code with the counting but the formats of
// what it reads.
package reconcile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/documents"
)

// Command returns the command accrue reconcile. Variables are the environment.
func Command(variables map[string]string) *cobra.Command {
	var of documents.Flags
	var archives, metrics []string
	var emulator, subscription string
	var wait time.Duration
	var asJSON bool
	command := &cobra.Command{
		Use:   "reconcile",
		Short: "Add up again what was counted, and print the differences",
		Long: `Compares the total of each tag in the checkpoints with its document, and what that gets later, and, with --archive,
with the messages themselves: each message once, by publisher, partition and sequence, each idempotency key once, and
without the rejected entries that still wait. An archive is one or more files of newline-delimited JSON, as BigQuery
exports the table of terraform/archive.tf, or - for standard input; it must have every message since the first. With
--subscription the messages of a subscription, kept for this, move to the end of the archive's file first.
Messages that wait to be counted are a difference: let it become quiet first. The exit code is 1 if there is a
difference.

With --metrics it compares counters instead, at any load: accepted = counted + rejected + repeated + in flight. Name each
ingest and each aggregator; counters begin at 0 when a process starts. The exit code is 0 once as much is settled as was
accepted when the command began, and 1 if more is counted than was accepted, or if entries stay in flight.`,
		Example: `  accrue reconcile --data .accrue
  accrue reconcile --project my-project --archive increments-000.json --archive increments-001.json
  accrue reconcile --project my-project --subscription increments-archive --archive increments.json
  bq extract --destination_format NEWLINE_DELIMITED_JSON accrue.increments 'gs://my-bucket/increments-*.json'
  gcloud storage cat 'gs://my-bucket/increments-*.json' | accrue reconcile --project my-project --archive -
  accrue reconcile --metrics http://ingest:8080 --metrics http://aggregator:8080`,
		Args: cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if len(metrics) > 0 {
				for _, flag := range []string{"archive", "subscription", "data"} {
					if c.Flags().Changed(flag) {
						return cli.Usagef("--metrics compares counters, and takes no --%s", flag)
					}
				}
				return runAudit(c, metrics, wait, asJSON)
			}
			if err := of.Check(); err != nil {
				return err
			}
			if subscription != "" {
				if len(archives) != 1 || archives[0] == "-" || of.Data != "" {
					return cli.Usagef("--subscription needs --project, and one --archive: the file to which its messages move")
				}
				if err := collectFrom(c, of.Project, emulator, subscription, archives[0]); err != nil {
					return fmt.Errorf("move the messages of %s to %s: %w", subscription, archives[0], err)
				}
			}
			var messages *archive
			if len(archives) > 0 {
				messages = newArchive()
				for _, name := range archives {
					if err := messages.readFile(name, c.InOrStdin()); err != nil {
						return fmt.Errorf("read the archive %s: %w", name, err)
					}
				}
			}
			kept, err := of.Open(c.Context())
			if err != nil {
				return err
			}
			found, err := compare(c.Context(), kept, messages)
			if err = errors.Join(err, kept.Close()); err != nil {
				return err
			}
			if asJSON {
				err = cli.PrintJSON(c.OutOrStdout(), found)
			} else {
				err = found.print(c.OutOrStdout())
			}
			if err == nil && len(found.Differences) > 0 {
				err = cli.ErrFailed
			}
			return err
		},
	}
	of.Add(command, variables)
	flags := command.Flags()
	flags.StringArrayVar(&archives, "archive", nil, "file of archived messages, newline-delimited JSON, or - for standard input")
	flags.StringVar(&subscription, "subscription", "", "subscription of the increments topic whose messages move to the --archive first")
	flags.StringVar(&emulator, "emulator", variables["PUBSUB_EMULATOR_HOST"], "host:port of a Pub/Sub emulator (PUBSUB_EMULATOR_HOST)")
	flags.StringArrayVar(&metrics, "metrics", nil, "address of an ingest or an aggregator whose counters are compared")
	flags.DurationVar(&wait, "wait", 30*time.Second, "with --metrics, how long entries may be in flight")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return command
}

// runAudit compares counters, and prints them.
func runAudit(c *cobra.Command, addresses []string, wait time.Duration, asJSON bool) error {
	found, err := auditMetrics(c.Context(), addresses, wait, c.ErrOrStderr())
	if found == nil {
		return err
	}
	if asJSON {
		return errors.Join(err, cli.PrintJSON(c.OutOrStdout(), found))
	}
	_, printed := fmt.Fprintln(c.OutOrStdout(), found)
	return errors.Join(err, printed)
}

// collectFrom moves the messages of a subscription to a file.
func collectFrom(c *cobra.Command, project, emulator, subscription, file string) error {
	if err := cli.Reach(c.Context(), emulator); err != nil {
		return fmt.Errorf("connect to the emulator: %w", err)
	}
	client, err := pubsub.Connect(c.Context(), project, emulator)
	if err != nil {
		return fmt.Errorf("connect to Pub/Sub: %w", err)
	}
	return errors.Join(collect(c.Context(), client.Subscription(subscription), file, c.ErrOrStderr()), client.Close())
}

func (a *archive) readFile(name string, stdin io.Reader) error {
	if name == "-" {
		return a.read(stdin)
	}
	file, err := os.Open(name) //nolint:gosec // the file that the user names
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // read
	return a.read(file)
}

// print prints the differences as a table, and a line that says what was compared.
func (r *result) print(w io.Writer) error {
	if len(r.Differences) > 0 {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(table, "tag\tcheckpoints\tdocument\towed to it\trejected, waiting\tarchive\t\n")
		for _, d := range r.Differences {
			archived := "-"
			if d.Archive != nil {
				archived = fmt.Sprint(*d.Archive)
			}
			fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%s\t\n", d.Tag, d.Checkpoints, d.Document, d.Owed, d.Rejected, archived)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	if r.Archived != nil {
		fmt.Fprintf(w, "The archive has %d messages, %d of them again, and %d entries that repeat a key.\n", r.Archived.Messages, r.Archived.Repeated,
			r.Archived.Keys)
	}
	_, err := fmt.Fprintf(w, "%d tags, which add up to %d: %d differences.\n", r.Tags, r.Total, len(r.Differences))
	return err
}
