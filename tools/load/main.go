// Command load posts increments to a running system and compares its totals with what it posted, to the last unit. It is
// the proof that nothing is lost and nothing is counted twice, and the measure of how fast that goes.
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

	"github.com/accrue/accrue/pkg/service"
)

func main() { os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) }

// command returns the exit code: 0 if all is exact, 1 if it is not or if there is no telling, 2 for a wrong command line.
func command(arguments []string, stdout io.Writer, stderr *os.File) int {
	c, err := parse(arguments, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once

	services := connect(c)
	if c.recognitions > 0 {
		events, closing, err := subscribe(ctx, service.Environment(os.Environ()))
		if err != nil {
			fmt.Fprintln(stderr, "load:", err)
			return 2
		}
		defer closing()
		services.recognitions = events
	}
	r, err := run(ctx, c, services, newProgress(stderr, c.refresh))
	if err != nil {
		fmt.Fprintln(stderr, "load:", err)
		return 1
	}
	if c.json {
		if err := r.printJSON(stdout); err != nil {
			fmt.Fprintln(stderr, "load:", err)
			return 1
		}
	} else {
		r.print(stdout)
	}
	if !r.ok() {
		return 1
	}
	return 0
}
