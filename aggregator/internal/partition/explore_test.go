package partition

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator/internal/delivery"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// The explorer searches small worlds exhaustively: a few messages, some of them published or posted twice, two aggregators that
// run the production code, and a store that has the preconditions of Firestore and nothing else. In each state it tries every
// action that is possible there: a delivery, the end of a lease, a Commit that succeeds, one that fails, one whose reply is lost,
// one that arrives late, a crash, a long pause. In each state that it reaches, no total may exceed what was accepted, the tags'
// documents must equal the checkpoints, and only what a checkpoint contains may be acknowledged; and from each, without further
// faults, everything must be counted exactly once.

// scenario is a world before its first action.
type scenario struct {
	name     string
	messages []message.Batch
	// copies are the published messages, by their places in messages: a publish that was retried is there twice.
	copies []int
	// before is how many of the copies are counted before the first action.
	before int
	// want is what the tags' totals are in the end, and rejected what is rejected.
	want, rejected map[string]int64
	// tagDocuments says that checkpoints owe the documents of tags what they add.
	tagDocuments bool
	// refuses is a tag whose document the store refuses.
	refuses string
	// faults, redeliveries and pauses bound how many of them happen.
	faults, redeliveries, pauses int
}

// defect is a bug that is planted to see that the explorer finds it.
type defect struct {
	name, scenario string
	plant          func(*world)
}

const (
	pause     = 3 * time.Hour
	retention = 24 * time.Hour
)

func batch(publisher byte, sequence uint64, partition, partitions uint32, entries ...message.Increment) message.Batch {
	return message.Batch{
		Publisher: message.Publisher{publisher}, Partition: partition, Partitions: partitions, Sequence: sequence,
		AcceptedAt: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), Increments: entries, // when a bubble begins
	}
}

func counts(tag string, value uint8, key byte) message.Increment {
	inc := message.Increment{Tag: tag, Value: value}
	if key != 0 {
		inc.Key = message.Key{15: 1, 0: key}
	}
	return inc
}

// moved is a tag that belongs to partition 1 of 2.
var moved = func() string {
	for c := 'a'; ; c++ {
		if tag := "mov" + string(c); increment.Partition(tag, 2) == 1 {
			return tag
		}
	}
}()

func scenarios() []scenario {
	return []scenario{
		{
			name:     "a publish is repeated",
			messages: []message.Batch{batch(1, 1, 0, 1, counts("foo", 4, 0)), batch(1, 2, 0, 1, counts("foo", 2, 0), counts("bar", 1, 0))},
			copies:   []int{0, 0, 1}, want: map[string]int64{"foo": 6, "bar": 1}, faults: 2, redeliveries: 1,
		},
		{
			name:     "a producer retries with its key",
			messages: []message.Batch{batch(1, 1, 0, 1, counts("foo", 4, 9)), batch(2, 1, 0, 1, counts("foo", 4, 9)), batch(2, 2, 0, 1, counts("foo", 1, 8))},
			copies:   []int{0, 1, 2}, want: map[string]int64{"foo": 5}, faults: 2,
		},
		{
			name:     "a producer retries while PARTITIONS changes",
			messages: []message.Batch{batch(1, 1, 0, 1, counts(moved, 4, 9)), batch(2, 1, 1, 2, counts(moved, 4, 9))},
			copies:   []int{0, 1}, want: map[string]int64{moved: 4}, faults: 2, redeliveries: 1,
		},
		{
			name: "a producer retries after PARTITIONS has changed",
			messages: []message.Batch{
				batch(1, 1, 0, 1, counts(moved, 1, 7)), batch(2, 1, 1, 2, counts(moved, 2, 8)),
				batch(1, 2, 0, 1, counts(moved, 4, 9)), batch(2, 2, 1, 2, counts(moved, 4, 9)),
			},
			copies: []int{0, 1, 2, 3}, before: 2, want: map[string]int64{moved: 7}, faults: 2,
		},
		{
			name:     "the store refuses a document",
			messages: []message.Batch{batch(1, 1, 0, 1, counts("bad", 4, 0), counts("foo", 1, 0)), batch(2, 1, 0, 1, counts("foo", 2, 0))},
			copies:   []int{0, 1}, want: map[string]int64{"foo": 3}, rejected: map[string]int64{"bad": 4}, refuses: "bad", faults: 2,
		},
		{
			name:     "documents of tags are written later",
			messages: []message.Batch{batch(1, 1, 0, 1, counts("foo", 4, 0)), batch(1, 2, 0, 1, counts("foo", 2, 0), counts("bar", 1, 0))},
			copies:   []int{0, 1}, want: map[string]int64{"foo": 6, "bar": 1}, tagDocuments: true, faults: 2, redeliveries: 1,
		},
		{
			name:     "a publisher is silent for long",
			messages: []message.Batch{batch(1, 1, 0, 1, counts("foo", 4, 0)), batch(2, 1, 0, 1, counts("foo", 2, 0)), batch(2, 2, 0, 1, counts("foo", 1, 0))},
			copies:   []int{0, 0, 1, 2}, before: 1, want: map[string]int64{"foo": 7}, pauses: 1,
		},
	}
}

