package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/accrue/accrue/tools/load"
)

// warmUps is the number of rounds before those that count, after the warm-up of the emulators.
const warmUps = 1

// turn is one shape of posts, and what each round measured of it.
type turn struct {
	to    *process
	shape load.Shape
	// counts is false for the baseline.
	counts bool

	rates   []float64 // posted, in increments a second
	counted []float64 // the same until the last of them is in /stats
	slowest []float64 // p99 of a post, in seconds
	cpu     []float64 // of the process, in seconds for each increment; empty elsewhere than on Linux
}

// measureRates measures ingest and its baseline in turns, and then freshness with single posts.
func (b *bench) measureRates(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the baseline: %w", err)
	}
	var c counted
	if err := b.with(ctx, func(s *system) error {
		baseline, err := launch(self, []string{"bench", "baseline", "--port", "0"}, nil)
		if err != nil {
			return err
		}
		if err := errors.Join(b.takeTurns(ctx, s, baseline), baseline.stop()); err != nil {
			return err
		}
		if err := b.singlesFreshness(ctx, s); err != nil {
			return err
		}
		err = s.stop()
		c = s.aggregator.counted
		return err
	}); err != nil {
		return err
	}
	b.add("increments_per_write_rates", ratio, fmt.Sprintf("increments per Firestore write, over these rounds (%d increments, %d writes)",
		c.Increments, c.writes()), c.perWrite())
	return nil
}

// takeTurns measures the four turns in rounds.
func (b *bench) takeTurns(ctx context.Context, s *system, baseline *process) error {
	empty := &turn{to: baseline, shape: load.Shape{Batch: 1}}
	single := &turn{to: s.ingest, shape: load.Shape{Batch: 1}, counts: true}
	batch := &turn{to: s.ingest, shape: load.Shape{Batch: b.batch}, counts: true}
	keyed := &turn{to: s.ingest, shape: load.Shape{Batch: b.batch, Keys: true}, counts: true}
	b.say("rates: %d rounds of four turns of %v, after %d to warm up", b.rounds, b.each, warmUps)
	for round := -warmUps; round < b.rounds; round++ {
		for _, t := range []*turn{empty, single, batch, keyed} {
			if err := b.take(ctx, t, s, round >= 0); err != nil {
				return err
			}
		}
		if round >= 0 {
			b.say("round %d of %d: baseline %.0f/s, ingest %.0f/s, batches %.0f increments/s, with keys %.0f", round+1, b.rounds,
				empty.rates[round], single.rates[round], batch.rates[round], keyed.rates[round])
		}
	}
	b.add("baseline_posts_per_second", perSecond, "baseline: decode, validate, answer 202; posts/s", empty.rates...)
	b.add("ingest_singles_per_second", perSecond, "ingest: single increments/s", single.rates...)
	b.add("ingest_rate_ratio", ratio, "ingest / baseline", ratios(single.rates, empty.rates)...)
	if len(single.cpu) > 0 {
		b.add("ingest_cpu_ratio", ratio, "CPU seconds of a single post: ingest / baseline, each its own process", ratios(single.cpu, empty.cpu)...)
	}
	b.add("single_post_p99_seconds", seconds, "single post, p99", single.slowest...)
	b.add("ingest_batches_per_second", perSecond, fmt.Sprintf("ingest: increments/s in batches of %d", b.batch), batch.rates...)
	b.add("ingest_keyed_batches_per_second", perSecond, fmt.Sprintf("ingest: increments/s in batches of %d, with an idempotency key a batch", b.batch), keyed.rates...)
	b.add("ingest_keyed_ratio", ratio, "ingest: batches with keys / without", ratios(keyed.rates, batch.rates)...)
	b.add("increments_counted_per_second", perSecond, fmt.Sprintf("counted, until the last is in `/stats`: increments/s in batches of %d", b.batch), batch.counted...)
	b.add("keyed_increments_counted_per_second", perSecond, fmt.Sprintf("counted, until the last is in `/stats`: increments/s in batches of %d, with an idempotency key a batch", b.batch), keyed.counted...)
	b.add("counted_keyed_ratio", ratio, "counted: batches with keys / without", ratios(keyed.counted, batch.counted)...)
	return nil
}

// take takes a turn. The next begins when everything is counted.
func (b *bench) take(ctx context.Context, t *turn, s *system, keep bool) error {
	shape := t.shape
	shape.Ingest, shape.Connections, shape.Duration = t.to.url, b.connections, b.each
	before, noCPU := t.to.cpu()
	start := time.Now()
	measured, err := load.Measure(ctx, shape)
	if err != nil {
		return err
	}
	after, err := t.to.cpu()
	noCPU = errors.Join(noCPU, err)
	if t.counts {
		if err := load.Settle(ctx, s.query.url, still, settleLimit); err != nil {
			return err
		}
	}
	if !keep {
		return nil
	}
	t.rates = append(t.rates, perSecondOf(measured.Accepted, measured.Elapsed))
	t.counted = append(t.counted, perSecondOf(measured.Accepted, time.Since(start)-still))
	t.slowest = append(t.slowest, measured.P99.Seconds())
	switch {
	case noCPU == nil:
		t.cpu = append(t.cpu, (after-before).Seconds()/float64(measured.Accepted))
	case !errors.Is(noCPU, errNoProc):
		return noCPU
	}
	return nil
}

// background is the load of single posts under which freshness is measured, in posts a second.
const background = 2000

func (b *bench) singlesFreshness(ctx context.Context, s *system) error {
	b.say("freshness at %d single posts/s: %d probes", background, b.probes)
	fresh, err := load.Freshness(ctx, load.Shape{Ingest: s.ingest.url, Connections: 64, Batch: 1, Rate: background}, s.query.url, b.probes)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("freshness, 202 to visible in /stats, %d probes at %.0f single posts/s, ", b.probes, fresh.Rate)
	b.add("freshness_singles_p50_seconds", seconds, what+"p50", fresh.P50.Seconds())
	b.add("freshness_singles_p99_seconds", seconds, what+"p99", fresh.P99.Seconds())
	return nil
}
