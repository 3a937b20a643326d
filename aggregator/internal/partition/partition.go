package partition

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/accrue/accrue/aggregator/internal/delivery"
	"github.com/accrue/accrue/aggregator/internal/idempotency"
	"github.com/accrue/accrue/pkg/store"
)

const (
	// commitTimeout bounds one call to the store; its outcome is unknown after that.
	commitTimeout = 10 * time.Second
	// maxMessages and maxEntries bound one Commit, and a window: one that is full ends early, and a backlog is committed
	// in Commits of this size, one after the other.
	maxMessages = 10_000
	maxEntries  = 100_000
	// windowsPerBuffer is how many windows fill the buffer: a larger one ends early.
	windowsPerBuffer = 16
	// lagAfter is how long others must commit, and then go on, until a partition that settles nothing meanwhile lags.
	lagAfter = time.Second
	// minPause and maxPause bound for how long the messages of a partition that lags are released: half the time for which
	// it has lagged.
	minPause, maxPause = 2 * time.Second, 2 * time.Minute
)

// trigger says what ended a window.
type trigger string

const (
	byAge   trigger = "age"
	bySize  trigger = "size"
	byDrain trigger = "drain"
	// byTagDocuments is the trigger of a Commit that ends no window, but writes what documents of tags lack.
	byTagDocuments trigger = "tag_documents"
)

// partition counts the messages of one partition, in a goroutine of its own. While one window is committed the next fills.
type partition struct {
	*shared
	no   uint32        // the partition's number
	wake chan struct{} // holds a token when something has changed for run

	mu         sync.Mutex
	open       openWindow // the window that fills
	flushed    bool       // the open window ends now
	held       int64      // the cost of open and pending
	failedLast bool       // the last attempt failed
	oldest     time.Time  // the least time of acceptance in pending; zero if that is empty
	progress   time.Time  // when something of pending was last settled, or it began; zero if that is empty
	// suspected is when others were first seen to commit while this partition did not, and lagged when it began to lag.
	// Both are zero after an attempt that went through soon.
	suspected, lagged time.Time
	contents          contents
	owing             owing

	// The rest belongs to run.

	pending []*delivery.Delivery // the window that is committed, less what is settled
	why     trigger
	dueAt   time.Time
	most    int // messages of one Commit: fewer after a Commit that timed out or was refused

	state  store.State
	size   int // of the totals, as TotalsSize has it
	owed   int // of what the documents of tags lack, as OwedSize has it
	room   int // for the totals
	loaded bool
	clock  clock
	index  *idempotency.Index
	// elsewhere has the keys of other partitions, where an entry may have been settled by another number of partitions.
	elsewhere map[uint32]*idempotency.Index
	layouts   layouts
	released  bool // the keys of version 0.1 are in index
	// refused are the documents of pending that the store refuses, with its reason.
	refused map[document]string
	// payPause makes the pauses after payments that failed.
	payPause *backoff.ExponentialBackOff
}

// openWindow is messages that wait for their Commit.
type openWindow struct {
	deliveries []*delivery.Delivery
	entries    int
	bytes      int64
	openedAt   time.Time
	oldest     time.Time
}

func newPartition(s *shared, number uint32) *partition {
	return &partition{
		shared: s, no: number, wake: make(chan struct{}, 1), most: maxMessages, index: idempotency.New(number, s.settings.Horizon, s.keys),
		elsewhere: make(map[uint32]*idempotency.Index), payPause: newBackOff(),
	}
}

// clock is the store's: the time of its last answer, and the monotonic time since.
type clock struct{ answered, at time.Time }

func clockAt(answered time.Time) clock { return clock{answered, time.Now()} }

func (c clock) now() time.Time { return c.answered.Add(time.Since(c.at)) }

