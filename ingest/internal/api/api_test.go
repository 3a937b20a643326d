package api_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/ingest/internal/api"
	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/ingest/internal/names"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/service/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recordingCounter keeps its entries and returns what answer returns. It has room for any body unless it is full.
type recordingCounter struct {
	answer func() error
	full   bool

	mu      sync.Mutex
	entries []batching.Entry
}

func (c *recordingCounter) Add(_ context.Context, entries []batching.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = append(c.entries, entries...)
	if c.answer != nil {
		return c.answer()
	}
	return nil
}

func (c *recordingCounter) Reserve(int) bool { return !c.full }
func (c *recordingCounter) Release(int)      {}

func (c *recordingCounter) counted() []batching.Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.entries)
}

// serve serves the API on a free port of the loopback.
func serve(t *testing.T, counter api.Counter, checks ...service.Check) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(api.New(counter, nil, web.Base{Checks: checks}))
	t.Cleanup(server.Close)
	return server
}

// response is an answer with its body.
type response struct {
	status int
	header http.Header
	body   []byte
}

func do(t *testing.T, server *httptest.Server, r *http.Request) response {
	t.Helper()
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() //nolint:errcheck // read to the end below
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{answer.StatusCode, answer.Header, body}
}

func request(t *testing.T, server *httptest.Server, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if path, ok := strings.CutSuffix(r.URL.Path, lines); ok {
		r.URL.Path = path
		r.Header.Set("Content-Type", "application/x-ndjson; charset=utf-8")
	}
	return r
}

func post(t *testing.T, server *httptest.Server, path, body string) response {
	t.Helper()
	return do(t, server, request(t, server, http.MethodPost, path, strings.NewReader(body)))
}

// problemIn decodes a problem document and checks what all of them have in common.
func problemIn(t *testing.T, r response) problem.Document {
	t.Helper()
	if got := r.header.Get("Content-Type"); got != problem.ContentType {
		t.Errorf("Content-Type = %q, want %q", got, problem.ContentType)
	}
	var d problem.Document
	if err := json.Unmarshal(r.body, &d); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	if d.Status != r.status || d.Title != http.StatusText(r.status) || !strings.HasPrefix(d.Type, problem.TypeOf("")) {
		t.Errorf("document %s of a %d", r.body, r.status)
	}
	if d.Counted != problem.CountedNo && d.Counted != problem.CountedUnknown {
		t.Errorf("counted = %q", d.Counted)
	}
	for _, fault := range d.Errors {
		if fault.Detail == "" {
			t.Errorf("fault at %s has no detail", fault.Pointer)
		}
	}
	return d
}

func pointers(d problem.Document) []string {
	p := make([]string, len(d.Errors))
	for i, fault := range d.Errors {
		p[i] = fault.Pointer
	}
	return p
}

const (
	increments, incrementsBatch       = "/increments", "/increments/batch"
	contributions, contributionsBatch = "/contributions", "/contributions/batch"
	// lines, at the end of a path, makes the body NDJSON.
	lines = "+lines"
)

// list returns a batch of items.
func list(name string, items ...string) string {
	return fmt.Sprintf(`{"%s":[%s]}`, name, strings.Join(items, ","))
}

const foo = `{"name":"foo","value":4}`

