package simulate

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/faults"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// kind is a kind of fault. Every run must reach each of them.
type kind string

const (
	delayed     kind = "delay"
	lostRequest kind = "request lost"
	lostReply   kind = "reply lost after the effect"
	late        kind = "request in effect after its sender gave up"
	twice       kind = "request made twice"
	hung        kind = "hang"
	conflicted  kind = "conflict"
	refused     kind = "document refused"
	unavailable kind = "broker or store unavailable"
	silent      kind = "broker or store silent"
	full        kind = "disk full"
	redelivered kind = "message delivered again"
	killed      kind = "service killed"
	stopped     kind = "service stopped"
	frozen      kind = "service frozen"
	skewed      kind = "clock of ingest wrong"
	jumped      kind = "clock of ingest jumps"
	divided     kind = "PARTITIONS changed"
	owed        kind = "documents of tags written later"
	garbage     kind = "undecodable message"
	redriven    kind = "redrive while services run"
	cutShort    kind = "redrive killed"
)

var kinds = []kind{
	delayed, lostRequest, lostReply, late, twice, hung, conflicted, refused, unavailable, silent, full, redelivered, killed, stopped, frozen, skewed, jumped,
	divided, owed, garbage, redriven, cutShort,
}

// latest is how much later than its sender gave up a request may have its effect.
const latest = 20 * time.Second

var (
	errLost        = errors.New("lost on the network")
	errUnavailable = errors.New("unavailable")
	errDead        = errors.New("the process is dead")
)

// tally counts what a run has exercised.
type tally struct {
	mu     sync.Mutex
	counts map[kind]int
}

func (t *tally) add(k kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[k]++
}

// weather is what happens to all requests of a world for a while.
type weather struct {
	mu     sync.Mutex
	healed bool
	// down says which system does not answer, or answers errors, and until when.
	down map[string]outage
	full time.Time
	// refuses is a tag whose document the store refuses until a time.
	refuses      string
	refusesUntil time.Time
}

type outage struct {
	until  time.Time
	silent bool
}

// link is what one life of a service has of the broker and the store. When the service dies, so does its link: nothing that it
// still does has an effect, but what it has sent may arrive.
type link struct {
	*weather
	tally  *tally
	faults *faults.Faults
	seed   uint64

	mu          sync.Mutex
	dead        bool
	frozenUntil time.Time
}

func newLink(w *weather, t *tally, seed uint64, name string) *link {
	l := &link{weather: w, tally: t, seed: seed ^ hash(name)}
	l.faults = faults.New(l.rule)
	return l
}

func hash(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return h.Sum64()
}

func (l *link) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

func (l *link) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

func (l *link) freeze(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozenUntil = time.Now().Add(d)
}

// rule picks the fault of a request: the same seed, service, method and number of the request give the same.
func (l *link) rule(call faults.Call) faults.Fault {
	if l.isDead() {
		return faults.Fail(errDead)
	}
	fault := l.pick(call)
	return func(ctx context.Context, request func(context.Context) error) error {
		var err error
		if fault == nil {
			err = request(ctx)
		} else {
			err = fault(ctx, request)
		}
		if l.isDead() {
			return errDead
		}
		return err
	}
}

var ofBroker = []string{"Publish", "Pull", "Acknowledge", "Extend", "Describe", "CheckTopic", "CheckSubscription"}

// writes are the requests that need room on the disk.
var writes = []string{"Publish", "Acknowledge", "Commit", "Recognize", "Raise", "Claim", "MarkSent"}

