package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/problem"
)

const (
	// maxFaults is the maximum number of faults that are reported for one item. An item can break fewer rules at once.
	maxFaults = 5
	// maxPointer is the maximum size of a field name from the request that is repeated in a pointer, in bytes.
	maxPointer = 64
)

// Faults of fields, besides the rules of package increment.
const (
	unknownField  = "unknown field"
	repeatedField = "given more than once"
	missingField  = "required"
	// notInteger is the fault of "4", 4.5, 4.0 and 4e0 alike: a producer that writes one of them does not count in integers.
	notInteger = "must be an integer, without a fraction or an exponent"
)

// invalidError is returned for a body that cannot be counted. It holds all its faults.
type invalidError struct {
	// malformed means that a fault is one of form (400), not of a rule (422).
	malformed bool
	faults    []problem.Fault
}

func (e *invalidError) Error() string { return fmt.Sprintf("invalid body: %d faults", len(e.faults)) }

// decode reads a request with one item of a kind, or with a batch, and returns its entries. The errors are those of
// readHeader and scratch.read, and an *invalidError with every fault.
func decode(r *http.Request, memory memory, kind *itemKind, batch bool) ([]batching.Entry, error) {
	h, err := readHeader(r.Header, batch)
	if err != nil {
		return nil, err
	}
	s := newScratch(memory)
	defer s.release()
	if err := s.read(r, h.gzip); err != nil {
		return nil, err
	}
	return s.decode(kind, h, batch)
}

// decode decodes the body that was read.
func (s *scratch) decode(kind *itemKind, h header, batch bool) ([]batching.Entry, error) {
	s.buffer = *bytes.NewBuffer(s.data)
	// Repeated names are found here: the JSON decoder would stop at the first.
	s.json.Reset(&s.buffer, jsontext.AllowDuplicateNames(true))
	d := decoder{json: &s.json, kind: kind, text: string(s.data), lines: h.lines, item: outside}
	switch {
	case h.key == "":
	case batch:
		d.key = message.KeyOfBatch(h.key)
	default:
		d.key = message.KeyOf(h.key)
	}
	if batch {
		d.entries = make([]batching.Entry, 0, min(increment.MaxBatch, 1+len(d.text)/minItemSize))
	}
	var err error
	switch {
	case h.lines:
		err = d.readLines()
	case batch:
		err = d.readBatch()
	default:
		err = d.readItem()
	}
	if err == nil {
		err = d.end()
	}
	if err != nil {
		d.syntaxFault(err)
	}
	if len(d.faults) > 0 {
		return nil, &invalidError{d.malformed, d.faults}
	}
	return d.entries, nil
}

// decoder decodes one body, token by token. Its methods return the errors of the JSON decoder, which are faults of syntax:
// decoding stops only at those.
type decoder struct {
	json *jsontext.Decoder
	kind *itemKind
	// text is the body. The strings of entries are parts of it.
	text    string
	entries []batching.Entry
	// key is the idempotency key of the next item, made from that of the request, unless the item has its own. It is zero without one.
	key message.Key

	faults    []problem.Fault
	malformed bool
	// lines means that items are lines. item is the index of the item that is being decoded, or outside.
	lines bool
	item  int
	// reported counts the faults of the item.
	reported int
}

// outside is the index of no item.
const outside = -1

// enter begins an item, or, with outside, ends the last one.
func (d *decoder) enter(item int) { d.item, d.reported = item, 0 }

// pointer returns the pointer to the item that is being decoded, or to the body.
func (d *decoder) pointer() (at jsontext.Pointer) {
	if d.item == outside {
		return at
	}
	if !d.lines {
		at = at.AppendToken(d.kind.list)
	}
	return at.AppendToken(strconv.Itoa(d.item))
}

// fault records a broken rule of a field of the current object, or, without a field, of the object.
func (d *decoder) fault(field, detail string) {
	if d.reported++; d.reported > maxFaults {
		return
	}
	at := d.pointer()
	switch {
	case len(field) > maxPointer: // an unknown field
		detail = fmt.Sprintf("%s, with a name of %d bytes", detail, len(field))
	case field != "":
		at = at.AppendToken(field)
	}
	d.faults = append(d.faults, problem.Fault{Pointer: fragment(at), Detail: detail})
}

