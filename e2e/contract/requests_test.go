package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/e2e/openapitest"
)

// request is a request to send.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte
}

func (r request) String() string {
	return fmt.Sprintf("%s %s?%s %v %.500s", r.method, r.path, r.query.Encode(), r.header, r.body)
}

// clone returns a copy that can be modified.
func (r request) clone() request {
	r.query = url.Values(http.Header(r.query).Clone())
	r.header = r.header.Clone()
	return r
}

// maxStreamed bounds how many bytes of a stream are read. Its first event is far shorter.
const maxStreamed = 1 << 20

// send sends a request and reads the answer. Of an event stream it reads the first event.
func (s *service) send(ctx context.Context, r request) (openapitest.Exchange, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	address := s.url + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	e := openapitest.Exchange{Body: r.body}
	var err error
	if e.Request, err = http.NewRequestWithContext(ctx, r.method, address, bytes.NewReader(r.body)); err != nil {
		return e, err
	}
	maps.Copy(e.Request.Header, r.header)
	response, err := s.client.Do(e.Request)
	if err != nil {
		return e, err
	}
	defer response.Body.Close() //nolint:errcheck // read
	e.Status, e.Header = response.StatusCode, response.Header
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		e.Answer, err = io.ReadAll(response.Body)
		return e, err
	}
	for piece := make([]byte, 4096); !bytes.Contains(e.Answer, []byte("\n\nevent: ")) || !bytes.HasSuffix(e.Answer, []byte("\n\n")); {
		n, err := response.Body.Read(piece)
		e.Answer = append(e.Answer, piece[:n]...)
		if err != nil || len(e.Answer) > maxStreamed {
			return e, fmt.Errorf("no first event in the stream: %.200s: %w", e.Answer, err)
		}
	}
	return e, nil
}

// drawRequest draws a request that the document allows, and the value of its body.
func drawRequest(t *rapid.T, method, path string, o *openapi3.Operation) (r request, body any) {
	r = request{method: method, path: path, query: url.Values{}, header: http.Header{}}
	for _, ref := range o.Parameters {
		p := ref.Value
		if other, ok := p.Extensions[openapitest.ExtensionExcludes].(string); ok && r.query.Has(other) {
			continue
		}
		// Only the service makes page tokens. A time that must be before another is drawn below, after that one.
		if p.Schema.Value.Format == "page-token" || (!p.Required && !rapid.Bool().Draw(t, "with "+p.Name)) || p.Extensions[openapitest.ExtensionBefore] != nil {
			continue
		}
		r.set(p, fmt.Sprint(drawValue(t, p.Name, p.Schema.Value)))
	}
	for _, ref := range o.Parameters {
		if other, ok := ref.Value.Extensions[openapitest.ExtensionBefore].(string); ok && r.query.Has(other) {
			to, err := time.Parse(time.RFC3339, r.query.Get(other))
			if err != nil {
				t.Fatal(err)
			}
			r.set(ref.Value, to.Add(-time.Duration(rapid.IntRange(1, 1e6).Draw(t, "seconds"))*time.Second).Format(time.RFC3339))
		}
	}
	if media := listTypes(o); media != nil {
		r.header.Set("Accept", rapid.SampledFrom(media).Draw(t, "accept"))
	}
	if o.RequestBody == nil {
		return r, nil
	}
	r.header.Set("Content-Type", jsonType)
	body = drawValue(t, "body", o.RequestBody.Value.Content[jsonType].Schema.Value)
	r.body = encode(t, body)
	return r, body
}

// listTypes returns the media types of an operation that is also available as rows, nil for another one.
func listTypes(o *openapi3.Operation) []string {
	if o.Responses.Status(http.StatusNotAcceptable) == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(o.Responses.Status(http.StatusOK).Value.Content))
}

// jsonType is the media type of request bodies.
const jsonType = "application/json"

// set gives a parameter a value.
func (r *request) set(p *openapi3.Parameter, value string) {
	switch p.In {
	case openapi3.ParameterInPath:
		r.path = strings.Replace(r.path, "{"+p.Name+"}", escape(value), 1)
	case openapi3.ParameterInQuery:
		r.query.Set(p.Name, value)
	case openapi3.ParameterInHeader:
		r.header[http.CanonicalHeaderKey(p.Name)] = []string{value}
	}
}

