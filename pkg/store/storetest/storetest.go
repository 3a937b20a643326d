// Package storetest has the tests that every store must pass.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// Store has all methods of a store. Each service uses some of them.
type Store interface {
	Load(ctx context.Context, partition uint32) (store.State, error)
	Commit(ctx context.Context, commit store.Commit) (store.Revision, error)
	Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error)
	Keys(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error)
	ReleasedKeys(ctx context.Context, partition uint32, first uint64, limit int) ([]store.CommitKeys, error)
	Folds(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.Fold, error)
	Peek(ctx context.Context, partitions []uint32) ([]store.Peeked, error)
	Owing(ctx context.Context) ([]store.Owing, time.Time, error)
	Layouts(ctx context.Context) (checkpoint.Layouts, store.Revision, error)
	Rejected(ctx context.Context, after string, limit int) ([]store.RejectedEntries, error)
	Waiting(ctx context.Context) (entries int64, err error)
	PutAudit(ctx context.Context, record store.AuditRecord) error
	Audits(ctx context.Context, after string, limit int) ([]store.AuditRecord, error)
	DropTag(ctx context.Context, name string) error
	Erase(ctx context.Context, contributor string, audit store.AuditRecord) (store.Standing, error)
	History(ctx context.Context, partition uint32, r checkpoint.Resolution, from, to time.Time) ([]store.Period, error)
	Tags(ctx context.Context) ([]store.Tag, error)
	TagsNamed(ctx context.Context, names []string) ([]store.Tag, error)
	Contributor(ctx context.Context, id string) (store.Contributor, error)
	Check(ctx context.Context) error

	Standing(ctx context.Context, contributor string) (store.Standing, error)
	Contributors(ctx context.Context, order store.Order, after store.Contributor, limit int) ([]store.Contributor, time.Time, error)
	Due(ctx context.Context, recognized, tier int64, limit int) ([]store.Contributor, error)
	Recognize(ctx context.Context, r store.Recognition) error
	Raise(ctx context.Context, contributor string, tier int64) error
	ContributorsWith(ctx context.Context, prefix string, after store.Contributor, limit int) ([]store.Contributor, time.Time, error)
	Recognitions(ctx context.Context, filter store.RecognitionFilter, after store.Recognition, limit int) ([]store.Recognition, time.Time, error)
	Pending(ctx context.Context, after store.Recognition, limit int) ([]store.PendingRecognition, time.Time, error)
	Claim(ctx context.Context, pending []store.PendingRecognition) ([]store.PendingRecognition, error)
	MarkSent(ctx context.Context, sent []store.Recognition) error
	RecognizedTiers(ctx context.Context) ([]int64, error)
	CountRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error)
	Unrecognized(ctx context.Context, tier int64, after store.Contributor, limit int) ([]store.Contributor, store.Contributor, error)
}

const retention = 8 * 24 * time.Hour

var at = time.Date(2026, 11, 23, 6, 0, 0, int(123*time.Millisecond), time.UTC)

// Run tests a store. newStore must return an empty store for each test.
func Run(t *testing.T, newStore func(t *testing.T) Store) {
	t.Helper()
	tests := map[string]func(*testing.T, Store){
		"an empty store can be read":                            readsEmpty,
		"a partition without commits loads as zero":             loadsZero,
		"a commit can be loaded and read":                       roundTrip,
		"commits add up within and across partitions":           addsUp,
		"a commit on an old revision changes nothing":           refusesOldRevision,
		"a second first commit changes nothing":                 refusesSecondCreation,
		"a commit without changes changes the revision":         changesRevision,
		"a commit whose context has ended changes nothing":      refusesEndedContext,
		"twenty concurrent committers of a partition lose none": race,
		"tags whose names look reserved are distinct":           reservedNames,
		"contributors with unusual ids are distinct":            contributors,
		"an unknown contributor is not found":                   unknownContributor,
		"a commit can have a thousand documents":                thousandDocuments,
		"the time of acceptance is that of the latest commit":   acceptedAt,
		"keys are read in pages in the order of their commits":  keysInPages,
		"rejected entries are read in pages":                    rejectedEntries,
		"folds are read in pages in the order of their ends":    foldsInPages,
		"a commit relies on what it peeked at":                  relies,
		"the layouts change with a commit":                      layouts,
		"an audit record is written with its commit":            audits,
		"a checkpoint owes what its documents lack":             owes,
		"a tag is dropped once nothing is left of it":           dropsTag,
		"some tags are read by their names":                     tagsNamed,
		"a contributor is erased":                               erases,
		"a redrive changes the checkpoint and the document":     redrives,
		"a commit with a conflict writes nothing":               writesNothingOnConflict,
		"closed periods are read by the range of their begin":   history,
	}
	maps.Copy(tests, recognitionTests())
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newStore(t))
		})
	}
}

func readsEmpty(t *testing.T, s Store) {
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("Check() = %v", err)
	}
	totals, asOf, err := s.Totals(t.Context())
	if err != nil || len(totals) != 0 || time.Since(asOf).Abs() > time.Minute {
		t.Errorf("Totals() of an empty store = %v, %v, %v", totals, asOf, err)
	}
}

func loadsZero(t *testing.T, s Store) {
	state, err := s.Load(t.Context(), 7)
	if err != nil || !reflect.DeepEqual(state, store.State{ReadAt: state.ReadAt}) {
		t.Errorf("Load() = %v, %v, want zero", state, err)
	}
	if time.Since(state.ReadAt).Abs() > time.Minute {
		t.Errorf("ReadAt of Load() = %v, want about now", state.ReadAt)
	}
}

