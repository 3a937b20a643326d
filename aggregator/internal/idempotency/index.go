// Package idempotency tracks the idempotency keys that one partition has settled recently, so that a producer's own retry
// is not counted again (docs/decisions/0006-idempotency-keys.md). A batch takes one entry, with the range of its items,
// however many of them the partition has. The package is arithmetic: it knows no clock, no network and no store. The keys are
// kept beside the checkpoint, and are learned from there after a restart.
package idempotency

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

const (
	// generationsPerHorizon is how many generations the keys of one horizon are in: keys are forgotten a generation at a
	// time, so a few more are kept than the horizon asks for.
	generationsPerHorizon = 8
	// generationsPerIndex bounds the part of its index that one generation holds, unless it has fewer than minGeneration
	// ranges: what is evicted at once to stay within the budget.
	generationsPerIndex = 8
	minGeneration       = 1000
	// FoldCommits is how many Commits with keys a fold stands for, unless they have so many ranges that it takes fewer:
	// maxFold. maxTail bounds the ranges that wait to be folded.
	FoldCommits      = 256
	maxFold, maxTail = 40_000, 4 * maxFold
	// Slack is how much earlier than the horizon asks for keys are known: the clocks of ingest, which dates messages, and
	// of the store, which dates Commits, differ a little.
	Slack = time.Minute
)

// Budget bounds the ranges of several indexes together. It is safe for concurrent use.
type Budget struct {
	limit int64
	held  atomic.Int64
}

// NewBudget returns a budget of limit ranges.
func NewBudget(limit int) *Budget { return &Budget{limit: int64(limit)} }

// Held is the number of ranges in all indexes.
func (b *Budget) Held() int64 { return b.held.Load() }

// Index is the keys of one partition. It is not safe for concurrent use.
//
// A key is known from its Commit until no message can bring its repeat any more: until the messages that are being counted
// were accepted more than a horizon after it. So the messages' time decides, not a clock's: while messages wait, for hours
// if need be, keys wait for them.
type Index struct {
	partition uint32
	horizon   time.Duration
	budget    *Budget
	keys      table
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
	// tail are the keys of the Commits after begins and up to latest, which are not in a fold yet, without the Commits that have
	// none. tailSize is how many ranges it has.
	tail     []store.CommitKeys
	begins   store.KeysPosition
	tailSize int
	// oldest is the least time of acceptance among the keyed messages since the latest generation began.
	oldest time.Time
}

// generation is the keys of the Commits of some time, which are forgotten together.
type generation struct {
	id          uint32
	begin, last time.Time
	size        int
}

// New returns an index of a partition that knows no key yet. Keys are known for a horizon, and together with those of the
// budget's other indexes they stay within the budget: the oldest are forgotten early rather than that more are held.
func New(partition uint32, horizon time.Duration, budget *Budget) *Index {
	return &Index{partition: partition, horizon: horizon, budget: budget}
}

// find returns the range that holds an item of a prefix, whose name is given.
func (x *Index) find(prefix message.KeyPrefix, item uint16, name string) (found checkpoint.KeyRange, known bool) {
	for at := x.keys.find(prefix); at != none; at = x.keys.next(at) {
		if found = x.keys.slots[at].keyRange(); found.Holds(item, name, x.partition) {
			return found, true
		}
	}
	return found, false
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
	since := acceptedAt.Add(-x.horizon - Slack)
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
		x.begins = x.latest
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
			x.trail(commits[i])
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
	return x.readTo(last)
}

// LearnReleased adds keys of Commits that version 0.1 made. It returns how many keys were forgotten early to make room.
func (x *Index) LearnReleased(commits []store.CommitKeys) (evicted int) {
	for i := range commits {
		end := 0
		for end < len(x.generations) && !commits[i].At.Before(x.generations[end].begin) {
			end++
		}
		x.add(end, commits[i].At, commits[i].Keys)
	}
	return x.makeRoom()
}

// LearnFolds is Learn for folds, each of which begins where the one before ends, and the first at or before the position.
func (x *Index) LearnFolds(after store.KeysPosition, folds []store.Fold) (evicted int) {
	latest := after == x.latest
	for i := range folds {
		f := &folds[i]
		if latest {
			x.add(len(x.generations), f.At, f.Keys)
			x.latest, x.begins, x.tail, x.tailSize = f.KeysPosition, f.KeysPosition, nil, 0
			continue
		}
		x.add(x.earlier(), f.At, f.Keys)
		x.read = f.KeysPosition
		if !f.At.Before(x.from) {
			return x.readTo(true)
		}
	}
	if latest {
		return x.makeRoom()
	}
	return x.readTo(false)
}

// readTo notes that earlier keys were read, and whether they were the last.
func (x *Index) readTo(last bool) (evicted int) {
	if last {
		x.from, x.wanted = x.wanted, time.Time{}
	}
	return x.makeRoom()
}