// escape is url.PathEscape that also escapes dots, so that no segment is "..".
func escape(segment string) string { return strings.ReplaceAll(url.PathEscape(segment), ".", "%2E") }

func encode(t *rapid.T, body any) []byte {
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// drawValue draws a value that a schema allows, with a preference for its bounds.
func drawValue(t *rapid.T, name string, s *openapi3.Schema) any {
	switch {
	case len(s.Enum) > 0:
		return rapid.SampledFrom(s.Enum).Draw(t, name)
	case s.Type.Is("integer"):
		least, most := 0, 1_000_000
		if s.Min != nil {
			least = int(*s.Min)
		}
		if s.Max != nil {
			most = int(*s.Max)
		}
		return rapid.OneOf(rapid.IntRange(least, most), rapid.Just(least), rapid.Just(most)).Draw(t, name)
	case s.Type.Is("array"):
		n := rapid.IntRange(int(s.MinItems), int(s.MinItems)+4).Draw(t, name+" length")
		if s.MaxItems != nil && rapid.IntRange(0, 19).Draw(t, name+" full") == 0 {
			n = int(*s.MaxItems)
		}
		items := make([]any, n)
		for i := range items {
			if i < 5 {
				items[i] = drawValue(t, fmt.Sprint(name, "[", i, "]"), s.Items.Value)
			} else {
				items[i] = items[i%5]
			}
		}
		return items
	case s.Type.Is("object"):
		object := make(map[string]any)
		for _, property := range slices.Sorted(maps.Keys(s.Properties)) {
			if slices.Contains(s.Required, property) || rapid.Bool().Draw(t, "with "+property) {
				object[property] = drawValue(t, property, s.Properties[property].Value)
			}
		}
		return object
	case s.Format == "date-time":
		return time.Unix(rapid.Int64Range(0, time.Now().Unix()).Draw(t, name), 0).UTC().Format(time.RFC3339)
	case s.Format == "time-zone":
		return rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "Asia/Kolkata", "America/Havana"}).Draw(t, name)
	default:
		return drawText(t, name, s)
	}
}

// drawText draws a string within the pattern and the lengths of a schema.
func drawText(t *rapid.T, name string, s *openapi3.Schema) string {
	pattern := s.Pattern
	if pattern == "" {
		pattern = `[!-~]{0,20}`
	}
	matching := rapid.StringMatching(pattern)
	if allows(s, known) {
		matching = rapid.OneOf(matching, matching, rapid.Just(known))
	}
	text := matching.Filter(func(text string) bool { return utf8.RuneCountInString(text) >= int(s.MinLength) }).Draw(t, name)
	if s.MaxLength == nil {
		return text
	}
	most := int(*s.MaxLength)
	if rapid.IntRange(0, 9).Draw(t, name+" longest") == 0 {
		if longest := stretch(text, most); allows(s, longest) {
			return longest
		}
	}
	return string([]rune(text)[:min(utf8.RuneCountInString(text), most)])
}

// allows reports whether a schema allows a string.
func allows(s *openapi3.Schema, text string) bool {
	n := utf8.RuneCountInString(text)
	return regexp.MustCompile(s.Pattern).MatchString(text) && n >= int(s.MinLength) && (s.MaxLength == nil || n <= int(*s.MaxLength))
}

// stretch repeats text up to the given length.
func stretch(text string, length int) string {
	if text == "" {
		text = "a"
	}
	return string([]rune(strings.Repeat(text, length))[:length])
}

// broken is a value, or a request, in which one rule is broken.
type broken[T any] struct {
	rule string
	with T
}

