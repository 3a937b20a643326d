package simulate

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/storetest"
)

// A simulation that finds nothing proves something only if it finds what is there: each of these defects of the store, which
// stand for one of the protocol, is found, mostly within some ten seeds.
func TestTheSimulationFindsPlantedDefects(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(storetest.Store) storetest.Store{
		"a Commit without its precondition":             func(s storetest.Store) storetest.Store { return &reckless{Store: s} },
		"a redrive without the document's precondition": func(s storetest.Store) storetest.Store { return &forgetful{Store: s} },
		"keys that are not written":                     func(s storetest.Store) storetest.Store { return &keyless{s} },
		"a lost period of the history":                  func(s storetest.Store) storetest.Store { return &timeless{s} },
		"a recognition that is not the only one":        func(s storetest.Store) storetest.Store { return &generous{s} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := &totals{tally: &tally{counts: make(map[kind]int)}}
			for seed := uint64(1); seed <= 300; seed++ {
				found := ""
				synctest.Test(t, func(t *testing.T) { found = simulate(t, seed, all, plant) })
				if found != "" {
					t.Logf("seed %d: %s", seed, strings.TrimSpace(found))
					return
				}
			}
			t.Error("300 seeds did not find it")
		})
	}
}

// reckless commits on whatever revision there is.
type reckless struct {
	storetest.Store
	mu sync.Mutex
}

func (r *reckless) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if state, err := r.Load(ctx, c.Partition); err == nil {
		c.Revision = state.Revision
	}
	return r.Store.Commit(ctx, c)
}

// forgetful redrives a document that another has redriven: the entries count again.
type forgetful struct {
	storetest.Store
}

func (f *forgetful) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	revision, err := f.Store.Commit(ctx, c)
	if c.Redriven == nil || !errors.Is(err, store.ErrConflict) {
		return revision, err
	}
	state, err := f.Load(ctx, c.Partition)
	if err != nil || state.Revision != c.Revision { // the checkpoint has changed, and its precondition is kept
		return revision, errors.Join(store.ErrConflict, err)
	}
	c.Redriven = nil
	return f.Store.Commit(ctx, c)
}

// keyless forgets the keys of every Commit.
type keyless struct{ storetest.Store }

func (k *keyless) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	c.Keys, c.Fold = nil, nil
	return k.Store.Commit(ctx, c)
}

// timeless loses the periods that end.
type timeless struct{ storetest.Store }

func (l *timeless) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	c.Closed = nil
	return l.Store.Commit(ctx, c)
}

// generous says of a recognition that exists that it was made just now: its event is sent again, with other contributions.
type generous struct{ storetest.Store }

func (g *generous) Recognize(ctx context.Context, r store.Recognition) error {
	r.Tier++
	return g.Store.Recognize(ctx, r)
}
