package reconcile

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/accrue/accrue/pkg/message"
)

// maxLine bounds a line of an archive: a message of 10 MB as JSON.
const maxLine = 64 << 20

// archive is what messages add up to.
type archive struct {
	seen     map[identity]struct{}
	keyed    map[message.Key]entry
	sums     map[string]int64
	Messages int `json:"messages"`
	// Repeated messages have the identity of an earlier one, and Keys entries the key of an earlier or later one.
	Repeated int `json:"repeated_messages"`
	Keys     int `json:"repeated_keys"`
}

// identity is what a message is known by.
type identity struct {
	publisher           string
	partition, sequence uint64
}

// entry is the earliest with a key.
type entry struct {
	tag        string
	value      int64
	acceptedAt int64
}

func newArchive() *archive {
	return &archive{seen: make(map[identity]struct{}), keyed: make(map[message.Key]entry), sums: make(map[string]int64)}
}

// number is a number in JSON, which BigQuery writes as a string.
type number int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(text []byte) error {
	parsed, err := strconv.ParseInt(strings.Trim(string(text), `"`), 10, 64)
	*n = number(parsed)
	return err
}

// line is a row of the table. Bytes are Base64.
type line struct {
	Publisher  []byte `json:"publisher"`
	Partition  number `json:"partition"`
	Sequence   number `json:"sequence"`
	AcceptedAt number `json:"accepted_at"`
	Increments []item `json:"increments"`
}

type item struct {
	Tag   string `json:"tag"`
	Value number `json:"value"`
	Key   []byte `json:"key,omitempty"`
	// Next is in place of Key, as in a message.
	Next number `json:"next,omitempty"`
}

var errIdentity = errors.New("no publisher, or no sequence")

// read adds the messages of a file.
func (a *archive) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		text := lines.Bytes()
		if len(text) == 0 {
			continue
		}
		var l line
		err := json.Unmarshal(text, &l)
		if err == nil && (len(l.Publisher) != len(message.Publisher{}) || l.Sequence < 1) {
			err = errIdentity
		}
		if err == nil {
			err = a.add(&l)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

// lineOf is the row of a message.
func lineOf(b *message.Batch) *line {
	l := &line{
		Publisher: b.Publisher[:], Partition: number(b.Partition), Sequence: number(b.Sequence), AcceptedAt: number(b.AcceptedAt.UnixMicro()), //nolint:gosec // at most an int64
	}
	for i := range b.Increments {
		inc := &b.Increments[i]
		one := item{Tag: inc.Tag, Value: number(inc.Value)}
		if inc.Key != (message.Key{}) {
			one.Key = inc.Key[:]
		}
		l.Increments = append(l.Increments, one)
	}
	return l
}

// add adds a message, unless it was added before.
func (a *archive) add(l *line) error {
	id := identity{string(l.Publisher), uint64(l.Partition), uint64(l.Sequence)} //nolint:gosec // not negative in an archive
	a.Messages++
	if _, again := a.seen[id]; again {
		a.Repeated++
		return nil
	}
	a.seen[id] = struct{}{}
	var key message.Key // of the increment before
	for _, inc := range l.Increments {
		before := key
		key = message.Key{}
		e := entry{inc.Tag, int64(inc.Value), int64(l.AcceptedAt)}
		switch {
		case inc.Next > 0 && inc.Next <= math.MaxUint16:
			if err := key.Follow(before, uint32(inc.Next)); err != nil {
				return err
			}
		case inc.Next != 0:
			return fmt.Errorf("a key is %d after another", inc.Next)
		case len(inc.Key) == 0:
			a.sums[e.tag] += e.value
			continue
		case copy(key[:], inc.Key) != len(key) || len(inc.Key) != len(key):
			return fmt.Errorf("a key has %d bytes", len(inc.Key))
		}
		earlier, again := a.keyed[key]
		if again {
			a.Keys++
		}
		if !again || cmp.Compare(e.acceptedAt, earlier.acceptedAt) < 0 {
			a.keyed[key] = e
		}
	}
	return nil
}

// totals returns what the messages add up to, by tag.
func (a *archive) totals() map[string]int64 {
	all := make(map[string]int64, len(a.sums))
	for tag, sum := range a.sums {
		all[tag] = sum
	}
	for _, e := range a.keyed {
		all[e.tag] += e.value
	}
	return all
}

// sorted returns the names of all maps, in order.
func sorted(maps ...map[string]int64) []string {
	var names []string
	for _, m := range maps {
		for name := range m {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
