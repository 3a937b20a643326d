package bench

import (
	"context"
	"fmt"

	"github.com/accrue/accrue/tools/load"
)

// steady is the load that freshness and writes are measured with: 10,000 increments a second over 100 tags.
func steady() load.Shape { return load.Shape{Connections: 32, Batch: 20, Rate: 10_000, Tags: 100} }

// measureFreshness measures freshness with two windows, and the increments of a write with the first.
func (b *bench) measureFreshness(ctx context.Context) error {
	for _, of := range []struct {
		window   string
		settings []string
		what     string
		writes   bool
	}{
		{"1s", []string{"WINDOW=1s", "REFRESH=500ms", "PARTITIONS=16"}, "WINDOW=1s", true},
		{"200ms", []string{"WINDOW=200ms", "REFRESH=100ms", "PARTITIONS=16"}, "WINDOW=200ms, REFRESH=100ms, PARTITIONS=16", false},
	} {
		if err := b.with(ctx, func(s *system) error {
			shape := steady()
			b.say("freshness with %s: %d probes at %.0f increments/s", of.what, b.probes, shape.Rate)
			shape.Duration = b.each
			if _, err := b.post(ctx, s, shape); err != nil { // to warm up
				return err
			}
			shape.Ingest = s.ingest.url
			fresh, err := load.Freshness(ctx, shape, s.query.url, b.probes)
			if err != nil {
				return err
			}
			what := fmt.Sprintf("freshness, 202 to visible in /stats, %s, %d probes at %.0f increments/s over %d tags, posted in batches of %d, ",
				of.what, b.probes, fresh.Rate, shape.Tags, shape.Batch)
			b.add("freshness_"+of.window+"_p50_seconds", seconds, what+"p50", fresh.P50.Seconds())
			b.add("freshness_"+of.window+"_p99_seconds", seconds, what+"p99", fresh.P99.Seconds())
			if of.writes {
				return b.perWrite(ctx, s)
			}
			return nil
		}, of.settings...); err != nil {
			return err
		}
	}
	return nil
}

// perWrite measures the increments of a write with an aggregator that has counted nothing else. It ends the system.
func (b *bench) perWrite(ctx context.Context, s *system) error {
	shape := steady()
	shape.Duration = 2 * b.each
	b.say("increments per write: %v at %.0f increments/s", shape.Duration, shape.Rate)
	if err := s.restart(ctx, "aggregator", &s.aggregator); err != nil {
		return err
	}
	measured, err := b.post(ctx, s, shape)
	if err != nil {
		return err
	}
	if err := s.stop(); err != nil {
		return err
	}
	c := s.aggregator.counted
	if c.Increments < measured.Accepted {
		return fmt.Errorf("the aggregator counted %d increments of %d", c.Increments, measured.Accepted)
	}
	b.add("increments_per_write", ratio, fmt.Sprintf("increments per Firestore write at %.0f increments/s over %d tags, WINDOW=1s (%d increments, %d writes)",
		perSecondOf(measured.Accepted, measured.Elapsed), shape.Tags, c.Increments, c.writes()), c.perWrite())
	return nil
}
