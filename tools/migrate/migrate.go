package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

const (
	// callTimeout bounds one call to the target.
	callTimeout = time.Minute
	// maxTries bounds the attempts at one Commit.
	maxTries = 8
	// recognizing is how many recognitions are written at the same time.
	recognizing = 16
)

// errForeign is returned for a target that has counted something else.
var errForeign = errors.New("the target database has counted something else: it must be empty, and no service may use it until the migration has ended")

// target is the store that is migrated to.
type target interface {
	Load(ctx context.Context, partition uint32) (store.State, error)
	Commit(ctx context.Context, commit store.Commit) (store.Revision, error)
	Layouts(ctx context.Context) (checkpoint.Layouts, store.Revision, error)
	Keys(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error)
	Rejected(ctx context.Context, after string, limit int) ([]store.RejectedEntries, error)
	History(ctx context.Context, partition uint32, r checkpoint.Resolution, from, to time.Time) ([]store.Period, error)
	Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error)
	Tags(ctx context.Context) ([]store.Tag, error)
	Contributors(ctx context.Context, order store.Order, after store.Contributor, limit int) ([]store.Contributor, time.Time, error)
	Standing(ctx context.Context, contributor string) (store.Standing, error)
	Recognize(ctx context.Context, r store.Recognition) error
	MarkSent(ctx context.Context, sent []store.Recognition) error
	Audits(ctx context.Context, after string, limit int) ([]store.AuditRecord, error)
	PutAudit(ctx context.Context, record store.AuditRecord) error
}

// migration writes what is in a folder to a target, once, also if it is killed and run again.
type migration struct {
	from     *folder
	to       target
	progress io.Writer
}

// run migrates what an earlier run has not.
func (m *migration) run(ctx context.Context) error {
	if err := m.checkTarget(ctx); err != nil {
		return err
	}
	for i, partition := range m.from.partitions {
		n, err := m.partition(ctx, partition)
		if err != nil {
			return fmt.Errorf("migrate partition %d: %w", partition, err)
		}
		fmt.Fprintf(m.progress, "partition %d: %d commits, %d of %d partitions\n", partition, n, i+1, len(m.from.partitions))
	}
	if err := m.recognitions(ctx); err != nil {
		return err
	}
	for record, err := range auditRecords(ctx, m.from) {
		if err == nil {
			writing, cancel := context.WithTimeout(ctx, callTimeout)
			err = m.to.PutAudit(writing, record)
			cancel()
		}
		if err != nil {
			return fmt.Errorf("migrate audit records: %w", err)
		}
	}
	return nil
}

// auditRecords returns all audit records of a store, in the order of ids.
func auditRecords(ctx context.Context, from interface {
	Audits(ctx context.Context, after string, limit int) ([]store.AuditRecord, error)
},
) iter.Seq2[store.AuditRecord, error] {
	return func(yield func(store.AuditRecord, error) bool) {
		for after := ""; ; {
			read, err := from.Audits(ctx, after, page)
			if err != nil {
				yield(store.AuditRecord{}, err)
				return
			}
			if len(read) == 0 {
				return
			}
			for _, r := range read {
				if !yield(r, nil) {
					return
				}
			}
			after = read[len(read)-1].ID
		}
	}
}

// checkTarget returns errForeign if the target has what the folder has not.
func (m *migration) checkTarget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	present, _, err := m.to.Totals(ctx)
	if err != nil {
		return err
	}
	for _, p := range present {
		if !slices.Contains(m.from.partitions, p.Partition) {
			return fmt.Errorf("%w (partition %d)", errForeign, p.Partition)
		}
	}
	if len(present) > 0 {
		return nil // Commits go on where they stopped, or find out that the target is not ours
	}
	contributors, _, err := m.to.Contributors(ctx, store.ByID, store.Contributor{}, 1)
	if err == nil && len(contributors) > 0 {
		err = fmt.Errorf("%w (it has contributors)", errForeign)
	}
	return err
}

