package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/accrue/accrue/rivals/postgres"
	"github.com/accrue/accrue/rivals/process"
	"github.com/accrue/accrue/rivals/servetest"
)

// connect returns a counter that runs as soon as the server answers, and what ends it.
func connect(t *testing.T, folder string) (*postgres.Counter, func()) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); ; <-tick.C {
		c, err := postgres.New(t.Context(), folder)
		if err == nil {
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.Run(ctx)
			}()
			return c, func() {
				cancel()
				<-done
				c.Close()
			}
		}
		if time.Since(start) > time.Minute {
			t.Fatal(err)
		}
	}
}

func TestCountsOnceAndKeepsTotalsThroughAKill(t *testing.T) {
	t.Parallel()
	if _, err := process.Find("postgres"); errors.Is(err, process.ErrNotFound) {
		t.Skip("PostgreSQL is not installed")
	}
	folder := servetest.Folder(t)
	server, err := postgres.Start(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	c, end := connect(t, folder)
	servetest.Counts(t, c, true)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	end()
	if server, err = postgres.Start(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	c, end = connect(t, folder)
	servetest.Has(t, c, true)
	end()
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
}
