package contract

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"
)

// each runs a test for each operation of each document.
func each(t *testing.T, test func(t *testing.T, s *service, method, path string, o *openapi3.Operation)) {
	t.Helper()
	for name, s := range start(t) {
		for path, item := range s.document.Spec().Paths.Map() {
			for method, o := range item.Operations() {
				t.Run(name+" "+method+" "+path, func(t *testing.T) { test(t, s, method, path, o) })
			}
		}
	}
}

func TestAcceptsValidRequests(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *service, method, path string, o *openapi3.Operation) {
		t.Helper()
		answered := 0
		rapid.Check(t, func(t *rapid.T) {
			r, body := drawRequest(t, method, path, o)
			e, err := s.send(t.Context(), r)
			if err != nil {
				t.Fatalf("%v: %v", r, err)
			}
			if e.Status >= 400 && e.Status != http.StatusNotFound {
				t.Fatalf("%v is valid: %d %s", r, e.Status, e.Answer)
			}
			if e.Status < 400 {
				answered++
			}
			if err := s.document.Check(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			var counted struct{ Accepted int }
			if err := json.Unmarshal(e.Answer, &counted); e.Status == http.StatusAccepted && (err != nil || counted.Accepted != count(body)) {
				t.Fatalf("%v: %s", r, e.Answer)
			}
		})
		if answered == 0 {
			t.Error("no request found anything")
		}
	})
}

// count returns how many items a body has.
func count(body any) int {
	object, _ := body.(map[string]any)
	for _, value := range object {
		if list, ok := value.([]any); ok {
			return len(list)
		}
	}
	return 1
}

// breaksAtOnce is the number of rules that are broken in turn on one valid request.
const breaksAtOnce = 8

func TestRefusesInvalidRequests(t *testing.T) {
	t.Parallel()
	var seen sync.Map // the rules that were broken
	t.Cleanup(func() {
		rules := 0
		seen.Range(func(any, any) bool { rules++; return true })
		t.Logf("%d rules of operations were broken", rules)
	})
	each(t, func(t *testing.T, s *service, method, path string, o *openapi3.Operation) {
		t.Helper()
		if o.Responses.Status(http.StatusBadRequest) == nil {
			return // such as health: it accepts anything
		}
		rapid.Check(t, func(t *rapid.T) {
			valid, body := drawRequest(t, method, path, o)
			all := breakRequest(t, path, o, valid, body)
			for range breaksAtOnce {
				b := rapid.SampledFrom(all).Draw(t, "rule")
				e, err := s.send(t.Context(), b.with)
				if err != nil {
					t.Fatalf("%s: %v: %v", b.rule, b.with, err)
				}
				if e.Status < 400 || e.Status > 499 {
					t.Fatalf("%s: %v is accepted: %d %s", b.rule, b.with, e.Status, e.Answer)
				}
				if err := s.document.Check(t.Context(), e); err != nil {
					t.Fatalf("%s: %v", b.rule, err)
				}
				seen.Store(method+" "+path+": "+b.rule, true)
			}
		})
	})
}

// The examples in the documents can be sent as they are.
func TestExamplesAreAnswered(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *service, method, path string, o *openapi3.Operation) {
		t.Helper()
		r := request{method: method, path: path, query: url.Values{}, header: http.Header{}}
		for _, ref := range o.Parameters {
			if ref.Value.Example != nil {
				r.set(ref.Value, fmt.Sprint(ref.Value.Example))
			}
		}
		if o.RequestBody != nil {
			r.header.Set("Content-Type", jsonType)
			var err error
			if r.body, err = json.Marshal(o.RequestBody.Value.Content[jsonType].Example); err != nil {
				t.Fatal(err)
			}
		}
		e, err := s.send(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains([]int{http.StatusOK, http.StatusAccepted, http.StatusNotModified, http.StatusNotFound}, e.Status) {
			t.Errorf("%v: %d %s", r, e.Status, e.Answer)
		}
		if err := s.document.Check(t.Context(), e); err != nil {
			t.Error(err)
		}
	})
}

func TestPageTokensLeadToTheNextPage(t *testing.T) {
	t.Parallel()
	services := start(t)
	e, err := services["ingest"].send(t.Context(), request{
		method: http.MethodPost, path: "/increments/batch", header: http.Header{"Content-Type": {"application/json"}},
		body: []byte(`{"increments":[{"name":"bob","value":1,"contributor":"bob"},{"name":"cyd","value":1,"contributor":"cyd"}]}`),
	})
	if err != nil || e.Status != http.StatusAccepted {
		t.Fatalf("%d %s %v", e.Status, e.Answer, err)
	}
	s := services["query"]
	for _, path := range []string{"/tags", "/contributors"} {
		pages := 0
		for query := (url.Values{"page_size": {"1"}}); pages < 3; {
			e, err := s.send(t.Context(), request{method: http.MethodGet, path: path, query: query})
			if err != nil || e.Status != http.StatusOK {
				t.Fatalf("%s %v: %d %s %v", path, query, e.Status, e.Answer, err)
			}
			if err := s.document.Check(t.Context(), e); err != nil {
				t.Error(err)
			}
			var page struct {
				Next string `json:"next_page_token"`
			}
			if err := json.Unmarshal(e.Answer, &page); err != nil {
				t.Fatal(err)
			}
			if pages++; page.Next == "" { // the increments may not be counted yet: start over
				pages = 0
				query.Del("page_token")
				continue
			}
			if query.Set("page_token", page.Next); pages == 2 {
				break
			}
		}
	}
}