// trail adds the keys of a Commit to the tail.
func (x *Index) trail(commit store.CommitKeys) {
	if len(commit.Keys) == 0 {
		return
	}
	x.tail = append(x.tail, commit)
	x.tailSize += len(commit.Keys)
	for x.tailSize > maxTail {
		x.begins = x.tail[0].KeysPosition
		x.tailSize -= len(x.tail[0].Keys)
		x.tail = x.tail[1:]
	}
}

// Fold returns a fold of Commits that are known, for the next Commit to write, or nil if there are too few. Once it is
// written, Folded forgets what it has.
func (x *Index) Fold() *store.Fold {
	if len(x.tail) < FoldCommits && x.tailSize < maxFold {
		return nil
	}
	f := &store.Fold{After: x.begins}
	for i := range x.tail {
		if i == FoldCommits || i > 0 && len(f.Keys)+len(x.tail[i].Keys) > checkpoint.MaxKeyRanges {
			break
		}
		f.KeysPosition = x.tail[i].KeysPosition
		f.Keys = append(f.Keys, x.tail[i].Keys...)
	}
	return f
}

// Folded notes that a fold, which Fold returned, is written.
func (x *Index) Folded(f *store.Fold) {
	for len(x.tail) > 0 && !f.Before(x.tail[0].KeysPosition) {
		x.tailSize -= len(x.tail[0].Keys)
		x.tail = x.tail[1:]
	}
	x.begins = f.KeysPosition
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
	// Others are where else a key may be known: in the partition where its name belongs by another number of partitions.
	Others []Layout
	// Ranges are those of the entries that the Commit settles.
	Ranges []checkpoint.KeyRange
	// Repeated is the number of entries that repeat a key. Reused of those were not what the key was first given to, as far
	// as that is known: it is for keys of single entries.
	Repeated, Reused int
	// Late is the number of entries with keys that are counted although what they might repeat may have been forgotten.
	Late int
	// own has the place in Ranges of the latest range of each prefix, and earlier that of the one before it, or none.
	own     map[message.KeyPrefix]int
	earlier []int
	oldest  time.Time

	// Of the message that is being claimed:

	partitions uint16
	begin      int  // of its ranges
	late       bool // what it might repeat may have been forgotten

	// The prefix of the message's last key, if it had one, whether the index has it, and the place of its latest range.
	some   bool
	prefix message.KeyPrefix
	known  bool
	latest int
	// follows says that a later item of the prefix can only be new, and belongs to the latest range, whose last key is high and
	// low as numbers.
	follows   bool
	high, low uint64
}

// Layout is the indexes of other partitions by a number of partitions. It has all that are asked for.
type Layout struct {
	Partitions uint32
	Indexes    map[uint32]*Index
}

// Claim returns an empty claim.
func (x *Index) Claim() *Claim { return &Claim{index: x, latest: none} }

// Begin begins the entries of a message with keys, whose publisher divides entries among a number of partitions, or 0 if that
// is not known.
func (c *Claim) Begin(acceptedAt time.Time, partitions uint32) {
	if c.own == nil {
		c.own = make(map[message.KeyPrefix]int)
	}
	if c.oldest.IsZero() || acceptedAt.Before(c.oldest) {
		c.oldest = acceptedAt
	}
	c.partitions, c.begin, c.some, c.follows = uint16(partitions), len(c.Ranges), false, false //nolint:gosec // at most increment.MaxPartitions
	c.late = c.oldest.Add(-c.index.horizon).Before(c.index.evicted)
}

// Increment says whether an increment is new, and claims its key.
func (c *Claim) Increment(inc *message.Increment) bool { return c.take(inc.Key, inc.Tag, inc.Value) }

// Contribution says whether a contribution is new, and claims its key. An increment that is a contribution too has one key
// for both, and neither repeats the other.
func (c *Claim) Contribution(contribution *message.Contribution) bool {
	return c.take(ContributionKey(contribution.Key), contribution.Contributor, 0)
}

// ContributionKey returns what a contribution's key is known as.
func ContributionKey(key message.Key) message.Key {
	if key != (message.Key{}) {
		key[0] ^= 0x80
	}
	return key
}

