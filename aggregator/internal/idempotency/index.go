// Package idempotency knows which idempotency keys were counted of late, so that a producer's own retry is not counted
// again (design section 3, P3; docs/decisions/0006-idempotency-keys.md). It is arithmetic: it knows no clock, no network and
// no store. What it is told is kept beside the checkpoints, and read from there again after a restart.
package idempotency

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

const (
	// generationsPerHorizon is how many generations the keys of one horizon are in: keys leave a generation at a time, so
	// that a few more are kept than the horizon asks for, and each look-up asks a few maps.
	generationsPerHorizon = 8
	// slack is how much earlier than the horizon asks for keys are still known: the clocks of ingest, which dates
	// messages, and of the aggregator, which dates Commits, differ a little.
	slack = time.Minute
)

// Index is the keys of all partitions that an aggregator counts. Its methods may be called at the same time.
//
// A key is known from its Commit until no message can bring its repeat any more: until the messages that are being
// counted were accepted more than a horizon after it. So it is the messages' time that passes, not the clock's: while
// messages wait, for hours if need be, keys wait for them.
type Index struct {
	horizon time.Duration
	limit   int
	keys    *table

	mu sync.Mutex
	// generations are those that have keys, the oldest first.
	generations []generation
	size        int
	// known is, by partition, since when its keys are known; zero is from the beginning.
	known map[uint32]time.Time
	// forgotten is before when keys of any partition may have left.
	forgotten time.Time
	// oldest is the least time of acceptance among the messages that were claimed since the last generation began.
	oldest time.Time
}

// generation is the keys of the Commits of some time: they leave together.
type generation struct {
	number uint32
	size   int
}

// NewIndex makes an index that knows no key yet. Keys are known for a horizon; limit bounds how many there may be: the
// oldest are forgotten before their time rather than that more are held.
func NewIndex(horizon time.Duration, limit int) *Index {
	return &Index{horizon: horizon, limit: limit, keys: newTable(), known: make(map[uint32]time.Time)}
}

// span is the length of a generation.
func (x *Index) span() time.Duration { return max(x.horizon/generationsPerHorizon, time.Second) }

// numberOf returns the generation of a time. It is not underWay: that one was in 1970.
func (x *Index) numberOf(t time.Time) uint32 { return uint32(t.UnixNano() / int64(x.span())) } //nolint:gosec // whole seconds

// begin returns the beginning of a generation.
func (x *Index) begin(number uint32) time.Time {
	return time.Unix(0, int64(number)*int64(x.span())).UTC()
}

// Cut returns how many of the first batches, at least one, have no more keys together than one Commit may bring.
func Cut(batches []*message.Batch) int {
	keys := 0
	for n, b := range batches {
		if keys += b.Entries(); keys > checkpoint.MaxSeenKeys {
			return max(n, 1)
		}
	}
	return len(batches)
}

// Claim is what is left to count of some batches.
type Claim struct {
	// Batches are those that were claimed, in their order, without the entries that repeat a key.
	Batches []*message.Batch
	// Keys are the keys of what is left. While the claim stands nobody else can claim them.
	Keys []checkpoint.SeenKey
	// Repeated is the number of entries that were left out. Reused of those were not what the key was counted with: their
	// producer has given one key to two things.
	Repeated, Reused int
	// Late is the number of entries with keys that are to be counted although what they might repeat may have been
	// forgotten: their message came longer after its acceptance than keys are kept, or too many keys have come since.
	Late int
	// oldest is the least time of acceptance.
	oldest time.Time
}