// world is one state: it is made again from its scenario and the actions that led to it.
type world struct {
	scenario
	partitions map[uint32]*kept
	documents  map[string]int64
	rejections map[string]int64
	layouts    checkpoint.Layouts
	layoutsAt  store.Revision
	ticks      int
	inFlight   []store.Commit
	outcome    outcome

	published  []published
	aggregated []*aggregator
	retention  time.Duration
	violation  error

	// The planted defects.

	owedStays, noPrecondition, standsStill, noKeys, noRelated, noLayouts, acknowledgesEarly bool
}

// kept is what the store keeps of a partition.
type kept struct {
	state    store.State
	messages map[checkpoint.Message]bool
	keys     []store.CommitKeys
}

type published struct {
	message      int
	leased       bool
	acknowledged bool
}

type aggregator struct {
	world      *world
	partitions *Partitions
	byNumber   map[uint32]*partition
}

type outcome string

const (
	succeeds outcome = "succeeds"
	fails    outcome = "fails"
	lost     outcome = "succeeds and its reply is lost"
	late     outcome = "is delayed"
)

var errUnavailable = errors.New("unavailable")

func newWorld(t *testing.T, s *scenario, plant func(*world)) *world {
	t.Helper()
	w := &world{
		scenario: *s, partitions: make(map[uint32]*kept), documents: make(map[string]int64), rejections: make(map[string]int64),
		retention: retention,
	}
	for _, m := range s.copies {
		w.published = append(w.published, published{message: m})
	}
	if plant != nil {
		plant(w)
	}
	for range 2 {
		w.aggregated = append(w.aggregated, w.start(t))
	}
	for at := range s.before {
		w.deliver(0, at)
		w.step(w.aggregated[0].byNumber[s.messages[s.copies[at]].Partition], succeeds)
	}
	return w
}

