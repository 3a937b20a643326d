// Command baseline serves ingest's API without what it is for: it routes, decodes, validates and answers 202, and keeps
// nothing. tools/bench measures the real ingest against it, in the same run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/service"
)

func main() {
	port := flag.Int("port", 8080, "port to serve; 0 takes a free one")
	flag.Parse()
	if err := run(*port); err != nil {
		fmt.Fprintln(os.Stderr, "baseline:", err)
		os.Exit(1)
	}
}

func run(port int) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := logging.New(os.Stderr, "baseline", nil)
	server, err := service.NewServer(port, ingest.Baseline(log), time.Second, log)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return server.Run(ctx)
}
