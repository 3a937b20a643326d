package service_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/service"
)

// timedLines keeps what is written, and when.
type timedLines struct {
	begun time.Time
	lines []string
	times []time.Duration
}

func (l *timedLines) Write(b []byte) (int, error) {
	l.lines = append(l.lines, string(b))
	l.times = append(l.times, time.Since(l.begun))
	return len(b), nil
}

func TestEmulatorIsPreparedAndSilenceIsLogged(t *testing.T) {
	t.Parallel()
	refused := errors.New("connection refused")
	for name, tc := range map[string]struct {
		address string
		// answersAfter is when the emulator begins to answer; until then attempts fail, or hang until their deadline.
		answersAfter time.Duration
		hangs        bool
		prepared     bool
		want         []string
	}{
		"no emulator":                  {"", 0, false, false, nil},
		"one that answers at once":     {"localhost:8085", 0, false, true, nil},
		"one that answers soon":        {"localhost:8085", 1900 * time.Millisecond, false, true, nil},
		"one that refuses connections": {"localhost:8085", time.Minute, false, true, []string{"does not answer", "answers now"}},
		"one that hangs":               {"localhost:8085", time.Minute, true, true, []string{"does not answer", "answers now"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				log := &timedLines{begun: begun}
				prepared := false
				part := service.Emulator(zerolog.New(log), "PUBSUB_EMULATOR_HOST", tc.address, func(ctx context.Context) error {
					switch {
					case time.Since(begun) >= tc.answersAfter:
						prepared = true
						return nil
					case tc.hangs:
						<-ctx.Done()
						return ctx.Err()
					default:
						return refused
					}
				})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- part.Run(ctx) }()
				time.Sleep(2 * time.Minute)
				cancel()
				if err := <-done; err != nil || prepared != tc.prepared {
					t.Errorf("Run() = %v, prepared %v, want %v", err, prepared, tc.prepared)
				}
				if len(log.lines) != len(tc.want) {
					t.Fatalf("the log is %q, want %q", log.lines, tc.want)
				}
				for i, want := range tc.want {
					if line := log.lines[i]; !strings.Contains(line, want) || !strings.Contains(line, `"variable":"PUBSUB_EMULATOR_HOST","address":"localhost:8085"`) {
						t.Errorf("the log has %q, want %q with the variable and the address", line, want)
					}
				}
				if tc.want != nil && log.times[0] > 2500*time.Millisecond {
					t.Errorf("the first line came after %v, want about 2 s", log.times[0])
				}
			})
		})
	}
}

func TestEmulatorStopsWhileItIsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		part := service.Emulator(zerolog.Nop(), "FIRESTORE_EMULATOR_HOST", "localhost:8081", func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- part.Run(ctx) }()
		time.Sleep(3 * time.Second)
		begun := time.Now()
		cancel()
		if err := <-done; err != nil || time.Since(begun) != 0 {
			t.Errorf("Run() = %v, %v after its end", err, time.Since(begun))
		}
	})
}
