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
	// The location is relative: the page may be served below a prefix.
	if moved := get(engine, openapi.PagePath, nil); moved.Code != http.StatusFound || moved.Header().Get("Location") != "docs/" {
		t.Errorf("%d to %q", moved.Code, moved.Header().Get("Location"))
	}
	for _, path := range []string{"/docs/", "/docs/index.html?from=/elsewhere/index.css"} {
		page := get(engine, path, nil)
		if page.Code != http.StatusOK || !strings.Contains(page.Body.String(), "<title>A &amp; B</title>") || !strings.Contains(page.Body.String(), `name="viewport"`) {
			t.Errorf("%s: %d %s", path, page.Code, page.Body)
		}
		found := loaded.FindAllStringSubmatch(page.Body.String(), -1)
		if len(found) != 6 {
			t.Errorf("the page loads %q, want 6 parts", found)
		}
		for _, match := range found {
			name, relative := strings.CutPrefix(match[1], "./")
			if strings.Contains(name, "/") || !relative && name != "index.css" {
				t.Errorf("the page loads %s, which is not beside it", match[1])
			}
			if w := get(engine, "/docs/"+name, nil); w.Code != http.StatusOK || w.Body.Len() < 100 {
				t.Errorf("GET %s: %d, %d bytes", name, w.Code, w.Body.Len())
			}
		}
	}
	for _, path := range []string{
		"/docs/doc.json", "/docs/other.js", "/docs/../openapi.json", "/docs/swagger-ui-bundle.js.map", "/docs/swagger-ui-standalone-preset.js",
	} {
		if w := get(engine, path, nil); w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d, want 404", path, w.Code)
		}
	}
}

func TestPartsAreCompressedAndRevalidated(t *testing.T) {
	t.Parallel()
	engine := serve()
	total := 0
	for path, mediaType := range map[string]string{
		"/docs/": "text/html; charset=utf-8", "/docs/index.html": "text/html; charset=utf-8", "/docs/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
		"/docs/swagger-ui.css": "text/css; charset=utf-8", "/docs/swagger-initializer.js": "text/javascript; charset=utf-8", "/docs/favicon-32x32.png": "image/png",
	} {
		w := get(engine, path, http.Header{"Accept-Encoding": {"gzip"}})
		h := w.Header()
		if w.Code != http.StatusOK || h.Get("Content-Type") != mediaType || h.Get("Cache-Control") != "no-cache" || h.Get("ETag") == "" {
			t.Errorf("%s: %d %v", path, w.Code, h)
		}
		total += w.Body.Len()
		if again := get(engine, path, http.Header{"If-None-Match": {h.Get("ETag")}}); again.Code != http.StatusNotModified {
			t.Errorf("%s: %d, want 304", path, again.Code)
		}
		head := httptest.NewRecorder()
		engine.ServeHTTP(head, httptest.NewRequest(http.MethodHead, path, http.NoBody))
		if head.Code != http.StatusOK || head.Header().Get("ETag") == "" || head.Body.Len() != 0 {
			t.Errorf("HEAD %s: %d %v", path, head.Code, head.Header())
		}
	}
	if total > 600_000 { // 1.6 MB as they are
		t.Errorf("the parts take %d bytes", total)
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