func roundTrip(t *testing.T, s Store) {
	commit := commitOf(store.State{}, 7, 1, "ballz", 9, "foo", 4)
	commit.Contributors = []store.Contributions{{Contributor: "ada", Contributions: 2}}
	revision := mustCommit(t, s, commit)

	state, err := s.Load(t.Context(), 7)
	if err != nil || state.Revision != revision || !reflect.DeepEqual(state.Checkpoint, commit.Next) {
		t.Errorf("Load() = %+v, %v\nwant %+v at %v", state, err, commit.Next, revision)
	}
	if time.Since(state.ReadAt).Abs() > time.Minute {
		t.Errorf("ReadAt of Load() = %v, want about now", state.ReadAt)
	}
	totals, _, err := s.Totals(t.Context())
	want := store.PartitionTotals{Partition: 7, Revision: revision, Totals: commit.Next.Totals, UpdatedAt: at}
	same := func(a, b *store.PartitionTotals) bool {
		return a.Partition == b.Partition && a.Revision == b.Revision && slices.Equal(a.Totals, b.Totals) && a.UpdatedAt.Equal(b.UpdatedAt) &&
			a.AcceptedAt.Equal(b.AcceptedAt) && errors.Is(a.Err, b.Err)
	}
	if err != nil || len(totals) != 1 || !same(&totals[0], &want) {
		t.Errorf("Totals() = %+v, %v\nwant %+v", totals, err, want)
	}
	wantTags(t, s, store.Tag{Name: "ballz", Total: 9, Increments: 1, UpdatedAt: at}, store.Tag{Name: "foo", Total: 4, Increments: 1, UpdatedAt: at})
	wantContributor(t, s, store.Contributor{ID: "ada", Contributions: 2, UpdatedAt: at})
}

func acceptedAt(t *testing.T, s Store) {
	read := func() time.Time {
		totals, _, err := s.Totals(t.Context())
		if err != nil || len(totals) != 1 {
			t.Fatalf("Totals() = %v, %v", totals, err)
		}
		return totals[0].AcceptedAt
	}
	commit := commitOf(store.State{}, 7, 1, "foo", 4)
	commit.AcceptedAt = at.Add(-time.Second)
	revision := mustCommit(t, s, commit)
	if got := read(); !got.Equal(commit.AcceptedAt) {
		t.Errorf("accepted at %v, want %v", got, commit.AcceptedAt)
	}
	mustCommit(t, s, commitOf(store.State{Checkpoint: commit.Next, Revision: revision}, 7, 2, "foo", 5))
	if got := read(); !got.IsZero() {
		t.Errorf("accepted at %v after a commit without AcceptedAt", got)
	}
}

func addsUp(t *testing.T, s Store) {
	first := commitOf(store.State{}, 1, 1, "foo", 4)
	first.Revision = mustCommit(t, s, first)
	mustCommit(t, s, commitOf(store.State{Checkpoint: first.Next, Revision: first.Revision}, 1, 2, "foo", 5, "zoo", 1))
	// After a change of the number of partitions a tag may be in another partition. Its document has the sum of both.
	mustCommit(t, s, commitOf(store.State{}, 2, 1, "foo", 3))
	wantTags(t, s, store.Tag{Name: "foo", Total: 12, Increments: 3, UpdatedAt: at}, store.Tag{Name: "zoo", Total: 1, Increments: 1, UpdatedAt: at})
}

func refusesOldRevision(t *testing.T, s Store) {
	first := commitOf(store.State{}, 1, 1, "foo", 4)
	old := store.State{Checkpoint: first.Next, Revision: mustCommit(t, s, first)}
	mustCommit(t, s, commitOf(old, 1, 2, "foo", 1))
	wantConflict(t, s, commitOf(old, 1, 3, "foo", 9, "new", 9))
	wantTags(t, s, store.Tag{Name: "foo", Total: 5, Increments: 2, UpdatedAt: at})
}

func refusesSecondCreation(t *testing.T, s Store) {
	mustCommit(t, s, commitOf(store.State{}, 1, 1, "foo", 4))
	wantConflict(t, s, commitOf(store.State{}, 1, 2, "foo", 9))
	wantTags(t, s, store.Tag{Name: "foo", Total: 4, Increments: 1, UpdatedAt: at})
}

func changesRevision(t *testing.T, s Store) {
	var state store.State
	for range 3 {
		next := store.Commit{Partition: 1, Revision: state.Revision, Next: state.Checkpoint.Next(at, retention, nil, nil)}
		revision := mustCommit(t, s, next)
		if revision == state.Revision {
			t.Fatal("the revision has not changed, so a concurrent committer would not notice the commit")
		}
		state = store.State{Checkpoint: next.Next, Revision: revision}
	}
}

func refusesEndedContext(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, commitOf(store.State{}, 1, 1, "foo", 4)); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit() = %v, want context.Canceled", err)
	}
	if _, err := s.Load(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Load() = %v, want context.Canceled", err)
	}
	if _, _, err := s.Totals(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Totals() = %v, want context.Canceled", err)
	}
	wantTags(t, s)
}

