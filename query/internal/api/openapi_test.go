package api

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/accrue/accrue/pkg/openapi"
	"github.com/accrue/accrue/pkg/service/web"
	"github.com/accrue/accrue/query/internal/board"
)

// e2e/contract holds the document against the answers; this test finds routes that it lacks.
func TestDocumentDescribesEveryRouteExceptPartsOfPages(t *testing.T) {
	t.Parallel()
	engine, err := newRouter(nil, nil, nil, Settings{}, web.Base{})
	if err != nil {
		t.Fatal(err)
	}
	var routed, documented []string
	for _, route := range engine.Routes() {
		part := strings.HasPrefix(route.Path, openapi.PagePath) || strings.HasPrefix(route.Path, board.Assets)
		if route.Method != http.MethodHead && !part {
			routed = append(routed, route.Method+" "+regexp.MustCompile(`:(\w+)`).ReplaceAllString(route.Path, "{$1}"))
		}
	}
	var described struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(document, &described); err != nil {
		t.Fatal(err)
	}
	for path, operations := range described.Paths {
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
