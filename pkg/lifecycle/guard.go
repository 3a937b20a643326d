package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// errPanic is the case of a part, or of a goroutine of it, that panicked.
var errPanic = errors.New("panic")

// recovered makes the error of a panic, with its stack, from a deferred function that recovered cause.
func recovered(cause any) error { return fmt.Errorf("%w: %v\n\n%s", errPanic, cause, debug.Stack()) }

// Guard keeps a panic in one of a part's goroutines from ending the process at once, in Go's own many lines: the part
// ends instead, with the panic as its error, as if it had happened in Run itself. Its methods may be called at the same
// time.
type Guard struct {
	stop context.CancelFunc
	mu   sync.Mutex
	err  error
}

// NewGuard returns a Guard and a context that ends when ctx does or with the first panic: the part stops then as it does
// when it is told to, and returns what End returns.
func NewGuard(ctx context.Context) (context.Context, *Guard) {
	ctx, stop := context.WithCancel(ctx)
	return ctx, &Guard{stop: stop}
}

// Of returns a function for a goroutine: it does what f does, and survives its panic.
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

// End ends the context, and returns the first panic as an error with its stack, or nil if there was none. It is called
// when all goroutines have ended.
func (g *Guard) End() error {
	g.stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}
