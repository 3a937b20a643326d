package history_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/query/internal/history"
	"github.com/accrue/accrue/query/internal/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const plenty = 1 << 30

var start = time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)

// countingReader counts the reads of a store and their periods.
type countingReader struct {
	*storeembedded.Store
	reads, periods atomic.Int64
}

func (r *countingReader) History(ctx context.Context, partition uint32, res checkpoint.Resolution, from, to time.Time) ([]store.Period, error) {
	periods, err := r.Store.History(ctx, partition, res, from, to)
	r.reads.Add(1)
	r.periods.Add(int64(len(periods)))
	return periods, err
}

// rig is a store, the view of it, and what was counted.
type rig struct {
	tb     testingTB
	store  *countingReader
	view   view.View
	counts map[time.Time][]int64 // of foo, by the time of their Commits
}

// testingTB is a testing.T or a rapid.T.
type testingTB interface {
	rapid.TB
	databasetest.TB
}

func newRig(tb testingTB) *rig {
	return &rig{tb: tb, store: &countingReader{Store: databasetest.Store(tb)}, counts: make(map[time.Time][]int64)}
}

// commit adds n to foo, and 1 to zoo, in a partition at a time.
func (r *rig) commit(partition uint32, at time.Time, n int64) {
	ctx := context.Background()
	state, err := r.store.Load(ctx, partition)
	if err != nil {
		r.tb.Fatal(err)
	}
	tags := []checkpoint.Delta{{Name: "foo", Value: n, Increments: 1}, {Name: "zoo", Value: 1, Increments: 1}}
	next := state.Checkpoint.Next(at, time.Hour, nil, tags)
	if _, err := r.store.Commit(ctx, store.Commit{
		Partition: partition, Revision: state.Revision, Next: next, Tags: tags, Closed: state.Checkpoint.Closed(&next),
	}); err != nil {
		r.tb.Fatal(err)
	}
	r.counts[next.UpdatedAt] = append(r.counts[next.UpdatedAt], n)
	totals, _, err := r.store.Totals(ctx)
	if err != nil {
		r.tb.Fatal(err)
	}
	r.view = *r.view.Next(totals, at)
}

// want is what Changes should return for foo and zoo.
func (r *rig) want(res checkpoint.Resolution, from, to time.Time) (foo, zoo []int64) {
	foo, zoo = []int64{}, []int64{}
	for begin := from; begin.Before(to); begin = begin.Add(time.Duration(res)) {
		var n, commits int64
		for at, counts := range r.counts {
			if res.Begin(at).Equal(begin) {
				for _, count := range counts {
					n += count
					commits++
				}
			}
		}
		foo, zoo = append(foo, n), append(zoo, commits)
	}
	return foo, zoo
}

func plus(a, b []int64) []int64 {
	sum := slices.Clone(a)
	for i := range b {
		sum[i] += b[i]
	}
	return sum
}

func TestChangesAreWhatWasCounted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t)
		// A limit below any block, and one above all: what is evicted is read again.
		h := history.New(r.store, rapid.SampledFrom([]int{0, 1000, plenty}).Draw(t, "limit"))
		now := start.Add(time.Duration(rapid.IntRange(0, 3600).Draw(t, "second")) * time.Second)
		for range rapid.IntRange(1, 15).Draw(t, "commits") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "pause")) * time.Second)
			r.commit(rapid.Uint32Range(0, 2).Draw(t, "partition"), now, rapid.Int64Range(1, 9).Draw(t, "value"))
			res := rapid.SampledFrom(checkpoint.Resolutions()).Draw(t, "resolution")
			from := res.Begin(start.Add(time.Duration(rapid.IntRange(-3600, 20_000).Draw(t, "from")) * time.Second))
			to := from.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "periods")) * time.Duration(res))
			got, err := h.Changes(context.Background(), &r.view, []string{"foo", "nil", "zoo"}, res, from, to)
			foo, zoo := r.want(res, from, to)
			if want := [][]int64{foo, make([]int64, len(foo)), zoo}; err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("Changes(%v to %v) = %v, %v, want %v", from, to, got, err, want)
			}
			for prefix, want := range map[string][]int64{"": plus(foo, zoo), "fo": foo, "zoo": zoo, "zooo": make([]int64, len(foo))} {
				if got, err := h.Sum(context.Background(), &r.view, prefix, res, from, to); err != nil || !slices.Equal(got, want) {
					t.Fatalf("Sum(%q, %v to %v) = %v, %v, want %v", prefix, from, to, got, err, want)
				}
			}
		}
	})
}

func TestPeriodsAreReadOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := history.New(r.store, plenty)
	ask := func(tag string) {
		if _, err := h.Changes(t.Context(), &r.view, []string{tag}, checkpoint.Minute, start, start.Add(3*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	for minute := range 100 {
		r.commit(7, start.Add(time.Duration(minute)*time.Minute), 1)
		ask("foo")
		ask("zoo") // the same documents
		ask("foo")
		for range 2 {
			if _, err := h.Sum(t.Context(), &r.view, "", checkpoint.Minute, start, start.Add(3*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := r.store.periods.Load(); got != 99 {
		t.Errorf("%d documents were read for 99 minutes that are over", got)
	}
	if got := r.store.reads.Load(); got > 101 {
		t.Errorf("the store was read %d times in 100 minutes", got)
	}
}

func TestManyWhoAskReadOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for minute := range 10 {
		r.commit(7, start.Add(time.Duration(minute)*time.Minute), 1)
	}
	h := history.New(r.store, plenty)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := h.Changes(t.Context(), &r.view, []string{"foo"}, checkpoint.Minute, start, start.Add(time.Hour)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := r.store.reads.Load(); got != 1 {
		t.Errorf("50 concurrent requests read %d times", got)
	}
}

// failingReader fails every read.
type failingReader struct{}

func (failingReader) History(context.Context, uint32, checkpoint.Resolution, time.Time, time.Time) ([]store.Period, error) {
	return nil, errDown
}

var errDown = errors.New("the store is down")

func TestAFailedReadIsAnErrorAndIsForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.commit(7, start, 1)
	r.commit(7, start.Add(time.Minute), 1)
	if got, err := history.New(failingReader{}, plenty).Changes(t.Context(), &r.view, []string{"foo"}, checkpoint.Minute, start, start.Add(time.Hour)); !errors.Is(err, errDown) {
		t.Errorf("Changes() = %v, %v", got, err)
	}
	h := history.New(r.store, plenty)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Changes(gone, &r.view, []string{"foo"}, checkpoint.Minute, start, start.Add(time.Hour)); !errors.Is(err, context.Canceled) {
		t.Errorf("Changes() of a client that has gone = %v", err)
	}
	if got, err := h.Changes(t.Context(), &r.view, []string{"foo"}, checkpoint.Minute, start, start.Add(2*time.Minute)); err != nil || !slices.Equal(got[0], []int64{1, 1}) {
		t.Errorf("Changes() after a failure = %v, %v", got, err)
	}
}

// A day of minutes of a tag among 3,400, all of which change: what the board's long chart costs when it is cached.
func BenchmarkChanges(b *testing.B) {
	s := databasetest.Store(b)
	ctx := b.Context()
	var state store.State
	tags := make([]checkpoint.Delta, 3400)
	for i := range tags {
		tags[i] = checkpoint.Delta{Name: fmt.Sprintf("tag_%c%c%c", 'a'+i/676, 'a'+i/26%26, 'a'+i%26), Value: 100, Increments: 1}
	}
	for minute := range 24 * 60 {
		next := state.Checkpoint.Next(start.Add(time.Duration(minute)*time.Minute), time.Hour, nil, tags)
		revision, err := s.Commit(ctx, store.Commit{Revision: state.Revision, Next: next, Closed: state.Checkpoint.Closed(&next)})
		if err != nil {
			b.Fatal(err)
		}
		state = store.State{Checkpoint: next, Revision: revision}
	}
	totals, _, err := s.Totals(ctx)
	if err != nil {
		b.Fatal(err)
	}
	v := new(view.View).Next(totals, start)
	h := history.New(s, plenty)
	for b.Loop() {
		if _, err := h.Changes(ctx, v, []string{"tag_cnn"}, checkpoint.Minute, start, start.Add(24*time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
}

// constantReader has the same changes in every period.
type constantReader struct {
	changes []byte
	reads   atomic.Int64
}

func (r *constantReader) History(_ context.Context, _ uint32, res checkpoint.Resolution, from, to time.Time) ([]store.Period, error) {
	var periods []store.Period
	for begin := from; begin.Before(to); begin = begin.Add(time.Duration(res)) {
		periods = append(periods, store.Period{Begin: begin, Changes: r.changes})
	}
	r.reads.Add(int64(len(periods)))
	return periods, nil
}

// many returns a view of 55,000 tags in 16 partitions, all of which change in every period.
func many() (*view.View, *constantReader) {
	const partitions, each = 16, 55_000 / 16
	var totals []checkpoint.Total
	var changes []checkpoint.Change
	for i := range each {
		name := fmt.Sprintf("tag_%c%c%c", 'a'+i/676, 'a'+i/26%26, 'a'+i%26)
		totals = append(totals, checkpoint.Total{Name: name, Total: 1000, Minute: 1, Hour: 1})
		changes = append(changes, checkpoint.Change{Name: name, Change: 100})
	}
	var read []store.PartitionTotals
	for p := range uint32(partitions) {
		read = append(read, store.PartitionTotals{Partition: p, Totals: totals, UpdatedAt: start, Revision: store.Revision{UpdateTime: start}})
	}
	return new(view.View).Next(read, start), &constantReader{changes: checkpoint.PackChanges(changes)}
}

// What the sums of a month cost: each document is read once, although what they hold is not kept.
func TestSumsAreKeptBeyondWhatTheyAreOf(t *testing.T) {
	t.Parallel()
	v, reader := many()
	reader.changes = checkpoint.PackChanges([]checkpoint.Change{{Name: "bar", Change: 3}, {Name: "foo", Change: 4}})
	h := history.New(reader, 0)
	for range 3 {
		got, err := h.Sum(t.Context(), v, "", checkpoint.Hour, start.Add(-720*time.Hour), start.Add(time.Hour))
		if err != nil || len(got) != 721 || got[0] != 16*7 || got[720] != 16*3437 {
			t.Fatalf("Sum() = %v, %v", got, err)
		}
	}
	// Of the first block of each partition only the periods that were asked for are needed; the block is read as a whole.
	if got, most := reader.reads.Load(), int64(16*13*60); got > most {
		t.Errorf("%d documents were read, want at most %d", got, most)
	}
}

func TestReadsAreBounded(t *testing.T) {
	t.Parallel()
	v, reader := many()
	reader.changes = checkpoint.PackChanges([]checkpoint.Change{{Name: "tag", Change: 1}})
	h := history.New(reader, 0) // nothing is kept
	began := time.Now()
	var err error
	for err == nil {
		_, err = h.Sum(t.Context(), v, "tag", checkpoint.Hour, start.Add(-720*time.Hour), start)
	}
	// Eight reads at once, of up to 60 documents, may each find the last of the budget.
	most := history.DocumentsAtOnce + 8*60 + int64(1000*time.Since(began).Seconds())
	if got := reader.reads.Load(); !errors.Is(err, history.ErrBudget) || got < history.DocumentsAtOnce || got > most {
		t.Errorf("%v after %d documents, want %d to %d", err, got, history.DocumentsAtOnce, most)
	}
}

// A month of hours of everything, when it is cached.
func BenchmarkSum(b *testing.B) {
	v, reader := many()
	h := history.New(reader, plenty)
	ask := func() {
		if _, err := h.Sum(b.Context(), v, "", checkpoint.Hour, start.Add(-720*time.Hour), start.Add(time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
	ask()
	for b.Loop() {
		ask()
	}
}

// The same for the names that have a prefix: every change of the month is looked at.
func BenchmarkSumWithPrefix(b *testing.B) {
	v, reader := many()
	h := history.New(reader, plenty)
	ask := func() {
		if _, err := h.Sum(b.Context(), v, "tag_c", checkpoint.Hour, start.Add(-720*time.Hour), start.Add(time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
	ask()
	for b.Loop() {
		ask()
	}
}

// What every tag gained in two days of hours, when they are cached.
func BenchmarkGained(b *testing.B) {
	v, reader := many()
	h := history.New(reader, plenty)
	ask := func() {
		if _, err := h.Gained(b.Context(), v, checkpoint.Hour, start.Add(-48*time.Hour), start); err != nil {
			b.Fatal(err)
		}
	}
	ask()
	for b.Loop() {
		ask()
	}
}

// What a tag gained is the sum of its changes.
func TestGainedIsTheSumOfTheChanges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t)
		h := history.New(r.store, rapid.SampledFrom([]int{0, plenty}).Draw(t, "limit"))
		now := start
		for range rapid.IntRange(1, 15).Draw(t, "commits") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "pause")) * time.Second)
			r.commit(rapid.Uint32Range(0, 2).Draw(t, "partition"), now, rapid.Int64Range(1, 9).Draw(t, "value"))
		}
		res := rapid.SampledFrom(checkpoint.Resolutions()).Draw(t, "resolution")
		to := res.Begin(now).Add(time.Duration(rapid.IntRange(-3, 1).Draw(t, "end")) * time.Duration(res))
		from := to.Add(-time.Duration(rapid.IntRange(0, 30).Draw(t, "periods")) * time.Duration(res))
		got, err := h.Gained(t.Context(), &r.view, res, from, to)
		foo, zoo := r.want(res, from, to)
		want := []int64{0, 0}
		for i := range foo {
			want[0] += foo[i]
			want[1] += zoo[i]
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Gained(%v to %v) = %v, %v, want %v", from, to, got, err, want)
		}
	})
}
