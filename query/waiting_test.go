package query

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// rejectedEntries is a store with some rejected entries.
type rejectedEntries struct {
	mutex   sync.Mutex
	entries int64
	err     error
	reads   int
}

func (r *rejectedEntries) set(entries int64, err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.entries, r.err = entries, err
}

func (r *rejectedEntries) Waiting(context.Context) (int64, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.reads++
	return r.entries, r.err
}

func TestSaysHowManyEntriesWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		reader := &rejectedEntries{entries: 7}
		w, err := newWaiting(reader, nil, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		if err := w.Check(ctx); err == nil || !strings.Contains(err.Error(), "7 entries") || !strings.Contains(log.String(), `"entries":7`) {
			t.Errorf("Check() = %v, log = %s, want 7 entries", err, log.String())
		}
		reader.set(7, errors.New("broken"))
		time.Sleep(waitingEvery)
		synctest.Wait()
		if err := w.Check(ctx); err == nil {
			t.Error("the last count is forgotten when one fails")
		}
		reader.set(0, nil)
		time.Sleep(waitingEvery)
		synctest.Wait()
		if err := w.Check(ctx); err != nil || reader.reads != 3 {
			t.Errorf("Check() = %v after %d reads, want nil after 3", err, reader.reads)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
