package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/problem"
)

const (
	// maxBody bounds a request's body, in bytes.
	maxBody = 1 << 20
	// maxFaults bounds the faults that are reported of one item. It is more than the rules that one can break at once.
	maxFaults = 5
	// maxPointer bounds the part of a pointer that comes from the request, in bytes: longer names are not repeated.
	maxPointer = 64
	// leastItem is less than the shortest item takes in a body, in bytes, with its comma.
	leastItem = len(`{"contributor":"x"},`)
	// maxPooled bounds the body, in bytes, whose memory is kept for other requests: a thousand of the usual items.
	maxPooled = 128 << 10
)

// What is wrong with fields that break no rule of package increment.
const (
	unknownField  = "unknown field"
	repeatedField = "given more than once"
	missingField  = "required"
	// notInteger is said of "4", 4.5, 4.0 and 4e0 alike: a producer that writes one of them does not count in integers.
	notInteger = "must be an integer, without a fraction or an exponent"
)

// invalidError is the case of a body that cannot be counted, with all that is wrong with it.
type invalidError struct {
	// malformed says that a fault is one of form (400), not of a rule (422).
	malformed bool
	faults    []problem.Fault
}

func (e *invalidError) Error() string { return fmt.Sprintf("invalid body: %d faults", len(e.faults)) }

// form reads a body of one form into the walk. The error is the JSON's own; whatever else is wrong is in the walk.
type form func(*walk) error

// keyHeader gives an idempotency key to a request (draft-ietf-httpapi-idempotency-key-header-07, which has expired: it is
// a model here, not a standard).
const keyHeader = "Idempotency-Key"

// keyHeaderPattern is the regular expression of what readKey takes, for the document.
const keyHeaderPattern = `^("[!-~]{1,255}"|[!#-~][!-~]{0,254})$`

// readKey returns the idempotency key that the header gives, bare or quoted, or nothing. The error is errKey.
func readKey(h http.Header) (string, error) {
	values := h[keyHeader]
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if strings.HasPrefix(key, `"`) {
		if len(key) < 2 || !strings.HasSuffix(key, `"`) {
			return "", errKey
		}
		key = key[1 : len(key)-1]
	}
	if len(values) > 1 || increment.ValidateKey(key) != nil {
		return "", errKey
	}
	return key, nil
}

// giveKeys gives the header's key to the items without an id: to one alone as it is, to those of a batch with their
// places in it.
func giveKeys(entries []batching.Entry, text string, batch bool) {
	key := message.KeyOf(text)
	if batch {
		key = message.KeyOfBatch(text)
	}
	for i := range entries {
		if e := &entries[i]; e.Key == (message.Key{}) {
			e.Key = key
		}
		key = key.Next()
	}
}

// decode reads the body of a request. The error is errKey, errMediaType, errTooLarge, errBody, or an *invalidError with
// every fault, and then there are no entries.
func decode(r *http.Request, form form) ([]batching.Entry, error) {
	key, err := readKey(r.Header)
	if err != nil {
		return nil, err
	}
	if err := checkMediaType(r.Header); err != nil {
		return nil, err
	}
	if r.ContentLength > maxBody {
		return nil, errTooLarge
	}
	s, _ := scratches.Get().(*scratch)
	if s == nil {
		s = new(scratch)
	}
	defer s.release()
	if err := s.read(r.Body); err != nil {
		return nil, err
	}
	return s.walk(form, key)
}

// checkMediaType returns errMediaType unless the body is said to be plain JSON.
func checkMediaType(h http.Header) error {
	for _, coding := range h["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return errMediaType
		}
	}
	types := h["Content-Type"]
	if len(types) != 1 {
		return errMediaType
	}
	if types[0] == "application/json" {
		return nil
	}
	media, parameters, err := mime.ParseMediaType(types[0])
	if err != nil || media != "application/json" {
		return errMediaType
	}
	for name, value := range parameters {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return errMediaType
		}
	}
	return nil
}

// scratch is the memory that decoding needs and entries do not: it is free again before they are published.
type scratch struct {
	limited io.LimitedReader
	body    bytes.Buffer
	json    jsontext.Decoder
}

// scratches are free for the next request. It is memory, not state: whatever it holds means nothing.
var scratches sync.Pool //nolint:gochecknoglobals // a cache

func (s *scratch) release() {
	if s.reusable() {
		scratches.Put(s)
	}
}

// reusable lets go of the request, and says whether the memory that is left is worth keeping.
func (s *scratch) reusable() bool {
	s.limited.R = nil
	return s.body.Cap() <= maxPooled
}

// read takes the whole body, or as much of it as shows that it is too large.
func (s *scratch) read(body io.Reader) error {
	s.body.Reset()
	s.limited = io.LimitedReader{R: body, N: maxBody + 1}
	if _, err := s.body.ReadFrom(&s.limited); err != nil {
		return fmt.Errorf("%w: %w", errBody, err)
	}
	if s.body.Len() > maxBody {
		return errTooLarge
	}
	return nil
}

