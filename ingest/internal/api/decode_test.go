package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/increment"
)

// shape is a shape of body, with a slow reference decoder for it.
type shape struct {
	kind      *itemKind
	batch     bool
	reference func([]byte) ([]batching.Entry, error)
}

func shapes() map[string]shape {
	return map[string]shape{
		"increment":     {incrementKind(nil), false, func(b []byte) ([]batching.Entry, error) { return slowly(b, &slowIncrement{}) }},
		"contribution":  {contributionKind(), false, func(b []byte) ([]batching.Entry, error) { return slowly(b, &slowContribution{}) }},
		"increments":    {incrementKind(nil), true, func(b []byte) ([]batching.Entry, error) { return slowly(b, &slowIncrements{}) }},
		"contributions": {contributionKind(), true, func(b []byte) ([]batching.Entry, error) { return slowly(b, &slowContributions{}) }},
	}
}

// unlimited is memory without a limit.
type unlimited struct{}

func (unlimited) Reserve(int) bool { return true }
func (unlimited) Release(int)      {}

// slow is a body as encoding/json decodes it.
type slow interface {
	entries() ([]batching.Entry, error)
}

type slowIncrement struct {
	Name        *string      `json:"name"`
	Value       *json.Number `json:"value"`
	Contributor *string      `json:"contributor"`
}

type slowContribution struct {
	Contributor *string `json:"contributor"`
}

type slowIncrements struct {
	Increments []slowIncrement `json:"increments"`
}

type slowContributions struct {
	Contributions []slowContribution `json:"contributions"`
}

var errReference = errors.New("refused by the reference")

func (s *slowIncrement) entries() ([]batching.Entry, error) {
	if s.Name == nil || s.Value == nil {
		return nil, errReference
	}
	n, err := strconv.ParseInt(s.Value.String(), 10, 64)
	err = errors.Join(err, increment.ValidateName(*s.Name), increment.ValidateValue(n))
	e := batching.Entry{Tag: *s.Name, Value: uint8(n)}
	if s.Contributor != nil {
		e.Contributor = *s.Contributor
		err = errors.Join(err, increment.ValidateContributor(e.Contributor))
	}
	return []batching.Entry{e}, err
}

func (s *slowContribution) entries() ([]batching.Entry, error) {
	if s.Contributor == nil {
		return nil, errReference
	}
	return []batching.Entry{{Contributor: *s.Contributor}}, increment.ValidateContributor(*s.Contributor)
}

func (s *slowIncrements) entries() ([]batching.Entry, error)    { return slowList(s.Increments) }
func (s *slowContributions) entries() ([]batching.Entry, error) { return slowList(s.Contributions) }

func slowList[T any, P interface {
	*T
	slow
}](items []T) ([]batching.Entry, error) {
	if len(items) == 0 || len(items) > increment.MaxBatch {
		return nil, errReference
	}
	var all []batching.Entry
	for i := range items {
		entries, err := P(&items[i]).entries()
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}

// slowly decodes a body into s with encoding/json, and refuses what that accepts and must not.
func slowly(body []byte, s slow) ([]batching.Entry, error) {
	if !utf8.Valid(body) || !json.Valid(body) || !surrogatesArePaired(body) {
		return nil, errReference
	}
	tree := json.NewDecoder(bytes.NewReader(body))
	tree.UseNumber()
	if err := fieldsAreExact(tree); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("%w: %w", errReference, err)
	}
	return s.entries()
}

