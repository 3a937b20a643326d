package accrue

import (
	"crypto/rand"
	"strconv"
	"strings"
)

// kind is the kind of entries in a request: increments and contributions have separate paths.
type kind int

const (
	increments kind = iota
	contributions
	kinds
)

func kindOf(e *Entry) kind {
	if e.Name == "" {
		return contributions
	}
	return increments
}

// list is the name of the list in the body.
func (k kind) list() string { return [kinds]string{"increments", "contributions"}[k] }

const (
	// maxBody is the largest body that ingest accepts, in bytes.
	maxBody = 1 << 20
	// maxItem is an upper bound of an item's size in a body, in bytes: the longest contributor with 4 bytes a character, the
	// longest id with each character escaped, and the rest.
	maxItem = 2 << 10
)

// batch is a group of entries that are posted together under one key. It does not change after its first request, since a
// request that failed may still be under way when the next one begins.
type batch struct {
	kind    kind
	entries []Entry
	body    []byte // without the closing brackets
	key     string
	// delivered is closed when every entry has its outcome.
	delivered chan struct{}
}

func newBatch(k kind) *batch {
	// rand.Text has at least 128 random bits, so keys are unique.
	return &batch{kind: k, key: rand.Text(), body: append([]byte(`{"`), k.list()+`":[`...), delivered: make(chan struct{})}
}

func (b *batch) isDelivered() bool {
	select {
	case <-b.delivered:
		return true
	default:
		return false
	}
}

// full reports whether there is no room for another entry.
func (b *batch) full(maxEntries int) bool {
	return len(b.entries) >= maxEntries || len(b.body) > maxBody-maxItem
}

// add appends a valid entry.
func (b *batch) add(e Entry) {
	if len(b.entries) > 0 {
		b.body = append(b.body, ',')
	}
	b.entries = append(b.entries, e)
	b.body = append(b.body, '{')
	if b.kind == increments {
		b.body = append(b.body, `"name":"`...)
		b.body = append(b.body, e.Name...)
		b.body = append(b.body, `","value":`...)
		b.body = strconv.AppendInt(b.body, e.Value, 10)
		if e.Contributor != "" {
			b.body = append(b.body, ',')
		}
	}
	if e.Contributor != "" {
		b.body = append(b.body, `"contributor":`...)
		b.body = appendQuoted(b.body, e.Contributor)
	}
	if e.ID != "" {
		b.body = append(b.body, `,"id":`...)
		b.body = appendQuoted(b.body, e.ID)
	}
	b.body = append(b.body, '}')
}

// finish returns the whole body. Nothing may be added after it.
func (b *batch) finish() []byte { return append(b.body, "]}"...) }

// appendQuoted appends a JSON string. The text must be valid UTF-8 without control characters.
func appendQuoted(b []byte, text string) []byte {
	b = append(b, '"')
	for i := range len(text) {
		if c := text[i]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, text[i])
	}
	return append(b, '"')
}

// of returns a batch of some of the entries under a new key. They must certainly not be counted.
func (b *batch) of(entries []Entry) *batch {
	other := newBatch(b.kind)
	for _, e := range entries {
		other.add(e)
	}
	return other
}

// faultsByEntry groups the faults of a refusal by the entry that they point to, and makes their pointers relative to it.
func (b *batch) faultsByEntry(faults []Fault) map[int][]Fault {
	grouped := make(map[int][]Fault)
	for _, fault := range faults {
		rest, ok := strings.CutPrefix(fault.Pointer, "#/"+b.kind.list()+"/")
		if !ok {
			continue
		}
		index, field, hasField := strings.Cut(rest, "/")
		i, err := strconv.Atoi(index)
		if err != nil || i < 0 || i >= len(b.entries) {
			continue
		}
		fault.Pointer = "#"
		if hasField {
			fault.Pointer += "/" + field
		}
		grouped[i] = append(grouped[i], fault)
	}
	return grouped
}
