// Command redrive gives dead letters another chance: it pulls them from a subscription of the dead-letter topic, publishes
// the same messages to the increments topic again, and acknowledges them. It is for messages that could not be applied at
// the time, such as those with new tags for a checkpoint that was full, once the cause is removed.
//
// Running it again is safe. A message keeps its identity, and the checkpoint remembers what was counted: a message that is
// published twice, because its acknowledgement was lost or because two people redrive at once, is counted once. The
// checkpoint remembers a publisher for as long as the increments subscription keeps messages, and a day more. Whether an
// older dead letter was counted after all, nobody can tell, so that it is left unless -max-age says otherwise.
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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := command(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code) //nolint:gocritic // stop has been called
}

const usage = `redrive publishes dead letters to the increments topic again. Those stay that cannot be decoded, that are too old
to know whether they were counted, and that come back while it runs. Messages that are counted already are not counted
again. Ctrl-C stops it after the messages at hand.

usage: redrive [flags]

flags:
`

// command returns the exit code: 0 if all was done, 1 if not, 2 for a wrong command line.
func command(ctx context.Context, arguments []string, getenv func(string) string, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("redrive", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	project := flags.String("project", getenv("GOOGLE_CLOUD_PROJECT"), "Google Cloud project; GOOGLE_CLOUD_PROJECT if it is not given")
	emulator := flags.String("emulator", getenv("PUBSUB_EMULATOR_HOST"), "host:port of a Pub/Sub emulator; PUBSUB_EMULATOR_HOST if it is not given")
	subscription := flags.String("subscription", "increments-dead-letter-redrive", "subscription to pull dead letters from")
	topic := flags.String("topic", cmp.Or(getenv("INCREMENTS_TOPIC"), "increments"), "topic to publish them to; INCREMENTS_TOPIC if it is not given")
	flags.StringVar(&o.reason, "reason", "", "redrive only the dead letters whose reason contains this")
	flags.IntVar(&o.limit, "limit", 100_000, "most dead letters to look at")
	flags.DurationVar(&o.maxAge, "max-age", 7*24*time.Hour, "leave dead letters that are older: the retention of the increments subscription, beyond which counted messages are forgotten")
	flags.BoolVar(&o.dryRun, "dry-run", false, "only say what there is, and leave it")
	switch err := flags.Parse(arguments); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case *project == "" || flags.NArg() > 0 || o.limit < 1:
		fmt.Fprintln(stderr, "redrive needs a -project and a -limit of 1 or more, and takes flags alone")
		return 2
	}
	client, err := pubsub.Connect(ctx, *project, *emulator)
	if err != nil {
		fmt.Fprintln(stderr, "redrive:", err)
		return 1
	}
	defer client.Close() //nolint:errcheck // the process ends
	r := &redriver{from: client.Subscription(*subscription), to: client.Topic(*topic), options: o, progress: stderr}
	found, err := r.run(ctx)
	found.print(stdout, o.dryRun)
	if err != nil {
		fmt.Fprintln(stderr, "redrive:", err)
		return 1
	}
	return 0
}
