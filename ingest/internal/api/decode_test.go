package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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

// forms are all forms of bodies, with what the slow reference needs to know of them.
func forms() map[string]struct {
	form      form
	reference func([]byte) ([]batching.Entry, error)
} {
	return map[string]struct {
		form      form
		reference func([]byte) ([]batching.Entry, error)
	}{
		"increment":     {incrementItems().one, func(b []byte) ([]batching.Entry, error) { return slowly(b, &slowIncrement{}) }},
		"contribution":  {contributionItems().one, func(b []byte) ([]batching.Entry, error) { return slowly(b, &slowContribution{}) }},
		"increments":    {incrementItems().batch, func(b []byte) ([]batching.Entry, error) { return slowly(b, &slowIncrements{}) }},
		"contributions": {contributionItems().batch, func(b []byte) ([]batching.Entry, error) { return slowly(b, &slowContributions{}) }},
	}
}

// slow is a body as the standard library's first decoder reads it.
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

var errSlow = errors.New("refused by the reference")

func (s *slowIncrement) entries() ([]batching.Entry, error) {
	if s.Name == nil || s.Value == nil {
		return nil, errSlow
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
		return nil, errSlow
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
		return nil, errSlow
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

// slowly decodes a body into s with encoding/json, and refuses by hand what that lets through.
func slowly(body []byte, s slow) ([]batching.Entry, error) {
	if !utf8.Valid(body) || !json.Valid(body) || !surrogatesArePaired(body) {
		return nil, errSlow
	}
	tree := json.NewDecoder(bytes.NewReader(body))
	tree.UseNumber()
	if err := fieldsAreExact(tree); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("%w: %w", errSlow, err)
	}
	return s.entries()
}

// fieldsAreExact walks one value and refuses fields that repeat or whose case is not ours, null anywhere, and numbers as
// text, which a json.Number takes.
func fieldsAreExact(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil || token == nil {
		return errSlow
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
				return errSlow
			}
			names[name] = true
			if name == "value" {
				if token, err := d.Token(); err != nil || reflect.TypeOf(token) != reflect.TypeFor[json.Number]() {
					return errSlow
				}
				continue
			}
		}
		if err := fieldsAreExact(d); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return errSlow
	}
	return nil
}

// surrogatesArePaired refuses escapes of half a character, for which encoding/json puts another.
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

// FuzzDecode holds the decoder against the reference.
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

// TestDecodeAgreesWithTheReference looks where random bytes seldom lead: bodies that are nearly right.
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

// compare decodes body in all forms, and returns how that differs from the reference: what is accepted must be the same,
// with equal content. What is refused must say why.
func compare(ctx context.Context, body []byte) (faults error) {
	fault := func(name, format string, args ...any) {
		faults = errors.Join(faults, fmt.Errorf("%q as %s: %s", body, name, fmt.Sprintf(format, args...)))
	}
	for name, tc := range forms() {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		got, err := decode(r, tc.form)
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
			fault(name, "decode() = %+v, %v, want faults alone", got, err)
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

// The memory of a request is used again, and must not be part of what an earlier one was decoded to.
func TestEntriesOutliveTheBody(t *testing.T) {
	t.Parallel()
	all := make([][]batching.Entry, 100)
	for i := range all {
		body := fmt.Sprintf(`{"contributor":"contributor %d"}`, i)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		entries, err := decode(r, contributionItems().one)
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

func TestOneLargeBodyDoesNotHoldMemory(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]bool{100: true, maxPooled / 2: true, maxPooled + 1: false, maxBody: false} {
		var s scratch
		if err := s.read(strings.NewReader(strings.Repeat(" ", size))); err != nil {
			t.Fatal(err)
		}
		if got := s.reusable(); got != want || s.limited.R != nil {
			t.Errorf("after a body of %d bytes reusable() = %v, want %v, and holds %v", size, got, want, s.limited.R)
		}
	}
}

// leastItem reserves memory: a list of the shortest items must fit what is reserved for it.
func TestTheShortestItemsFitWhatIsReserved(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		form form
		body string
	}{
		"increments":    {incrementItems().batch, `{"increments":[` + strings.Repeat(`{"name":"foo","value":1},`, 99) + `{"name":"foo","value":1}]}`},
		"contributions": {contributionItems().batch, `{"contributions":[` + strings.Repeat(`{"contributor":"x"},`, 99) + `{"contributor":"x"}]}`},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(tc.body))
			r.Header.Set("Content-Type", "application/json")
			entries, err := decode(r, tc.form)
			if err != nil || len(entries) != 100 || cap(entries) > 150 {
				t.Errorf("%d entries in the room of %d, %v", len(entries), cap(entries), err)
			}
		})
	}
}

func benchmarkDecode(b *testing.B, form form, body string) {
	b.Helper()
	reader := strings.NewReader(body)
	r := &http.Request{
		Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(body)), Body: io.NopCloser(reader),
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		if _, err := decode(r, form); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeOne(b *testing.B) {
	benchmarkDecode(b, incrementItems().one, `{"name":"some_word","value":4}`)
}

func BenchmarkDecodeAThousand(b *testing.B) {
	item := `{"name":"some_word","value":4}`
	benchmarkDecode(b, incrementItems().batch, `{"increments":[`+strings.Repeat(item+",", increment.MaxBatch-1)+item+`]}`)
}