func TestValidBodiesAreCounted(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("𝒳", increment.MaxContributorLength)
	for title, tc := range map[string]struct {
		path, body string
		want       []batching.Entry
	}{
		"an increment":         {increments, foo, []batching.Entry{{Tag: "foo", Value: 4}}},
		"in another order":     {increments, `{"value":9,"name":"__init__"}`, []batching.Entry{{Tag: "__init__", Value: 9}}},
		"with spaces":          {increments, " \t\r\n{ \"name\" : \"foo\" , \"value\" : 1 } \n", []batching.Entry{{Tag: "foo", Value: 1}}},
		"with escapes":         {increments, `{"n\u0061me":"\u0066oo","value":4}`, []batching.Entry{{Tag: "foo", Value: 4}}},
		"with its contributor": {increments, `{"name":"foo","value":4,"contributor":"ada"}`, []batching.Entry{{Tag: "foo", Value: 4, Contributor: "ada"}}},
		"a contributor of slashes, quotes and emoji": {
			increments, `{"name":"foo","value":4,"contributor":"a/\"b\\\ud83d\ude00👩‍💻"}`,
			[]batching.Entry{{Tag: "foo", Value: 4, Contributor: "a/\"b\\😀👩‍💻"}},
		},
		"the longest contributor": {contributions, `{"contributor":"` + longest + `"}`, []batching.Entry{{Contributor: longest}}},
		"a contribution":          {contributions, `{"contributor":"ada"}`, []batching.Entry{{Contributor: "ada"}}},
		"a batch": {
			incrementsBatch, list("increments", foo, `{"name":"bar","value":1,"contributor":"Ada"}`, foo),
			[]batching.Entry{{Tag: "foo", Value: 4}, {Tag: "bar", Value: 1, Contributor: "Ada"}, {Tag: "foo", Value: 4}},
		},
		"a batch of one": {incrementsBatch, list("increments", foo), []batching.Entry{{Tag: "foo", Value: 4}}},
		"a batch of contributions": {
			contributionsBatch, list("contributions", `{"contributor":"ada"}`, `{"contributor":"ada"}`),
			[]batching.Entry{{Contributor: "ada"}, {Contributor: "ada"}},
		},
		"the largest batch": {
			incrementsBatch, list("increments", slices.Repeat([]string{foo}, increment.MaxBatch)...),
			slices.Repeat([]batching.Entry{{Tag: "foo", Value: 4}}, increment.MaxBatch),
		},
		"lines": {
			incrementsBatch + lines, foo + "\n\n \r\n" + `{"name":"bar","value":1}` + "\n" + foo,
			[]batching.Entry{{Tag: "foo", Value: 4}, {Tag: "bar", Value: 1}, {Tag: "foo", Value: 4}},
		},
		"lines of contributions": {contributionsBatch + lines, `{"contributor":"ada"}` + "\r\n", []batching.Entry{{Contributor: "ada"}}},
		"the most lines": {
			incrementsBatch + lines, strings.Repeat(foo+"\n", increment.MaxBatch),
			slices.Repeat([]batching.Entry{{Tag: "foo", Value: 4}}, increment.MaxBatch),
		},
		"exactly 1 MiB": {increments, foo + strings.Repeat(" ", 1<<20-len(foo)), []batching.Entry{{Tag: "foo", Value: 4}}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			counter := &recordingCounter{}
			r := post(t, serve(t, counter), tc.path, tc.body)
			if want := fmt.Sprintf(`{"accepted":%d}`, len(tc.want)); r.status != http.StatusAccepted || string(r.body) != want {
				t.Errorf("%d %s, want 202 %s", r.status, r.body, want)
			}
			if got := r.header.Get("Content-Type"); got != "application/json" {
				t.Errorf("Content-Type = %q", got)
			}
			if got := counter.counted(); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("counted %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestEntriesHaveTheirKeys(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("~", increment.MaxKeyLength)
	one := func(key message.Key) []batching.Entry { return []batching.Entry{{Tag: "foo", Value: 4, Key: key}} }
	for title, tc := range map[string]struct {
		path, body string
		header     []string
		want       []batching.Entry
	}{
		"no key":                 {increments, foo, nil, one(message.Key{})},
		"a bare key":             {increments, foo, []string{"order-17"}, one(message.KeyOf("order-17"))},
		"a quoted key":           {increments, foo, []string{`"order-17"`}, one(message.KeyOf("order-17"))},
		"the longest key":        {increments, foo, []string{longest}, one(message.KeyOf(longest))},
		"the longest quoted key": {increments, foo, []string{`"` + longest + `"`}, one(message.KeyOf(longest))},
		"an id":                  {increments, `{"id":"order-17","name":"foo","value":4}`, nil, one(message.KeyOf("order-17"))},
		"an id before the key":   {increments, `{"name":"foo","value":4,"id":"mine"}`, []string{"k"}, one(message.KeyOf("mine"))},
		"a contribution's key":   {contributions, `{"contributor":"ada"}`, []string{"k"}, []batching.Entry{{Contributor: "ada", Key: message.KeyOf("k")}}},
		"a batch's key": {
			incrementsBatch, list("increments", foo, `{"name":"foo","value":4,"id":"mine"}`, foo), []string{"k"},
			[]batching.Entry{
				{Tag: "foo", Value: 4, Key: message.KeyOfBatch("k")}, {Tag: "foo", Value: 4, Key: message.KeyOf("mine")},
				{Tag: "foo", Value: 4, Key: message.KeyOfBatch("k").Next().Next()},
			},
		},
		"a batch of ids": {
			contributionsBatch, list("contributions", `{"contributor":"ada","id":"1"}`, `{"contributor":"ada"}`), nil,
			[]batching.Entry{{Contributor: "ada", Key: message.KeyOf("1")}, {Contributor: "ada"}},
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			counter := &recordingCounter{}
			server := serve(t, counter)
			r := request(t, server, http.MethodPost, tc.path, strings.NewReader(tc.body))
			r.Header["Idempotency-Key"] = tc.header
			if answer := do(t, server, r); answer.status != http.StatusAccepted {
				t.Errorf("%d %s, want 202", answer.status, answer.body)
			}
			if got := counter.counted(); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("counted %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestTheAnswerSaysWhatIsRepeated(t *testing.T) {
	t.Parallel()
	var failure error
	counter := &recordingCounter{answer: func() error { return failure }}
	server := serve(t, counter)
	post := func(path, body string, key ...string) string {
		r := request(t, server, http.MethodPost, path, strings.NewReader(body))
		r.Header["Idempotency-Key"] = key
		answer := do(t, server, r)
		if answer.status != http.StatusAccepted {
			t.Errorf("%d %s, want 202", answer.status, answer.body)
		}
		return string(answer.body)
	}
	three := list("increments", foo, foo, foo)
	for _, step := range []struct {
		title, path, body string
		key               []string
		want              string
	}{
		{"without a key", increments, foo, nil, `{"accepted":1}`},
		{"without a key again", increments, foo, nil, `{"accepted":1}`},
		{"a new key", increments, foo, []string{"k"}, `{"accepted":1}`},
		{"the key again", increments, foo, []string{"k"}, `{"accepted":1,"repeated":1}`},
		{"a batch of that key", incrementsBatch, three, []string{"k"}, `{"accepted":3}`},
		{"the batch again", incrementsBatch, three, []string{"k"}, `{"accepted":3,"repeated":3}`},
		{"a contribution with the key", contributions, `{"contributor":"ada"}`, []string{"k"}, `{"accepted":1}`},
		{"the key as an id", incrementsBatch, list("increments", `{"name":"foo","value":4,"id":"k"}`, foo), nil, `{"accepted":2,"repeated":1}`},
	} {
		if got := post(step.path, step.body, step.key...); got != step.want {
			t.Errorf("%s: %s, want %s", step.title, got, step.want)
		}
	}
	if n := len(counter.counted()); n != 13 {
		t.Errorf("%d items were passed on, want all 13: the aggregator decides what counts", n)
	}
	failure = batching.ErrPublish
	r := request(t, server, http.MethodPost, increments, strings.NewReader(foo))
	r.Header["Idempotency-Key"] = []string{"failed"}
	if answer := do(t, server, r); answer.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s, want 503", answer.status, answer.body)
	}
	failure = nil
	if got, want := post(increments, foo, "failed"), `{"accepted":1}`; got != want {
		t.Errorf("after a failed attempt: %s, want %s", got, want)
	}
}

func TestInvalidKeysAreRefused(t *testing.T) {
	t.Parallel()
	for title, header := range map[string][]string{
		"empty": {""}, "empty in quotes": {`""`}, "half quoted": {`"k`}, "a quote": {`"`}, "a space": {"a b"}, "too long": {strings.Repeat("x", 256)},
		"an umlaut": {"ä"}, "two": {"a", "b"}, "two that are equal": {"a", "a"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			counter := &recordingCounter{}
			server := serve(t, counter)
			r := request(t, server, http.MethodPost, increments, strings.NewReader(foo))
			r.Header["Idempotency-Key"] = header
			answer := do(t, server, r)
			d := problemIn(t, answer)
			if answer.status != http.StatusBadRequest || len(d.Errors) != 1 || d.Errors[0].Parameter != "Idempotency-Key" {
				t.Errorf("%d %s, want 400 that names the header", answer.status, answer.body)
			}
			if got := counter.counted(); len(got) > 0 {
				t.Errorf("counted %v", got)
			}
		})
	}
}

func TestInvalidBodiesAreRefused(t *testing.T) {
	t.Parallel()
	const malformed, broken = http.StatusBadRequest, http.StatusUnprocessableEntity
	deep := strings.Repeat("[", 20_000)
	longName := strings.Repeat("n", 100)
	for title, tc := range map[string]struct {
		path, body string
		status     int
		pointers   []string
	}{
		"no body":                   {increments, ``, malformed, []string{"#"}},
		"spaces alone":              {increments, " \n", malformed, []string{"#"}},
		"not JSON":                  {increments, `name=foo`, malformed, []string{"#"}},
		"cut off":                   {increments, `{"name":"foo","value":4`, malformed, []string{"#"}},
		"trailing comma":            {increments, `{"name":"foo","value":4,}`, malformed, []string{"#"}},
		"a comment":                 {increments, `{"name":"foo",/**/"value":4}`, malformed, []string{"#"}},
		"single quotes":             {increments, `{'name':'foo','value':4}`, malformed, []string{"#"}},
		"trailing data":             {increments, foo + `x`, malformed, []string{"#"}},
		"a second object":           {increments, foo + foo, malformed, []string{"#"}},
		"a trailing bracket":        {increments, foo + `}`, malformed, []string{"#"}},
		"invalid UTF-8":             {increments, "{\"name\":\"foo\",\"value\":4,\"contributor\":\"a\xff\"}", malformed, []string{"#/contributor"}},
		"invalid UTF-8 in a name":   {increments, "{\"name\":\"foo\",\"value\":4,\"\xff\":1}", malformed, []string{"#"}},
		"half a surrogate pair":     {increments, `{"name":"foo","value":4,"contributor":"\ud83d"}`, malformed, []string{"#/contributor"}},
		"a raw control character":   {increments, "{\"name\":\"foo\",\"value\":4,\"contributor\":\"a\nb\"}", malformed, []string{"#/contributor"}},
		"a byte order mark":         {increments, "\ufeff" + foo, malformed, []string{"#"}},
		"nested beyond reason":      {increments, `{"name":` + deep, malformed, []string{"#"}},
		"an array":                  {increments, `[` + foo + `]`, malformed, []string{"#"}},
		"a string":                  {increments, `"foo"`, malformed, []string{"#"}},
		"null":                      {increments, `null`, malformed, []string{"#"}},
		"an unknown field":          {increments, `{"name":"foo","value":4,"colour":"red"}`, malformed, []string{"#/colour"}},
		"an id that is a number":    {incrementsBatch, list("increments", `{"id":1,"name":"foo","value":4}`), malformed, []string{"#/increments/0/id"}},
		"an unknown object":         {increments, `{"name":"foo","value":4,"a":{"name":1,"name":[{}]}}`, malformed, []string{"#/a"}},
		"an unknown odd field":      {increments, `{"name":"foo","value":4,"a/b~c %é":1}`, malformed, []string{"#/a~1b~0c%20%25%C3%A9"}},
		"an unknown long field":     {increments, `{"name":"foo","value":4,"` + longName + `":1}`, malformed, []string{"#"}},
		"an unknown field, no name": {increments, `{"name":"foo","value":4,"":1}`, malformed, []string{"#"}},
		"another case":              {increments, `{"Name":"foo","value":4}`, malformed, []string{"#/Name", "#/name"}},
		"a batch's field":           {increments, list("increments", foo), malformed, []string{"#/increments", "#/name", "#/value"}},
		"an item as a batch":        {incrementsBatch, foo, malformed, []string{"#/name", "#/value", "#/increments"}},
		"a repeated field":          {increments, `{"name":"foo","value":4,"value":5}`, malformed, []string{"#/value"}},
		"a repeated equal field":    {increments, `{"name":"foo","value":4,"value":4}`, malformed, []string{"#/value"}},
		"repeated by an escape":     {increments, `{"name":"foo","value":4,"n\u0061me":"foo"}`, malformed, []string{"#/name"}},
		"repeated three times":      {increments, `{"name":"foo","name":"foo","name":"foo","value":4}`, malformed, []string{"#/name", "#/name"}},
		"a value as text":           {increments, `{"name":"foo","value":"4"}`, malformed, []string{"#/value"}},
		"a value of 4.5":            {increments, `{"name":"foo","value":4.5}`, malformed, []string{"#/value"}},
		"a value of 4.0":            {increments, `{"name":"foo","value":4.0}`, malformed, []string{"#/value"}},
		"a value of 4e0":            {increments, `{"name":"foo","value":4e0}`, malformed, []string{"#/value"}},
		"a value of 1e999":          {increments, `{"name":"foo","value":1e999}`, malformed, []string{"#/value"}},
		"a value of 04":             {increments, `{"name":"foo","value":04}`, malformed, []string{"#/value", "#"}},
		"a value of +4":             {increments, `{"name":"foo","value":+4}`, malformed, []string{"#/value"}},
		"a value of true":           {increments, `{"name":"foo","value":true}`, malformed, []string{"#/value"}},
		"a value of null":           {increments, `{"name":"foo","value":null}`, malformed, []string{"#/value"}},
		"a value in an array":       {increments, `{"name":"foo","value":[4]}`, malformed, []string{"#/value"}},
		"a value in an object":      {increments, `{"name":"foo","value":{"value":4}}`, malformed, []string{"#/value"}},
		"a name of 4":               {increments, `{"name":4,"value":4}`, malformed, []string{"#/name"}},
		"a name of null":            {increments, `{"name":null,"value":4}`, malformed, []string{"#/name"}},
		"a contributor of null":     {increments, `{"name":"foo","value":4,"contributor":null}`, malformed, []string{"#/contributor"}},
		"wrong in every way":        {increments, `{"name":[],"value":"4","contributor":{},"x":1,"y":2,"z":3}`, malformed, []string{"#/name", "#/value", "#/contributor", "#/x", "#/y"}},
		"form after a rule":         {increments, `{"name":"F","value":0,"contributor":"","x":1}`, malformed, []string{"#/name", "#/value", "#/contributor", "#/x"}},

		"a name too short":       {increments, `{"name":"fo","value":4}`, broken, []string{"#/name"}},
		"a name too long":        {increments, `{"name":"abcdefghijklmnop","value":4}`, broken, []string{"#/name"}},
		"a name in capitals":     {increments, `{"name":"Foo","value":4}`, broken, []string{"#/name"}},
		"a name with a newline":  {increments, `{"name":"foo\n","value":4}`, broken, []string{"#/name"}},
		"an empty name":          {increments, `{"name":"","value":4}`, broken, []string{"#/name"}},
		"a value of 0":           {increments, `{"name":"foo","value":0}`, broken, []string{"#/value"}},
		"a value of -0":          {increments, `{"name":"foo","value":-0}`, broken, []string{"#/value"}},
		"a value of 10":          {increments, `{"name":"foo","value":10}`, broken, []string{"#/value"}},
		"a value of -4":          {increments, `{"name":"foo","value":-4}`, broken, []string{"#/value"}},
		"a value of 260":         {increments, `{"name":"foo","value":260}`, broken, []string{"#/value"}},
		"a value beyond 64 bits": {increments, `{"name":"foo","value":18446744073709551620}`, broken, []string{"#/value"}},
		"a value of 100 digits":  {increments, `{"name":"foo","value":-` + strings.Repeat("9", 100) + `}`, broken, []string{"#/value"}},
		"no value":               {increments, `{"name":"foo"}`, broken, []string{"#/value"}},
		"no name":                {increments, `{"value":4}`, broken, []string{"#/name"}},
		"nothing":                {increments, `{}`, broken, []string{"#/name", "#/value"}},
		"an empty contributor":   {increments, `{"name":"foo","value":4,"contributor":""}`, broken, []string{"#/contributor"}},
		"a contributor of \\0":   {increments, `{"name":"foo","value":4,"contributor":"\u0000"}`, broken, []string{"#/contributor"}},
		"a contributor too long": {contributions, `{"contributor":"` + strings.Repeat("é", 129) + `"}`, broken, []string{"#/contributor"}},
		"every rule":             {increments, `{"name":"F","value":0,"contributor":""}`, broken, []string{"#/name", "#/value", "#/contributor"}},

		"no line":                {incrementsBatch + lines, "\n \n", broken, []string{"#"}},
		"an array as lines":      {incrementsBatch + lines, "[" + foo + "]\n", malformed, []string{"#/0"}},
		"a batch as a line":      {incrementsBatch + lines, list("increments", foo), malformed, []string{"#/0/increments", "#/0/name", "#/0/value"}},
		"a bad line":             {incrementsBatch + lines, foo + "\n" + `{"name":"foo","value":10}` + "\n", broken, []string{"#/1/value"}},
		"a line that is cut off": {incrementsBatch + lines, foo + "\n" + `{"name":"foo","value":` + "\n", malformed, []string{"#/1/value"}},
		"two on a line":          {incrementsBatch + lines, foo + foo + "\n" + foo, malformed, []string{"#/1"}},
		"one on two lines":       {incrementsBatch + lines, foo + "\n" + `{"name":"foo",` + "\n" + `"value":4}`, malformed, []string{"#/1"}},
		"commas between lines":   {incrementsBatch + lines, foo + ",\n" + foo, malformed, []string{"#/1"}},
		"more lines than may be": {incrementsBatch + lines, strings.Repeat(foo+"\n", increment.MaxBatch+1), broken, []string{"#"}},

		"an empty id":          {increments, `{"name":"foo","value":4,"id":""}`, broken, []string{"#/id"}},
		"an id with a space":   {increments, `{"name":"foo","value":4,"id":"a b"}`, broken, []string{"#/id"}},
		"an id with an umlaut": {incrementsBatch, list("increments", foo, `{"name":"foo","value":4,"id":"ä"}`), broken, []string{"#/increments/1/id"}},
		"an id too long":       {contributions, `{"contributor":"ada","id":"` + strings.Repeat("x", 256) + `"}`, broken, []string{"#/id"}},

		"no contributor":            {contributions, `{}`, broken, []string{"#/contributor"}},
		"a contributor of 4":        {contributions, `{"contributor":4}`, malformed, []string{"#/contributor"}},
		"a contribution's value":    {contributions, `{"contributor":"ada","value":1}`, malformed, []string{"#/value"}},
		"no list":                   {incrementsBatch, `{}`, broken, []string{"#/increments"}},
		"an empty list":             {incrementsBatch, `{"increments":[]}`, broken, []string{"#/increments"}},
		"a list of null":            {incrementsBatch, `{"increments":null}`, malformed, []string{"#/increments"}},
		"a list that is not":        {incrementsBatch, `{"increments":` + foo + `}`, malformed, []string{"#/increments"}},
		"a bare list":               {incrementsBatch, `[` + foo + `]`, malformed, []string{"#"}},
		"another list":              {incrementsBatch, list("contributions", foo), malformed, []string{"#/contributions", "#/increments"}},
		"two lists":                 {incrementsBatch, `{"increments":[` + foo + `],"increments":[` + foo + `]}`, malformed, []string{"#/increments"}},
		"a list and more":           {incrementsBatch, `{"increments":[` + foo + `],"more":1}`, malformed, []string{"#/more"}},
		"null in a list":            {incrementsBatch, list("increments", foo, `null`), malformed, []string{"#/increments/1"}},
		"more than may be":          {incrementsBatch, list("increments", slices.Repeat([]string{foo}, increment.MaxBatch+1)...), broken, []string{"#/increments"}},
		"far more than may be":      {incrementsBatch, list("increments", slices.Repeat([]string{`0`}, 400_000)...), malformed, append(each("#/increments/%d", increment.MaxBatch), "#/increments")},
		"a contribution in ten":     {contributionsBatch, list("contributions", `{"contributor":"ada"}`, `{"contributor":""}`), broken, []string{"#/contributions/1/contributor"}},
		"every item that is bad":    {incrementsBatch, list("increments", `{"name":"F","value":4}`, foo, `{"name":"foo","value":10}`, foo, `{"name":"foo"}`), broken, []string{"#/increments/0/name", "#/increments/2/value", "#/increments/4/value"}},
		"both kinds":                {incrementsBatch, list("increments", `{"name":"F","value":4}`, `{"name":"foo","value":"4"}`), malformed, []string{"#/increments/0/name", "#/increments/1/value"}},
		"five faults an item":       {incrementsBatch, list("increments", `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}`, `{"g":1,"name":"foo","value":4}`), malformed, []string{"#/increments/0/a", "#/increments/0/b", "#/increments/0/c", "#/increments/0/d", "#/increments/0/e", "#/increments/1/g"}},
		"faults, then no JSON":      {incrementsBatch, `{"increments":[{"name":"F","value":4},{"name":"foo","value":x`, malformed, []string{"#/increments/0/name", "#/increments/1/value"}},
		"a good list, then no JSON": {incrementsBatch, list("increments", foo) + `]`, malformed, []string{"#"}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			counter := &recordingCounter{}
			r := post(t, serve(t, counter), tc.path, tc.body)
			if r.status != tc.status {
				t.Errorf("status = %d, want %d: %.300s", r.status, tc.status, r.body)
			}
			if got := pointers(problemIn(t, r)); !slices.Equal(got, tc.pointers) {
				t.Errorf("pointers = %q, want %q: %.300s", got, tc.pointers, r.body)
			}
			if got := counter.counted(); len(got) > 0 {
				t.Errorf("counted %+v", got)
			}
		})
	}
}

// each formats the numbers from 0 to n-1.
func each(format string, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf(format, i)
	}
	return s
}

// The detail of a fault says what would be right, in the words of package increment.
func TestErrorsStateTheRule(t *testing.T) {
	t.Parallel()
	server := serve(t, &recordingCounter{})
	for body, want := range map[string]string{
		`{"name":"F","value":4}`:                    increment.ErrName.Error(),
		`{"name":"foo","value":10}`:                 increment.ErrValue.Error(),
		`{"name":"foo","value":1,"contributor":""}`: increment.ErrContributor.Error(),
		`{"name":"foo","value":"4"}`:                "must be an integer, without a fraction or an exponent",
		`{"name":4,"value":4}`:                      "must be a string",
		`{"name":"foo"}`:                            "required",
		`{"name":"foo","value":4,"value":4}`:        "given more than once",
		`{"name":"foo","value":4,"x":1}`:            "unknown field",
		`[]`:                                        "must be an object",
		foo + foo:                                   "must be one JSON value, and nothing after it",
		``:                                          "not JSON: the body is empty",
		`{"name":"foo","value":x}`:                  "not JSON: invalid character 'x' at start of value, at byte 22",
		`{"name":"foo"`:                             "not JSON: unexpected EOF, at byte 13",
	} {
		if d := problemIn(t, post(t, server, increments, body)); len(d.Errors) != 1 || d.Errors[0].Detail != want {
			t.Errorf("%s: errors = %+v, want %q", body, d.Errors, want)
		}
	}
}

func TestMediaTypesAndEncodings(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		header http.Header
		status int
	}{
		"JSON":                  {http.Header{"Content-Type": {"application/json"}}, http.StatusAccepted},
		"JSON in UTF-8":         {http.Header{"Content-Type": {"application/json; charset=utf-8"}}, http.StatusAccepted},
		"in capitals":           {http.Header{"Content-Type": {`Application/JSON;Charset="UTF-8"`}}, http.StatusAccepted},
		"identity":              {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"identity"}}, http.StatusAccepted},
		"none":                  {http.Header{}, http.StatusUnsupportedMediaType},
		"empty":                 {http.Header{"Content-Type": {""}}, http.StatusUnsupportedMediaType},
		"two":                   {http.Header{"Content-Type": {"application/json", "application/json"}}, http.StatusUnsupportedMediaType},
		"a beacon":              {http.Header{"Content-Type": {"text/plain;charset=UTF-8"}}, http.StatusAccepted},
		"text":                  {http.Header{"Content-Type": {"text/plain"}}, http.StatusAccepted},
		"text in Latin 1":       {http.Header{"Content-Type": {"text/plain; charset=iso-8859-1"}}, http.StatusUnsupportedMediaType},
		"other text":            {http.Header{"Content-Type": {"text/csv"}}, http.StatusUnsupportedMediaType},
		"a form":                {http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, http.StatusUnsupportedMediaType},
		"something like JSON":   {http.Header{"Content-Type": {"application/json5"}}, http.StatusUnsupportedMediaType},
		"a kind of JSON":        {http.Header{"Content-Type": {"application/problem+json"}}, http.StatusUnsupportedMediaType},
		"JSON in Latin 1":       {http.Header{"Content-Type": {"application/json; charset=iso-8859-1"}}, http.StatusUnsupportedMediaType},
		"JSON with a parameter": {http.Header{"Content-Type": {"application/json; version=2"}}, http.StatusUnsupportedMediaType},
		"not a media type":      {http.Header{"Content-Type": {"application/json; charset"}}, http.StatusUnsupportedMediaType},
		"lines":                 {http.Header{"Content-Type": {"application/x-ndjson"}}, http.StatusUnsupportedMediaType},
		"gzip, but the body":    {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"identity, GZIP"}}, http.StatusBadRequest},
		"gzip twice":            {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip", "gzip"}}, http.StatusUnsupportedMediaType},
		"brotli":                {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"br"}}, http.StatusUnsupportedMediaType},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			counter := &recordingCounter{}
			server := serve(t, counter)
			r := request(t, server, http.MethodPost, increments, strings.NewReader(foo))
			r.Header = tc.header
			answer := do(t, server, r)
			if answer.status != tc.status {
				t.Errorf("status = %d, want %d", answer.status, tc.status)
			}
			counted := len(counter.counted())
			if tc.status == http.StatusAccepted {
				if counted != 1 {
					t.Errorf("counted %d, want 1", counted)
				}
				return
			}
			problemIn(t, answer)
			if got := answer.header.Get("Accept-Post"); tc.status == http.StatusUnsupportedMediaType && got != "application/json, text/plain" {
				t.Errorf("Accept-Post = %q", got)
			}
			if got := answer.header.Get("Accept-Encoding"); tc.status == http.StatusUnsupportedMediaType && got != "gzip, identity" {
				t.Errorf("Accept-Encoding = %q", got)
			}
			if counted != 0 {
				t.Errorf("counted %d", counted)
			}
		})
	}
}

