// Package idempotency tracks the idempotency keys that one partition has counted recently, so that a producer's own retry
// is not counted again (docs/decisions/0006-idempotency-keys.md). It is arithmetic: it knows no clock, no network and no
// store. The keys are kept beside the checkpoint, and are learned from there after a restart.
package idempotency

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

const (
	// generationsPerHorizon is how many generations the keys of one horizon are in: keys are forgotten a generation at a
	// time, so a few more are kept than the horizon asks for.
	generationsPerHorizon = 8
	// generationsPerLimit bounds the part of all keys that one generation may hold.
	generationsPerLimit = 16
	// slack is how much earlier than the horizon asks for keys are known: the clocks of ingest, which dates messages, and
	// of the store, which dates Commits, differ a little.
	slack = time.Minute
)

// Budget bounds the keys of several indexes together. It is safe for concurrent use.
type Budget struct {
	limit int64
	held  atomic.Int64
}

// NewBudget returns a budget of limit keys.
func NewBudget(limit int) *Budget { return &Budget{limit: int64(limit)} }

// Held is the number of keys in all indexes.
func (b *Budget) Held() int64 { return b.held.Load() }

// Index is the keys of one partition. It is not safe for concurrent use.
//
// A key is known from its Commit until no message can bring its repeat any more: until the messages that are being counted
// were accepted more than a horizon after it. So the messages' time decides, not a clock's: while messages wait, for hours
// if need be, keys wait for them.
type Index struct {
	horizon time.Duration
	budget  *Budget
	keys    map[message.Key]entry
	// generations are in the order of the times of their Commits.
	generations []generation
	ids         uint32 // the last that a generation was given

	// Known are the keys of all Commits from a time on up to a position, and while earlier ones are being read, those of
	// the Commits from wanted up to read.
	from   time.Time
	latest store.KeysPosition
	wanted time.Time
	read   store.KeysPosition
	// evicted is before when keys may have been forgotten because of the budget. They are not learned again.
	evicted time.Time
	// oldest is the least time of acceptance among the keyed messages since the latest generation began.
	oldest time.Time
}

// entry is what is known of a key.
type entry struct {
	generation uint32
	print      uint16
}

// generation is the keys of the Commits of some time, which are forgotten together.
type generation struct {
	id          uint32
	begin, last time.Time
	size        int
}

// New returns an index that knows no key yet. Keys are known for a horizon, and together with those of the budget's other
// indexes they stay within the budget: the oldest are forgotten early rather than that more are held.
func New(horizon time.Duration, budget *Budget) *Index {
	return &Index{horizon: horizon, budget: budget, keys: make(map[message.Key]entry)}
}

// HasKeys says whether an entry of b has a key.
func HasKeys(b *message.Batch) bool {
	for i := range b.Increments {
		if b.Increments[i].Key != (message.Key{}) {
			return true
		}
	}
	for i := range b.Contributions {
		if b.Contributions[i].Key != (message.Key{}) {
			return true
		}
	}
	return false
}

// since is the time from which on keys must be known to count a message that was accepted at a time.
func (x *Index) since(acceptedAt time.Time) time.Time {
	since := acceptedAt.Add(-x.horizon - slack)
	if since.Before(x.evicted) {
		return x.evicted
	}
	return since
}

// Missing says whether keys must be learned before a message that was accepted at a time can be counted on a checkpoint of
// the given Commit: those after Next.
func (x *Index) Missing(acceptedAt time.Time, commit uint64) bool {
	since := x.since(acceptedAt)
	switch {
	case commit == 0:
		return false
	case x.from.IsZero():
		x.from, x.latest = since, store.KeysPosition{At: since}
		return true
	case x.latest.Commit < commit:
		return true
	case !since.Before(x.from):
		return false
	case x.wanted.IsZero() || since.Before(x.wanted):
		x.wanted, x.read = since, store.KeysPosition{At: since}
	}
	return true
}

// Next is the position after which keys are to be learned, when some are missing.
func (x *Index) Next() store.KeysPosition {
	if x.wanted.IsZero() {
		return x.latest
	}
	return x.read
}

// Learn adds the keys of the Commits that follow a position, which Next returned, in order. Last says that no more follow
// up to the checkpoint of the given Commit. It returns how many keys were forgotten early to make room.
func (x *Index) Learn(after store.KeysPosition, commits []store.CommitKeys, last bool, commit uint64) (evicted int) {
	if after == x.latest {
		for i := range commits {
			x.add(len(x.generations), commits[i].At, commits[i].Keys)
			x.latest = commits[i].KeysPosition
		}
		if last && x.latest.Commit < commit {
			x.latest = store.KeysPosition{At: x.latest.At, Commit: commit}
		}
		return x.makeRoom()
	}
	for i := range commits {
		if !commits[i].At.Before(x.from) {
			last = true
			break
		}
		x.add(x.earlier(), commits[i].At, commits[i].Keys)
		x.read = commits[i].KeysPosition
	}
	if last {
		x.from, x.wanted = x.wanted, time.Time{}
	}
	return x.makeRoom()
}