// add puts deliveries into the open window, and returns how many it took: all, unless the partition lags and holds its
// share.
func (p *partition) add(deliveries []*delivery.Delivery) (taken int) {
	p.mu.Lock()
	lags, share := p.lags(), p.share()
	for _, d := range deliveries {
		if lags && p.held > 0 && p.held+d.Cost > share {
			break
		}
		taken++
		p.held += d.Cost
		if len(p.open.deliveries) == 0 {
			p.open.openedAt, p.open.oldest = time.Now(), d.Batch.AcceptedAt
		} else if d.Batch.AcceptedAt.Before(p.open.oldest) {
			p.open.oldest = d.Batch.AcceptedAt
		}
		p.open.deliveries = append(p.open.deliveries, d)
		p.open.entries += d.Batch.Entries()
		p.open.bytes += d.Cost
	}
	p.mu.Unlock()
	p.wakeUp()
	return taken
}

func (p *partition) flush() {
	p.mu.Lock()
	p.flushed = true
	p.mu.Unlock()
	p.wakeUp()
}

func (p *partition) wakeUp() {
	select {
	case p.wake <- struct{}{}:
	default: // a token is there already
	}
}

// run commits windows until drain is closed and nothing is left, or ctx ends.
func (p *partition) run(ctx context.Context, drain <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		left, full, empty := p.due()
		payIn, owes := p.payIn()
		why := byAge
		switch {
		case full:
			why = bySize
		case !empty && left <= 0:
		case owes && payIn <= 0:
			p.pay(ctx)
			continue
		default:
			var timed <-chan time.Time
			if owes && (empty || payIn < left) {
				left, empty = payIn, false
			}
			if !empty {
				timer.Reset(left)
				timed = timer.C
			}
			select {
			case <-p.wake:
				continue
			case <-timed:
				continue
			case <-drain:
				if p.isEmpty() {
					return
				}
				why = byDrain
			case <-ctx.Done():
				return
			}
		}
		p.detach(why)
		p.settle(ctx)
		if payIn, owes := p.payIn(); owes && payIn <= 0 { // also while every window is full
			p.pay(ctx)
		}
	}
}

// isEmpty reports whether the open window is empty.
func (p *partition) isEmpty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open.deliveries) == 0
}

// due returns how long the open window still has, and whether it is full or empty.
func (p *partition) due() (left time.Duration, full, empty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &p.open
	if len(w.deliveries) == 0 {
		p.flushed = false
		return 0, false, true
	}
	full = p.flushed || p.windowFull(len(w.deliveries), w.entries, w.bytes)
	return time.Until(w.openedAt.Add(p.settings.Window)), full, false
}

// detach makes the open window the pending one, or as much of it as the bounds of a window allow. Its messages are sorted,
// so that the sequences of a publisher follow each other: then intervals stay few, and deliveries of one message are
// neighbours.
func (p *partition) detach(why trigger) {
	p.mu.Lock()
	w := &p.open
	n, entries, size := 0, 0, int64(0)
	for n < len(w.deliveries) && !p.windowFull(n, entries, size) {
		entries += w.deliveries[n].Batch.Entries()
		size += w.deliveries[n].Cost
		n++
	}
	p.pending, p.why, p.dueAt, p.refused = w.deliveries[:n:n], why, time.Now(), nil
	if end := w.openedAt.Add(p.settings.Window); end.Before(p.dueAt) {
		p.dueAt = end
	}
	p.oldest, p.progress = w.oldest, time.Now()
	if n < len(w.deliveries) {
		w.deliveries, w.entries, w.bytes = w.deliveries[n:], w.entries-entries, w.bytes-size
	} else {
		p.open, p.flushed = openWindow{}, false
	}
	p.mu.Unlock()
	slices.SortStableFunc(p.pending, func(a, b *delivery.Delivery) int {
		return cmp.Or(bytes.Compare(a.Batch.Publisher[:], b.Batch.Publisher[:]), cmp.Compare(a.Batch.Sequence, b.Batch.Sequence))
	})
}