func race(t *testing.T, s Store) {
	const committers, each = 20, 3
	start := make(chan struct{})
	var group sync.WaitGroup
	for committer := range committers {
		group.Go(func() {
			<-start
			for n := range each {
				sequence := uint64(committer*each + n + 1)
				for commitRacing(t, s, sequence) {
					time.Sleep(rand.N(20 * time.Millisecond))
				}
			}
		})
	}
	close(start)
	group.Wait()
	const n = committers * each
	wantTags(t, s, store.Tag{Name: "foo", Total: n, Increments: n, UpdatedAt: at})
	state, err := s.Load(t.Context(), 1)
	if err != nil || state.Checkpoint.Commit != n || state.Checkpoint.Totals[0].Total != n {
		t.Errorf("Load() = %+v, %v, want %d commits", state, err, n)
	}
}

// commitRacing commits the message with the given sequence unless it is settled, and reports whether to try again.
func commitRacing(t *testing.T, s Store, sequence uint64) bool {
	state, err := s.Load(t.Context(), 1)
	if err != nil {
		return t.Context().Err() == nil
	}
	if state.Checkpoint.Contains(checkpoint.Message{Publisher: message.Publisher{1}, Sequence: sequence}) {
		return false
	}
	_, err = s.Commit(t.Context(), commitOf(state, 1, sequence, "foo", 1))
	if err != nil && !errors.Is(err, store.ErrConflict) {
		t.Errorf("Commit() = %v, want nil or ErrConflict", err)
	}
	return err != nil && t.Context().Err() == nil
}

func reservedNames(t *testing.T, s Store) {
	mustCommit(t, s, commitOf(store.State{}, 1, 1, "___", 1, "_____", 2, "__init__", 3))
	wantTags(t, s, store.Tag{Name: "___", Total: 1, Increments: 1, UpdatedAt: at},
		store.Tag{Name: "_____", Total: 2, Increments: 1, UpdatedAt: at}, store.Tag{Name: "__init__", Total: 3, Increments: 1, UpdatedAt: at})
}

// unusualIDs returns contributor ids that a store might confuse, escape or refuse.
func unusualIDs() []string {
	return []string{
		"ada", "Ada", "ADA", ".", "..", "/", "a/b", "a%2Fb", "a%252Fb", "__x__", "__", "c-ada", "👩‍💻", "é", "e\u0301",
		strings.Repeat("𝒳", 128), strings.Repeat("/", 128), strings.Repeat("%", 128), strings.Repeat(":", 128),
		" ", "a", "a:", "a:3", "a:3:3", "a%3A3", "a;", "*", "~", "a+b", "a?b=c#d", "\u2028", "\ufffe",
	}
}

func contributors(t *testing.T, s Store) {
	ids := unusualIDs()
	commit := commitOf(store.State{}, 1, 1)
	for i, id := range ids {
		commit.Contributors = append(commit.Contributors, store.Contributions{Contributor: id, Contributions: int64(i + 1)})
	}
	mustCommit(t, s, commit)
	for i, id := range ids {
		wantContributor(t, s, store.Contributor{ID: id, Contributions: int64(i + 1), UpdatedAt: at})
	}
}

func unknownContributor(t *testing.T, s Store) {
	if got, err := s.Contributor(t.Context(), "unknown"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Contributor() = %v, %v, want ErrNotFound", got, err)
	}
}

func thousandDocuments(t *testing.T, s Store) {
	var tags []any
	for i := range 1000 {
		tags = append(tags, strings.Map(func(r rune) rune { return r - '0' + 'a' }, fmt.Sprintf("%04d", i)), 1)
	}
	mustCommit(t, s, commitOf(store.State{}, 1, 1, tags...))
	if all, err := s.Tags(t.Context()); err != nil || len(all) != 1000 {
		t.Errorf("Tags() = %d tags, %v, want 1000", len(all), err)
	}
}

func keysInPages(t *testing.T, s Store) {
	var state store.State
	var want []store.CommitKeys
	for n := uint64(1); n <= 12; n++ { // beyond 9, where numeric and lexical order differ
		commit := commitOf(state, 1, n)
		commit.Next.UpdatedAt = at.Add(time.Duration(n/4) * time.Second) // some in the same second
		if commit.KeepKeys = time.Hour; n%3 != 0 {
			commit.Keys = []checkpoint.KeyRange{
				{Prefix: message.KeyPrefix{1, byte(n)}, First: 7, Last: 7, Fingerprint: uint16(n)},
				{Prefix: message.KeyPrefix{2, byte(n)}, First: 1, Last: 999, Partitions: 16},
			}
			want = append(want, store.CommitKeys{KeysPosition: store.KeysPosition{At: commit.Next.UpdatedAt, Commit: n}, Keys: commit.Keys})
		}
		state = store.State{Checkpoint: commit.Next, Revision: mustCommit(t, s, commit)}
	}
	other := commitOf(store.State{}, 11, 1)
	other.Keys, other.KeepKeys = []checkpoint.KeyRange{{Prefix: message.KeyPrefix{3}}}, time.Hour
	mustCommit(t, s, other)
	for _, page := range []int{1, 3, 100} {
		var got []store.CommitKeys
		var after store.KeysPosition
		for {
			some, err := s.Keys(t.Context(), 1, after, page)
			if err != nil || len(some) > page {
				t.Fatalf("Keys(after %v, %d) = %d commits, %v", after, page, len(some), err)
			}
			if len(some) == 0 {
				break
			}
			got, after = append(got, some...), some[len(some)-1].KeysPosition
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("Keys() in pages of %d = %+v\nwant %+v", page, got, want)
		}
	}
	since, err := s.Keys(t.Context(), 1, store.KeysPosition{At: at.Add(2 * time.Second)}, 100) // commits 8 and later
	if err != nil || !reflect.DeepEqual(since, want[5:]) {
		t.Errorf("Keys(since) = %+v, %v\nwant %+v", since, err, want[5:])
	}
}