// partition makes the Commits of a partition that the target does not have yet, and returns how many there are in all.
func (m *migration) partition(ctx context.Context, partition uint32) (n int, err error) {
	var at *store.State // the target's
	for commit, err := range m.from.plan(ctx, partition) {
		if err != nil {
			return n, err
		}
		n++
		if at == nil {
			if at, err = m.load(ctx, partition); err != nil {
				return n, err
			}
		}
		if at.Checkpoint.Commit > commit.Next.Commit {
			continue // made by an earlier run
		}
		if at, err = m.commit(ctx, at, commit); err != nil {
			return n, err
		}
	}
	if at != nil && at.Checkpoint.Commit != uint64(n) { //nolint:gosec // not negative
		return n, fmt.Errorf("%w (partition %d)", errForeign, partition)
	}
	return n, nil
}

func (m *migration) load(ctx context.Context, partition uint32) (*store.State, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	state, err := m.to.Load(ctx, partition)
	return &state, err
}

// commit makes a Commit on a state that is the one before it, or its own, and returns its own. It is made once: its
// precondition is the checkpoint before it, and a checkpoint with its number is its own or foreign.
func (m *migration) commit(ctx context.Context, at *store.State, c store.Commit) (*store.State, error) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 50*time.Millisecond, 5*time.Second
	return backoff.Retry(ctx, func() (*store.State, error) {
		switch number := c.Next.Commit; {
		case at.Checkpoint.Commit == number && slices.Equal(at.Checkpoint.Totals, c.Next.Totals) && at.Checkpoint.UpdatedAt.Equal(c.Next.UpdatedAt):
			return at, nil
		case at.Checkpoint.Commit != number-1:
			return nil, backoff.Permanent(fmt.Errorf("%w (commit %d where %d was)", errForeign, at.Checkpoint.Commit, number-1))
		}
		c.Revision = at.Revision
		committing, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		revision, err := m.to.Commit(committing, c)
		switch {
		case err == nil:
			return &store.State{Checkpoint: c.Next, Revision: revision}, nil
		case errors.Is(err, store.ErrRefused):
			return nil, backoff.Permanent(err)
		}
		// The outcome is unknown, or the answer to an earlier attempt was lost.
		if present, loadErr := m.load(ctx, c.Partition); loadErr == nil {
			at = present
		}
		return nil, err
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(maxTries))
}

// recognitions writes the recognitions, pending or sent as they are in the folder.
func (m *migration) recognitions(ctx context.Context) error {
	pending := make(map[store.Recognition]bool)
	for after := (store.Recognition{}); ; {
		read, _, err := m.from.Pending(ctx, after, maxDocuments)
		if err != nil {
			return err
		}
		if len(read) == 0 {
			break
		}
		for _, p := range read {
			pending[p.Recognition] = true
		}
		after = read[len(read)-1].Recognition
	}
	n := 0
	for contributors, err := range contributorPages(ctx, m.from) {
		if err != nil {
			return err
		}
		var all, sent []store.Recognition
		for _, c := range contributors {
			if c.RecognizedTier == 0 {
				continue
			}
			standing, err := m.from.Standing(ctx, c.ID)
			if err != nil {
				return err
			}
			all = append(all, standing.Recognitions...)
		}
		for _, r := range all {
			if !pending[r] {
				sent = append(sent, r)
			}
		}
		if err := m.recognize(ctx, all, sent); err != nil {
			return fmt.Errorf("migrate recognitions: %w", err)
		}
		if n += len(all); len(all) > 0 {
			fmt.Fprintf(m.progress, "%d recognitions\n", n)
		}
	}
	return nil
}

// recognize writes recognitions that may exist already, and marks those that were sent.
func (m *migration) recognize(ctx context.Context, all, sent []store.Recognition) error {
	writing, ctx2 := errgroup.WithContext(ctx)
	writing.SetLimit(recognizing)
	for _, r := range all {
		writing.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx2, callTimeout)
			defer cancel()
			if err := m.to.Recognize(ctx, r); !errors.Is(err, store.ErrExists) {
				return err
			}
			return nil
		})
	}
	if err := writing.Wait(); err != nil || len(sent) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return m.to.MarkSent(ctx, sent)
}
