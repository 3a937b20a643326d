// Package emulators runs the Cloud SDK's Pub/Sub and Firestore emulators.
package emulators

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/emulator"
)

// Command returns the command accrue emulators.
func Command() *cobra.Command {
	var pubSub, firestore emulator.Options
	command := &cobra.Command{
		Use:   "emulators",
		Short: "Run the Pub/Sub and Firestore emulators until Ctrl-C",
		Long: `Runs the Cloud SDK's Pub/Sub and Firestore emulators until Ctrl-C, and prints the environment variables that point to
them. They keep everything in memory. They need the Cloud SDK and Java.`,
		Example: "  accrue emulators --pubsub-port 0 --firestore-port 0   # on free ports",
		Args:    cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return run(c.Context(), pubSub, firestore, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	flags := command.Flags()
	flags.IntVar(&pubSub.Port, "pubsub-port", 8085, "port of the Pub/Sub emulator on 127.0.0.1, 0 for a free one")
	flags.IntVar(&firestore.Port, "firestore-port", 8086, "port of the Firestore emulator on 127.0.0.1, 0 for a free one")
	flags.IntVar(&pubSub.HeapMiB, "pubsub-heap", 1024, "maximum heap of the Pub/Sub emulator, in MiB")
	flags.IntVar(&firestore.HeapMiB, "firestore-heap", 1024, "maximum heap of the Firestore emulator, in MiB")
	flags.StringVar(&firestore.Rules, "rules", "", "Firestore rules file; without one everything is allowed")
	return command
}

// run starts both emulators, prints their addresses, and stops both when ctx or one of them ends.
func run(ctx context.Context, pubSub, firestore emulator.Options, stdout, stderr io.Writer) (err error) {
	fmt.Fprintln(stderr, "starting the Pub/Sub and Firestore emulators…")
	var messages, documents *emulator.Emulator
	defer func() {
		for _, e := range []*emulator.Emulator{messages, documents} {
			if e != nil {
				err = errors.Join(err, e.Stop())
			}
		}
	}()
	starting, together := errgroup.WithContext(ctx)
	starting.Go(func() (err error) {
		messages, err = emulator.StartPubSub(together, pubSub)
		return err
	})
	starting.Go(func() (err error) {
		documents, err = emulator.StartFirestore(together, firestore)
		return err
	})
	if err := starting.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil // stopped while starting
		}
		return fmt.Errorf("start: %w", err)
	}
	fmt.Fprintf(stdout, "export PUBSUB_EMULATOR_HOST=%s\nexport FIRESTORE_EMULATOR_HOST=%s\n", messages.Host, documents.Host)
	fmt.Fprintln(stderr, "Press Ctrl-C to stop them.")
	select {
	case <-ctx.Done():
		return nil
	case <-messages.Done():
		return fmt.Errorf("the Pub/Sub emulator exited: %w\n%s", messages.Err(), messages.Output())
	case <-documents.Done():
		return fmt.Errorf("the Firestore emulator exited: %w\n%s", documents.Err(), documents.Output())
	}
}
