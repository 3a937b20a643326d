// Command rivals compares Accrue with what would be picked in its place: see docs/benchmarks.md.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/rivals/compare"
	"github.com/accrue/accrue/rivals/firestore"
	"github.com/accrue/accrue/rivals/nats"
	"github.com/accrue/accrue/rivals/postgres"
	"github.com/accrue/accrue/rivals/redis"
	"github.com/accrue/accrue/rivals/serve"
	"github.com/accrue/accrue/tools/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	command := compare.Command()
	command.AddCommand(serveCommand())
	os.Exit(cli.Execute(ctx, command, os.Args[1:], os.Stdout, os.Stderr))
}

// waitFor is how long the no-op that waits collects posts: about as long as a post waits for a group of Accrue's.
const waitFor = 4 * time.Millisecond

// serveCommand returns the command rivals serve, which serves one rival.
func serveCommand() *cobra.Command {
	var address string
	var o options
	command := &cobra.Command{
		Use: "serve nothing|waiting|redis|postgres|nats|firestore", Short: "Serve one rival", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, arguments []string) error {
			counter, end, err := open(c.Context(), arguments[0], o)
			if err != nil {
				return err
			}
			defer end()
			return serve.Run(c.Context(), address, counter, logging.New(c.ErrOrStderr(), arguments[0], nil))
		},
	}
	flags := command.Flags()
	flags.StringVar(&address, "address", "127.0.0.1:8080", "address to listen on")
	flags.StringVar(&o.store, "store", "", "address of redis-server or of Firestore's emulator, folder of PostgreSQL's socket, or folder of NATS")
	flags.BoolVar(&o.keys, "keys", false, "count posts with the same key once")
	flags.BoolVar(&o.sync, "sync", false, "fsync each message of NATS")
	flags.IntVar(&o.shards, "shards", 1, "documents of each tag in Firestore")
	return command
}

// options configures a rival.
type options struct {
	store      string
	keys, sync bool
	shards     int
}

// open returns a rival and what ends it. It waits until the store answers.
func open(ctx context.Context, rival string, o options) (serve.Counter, func(), error) {
	switch rival {
	case "nothing":
		return serve.Nothing{}, func() {}, nil
	case "waiting":
		return serve.NewWaiting(waitFor), func() {}, nil
	case "redis":
		c, err := retry(ctx, func() (*redis.Counter, error) { return redis.New(o.store, o.keys) })
		if err != nil {
			return nil, nil, err
		}
		return c, c.Close, nil
	case "postgres":
		c, err := retry(ctx, func() (*postgres.Counter, error) { return postgres.New(ctx, o.store) })
		if err != nil {
			return nil, nil, err
		}
		running, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Run(running)
		}()
		return c, func() {
			stop()
			<-done
			c.Close()
		}, nil
	case "nats":
		c, err := nats.New(ctx, nats.Options{Folder: o.store, Sync: o.sync, Exact: o.keys})
		if err != nil {
			return nil, nil, err
		}
		return c, c.Close, nil
	case "firestore":
		project := "rivals-" + strconv.Itoa(o.shards)
		c, err := firestore.New(ctx, firestore.Options{Host: o.store, Project: project, Shards: o.shards})
		if err != nil {
			return nil, nil, err
		}
		return c, func() { _ = c.Close() }, nil // the process ends
	default:
		return nil, nil, cli.Usagef("unknown rival %q", rival)
	}
}

// retry connects until a store that is starting answers, or a minute is over.
func retry[T any](ctx context.Context, connect func() (T, error)) (T, error) {
	const limit, pause = time.Minute, 50 * time.Millisecond
	for start := time.Now(); ; {
		c, err := connect()
		if err == nil {
			return c, nil
		}
		if time.Since(start) > limit {
			return c, fmt.Errorf("no answer: %w", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return c, ctx.Err()
		}
	}
}
