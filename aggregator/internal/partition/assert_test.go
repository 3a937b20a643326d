package partition

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/accrue/accrue/aggregator/internal/delivery"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// watched runs Partitions whose log and metric of assertions can be read.
type watched struct {
	*Partitions
	log    *bytes.Buffer
	reader *sdkmetric.ManualReader
	stop   func()
}

func observe(t *testing.T, l Ledger, s Settler) *watched {
	t.Helper()
	w := &watched{log: new(bytes.Buffer), reader: sdkmetric.NewManualReader()}
	var err error
	w.Partitions, err = New(Settings{
		Window: time.Second, Documents: 1000, Commits: 256, BufferBytes: 1 << 20, Retention: func() time.Duration { return 24 * time.Hour },
		Horizon: time.Minute, Keys: 1000,
	}, l, s, Telemetry{Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(w.reader)).Meter("test")}, zerolog.New(w.log))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx, ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return w
}

// failed returns how often each assertion failed.
func (w *watched) failed(t *testing.T) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := w.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "accrue_assertions_failed" {
				for _, point := range sum.DataPoints {
					name, _ := point.Attributes.Value("assertion")
					found[name.AsString()] = point.Value
				}
			}
		}
	}
	return found
}

// draftOf is a draft of two messages, and its Commit on a checkpoint that has a total of foo.
func draftOf(t *testing.T) (*partition, *draft, store.Commit) {
	t.Helper()
	shared, err := New(Settings{Retention: func() time.Duration { return time.Hour }, Documents: 100, Commits: 1, Horizon: time.Minute, Keys: 10},
		&ledger{}, &settler{}, Telemetry{}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	p := newPartition(shared.shared, 3)
	p.replace(store.State{Checkpoint: checkpoint.Checkpoint{Totals: []checkpoint.Total{{Name: "foo", Total: 9, Increments: 2}}}}, clockAt(time.Now()), 100)
	p.pending = messages(t, 3, "foo", 1, 2)
	p.pending = append(p.pending, contribution(t))
	d, err := p.draft(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p, d, p.commitOf(d)
}

func contribution(t *testing.T) *delivery.Delivery {
	t.Helper()
	var b message.Builder
	b.AddContribution("ada", message.Key{})
	d, err := delivery.Decode(&broker.Delivery{Message: broker.Message{Data: b.Encode(message.Publisher{1}, 3, 3, time.Now())}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCommitsAreChecked(t *testing.T) {
	t.Parallel()
	p, d, commit := draftOf(t)
	if err := p.check(d, &commit); err != nil {
		t.Errorf("check() of a right Commit = %v", err)
	}
	for name, test := range map[string]struct {
		assertion string
		bug       func(p *partition, d *draft, commit *store.Commit)
	}{
		"an increment is left out": {assertEntries, func(_ *partition, _ *draft, c *store.Commit) { c.Tags[0].Increments-- }},
		"a value is wrong":         {assertEntries, func(_ *partition, _ *draft, c *store.Commit) { c.Tags[0].Value++ }},
		"a contribution is counted twice": {assertEntries, func(_ *partition, _ *draft, c *store.Commit) {
			c.Contributors[0].Contributions++
		}},
		"an entry is counted and rejected": {assertEntries, func(_ *partition, _ *draft, c *store.Commit) {
			c.Rejected = append(c.Rejected, checkpoint.Rejected{Tag: "foo", Value: 1})
		}},
		"a change is written and owed": {assertEntries, func(_ *partition, _ *draft, c *store.Commit) { c.Next.Owe(c.Tags) }},
		"what was owed is lost": {assertEntries, func(p *partition, _ *draft, _ *store.Commit) {
			p.state.Checkpoint.Owed = []checkpoint.Delta{{Name: "foo", Value: 1, Increments: 1}}
		}},
		"a message is summed twice": {assertEntries, func(_ *partition, d *draft, _ *store.Commit) { d.fresh = append(d.fresh, d.fresh[0]) }},
		"the total is not that of the window": {assertTotals, func(_ *partition, _ *draft, c *store.Commit) {
			c.Next.Totals[0].Total++
		}},
		"the increments are not those of the window": {assertTotals, func(_ *partition, _ *draft, c *store.Commit) {
			c.Next.Totals[0].Increments--
		}},
		"a tag is lost": {assertTotals, func(_ *partition, _ *draft, c *store.Commit) { c.Next.Totals = nil }},
		"a tag has two totals": {assertTotals, func(_ *partition, _ *draft, c *store.Commit) {
			c.Next.Totals = append(c.Next.Totals, checkpoint.Total{Name: "foo"})
		}},
		"a message was settled before": {assertMessages, func(p *partition, _ *draft, _ *store.Commit) {
			p.state.Checkpoint.Publishers = map[message.Publisher]checkpoint.Counted{{1}: {Sequences: checkpoint.Intervals{}.Add(2)}}
		}},
		"a message is not settled after": {assertMessages, func(_ *partition, d *draft, c *store.Commit) {
			delete(c.Next.Publishers, d.messages[0].Publisher)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, d, commit := draftOf(t)
			test.bug(p, d, &commit)
			if err := p.check(d, &commit); !errors.Is(err, errAssertion) || !strings.Contains(err.Error(), ": "+test.assertion+": ") {
				t.Errorf("check() = %v, want the assertion %s", err, test.assertion)
			}
		})
	}
}

// A payment that is not what was owed is not sent.
func TestPaymentsAreChecked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		bug  func(*store.Commit)
		want error
	}{
		"right":             {func(*store.Commit) {}, nil},
		"still owed":        {func(c *store.Commit) { c.Next.Owe(c.Tags) }, errAssertion},
		"more than is owed": {func(c *store.Commit) { c.Tags[0].Value++ }, errAssertion},
		"a total changes":   {func(c *store.Commit) { c.Next.Totals[0].Total++ }, errAssertion},
	} {
		p, _, _ := draftOf(t)
		p.state.Checkpoint.Owed = []checkpoint.Delta{{Name: "foo", Value: 5, Increments: 1}}
		commit := p.next(nil, nil)
		commit.Next.Totals = slices.Clone(commit.Next.Totals)
		commit.Tags = slices.Clone(p.payable(10))
		commit.Next.Pay(commit.Tags)
		test.bug(&commit)
		if err := p.checkPaid(&commit); !errors.Is(err, test.want) {
			t.Errorf("%s: checkPaid() = %v, want %v", name, err, test.want)
		}
	}
}

// A Commit that contradicts an assertion is not sent, and its messages are not settled: late is better than wrong.
func TestACommitThatIsWrongIsNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := &ledger{states: make(map[uint32]store.State)}, &settler{}
		l.states[3] = store.State{Checkpoint: checkpoint.Checkpoint{Totals: []checkpoint.Total{{Name: "foo"}, {Name: "bar"}}}}
		w := observe(t, l, s)
		w.Add(3, messages(t, 3, "foo", 1))
		w.Add(4, messages(t, 4, "foo", 1))
		time.Sleep(10 * time.Second)
		w.stop()
		if settled, _ := s.counts(); settled != 1 || len(l.commits) != 1 || l.commits[0].Partition != 4 {
			t.Errorf("%d messages are settled, in %d commits", settled, len(l.commits))
		}
		if n := w.failed(t)[assertTotals]; n < 2 {
			t.Errorf("the assertion failed %d times", n)
		}
		if lines := strings.Count(w.log.String(), "an assertion failed"); lines != 1 || !strings.Contains(w.log.String(), `"level":"error"`) {
			t.Errorf("%d lines:\n%s", lines, w.log)
		}
	})
}