func (c *Claim) take(key message.Key, name string, value uint8) bool {
	if key == (message.Key{}) {
		return true
	}
	prefix, item := key.Split()
	// Nearly all keys of batches follow the one before, so this is fast.
	high, low := binary.BigEndian.Uint64(key[:8]), binary.BigEndian.Uint64(key[8:])
	if c.follows && high == c.high && low>>16 == c.low>>16 && low > c.low {
		c.low = low
		c.extend(item)
		return true
	}
	if !c.some || prefix != c.prefix { // the items of a batch follow each other
		c.some, c.prefix, c.follows = true, prefix, false
		c.known = c.index.keys.find(prefix) != none
		var own bool
		if c.latest, own = c.own[prefix]; !own {
			c.latest = none
		}
	}
	if first, repeated := c.find(prefix, item, name); repeated {
		if c.Repeated++; first.First == first.Last && first.Fingerprint != fingerprint(name, value) {
			c.Reused++
		}
		return false
	}
	if c.latest >= c.begin {
		if last := c.Ranges[c.latest].Last; last < item && (c.partitions > 0 || last+1 == item) {
			c.extend(item)
			return true
		}
	}
	if c.late {
		c.Late++
	}
	c.Ranges = append(c.Ranges, checkpoint.KeyRange{Prefix: prefix, First: item, Last: item, Fingerprint: fingerprint(name, value)})
	c.earlier = append(c.earlier, c.latest)
	c.latest = len(c.Ranges) - 1
	c.own[prefix] = c.latest
	c.follows = c.partitions > 0 && !c.known && c.earlier[c.latest] == none && len(c.Others) == 0
	c.high, c.low = high, low
	return true
}

// extend makes a new item the last of the latest range. Ingest divides a batch in the order of its items, so what is in a message
// between two items of a partition is all that the batch has there.
func (c *Claim) extend(item uint16) {
	if c.late {
		c.Late++
	}
	r := &c.Ranges[c.latest]
	r.Last, r.Partitions, r.Fingerprint = item, c.partitions, 0
}

// fingerprint is that of an entry in a checkpoint.KeyRange.
func fingerprint(name string, value uint8) uint16 {
	return uint16(xxhash.Sum64String(name)) + uint16(value) //nolint:gosec // some of its bits
}

// find returns the range that holds an item.
func (c *Claim) find(prefix message.KeyPrefix, item uint16, name string) (checkpoint.KeyRange, bool) {
	for at := c.latest; at != none; at = c.earlier[at] {
		if r := &c.Ranges[at]; r.Holds(item, name, c.index.partition) {
			return *r, true
		}
	}
	if c.known {
		if r, known := c.index.find(prefix, item, name); known {
			return r, true
		}
	}
	for _, layout := range c.Others {
		if other := increment.Partition(name, layout.Partitions); other != c.index.partition {
			if r, known := layout.Indexes[other].find(prefix, item, name); known {
				return r, true
			}
		}
	}
	return checkpoint.KeyRange{}, false
}

// Confirm adds the keys of a claim whose Commit is in. It returns how many keys were forgotten early to make room.
func (x *Index) Confirm(c *Claim, at store.KeysPosition) (evicted int) {
	if x.latest.Commit+1 == at.Commit || x.from.IsZero() && len(c.Ranges) > 0 {
		if x.from.IsZero() {
			x.from, x.begins = at.At, store.KeysPosition{At: at.At, Commit: at.Commit - 1}
		}
		x.latest = at
		x.trail(store.CommitKeys{KeysPosition: at, Keys: c.Ranges})
	}
	if len(c.Ranges) == 0 {
		return 0
	}
	if x.oldest.IsZero() || c.oldest.Before(x.oldest) {
		x.oldest = c.oldest
	}
	if begins := x.add(len(x.generations), at.At, c.Ranges); begins {
		x.forget(x.since(x.oldest))
		x.oldest = c.oldest
	}
	return x.makeRoom()
}

// add puts keys into the generation that ends at a place, or into a new one after it, and says whether it made one.
func (x *Index) add(end int, at time.Time, ranges []checkpoint.KeyRange) (begins bool) {
	if begins = end == 0 || at.Sub(x.generations[end-1].begin) > max(x.horizon/generationsPerHorizon, time.Second) ||
		x.generations[end-1].size >= max(x.Held()/generationsPerIndex, minGeneration); begins {
		x.ids++
		x.generations = slices.Insert(x.generations, end, generation{id: x.ids, begin: at})
		end++
	}
	g := &x.generations[end-1]
	if at.After(g.last) {
		g.last = at
	}
	for i := range ranges {
		if r := slotOf(&ranges[i], g.id); x.keys.add(&r) {
			g.size++
			x.budget.held.Add(1)
		}
	}
	return begins
}

// forget lets the generations go whose Commits were all before a time.
func (x *Index) forget(before time.Time) {
	for len(x.generations) > 0 && x.generations[0].last.Before(before) {
		if left := x.drop(); x.from.Before(left) {
			x.from = left
		}
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
	x.keys.remove(g.id)
	x.budget.held.Add(-int64(g.size))
	return g.last.Add(time.Millisecond)
}

// Forget forgets what no message can repeat that was accepted at a time or later.
func (x *Index) Forget(acceptedAt time.Time) { x.forget(x.since(acceptedAt)) }

// Clear forgets all, and leaves the index as New made it.
func (x *Index) Clear() {
	for len(x.generations) > 0 {
		x.drop()
	}
	*x = *New(x.partition, x.horizon, x.budget)
}

// Held is the number of ranges in the index.
func (x *Index) Held() (held int) {
	for i := range x.generations {
		held += x.generations[i].size
	}
	return held
}
