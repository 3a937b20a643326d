package committer

import (
	"errors"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator/internal/idempotency"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/store"
)

// counts is what the committer has done since its start.
type counts struct {
	pulled, decoded                     atomic.Int64
	duplicates, deadLettered            atomic.Int64
	messages, increments, contributions atomic.Int64
	byAge, bySize, byDrain, documents   atomic.Int64
	conflicts, refused, unknown         atomic.Int64
	repeated, reused, late, early       atomic.Int64 // idempotency keys
}

func (c *counts) committed(claim idempotency.Claim, documents int, why trigger) {
	c.messages.Add(int64(len(claim.Batches)))
	c.documents.Add(int64(documents))
	c.repeated.Add(int64(claim.Repeated))
	c.reused.Add(int64(claim.Reused))
	c.late.Add(int64(claim.Late))
	for _, b := range claim.Batches {
		c.increments.Add(int64(len(b.Increments)))
		c.contributions.Add(int64(len(b.Contributions)))
	}
	switch why {
	case byAge:
		c.byAge.Add(1)
	case bySize:
		c.bySize.Add(1)
	case byDrain:
		c.byDrain.Add(1)
	}
}

// forgotten counts the idempotency keys that left memory before their time, and says so the first time.
func (c *counts) forgotten(log zerolog.Logger, early int) {
	if early > 0 && c.early.Add(int64(early)) == int64(early) {
		log.Warn().Int("keys", early).Msg("more idempotency keys than may be held: the oldest are forgotten before the horizon; saying no more")
	}
}

// failed counts a call to the store that failed. A conflict is the protocol at work, the others are told.
func (c *counts) failed(outage *logging.Outage, err error) {
	switch {
	case errors.Is(err, store.ErrConflict):
		c.conflicts.Add(1)
		return
	case errors.Is(err, store.ErrRefused):
		c.refused.Add(1)
	default:
		c.unknown.Add(1)
	}
	outage.Failed(err, nil)
}

// report says what was done, at the end.
func (c *counts) report(log zerolog.Logger) {
	log.Info().
		Int64("pulled", c.pulled.Load()).Int64("duplicates", c.duplicates.Load()).Int64("dead_lettered", c.deadLettered.Load()).
		Int64("messages", c.messages.Load()).Int64("increments", c.increments.Load()).Int64("contributions", c.contributions.Load()).
		Int64("commits_by_age", c.byAge.Load()).Int64("commits_by_size", c.bySize.Load()).Int64("commits_by_drain", c.byDrain.Load()).
		Int64("documents", c.documents.Load()).Int64("conflicts", c.conflicts.Load()).Int64("refused", c.refused.Load()).
		Int64("unknown", c.unknown.Load()).
		Int64("keys_repeated", c.repeated.Load()).Int64("keys_reused", c.reused.Load()).Int64("keys_late", c.late.Load()).
		Msg("drained")
}
