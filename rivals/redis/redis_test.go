package redis_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/accrue/accrue/rivals/process"
	"github.com/accrue/accrue/rivals/redis"
	"github.com/accrue/accrue/rivals/servetest"
)

// connect returns a counter as soon as the server answers.
func connect(t *testing.T, port int, exact bool) *redis.Counter {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); ; <-tick.C {
		c, err := redis.New(redis.Address(port), exact)
		if err == nil {
			t.Cleanup(c.Close)
			return c
		}
		if time.Since(start) > 30*time.Second {
			t.Fatal(err)
		}
	}
}

func TestCountsAndKeepsTotalsThroughAKill(t *testing.T) {
	t.Parallel()
	if _, err := process.Find("redis-server"); errors.Is(err, process.ErrNotFound) {
		t.Skip("redis-server is not installed")
	}
	for name, tc := range map[string]struct {
		fsync string
		exact bool
	}{
		"without keys":        {"everysec", false},
		"with keys":           {"everysec", true},
		"with keys and fsync": {"always", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			port := listener.Addr().(*net.TCPAddr).Port
			if err := listener.Close(); err != nil {
				t.Fatal(err)
			}
			folder := servetest.Folder(t)
			server, err := redis.Start(t.Context(), folder, port, tc.fsync)
			if err != nil {
				t.Fatal(err)
			}
			servetest.Counts(t, connect(t, port, tc.exact), tc.exact)
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
			if server, err = redis.Start(t.Context(), folder, port, tc.fsync); err != nil {
				t.Fatal(err)
			}
			servetest.Has(t, connect(t, port, tc.exact), tc.exact)
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
