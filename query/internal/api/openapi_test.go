package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/openapi"
	"github.com/accrue/accrue/pkg/service/web"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/board"
)

// described is what the tests look at in the document.
type described struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Name   string `json:"name"`
			Schema struct {
				Enum    []string `json:"enum"`
				Default any      `json:"default"`
				Minimum float64  `json:"minimum"`
				Maximum float64  `json:"maximum"`
			} `json:"schema"`
		} `json:"parameters"`
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

// What is routed is described, and nothing else is. The parts of pages are for those alone.
func TestTheDocumentHasEveryRoute(t *testing.T) {
	t.Parallel()
	engine, ok := New(nil, nil, nil, web.Base{}).(*gin.Engine)
	if !ok {
		t.Fatal("the handler is no Gin engine")
	}
	var routed, documented []string
	for _, route := range engine.Routes() {
		ofPage := strings.HasPrefix(route.Path, openapi.PagePath) || strings.HasPrefix(route.Path, board.Assets)
		if route.Method != http.MethodHead && !ofPage {
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

func TestTheDocumentHasTheOrdersAndSizesOfPages(t *testing.T) {
	t.Parallel()
	orders := map[string][]string{
		"/tags":         tagOrders(),
		"/contributors": {string(store.ByID), string(store.ByContributions), string(store.ByContributionsDescending)},
	}
	sizes := map[string][2]float64{
		"/tags": {defaultPageSize, maxPageSize}, "/contributors": {defaultPageSize, maxPageSize}, "/recognitions": {defaultLatest, maxLatest},
	}
	for path, operations := range readDocument(t).Paths {
		for _, p := range operations["get"].Parameters {
			switch p.Name {
			case parameterOrder:
				if want := orders[path]; !slices.Equal(p.Schema.Enum, want) || p.Schema.Default != want[0] {
					t.Errorf("%s: orders %q, %v by default, want %q and the first", path, p.Schema.Enum, p.Schema.Default, want)
				}
				delete(orders, path)
			case "resolution":
				if got, want := slices.Sorted(slices.Values(p.Schema.Enum)), slices.Sorted(maps.Keys(resolutions())); !slices.Equal(got, want) {
					t.Errorf("%s: resolutions %q, want %q", path, got, want)
				}
			case parameterPageSize:
				if want := sizes[path]; p.Schema.Minimum != minPageSize || p.Schema.Maximum != want[1] || p.Schema.Default != want[0] {
					t.Errorf("%s: sizes %+v, want %v", path, p.Schema, want)
				}
				delete(sizes, path)
			}
		}
	}
	if len(orders) > 0 || len(sizes) > 0 {
		t.Errorf("not described: %v %v", orders, sizes)
	}
}
