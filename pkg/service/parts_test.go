package service_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/accrue/accrue/pkg/service"
)

func TestRunStopsPartsInReverseOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var stopped []string
		part := func(name string) service.Part {
			return service.Part{Name: name, Run: func(ctx context.Context) error {
				<-ctx.Done()
				stopped = append(stopped, name)
				return nil
			}}
		}
		done := make(chan error)
		go func() { done <- service.Run(ctx, part("store"), part("committer"), part("server")) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
		if want := []string{"server", "committer", "store"}; !slices.Equal(stopped, want) {
			t.Errorf("stopped %v, want %v", stopped, want)
		}
	})
}

func TestRunStopsAllWhenOneEnds(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, tc := range map[string]struct{ err, want error }{
		"with an error": {broken, broken},
		"by itself":     {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			waits := service.Part{Name: "waits", Run: func(ctx context.Context) error { <-ctx.Done(); return nil }}
			ends := service.Part{Name: "ends", Run: func(context.Context) error { return tc.err }}
			err := service.Run(t.Context(), waits, ends)
			if err == nil || (tc.want != nil && !errors.Is(err, tc.want)) {
				t.Errorf("Run() = %v, want %v", err, tc.want)
			}
		})
	}
}

func TestRunWithoutPartsWaitsForTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := service.Run(ctx); err != nil {
		t.Errorf("Run() = %v", err)
	}
}

// A part that panics ends the service as one that fails: in order, and with the place in the code.
func TestRunStopsAllPartsWhenOnePanics(t *testing.T) {
	t.Parallel()
	stopped := false
	err := service.Run(t.Context(),
		service.Part{Name: "store", Run: func(ctx context.Context) error {
			<-ctx.Done()
			stopped = true
			return nil
		}},
		service.Part{Name: "server", Run: func(context.Context) error { panic("oh") }},
	)
	if err == nil || !strings.HasPrefix(err.Error(), "server: panic: oh\n\ngoroutine ") || !strings.Contains(err.Error(), "parts_test.go") {
		t.Errorf("Run() = %v", err)
	}
	if !stopped {
		t.Error("the other part was not stopped")
	}
}

// A goroutine that panics stops the others of its part, also when they are stopping already, and the part has its error.
func TestGuardReturnsAPanicAsError(t *testing.T) {
	t.Parallel()
	for name, begun := range map[string]bool{"while it runs": false, "while it stops": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent, cancel := context.WithCancel(t.Context())
			defer cancel()
			ctx, guard := service.NewGuard(parent)
			if begun {
				cancel()
			}
			var working sync.WaitGroup
			working.Go(guard.Of(func() { <-ctx.Done() }))
			working.Go(guard.Of(func() { panic("oh") }))
			working.Wait()
			if err := guard.End(); err == nil || !strings.HasPrefix(err.Error(), "panic: oh\n\ngoroutine ") || !strings.Contains(err.Error(), "parts_test.go") {
				t.Errorf("End() = %v", err)
			}
		})
	}
}

func TestGuardWithoutPanicReturnsNil(t *testing.T) {
	t.Parallel()
	ctx, guard := service.NewGuard(t.Context())
	guard.Of(func() {})()
	if err := guard.End(); err != nil || ctx.Err() == nil {
		t.Errorf("End() = %v, the context's error is %v", err, ctx.Err())
	}
}