// unsized hides the size of a body, so that it is sent in chunks.
type unsized struct{ io.Reader }

func TestLargeBodiesAreRefused(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		body   io.Reader
		status int
	}{
		"1 MiB in chunks":                 {unsized{strings.NewReader(foo + strings.Repeat(" ", 1<<20-len(foo)))}, http.StatusAccepted},
		"a byte more than 1 MiB":          {strings.NewReader(foo + strings.Repeat(" ", 1<<20-len(foo)+1)), http.StatusRequestEntityTooLarge},
		"a byte more than 1 MiB, chunked": {unsized{strings.NewReader(foo + strings.Repeat(" ", 1<<20-len(foo)+1))}, http.StatusRequestEntityTooLarge},
		"4 MiB":                           {strings.NewReader(foo + strings.Repeat(" ", 4<<20)), http.StatusRequestEntityTooLarge},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			counter := &recordingCounter{}
			server := serve(t, counter)
			r := request(t, server, http.MethodPost, increments, tc.body)
			r.Header.Set("Expect", "100-continue") // a body that is refused unread is not sent
			server.Client().Transport.(*http.Transport).ExpectContinueTimeout = 10 * time.Second
			answer := do(t, server, r)
			if answer.status != tc.status {
				t.Errorf("status = %d, want %d", answer.status, tc.status)
			}
			if got := len(counter.counted()); tc.status != http.StatusAccepted && got != 0 {
				t.Errorf("counted %d", got)
			}
		})
	}
}