func rejectedEntries(t *testing.T, s Store) {
	first := commitOf(store.State{}, 7, 1, "foo", 1)
	first.Rejected = []checkpoint.Rejected{{Tag: "bar", Value: 3, Reason: "full"}, {Contributor: "ada", Key: message.Key{1}, Reason: "refused"}}
	revision := mustCommit(t, s, first)
	second := commitOf(store.State{Checkpoint: first.Next, Revision: revision}, 7, 2)
	second.Rejected = []checkpoint.Rejected{{Tag: "zoo", Value: 1, Reason: "full"}}
	last := store.State{Checkpoint: second.Next, Revision: mustCommit(t, s, second)}
	mustCommit(t, s, commitOf(last, 7, 3, "foo", 1)) // rejects nothing
	var got []store.RejectedEntries
	for after, more := "", true; more; {
		page, err := s.Rejected(t.Context(), after, 1)
		if err != nil || len(page) > 1 {
			t.Fatalf("Rejected() = %v, %v", page, err)
		}
		if more = len(page) > 0; more {
			got, after = append(got, page...), page[0].ID()
		}
	}
	want := []store.RejectedEntries{
		{Partition: 7, Commit: 1, RejectedAt: at, Revision: revision, Entries: first.Rejected},
		{Partition: 7, Commit: 2, RejectedAt: at, Revision: last.Revision, Entries: second.Rejected},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Rejected() = %+v\nwant %+v", got, want)
	}
}

func writesNothingOnConflict(t *testing.T, s Store) {
	mustCommit(t, s, commitOf(store.State{}, 1, 1))
	late := commitOf(store.State{}, 1, 2)
	late.Keys, late.KeepKeys = []checkpoint.KeyRange{{Prefix: message.KeyPrefix{1}}}, time.Hour
	late.Closed = []checkpoint.Period{{Resolution: checkpoint.Minute, Begin: at.Truncate(time.Minute), Changes: []checkpoint.Change{{Name: "foo", Change: 1}}}}
	late.Rejected = []checkpoint.Rejected{{Tag: "zoo", Value: 1, Reason: "full"}}
	wantConflict(t, s, late)
	if rejected, err := s.Rejected(t.Context(), "", 100); err != nil || len(rejected) != 0 {
		t.Errorf("Rejected() = %v, %v, want none", rejected, err)
	}
	if keys, err := s.Keys(t.Context(), 1, store.KeysPosition{}, 100); err != nil || len(keys) != 0 {
		t.Errorf("Keys() = %v, %v, want none", keys, err)
	}
	if periods, err := s.History(t.Context(), 1, checkpoint.Minute, at.Add(-time.Hour), at.Add(time.Hour)); err != nil || len(periods) != 0 {
		t.Errorf("History() = %v, %v, want none", periods, err)
	}
}

func history(t *testing.T, s Store) {
	midnight := at.Truncate(24 * time.Hour)
	var state store.State
	for i, begin := range []time.Duration{9*time.Hour + 59*time.Minute, 10 * time.Hour, 23*time.Hour + 59*time.Minute, 24 * time.Hour} {
		commit := commitOf(state, 7, uint64(i+1))
		commit.Closed = []checkpoint.Period{{
			Resolution: checkpoint.Minute, Begin: midnight.Add(begin), Changes: []checkpoint.Change{{Name: "bar", Change: 9}, {Name: "foo", Change: int64(i)}},
		}}
		if i == 2 {
			commit.Closed = append(commit.Closed, checkpoint.Period{
				Resolution: checkpoint.Hour, Begin: midnight.Add(23 * time.Hour), Changes: []checkpoint.Change{{Name: "foo", Change: 100}},
			})
		}
		state = store.State{Checkpoint: commit.Next, Revision: mustCommit(t, s, commit)}
	}
	for name, test := range map[string]struct {
		partition  uint32
		resolution checkpoint.Resolution
		from, to   time.Duration
		want       []int64 // of foo
	}{
		"all minutes":                         {7, checkpoint.Minute, 0, 48 * time.Hour, []int64{0, 1, 2, 3}},
		"from included, to excluded":          {7, checkpoint.Minute, 10 * time.Hour, 24 * time.Hour, []int64{1, 2}},
		"all hours":                           {7, checkpoint.Hour, 0, 48 * time.Hour, []int64{100}},
		"no changes":                          {7, checkpoint.Minute, 11 * time.Hour, 12 * time.Hour, nil},
		"another partition":                   {1, checkpoint.Minute, 0, 48 * time.Hour, nil},
		"partition with the number as prefix": {77, checkpoint.Minute, 0, 48 * time.Hour, nil},
	} {
		periods, err := s.History(t.Context(), test.partition, test.resolution, midnight.Add(test.from), midnight.Add(test.to))
		var got []int64
		for _, p := range periods {
			var change int64
			findErr := checkpoint.FindChanges(p.Changes, []string{"foo"}, func(_ int, of int64) { change = of })
			if err = errors.Join(err, findErr); !p.Begin.Equal(test.resolution.Begin(p.Begin)) || p.Begin.Before(midnight.Add(test.from)) {
				t.Errorf("%s: a period begins at %v", name, p.Begin)
			}
			got = append(got, change)
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, test.want)
		}
	}
}

