package client

import (
	"crypto/rand"
	"strconv"
	"strings"

	"github.com/accrue/accrue/pkg/problem"
)

// kind is what a post is of: increments and contributions have paths of their own.
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
	// maxBody is the largest body that ingest takes, in bytes.
	maxBody = 1 << 20
	// maxItem is more than an item takes in a body, in bytes: the longest contributor, each character of 4 bytes, the
	// longest id, each character escaped, and the rest.
	maxItem = 2 << 10
)

// batch is entries that are posted together, with one key. Nothing but add changes it, and add only before its first post:
// a try that failed may still be under way somewhere when the next begins.
type batch struct {
	kind    kind
	entries []Entry
	// body is the request's, up to the last entry.
	body []byte
	key  string
}

func newBatch(k kind) *batch {
	// 128 random bits and more, as visible ASCII: no other batch of anybody has the same.
	return &batch{kind: k, key: rand.Text(), body: append([]byte(`{"`), k.list()+`":[`...)}
}

// full says whether there is no place for another entry.
func (b *batch) full(most int) bool { return len(b.entries) >= most || len(b.body) > maxBody-maxItem }

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

// finish returns the whole body. Nothing is added after it.
func (b *batch) finish() []byte { return append(b.body, "]}"...) }

// appendQuoted appends text that is valid UTF-8 without control characters as a JSON string.
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

// of returns a batch of some of the entries, with a key of its own. It is for entries that are certainly not counted.
func (b *batch) of(entries []Entry) *batch {
	other := newBatch(b.kind)
	for _, e := range entries {
		other.add(e)
	}
	return other
}

// faultsByEntry sorts the faults of a refusal by the entry that they point to, with pointers into the entry.
func (b *batch) faultsByEntry(faults []problem.Fault) map[int][]problem.Fault {
	sorted := make(map[int][]problem.Fault)
	for _, fault := range faults {
		rest, ok := strings.CutPrefix(fault.Pointer, "#/"+b.kind.list()+"/")
		if !ok {
			continue
		}
		place, field, inside := strings.Cut(rest, "/")
		i, err := strconv.Atoi(place)
		if err != nil || i < 0 || i >= len(b.entries) {
			continue
		}
		fault.Pointer = "#"
		if inside {
			fault.Pointer += "/" + field
		}
		sorted[i] = append(sorted[i], fault)
	}
	return sorted
}