// fieldsAreExact reads one value and refuses repeated fields, fields in another case, null, and numbers as text, which a
// json.Number accepts.
func fieldsAreExact(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil || token == nil {
		return errReference
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	names := make(map[string]bool)
	for d.More() {
		if delim == '{' {
			token, err := d.Token()
			name, _ := token.(string)
			known := []string{"name", "value", "contributor", "increments", "contributions"}
			if err != nil || names[name] || !slices.Contains(known, name) {
				return errReference
			}
			names[name] = true
			if name == "value" {
				if token, err := d.Token(); err != nil || reflect.TypeOf(token) != reflect.TypeFor[json.Number]() {
					return errReference
				}
				continue
			}
		}
		if err := fieldsAreExact(d); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return errReference
	}
	return nil
}

// surrogatesArePaired refuses escapes of half a character, which encoding/json replaces.
func surrogatesArePaired(body []byte) bool {
	unit := func(i int) (rune, bool) {
		if i+6 > len(body) || body[i] != '\\' || body[i+1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(string(body[i+2:i+6]), 16, 16)
		return rune(n), err == nil
	}
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		if r, ok := unit(i); ok && utf16.IsSurrogate(r) {
			second, _ := unit(i + 6)
			if utf16.DecodeRune(r, second) == utf8.RuneError {
				return false
			}
			i += 6
		}
		i++
	}
	return true
}

// FuzzDecode compares the decoder with the reference.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"name":"foo","value":4}`, `{"value":9,"name":"__init__","contributor":"a/\"b\\\ud83d\ude00é"}`,
		`{"contributor":"ada"}`, `{"increments":[{"name":"foo","value":4},{"name":"bar","value":1,"contributor":"x"}]}`,
		`{"contributions":[{"contributor":"ada"},{"contributor":"\u0000"}]}`, `{"increments":[]}`, `{"increments":null}`,
		`{"name":"foo","value":4,"value":4}`, `{"name":"foo","value":"4"}`, `{"name":"foo","value":4.0}`, `{"Name":"foo","value":4}`,
		`{"name":"foo","value":18446744073709551620}`, `{"name":"foo","value":-0}`, `{"n\u0061me":"foo","value":4}`,
		`{"name":"foo","value":4}{}`, `[{"name":"foo","value":4}]`, `{"name":"foo","value":4,"x":[{"a":1,"a":2}]}`, ``, ` `, `nul`,
		`{"name":"foo","value":4,"contributor":"\ud83d"}`, `{"name":"foo","value":4,"contributor":"\\ud83d"}`, "\ufeff{}",
		`{"contributor":"\ud83d\ude00\ud83d"}`, "{\"contributor\":\"\xff\"}", `{"contributor":null}`, `{"a/b~ %é":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if err := compare(t.Context(), body); err != nil {
			t.Error(err)
		}
	})
}

// TestDecodeAgreesWithTheReference tries bodies that are nearly right, which random bytes seldom are.
func TestDecodeAgreesWithTheReference(t *testing.T) {
	t.Parallel()
	member := rapid.Custom(func(rt *rapid.T) string {
		name := rapid.SampledFrom([]string{`"name"`, `"name"`, `"value"`, `"value"`, `"contributor"`, `"Value"`, `"n\u0061me"`, `"x"`}).Draw(rt, "name")
		value := rapid.SampledFrom([]string{
			`"foo"`, `"foo"`, `4`, `4`, `"fo"`, `"ada\n"`, `"\u0041"`, `10`, `0`, `-1`, `4.0`, `4e0`, `"4"`, `null`, `true`, `[]`, `{"name":1,"name":2}`,
			`99999999999999999999`, ``,
		}).Draw(rt, "value")
		return name + ":" + value
	})
	item := rapid.Custom(func(rt *rapid.T) string {
		good := []string{`{"name":"foo","value":4}`, `{"contributor":"ada"}`, `{"value":4,"contributor":"ada","name":"foo"}`, `null`, `[]`}
		if rapid.Bool().Draw(rt, "good") {
			return rapid.SampledFrom(good).Draw(rt, "item")
		}
		return "{" + strings.Join(rapid.SliceOfN(member, 0, 4).Draw(rt, "members"), ",") + "}"
	})
	rapid.Check(t, func(rt *rapid.T) {
		body := item.Draw(rt, "one")
		if rapid.Bool().Draw(rt, "batch") {
			name := rapid.SampledFrom([]string{"increments", "contributions"}).Draw(rt, "list")
			body = fmt.Sprintf(`{"%s":[%s]}`, name, strings.Join(rapid.SliceOfN(item, 0, 3).Draw(rt, "items"), ","))
		}
		body += rapid.SampledFrom([]string{"", "", "", " \n", "}", "{}", "1"}).Draw(rt, "tail")
		if err := compare(t.Context(), []byte(body)); err != nil {
			rt.Error(err)
		}
	})
}

// compare decodes body in all shapes and returns the differences from the reference: both accept the same bodies, with equal
// entries. Refusals have faults.
func compare(ctx context.Context, body []byte) (faults error) {
	fault := func(name, format string, args ...any) {
		faults = errors.Join(faults, fmt.Errorf("%q as %s: %s", body, name, fmt.Sprintf(format, args...)))
	}
	for name, tc := range shapes() {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		got, err := decode(r, unlimited{}, tc.kind, tc.batch)
		want, slowErr := tc.reference(body)
		if (err == nil) != (slowErr == nil) {
			fault(name, "decode() = %v, the reference says %v", err, slowErr)
		}
		if err == nil {
			if !slices.Equal(got, want) {
				fault(name, "decode() = %+v, the reference reads %+v", got, want)
			}
			continue
		}
		var invalid *invalidError
		if got != nil || !errors.As(err, &invalid) || len(invalid.faults) == 0 {
			fault(name, "decode() = %+v, %v, want faults only", got, err)
			continue
		}
		for _, f := range invalid.faults {
			if !strings.HasPrefix(f.Pointer, "#") || len(f.Pointer) > 400 || len(f.Detail) > 200 || f.Detail == "" {
				fault(name, "fault %+v", f)
			}
		}
	}
	return faults
}

// The memory of a request is reused. The entries of an earlier one must not refer to it.
func TestEntriesOutliveTheBody(t *testing.T) {
	t.Parallel()
	all := make([][]batching.Entry, 100)
	for i := range all {
		body := fmt.Sprintf(`{"contributor":"contributor %d"}`, i)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		entries, err := decode(r, unlimited{}, contributionKind(), false)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = entries
	}
	for i, entries := range all {
		if want := (batching.Entry{Contributor: fmt.Sprintf("contributor %d", i)}); entries[0] != want {
			t.Errorf("entry = %+v, want %+v", entries[0], want)
		}
	}
}

// accounting is memory with a limit, which checks that what was reserved is released.
type accounting struct{ limit, held, most int }

func (a *accounting) Reserve(n int) bool {
	if a.held+n > a.limit {
		return false
	}
	a.held += n
	a.most = max(a.most, a.held)
	return true
}

func (a *accounting) Release(n int) { a.held -= n }

// endless is a body of spaces without an end, of which some bytes can be read before it fails.
type endless struct {
	read, limit int
	err         error
}

func (e *endless) Read(p []byte) (int, error) {
	if e.read >= e.limit {
		return 0, e.err
	}
	n := min(len(p), e.limit-e.read)
	for i := range n {
		p[i] = ' '
	}
	e.read += n
	return n, nil
}

func post(t *testing.T, body io.Reader, length int64, encoding string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", body)
	r.ContentLength = length
	r.Header.Set("Content-Type", "application/json")
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	return r
}

func TestABodyIsReadWithinItsReservation(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	for range 64 {
		_, _ = w.Write(bytes.Repeat([]byte(" "), 1<<20))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	timeout := fmt.Errorf("read: %w", os.ErrDeadlineExceeded)
	for title, tc := range map[string]struct {
		body     io.Reader
		length   int64
		encoding string
		limit    int
		want     error
		most     int // of the reservation
	}{
		"a declared size beyond the limit":           {&endless{}, maxBody + 1, "", 1 << 30, errTooLarge, 0},
		"no declared size, beyond the limit":         {&endless{limit: 1 << 30}, -1, "", 1 << 30, errTooLarge, cost(maxBody + 1)},
		"no room for a declared size":                {&endless{limit: 1 << 30}, 100_000, "", 200_000, batching.ErrFull, 0},
		"no room for more of an undeclared size":     {&endless{limit: 1 << 30}, -1, "", 200_000, batching.ErrFull, 200_000},
		"a body that takes too long":                 {&endless{limit: 1000, err: timeout}, 2000, "", 1 << 30, errSlow, cost(2000)},
		"a body that breaks off":                     {&endless{limit: 1000, err: io.ErrUnexpectedEOF}, 2000, "", 1 << 30, errIncomplete, cost(2000)},
		"a compressed body that inflates too much":   {&bomb, int64(bomb.Len()), "gzip", 1 << 30, errTooLarge, gzipCost + cost(maxBody+1)},
		"a compressed body and no room":              {&endless{limit: 100}, 100, "gzip", 10_000, batching.ErrFull, 0},
		"a compressed body that is not compressed":   {strings.NewReader("{}"), 2, "gzip", 1 << 30, errIncomplete, gzipCost},
		"a compressed body of another format":        {strings.NewReader(strings.Repeat("{}", 100)), 200, "gzip", 1 << 30, errGzip, gzipCost},
		"a compressed body without a byte":           {strings.NewReader(""), 0, "gzip", 1 << 30, errGzip, gzipCost},
		"a compressed body that takes too long":      {&endless{err: timeout}, 100, "gzip", 1 << 30, errSlow, gzipCost},
		"a compressed body of endless empty members": {&endlessMembers{}, -1, "gzip", 1 << 30, errIncomplete, gzipCost + cost(firstRead)},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			memory := &accounting{limit: tc.limit}
			entries, err := decode(post(t, tc.body, tc.length, tc.encoding), memory, incrementKind(nil), true)
			if !errors.Is(err, tc.want) || entries != nil {
				t.Errorf("decode() = %v, %v, want %v", entries, err, tc.want)
			}
			if memory.most > tc.most || memory.held != 0 {
				t.Errorf("reserved %d bytes, want at most %d; %d were not released", memory.most, tc.most, memory.held)
			}
			if body, ok := tc.body.(*endless); ok && body.read > maxBody+1 {
				t.Errorf("read %d bytes", body.read)
			}
		})
	}
}

// endlessMembers is a gzip body of members that inflate to nothing.
type endlessMembers struct{ member, rest []byte }

func (e *endlessMembers) Read(p []byte) (int, error) {
	if e.member == nil {
		var b bytes.Buffer
		_ = gzip.NewWriter(&b).Close()
		e.member = b.Bytes()
	}
	if len(e.rest) == 0 {
		e.rest = e.member
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// cost is what a body takes: its entries fit in what is reserved for them.
func TestShortestItemsFitTheReservation(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		kind *itemKind
		body string
	}{
		"increments":    {incrementKind(nil), `{"increments":[` + strings.Repeat(`{"name":"foo","value":1},`, 99) + `{"name":"foo","value":1}]}`},
		"contributions": {contributionKind(), `{"contributions":[` + strings.Repeat(`{"contributor":"x"},`, 99) + `{"contributor":"x"}]}`},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			entries, err := decode(post(t, strings.NewReader(tc.body), int64(len(tc.body)), ""), unlimited{}, tc.kind, true)
			if err != nil || len(entries) != 100 || cap(entries) > 150 {
				t.Errorf("%d entries in the room of %d, %v", len(entries), cap(entries), err)
			}
		})
	}
}

func benchmarkDecode(b *testing.B, batch bool, body string) {
	b.Helper()
	reader := strings.NewReader(body)
	r := &http.Request{
		Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(body)), Body: io.NopCloser(reader),
	}
	incrementKind := incrementKind(nil)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		if _, err := decode(r, unlimited{}, incrementKind, batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeOne(b *testing.B) {
	benchmarkDecode(b, false, `{"name":"some_word","value":4}`)
}

func BenchmarkDecodeAThousand(b *testing.B) {
	item := `{"name":"some_word","value":4}`
	benchmarkDecode(b, true, `{"increments":[`+strings.Repeat(item+",", increment.MaxBatch-1)+item+`]}`)
}
