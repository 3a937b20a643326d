package local

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/openapi"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/service/web"
)

// merge returns a handler of all routes of ingest and query. It serves a merged OpenAPI document and its page. Routes that both
// services have, such as health and metrics, are query's, which also reports the age of the view.
func merge(ingest, query http.Handler, origins []string, log zerolog.Logger) (http.Handler, error) {
	document, err := mergeDocuments(ingest, query)
	if err != nil {
		return nil, err
	}
	docs := service.CORS(origins, web.Base{Log: log}.Router(web.API{Title: "Accrue", Document: document}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch root, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); "/" + root {
		case "/increments", "/contributions":
			ingest.ServeHTTP(w, r)
		case openapi.Path, openapi.PagePath:
			docs.ServeHTTP(w, r)
		default:
			query.ServeHTTP(w, r)
		}
	}), nil
}

// mergeDocuments returns one OpenAPI document of both services.
func mergeDocuments(ingest, query http.Handler) ([]byte, error) {
	var all []map[string]any
	for _, service := range []http.Handler{ingest, query} {
		var answer recorder
		request, err := http.NewRequest(http.MethodGet, openapi.Path, http.NoBody) //nolint:noctx // it is a call
		if err != nil {
			return nil, fmt.Errorf("merge the OpenAPI documents: %w", err)
		}
		service.ServeHTTP(&answer, request)
		var document map[string]any
		if err := json.Unmarshal(answer.Bytes(), &document); err != nil {
			return nil, fmt.Errorf("merge the OpenAPI documents: %w", err)
		}
		all = append(all, document)
	}
	return json.Marshal(mergeObjects(mergeObjects(all[0], all[1]), map[string]any{"info": map[string]any{
		"title": "Accrue", "description": "Post increments and contributions, and read totals, history and recognitions.",
	}}))
}

// mergeObjects returns the members of both, of objects in both merged in turn, and of lists in both the union. Of other
// values, such as the description of a path that both have, it takes b's.
func mergeObjects(a, b map[string]any) map[string]any {
	merged := maps.Clone(a)
	for name, value := range b {
		switch value := value.(type) {
		case map[string]any:
			if object, ok := a[name].(map[string]any); ok {
				merged[name] = mergeObjects(object, value)
				continue
			}
		case []any:
			if list, ok := a[name].([]any); ok {
				merged[name] = union(list, value)
				continue
			}
		}
		merged[name] = value
	}
	return merged
}

// union returns the elements of a and those of b that are not among them.
func union(a, b []any) []any {
	encoded := func(v any) string { text, _ := json.Marshal(v); return string(text) } // decoded from JSON: no error
	all := slices.Clone(a)
	for _, element := range b {
		if !slices.ContainsFunc(all, func(other any) bool { return encoded(other) == encoded(element) }) {
			all = append(all, element)
		}
	}
	return all
}

// recorder keeps the body of an answer.
type recorder struct {
	bytes.Buffer
	header http.Header
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}

func (r *recorder) WriteHeader(int) {}
