package api

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/openapi"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/service/web"
)

// described is what the tests look at in the document.
type described struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Name   string `json:"name"`
			Schema schema `json:"schema"`
		} `json:"parameters"`
		Responses map[string]struct {
			Content map[string]struct {
				Example json.RawMessage `json:"example"`
			} `json:"content"`
		} `json:"responses"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

type schema struct {
	Properties           map[string]schema `json:"properties"`
	Required             []string          `json:"required"`
	AdditionalProperties *bool             `json:"additionalProperties"`
	Type                 string            `json:"type"`
	Pattern              string            `json:"pattern"`
	MinLength            int               `json:"minLength"`
	MaxLength            int               `json:"maxLength"`
	Minimum              int               `json:"minimum"`
	Maximum              int               `json:"maximum"`
	MinItems             int               `json:"minItems"`
	MaxItems             int               `json:"maxItems"`
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

func (refusingCounter) Add(context.Context, []batching.Entry) error { return batching.ErrFull }

// What is routed is described, and nothing else is. The page shows the document and is not part of it.
func TestTheDocumentHasEveryRoute(t *testing.T) {
	t.Parallel()
	engine, ok := New(refusingCounter{}, web.Base{}).(*gin.Engine)
	if !ok {
		t.Fatal("the handler is no Gin engine")
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

// The document's items have the fields that decode reads, and the bounds that it holds them to.
func TestTheDocumentHasTheRulesOfTheDecoder(t *testing.T) {
	t.Parallel()
	schemas := readDocument(t).Components.Schemas
	contributor := schema{
		Type: "string", Pattern: increment.ContributorPattern,
		MinLength: increment.MinContributorLength, MaxLength: increment.MaxContributorLength,
	}
	bounds := map[string]schema{
		"name":        {Type: "string", Pattern: increment.NamePattern, MinLength: increment.MinNameLength, MaxLength: increment.MaxNameLength},
		"value":       {Type: "integer", Minimum: increment.MinValue, Maximum: increment.MaxValue},
		"contributor": contributor,
		"id":          {Type: "string", Pattern: increment.KeyPattern, MinLength: increment.MinKeyLength, MaxLength: increment.MaxKeyLength},
	}
	for one, items := range map[string]*items{"Increment": incrementItems(), "Contribution": contributionItems()} {
		var names, required []string
		for _, f := range items.fields {
			names = append(names, f.name)
			if f.required {
				required = append(required, f.name)
			}
			if got := schemas[one].Properties[f.name]; !reflect.DeepEqual(got, bounds[f.name]) {
				t.Errorf("%s.%s is described as %+v, want %+v", one, f.name, got, bounds[f.name])
			}
		}
		slices.Sort(names)
		if got := slices.Sorted(maps.Keys(schemas[one].Properties)); !slices.Equal(got, names) {
			t.Errorf("%s has %q, the decoder reads %q", one, got, names)
		}
		if got := slices.Sorted(slices.Values(schemas[one].Required)); !slices.Equal(got, required) {
			t.Errorf("%s requires %q, the decoder %q", one, got, required)
		}
		list := schemas[one+"s"].Properties[items.list]
		if list.MinItems != increment.MinBatch || list.MaxItems != increment.MaxBatch {
			t.Errorf("a batch of %s has %d to %d, want %d to %d", items.list, list.MinItems, list.MaxItems, increment.MinBatch, increment.MaxBatch)
		}
		for _, name := range []string{one, one + "s"} {
			if closed := schemas[name].AdditionalProperties; closed == nil || *closed {
				t.Errorf("%s takes fields that the decoder refuses", name)
			}
		}
	}
}

// The pattern of the header is what readKey takes.
func TestTheDocumentHasTheRuleOfTheKeyHeader(t *testing.T) {
	t.Parallel()
	pattern := regexp.MustCompile(keyHeaderPattern)
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(
			rapid.String(), rapid.StringMatching(`"?[!-~ ]{0,3}"?`), rapid.StringMatching(`"?[a-z]{253,256}"?`),
		).Draw(t, "value")
		_, err := readKey(http.Header{keyHeader: {value}})
		if pattern.MatchString(value) != (err == nil) {
			t.Errorf("readKey(%q) = %v, which is not what the pattern says", value, err)
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

// The examples of refusals are what is answered.
func TestTheDocumentSaysWhatRefusalsSay(t *testing.T) {
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
					"413": errTooLarge, "415": errMediaType, "503": batching.ErrFull,
				}
				want := *problemOf(errs[status])
				want.RetryAfter = 0 // a header
				if !reflect.DeepEqual(got, want) {
					t.Errorf("POST %s %s: the example is %+v, the answer %+v", path, status, got, want)
				}
			}
		}
	}
}
