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
	rate  float64       // increments a second; 0 for no limit
	day   time.Duration // the length of a day in which the rate is the mean, and changes by the hour; 0 for a steady one
	given atomic.Int64
}

// newPacer returns a pacer that starts now.
func newPacer(c *config) *pacer {
	p := &pacer{start: time.Now(), rate: c.rate}
	if c.shop {
		p.day = c.duration
	}
	return p
}

// after returns when, from the start, the increment after n others is due.
func (p *pacer) after(n int64) time.Duration {
	if p.day > 0 {
		return day(p.day, float64(n)/(p.rate*p.day.Seconds()))
	}
	return time.Duration(float64(n) / p.rate * float64(time.Second))
}

// wait returns when n increments are due, with the time at which they were. It returns early when ctx ends.
func (p *pacer) wait(ctx context.Context, n int) time.Time {
	if p.rate == 0 {
		return time.Now()
	}
	before := p.given.Add(int64(n)) - int64(n)
	due := p.start.Add(p.after(before))
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
