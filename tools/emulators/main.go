// Command emulators runs the Cloud SDK's Pub/Sub and Firestore emulators until Ctrl-C, and prints the environment
// variables that lead to them. They keep everything in memory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/accrue/accrue/tools/emulator"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	code := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code) //nolint:gocritic // stop has been called
}

// command returns the exit code: 0 after ctx has ended, 1 if an emulator cannot be run, 2 for a wrong command line.
func command(ctx context.Context, arguments []string, stdout, stderr io.Writer) int {
	var pubSub, firestore emulator.Options
	flags := flag.NewFlagSet("emulators", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&pubSub.Port, "pubsub-port", 8085, "port of the Pub/Sub emulator on 127.0.0.1; 0 for a free one")
	flags.IntVar(&firestore.Port, "firestore-port", 8086, "port of the Firestore emulator on 127.0.0.1; 0 for a free one")
	flags.IntVar(&pubSub.HeapMiB, "pubsub-heap", 0, "most memory of the Pub/Sub emulator's heap, in MiB; 0 for 1024")
	flags.IntVar(&firestore.HeapMiB, "firestore-heap", 0, "most memory of the Firestore emulator's heap, in MiB; 0 for 1024")
	flags.StringVar(&firestore.Rules, "rules", "", "Firestore rules file; without one everything is allowed")
	switch err := flags.Parse(arguments); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintln(stderr, "emulators takes flags alone, not", flags.Args())
		return 2
	}
	if err := run(ctx, pubSub, firestore, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "emulators:", err)
		return 1
	}
	return 0
}

// run starts both, says where they are, and stops both when ctx or one of them ends.
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
			return nil // stopped while it started
		}
		return fmt.Errorf("start: %w", err)
	}
	fmt.Fprintf(stdout, "export PUBSUB_EMULATOR_HOST=%s\nexport FIRESTORE_EMULATOR_HOST=%s\n", messages.Host, documents.Host)
	fmt.Fprintln(stderr, "Ctrl-C stops them.")
	select {
	case <-ctx.Done():
		return nil
	case <-messages.Done():
		return fmt.Errorf("the Pub/Sub emulator has ended: %w\n%s", messages.Err(), messages.Output())
	case <-documents.Done():
		return fmt.Errorf("the Firestore emulator has ended: %w\n%s", documents.Err(), documents.Output())
	}
}