// breakValue returns variants of value. Each breaks one of the schema's rules in one place.
func breakValue(s *openapi3.Schema, value any) []broken[any] {
	var all []broken[any]
	put := func(rule string, with any) { all = append(all, broken[any]{rule, with}) }
	for _, other := range []any{nil, true, []any{}, map[string]any{}, "4", 4} {
		if !ofType(s, other) {
			put(fmt.Sprintf("%T for %v", other, *s.Type), other)
		}
	}
	switch value := value.(type) {
	case map[string]any:
		for _, name := range s.Required {
			without := maps.Clone(value)
			delete(without, name)
			put("without "+name, without)
		}
		with := maps.Clone(value)
		with["colour"] = "red"
		put("an unknown field", with)
		for name := range value {
			repeated, err := json.Marshal(value)
			again, errAgain := json.Marshal(value[name])
			if err == nil && errAgain == nil {
				put(name+" twice", json.RawMessage(fmt.Sprintf(`{%q:%s,%s`, name, again, repeated[1:])))
			}
			for _, b := range breakValue(s.Properties[name].Value, value[name]) {
				changed := maps.Clone(value)
				changed[name] = b.with
				put(name+": "+b.rule, changed)
			}
		}
	case []any:
		if s.MinItems > 0 {
			put("too few", []any{})
		}
		if s.MaxItems != nil {
			put("too many", slices.Repeat(value[:1], int(*s.MaxItems)+1))
		}
		last := len(value) - 1
		for _, b := range breakValue(s.Items.Value, value[last]) {
			changed := slices.Clone(value)
			changed[last] = b.with
			put("the last: "+b.rule, changed)
		}
	case int:
		for _, text := range []string{strconv.Itoa(value) + ".0", strconv.Itoa(value) + ".5", strconv.Itoa(value) + "e0", "1e400", "-0.1"} {
			put(text, json.RawMessage(text))
		}
		if s.Min != nil {
			put("too small", int(*s.Min)-1)
		}
		if s.Max != nil {
			put("too large", int(*s.Max)+1)
			put("far too large", json.RawMessage("18446744073709551617"))
		}
	case string:
		for _, text := range breakText(s, value) {
			put(text.rule, text.with)
		}
	}
	return all
}

func ofType(s *openapi3.Schema, value any) bool {
	switch value.(type) {
	case []any:
		return s.Type.Is("array")
	case map[string]any:
		return s.Type.Is("object")
	case string:
		return s.Type.Is("string")
	case int:
		return s.Type.Is("integer")
	default:
		return false
	}
}

// breakText returns strings that break one rule of a schema each.
func breakText(s *openapi3.Schema, value string) []broken[string] {
	var all []broken[string]
	if s.MinLength > 0 {
		all = append(all, broken[string]{"too short", stretch(value, int(s.MinLength)-1)})
	}
	if s.MaxLength != nil {
		all = append(all, broken[string]{"too long", stretch(value, int(*s.MaxLength)+1)})
	}
	if s.Pattern != "" {
		runes := []rune(value)
		for _, odd := range []string{"\x00", "\n", " ", "A", "é", "\x7f", "9", "-"} {
			// Replace a character, so that the length stays within its bounds.
			text := string(runes[:len(runes)/2]) + odd + string(runes[min(len(runes), len(runes)/2+1):])
			if !regexp.MustCompile(s.Pattern).MatchString(text) {
				all = append(all, broken[string]{fmt.Sprintf("with %q", odd), text})
			}
		}
	}
	return all
}