// commitOf returns a commit on state that counts the message with the given sequence, which has the given names and values,
// sorted by name.
func commitOf(state store.State, partition uint32, sequence uint64, namesAndValues ...any) store.Commit {
	var tags []checkpoint.Delta
	for pair := range slices.Chunk(namesAndValues, 2) {
		tags = append(tags, checkpoint.Delta{Name: pair[0].(string), Value: int64(pair[1].(int)), Increments: 1})
	}
	messages := []checkpoint.Message{{Publisher: message.Publisher{1}, Sequence: sequence}}
	return store.Commit{
		Partition: partition, Revision: state.Revision, Tags: tags,
		Next: state.Checkpoint.Next(at, retention, messages, tags),
	}
}

func mustCommit(t *testing.T, s Store, commit store.Commit) store.Revision {
	t.Helper()
	revision, err := s.Commit(t.Context(), commit)
	if err != nil {
		t.Fatalf("Commit() = %v", err)
	}
	return revision
}

func wantConflict(t *testing.T, s Store, commit store.Commit) {
	t.Helper()
	if _, err := s.Commit(t.Context(), commit); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Commit() = %v, want ErrConflict", err)
	}
}

func wantTags(t *testing.T, s Store, want ...store.Tag) {
	t.Helper()
	got, err := s.Tags(t.Context())
	if err != nil || len(got) != len(want) || (len(want) > 0 && !reflect.DeepEqual(got, want)) {
		t.Errorf("Tags() = %v, %v, want %v", got, err, want)
	}
}

func wantContributor(t *testing.T, s Store, want store.Contributor) {
	t.Helper()
	if got, err := s.Contributor(t.Context(), want.ID); err != nil || got != want {
		t.Errorf("Contributor(%q) = %+v, %v, want %+v", want.ID, got, err, want)
	}
}

// redrives checks that a document of rejected entries and the checkpoint that counts them change atomically.
func redrives(t *testing.T, s Store) {
	first := commitOf(store.State{}, 7, 1)
	first.Rejected = []checkpoint.Rejected{{Tag: "bar", Value: 3, Reason: "full"}, {Tag: "zoo", Value: 1, Reason: "full"}}
	mustCommit(t, s, first)
	read := func() []store.RejectedEntries {
		t.Helper()
		all, err := s.Rejected(t.Context(), "", 10)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := read()[0]

	// Another partition counts one of the two entries.
	one := commitOf(store.State{}, 8, 1, "bar", 3)
	one.Redriven = &store.Redriven{From: before, Left: before.Entries[1:]}
	eight := store.State{Checkpoint: one.Next, Revision: mustCommit(t, s, one)}
	after := read()[0]
	if want := before.Entries[1:]; !reflect.DeepEqual(after.Entries, want) || !after.RejectedAt.Equal(before.RejectedAt) {
		t.Errorf("Rejected() = %+v, want %+v of %v", after, want, before.RejectedAt)
	}

	// A redrive based on the old document counts nothing, even if its checkpoint is current.
	again := commitOf(eight, 8, 2, "bar", 3)
	again.Redriven = one.Redriven
	if _, err := s.Commit(t.Context(), again); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a second redrive of the same entries: %v, want a conflict", err)
	}

	// A redrive based on an old checkpoint does not change the document.
	late := commitOf(store.State{}, 8, 1, "zoo", 1)
	late.Redriven = &store.Redriven{From: after}
	if _, err := s.Commit(t.Context(), late); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a redrive into a checkpoint that has changed: %v, want a conflict", err)
	}
	if got := read(); len(got) != 1 {
		t.Fatalf("Rejected() = %+v, want one document", got)
	}

	// The revision of a changed document is that of the Commit that changed it.
	last := commitOf(eight, 8, 2, "zoo", 1)
	last.Redriven = &store.Redriven{From: after}
	eight = store.State{Checkpoint: last.Next, Revision: mustCommit(t, s, last)}
	if got := read(); len(got) != 0 {
		t.Errorf("Rejected() = %+v, want none", got)
	}
	gone := commitOf(eight, 8, 3, "zoo", 1)
	gone.Redriven = last.Redriven
	if _, err := s.Commit(t.Context(), gone); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a redrive of a deleted document: %v, want a conflict", err)
	}
	state, err := s.Load(t.Context(), 8)
	if err != nil || state.Checkpoint.Commit != 2 {
		t.Errorf("Load() = commit %d, %v, want 2", state.Checkpoint.Commit, err)
	}
}

// peek peeks at one partition.
func peek(t *testing.T, s Store, partition uint32) store.Peeked {
	t.Helper()
	all, err := s.Peek(t.Context(), []uint32{partition, 4000})
	if err != nil || len(all) != 2 {
		t.Fatalf("Peek() = %+v, %v, want two", all, err)
	}
	if i := slices.IndexFunc(all, func(p store.Peeked) bool { return p.Partition == 4000 }); i < 0 || all[i] != (store.Peeked{Partition: 4000}) {
		t.Errorf("Peek() = %+v, want a zero for a partition without commits", all)
	}
	return all[slices.IndexFunc(all, func(p store.Peeked) bool { return p.Partition == partition })]
}