func TestBatchesMayBeCompressed(t *testing.T) {
	t.Parallel()
	for path, body := range map[string]string{
		increments: foo, contributions: `{"contributor":"ada"}`, incrementsBatch: list("increments", foo), incrementsBatch + lines: foo + "\n",
	} {
		var compressed bytes.Buffer
		w := gzip.NewWriter(&compressed)
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		counter := &recordingCounter{}
		server := serve(t, counter)
		for range 2 { // the second one reuses the memory of the first
			r := request(t, server, http.MethodPost, path, bytes.NewReader(compressed.Bytes()))
			r.Header.Set("Content-Encoding", "gzip")
			if answer := do(t, server, r); answer.status != http.StatusAccepted {
				t.Errorf("%s: %d %s, want 202", path, answer.status, answer.body)
			}
		}
		if got := counter.counted(); len(got) != 2 {
			t.Errorf("%s: counted %v", path, got)
		}
	}
}

// A client that sends its whole body before it looks for an answer gets one, also if the body is refused unread.
func TestARefusedUploadIsAnswered(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		size   int
		header string
		full   bool
		status int
	}{
		"too large":            {8 << 20, "Content-Type: application/json", false, http.StatusRequestEntityTooLarge},
		"no room":              {1 << 20, "Content-Type: application/json", true, http.StatusServiceUnavailable},
		"of another type":      {8 << 20, "Content-Type: text/csv", false, http.StatusUnsupportedMediaType},
		"with a malformed key": {8 << 20, "Content-Type: application/json\r\nIdempotency-Key: a b", false, http.StatusBadRequest},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			server := serve(t, &recordingCounter{full: tc.full})
			connection, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close() //nolint:errcheck // the test is over
			head := fmt.Sprintf("POST /increments HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n\r\n", tc.size, tc.header)
			if _, err := connection.Write(append([]byte(head), bytes.Repeat([]byte(" "), tc.size)...)); err != nil {
				t.Fatalf("the upload was cut off: %v", err)
			}
			answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
			if err != nil {
				t.Fatalf("no answer: %v", err)
			}
			body, err := io.ReadAll(answer.Body)
			if err != nil || answer.Body.Close() != nil {
				t.Fatal(err)
			}
			if d := problemIn(t, response{answer.StatusCode, answer.Header, body}); d.Status != tc.status || d.Counted != problem.CountedNo {
				t.Errorf("%s, want a %d that counted nothing", body, tc.status)
			}
		})
	}
}

