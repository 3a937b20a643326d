// Package redrive counts what could not be counted at the time, once the cause is fixed: rejected entries, which it moves
// into the totals, and dead letters, which it pulls from a subscription of the dead-letter topic, publishes unchanged to the
// increments topic, and acknowledges.
//
// It can safely run again. A rejected entry leaves its document in the same Commit that counts it. A message keeps its identity,
// and the checkpoint has the settled sequences, so a message that is published twice is counted once. The checkpoint keeps a
// publisher for as long as the increments subscription retains messages, and a day longer. It is unknown whether an older dead
// letter was counted, so it is left unless --max-age says otherwise.
package redrive

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/documents"
)

// Command returns the command accrue redrive. Variables are the environment.
func Command(variables map[string]string) *cobra.Command {
	var o options
	var of documents.Flags
	var emulator, subscription, topic string
	var partitions uint32
	command := &cobra.Command{
		Use:   "redrive",
		Short: "Count rejected entries and dead letters, or discard them",
		Long: `Counts rejected entries, and publishes dead letters to the increments topic again, unchanged. Nothing is counted twice.
Left where they are: entries that still cannot be counted; messages that cannot be decoded, that are too old to know
whether they were counted, and that return while the command runs. If an entry still cannot be counted the exit code is
1. Ctrl-C stops it after the request in progress.

With --discard it counts nothing. It removes the rejected entries and the undecodable dead letters that have the reason,
for good, and keeps a record of each in the collection audit.`,
		Example: `  accrue redrive --dry-run
  accrue redrive --partitions 64 --reason "checkpoint is full"
  accrue redrive --discard --reason "store refuses"`,
		Args: cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case of.Check() != nil:
				return of.Check()
			case o.limit < 1:
				return cli.Usagef("--limit must be 1 or more")
			case partitions < 1 || partitions > increment.MaxPartitions:
				return cli.Usagef("--partitions must be 1 to %d", increment.MaxPartitions)
			case o.discard && o.reason == "":
				return cli.Usagef("--discard needs the --reason of what to discard")
			}
			if of.Data == "" {
				if err := cli.Reach(c.Context(), emulator); err != nil {
					return fmt.Errorf("connect to the emulator: %w", err)
				}
			}
			kept, err := of.Open(c.Context())
			if err != nil {
				return err
			}
			defer kept.Close() //nolint:errcheck // the process ends
			entries := &rejectedRedriver{
				ledger: kept, partitions: partitions, reason: o.reason, dryRun: o.dryRun, discard: o.discard, progress: c.ErrOrStderr(),
			}
			recounted, err := entries.run(c.Context())
			if err != nil {
				recounted.print(c.OutOrStdout(), entries.verb(), o.dryRun)
				return fmt.Errorf("redrive the rejected entries%s: %w", at(of.Emulator), err)
			}
			r := &redriver{audit: kept.PutAudit, options: o, progress: c.ErrOrStderr()}
			end, err := r.connect(c.Context(), kept.Folder, of.Project, emulator, subscription, topic)
			if err != nil {
				recounted.print(c.OutOrStdout(), entries.verb(), o.dryRun)
				return err
			}
			defer end() //nolint:errcheck // the process ends
			found, err := r.run(c.Context())
			if o.json {
				if err := cli.PrintJSON(c.OutOrStdout(), map[string]any{"rejected_entries": recounted.json(), "dead_letters": found.json()}); err != nil {
					return err
				}
			} else {
				recounted.print(c.OutOrStdout(), entries.verb(), o.dryRun)
				found.print(c.OutOrStdout(), o.dryRun)
			}
			switch {
			case err != nil:
				return fmt.Errorf("%s%s: %w", subscription, at(emulator), err)
			case recounted.rejected > 0:
				return fmt.Errorf("%d entries still cannot be counted: if their checkpoint is full, raise PARTITIONS and give it as --partitions", recounted.rejected)
			}
			return nil
		},
	}
	of.Add(command, variables)
	flags := command.Flags()
	flags.StringVar(&emulator, "emulator", variables["PUBSUB_EMULATOR_HOST"], "host:port of a Pub/Sub emulator (PUBSUB_EMULATOR_HOST)")
	flags.Uint32Var(&partitions, "partitions", partitionsOf(variables), "number of partitions that ingest uses now (PARTITIONS)")
	flags.StringVar(&subscription, "subscription", cmp.Or(variables["DEAD_LETTER_TOPIC"], "increments-dead-letter")+"-redrive", "subscription to pull dead letters from")
	flags.StringVar(&topic, "topic", cmp.Or(variables["INCREMENTS_TOPIC"], "increments"), "topic to publish to (INCREMENTS_TOPIC)")
	flags.StringVar(&o.reason, "reason", "", "only what has a reason that contains this text")
	flags.IntVar(&o.limit, "limit", 100_000, "maximum number of dead letters to look at")
	flags.DurationVar(&o.maxAge, "max-age", 7*24*time.Hour, "leave older dead letters: the retention of the subscription")
	flags.BoolVar(&o.dryRun, "dry-run", false, "only report what there is")
	flags.BoolVar(&o.discard, "discard", false, "remove what has the reason instead of counting it, and keep a record of it")
	flags.BoolVar(&o.json, "json", false, "print the report as JSON")
	return command
}

// leaseDeadline is the acknowledgement deadline of dead letters in a folder, that of accrue run.
const leaseDeadline = 10 * time.Minute

// connect connects to the subscription of dead letters and to the topic of increments, in a folder or in Pub/Sub. End ends the
// connection.
func (r *redriver) connect(
	ctx context.Context, folder *database.Database, project, emulator, subscription, topic string,
) (end func() error, err error) {
	if folder != nil {
		messages := embedded.New(folder)
		if r.from, err = messages.Subscribe(ctx, strings.TrimSuffix(subscription, "-redrive"), subscription, leaseDeadline); err != nil {
			return nil, fmt.Errorf("read the dead letters: %w", err)
		}
		r.to = messages.Topic(topic)
		return func() error { return nil }, nil
	}
	client, err := pubsub.Connect(ctx, project, emulator)
	if err != nil {
		return nil, fmt.Errorf("connect to Pub/Sub%s: %w", at(emulator), err)
	}
	r.from, r.to = client.Subscription(subscription), client.Topic(topic)
	return client.Close, nil
}

// partitionsOf returns the number in PARTITIONS, ingest's default if it is not set, and 0 if it is not a number.
func partitionsOf(variables map[string]string) uint32 {
	n, err := strconv.ParseUint(cmp.Or(variables["PARTITIONS"], "16"), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// at names the emulator in an error.
func at(emulator string) string {
	if emulator == "" {
		return ""
	}
	return " at " + emulator
}