// After a load, documents that have less than the checkpoint fail an assertion; those with as much, or that an operator has
// just retired, do not.
func TestDocumentsAreSampledAfterALoad(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		short int64
		load  func(l *ledger)
		want  int64
	}{
		"as much":      {want: 0},
		"more":         {short: -1, want: 0},
		"less":         {short: 1, want: 1},
		"retired then": {short: 1, load: func(l *ledger) { l.states[3] = store.State{} }, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := &retiring{ledger: &ledger{states: make(map[uint32]store.State), short: test.short}, load: test.load}
				l.states[3] = store.State{Checkpoint: checkpoint.Checkpoint{Totals: []checkpoint.Total{{Name: "foo", Total: 5, Increments: 2}}}}
				w := observe(t, l, &settler{})
				w.Add(3, messages(t, 3, "bar", 1))
				time.Sleep(3 * time.Second)
				w.stop()
				failed := w.failed(t)
				if failed[assertDocuments] != test.want || failed[assertTotals] != 0 || len(failed) != len(assertions) {
					t.Errorf("assertions that failed: %v", failed)
				}
			})
		})
	}
}

// retiring is a ledger in which something happens after the first documents are read.
type retiring struct {
	*ledger
	load func(*ledger)
}

func (r *retiring) TagsNamed(ctx context.Context, names []string) ([]store.Tag, error) {
	found, err := r.ledger.TagsNamed(ctx, names)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.load != nil {
		r.load(r.ledger)
	}
	return found, err
}

// The queue of the sampler is bounded, and no partition waits for it.
func TestSamplesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSampler(&shared{})
		totals := slices.Repeat([]checkpoint.Total{{Name: "foo"}}, 1000)
		for range 1000 {
			s.loaded(1, &checkpoint.Checkpoint{Totals: totals})
		}
		if len(s.samples) != sampledBurst || len((<-s.samples).totals) != sampledTags {
			t.Errorf("%d samples", len(s.samples))
		}
	})
}