// A body that does not arrive in time is answered 408.
func TestASlowBodyIsAnswered(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(api.New(&recordingCounter{}, nil, web.Base{Log: zerolog.Nop()}))
	server.Config.ReadTimeout = 100 * time.Millisecond
	server.Start()
	t.Cleanup(server.Close)
	connection, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close() //nolint:errcheck // the test is over
	fmt.Fprintf(connection, "POST /increments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.Body.Close() != nil {
		t.Fatal(err)
	}
	if d := problemIn(t, response{answer.StatusCode, answer.Header, body}); d.Status != http.StatusRequestTimeout || !answer.Close {
		t.Errorf("%s, close = %v, want a 408 that closes the connection", body, answer.Close)
	}
}

// Each type of problem has a section in docs/problems.md.
func TestEachProblemHasASection(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/problems.md")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	sources = append(sources, "../../../pkg/service/web/web.go")
	types := regexp.MustCompile(`(?:refused\(|answer\(|TypeOf\()(?:http\.\w+, )?"([a-z-]+)"|unavailable\("([a-z-]+)"`)
	found := 0
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range types.FindAllSubmatch(text, -1) {
			found++
			if name := string(match[1]) + string(match[2]); !bytes.Contains(page, []byte("\n## "+name+"\n")) {
				t.Errorf("docs/problems.md has no section %s", name)
			}
		}
	}
	if found < 15 {
		t.Errorf("found %d types of problems", found)
	}
}