func (w *world) start(t *testing.T) *aggregator {
	t.Helper()
	a := &aggregator{world: w, byNumber: make(map[uint32]*partition)}
	settings := Settings{
		Window: time.Second, Documents: 100, Commits: 1, BufferBytes: 1 << 20, Retention: func() time.Duration { return w.retention },
		Horizon: retention, Keys: 1000,
	}
	if w.tagDocuments {
		settings.TagDocuments = time.Minute
	}
	var err error
	if a.partitions, err = New(settings, w, a, Telemetry{}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	return a
}

// Settled and Release are the Settler of an aggregator. The receipt of a delivery is the place of what was published.

func (a *aggregator) Settled(deliveries []*delivery.Delivery) {
	for _, d := range deliveries {
		a.world.acknowledge(d)
	}
}

func (a *aggregator) Release(deliveries []*delivery.Delivery, _ time.Duration) {
	for _, d := range deliveries {
		a.world.published[place(d)].leased = false
	}
}

func place(d *delivery.Delivery) int {
	at, err := strconv.Atoi(d.Receipt)
	if err != nil {
		panic(err)
	}
	return at
}

func (w *world) acknowledge(d *delivery.Delivery) {
	if p := w.partitions[d.Batch.Partition]; p == nil || !p.messages[d.Identity()] {
		w.violation = fmt.Errorf("message %d is acknowledged and not settled", w.published[place(d)].message+1)
	}
	w.published[place(d)].acknowledged = true
}

// The store.

func (w *world) kept(number uint32) *kept {
	if w.partitions[number] == nil {
		w.partitions[number] = &kept{messages: make(map[checkpoint.Message]bool)}
	}
	return w.partitions[number]
}

func (w *world) tick() store.Revision {
	w.ticks++
	return store.Revision{UpdateTime: time.Now().Add(time.Duration(w.ticks) * time.Millisecond)}
}

func (w *world) Load(_ context.Context, number uint32) (store.State, error) {
	state := w.kept(number).state
	state.ReadAt = time.Now().Add(time.Duration(w.ticks) * time.Millisecond)
	return state, nil
}

func (w *world) Keys(_ context.Context, number uint32, after store.KeysPosition, _ int) (found []store.CommitKeys, _ error) {
	if w.noKeys {
		return nil, nil
	}
	for _, keys := range w.kept(number).keys {
		if store.KeysID(keys.KeysPosition) > store.KeysID(after) {
			found = append(found, keys)
		}
	}
	return found, nil
}

func (w *world) ReleasedKeys(context.Context, uint32, uint64, int) ([]store.CommitKeys, error) {
	return nil, nil
}

func (w *world) Folds(context.Context, uint32, store.KeysPosition, int) ([]store.Fold, error) {
	return nil, nil
}

func (w *world) Peek(_ context.Context, numbers []uint32) (found []store.Peeked, _ error) {
	for _, number := range numbers {
		state := w.kept(number).state
		found = append(found, store.Peeked{Partition: number, Revision: state.Revision, Commit: state.Checkpoint.Commit, Layouts: state.Checkpoint.Layouts})
	}
	return found, nil
}

func (w *world) TagsNamed(context.Context, []string) ([]store.Tag, error) { return nil, errUnavailable }

func (w *world) Owing(context.Context) (found []store.Owing, at time.Time, _ error) {
	for number, p := range w.partitions {
		if len(p.state.Checkpoint.Owed) > 0 {
			found = append(found, store.Owing{Partition: number, Since: p.state.Checkpoint.OwedSince})
		}
	}
	return found, time.Now(), nil
}

func (w *world) Layouts(context.Context) (checkpoint.Layouts, store.Revision, error) {
	if w.noLayouts {
		return checkpoint.Layouts{}, w.layoutsAt, nil
	}
	return w.layouts, w.layoutsAt, nil
}

// Commit has the outcome that the explorer chose, and those after it in one step succeed.
func (w *world) Commit(_ context.Context, commit store.Commit) (store.Revision, error) {
	outcome := w.outcome
	w.outcome = succeeds
	switch outcome {
	case fails:
		return store.Revision{}, errUnavailable
	case late:
		w.inFlight = append(w.inFlight, commit)
		return store.Revision{}, errUnavailable
	case lost:
		_, _ = w.apply(&commit)
		return store.Revision{}, errUnavailable
	default:
		return w.apply(&commit)
	}
}

// apply is a Commit that has reached the store.
func (w *world) apply(commit *store.Commit) (store.Revision, error) {
	p := w.kept(commit.Partition)
	if !w.noPrecondition && commit.Revision != p.state.Revision || commit.Layouts != nil && commit.Layouts.Revision != w.layoutsAt {
		return store.Revision{}, store.ErrConflict
	}
	for _, related := range commit.Related {
		if !w.noRelated && w.kept(related.Partition).state.Revision != related.Revision {
			return store.Revision{}, store.ErrConflict
		}
	}
	for _, d := range commit.Tags {
		if d.Name == w.refuses {
			return store.Revision{}, store.ErrRefused
		}
	}
	for _, d := range commit.Tags {
		w.documents[d.Name] += d.Value
	}
	for i := range commit.Rejected {
		w.rejections[commit.Rejected[i].Tag] += int64(commit.Rejected[i].Value)
	}
	for _, related := range commit.Related {
		if other := w.kept(related.Partition); other.state.Checkpoint.Layouts < related.Layouts {
			other.state.Checkpoint.Layouts, other.state.Revision = related.Layouts, w.tick()
		}
	}
	if commit.Layouts != nil {
		w.layouts, w.layoutsAt = commit.Layouts.Next, w.tick()
	}
	revision := w.tick()
	if w.standsStill && p.state.Revision != (store.Revision{}) {
		revision = p.state.Revision
	}
	before := p.state.Checkpoint
	p.state = store.State{Checkpoint: commit.Next, Revision: revision}
	if w.owedStays && len(commit.Tags) > 0 {
		p.state.Checkpoint.Owed = before.Owed
	}
	if len(commit.Keys) > 0 {
		position := store.KeysPosition{At: commit.Next.UpdatedAt, Commit: commit.Next.Commit}
		p.keys = append(p.keys, store.CommitKeys{KeysPosition: position, Keys: slices.Clone(commit.Keys)})
	}
	for i := range w.messages {
		m := checkpoint.Message{Publisher: w.messages[i].Publisher, Sequence: w.messages[i].Sequence}
		if w.messages[i].Partition == commit.Partition && commit.Next.Contains(m) {
			p.messages[m] = true // also after its publisher has left the checkpoint
		}
	}
	return revision, nil
}

// check compares the world with the invariants.
func (w *world) check() error {
	if w.violation != nil {
		return w.violation
	}
	totals, owed := make(map[string]int64), make(map[string]int64)
	for _, p := range w.partitions {
		for i := range p.state.Checkpoint.Totals {
			totals[p.state.Checkpoint.Totals[i].Name] += p.state.Checkpoint.Totals[i].Total
		}
		for _, d := range p.state.Checkpoint.Owed {
			owed[d.Name] += d.Value
		}
	}
	for name, total := range totals {
		if w.documents[name]+owed[name] != total {
			return fmt.Errorf("the document of %s has %d and is owed %d, the checkpoints have %d", name, w.documents[name], owed[name], total)
		}
		if total > w.want[name] {
			return fmt.Errorf("the total of %s is %d, and %d were accepted", name, total, w.want[name])
		}
	}
	for name, value := range w.rejections {
		if value > w.rejected[name] {
			return fmt.Errorf("%d of %s are rejected, and %d were accepted", value, name, w.rejected[name])
		}
	}
	return nil
}

// action is something that can happen in a state.
type action struct {
	name string
	do   func()
}

// actions returns what can happen, in an order that is always the same.
func (w *world) actions(t *testing.T) (all []action) {
	t.Helper()
	may := func(name string, do func()) { all = append(all, action{name, do}) }
	for at := range w.published {
		c := &w.published[at]
		switch {
		case c.acknowledged:
		case !c.leased:
			for i := range w.aggregated {
				may(fmt.Sprintf("aggregator %d pulls message %d (copy %d)", i+1, c.message+1, at+1), func() { w.deliver(i, at) })
			}
		case w.redeliveries > 0:
			may(fmt.Sprintf("the lease of copy %d ends", at+1), func() { w.redeliveries--; c.leased = false })
		}
	}
	outcomes := []outcome{succeeds}
	if w.faults > 0 {
		outcomes = append(outcomes, fails, lost, late)
	}
	for i, a := range w.aggregated {
		for _, number := range slices.Sorted(maps.Keys(a.byNumber)) {
			p := a.byNumber[number]
			if len(p.pending)+len(p.open.deliveries) == 0 {
				continue
			}
			for _, o := range outcomes {
				may(fmt.Sprintf("aggregator %d commits partition %d: the Commit %s", i+1, number, o), func() {
					if o != succeeds {
						w.faults--
					}
					w.step(p, o)
				})
			}
		}
		for _, number := range slices.Sorted(maps.Keys(w.partitions)) {
			if len(w.partitions[number].state.Checkpoint.Owed) == 0 {
				continue
			}
			for _, o := range outcomes {
				may(fmt.Sprintf("aggregator %d writes the documents of partition %d: the Commit %s", i+1, number, o), func() {
					if o != succeeds {
						w.faults--
					}
					w.pay(a.partition(number), o)
				})
			}
		}
		if w.faults > 0 && len(a.byNumber) > 0 {
			may(fmt.Sprintf("aggregator %d crashes", i+1), func() { w.faults--; w.crash(t, i) })
		}
	}
	for i := range w.inFlight {
		may("a delayed Commit arrives", func() {
			commit := w.inFlight[i]
			w.inFlight = slices.Delete(slices.Clone(w.inFlight), i, i+1)
			_, _ = w.apply(&commit)
		})
	}
	if w.pauses > 0 {
		may("hours pass", func() { w.pauses--; time.Sleep(pause) })
	}
	return all
}

func (w *world) deliver(i, at int) {
	a, c := w.aggregated[i], &w.published[at]
	c.leased = true
	b := w.messages[c.message]
	d := &delivery.Delivery{Batch: &b, Receipt: strconv.Itoa(at), Cost: 1}
	a.partition(b.Partition).add([]*delivery.Delivery{d})
	if w.acknowledgesEarly {
		c.acknowledged = true
	}
}

func (a *aggregator) partition(number uint32) *partition {
	p := a.byNumber[number]
	if p == nil {
		p = newPartition(a.partitions.shared, number)
		a.partitions.number.Add(1)
		a.byNumber[number] = p
	}
	return p
}

// pay lets a partition write what documents lack, as far as it knows.
func (w *world) pay(p *partition, o outcome) {
	if !p.loaded && p.load(context.Background()) != nil {
		return
	}
	w.outcome = o
	if len(p.state.Checkpoint.Owed) > 0 {
		_ = p.payOnce(context.Background())
	}
	w.outcome = succeeds
}

func (w *world) step(p *partition, o outcome) {
	if len(p.pending) == 0 {
		p.detach(byAge)
	}
	w.outcome = o
	_ = p.step(context.Background()) // what it could not settle is pending
	w.outcome = succeeds
}

func (w *world) crash(t *testing.T, i int) {
	t.Helper()
	for _, p := range w.aggregated[i].byNumber {
		for _, d := range slices.Concat(p.pending, p.open.deliveries) {
			w.published[place(d)].leased = false
		}
	}
	w.aggregated[i] = w.start(t)
}

// settle lets everything end without further faults: leases end, and an aggregator counts what is left.
func (w *world) settle(t *testing.T) error {
	t.Helper()
	for i := range w.aggregated {
		w.crash(t, i)
	}
	for range 20 {
		for at := range w.published {
			if c := &w.published[at]; !c.acknowledged && !c.leased {
				w.deliver(0, at)
			}
		}
		for _, p := range w.aggregated[0].byNumber {
			if len(p.pending)+len(p.open.deliveries) > 0 {
				w.step(p, succeeds)
			}
		}
	}
	for range 2 { // the second time, the checkpoint is loaded
		for number := range w.partitions {
			w.pay(w.aggregated[0].partition(number), succeeds)
		}
	}
	for i := range w.inFlight { // the last Commits that can arrive
		_, _ = w.apply(&w.inFlight[i])
	}
	for at := range w.published {
		if !w.published[at].acknowledged {
			return fmt.Errorf("copy %d is never acknowledged", at+1)
		}
	}
	if err := w.check(); err != nil {
		return err
	}
	for number, p := range w.partitions {
		if len(p.state.Checkpoint.Owed) > 0 {
			return fmt.Errorf("partition %d owes %v", number, p.state.Checkpoint.Owed)
		}
	}
	if !maps.Equal(w.documents, w.want) || len(w.rejected) > 0 && !maps.Equal(w.rejections, w.rejected) {
		return fmt.Errorf("counted %v, rejected %v, want %v, %v", w.documents, w.rejections, w.want, w.rejected)
	}
	return nil
}

// String describes the state: worlds with equal texts behave equally.
func (w *world) String() string {
	var s strings.Builder
	fmt.Fprint(&s, w.published, w.faults, w.redeliveries, w.pauses, w.documents, w.rejections, w.layouts.Version, w.ticks)
	for _, number := range slices.Sorted(maps.Keys(w.partitions)) {
		p := w.partitions[number]
		fmt.Fprint(&s, "|", number, p.state.Revision.UpdateTime, p.state.Checkpoint, len(p.keys))
	}
	for i := range w.inFlight {
		fmt.Fprint(&s, "|", w.inFlight[i].Partition, w.inFlight[i].Revision.UpdateTime, w.inFlight[i].Next, w.inFlight[i].Tags, w.inFlight[i].Keys)
	}
	for _, a := range w.aggregated {
		for _, number := range slices.Sorted(maps.Keys(a.byNumber)) {
			p := a.byNumber[number]
			fmt.Fprint(&s, "|", number, p.loaded, p.most, p.refused, p.index.Held(), len(p.elsewhere), p.layouts.readAt)
			if p.loaded {
				fmt.Fprint(&s, p.state.Revision.UpdateTime)
			}
			for _, d := range p.pending {
				s.WriteString(" p" + d.Receipt)
			}
			for _, d := range p.open.deliveries {
				s.WriteString(" o" + d.Receipt)
			}
		}
		s.WriteByte('/')
	}
	return s.String()
}

// explore visits up to limit states of a scenario. It returns how many it has seen, whether those are all, and the first violation
// with what led to it.
func explore(t *testing.T, s *scenario, plant func(*world), limit int) (states int, all bool, err error) {
	t.Helper()
	seen := make(map[string]struct{})
	for left := [][]int{{}}; len(left) > 0; {
		path := left[0] // the shortest first, so that a trace is short
		left = left[1:]
		w := newWorld(t, s, plant)
		var trace []string
		violated := func(err error) error {
			return fmt.Errorf("%w\n  %s", err, strings.Join(trace, "\n  "))
		}
		for _, choice := range path {
			next := w.actions(t)[choice]
			trace = append(trace, next.name)
			next.do()
		}
		if err := w.check(); err != nil {
			return len(seen), false, violated(err)
		}
		text := w.String()
		if _, known := seen[text]; known {
			continue
		}
		seen[text] = struct{}{}
		for choice := range w.actions(t) {
			left = append(left, append(slices.Clone(path), choice))
		}
		if err := w.settle(t); err != nil {
			trace = append(trace, "(everything else succeeds)")
			return len(seen), false, violated(err)
		}
		if len(seen) == limit {
			return len(seen), len(left) == 0, nil
		}
	}
	return len(seen), true, nil
}

// TestEveryStateOfSmallWorldsCountsExactlyOnce explores some thousand states of each scenario, and with MODEL=1 all of them.
func TestEveryStateOfSmallWorldsCountsExactlyOnce(t *testing.T) {
	t.Parallel()
	limit := 1_000
	switch {
	case os.Getenv("MODEL") != "":
		limit = 10_000_000
	case testing.Short():
		limit = 300
	}
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				states, all, err := explore(t, &s, nil, limit)
				if err != nil {
					t.Fatalf("after %d states: %v", states, err)
				}
				t.Logf("%d states, all: %v", states, all)
			})
		})
	}
}