// relies checks that a Commit is in conflict if a related partition has changed, and that it leaves a related partition as it
// was unless that has another version of the layouts.
func relies(t *testing.T, s Store) {
	if got := peek(t, s, 3); got != (store.Peeked{Partition: 3}) {
		t.Errorf("Peek() before any commit = %+v", got)
	}
	first := commitOf(store.State{}, 3, 1, "foo", 4)
	three := store.State{Checkpoint: first.Next, Revision: mustCommit(t, s, first)}
	before := peek(t, s, 3)
	if before != (store.Peeked{Partition: 3, Revision: three.Revision, Commit: 1}) {
		t.Errorf("Peek() = %+v, want commit 1 of %v", before, three.Revision)
	}

	// A version that it does not have is given to it, and moves its revision.
	relying := commitOf(store.State{}, 35, 1, "foo", 1)
	relying.Next.Layouts = 2
	relying.Related = []store.Related{{Partition: 3, Revision: before.Revision, Layouts: 2}, {Partition: 9, Layouts: 2}}
	other := store.State{Checkpoint: relying.Next, Revision: mustCommit(t, s, relying)}
	touched := peek(t, s, 3)
	if touched.Revision == before.Revision || touched.Layouts != 2 || touched.Commit != 1 {
		t.Errorf("Peek() after it was given layouts = %+v", touched)
	}
	wantConflict(t, s, commitOf(three, 3, 2, "foo", 4))
	state, err := s.Load(t.Context(), 3)
	if err != nil || state.Checkpoint.Layouts != 2 || state.Checkpoint.Totals[0].Total != 4 || state.Revision != touched.Revision {
		t.Errorf("Load() = %+v, %v, want layouts 2 and foo 4", state, err)
	}
	// One that does not exist is made, with nothing counted, and can be committed.
	nine, err := s.Load(t.Context(), 9)
	if err != nil || nine.Checkpoint.Commit != 0 || nine.Checkpoint.Layouts != 2 || nine.Revision == (store.Revision{}) {
		t.Errorf("Load() of a related partition without commits = %+v, %v", nine, err)
	}
	mustCommit(t, s, commitOf(nine, 9, 1, "zoo", 1))

	// A version that it has changes nothing.
	again := commitOf(other, 35, 2, "foo", 1)
	again.Related = []store.Related{{Partition: 3, Revision: touched.Revision, Layouts: 2}}
	other = store.State{Checkpoint: again.Next, Revision: mustCommit(t, s, again)}
	if got := peek(t, s, 3); got != touched {
		t.Errorf("Peek() = %+v, want %+v as before", got, touched)
	}

	// If it has changed the commit is in conflict, and nothing is changed.
	mustCommit(t, s, commitOf(state, 3, 2, "foo", 4))
	late := commitOf(other, 35, 3, "foo", 1)
	late.Related = []store.Related{{Partition: 3, Revision: touched.Revision, Layouts: 2}}
	wantConflict(t, s, late)
	missing := commitOf(other, 35, 3, "foo", 1)
	missing.Related = []store.Related{{Partition: 3, Layouts: 2}}
	wantConflict(t, s, missing)
	wantTags(t, s, store.Tag{Name: "foo", Total: 10, Increments: 4, UpdatedAt: at}, store.Tag{Name: "zoo", Total: 1, Increments: 1, UpdatedAt: at})
}

// layouts checks that the layouts change with a Commit, or not at all.
func layouts(t *testing.T, s Store) {
	none, revision, err := s.Layouts(t.Context())
	if err != nil || none.Version != 0 || len(none.Used) != 0 || revision != (store.Revision{}) {
		t.Fatalf("Layouts() of an empty store = %+v, %v, %v", none, revision, err)
	}
	second := at.Truncate(time.Second)
	first := commitOf(store.State{}, 1, 1, "foo", 4)
	first.Layouts = &store.LayoutsChange{Next: checkpoint.Layouts{Version: 1, Used: map[uint32]time.Time{16: second, 4096: second.Add(-time.Hour)}}}
	state := store.State{Checkpoint: first.Next, Revision: mustCommit(t, s, first)}
	got, revision, err := s.Layouts(t.Context())
	if err != nil || !reflect.DeepEqual(got, first.Layouts.Next) {
		t.Errorf("Layouts() = %+v, %v, want %+v", got, err, first.Layouts.Next)
	}
	late := commitOf(state, 1, 2, "foo", 1)
	late.Layouts = first.Layouts
	wantConflict(t, s, late)
	next := commitOf(state, 1, 2, "foo", 1)
	next.Layouts = &store.LayoutsChange{Revision: revision, Next: checkpoint.Layouts{Version: 2, Used: map[uint32]time.Time{64: second}}}
	mustCommit(t, s, next)
	if got, _, err := s.Layouts(t.Context()); err != nil || !reflect.DeepEqual(got, next.Layouts.Next) {
		t.Errorf("Layouts() = %+v, %v, want %+v", got, err, next.Layouts.Next)
	}
}

