// Command healthcheck asks the service in the same container whether it is ready, and exits with 0 if it is. The image has
// no shell and no curl. The Dockerfile builds this file alone: it imports nothing but the standard library.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	// timeout is longer than a service's own checks take, and shorter than the engine waits.
	timeout = 3 * time.Second
	// maxReason bounds what is shown of an answer.
	maxReason = 4 << 10
)

func main() {
	if err := ready(os.Getenv("PORT")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ready returns nil if the service at a port of this machine, 8080 by default, says that it can do its work.
func ready(port string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	address := "http://" + net.JoinHostPort("127.0.0.1", cmp.Or(port, "8080")) + "/health/ready"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody) //nolint:gosec // of this machine, at a port that the deployer sets
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	request.Close = true
	answer, err := http.DefaultClient.Do(request) //nolint:gosec // the same
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // the process ends
	if answer.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(answer.Body, maxReason)) // as far as it came
		return fmt.Errorf("not ready: %s: %s", answer.Status, reason)
	}
	return nil
}
