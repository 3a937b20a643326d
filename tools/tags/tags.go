// Package tags removes what people want gone: tags that should not exist, and contributors who want to be forgotten.
package tags

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/tools/documents"
)

const (
	// callTimeout bounds one call to the store.
	callTimeout = 10 * time.Second
	// maxTries bounds the attempts at one Commit, which may conflict with aggregators that work on the same partition.
	maxTries = 20
)

// ledger is the store that tags and contributors are removed from.
type ledger interface {
	Load(ctx context.Context, partition uint32) (store.State, error)
	Commit(ctx context.Context, commit store.Commit) (store.Revision, error)
	Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error)
	DropTag(ctx context.Context, name string) error
	Erase(ctx context.Context, contributor string, audit store.AuditRecord) (store.Standing, error)
}

// retired is what was removed of a tag.
type retired struct {
	Tag        string `json:"tag"`
	Total      int64  `json:"total"`
	Increments int64  `json:"increments"`
}

// retire removes a tag from each checkpoint that has it, and then its document. Each partition's Commit takes its total off the
// document, and writes a record of it, so a tag that is counted meanwhile starts at 0 and keeps what came after. It returns what
// was removed also with an error: run it again for the rest.
func retire(ctx context.Context, s ledger, name string) (retired, error) {
	sum := retired{Tag: name}
	partitions, _, err := s.Totals(ctx)
	if err != nil {
		return sum, fmt.Errorf("read the totals: %w", err)
	}
	for i := range partitions {
		if partitions[i].Err != nil {
			return sum, fmt.Errorf("partition %d: %w", partitions[i].Partition, partitions[i].Err)
		}
		if !has(partitions[i].Totals, name) {
			continue
		}
		removed, err := retireIn(ctx, s, partitions[i].Partition, name)
		if err != nil {
			return sum, fmt.Errorf("partition %d: %w", partitions[i].Partition, err)
		}
		sum.Total += removed.Total
		sum.Increments += removed.Increments
	}
	return sum, s.DropTag(ctx, name)
}

func has(totals []checkpoint.Total, name string) bool {
	c := checkpoint.Checkpoint{Totals: totals}
	return c.Has(name)
}

// errOutcome is the error of a Commit whose outcome is not known, after which the tag is not there.
var errOutcome = errors.New("it is gone, but its total was not learned: the collection audit has it")

// retireIn removes a tag from one partition.
func retireIn(ctx context.Context, s ledger, partition uint32, name string) (checkpoint.Total, error) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 20*time.Millisecond, time.Second
	var tried checkpoint.Total // by a Commit whose outcome is not known
	unknown := uint64(0)       // its number
	return backoff.Retry(ctx, func() (checkpoint.Total, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		state, err := s.Load(ctx, partition)
		if err != nil {
			return checkpoint.Total{}, err
		}
		next := state.Checkpoint.Next(state.ReadAt, documents.KeepPublishers, nil, nil)
		removed, owed, known := next.Remove(name)
		switch {
		case !known && unknown > 0 && state.Checkpoint.Commit == unknown:
			return tried, nil
		case !known && unknown > 0:
			return tried, backoff.Permanent(errOutcome)
		case !known:
			return removed, nil
		}
		record, err := json.Marshal(map[string]any{
			"retired": name, "partition": partition, "total": removed.Total, "increments": removed.Increments, "updated_at": removed.UpdatedAt,
		})
		if err != nil {
			return removed, backoff.Permanent(err)
		}
		_, err = s.Commit(ctx, store.Commit{
			Partition: partition, Revision: state.Revision, Next: next, Closed: state.Checkpoint.Closed(&next),
			// What the document does not have is not taken off it.
			Tags:  []checkpoint.Delta{{Name: name, Value: owed.Value - removed.Total, Increments: owed.Increments - removed.Increments}},
			Audit: &store.AuditRecord{ID: fmt.Sprintf("retired-%s-%d-%d", name, partition, next.Commit), At: next.UpdatedAt, Record: record},
		})
		switch {
		case errors.Is(err, store.ErrRefused):
			return removed, backoff.Permanent(err)
		case err != nil:
			tried, unknown = removed, next.Commit
		}
		return removed, err
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(maxTries))
}

// erase deletes a contributor and their recognitions. The record has no id, but its hash.
func erase(ctx context.Context, s ledger, contributor string) (store.Standing, error) {
	now := time.Now().UTC()
	sum := sha256.Sum256([]byte(contributor))
	hash := hex.EncodeToString(sum[:])
	record, err := json.Marshal(map[string]any{"erased": "a contributor", "sha256": hash, "erased_at": now})
	if err != nil {
		return store.Standing{}, err
	}
	audit := store.AuditRecord{ID: fmt.Sprintf("erased-%s-%d", hash, now.Unix()), At: now, Record: record}
	return backoff.Retry(ctx, func() (store.Standing, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		standing, err := s.Erase(ctx, contributor, audit)
		if err != nil && !errors.Is(err, store.ErrConflict) {
			err = backoff.Permanent(err)
		}
		return standing, err
	}, backoff.WithMaxTries(maxTries))
}