func foldsInPages(t *testing.T, s Store) {
	var state store.State
	var want []store.Fold
	var last store.KeysPosition
	for n := uint64(1); n <= 12; n++ {
		commit := commitOf(state, 1, n)
		commit.Next.UpdatedAt = at.Add(time.Duration(n/4) * time.Second)
		commit.KeepKeys = time.Hour
		commit.Keys = []checkpoint.KeyRange{{Prefix: message.KeyPrefix{1, byte(n)}, First: 7, Last: 7}}
		if n%3 == 0 {
			end := store.KeysPosition{At: state.Checkpoint.UpdatedAt, Commit: n - 1}
			commit.Fold = &store.Fold{After: last, CommitKeys: store.CommitKeys{KeysPosition: end, Keys: []checkpoint.KeyRange{
				{Prefix: message.KeyPrefix{2, byte(n)}, First: 1, Last: 999, Partitions: 16},
			}}}
			if last.Commit == 0 {
				commit.Fold.After = store.KeysPosition{At: at, Commit: 0}
			}
			last = end
			want = append(want, *commit.Fold)
		}
		state = store.State{Checkpoint: commit.Next, Revision: mustCommit(t, s, commit)}
	}
	for _, page := range []int{1, 3, 100} {
		var got []store.Fold
		var after store.KeysPosition
		for {
			some, err := s.Folds(t.Context(), 1, after, page)
			if err != nil || len(some) > page {
				t.Fatalf("Folds(after %v, %d) = %d folds, %v", after, page, len(some), err)
			}
			if len(some) == 0 {
				break
			}
			got, after = append(got, some...), some[len(some)-1].KeysPosition
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("pages of %d have %+v\nwant %+v", page, got, want)
		}
	}
	if got, err := s.Folds(t.Context(), 1, store.KeysPosition{At: want[1].At, Commit: want[1].Commit - 1}, 1); err != nil || !reflect.DeepEqual(got, want[1:2]) {
		t.Errorf("Folds() before the end of one = %+v, %v, want it", got, err)
	}
	if got, err := s.Folds(t.Context(), 11, store.KeysPosition{}, 10); err != nil || len(got) != 0 {
		t.Errorf("Folds() of another partition = %+v, %v", got, err)
	}
}

// audits checks that a Commit writes its audit record, and that the rejected entries that wait are counted.
func audits(t *testing.T, s Store) {
	waiting := func(want int64) {
		t.Helper()
		if got, err := s.Waiting(t.Context()); err != nil || got != want {
			t.Errorf("Waiting() = %d, %v, want %d", got, err, want)
		}
	}
	waiting(0)
	first := commitOf(store.State{}, 7, 1)
	first.Rejected = []checkpoint.Rejected{{Tag: "bar", Value: 3, Reason: "full"}, {Tag: "zoo", Value: 1, Reason: "full"}}
	revision := mustCommit(t, s, first)
	waiting(2)
	documents, err := s.Rejected(t.Context(), "", 10)
	if err != nil || len(documents) != 1 {
		t.Fatalf("Rejected() = %v, %v", documents, err)
	}
	second := commitOf(store.State{Checkpoint: first.Next, Revision: revision}, 7, 2)
	second.Redriven = &store.Redriven{From: documents[0], Left: documents[0].Entries[:1]}
	second.Audit = &store.AuditRecord{ID: "discarded 7-1", At: at, Record: []byte(`{"tag":"zoo"}`)}
	mustCommit(t, s, second)
	waiting(1)
	late := commitOf(store.State{Checkpoint: first.Next, Revision: revision}, 7, 3)
	late.Audit = &store.AuditRecord{ID: "late", At: at, Record: []byte("{}")}
	wantConflict(t, s, late)
	got, err := s.Audits(t.Context(), "", 10)
	if err != nil || !reflect.DeepEqual(got, []store.AuditRecord{*second.Audit}) {
		t.Errorf("Audits() = %+v, %v, want %+v", got, err, *second.Audit)
	}
	more := store.AuditRecord{ID: "more", At: at, Record: []byte("{}")}
	if err := s.PutAudit(t.Context(), more); err != nil {
		t.Error(err)
	}
	if got, err := s.Audits(t.Context(), second.Audit.ID, 10); err != nil || !reflect.DeepEqual(got, []store.AuditRecord{more}) {
		t.Errorf("Audits() after the first = %+v, %v, want %+v", got, err, more)
	}
	if got, err := s.Audits(t.Context(), more.ID, 10); err != nil || len(got) != 0 {
		t.Errorf("Audits() after the last = %+v, %v", got, err)
	}
}

func owes(t *testing.T, s Store) {
	owing := func(want ...store.Owing) {
		t.Helper()
		got, readAt, err := s.Owing(t.Context())
		slices.SortFunc(got, func(a, b store.Owing) int { return int(a.Partition) - int(b.Partition) })
		if err != nil || !slices.EqualFunc(got, want, func(a, b store.Owing) bool { return a.Partition == b.Partition && a.Since.Equal(b.Since) }) {
			t.Errorf("Owing() = %v, %v, want %v", got, err, want)
		}
		if time.Since(readAt).Abs() > time.Minute {
			t.Errorf("Owing() is of %v, want about now", readAt)
		}
	}
	mustCommit(t, s, commitOf(store.State{}, 3, 1, "foo", 1))
	first := commitOf(store.State{}, 7, 1, "bar", 4, "foo", 2)
	first.Next.Owe(first.Tags)
	first.Tags = nil
	revision := mustCommit(t, s, first)
	other := commitOf(store.State{}, 8, 1, "foo", 9)
	other.Next.Owe(other.Tags)
	other.Tags = nil
	mustCommit(t, s, other)
	owing(store.Owing{Partition: 7, Since: at}, store.Owing{Partition: 8, Since: at})
	wantTags(t, s, store.Tag{Name: "foo", Total: 1, Increments: 1, UpdatedAt: at})

	// A partition that another relies on still owes.
	relying := commitOf(store.State{}, 9, 1)
	relying.Related = []store.Related{{Partition: 7, Revision: revision, Layouts: 5}}
	mustCommit(t, s, relying)
	state, err := s.Load(t.Context(), 7)
	first.Next.Layouts = 5
	if err != nil || !reflect.DeepEqual(state.Checkpoint, first.Next) {
		t.Errorf("Load() = %+v, %v\nwant %+v", state.Checkpoint, err, first.Next)
	}
	if totals, _, err := s.Totals(t.Context()); err != nil || len(totals) != 4 || totals[1].Err != nil || len(totals[1].Totals) != 2 {
		t.Errorf("Totals() = %+v, %v", totals, err)
	}
	if peeked, err := s.Peek(t.Context(), []uint32{7}); err != nil || peeked[0].Commit != 1 {
		t.Errorf("Peek() = %+v, %v", peeked, err)
	}
	paid := store.Commit{Partition: 7, Revision: state.Revision, Next: state.Checkpoint.Next(at, retention, nil, nil), Tags: state.Checkpoint.Owed}
	paid.Next.Pay(paid.Tags)
	mustCommit(t, s, paid)
	wantConflict(t, s, paid)
	owing(store.Owing{Partition: 8, Since: at})
	wantTags(t, s, store.Tag{Name: "bar", Total: 4, Increments: 1, UpdatedAt: at}, store.Tag{Name: "foo", Total: 3, Increments: 2, UpdatedAt: at})
	if state, err := s.Load(t.Context(), 7); err != nil || !reflect.DeepEqual(state.Checkpoint, paid.Next) {
		t.Errorf("Load() = %+v, %v\nwant %+v", state.Checkpoint, err, paid.Next)
	}
}