// earlier is the number of generations from before x.from.
func (x *Index) earlier() int {
	n := 0
	for n < len(x.generations) && x.generations[n].begin.Before(x.from) {
		n++
	}
	return n
}

// Claim collects the keys of one Commit in the making.
type Claim struct {
	index *Index
	// Keys are those of the entries that the Commit settles. Each is there once.
	Keys []checkpoint.SeenKey
	// Repeated is the number of entries that repeat a key. Reused of those were not what the key was first given to.
	Repeated, Reused int
	// Late is the number of entries with keys that are counted although what they might repeat may have been forgotten.
	Late   int
	own    map[message.Key]uint16
	oldest time.Time
}

// Claim returns an empty claim.
func (x *Index) Claim() *Claim { return &Claim{index: x} }

// Begin begins the entries of a message with keys.
func (c *Claim) Begin(acceptedAt time.Time) {
	if c.own == nil {
		c.own = make(map[message.Key]uint16)
	}
	if c.oldest.IsZero() || acceptedAt.Before(c.oldest) {
		c.oldest = acceptedAt
	}
}

// Increment says whether an increment is new, and claims its key.
func (c *Claim) Increment(inc *message.Increment) bool { return c.take(inc.Key, inc.Tag, inc.Value) }

// Contribution says whether a contribution is new, and claims its key. An increment that is a contribution too has one key
// for both, and neither repeats the other.
func (c *Claim) Contribution(contribution *message.Contribution) bool {
	key := contribution.Key
	if key != (message.Key{}) {
		key[0] ^= 0x80
	}
	return c.take(key, contribution.Contributor, 0)
}

func (c *Claim) take(key message.Key, name string, value uint8) bool {
	if key == (message.Key{}) {
		return true
	}
	fingerprint := uint16(xxhash.Sum64String(name)) + uint16(value) //nolint:gosec // some of its bits
	first, known := c.own[key]
	if !known {
		var e entry
		e, known = c.index.keys[key]
		first = e.print
	}
	if known {
		if c.Repeated++; first != fingerprint {
			c.Reused++
		}
		return false
	}
	c.own[key] = fingerprint
	c.Keys = append(c.Keys, checkpoint.SeenKey{Key: key, Fingerprint: fingerprint})
	if c.oldest.Add(-c.index.horizon).Before(c.index.evicted) {
		c.Late++
	}
	return true
}

// Confirm adds the keys of a claim whose Commit is in. It returns how many keys were forgotten early to make room.
func (x *Index) Confirm(c *Claim, at store.KeysPosition) (evicted int) {
	if x.latest.Commit+1 == at.Commit || x.from.IsZero() && len(c.Keys) > 0 {
		if x.from.IsZero() {
			x.from = at.At
		}
		x.latest = at
	}
	if len(c.Keys) == 0 {
		return 0
	}
	if x.oldest.IsZero() || c.oldest.Before(x.oldest) {
		x.oldest = c.oldest
	}
	if begins := x.add(len(x.generations), at.At, c.Keys); begins {
		x.forget(x.since(x.oldest))
		x.oldest = c.oldest
	}
	return x.makeRoom()
}

// add puts keys into the generation that ends at a place, or into a new one after it, and says whether it made one.
func (x *Index) add(end int, at time.Time, keys []checkpoint.SeenKey) (begins bool) {
	if begins = end == 0 || at.Sub(x.generations[end-1].begin) > max(x.horizon/generationsPerHorizon, time.Second) ||
		int64(x.generations[end-1].size) >= max(x.budget.limit/generationsPerLimit, 1); begins {
		x.ids++
		x.generations = slices.Insert(x.generations, end, generation{id: x.ids, begin: at})
		end++
	}
	g := &x.generations[end-1]
	g.last = at
	for i := range keys {
		if _, known := x.keys[keys[i].Key]; !known {
			x.keys[keys[i].Key] = entry{g.id, keys[i].Fingerprint}
			g.size++
			x.budget.held.Add(1)
		}
	}
	return begins
}

// forget lets the generations go whose Commits were all before a time.
func (x *Index) forget(before time.Time) {
	for len(x.generations) > 0 && x.generations[0].last.Before(before) {
		x.from = x.drop()
	}
}

// makeRoom forgets the oldest generations while there are more keys than the budget allows.
func (x *Index) makeRoom() (evicted int) {
	for x.budget.held.Load() > x.budget.limit && len(x.generations) > 0 {
		evicted += x.generations[0].size
		x.evicted = x.drop()
		if x.from.Before(x.evicted) {
			x.from = x.evicted
		}
	}
	return evicted
}

// drop drops the oldest generation and returns the time from which on keys are left.
func (x *Index) drop() (left time.Time) {
	g := x.generations[0]
	x.generations = slices.Delete(x.generations, 0, 1)
	for key, e := range x.keys {
		if e.generation == g.id {
			delete(x.keys, key)
		}
	}
	x.budget.held.Add(-int64(g.size))
	return g.last.Add(time.Millisecond)
}

// Held is the number of keys in the index.
func (x *Index) Held() int { return len(x.keys) }
