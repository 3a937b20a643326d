// Command recognitions prints each recognition once: a sample consumer of the recognitions topic. It pulls from a
// subscription of its own, which it makes at an emulator, and drops second copies of an event.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/tools/recognitions/consumer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := command(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code) //nolint:gocritic // stop has been called
}

const usage = `recognitions prints each recognition once, as its event comes, until Ctrl-C. Events from before the subscription was made
do not come.

usage: recognitions [flags]

flags:
`

// ackDeadline is the lease of the subscription that is made at an emulator.
const ackDeadline = 60 * time.Second

// command returns the exit code: 0 after ctx has ended, 1 for a failure at the start, 2 for a wrong command line.
func command(ctx context.Context, arguments []string, getenv func(string) string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("recognitions", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	project := flags.String("project", getenv("GOOGLE_CLOUD_PROJECT"), "Google Cloud project; GOOGLE_CLOUD_PROJECT if it is not given")
	emulator := flags.String("emulator", getenv("PUBSUB_EMULATOR_HOST"), "host:port of a Pub/Sub emulator; PUBSUB_EMULATOR_HOST if it is not given")
	topic := flags.String("topic", cmp.Or(getenv("RECOGNITIONS_TOPIC"), "recognitions"), "topic of the events; RECOGNITIONS_TOPIC if it is not given")
	subscription := flags.String("subscription", "recognitions-print", "subscription to pull from; at an emulator it is made if it is missing, and so is the topic")
	remember := flags.Int("remember", 100_000, "how many events to remember, so as to drop their second copies: 1 to 10,000,000, some 200 bytes each")
	switch err := flags.Parse(arguments); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case *project == "" || flags.NArg() > 0 || *remember < 1 || *remember > 10_000_000:
		fmt.Fprintln(stderr, "recognitions needs a -project and a -remember of 1 to 10,000,000, and takes flags alone")
		return 2
	}
	if err := run(ctx, *project, *emulator, *topic, *subscription, *remember, stdout, stderr); err != nil && ctx.Err() == nil {
		fmt.Fprintln(stderr, "recognitions:", err)
		return 1
	}
	return 0
}

func run(
	ctx context.Context, project, emulator, topic, subscription string, remember int, stdout, stderr io.Writer,
) error {
	client, err := pubsub.Connect(ctx, project, emulator)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer client.Close() //nolint:errcheck // the process ends
	if err := client.EnsureTopic(ctx, topic); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := client.EnsureSubscription(ctx, subscription, topic, ackDeadline); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	fmt.Fprintf(stderr, "waiting for recognitions on %s; Ctrl-C stops it\n", subscription)
	report := func(err error) { fmt.Fprintln(stderr, "recognitions:", err) }
	return consumer.New(client.Subscription(subscription), remember, consumer.Print(stdout), report).Run(ctx)
}
