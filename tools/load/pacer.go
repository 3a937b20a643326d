package load

import (
	"context"
	"sync/atomic"
	"time"
)

// pacer spreads increments evenly over time. The latency of a post is measured from when it was due, not from when a
// connection was free for it: otherwise a pause of the server for a second would show in one post a connection only, and
// not in all those that were due in that second.
type pacer struct {
	start time.Time
	rate  float64 // increments a second; 0 for no limit
	given atomic.Int64
}

// wait returns when n increments are due, with the time at which they were. It returns early when ctx ends.
func (p *pacer) wait(ctx context.Context, n int) time.Time {
	if p.rate == 0 {
		return time.Now()
	}
	before := p.given.Add(int64(n)) - int64(n)
	due := p.start.Add(time.Duration(float64(before) / p.rate * float64(time.Second)))
	if wait := time.Until(due); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return due
}