func dropsTag(t *testing.T, s Store) {
	first := commitOf(store.State{}, 7, 1, "bar", 4, "foo", 1)
	revision := mustCommit(t, s, first)
	for _, name := range []string{"bar", "unknown"} { // something is left of one, and the other does not exist
		if err := s.DropTag(t.Context(), name); err != nil {
			t.Errorf("DropTag(%s) = %v", name, err)
		}
	}
	wantTags(t, s, store.Tag{Name: "bar", Total: 4, Increments: 1, UpdatedAt: at}, store.Tag{Name: "foo", Total: 1, Increments: 1, UpdatedAt: at})
	second := store.Commit{
		Partition: 7, Revision: revision, Next: first.Next.Next(at, retention, nil, nil), Tags: []checkpoint.Delta{{Name: "bar", Value: -4, Increments: -1}},
	}
	if total, _, known := second.Next.Remove("bar"); !known || total.Total != 4 || len(second.Next.Totals) != 1 {
		t.Errorf("Remove() = %+v, %v and leaves %v", total, known, second.Next.Totals)
	}
	mustCommit(t, s, second)
	if err := s.DropTag(t.Context(), "bar"); err != nil {
		t.Error(err)
	}
	wantTags(t, s, store.Tag{Name: "foo", Total: 1, Increments: 1, UpdatedAt: at})
}

func tagsNamed(t *testing.T, s Store) {
	mustCommit(t, s, commitOf(store.State{}, 7, 1, "___", 2, "bar", 4, "foo", 1))
	got, err := s.TagsNamed(t.Context(), []string{"foo", "unknown", "___"})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, func(a, b store.Tag) int { return strings.Compare(a.Name, b.Name) })
	want := []store.Tag{{Name: "___", Total: 2, Increments: 1, UpdatedAt: at}, {Name: "foo", Total: 1, Increments: 1, UpdatedAt: at}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("TagsNamed() = %+v, want %+v", got, want)
	}
	if got, err := s.TagsNamed(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("TagsNamed() of no names = %v, %v", got, err)
	}
}

func erases(t *testing.T, s Store) {
	commit := commitOf(store.State{}, 1, 1)
	commit.Contributors = []store.Contributions{{Contributor: "ada", Contributions: 4}, {Contributor: "ada b", Contributions: 5}}
	mustCommit(t, s, commit)
	for _, id := range []string{"ada", "ada b"} {
		if err := s.Recognize(t.Context(), store.Recognition{Contributor: id, Tier: 3, Contributions: 4, RecognizedAt: at}); err != nil {
			t.Fatal(err)
		}
	}
	audit := store.AuditRecord{ID: "erased 1", At: at, Record: []byte("{}")}
	standing, err := s.Erase(t.Context(), "ada", audit)
	if err != nil || standing.Contributions != 4 || len(standing.Recognitions) != 1 {
		t.Errorf("Erase() = %+v, %v", standing, err)
	}
	if _, err := s.Erase(t.Context(), "ada", audit); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a second Erase() = %v, want ErrNotFound", err)
	}
	if got, err := s.Contributor(t.Context(), "ada"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Contributor() = %+v, %v, want ErrNotFound", got, err)
	}
	if got, err := s.Standing(t.Context(), "ada b"); err != nil || got.Contributions != 5 || len(got.Recognitions) != 1 {
		t.Errorf("Standing() of another = %+v, %v", got, err)
	}
	if all, _, err := s.Recognitions(t.Context(), store.RecognitionFilter{}, store.Recognition{}, 10); err != nil || len(all) != 1 {
		t.Errorf("Recognitions() = %+v, %v, want one", all, err)
	}
	if pending, _, err := s.Pending(t.Context(), store.Recognition{}, 10); err != nil || len(pending) != 1 {
		t.Errorf("Pending() = %+v, %v, want one", pending, err)
	}
	if page, _, err := s.Contributors(t.Context(), store.ByContributions, store.Contributor{}, 10); err != nil || len(page) != 1 {
		t.Errorf("Contributors() = %+v, %v, want one", page, err)
	}
	if got, err := s.Audits(t.Context(), "", 10); err != nil || !reflect.DeepEqual(got, []store.AuditRecord{audit}) {
		t.Errorf("Audits() = %+v, %v, want %+v", got, err, audit)
	}
}