func TestFailuresSayWhetherTheRequestWasCounted(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		answer              func() error
		status              int
		retryAfter, counted string
	}{
		"full":       {func() error { return batching.ErrFull }, http.StatusServiceUnavailable, "1", "no"},
		"stopped":    {func() error { return batching.ErrStopped }, http.StatusServiceUnavailable, "1", "no"},
		"refused":    {func() error { return fmt.Errorf("%w: secret", batching.ErrRefused) }, http.StatusServiceUnavailable, "1", "no"},
		"failed":     {func() error { return fmt.Errorf("%w: secret", batching.ErrPublish) }, http.StatusServiceUnavailable, "1", "unknown"},
		"late":       {func() error { return fmt.Errorf("%w: %w", batching.ErrPublish, context.DeadlineExceeded) }, http.StatusServiceUnavailable, "1", "unknown"},
		"unexpected": {func() error { return errors.New("secret") }, http.StatusInternalServerError, "", "unknown"},
		"a panic":    {func() error { panic("secret") }, http.StatusInternalServerError, "", "unknown"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := post(t, serve(t, &recordingCounter{answer: tc.answer}), increments, foo)
			if got := r.header.Get("Retry-After"); r.status != tc.status || got != tc.retryAfter {
				t.Errorf("%d with Retry-After %q, want %d with %q", r.status, got, tc.status, tc.retryAfter)
			}
			d := problemIn(t, r)
			if d.Counted != tc.counted || strings.Contains(d.Detail, problem.NothingCounted) != (tc.counted == "no") {
				t.Errorf("%s, want counted = %q", r.body, tc.counted)
			}
			if bytes.Contains(r.body, []byte("secret")) {
				t.Errorf("the answer shows internals: %s", r.body)
			}
		})
	}
}

