// Package idempotency knows which idempotency keys were counted of late, so that a producer's own retry is not counted
// again (design section 3, P3; docs/decisions/0006-idempotency-keys.md). It is arithmetic: it knows no clock, no network and
// no store. What it is told is kept beside the checkpoints, and read from there again after a restart.
package idempotency

import (
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

	mu sync.Mutex
	// generations are sorted by their beginnings.
	generations []generation
	size        int
	// claimed are the keys of Commits under way.
	claimed map[message.Key]uint16
	// known is, by partition, since when its keys are known; zero is from the beginning.
	known map[uint32]time.Time
	// forgotten is before when keys of any partition may have left.
	forgotten time.Time
	// oldest is the least time of acceptance among the messages that were claimed since the last generation began.
	oldest time.Time
}

// generation is the keys of Commits from begin on, until the next one begins.
type generation struct {
	begin time.Time
	// keys have the print of what they were counted with.
	keys map[message.Key]uint16
}

// NewIndex makes an index that knows no key yet. Keys are known for a horizon; limit bounds how many there may be: the
// oldest are forgotten before their time rather than that more are held.
func NewIndex(horizon time.Duration, limit int) *Index {
	return &Index{horizon: horizon, limit: limit, claimed: make(map[message.Key]uint16), known: make(map[uint32]time.Time)}
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
	x.mu.Lock()
	defer x.mu.Unlock()
	c.Batches = make([]*message.Batch, len(batches))
	for i, b := range batches {
		c.Batches[i] = x.claim(&c, partition, b)
	}
	return c
}

func hasKeys(b *message.Batch) bool {
	return slices.ContainsFunc(b.Increments, func(i message.Increment) bool { return i.Key != message.Key{} }) ||
		slices.ContainsFunc(b.Contributions, func(c message.Contribution) bool { return c.Key != message.Key{} })
}

// claim returns what is left of one batch: itself if that is all.
func (x *Index) claim(c *Claim, partition uint32, b *message.Batch) *message.Batch {
	before := *c
	var increments []message.Increment
	for _, i := range b.Increments {
		if x.claimOne(c, i.Key, printOf(i.Tag, i.Value)) {
			increments = append(increments, i)
		}
	}
	var contributions []message.Contribution
	for _, k := range b.Contributions {
		if x.claimOne(c, ofContribution(k.Key), printOf(k.Contributor, 0)) {
			contributions = append(contributions, k)
		}
	}
	claimed := len(c.Keys) - len(before.Keys)
	if claimed > 0 && (c.oldest.IsZero() || b.AcceptedAt.Before(c.oldest)) {
		c.oldest = b.AcceptedAt
	}
	if earliest := b.AcceptedAt.Add(-x.horizon); earliest.Before(x.forgotten) || earliest.Before(x.known[partition]) {
		c.Late += claimed
	}
	if c.Repeated == before.Repeated {
		return b
	}
	rest := *b
	rest.Increments, rest.Contributions = increments, contributions
	return &rest
}

// claimOne says whether an entry is to be counted, and claims its key.
func (x *Index) claimOne(c *Claim, key message.Key, what uint16) bool {
	if key == (message.Key{}) {
		return true
	}
	seen, known := x.find(key)
	if !known {
		x.claimed[key] = what
		c.Keys = append(c.Keys, checkpoint.SeenKey{Key: key, Print: what})
		return true
	}
	if c.Repeated++; seen != what {
		c.Reused++
	}
	return false
}

// find looks a key up, among the latest first: a producer retries soon.
func (x *Index) find(key message.Key) (what uint16, known bool) {
	if what, known = x.claimed[key]; known {
		return what, true
	}
	for i := len(x.generations) - 1; i >= 0; i-- {
		if what, known = x.generations[i].keys[key]; known {
			return what, true
		}
	}
	return 0, false
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
	if len(c.Keys) == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range c.Keys {
		delete(x.claimed, c.Keys[i].Key)
	}
}

// Confirm takes over the keys of a claim whose Commit was made at a time. It returns how many other keys were forgotten
// before their time to make room.
func (x *Index) Confirm(c Claim, at time.Time) (early int) {
	if len(c.Keys) == 0 {
		return 0
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range c.Keys {
		delete(x.claimed, c.Keys[i].Key)
	}
	begins := x.add(at, c.Keys)
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
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, again := x.known[partition]; !again {
		x.known[partition] = since
	}
	for _, c := range commits {
		x.add(c.At, c.Keys)
	}
	return x.makeRoom()
}

// add adds keys to the generation of a time, and says whether that is a new one, the latest.
func (x *Index) add(at time.Time, keys []checkpoint.SeenKey) (begins bool) {
	begin := at.Truncate(max(x.horizon/generationsPerHorizon, time.Second))
	i, found := slices.BinarySearchFunc(x.generations, begin, func(g generation, begin time.Time) int { return g.begin.Compare(begin) })
	if !found {
		x.generations = slices.Insert(x.generations, i, generation{begin, make(map[message.Key]uint16)})
	}
	in := x.generations[i].keys
	x.size -= len(in)
	for j := range keys {
		in[keys[j].Key] = keys[j].Print
	}
	x.size += len(in)
	return !found && i == len(x.generations)-1
}

// forget lets the generations go that are over before a time.
func (x *Index) forget(before time.Time) {
	n := 0
	for n+1 < len(x.generations) && !x.generations[n+1].begin.After(before) {
		x.size -= len(x.generations[n].keys)
		n++
	}
	if n > 0 {
		x.generations = slices.Delete(x.generations, 0, n)
		x.forgotten = x.generations[0].begin
	}
}

// makeRoom forgets the oldest generations while there are too many keys.
func (x *Index) makeRoom() (early int) {
	before := x.size
	for x.size > x.limit && len(x.generations) > 1 {
		x.forget(x.generations[1].begin)
	}
	return before - x.size
}

// Size is the number of keys that are known.
func (x *Index) Size() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.size
}