// breakRequest returns variants of a valid request with the given body. Each breaks one of the document's rules.
func breakRequest(t *rapid.T, path string, o *openapi3.Operation, valid request, body any) []broken[request] {
	var all []broken[request]
	put := func(rule string, change func(*request)) {
		r := valid.clone()
		change(&r)
		all = append(all, broken[request]{rule, r})
	}
	if openapitest.RefusesParameters(valid.method, o) {
		put("an unknown parameter", func(r *request) { r.query.Set("colour", "red") })
	}
	for _, ref := range o.Parameters {
		p := ref.Value
		for _, b := range breakParameter(p) {
			put("parameter "+p.Name+": "+b.rule, func(r *request) {
				if p.In == openapi3.ParameterInPath {
					r.path = path
				}
				r.set(p, b.with)
			})
		}
		if p.In == openapi3.ParameterInQuery {
			put("parameter "+p.Name+" twice", func(r *request) {
				text := fmt.Sprint(drawValue(t, p.Name, p.Schema.Value))
				r.query[p.Name] = []string{text, text}
			})
		}
		if p.In == openapi3.ParameterInHeader && p.Schema.Value.Pattern != "" {
			put("header "+p.Name+" twice", func(r *request) { r.header[http.CanonicalHeaderKey(p.Name)] = []string{"a", "a"} })
		}
		if other, ok := p.Extensions[openapitest.ExtensionExcludes].(string); ok {
			put(p.Name+" and "+other, func(r *request) {
				r.query.Set(p.Name, known)
				r.query.Set(other, known)
			})
		}
		if other, ok := p.Extensions[openapitest.ExtensionBefore].(string); ok {
			put(p.Name+" after "+other, func(r *request) {
				r.query.Set(p.Name, "2026-11-23T08:00:01Z")
				r.query.Set(other, "2026-11-23T08:00:00Z")
			})
		}
	}
	if listTypes(o) != nil {
		put("another media type", func(r *request) { r.header.Set("Accept", "image/png") })
	}
	if o.RequestBody == nil {
		return all
	}
	for _, b := range breakValue(o.RequestBody.Value.Content[jsonType].Schema.Value, body) {
		put("body: "+b.rule, func(r *request) { r.body = encode(t, b.with) })
	}
	put("no body", func(r *request) { r.body = nil })
	put("a body that is cut off", func(r *request) { r.body = r.body[:len(r.body)-1] })
	put("a body and more", func(r *request) { r.body = append(slices.Clone(r.body), r.body...) })
	put("a body that is not UTF-8", func(r *request) { r.body = bytes.Replace(r.body, []byte(`":`), []byte("\xff\":"), 1) })
	put("a body that is too large", func(r *request) { r.body = append(slices.Clone(r.body), bytes.Repeat([]byte(" "), 1<<20)...) })
	put("no media type", func(r *request) { r.header.Del("Content-Type") })
	put("another media type", func(r *request) { r.header.Set("Content-Type", "text/csv") })
	put("another character set", func(r *request) { r.header.Set("Content-Type", "application/json; charset=latin1") })
	put("a coding", func(r *request) { r.header.Set("Content-Encoding", "gzip") })
	return all
}

// breakParameter returns strings that break one rule of a parameter each.
func breakParameter(p *openapi3.Parameter) []broken[string] {
	s := p.Schema.Value
	switch {
	case s.Format == "page-token":
		return []broken[string]{{"no token", "no token"}, {"no token of this list", "AAAA"}}
	case len(s.Enum) > 0:
		return []broken[string]{{"none of them", "colour"}, {"empty", ""}, {"another case", strings.ToUpper(fmt.Sprint(s.Enum[0]))}}
	case s.Format == "time-zone":
		return []broken[string]{{"no zone", "Europe/Atlantis"}, {"a folder", "Europe"}, {"empty", ""}, {"the machine's", "Local"}}
	case s.Format == "date-time":
		return []broken[string]{{"no time", "now"}, {"a date", "2026-11-23"}, {"no month", "2026-13-01T00:00:00Z"}, {"empty", ""}}
	case s.Type.Is("integer"):
		all := []broken[string]{{"a word", "many"}, {"a fraction", "1.5"}, {"empty", ""}, {"far too large", "18446744073709551617"}}
		if s.Min != nil {
			all = append(all, broken[string]{"too small", strconv.Itoa(int(*s.Min) - 1)})
		}
		if s.Max != nil {
			all = append(all, broken[string]{"too large", strconv.Itoa(int(*s.Max) + 1)})
		}
		return all
	case p.In == openapi3.ParameterInHeader && s.Pattern != "":
		var all []broken[string]
		for _, text := range []string{"", `""`, `"half`, "a b", "é", stretch("a", 256), `"` + stretch("a", 256) + `"`} {
			if !regexp.MustCompile(s.Pattern).MatchString(text) {
				all = append(all, broken[string]{fmt.Sprintf("%.10q", text), text})
			}
		}
		return all
	case p.In == openapi3.ParameterInQuery && s.Pattern != "":
		return breakText(s, "ada")
	case p.In == openapi3.ParameterInPath:
		return slices.DeleteFunc(breakText(s, "ada"), func(b broken[string]) bool { return b.with == "" })
	default:
		return nil
	}
}