func TestPanicsAndUnexpectedErrorsAreLogged(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		answer func() error
		want   []string
	}{
		"a panic":             {func() error { panic("at the disco") }, []string{"panic: at the disco", "goroutine", "api_test.go"}},
		"an unexpected error": {func() error { return errors.New("strange") }, []string{"strange"}},
		"a full batcher":      {func() error { return batching.ErrFull }, []string{"cannot answer requests"}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, increments, strings.NewReader(foo))
			r.Header.Set("Content-Type", "application/json")
			api.New(&recordingCounter{answer: tc.answer}, nil, web.Base{Log: zerolog.New(&log)}).ServeHTTP(httptest.NewRecorder(), r)
			for _, want := range tc.want {
				if !strings.Contains(log.String(), want) {
					t.Errorf("log %q does not have %q", log.String(), want)
				}
			}
			if unexpected := strings.Contains(log.String(), `"level":"error"`); unexpected != (title != "a full batcher") {
				t.Errorf("log %q has errors = %v", log.String(), unexpected)
			}
		})
	}
}

func TestAbortedHandlersStayAborted(t *testing.T) {
	t.Parallel()
	defer func() {
		if got := recover(); got != http.ErrAbortHandler { //nolint:errorlint // the very value
			t.Errorf("panic = %v, want http.ErrAbortHandler", got)
		}
	}()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, increments, strings.NewReader(foo))
	r.Header.Set("Content-Type", "application/json")
	counter := &recordingCounter{answer: func() error { panic(http.ErrAbortHandler) }}
	api.New(counter, nil, web.Base{}).ServeHTTP(httptest.NewRecorder(), r)
}