// Claim returns what is to be counted of a partition's batches, which the next Commit brings. It ends with Confirm or
// Release. Of two entries with one key the one in the earlier batch is counted.
func (x *Index) Claim(partition uint32, batches []*message.Batch) Claim {
	c := Claim{Batches: batches}
	if !slices.ContainsFunc(batches, hasKeys) {
		return c
	}
	c.Batches = make([]*message.Batch, len(batches))
	for i, b := range batches {
		c.Batches[i] = x.claim(&c, b)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, b := range batches {
		if earliest := b.AcceptedAt.Add(-x.horizon); earliest.Before(x.forgotten) || earliest.Before(x.known[partition]) {
			c.Late += keysOf(c.Batches[i])
		}
	}
	return c
}

// keysOf counts the entries with keys.
func keysOf(b *message.Batch) (n int) {
	for i := range b.Increments {
		if b.Increments[i].Key != (message.Key{}) {
			n++
		}
	}
	for i := range b.Contributions {
		if b.Contributions[i].Key != (message.Key{}) {
			n++
		}
	}
	return n
}

func hasKeys(b *message.Batch) bool {
	return slices.ContainsFunc(b.Increments, func(i message.Increment) bool { return i.Key != message.Key{} }) ||
		slices.ContainsFunc(b.Contributions, func(c message.Contribution) bool { return c.Key != message.Key{} })
}

// claim returns what is left of one batch: itself if that is all.
func (x *Index) claim(c *Claim, b *message.Batch) *message.Batch {
	keys, repeated := len(c.Keys), c.Repeated
	var increments []message.Increment
	for i := range b.Increments {
		inc := &b.Increments[i]
		switch counts := x.claimOne(c, inc.Key, inc.Tag, inc.Value); {
		case !counts && c.Repeated == repeated+1 && increments == nil: // the first: what is before it is left
			increments = append(make([]message.Increment, 0, len(b.Increments)), b.Increments[:i]...)
		case counts && c.Repeated > repeated:
			increments = append(increments, *inc)
		}
	}
	if c.Repeated == repeated {
		increments = b.Increments
	}
	var contributions []message.Contribution
	for i := range b.Contributions {
		if k := b.Contributions[i]; x.claimOne(c, ofContribution(k.Key), k.Contributor, 0) {
			contributions = append(contributions, k)
		}
	}
	if len(c.Keys) > keys && (c.oldest.IsZero() || b.AcceptedAt.Before(c.oldest)) {
		c.oldest = b.AcceptedAt
	}
	if c.Repeated == repeated {
		return b
	}
	rest := *b
	rest.Increments, rest.Contributions = increments, contributions
	return &rest
}

// claimOne says whether an entry is to be counted, and claims its key.
func (x *Index) claimOne(c *Claim, key message.Key, name string, value uint8) bool {
	if key == (message.Key{}) {
		return true
	}
	what := printOf(name, value)
	seen, known := x.keys.claim(key, what)
	if !known {
		c.Keys = append(c.Keys, checkpoint.SeenKey{Key: key, Print: what})
		return true
	}
	if c.Repeated++; seen != what {
		c.Reused++
	}
	return false
}

// ofContribution keeps the keys of contributions apart from those of increments: an increment that is a contribution too
// has one key for both, which may well be counted in one partition.
func ofContribution(key message.Key) message.Key {
	if key != (message.Key{}) {
		key[0] ^= 0x80
	}
	return key
}

func printOf(name string, value uint8) uint16 {
	return uint16(xxhash.Sum64String(name)) + uint16(value) //nolint:gosec // some of its bits
}

// Release gives up the keys of a claim whose Commit is not known to be in. If it is, Learn says so.
func (x *Index) Release(c Claim) {
	for i := range c.Keys {
		x.keys.release(c.Keys[i].Key)
	}
}

// Confirm takes over the keys of a claim whose Commit was made at a time. It returns how many other keys were forgotten
// before their time to make room.
func (x *Index) Confirm(c Claim, at time.Time) (early int) {
	if len(c.Keys) == 0 {
		return 0
	}
	added := x.add(at, c.Keys)
	x.mu.Lock()
	defer x.mu.Unlock()
	begins := x.grow(at, added)
	if x.oldest.IsZero() || c.oldest.Before(x.oldest) {
		x.oldest = c.oldest
	}
	if begins {
		x.forget(x.oldest.Add(-x.horizon - slack))
		x.oldest = c.oldest
	}
	return x.makeRoom()
}

// Learn adds the keys of a partition's Commits that were read, which are all that it made since a time. It returns what
// Confirm does.
func (x *Index) Learn(partition uint32, since time.Time, commits []store.CommitKeys) (early int) {
	for _, c := range commits {
		added := x.add(c.At, c.Keys)
		x.mu.Lock()
		x.grow(c.At, added)
		early += x.makeRoom()
		x.mu.Unlock()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, again := x.known[partition]; !again {
		x.known[partition] = since
	}
	return early
}

// add puts keys into the generation of a time, and returns how many of them were new.
func (x *Index) add(at time.Time, keys []checkpoint.SeenKey) (added int) {
	number := x.numberOf(at)
	for i := range keys {
		if x.keys.keep(keys[i].Key, keys[i].Print, number) {
			added++
		}
	}
	return added
}

// grow counts keys that were added to the generation of a time, and says whether that is a new one, the latest.
func (x *Index) grow(at time.Time, added int) (begins bool) {
	number := x.numberOf(at)
	i, found := slices.BinarySearchFunc(x.generations, number, func(g generation, number uint32) int { return cmp.Compare(g.number, number) })
	if !found {
		x.generations = slices.Insert(x.generations, i, generation{number: number})
	}
	x.generations[i].size += added
	x.size += added
	return !found && i == len(x.generations)-1
}

// forget lets the generations go that are over before a time. The latest stays.
func (x *Index) forget(before time.Time) {
	n, size := 0, 0
	for n+1 < len(x.generations) && !x.begin(x.generations[n].number+1).After(before) {
		size += x.generations[n].size
		n++
	}
	if n == 0 {
		return
	}
	x.generations = slices.Delete(x.generations, 0, n)
	x.forgotten = x.begin(x.generations[0].number)
	x.size -= size
	x.keys.sweep(x.generations[0].number)
}

// makeRoom forgets the oldest generations while there are too many keys.
func (x *Index) makeRoom() (early int) {
	before := x.size
	for x.size > x.limit && len(x.generations) > 1 {
		x.forget(x.begin(x.generations[0].number + 1))
	}
	return before - x.size
}

// Size is the number of keys that are known.
func (x *Index) Size() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.size
}