// formFault records a fault of form.
func (d *decoder) formFault(field, detail string) {
	d.malformed = true
	d.fault(field, detail)
}

// syntaxFault records why the body is not JSON.
func (d *decoder) syntaxFault(err error) {
	d.malformed = true
	fault := problem.Fault{Pointer: "#", Detail: "not JSON: the body is empty"}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		fault.Detail = fmt.Sprintf("not JSON: %v, at byte %d", syntactic.Err, syntactic.ByteOffset)
		at := syntactic.JSONPointer
		if d.lines {
			at = d.pointer() + at
		}
		if len(at) <= maxPointer {
			fault.Pointer = fragment(at)
		}
	}
	d.faults = append(d.faults, fault)
}

// fragment returns a pointer as RFC 9457 shows it: percent-encoded, after a "#".
func fragment(p jsontext.Pointer) string {
	return "#" + (&url.URL{Fragment: string(p)}).EscapedFragment()
}

// end checks that nothing follows the value.
func (d *decoder) end() error {
	switch _, err := d.json.ReadToken(); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return err
	default:
		d.enter(outside)
		d.formFault("", "must be one JSON value, and nothing after it")
	}
	return nil
}

// expect reports whether the next value is of a kind. One that is not is skipped and recorded as a fault.
func (d *decoder) expect(kind jsontext.Kind, field, must string) (bool, error) {
	if d.json.PeekKind() == kind {
		return true, nil
	}
	if err := d.json.SkipValue(); err != nil {
		return false, err
	}
	d.formFault(field, must)
	return false, nil
}

// open is expect for an object or array, and enters it.
func (d *decoder) open(kind jsontext.Kind, field, must string) (bool, error) {
	if ok, err := d.expect(kind, field, must); !ok {
		return false, err
	}
	_, err := d.json.ReadToken()
	return err == nil, err
}

// readLines reads a body of one item on each line. Blank lines are skipped.
func (d *decoder) readLines() error {
	n := 0
	for ; ; n++ {
		rest := d.text[d.json.InputOffset():]
		item := strings.TrimLeft(rest, " \t\r\n")
		if item == "" {
			break
		}
		begin := len(d.text) - len(item)
		separated := n == 0 || strings.Contains(rest[:len(rest)-len(item)], "\n")
		if err := d.readListItem(n); err != nil {
			return err
		}
		if n < increment.MaxBatch && (!separated || strings.Contains(d.text[begin:d.json.InputOffset()], "\n")) {
			d.formFault("", "must be on one line of its own")
		}
	}
	d.enter(outside)
	d.checkLength("", n)
	return nil
}

// readBatch reads a body that is an object with a list of items.
func (d *decoder) readBatch() error {
	if ok, err := d.open('{', "", "must be an object"); !ok {
		return err
	}
	seen := false
	for {
		token, err := d.json.ReadToken()
		if err != nil {
			return err
		}
		if token.Kind() == '}' {
			break
		}
		switch name := token.String(); {
		case name != d.kind.list:
			d.formFault(name, unknownField)
			err = d.json.SkipValue()
		case seen:
			d.formFault(name, repeatedField)
			err = d.json.SkipValue()
		default:
			seen = true
			err = d.readList()
		}
		if err != nil {
			return err
		}
	}
	if !seen {
		d.fault(d.kind.list, missingField)
	}
	return nil
}

func (d *decoder) readList() error {
	if ok, err := d.open('[', d.kind.list, "must be an array"); !ok {
		return err
	}
	n := 0
	for ; d.json.PeekKind() != ']'; n++ {
		if err := d.readListItem(n); err != nil {
			return err
		}
	}
	d.enter(outside)
	d.checkLength(d.kind.list, n)
	_, err := d.json.ReadToken()
	return err
}

// readListItem reads the item at an index of a list. Items beyond the limit are skipped.
func (d *decoder) readListItem(i int) error {
	if i >= increment.MaxBatch {
		d.enter(outside)
		return d.json.SkipValue()
	}
	d.enter(i)
	return d.readItem()
}

func (d *decoder) checkLength(list string, n int) {
	if n < increment.MinBatch || n > increment.MaxBatch {
		d.fault(list, fmt.Sprintf("must have %d to %d items, has %d", increment.MinBatch, increment.MaxBatch, n))
	}
}