// walk decodes the body that was read, with the key that the header gives.
func (s *scratch) walk(form form, key string) ([]batching.Entry, error) {
	w := walk{json: &s.json, text: s.body.String(), item: outside}
	// Names that repeat are found here: the decoder would stop at the first.
	s.json.Reset(&s.body, jsontext.AllowDuplicateNames(true))
	err := form(&w)
	if err == nil {
		err = w.end()
	}
	if err != nil {
		w.syntax(err)
	}
	if w.malformed || len(w.faults) > 0 {
		return nil, &invalidError{w.malformed, w.faults}
	}
	if key != "" {
		giveKeys(w.entries, key, w.list != "")
	}
	return w.entries, nil
}

// walk is the way through one body, token by token. Its methods return the JSON decoder's errors as they are: they are
// faults of syntax, the only ones that it stops at.
type walk struct {
	json *jsontext.Decoder
	// text is the body. The strings of entries are parts of it.
	text    string
	entries []batching.Entry

	faults    []problem.Fault
	malformed bool
	// list and item say where in a batch the walk is, for pointers; item is outside when it is not in the list.
	list string
	item int
	// reported counts the faults of the present item.
	reported int
}

// outside is the item of a walk that is in none of a batch's items.
const outside = -1

// enter begins an item, or, with outside, ends the last.
func (w *walk) enter(item int) { w.item, w.reported = item, 0 }

// fault records what is wrong with the given field of the present object, or, without a field, with the object. By itself
// it is a rule that is broken.
func (w *walk) fault(field, detail string) {
	if w.reported++; w.reported > maxFaults {
		return
	}
	var at jsontext.Pointer
	if w.item != outside {
		at = at.AppendToken(w.list).AppendToken(strconv.Itoa(w.item))
	}
	switch {
	case len(field) > maxPointer: // unknown, and not worth repeating
		detail = fmt.Sprintf("%s, with a name of %d bytes", detail, len(field))
	case field != "":
		at = at.AppendToken(field)
	}
	w.faults = append(w.faults, problem.Fault{Pointer: fragment(at), Detail: detail})
}

// faultOfForm is a fault that keeps the rules from being asked.
func (w *walk) faultOfForm(field, detail string) {
	w.malformed = true
	w.fault(field, detail)
}

// fragment is the form of a pointer that RFC 9457 shows: percent-encoded, behind a "#".
func fragment(p jsontext.Pointer) string {
	return "#" + (&url.URL{Fragment: string(p)}).EscapedFragment()
}

// syntax records why the body is not JSON, whatever else has been found before.
func (w *walk) syntax(err error) {
	w.malformed = true
	fault := problem.Fault{Pointer: "#", Detail: "not JSON: the body is empty"}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		fault.Detail = fmt.Sprintf("not JSON: %v, at byte %d", syntactic.Err, syntactic.ByteOffset)
		if len(syntactic.JSONPointer) <= maxPointer {
			fault.Pointer = fragment(syntactic.JSONPointer)
		}
	}
	w.faults = append(w.faults, fault)
}

// end makes sure that nothing follows the body's one value.
func (w *walk) end() error {
	switch _, err := w.json.ReadToken(); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return err
	default:
		w.enter(outside)
		w.faultOfForm("", "must be one JSON value, and nothing after it")
	}
	return nil
}

// expect says whether the next value is of the given kind. One that is not is passed over, and recorded as not being
// what it must be.
func (w *walk) expect(kind jsontext.Kind, field, must string) (bool, error) {
	if w.json.PeekKind() == kind {
		return true, nil
	}
	if err := w.json.SkipValue(); err != nil {
		return false, err
	}
	w.faultOfForm(field, must)
	return false, nil
}

// open is expect for what other values are in, and goes in.
func (w *walk) open(kind jsontext.Kind, field, must string) (bool, error) {
	if ok, err := w.expect(kind, field, must); !ok {
		return false, err
	}
	_, err := w.json.ReadToken()
	return err == nil, err
}

// items describes the items of a request, alone or in a batch.
type items struct {
	// list is the name of a batch's list.
	list   string
	fields []field
}

// field is one field of an item. It has either of text and integer, which keep a value if it is within the rules, and
// return the rule that it breaks otherwise.
type field struct {
	name     string
	required bool
	text     func(*batching.Entry, string) error
	integer  func(*batching.Entry, int64) error
}

// incrementItems describes increments.
func incrementItems() *items {
	return &items{list: "increments", fields: []field{
		{name: "name", required: true, text: func(e *batching.Entry, text string) error {
			e.Tag = text
			return increment.ValidateName(text)
		}},
		{name: "value", required: true, integer: func(e *batching.Entry, n int64) error {
			e.Value = uint8(n) //nolint:gosec // a value that does not fit breaks the rule
			return increment.ValidateValue(n)
		}},
		contributorField(false),
		idField(),
	}}
}