// Each defect is one of those that the protocol excludes. The explorer finds it.
func TestTheExplorerFindsPlantedDefects(t *testing.T) {
	t.Parallel()
	all := scenarios()
	for _, d := range []defect{
		{"Commits have no precondition", "a publish is repeated", func(w *world) { w.noPrecondition = true }},
		{"a Commit leaves the update time as it is", "a publish is repeated", func(w *world) { w.standsStill = true }},
		{"messages are acknowledged before their Commit", "a publish is repeated", func(w *world) { w.acknowledgesEarly = true }},
		{"publishers leave the checkpoint too early", "a publisher is silent for long", func(w *world) { w.retention = pause / 2 }},
		{"keys of other Commits are not read", "a producer retries with its key", func(w *world) { w.noKeys = true }},
		{"keys of the former partition are not read", "a producer retries while PARTITIONS changes", func(w *world) { w.noLayouts = true }},
		{"a document is written by a Commit without a precondition", "documents of tags are written later", func(w *world) { w.noPrecondition = true }},
		{"what is owed is not taken out of the checkpoint", "documents of tags are written later", func(w *world) { w.owedStays = true }},
		{"the other partition may change meanwhile", "a producer retries after PARTITIONS has changed", func(w *world) { w.noRelated = true }},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			at := slices.IndexFunc(all, func(s scenario) bool { return s.name == d.scenario })
			synctest.Test(t, func(t *testing.T) {
				states, _, err := explore(t, &all[at], d.plant, 100_000)
				if err == nil {
					t.Fatalf("not found in %d states", states)
				}
				t.Logf("found after %d states: %v", states, err)
			})
		})
	}
}
