package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/chromedp"
)

// The page at /docs shows every operation of the service's OpenAPI 3.0 document in a real browser, without requests to other
// hosts. DOCS_IMAGES=../docs/images writes screenshots.
func TestDocsPageShowsEveryOperation(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	for _, service := range []*process{s.start(t, "ingest"), s.start(t, "query")} {
		body, err := get(service.url + "/openapi.json")
		if err != nil {
			t.Fatal(err)
		}
		var document struct {
			OpenAPI string
			Info    struct{ Title string }
			Paths   map[string]map[string]struct{ OperationID, Summary string }
		}
		if err := json.Unmarshal([]byte(body), &document); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(document.OpenAPI, "3.0.") {
			t.Errorf("%s serves OpenAPI %q", service.name, document.OpenAPI)
		}
		b := openBrowser(t, "about:blank")
		b.tolerate(audits.InspectorIssueCodeGenericIssue) // about the forms of Swagger UI
		b.do(chromedp.Navigate(service.url + "/docs"))
		b.await(`document.querySelector(".info .title")?.firstChild?.textContent ?? ""`, document.Info.Title)
		operations := 0
		for path, methods := range document.Paths {
			for method, operation := range methods {
				operations++
				// Swagger UI inserts zero-width spaces into long paths.
				b.await(fmt.Sprintf(`(block => block ? [".opblock-summary-method", ".opblock-summary-path", ".opblock-summary-description"].map(
					part => block.querySelector(part).textContent.replaceAll("\u200b", "").trim()).join(" ") : "")
					(document.querySelector('[id$="-%s"].opblock'))`, operation.OperationID),
					strings.ToUpper(method)+" "+path+" "+strings.TrimSpace(operation.Summary))
			}
		}
		if operations < 4 {
			t.Errorf("%s documents %d operations", service.name, operations)
		}
		if folder := os.Getenv("DOCS_IMAGES"); folder != "" {
			b.save(filepath.Join(folder, "docs-"+service.name+".png"))
		}
		b.close()
	}
}

// A page of another origin posts an increment with a key and reads the totals and their headers. If CORS_ORIGINS does not list
// its origin, the browser blocks it.
func TestPagesOfAllowedOriginsUseTheServices(t *testing.T) {
	t.Parallel()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>Another origin</title>`))
	}))
	t.Cleanup(page.Close)
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	b := openBrowser(t, page.URL)
	post := func(ingest *process, key string) {
		evaluate[bool](b, fmt.Sprintf(`globalThis.posted = "", fetch(%q, {method: "POST",
			headers: {"Content-Type": "application/json", "Idempotency-Key": %q}, body: JSON.stringify({name: "foo", value: 4})}
		).then(r => globalThis.posted = String(r.status), e => globalThis.posted = e.name), true`, ingest.url+"/increments", key))
	}
	post(ingest, "once")
	b.await("posted", "202")
	post(ingest, "once")
	b.await("posted", "202")
	awaitStats(t, query, map[string]int64{"foo": 4}, patience)
	evaluate[bool](b, fmt.Sprintf(`globalThis.got = "", fetch(%q).then(async r => globalThis.got = [await r.text(),
		r.headers.has("ETag"), r.headers.has("X-As-Of")].join(" ")), true`, query.url+"/stats"))
	b.await("got", `{"foo":4} true true`)

	s.variables["CORS_ORIGINS"] = "https://example.com"
	closed := s.start(t, "ingest")
	b.close() // the allowed requests must not have caused browser errors
	b = openBrowser(t, page.URL)
	b.allowFailedRequests(true)
	b.tolerate(audits.InspectorIssueCodeCorsIssue)
	post(closed, "never")
	b.await("posted", "TypeError")
	b.close()
	if totals, err := stats(query); err != nil || totals["foo"] != 4 {
		t.Errorf("totals are %v, %v", totals, err)
	}
}
