package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/accrue/accrue/tools/load"
)

const (
	// singlesRate is the rate of single posts at which the memory of ingest is measured.
	singlesRate = 20_000
	// batchesRate is the rate of increments in batches at which the memory of the aggregator is measured.
	batchesRate = 500_000
)

// measureMemory measures the most memory of ingest and of the aggregator under load.
func (b *bench) measureMemory(ctx context.Context) error {
	return b.with(ctx, func(s *system) error {
		shape := load.Shape{Connections: b.connections, Batch: 1, Rate: singlesRate, Duration: 2 * b.each}
		b.say("memory of ingest: %v of up to %d single posts/s", shape.Duration, singlesRate)
		measured, err := b.post(ctx, s, shape)
		if err != nil {
			return err
		}
		if err := b.addResident("ingest_resident_bytes", fmt.Sprintf("most resident memory of ingest at %.0f single posts/s",
			perSecondOf(measured.Accepted, measured.Elapsed)), s.ingest); err != nil {
			return err
		}
		shape.Batch, shape.Rate = b.batch, batchesRate
		b.say("memory of the aggregator: %v of up to %d increments/s", shape.Duration, batchesRate)
		if measured, err = b.post(ctx, s, shape); err != nil {
			return err
		}
		return b.addResident("aggregator_resident_bytes", fmt.Sprintf("most resident memory of the aggregator at %.0f increments/s in batches of %d",
			perSecondOf(measured.Accepted, measured.Elapsed), b.batch), s.aggregator)
	})
}

// addResident adds the most memory of a process. Elsewhere than on Linux it is left out.
func (b *bench) addResident(key, what string, p *process) error {
	resident, err := p.resident()
	if errors.Is(err, errNoProc) {
		b.say("%s is left out: %v", key, err)
		return nil
	}
	if err != nil {
		return err
	}
	b.add(key, bytes, what, resident)
	return nil
}
