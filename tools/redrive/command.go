// Package redrive gives dead letters another chance: it pulls them from a subscription of the dead-letter topic, publishes
// them unchanged to the increments topic, and acknowledges them. It is for messages that could not be counted at the time,
// once the cause is fixed.
//
// Running it again is safe. A message keeps its identity, and the checkpoint remembers what was counted, so a message that
// is published twice is counted once. The checkpoint remembers a publisher for as long as the increments subscription
// retains messages, and a day longer. It is unknown whether an older dead letter was counted, so it stays where it is
// unless --max-age says otherwise.
package redrive

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/tools/cli"
)

// Command returns the command accrue redrive. Variables are the environment.
func Command(variables map[string]string) *cobra.Command {
	var o options
	var project, emulator, subscription, topic string
	command := &cobra.Command{
		Use:   "redrive",
		Short: "Publish dead letters to the increments topic again",
		Long: `Publishes dead letters to the increments topic again, unchanged. Messages that were counted are not counted again.
Left where they are: messages that cannot be decoded, that are too old to know whether they were counted, and that
return while the command runs. Ctrl-C stops it after the messages in progress.`,
		Example: `  accrue redrive --dry-run
  accrue redrive --reason "checkpoint is full"`,
		Args: cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case project == "":
				return cli.Usagef("--project or GOOGLE_CLOUD_PROJECT is required")
			case o.limit < 1:
				return cli.Usagef("--limit must be 1 or more")
			}
			client, err := pubsub.Connect(c.Context(), project, emulator)
			if err != nil {
				return fmt.Errorf("connect to Pub/Sub%s: %w", at(emulator), err)
			}
			defer client.Close() //nolint:errcheck // the process ends
			r := &redriver{from: client.Subscription(subscription), to: client.Topic(topic), options: o, progress: c.ErrOrStderr()}
			found, err := r.run(c.Context())
			if o.json {
				if err := cli.PrintJSON(c.OutOrStdout(), found.json()); err != nil {
					return err
				}
			} else {
				found.print(c.OutOrStdout(), o.dryRun)
			}
			if err != nil {
				return fmt.Errorf("%s%s: %w", subscription, at(emulator), err)
			}
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&project, "project", variables["GOOGLE_CLOUD_PROJECT"], "Google Cloud project (GOOGLE_CLOUD_PROJECT)")
	flags.StringVar(&emulator, "emulator", variables["PUBSUB_EMULATOR_HOST"], "host:port of a Pub/Sub emulator (PUBSUB_EMULATOR_HOST)")
	flags.StringVar(&subscription, "subscription", cmp.Or(variables["DEAD_LETTER_TOPIC"], "increments-dead-letter")+"-redrive", "subscription to pull dead letters from")
	flags.StringVar(&topic, "topic", cmp.Or(variables["INCREMENTS_TOPIC"], "increments"), "topic to publish to (INCREMENTS_TOPIC)")
	flags.StringVar(&o.reason, "reason", "", "redrive only dead letters whose reason contains this text")
	flags.IntVar(&o.limit, "limit", 100_000, "maximum number of dead letters to look at")
	flags.DurationVar(&o.maxAge, "max-age", 7*24*time.Hour, "leave older dead letters: the retention of the increments subscription")
	flags.BoolVar(&o.dryRun, "dry-run", false, "only report what there is")
	flags.BoolVar(&o.json, "json", false, "print the report as JSON")
	return command
}

// at names the emulator in an error.
func at(emulator string) string {
	if emulator == "" {
		return ""
	}
	return " at " + emulator
}
