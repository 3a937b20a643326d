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
		b.show(phone)
		b.await(`String(document.documentElement.scrollWidth <= innerWidth)`, "true")
		b.close()
	}
}

// execute presses "Execute" for an operation on the page at /docs, with nothing filled in.
func (b *browser) execute(operation string) {
	b.t.Helper()
	block := fmt.Sprintf(`[id$="-%s"].opblock`, operation)
	if evaluate[bool](b, fmt.Sprintf(`document.querySelector('%s .execute') === null`, block)) {
		b.do(chromedp.Click(chromedp.CSS(block + " .opblock-summary-control")))
		b.do(chromedp.Click(chromedp.CSS(block + " .try-out__btn")))
	}
	b.do(chromedp.Click(chromedp.CSS(block + " .execute")))
}

// answered is the status and the body of the answer that the page at /docs shows for an operation, as an expression.
func answered(operation string) string {
	return fmt.Sprintf(`(block => [".live-responses-table tbody .response-col_status", ".live-responses-table .microlight"].map(
		part => block.querySelector(part)?.textContent.replaceAll(/\s+/g, " ").trim() ?? "").join(" "))
		(document.querySelector('[id$="-%s"].opblock'))`, operation)
}

// What the page at /docs sends by itself counts each time; the stream, whose answer would show when it ends, cannot be tried.
func TestDocsPageSendsRequests(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	b := openBrowser(t, "about:blank")
	b.tolerate(audits.InspectorIssueCodeGenericIssue) // of Swagger UI's own forms
	b.do(chromedp.Navigate(ingest.url + "/docs"))
	for i := range int64(2) {
		b.execute("postIncrement")
		b.await(answered("postIncrement"), `202 { "accepted": 1 }`)
		awaitStats(t, query, map[string]int64{"foo": 4 * (i + 1)}, patience)
	}
	for i := range int64(2) {
		b.execute("postIncrements")
		b.await(answered("postIncrements"), `202 { "accepted": 2 }`)
		awaitStats(t, query, map[string]int64{"foo": 8 + 9*(i+1), "ballz": 7 * (i + 1)}, patience)
	}
	b.close()

	b = openBrowser(t, "about:blank")
	b.tolerate(audits.InspectorIssueCodeGenericIssue)
	b.do(chromedp.Navigate(query.url + "/docs"))
	for _, operation := range []string{"getTags", "getTagHistory", "getContributors", "getRecognitions"} {
		b.execute(operation)
		await(t, operation, patience, func() error {
			if got := evaluate[string](b, answered(operation)); !strings.HasPrefix(got, "200 ") {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
	}
	b.do(chromedp.Click(chromedp.CSS(`[id$="-getStatsStream"].opblock .opblock-summary-control`)))
	b.await(`document.querySelector('[id$="-getStatsStream"].opblock .parameters-container') ? "open" : ""`, "open")
	b.await(`document.querySelector('[id$="-getStatsStream"].opblock .try-out__btn') ? "offered" : "not offered"`, "not offered")
	b.await(`document.querySelector(".topbar") ? "a bar" : "no bar"`, "no bar")
	b.close()
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
