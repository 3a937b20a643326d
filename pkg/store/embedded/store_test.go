package embedded_test

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	bolt "go.etcd.io/bbolt"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/pkg/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Store { return embedded.New(databasetest.Open(t)) })
}

// at is the time of the commits.
var at = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// next returns a Commit on state that adds one to each tag.
func next(state store.State, now time.Time, tags ...string) store.Commit {
	c := store.Commit{Revision: state.Revision}
	for _, name := range tags {
		c.Tags = append(c.Tags, checkpoint.Delta{Name: name, Value: 1, Increments: 1})
	}
	c.Next = state.Checkpoint.Next(now, time.Hour, nil, c.Tags)
	return c
}

func commit(t *testing.T, s *embedded.Store, c store.Commit) store.State {
	t.Helper()
	revision, err := s.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return store.State{Checkpoint: c.Next, Revision: revision}
}

func TestRefusesWhatFirestoreRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1_000)
	for name, change := range map[string]func(*store.Commit){
		"a checkpoint over 1 MiB": func(c *store.Commit) {
			for i := range 1_100 {
				c.Next.Totals = append(c.Next.Totals, checkpoint.Total{Name: strconv.Itoa(i) + long})
			}
		},
		"keys over 1 MiB": func(c *store.Commit) { c.Keys = make([]checkpoint.KeyRange, 2*checkpoint.MaxKeyRanges) },
		"a period over 1 MiB": func(c *store.Commit) {
			period := checkpoint.Period{Resolution: checkpoint.Minute, Begin: at}
			for i := range 1_100 {
				period.Changes = append(period.Changes, checkpoint.Change{Name: strconv.Itoa(i) + long, Change: 1})
			}
			c.Closed = []checkpoint.Period{period}
		},
		"a commit over 10 MiB": func(c *store.Commit) {
			for i := range 10_000 {
				c.Contributors = append(c.Contributors, store.Contributions{Contributor: strconv.Itoa(i) + long, Contributions: 1})
			}
		},
		"an id over 1,500 bytes": func(c *store.Commit) {
			c.Contributors = []store.Contributions{{Contributor: long + long, Contributions: 1}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := embedded.New(databasetest.Open(t))
			c := next(store.State{}, at, "foo")
			change(&c)
			if _, err := s.Commit(t.Context(), c); !errors.Is(err, store.ErrRefused) {
				t.Errorf("Commit() = %v, want %v", err, store.ErrRefused)
			}
			if tags, err := s.Tags(t.Context()); err != nil || len(tags) != 0 {
				t.Errorf("after a refused Commit Tags() = %v, %v, want none", tags, err)
			}
		})
	}
}

func TestTotalsNamesUnreadablePartitions(t *testing.T) {
	t.Parallel()
	d := databasetest.Open(t)
	s := embedded.New(d)
	commit(t, s, next(store.State{}, at, "foo"))
	for partition, packed := range map[string]string{"1": "", "2": "\xff\xff"} { // an empty version, and a later one
		if err := d.Update(t.Context(), 100, func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("partitions/" + partition))
			if err != nil {
				return err
			}
			return b.Put([]byte("checkpoint"), []byte(packed))
		}, nil); err != nil {
			t.Fatal(err)
		}
	}
	all, _, err := s.Totals(t.Context())
	if err != nil || len(all) != 3 {
		t.Fatalf("Totals() = %v, %v, want three partitions", all, err)
	}
	for i, p := range all {
		if p.Partition != uint32(i) || (p.Err == nil) != (i == 0) || len(p.Totals) != 1-min(i, 1) {
			t.Errorf("partition %d: %+v", i, p)
		}
	}
}

func TestExpiredDocumentsAreDeleted(t *testing.T) {
	t.Parallel()
	s := embedded.New(databasetest.Open(t))
	var state store.State
	const each = 36 * time.Hour
	for day := range 40 {
		c := next(state, at.Add(time.Duration(day)*each), "foo")
		c.Keys, c.KeepKeys = make([]checkpoint.KeyRange, 1), 2*each
		c.Closed = state.Checkpoint.Closed(&c.Next)
		state = commit(t, s, c)
	}
	end := at.Add(1000 * each)
	keys, err := s.Keys(t.Context(), 0, store.KeysPosition{}, 1000)
	if err != nil || len(keys) != 3 {
		t.Errorf("%d documents of keys, want 3: %v", len(keys), err)
	}
	for resolution, want := range map[checkpoint.Resolution]int{checkpoint.Minute: 0, checkpoint.Hour: 20} {
		periods, err := s.History(t.Context(), 0, resolution, at, end)
		if err != nil || len(periods) != want {
			t.Errorf("%d periods of %v, want %d: %v", len(periods), time.Duration(resolution), want, err)
		}
	}
}

func TestDataSurvivesARestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	d, err := database.Open(database.Options{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	s := embedded.New(d)
	c := next(store.State{}, at, "foo")
	c.Contributors = []store.Contributions{{Contributor: "ada", Contributions: 4}}
	state := commit(t, s, c)
	recognition := store.Recognition{Contributor: "ada", Tier: 3, Contributions: 4, RecognizedAt: at}
	if err := s.Recognize(t.Context(), recognition); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	s = embedded.New(databasetest.OpenFolder(t, folder))
	loaded, err := s.Load(t.Context(), 0)
	if loaded.ReadAt = state.ReadAt; err != nil || !reflect.DeepEqual(loaded, state) {
		t.Errorf("Load() = %+v, %v, want %+v", loaded, err, state)
	}
	standing, err := s.Standing(t.Context(), "ada")
	if err != nil || standing.Contributions != 4 || standing.RecognizedTier != 3 || !slices.Equal(standing.Recognitions, []store.Recognition{recognition}) {
		t.Errorf("Standing() = %+v, %v", standing, err)
	}
	if again := commit(t, s, next(loaded, at, "foo")); !again.Revision.UpdateTime.After(state.Revision.UpdateTime) {
		t.Errorf("the revision is %v after %v", again.Revision, state.Revision)
	}
}
