package serve

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPostsOfAnIntervalAreAnsweredTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, began := NewWaiting(4*time.Millisecond), time.Now()
		var posts sync.WaitGroup
		for i := range 8 {
			posts.Go(func() {
				time.Sleep(time.Duration(i)*time.Millisecond + time.Duration(i)*time.Microsecond)
				if err := w.Add(t.Context(), nil); err != nil {
					t.Error(err)
				}
				// The first interval begins with the first post and ends at 4 ms, the next with the first after that.
				want := 4 * time.Millisecond
				if i >= 4 {
					want = 8*time.Millisecond + 4*time.Microsecond
				}
				if took := time.Since(began); took != want {
					t.Errorf("post %d is answered after %v, want %v", i, took, want)
				}
			})
		}
		posts.Wait()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Add(ended, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("Add() = %v, want canceled", err)
		}
		time.Sleep(time.Second)
	})
}
