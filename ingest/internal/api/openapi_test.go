package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/ingest/internal/names"
	"github.com/accrue/accrue/pkg/openapi"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/service/web"
)

// described is the part of the document that the tests read.
type described struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Name   string                   `json:"name"`
			Schema struct{ Pattern string } `json:"schema"`
		} `json:"parameters"`
		RequestBody struct {
			Content map[string]struct{ Example json.RawMessage }
		}
		Responses map[string]struct {
			Content map[string]struct {
				Example json.RawMessage `json:"example"`
			} `json:"content"`
		} `json:"responses"`
	} `json:"paths"`
}

func readDocument(t *testing.T) described {
	t.Helper()
	var d described
	if err := json.Unmarshal(document, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// refusingCounter takes nothing.
type refusingCounter struct{}

func (refusingCounter) Reserve(int) bool                            { return true }
func (refusingCounter) Release(int)                                 {}
func (refusingCounter) Add(context.Context, []batching.Entry) error { return batching.ErrFull }

// The document describes all routes and no others. The page that shows it is not part of it.
func TestDocumentDescribesEveryRoute(t *testing.T) {
	t.Parallel()
	engine, ok := New(refusingCounter{}, nil, web.Base{}).(*gin.Engine)
	if !ok {
		t.Fatal("the handler is not a Gin engine")
	}
	var routed, documented []string
	for _, route := range engine.Routes() {
		if route.Method != http.MethodHead && !strings.HasPrefix(route.Path, openapi.PagePath) {
			routed = append(routed, route.Method+" "+regexp.MustCompile(`:(\w+)`).ReplaceAllString(route.Path, "{$1}"))
		}
	}
	for path, operations := range readDocument(t).Paths {
		for method := range operations {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(routed)
	slices.Sort(documented)
	if !slices.Equal(routed, documented) {
		t.Errorf("routed: %q\ndocumented: %q", routed, documented)
	}
}

// The pattern of the header accepts what readKey accepts.
func TestDocumentHasTheRuleOfTheKeyHeader(t *testing.T) {
	t.Parallel()
	pattern := regexp.MustCompile(keyHeaderPattern)
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(
			rapid.String(), rapid.StringMatching(`"?[!-~ ]{0,3}"?`), rapid.StringMatching(`"?[a-z]{253,256}"?`),
		).Draw(t, "value")
		_, err := readKey(http.Header{keyHeader: {value}})
		if pattern.MatchString(value) != (err == nil) {
			t.Errorf("readKey(%q) = %v, which differs from the pattern", value, err)
		}
	})
	for path, operations := range readDocument(t).Paths {
		for _, p := range operations["post"].Parameters {
			if p.Name == keyHeader && p.Schema.Pattern != keyHeaderPattern {
				t.Errorf("POST %s: the header is described as %q", path, p.Schema.Pattern)
			}
		}
		if post, ok := operations["post"]; ok && len(post.Parameters) == 0 {
			t.Errorf("POST %s has no parameters", path)
		}
	}
}

// The examples of refusals are the answers.
func TestDocumentedRefusalsEqualTheAnswers(t *testing.T) {
	t.Parallel()
	for path, operations := range readDocument(t).Paths {
		for status, response := range operations["post"].Responses {
			for media, content := range response.Content {
				if media != problem.ContentType || status == "500" {
					continue
				}
				var got problem.Document
				if err := json.Unmarshal(content.Example, &got); err != nil {
					t.Fatal(err)
				}
				errs := map[string]error{
					"400": &invalidError{malformed: true, faults: got.Errors}, "422": &invalidError{faults: got.Errors},
					"408": errSlow, "413": errTooLarge, "415": errMediaType, "429": &names.TooManyError{New: 2, PerMinute: 1000}, "503": batching.ErrFull,
				}
				want := *problemOf(errs[status])
				want.RetryAfter = 0 // a header
				if status == "403" {
					want = refusalOfAnOrigin(t)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("POST %s %s: the example is %+v, the answer %+v", path, status, got, want)
				}
			}
		}
	}
}

// refusalOfAnOrigin is the answer to a page of an origin that is not listed.
func refusalOfAnOrigin(t *testing.T) (d problem.Document) {
	t.Helper()
	handler := service.CORS([]string{"https://example.com"}, New(refusingCounter{}, nil, web.Base{}))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, incrementsPath, http.NoBody)
	r.Header.Set("Origin", "https://elsewhere.org")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDocumentedLinesAreAccepted(t *testing.T) {
	t.Parallel()
	found := 0
	for path, operations := range readDocument(t).Paths {
		content, ok := operations["post"].RequestBody.Content[linesType]
		if !ok {
			continue
		}
		found++
		var body string
		if err := json.Unmarshal(content.Example, &body); err != nil {
			t.Fatal(err)
		}
		kind := incrementKind(nil)
		if strings.HasPrefix(path, contributionsPath) {
			kind = contributionKind()
		}
		r := post(t, strings.NewReader(body), int64(len(body)), "")
		r.Header.Set("Content-Type", linesType)
		if entries, err := decode(r, unlimited{}, kind, true); err != nil || len(entries) != 2 {
			t.Errorf("POST %s with %q: %d entries, %v", path, body, len(entries), err)
		}
	}
	if found != 2 {
		t.Errorf("%d paths take lines, want 2", found)
	}
}