func TestOtherPathsAndMethods(t *testing.T) {
	t.Parallel()
	server := serve(t, &recordingCounter{})
	for _, tc := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{http.MethodGet, "/", http.StatusNotFound, ""},
		{http.MethodPost, "/increment", http.StatusNotFound, ""},
		{http.MethodPost, "/increments/", http.StatusNotFound, ""},
		{http.MethodPost, "/Increments", http.StatusNotFound, ""},
		{http.MethodPost, "//increments", http.StatusNotFound, ""},
		{http.MethodGet, "/increments", http.StatusMethodNotAllowed, "POST"},
		{http.MethodPut, "/increments/batch", http.StatusMethodNotAllowed, "POST"},
		{http.MethodDelete, "/contributions", http.StatusMethodNotAllowed, "POST"},
		{"BREW", "/contributions/batch", http.StatusMethodNotAllowed, "POST"},
		{http.MethodPost, "/health/live", http.StatusMethodNotAllowed, "GET, HEAD"},
	} {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			t.Parallel()
			r := do(t, server, request(t, server, tc.method, tc.path, strings.NewReader(foo)))
			if got := r.header.Get("Allow"); r.status != tc.status || got != tc.allow {
				t.Errorf("%d with Allow %q, want %d with %q", r.status, got, tc.status, tc.allow)
			}
			problemIn(t, r)
		})
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	well := service.Check{Name: "well", Check: func(context.Context) error { return nil }}
	ill := service.Check{Name: "pubsub", Check: func(context.Context) error { return errors.New("away") }}
	for title, tc := range map[string]struct {
		checks []service.Check
		path   string
		status int
	}{
		"live without a dependency": {nil, "/health/live", http.StatusOK},
		"live, with a failing one":  {[]service.Check{ill}, "/health/live", http.StatusOK},
		"ready":                     {[]service.Check{well}, "/health/ready", http.StatusOK},
		"not ready":                 {[]service.Check{well, ill}, "/health/ready", http.StatusServiceUnavailable},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			server := serve(t, &recordingCounter{}, tc.checks...)
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if r := do(t, server, request(t, server, method, tc.path, nil)); r.status != tc.status {
					t.Errorf("%s: %d, want %d", method, r.status, tc.status)
				}
			}
		})
	}
}

// Tags that are not in the list are faults, and too many new ones wait.
func TestTakesOnlyTheTagsOfItsList(t *testing.T) {
	t.Parallel()
	counter := &recordingCounter{}
	handler := api.New(counter, names.New([]string{"foo*", "bar"}, 3), web.Base{})
	for _, tc := range []struct {
		body       string
		status     int
		contains   string
		retryAfter bool
	}{
		{`{"increments":[{"name":"foo","value":1},{"name":"zoo","value":1}]}`, 422, `"pointer":"#/increments/1/name","detail":"must be one of the tags`, false},
		{`{"increments":[{"name":"foo","value":1},{"name":"bar","value":1},{"name":"foo","value":1}]}`, 202, `"accepted":3`, false},
		{`{"increments":[{"name":"food","value":1},{"name":"foot","value":1}]}`, 429, `has 2 tags that this server has not seen, and it takes 3 new ones a minute. Nothing was counted.","counted":"no"`, true},
		{`{"increments":[{"name":"food","value":1}]}`, 202, `"accepted":1`, false},
		{`{"increments":[{"name":"foo","value":1},{"name":"food","value":1}]}`, 202, `"accepted":2`, false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/increments/batch", strings.NewReader(tc.body))
		r.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if answer.Code != tc.status || !strings.Contains(answer.Body.String(), tc.contains) || (answer.Header().Get("Retry-After") != "") != tc.retryAfter {
			t.Errorf("%s\n%d %v %s\nwant %d and %s", tc.body, answer.Code, answer.Header(), answer.Body.String(), tc.status, tc.contains)
		}
	}
}