// windowFull reports whether messages are as many as a window takes.
func (p *partition) windowFull(messages, entries int, size int64) bool {
	return messages >= maxMessages || entries >= maxEntries || size >= p.settings.BufferBytes/windowsPerBuffer
}

// settle commits the pending messages. It tries until each is settled or released, or ctx ends.
func (p *partition) settle(ctx context.Context) {
	pause := newBackOff()
	for len(p.pending) > 0 && ctx.Err() == nil {
		recovered := p.commits.recovery()
		err := p.step(ctx)
		switch {
		case err == nil:
			p.succeeded()
			pause.Reset()
			continue
		case errors.Is(err, store.ErrConflict): // another aggregator's Commit came first, or our own whose reply was lost
		default:
			p.fail()
		}
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-timer.C:
		case <-recovered:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// succeeded notes that the last attempt went through.
func (p *partition) succeeded() {
	p.commits.committed()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failedLast {
		p.failedLast = false
		p.failing.Add(-1)
	}
	if time.Since(p.progress) < 2*lagAfter { // a partition that is slow goes on lagging
		if !p.lagged.IsZero() {
			p.lagging.Add(-1)
		}
		p.suspected, p.lagged = time.Time{}, time.Time{}
	}
	p.progress = time.Now()
	if len(p.pending) == 0 {
		p.oldest, p.progress = time.Time{}, time.Time{}
	}
}

// fail notes that the last attempt failed.
func (p *partition) fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.failedLast {
		p.failedLast = true
		p.failing.Add(1)
	}
}

// lags reports whether the partition settles nothing while others do, whatever the reason. When no partition does, none
// lags: what they hold keeps its leases, and is committed as soon as that is possible. The caller holds mu.
func (p *partition) lags() bool {
	if !p.lagged.IsZero() {
		return true
	}
	if p.progress.IsZero() || p.commits.lastCommit().Before(p.progress.Add(lagAfter)) {
		return false
	}
	now := time.Now()
	if p.suspected.IsZero() {
		p.suspected = now
	}
	if now.Sub(p.suspected) < lagAfter {
		return false
	}
	p.lagged = now
	p.lagging.Add(1)
	return true
}

// yield releases what the open window holds beyond the partition's share, if the partition lags.
func (p *partition) yield() {
	p.mu.Lock()
	var over []*delivery.Delivery
	if p.lags() {
		over = p.shed(p.share())
	}
	p.mu.Unlock()
	if len(over) > 0 {
		p.release(over, p.pause())
	}
}

// makeRoom releases a part of what the partition holds, of its open window.
func (p *partition) makeRoom(part int64) {
	p.mu.Lock()
	over := p.shed(p.held - p.held/part)
	p.mu.Unlock()
	if len(over) > 0 {
		p.release(over, minPause)
	}
}

// shed takes the last deliveries off the open window, while the partition holds more than a limit. The caller holds mu.
func (p *partition) shed(limit int64) (over []*delivery.Delivery) {
	w := &p.open
	n := len(w.deliveries)
	for ; n > 0 && p.held > limit; n-- {
		d := w.deliveries[n-1]
		p.held -= d.Cost
		w.entries -= d.Batch.Entries()
		w.bytes -= d.Cost
		over = append(over, d)
	}
	clear(w.deliveries[n:])
	w.deliveries = w.deliveries[:n]
	return over
}

// pause is for how long messages are released: the longer, the longer the partition lags.
func (p *partition) pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lagged.IsZero() {
		return minPause
	}
	return min(max(time.Since(p.lagged)/2, minPause), maxPause)
}

// forget takes deliveries that are settled or released off what is held.
func (p *partition) forget(deliveries []*delivery.Delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range deliveries {
		p.held -= d.Cost
	}
}

// newBackOff makes the pauses between attempts: growing to a few seconds, and jittered, so that two aggregators that
// conflict do not stay in step.
func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 20 * time.Millisecond
	b.MaxInterval = 3 * time.Second
	b.Multiplier = 2
	b.RandomizationFactor = 0.5
	b.Reset()
	return b
}
