// Package recognitions prints each recognition once. It is also an example of a consumer of the recognitions topic: package
// consumer shows how to drop the second copy of an event.
package recognitions

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/recognitions/consumer"
)

// ackDeadline is the lease of the subscription that is made at an emulator.
const ackDeadline = 60 * time.Second

// Command returns the command accrue recognitions. Variables are the environment.
func Command(variables map[string]string) *cobra.Command {
	var project, emulator, topic, subscription string
	var remember int
	var asJSON bool
	command := &cobra.Command{
		Use:   "recognitions",
		Short: "Print each recognition once, until Ctrl-C",
		Long: `Prints each recognition once, as its event arrives, until Ctrl-C. Events from before the subscription was created do
not arrive.`,
		Example: "  accrue recognitions --project my-project --json",
		Args:    cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case project == "":
				return cli.Usagef("--project or GOOGLE_CLOUD_PROJECT is required")
			case remember < 1 || remember > 10_000_000:
				return cli.Usagef("--remember must be 1 to 10000000")
			}
			if err := cli.Reach(c.Context(), emulator); err != nil {
				return fmt.Errorf("connect to Pub/Sub: %w", err)
			}
			client, err := pubsub.Connect(c.Context(), project, emulator)
			if err != nil {
				return fmt.Errorf("connect to Pub/Sub: %w", err)
			}
			defer client.Close() //nolint:errcheck // the process ends
			if err := client.EnsureTopic(c.Context(), topic); err != nil {
				return fmt.Errorf("create the topic at %s: %w", emulator, err)
			}
			if err := client.EnsureSubscription(c.Context(), subscription, topic, ackDeadline); err != nil {
				return fmt.Errorf("create the subscription at %s: %w", emulator, err)
			}
			fmt.Fprintf(c.ErrOrStderr(), "waiting for recognitions on %s; press Ctrl-C to stop\n", subscription)
			handle := consumer.Print(c.OutOrStdout())
			if asJSON {
				handle = func(r consumer.Recognition) error { return cli.PrintJSON(c.OutOrStdout(), r) }
			}
			report := func(err error) { fmt.Fprintln(c.ErrOrStderr(), "accrue recognitions:", err) }
			return consumer.New(client.Subscription(subscription), remember, handle, report).Run(c.Context())
		},
	}
	flags := command.Flags()
	flags.StringVar(&project, "project", variables["GOOGLE_CLOUD_PROJECT"], "Google Cloud project (GOOGLE_CLOUD_PROJECT)")
	flags.StringVar(&emulator, "emulator", variables["PUBSUB_EMULATOR_HOST"], "host:port of a Pub/Sub emulator (PUBSUB_EMULATOR_HOST)")
	flags.StringVar(&topic, "topic", cmp.Or(variables["RECOGNITIONS_TOPIC"], "recognitions"), "topic of the events (RECOGNITIONS_TOPIC)")
	flags.StringVar(&subscription, "subscription", "recognitions-print", "subscription to pull from; created at an emulator if missing")
	flags.IntVar(&remember, "remember", 100_000, "number of events to remember for dropping second copies, some 200 bytes each")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return command
}