func (l *link) pick(call faults.Call) faults.Fault {
	now := time.Now()
	w := l.weather
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.healed {
		return nil
	}
	l.mu.Lock()
	thaw := l.frozenUntil
	l.mu.Unlock()
	if left := thaw.Sub(now); left > 0 {
		return faults.Delay(left)
	}
	system := "store"
	if slices.Contains(ofBroker, call.Method) {
		system = "broker"
	}
	if o := w.down[system]; now.Before(o.until) {
		if o.silent {
			l.tally.add(silent)
			return faults.Hang()
		}
		l.tally.add(unavailable)
		return faults.Fail(errUnavailable)
	}
	if now.Before(w.full) && slices.Contains(writes, call.Method) {
		l.tally.add(full)
		if call.Method == "Publish" {
			return faults.Fail(fmt.Errorf("%w: %w", broker.ErrRefused, database.ErrFull))
		}
		return faults.Fail(database.ErrFull)
	}
	if call.Commit != nil && now.Before(w.refusesUntil) && touches(call.Commit, w.refuses) {
		l.tally.add(refused)
		return faults.Fail(store.ErrRefused)
	}
	random := rand.New(rand.NewPCG(l.seed, hash(call.Method)+uint64(call.Number)))
	delay := time.Duration(random.Int64N(int64(40 * time.Millisecond)))
	if random.IntN(50) == 0 {
		delay *= 100
	}
	for _, o := range []struct {
		odds  int
		kind  kind
		fault faults.Fault
	}{
		{12, lostRequest, faults.Fail(errLost)},
		{12, lostReply, faults.DelayThen(delay, faults.LoseReply(errLost))},
		{12, late, l.faults.Late(time.Duration(random.Int64N(int64(latest))), errLost)},
		{12, twice, faults.DelayThen(delay, faults.Twice())},
		{4, hung, faults.Hang()},
		{12, conflicted, nil},
	} {
		if n := random.IntN(1000); n >= o.odds {
			continue
		}
		if o.kind == conflicted {
			if call.Method != "Commit" {
				continue
			}
			o.fault = faults.Fail(store.ErrConflict)
		}
		l.tally.add(o.kind)
		return o.fault
	}
	l.tally.add(delayed)
	return faults.Delay(delay)
}

func touches(c *store.Commit, tag string) bool {
	return slices.ContainsFunc(c.Tags, func(d checkpoint.Delta) bool { return d.Name == tag })
}

// source is a subscription that also delivers messages again, out of order.
type source struct {
	*faults.Subscription
	link   *link
	mu     sync.Mutex
	random *rand.Rand
	kept   []broker.Delivery
}

func (s *source) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	deliveries, err := s.Subscription.Pull(ctx, limit)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.link.isDead() {
		return deliveries, err
	}
	for _, d := range deliveries {
		if s.random.IntN(10) == 0 && len(s.kept) < 100 {
			s.kept = append(s.kept, d)
		}
	}
	if len(s.kept) > 0 && s.random.IntN(5) == 0 {
		s.link.tally.add(redelivered)
		deliveries = append(deliveries, s.kept[0])
		s.kept = s.kept[1:]
	}
	return deliveries, nil
}

// clocked is a topic to which an ingest publishes whose clock is wrong, by a duration that may change.
type clocked struct {
	*faults.Topic
	link *link
	by   *atomic.Int64
}

func (c *clocked) Publish(ctx context.Context, messages []broker.Message) error {
	by := time.Duration(c.by.Load())
	if by == 0 {
		return c.Topic.Publish(ctx, messages)
	}
	shifted := slices.Clone(messages)
	for i := range shifted {
		b, err := message.Decode(shifted[i].Data)
		if err != nil {
			return err
		}
		w := message.Builder{Partitions: b.Partitions}
		for _, inc := range b.Increments {
			w.AddIncrement(inc.Tag, inc.Value, inc.Key)
		}
		for _, contribution := range b.Contributions {
			w.AddContribution(contribution.Contributor, contribution.Key)
		}
		shifted[i].Data = w.Encode(b.Publisher, b.Partition, b.Sequence, b.AcceptedAt.Add(by))
	}
	c.link.tally.add(skewed)
	return c.Topic.Publish(ctx, shifted)
}

// report is a table of what a run has exercised, and the kinds that it has not.
func (t *tally) report() (table string, missing []kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, k := range kinds {
		fmt.Fprintf(&b, "  %-44s %10d\n", k, t.counts[k])
		if t.counts[k] == 0 {
			missing = append(missing, k)
		}
	}
	return b.String(), missing
}
