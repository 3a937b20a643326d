package openapi_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/openapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const document = `{"openapi":"3.0.3"}`

func serve() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.RedirectTrailingSlash = false
	openapi.Register(engine, []byte(document), "A & B")
	return engine
}

func get(handler http.Handler, path string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

func TestDocumentIsServedWithAnETag(t *testing.T) {
	t.Parallel()
	engine := serve()
	first := get(engine, openapi.Path, nil)
	etag := first.Header().Get("ETag")
	if first.Code != http.StatusOK || first.Body.String() != document || first.Header().Get("Content-Type") != "application/json" || etag == "" {
		t.Errorf("%d %v %s", first.Code, first.Header(), first.Body)
	}
	if again := get(engine, openapi.Path, http.Header{"If-None-Match": {etag}}); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("%d %s, want 304", again.Code, again.Body)
	}
}

var loaded = regexp.MustCompile(`(?:src|href)="([^"]+)"`)

func TestPageIsServedWithAllFilesItLoads(t *testing.T) {
	t.Parallel()
	engine := serve()
	if moved := get(engine, openapi.PagePath, nil); moved.Code != http.StatusFound || moved.Header().Get("Location") != "/docs/index.html" {
		t.Errorf("%d to %q", moved.Code, moved.Header().Get("Location"))
	}
	// A query that looks like a file must not change the prefix of the files.
	page := get(engine, "/docs/index.html?from=/elsewhere/index.css", nil)
	if page.Code != http.StatusOK || !strings.Contains(page.Body.String(), "<title>A &amp; B</title>") {
		t.Errorf("%d %s", page.Code, page.Body)
	}
	found := loaded.FindAllStringSubmatch(page.Body.String(), -1)
	if len(found) < 5 {
		t.Errorf("the page loads only %q", found)
	}
	for _, match := range found {
		if strings.Contains(match[1], "//") {
			t.Errorf("the page loads %s from another server", match[1])
		}
		path := "/docs/" + strings.TrimPrefix(match[1], "./")
		w := get(engine, path, nil)
		if w.Code != http.StatusOK || w.Body.Len() < 100 {
			t.Errorf("GET %s: %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
	if script := get(engine, "/docs/swagger-initializer.js", nil); !strings.Contains(script.Body.String(), `url: "../openapi.json"`) {
		t.Errorf("the page shows another document: %s", script.Body)
	}
	for _, path := range []string{"/docs/", "/docs/doc.json", "/docs/other.js", "/docs/../openapi.json"} {
		if w := get(engine, path, nil); w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d, want 404", path, w.Code)
		}
	}
}

func TestServicesInOneProcessHaveTheirOwnPages(t *testing.T) {
	t.Parallel()
	first, second := serve(), serve()
	for range 2 {
		for _, engine := range []*gin.Engine{first, second} {
			if w := get(engine, "/docs/swagger-ui.css", nil); w.Code != http.StatusOK || w.Body.Len() < 10_000 {
				t.Errorf("%d, %d bytes", w.Code, w.Body.Len())
			}
		}
	}
}
