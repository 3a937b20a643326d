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
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/tools/cli"
)

// Command returns the command accrue redrive. Variables are the environment.
func Command(variables map[string]string) *cobra.Command {
	var o options
	var project, emulator, firestoreEmulator, databaseID, subscription, topic string
	var partitions uint32
	command := &cobra.Command{
		Use:   "redrive",
		Short: "Count rejected entries and dead letters",
		Long: `Counts rejected entries, and publishes dead letters to the increments topic again, unchanged. Nothing is counted twice.
Left where they are: entries that still cannot be counted; messages that cannot be decoded, that are too old to know
whether they were counted, and that return while the command runs. If an entry still cannot be counted the exit code is
1. Ctrl-C stops it after the request in progress.`,
		Example: `  accrue redrive --dry-run
  accrue redrive --partitions 64 --reason "checkpoint is full"`,
		Args: cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case project == "":
				return cli.Usagef("--project or GOOGLE_CLOUD_PROJECT is required")
			case o.limit < 1:
				return cli.Usagef("--limit must be 1 or more")
			case partitions < 1 || partitions > increment.MaxPartitions:
				return cli.Usagef("--partitions must be 1 to %d", increment.MaxPartitions)
			}
			for _, address := range []string{firestoreEmulator, emulator} {
				if err := cli.Reach(c.Context(), address); err != nil {
					return fmt.Errorf("connect to the emulator: %w", err)
				}
			}
			documents, err := firestore.Connect(c.Context(), project, databaseID, firestoreEmulator)
			if err != nil {
				return fmt.Errorf("connect to Firestore%s: %w", at(firestoreEmulator), err)
			}
			defer documents.Close() //nolint:errcheck // the process ends
			entries := &rejectedRedriver{ledger: documents, partitions: partitions, reason: o.reason, dryRun: o.dryRun, progress: c.ErrOrStderr()}
			recounted, err := entries.run(c.Context())
			if err != nil {
				recounted.print(c.OutOrStdout(), o.dryRun)
				return fmt.Errorf("redrive the rejected entries of Firestore%s: %w", at(firestoreEmulator), err)
			}
			client, err := pubsub.Connect(c.Context(), project, emulator)
			if err != nil {
				return fmt.Errorf("connect to Pub/Sub%s: %w", at(emulator), err)
			}
			defer client.Close() //nolint:errcheck // the process ends
			r := &redriver{from: client.Subscription(subscription), to: client.Topic(topic), options: o, progress: c.ErrOrStderr()}
			found, err := r.run(c.Context())
			if o.json {
				if err := cli.PrintJSON(c.OutOrStdout(), map[string]any{"rejected_entries": recounted.json(), "dead_letters": found.json()}); err != nil {
					return err
				}
			} else {
				recounted.print(c.OutOrStdout(), o.dryRun)
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
	flags := command.Flags()
	flags.StringVar(&project, "project", variables["GOOGLE_CLOUD_PROJECT"], "Google Cloud project (GOOGLE_CLOUD_PROJECT)")
	flags.StringVar(&emulator, "emulator", variables["PUBSUB_EMULATOR_HOST"], "host:port of a Pub/Sub emulator (PUBSUB_EMULATOR_HOST)")
	flags.StringVar(&firestoreEmulator, "firestore-emulator", variables["FIRESTORE_EMULATOR_HOST"], "host:port of a Firestore emulator (FIRESTORE_EMULATOR_HOST)")
	flags.StringVar(&databaseID, "database", cmp.Or(variables["FIRESTORE_DATABASE"], "(default)"), "id of the Firestore database (FIRESTORE_DATABASE)")
	flags.Uint32Var(&partitions, "partitions", partitionsOf(variables), "number of partitions that ingest uses now (PARTITIONS)")
	flags.StringVar(&subscription, "subscription", cmp.Or(variables["DEAD_LETTER_TOPIC"], "increments-dead-letter")+"-redrive", "subscription to pull dead letters from")
	flags.StringVar(&topic, "topic", cmp.Or(variables["INCREMENTS_TOPIC"], "increments"), "topic to publish to (INCREMENTS_TOPIC)")
	flags.StringVar(&o.reason, "reason", "", "redrive only what has a reason that contains this text")
	flags.IntVar(&o.limit, "limit", 100_000, "maximum number of dead letters to look at")
	flags.DurationVar(&o.maxAge, "max-age", 7*24*time.Hour, "leave older dead letters: the retention of the subscription")
	flags.BoolVar(&o.dryRun, "dry-run", false, "only report what there is")
	flags.BoolVar(&o.json, "json", false, "print the report as JSON")
	return command
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