// contributionItems describes contributions.
func contributionItems() *items {
	return &items{list: "contributions", fields: []field{contributorField(true), idField()}}
}

// idField is the idempotency key of one item. It goes before the one that the request's header gives to all.
func idField() field {
	return field{name: "id", text: func(e *batching.Entry, text string) error {
		e.Key = message.KeyOf(text)
		return increment.ValidateKey(text)
	}}
}

func contributorField(required bool) field {
	return field{name: "contributor", required: required, text: func(e *batching.Entry, text string) error {
		e.Contributor = text
		return increment.ValidateContributor(text)
	}}
}

// one is the form of a body that is one item.
func (s *items) one(w *walk) error { return s.item(w) }

// batch is the form of a body that is a list of items in an object.
func (s *items) batch(w *walk) error {
	w.list = s.list
	w.entries = make([]batching.Entry, 0, min(increment.MaxBatch, 1+len(w.text)/leastItem))
	if ok, err := w.open('{', "", "must be an object"); !ok {
		return err
	}
	seen := false
	for {
		token, err := w.json.ReadToken()
		if err != nil {
			return err
		}
		if token.Kind() == '}' {
			break
		}
		switch name := token.String(); {
		case name != s.list:
			w.faultOfForm(name, unknownField)
			err = w.json.SkipValue()
		case seen:
			w.faultOfForm(name, repeatedField)
			err = w.json.SkipValue()
		default:
			seen = true
			err = s.items(w)
		}
		if err != nil {
			return err
		}
	}
	if !seen {
		w.fault(s.list, missingField)
	}
	return nil
}

// items reads the list of a batch. Items after the last that may be are counted and not looked at.
func (s *items) items(w *walk) error {
	if ok, err := w.open('[', s.list, "must be an array"); !ok {
		return err
	}
	n := 0
	for ; w.json.PeekKind() != ']'; n++ {
		var err error
		if n < increment.MaxBatch {
			w.enter(n)
			err = s.item(w)
		} else {
			err = w.json.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	w.enter(outside)
	if n == 0 || n > increment.MaxBatch {
		w.fault(s.list, fmt.Sprintf("must have 1 to %d items, has %d", increment.MaxBatch, n))
	}
	_, err := w.json.ReadToken()
	return err
}

// item reads one item into the walk's entries.
func (s *items) item(w *walk) error {
	if ok, err := w.open('{', "", "must be an object"); !ok {
		return err
	}
	w.entries = append(w.entries, batching.Entry{})
	entry := &w.entries[len(w.entries)-1]
	var seen uint // the fields so far, a bit each
	for {
		token, err := w.json.ReadToken()
		if err != nil {
			return err
		}
		if token.Kind() == '}' {
			break
		}
		switch i := s.find(token.String()); {
		case i < 0:
			w.faultOfForm(token.String(), unknownField)
			err = w.json.SkipValue()
		case seen&(1<<i) != 0:
			w.faultOfForm(s.fields[i].name, repeatedField)
			err = w.json.SkipValue()
		default:
			seen |= 1 << i
			err = s.fields[i].read(w, entry)
		}
		if err != nil {
			return err
		}
	}
	for i := range s.fields {
		if f := &s.fields[i]; f.required && seen&(1<<i) == 0 {
			w.fault(f.name, missingField)
		}
	}
	return nil
}

// find returns the number of the field with a name, or -1. Names are compared as they are: case matters.
func (s *items) find(name string) int {
	for i := range s.fields {
		if s.fields[i].name == name {
			return i
		}
	}
	return -1
}

// read reads the field's value into entry.
func (f *field) read(w *walk, entry *batching.Entry) error {
	if f.text != nil {
		return f.readText(w, entry)
	}
	return f.readInteger(w, entry)
}

func (f *field) readText(w *walk, entry *batching.Entry) error {
	if ok, err := w.expect('"', f.name, "must be a string"); !ok {
		return err
	}
	quoted, err := w.json.ReadValue()
	if err != nil {
		return err
	}
	var text string
	if bytes.IndexByte(quoted, '\\') < 0 {
		end := int(w.json.InputOffset())
		text = w.text[end-len(quoted)+1 : end-1]
	} else {
		unquoted, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil {
			return err
		}
		text = string(unquoted)
	}
	if err := f.text(entry, text); err != nil {
		w.fault(f.name, err.Error())
	}
	return nil
}

func (f *field) readInteger(w *walk, entry *batching.Entry) error {
	if ok, err := w.expect('0', f.name, notInteger); !ok {
		return err
	}
	token, err := w.json.ReadToken()
	if err != nil {
		return err
	}
	n, err := token.Int() // of one that is too large, the nearest there is
	if errors.Is(err, strconv.ErrSyntax) {
		w.faultOfForm(f.name, notInteger)
		return nil
	}
	if err := f.integer(entry, n); err != nil {
		w.fault(f.name, err.Error())
	}
	return nil
}
