package service

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// errPanic is wrapped by the error of a part, or of one of its goroutines, that panicked.
var errPanic = errors.New("panic")

// recovered returns the error for a panic with its stack. A deferred function calls it with what it recovered.
func recovered(cause any) error { return fmt.Errorf("%w: %v\n\n%s", errPanic, cause, debug.Stack()) }

// Guard turns a panic in one of a part's goroutines into the part's error, as if Run itself had panicked. Without it, the
// runtime would end the process at once and print every stack. A Guard is safe for concurrent use.
type Guard struct {
	stop context.CancelFunc
	mu   sync.Mutex
	err  error
}

// NewGuard returns a Guard and a context that ends with ctx or at the first panic. The part then stops as usual and
// returns what End returns.
func NewGuard(ctx context.Context) (context.Context, *Guard) {
	ctx, stop := context.WithCancel(ctx)
	return ctx, &Guard{stop: stop}
}

// Of returns a function for a goroutine that calls f and recovers its panic.
func (g *Guard) Of(f func()) func() {
	return func() {
		defer func() {
			if cause := recover(); cause != nil {
				g.mu.Lock()
				if g.err == nil {
					g.err = recovered(cause)
				}
				g.mu.Unlock()
				g.stop()
			}
		}()
		f()
	}
}

// End cancels the context and returns the first panic as an error with its stack, or nil if there was none. Call it when
// all goroutines have returned.
func (g *Guard) End() error {
	g.stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}
