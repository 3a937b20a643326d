package e2e_test

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// startAt runs a service on a port.
func (s *system) startAt(t *testing.T, service, port string) *process {
	t.Helper()
	there := *s
	there.variables = maps.Clone(s.variables)
	there.variables["PORT"] = port
	return there.start(t, service)
}

// text returns an expression for the text of an element, which is empty if the element is not visible.
func text(id string) string {
	return fmt.Sprintf(`(e => e.checkVisibility() ? e.innerText : "")(document.getElementById(%q))`, id)
}

// rows is an expression for the names and totals of the displayed tags in their order.
const rows = `[...document.querySelectorAll("#body .row")]
	.sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)
	.map(row => row.querySelector(".name").innerText + " " + row.querySelector(".total").innerText).join(", ")`

func TestBoardShowsTotalsAndLostConnection(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	b := openBrowser(t, query.url+"/")
	evaluate[bool](b, `globalThis.notReloaded = true`)

	// Without totals the page shows how to post an increment.
	b.await(text("empty-title"), "Nothing has been counted yet")
	b.await(text("curl"), `curl -H 'Content-Type: application/json' -d '{"name":"foo","value":4}' http://localhost:8080/increments`)
	b.await(text("state-word"), "Live")

	// Totals appear and change.
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":4,"contributor":"<b>ada</b>"}`)
	b.await(rows, "foo 4")
	b.await(text("empty"), "")
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":9}`)
	b.await(rows, "foo 13")
	mustPost(t, ingest.url+"/increments/batch", `{"increments":[`+strings.Repeat(`{"name":"ballz","value":9},`, 150)+`{"name":"bar","value":1},{"name":"__proto__","value":2}]}`)
	b.await(rows, "ballz 1,350, foo 13, __proto__ 2, bar 1")
	b.await(text("count"), "4")
	b.await(text("sum"), "1,366")
	await(t, "age", patience, func() error {
		if got := evaluate[string](b, text("age")); !strings.HasSuffix(got, " s old") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})

	// Search and order.
	b.do(chromedp.SendKeys(chromedp.ID("text"), "Ba!"))
	b.await(rows, "ballz 1,350, bar 1")
	b.await(text("found"), "2 of 4")
	b.do(chromedp.SendKeys(chromedp.ID("text"), "x"))
	b.await(text("nothing"), "No tag contains bax.")
	b.do(chromedp.SendKeys(chromedp.ID("text"), strings.Repeat(kb.Backspace, 3)))
	for _, order := range []struct{ by, want string }{
		{"name", "__proto__ 2, ballz 1,350, bar 1, foo 13"},
		{"name", "foo 13, bar 1, ballz 1,350, __proto__ 2"},
		{"total", "ballz 1,350, foo 13, __proto__ 2, bar 1"},
		{"total", "bar 1, __proto__ 2, foo 13, ballz 1,350"},
	} {
		b.do(chromedp.Click(chromedp.CSS(fmt.Sprintf("[data-order=%s]", order.by))))
		b.await(rows, order.want)
	}
	b.await(`document.querySelector("[aria-sort=ascending]").innerText`, "Total")

	// Keys move the focus between tags, and changes appear meanwhile.
	b.do(chromedp.Focus(chromedp.CSS(`#body a[tabindex="0"]`)))
	b.await(`document.activeElement.innerText`, "bar")
	b.do(chromedp.KeyEvent(kb.End))
	b.await(`document.activeElement.innerText`, "ballz")
	b.do(chromedp.KeyEvent(kb.ArrowUp))
	b.await(`document.activeElement.innerText`, "foo")
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":1}`)
	b.await(rows, "bar 1, __proto__ 2, foo 14, ballz 1,350")
	b.await(`document.activeElement.innerText`, "foo")

	// Enter opens a tag, Escape closes it.
	b.do(chromedp.KeyEvent(kb.Enter))
	b.await(text("tag-name"), "foo")
	b.await(text("tag-total"), "14")
	b.await(text("tag-increments"), "3")
	b.await(text("tag-sum"), "14 in the last 3 hours, by the minute")
	b.await(`String(document.querySelectorAll("#tag-chart .bars[d^=M]").length > 0)`, "true")
	b.await(`location.hash`, "#tag/foo")
	b.do(chromedp.Click(chromedp.CSS(`#tag-ranges input[value="7d"] + span`)))
	b.await(text("tag-sum"), "14 in the last 7 days, by the hour")
	b.do(chromedp.Click(chromedp.CSS(`#tag summary`)))
	b.await(`[...document.querySelectorAll("#tag-rows td")].map(e => +e.innerText).reduce((a, b) => a + b, 0) + ""`, "14")
	b.do(chromedp.KeyEvent(kb.Escape))
	b.await(text("tag"), "")
	b.await(`location.hash + document.activeElement.innerText`, "foo")

	// A row's chart is drawn from the same history.
	b.await(`[...document.querySelectorAll("#body .row")].find(r => r.querySelector(".name").innerText === "ballz").querySelector("svg").ariaLabel`, "1,350 in 30 minutes")

	// Contributors and recognitions are polled. An id that looks like HTML is shown as text.
	mustPost(t, ingest.url+"/contributions/batch", `{"contributions":[{"contributor":"<b>ada</b>"},{"contributor":"<b>ada</b>"},{"contributor":"grace"}]}`)
	b.await(text("contributors"), "<b>ada</b>\n3\ngrace\n1")
	await(t, "recognition", patience, func() error {
		if got := evaluate[string](b, text("latest")); !strings.HasPrefix(got, "<b>ada</b>\n3\n") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})

	// When query is killed the page says so, and it resumes when query is back.
	address, err := url.Parse(query.url)
	if err != nil {
		t.Fatal(err)
	}
	b.allowFailedRequests(true)
	query.kill()
	b.await(text("state-word"), "Cut off")
	await(t, "notice", patience, func() error {
		if got := evaluate[string](b, text("notice")); !strings.HasPrefix(got, "The connection is cut. These numbers stand still since ") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":2}`)
	b.await(rows, "bar 1, __proto__ 2, foo 14, ballz 1,350")
	s.startAt(t, "query", address.Port())
	b.await(text("state-word"), "Live again")
	b.await(text("notice"), "The connection is back. The numbers are live.")
	b.await(rows, "bar 1, __proto__ 2, foo 16, ballz 1,350")
	b.allowFailedRequests(false)
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":1}`)
	b.await(rows, "bar 1, __proto__ 2, foo 17, ballz 1,350")
	b.await(`String(globalThis.notReloaded)`, "true")
	b.close()
}

func TestBoardRendersOnlyVisibleRows(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	const n, maxRows = 10_000, 60 // 20 rows fit 860 pixels, and some are rendered above and below
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("tag_%c%c%c%c", 'a'+i/1000, 'a'+i/100%10, 'a'+i/10%10, 'a'+i%10)
	}
	for some := range slices.Chunk(names, 1000) {
		mustPost(t, ingest.url+"/increments/batch", `{"increments":[{"name":"`+strings.Join(some, `","value":1},{"name":"`)+`","value":1}]}`)
	}
	awaitSum(t, query, n, time.Minute)
	b := openBrowser(t, query.url+"/")
	b.await(text("count"), "10,000")
	b.do(chromedp.Click(chromedp.CSS("[data-order=name]")))

	// checkVisible checks that a tag is on the screen and that few rows are rendered.
	checkVisible := func(where, name string) {
		t.Helper()
		b.await(fmt.Sprintf(`String([...document.querySelectorAll("#body .row")].some(row => {
			const at = row.getBoundingClientRect();
			return row.querySelector(".name").innerText === %q && at.top >= 0 && at.bottom <= innerHeight;
		}))`, name), "true")
		if got := evaluate[int](b, `document.querySelectorAll("#body .row").length`); got > maxRows || got < 10 {
			t.Errorf("%s: %d rows are rendered, want 10 to %d", where, got, maxRows)
		}
		if got := evaluate[int](b, `document.getElementsByTagName("*").length`); got > 1500 {
			t.Errorf("%s: the page has %d elements", where, got)
		}
	}
	checkVisible("at the top", names[0])
	evaluate[any](b, `scrollTo(0, document.body.scrollHeight)`)
	checkVisible("at the bottom", names[n-1])
	evaluate[any](b, `scrollTo(0, document.body.scrollHeight / 2)`)
	checkVisible("in the middle", names[n/2])
	if got := evaluate[string](b, `document.getElementById("grid").ariaRowCount`); got != "10001" {
		t.Errorf("aria-rowcount = %s, want 10001 including the header", got)
	}
	b.do(chromedp.Focus(chromedp.CSS(`#body a[tabindex="0"]`)), chromedp.KeyEvent(kb.End))
	checkVisible("after End", names[n-1])
	b.await(`document.activeElement.innerText`, names[n-1])
	b.do(chromedp.KeyEvent(kb.Home))
	checkVisible("after Home", names[0])
	b.do(chromedp.SendKeys(chromedp.ID("text"), "tag_jjj"))
	b.await(text("found"), "10 of 10,000")
	checkVisible("after a search", "tag_jjja")
}
