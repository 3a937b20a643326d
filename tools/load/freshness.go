package load

import (
	"context"
	"slices"
	"sync"
	"time"
)

// freshness measures the time from a 202 until the increment is in /stats. Probes are increments of 1 of a tag that nothing
// else uses, posted beside the load, one after the other. The n-th probe is visible when the tag's total has grown by n.
// Totals are polled, so a time is at most one poll too long.
//
// A probe with an unknown outcome would make all later ones wrong by one, so after it another tag is used.
type freshness struct {
	ledger *ledger
	before func(tag string) int64 // the total of a tag before the run

	mu      sync.Mutex
	tag     *tally
	tags    int
	sent    int64       // probes of tag that were accepted
	waiting []time.Time // when those that are not visible yet were accepted, oldest first
	seen    histogram
}

func newFreshness(l *ledger, before func(string) int64) *freshness {
	f := &freshness{ledger: l, before: before}
	f.nextTag()
	return f
}

// nextTag switches to a new tag, and reports whether there was one left.
func (f *freshness) nextTag() bool {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	if f.tags == len(letters) {
		return false
	}
	f.tag, f.sent, f.waiting = f.ledger.tag([]byte("load_probe_"+letters[f.tags:f.tags+1])), 0, nil
	f.tags++
	return true
}

// probe posts probes until ctx ends, one in every interval or as soon as the one before was answered.
func (f *freshness) probe(ctx context.Context, p *poster, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		var b batch
		if err := b.fill(f, 1); err != nil {
			return err
		}
		if err := p.post(ctx, &b, time.Now()); err != nil {
			return err
		}
		if !f.posted(time.Now()) {
			return nil
		}
	}
}

// next returns a probe: freshness is a source.
func (f *freshness) next() (entry, error) { return entry{tally: f.tag, value: 1}, nil }

func (*freshness) progress() (float64, bool) { return 0, false }

// posted records the last probe, and reports whether another can be posted.
func (f *freshness) posted(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tag.accepted.Load() == f.sent+1 {
		f.sent++
		f.waiting = append(f.waiting, now)
	}
	if f.tag.unknown.Load() > 0 {
		return f.nextTag()
	}
	return true
}

// look records the probes that are visible in the totals read at the time now.
func (f *freshness) look(s *statsReader, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	visible := s.total(f.tag.name) - f.before(f.tag.name) - (f.sent - int64(len(f.waiting)))
	n := max(0, min(int(visible), len(f.waiting)))
	for _, at := range f.waiting[:n] {
		f.seen.record(now.Sub(at))
	}
	f.waiting = slices.Delete(f.waiting, 0, n)
}
