package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
)

// commit writes a Commit to the store, as the aggregator would.
func (s *system) commit(t *testing.T, at time.Time, deltas ...checkpoint.Delta) {
	t.Helper()
	documents, err := firestore.Connect(t.Context(), s.project, "(default)", s.store)
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close() //nolint:errcheck // written
	slices.SortFunc(deltas, func(a, b checkpoint.Delta) int { return strings.Compare(a.Name, b.Name) })
	state, err := documents.Load(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	next := state.Checkpoint.Next(at, 8*24*time.Hour, nil, deltas)
	if _, err := documents.Commit(t.Context(), store.Commit{
		Revision: state.Revision, Next: next, Tags: deltas, Closed: state.Checkpoint.Closed(&next),
	}); err != nil {
		t.Fatal(err)
	}
}

// postRegularly posts a body every 200 ms until the returned function is called or the test ends. A post that fails is not
// repeated: it is the next one that counts.
func postRegularly(t *testing.T, url, body string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(200 * time.Millisecond):
				_, _ = post(url, body) // nothing depends on one of them
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return stop
}

// tab opens a URL in another tab of a browser. Its errors are the browser's.
func (b *browser) tab(url string) *browser {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	tab := &browser{t: b.t, ctx: ctx, close: cancel}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		b.t.Fatal(err)
	}
	tab.do(chromedp.Navigate(url))
	return tab
}

// Browsers open six connections to a server over HTTP/1.1, and each stream is one.
func TestSevenBoardsOfOneBrowserAreLive(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":1}`)
	awaitStats(t, query, map[string]int64{"foo": 1}, 30*time.Second)
	tabs := []*browser{openBrowser(t, query.url+"/")}
	tabs[0].await(text("state-word"), "Live")
	for range 6 {
		tabs = append(tabs, tabs[0].tab(query.url+"/"))
	}
	check := func(want string, tabs ...*browser) {
		t.Helper()
		for _, b := range tabs {
			b.await(rows, want)
			b.await(text("state-word"), "Live")
		}
	}
	check("foo 1", tabs...)
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":4}`)
	check("foo 5", tabs...)
	if n := metric(t, query, "accrue_stream_readers"); n != 1 {
		t.Errorf("%v streams are open, want one for all tabs", n)
	}
	// Another tab goes on when the one with the stream is closed.
	tabs[1].await(`navigator.locks.query().then(({ held }) => String(held.length))`, "1")
	tabs[0].do(chromedp.Navigate("about:blank"))
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":4}`)
	check("foo 9", tabs[1:]...)
	tabs[0].close()
}

// The board shows totals by polling while its stream does not come through.
func TestBoardIsLiveBehindAProxyThatHoldsStreamsBack(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	proxy := startNginx(t, `location / { proxy_pass http://accrue; proxy_ignore_headers X-Accel-Buffering; proxy_buffers 8 64k; proxy_buffer_size 64k; }`, query)
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":4}`)
	awaitStats(t, query, map[string]int64{"foo": 4}, 30*time.Second)
	b := openBrowser(t, proxy+"/")
	b.await(rows, "foo 4")
	b.await(text("state-word"), "Live")
	for total := 5; total < 8; total++ {
		mustPost(t, ingest.url+"/increments", `{"name":"foo","value":1}`)
		b.await(rows, fmt.Sprintf("foo %d", total))
		b.await(text("state-word"), "Live")
	}
	b.await(`document.getElementById("state").title`, "The stream does not come through, so the totals are read every two seconds.")
	b.close()
}

// What is not known is not shown as zero.
func TestBoardHoldsWhatItKnowsWhileQueryIsFrozen(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	stop := postRegularly(t, ingest.url+"/increments", `{"name":"foo","value":9}`)
	b := openBrowser(t, query.url+"/")
	b.await(`String(document.querySelectorAll("#all-chart .bars[d^=M]").length > 0)`, "true")
	const rate = `document.querySelector("#body .rate")?.innerText ?? ""`
	b.do(chromedp.Click(chromedp.CSS(`#body a`)))
	b.await(text("tag-name"), "foo")
	await(t, "a rate", patience, func() error {
		if got := evaluate[string](b, rate); len(got) < 2 || strings.HasPrefix(got, "<") || strings.HasPrefix(got, "0") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	evaluate[any](b, `globalThis.seen = new Set(); setInterval(() => seen.add(`+rate+`), 100)`)
	b.allowFailedRequests(true)
	if err := syscall.Kill(query.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	frozen := time.Now()
	b.await(`document.body.classList.contains("old") ? "old" : ""`, "old")
	if waited := time.Since(frozen); waited > 11*time.Second {
		t.Errorf("the totals were called current for %v", waited)
	}
	// Also in the tag that is open.
	await(t, "what an open tag says", patience, func() error {
		if got := evaluate[string](b, `document.querySelector("#tag .stale").innerText`); got == "" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if grey := evaluate[bool](b, `(color => color(".facts dd") === color(".facts dt"))(of => getComputedStyle(document.querySelector("#tag " + of)).color)`); !grey {
		t.Error("the total of the open tag is not grey")
	}
	b.await(rate, "–") // how old totals may be is a matter of the page's own tests: here they may be old when query freezes
	if zero := evaluate[bool](b, `seen.has("0")`); zero {
		t.Error("the rate was shown as 0")
	}
	b.await(`String(document.querySelectorAll("#all-chart .unknown").length > 0)`, "true")
	stop()
	if err := syscall.Kill(query.cmd.Process.Pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.await(`document.body.classList.contains("old") ? "old" : ""`, "")
	b.close()
}

func TestBoardOpensWhateverItsAddressIs(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":4}`)
	awaitStats(t, query, map[string]int64{"foo": 4}, 30*time.Second)
	b := openBrowser(t, query.url+"/")
	for _, address := range []string{"/#100%", "/#%", "/#person/%", "/#tag/%00", "/?q=%&sort=x&range=y#people?%", "/#"} {
		b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(query.url+address))
		b.await(rows, "foo 4")
		b.await(text("state-word"), "Live")
	}
	b.close()
}

func TestBoardShowsContributorsAlone(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	mustPost(t, ingest.url+"/contributions", `{"contributor":"ada"}`)
	awaitContributions(t, query, "ada", 1)
	b := openBrowser(t, query.url+"/")
	b.await(text("contributors"), "ada\n1")
	b.await(text("empty"), "")
	b.close()
}

// India is half an hour off the hours in which history is kept.
func TestBoardHasDatesInHalfHourZones(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	query := s.start(t, "query")
	s.commit(t, time.Now().AddDate(0, 0, -3), checkpoint.Delta{Name: "foo", Value: 100, Increments: 50})
	awaitStats(t, query, map[string]int64{"foo": 100}, 30*time.Second)
	b := openBrowser(t, "about:blank")
	call(b, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Kolkata"})
	india, err := time.LoadLocation("Asia/Kolkata")
	if err != nil {
		t.Fatal(err)
	}
	want := time.Now().In(india).AddDate(0, 0, -1).Format("Jan 2")
	for _, chart := range []struct{ address, id string }{{"/?range=7d", "all-chart"}, {"/#tag/foo?range=7d", "tag-chart"}} {
		b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(query.url+chart.address))
		b.await(fmt.Sprintf(`String([...document.querySelectorAll("#%s .time")].some(e => e.textContent === %q))`, chart.id, want), "true")
	}
	b.await(`document.getElementById("all-zone").textContent.replace("Calcutta", "Kolkata")`, "Times in Asia/Kolkata")
	b.close()
}

func TestBoardHasRoomForTwelveDigits(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	query := s.start(t, "query")
	s.commit(t, time.Now(), checkpoint.Delta{Name: "abcdefghijklmno", Value: 987_654_321_012, Increments: 123_456_789_012}, checkpoint.Delta{Name: "foo", Value: 1, Increments: 1})
	b := openBrowser(t, query.url+"/")
	for title, screen := range map[string]screen{"desktop": desktop, "phone": phone, "small phone": {360, 640, 2, true}} {
		b.show(screen)
		b.await(rows, "abcdefghijklmno 987,654,321,012, foo 1")
		b.await(text("sum"), "987,654,321,013")
		b.await(`(() => {
			const wrong = [];
			const cells = [...document.querySelectorAll("#body .row > :not(.name)"), document.getElementById("sum")];
			for (const e of cells) {
				const range = document.createRange();
				range.selectNodeContents(e);
				const text = range.getBoundingClientRect();
				const cell = e.getBoundingClientRect();
				if (text.left < cell.left - 1 || text.right > cell.right + 1 || text.right > innerWidth) wrong.push(e.className + e.id + " " + e.innerText);
			}
			if (document.documentElement.scrollWidth > innerWidth) wrong.push("the page is wider than the screen");
			return wrong.join("; ");
		})()`, "")
		t.Log(title)
	}
	b.close()
}

// The total of a tag and its history agree at every moment.
func TestBoardAgreesWithItself(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	postRegularly(t, ingest.url+"/increments", `{"name":"foo","value":9}`)
	b := openBrowser(t, query.url+"/#tag/foo")
	b.await(text("tag-name"), "foo")
	b.await(`String(["tag-sum", "tag-today", "tag-month"].every(id => parseInt(document.getElementById(id).textContent) > 0))`, "true")
	evaluate[any](b, `globalThis.moments = []; new MutationObserver(() => queueMicrotask(() => {
		const text = id => document.getElementById(id).textContent;
		moments.push([text("tag-total"), text("tag-today"), text("tag-week"), text("tag-month"), text("tag-sum").split(" in ")[0]].join(" "));
	})).observe(document.getElementById("tag"), { subtree: true, childList: true, characterData: true })`)
	await(t, "moments", patience, func() error {
		if n := evaluate[int](b, `new Set(moments).size`); n < 6 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	for _, moment := range evaluate[[]string](b, `[...new Set(moments)]`) {
		if all := strings.Fields(moment); len(slices.Compact(all)) != 1 && !nearMidnight() {
			t.Errorf("total, today, 7 days, 30 days and the chart: %s", moment)
		}
	}
	b.close()
}

// nearMidnight reports whether today may not hold all that the test has counted.
func nearMidnight() bool {
	now := time.Now()
	return now.Add(-5*time.Minute).Day() != now.Day()
}

// The address holds what is seen.
func TestBoardIsInItsAddress(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	mustPost(t, ingest.url+"/increments/batch", `{"increments":[{"name":"page_views","value":9},{"name":"views","value":4},{"name":"foo","value":1,"contributor":"100% <ada>"}]}`)
	awaitStats(t, query, map[string]int64{"page_views": 9, "views": 4, "foo": 1}, 30*time.Second)
	awaitContributions(t, query, "100% <ada>", 1)
	b := openBrowser(t, query.url+"/")
	b.await(rows, "page_views 9, views 4, foo 1")
	b.await(`document.title`, "14 counted · Accrue")
	b.do(chromedp.KeyEvent("/"))
	b.await(`document.activeElement.id`, "text")
	b.do(chromedp.KeyEvent("views"), chromedp.Click(chromedp.CSS(`[data-order=name]`)), chromedp.Click(chromedp.CSS(`#all-ranges input[value="7d"] + span`)),
		chromedp.Click(chromedp.CSS(`.check`)))
	b.await(`location.search`, "?q=views&sort=name&range=7d&scale=common")
	check := func() {
		t.Helper()
		b.await(rows, "page_views 9, views 4")
		b.await(`document.querySelector("[aria-sort=ascending]").innerText + document.querySelector("#all-ranges :checked").value + document.getElementById("common").checked`, "Tag7dtrue")
	}
	check()
	b.do(chromedp.Reload())
	check()
	b.do(chromedp.Click(chromedp.CSS(`#body .row:nth-child(1) a`)))
	b.await(text("tag-name"), "page_views")
	b.await(`document.title`, "page_views 9 · Accrue")
	b.do(chromedp.Click(chromedp.CSS(`#tag-ranges input[value="30d"] + span`)))
	b.await(`location.hash`, "#tag/page_views?range=30d")
	b.do(chromedp.Reload())
	b.await(text("tag-name"), "page_views")
	b.await(`document.querySelector("#tag-ranges :checked").value`, "30d")
	b.do(chromedp.KeyEvent(kb.Escape))
	b.await(text("tag"), "")
	check()
	b.do(chromedp.Click(chromedp.CSS(`#contributors a`)))
	b.await(text("person-name"), "100% <ada>")
	b.await(text("person-count"), "1")
	b.await(`document.title`, "100% <ada> · Accrue")
	b.do(chromedp.Reload())
	b.await(text("person-name"), "100% <ada>")
	b.do(chromedp.KeyEvent(kb.Escape))
	b.await(text("person"), "")
	b.close()
}

// axe returns the script with the rules of accessibility.
func axe(t *testing.T) string {
	t.Helper()
	script, err := os.ReadFile("axe/node_modules/axe-core/axe.min.js")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("needs `npm ci --prefix e2e/axe`: %v", err)
		}
		t.Skipf("needs `npm ci --prefix e2e/axe`: %v", err)
	}
	return string(script)
}

func TestBoardIsAccessible(t *testing.T) {
	t.Parallel()
	script := axe(t)
	s := newSystem(t)
	s.variables["RECOGNITION_TIERS"] = "2,5"
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	b := openBrowser(t, query.url+"/")
	check := func(view string) {
		t.Helper()
		for title, screen := range map[string]screen{"desktop": desktop, "phone": phone} {
			for _, scheme := range []string{"light", "dark"} {
				b.show(screen)
				call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					// Without the animations, in the middle of which contrasts are low.
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
				})
				evaluate[any](b, `globalThis.axe ? 0 : (() => {`+script+`})()`)
				found := evaluate[string](b, `axe.run().then(({ violations }) => JSON.stringify(violations.map(v => [v.id, v.help, v.nodes.map(n => n.html)])))`)
				if found != "[]" {
					t.Errorf("%s, %s, %s: %s", view, title, scheme, found)
				}
			}
		}
		b.show(desktop)
	}
	b.await(text("empty-title"), "Nothing has been counted yet")
	check("empty")
	mustPost(t, ingest.url+"/increments/batch", `{"increments":[`+strings.Repeat(`{"name":"foo","value":9,"contributor":"ada"},`, 4)+`{"name":"bar","value":1,"contributor":"grace"}]}`)
	b.await(rows, "foo 36, bar 1")
	b.await(text("contributors"), "ada\n4\ngrace\n1")
	await(t, "recognition", patience, func() error {
		if got := evaluate[string](b, text("latest")); !strings.HasPrefix(got, "ada\n2\n") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	check("board")
	b.do(chromedp.SendKeys(chromedp.ID("text"), "x"))
	b.await(text("nothing"), "No tag contains x.")
	check("search without a result")
	for _, view := range []struct{ hash, awaited string }{
		{"#people", text("contributors-title")}, {"#tag/foo", text("tag-sum")}, {"#person/ada", text("person-recognitions")},
	} {
		address, _ := json.Marshal(view.hash)
		evaluate[any](b, `location.hash = `+string(address))
		await(t, view.hash, patience, func() error {
			if evaluate[string](b, view.awaited) == "" {
				return fmt.Errorf("is empty")
			}
			return nil
		})
		check(view.hash)
	}
	// The chart is read with keys.
	evaluate[any](b, `location.hash = "#tag/foo"`)
	b.await(text("tag-name"), "foo")
	b.await(`String(document.querySelectorAll("#tag-chart .bars[d^=M]").length > 0)`, "true") // keys move through what is drawn
	b.do(chromedp.Focus(chromedp.ID("tag-chart")), chromedp.KeyEvent(kb.End))
	await(t, "value", patience, func() error {
		if got := evaluate[string](b, `document.querySelector("#tag-chart .tip").innerText`); !strings.Contains(got, "counted") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	check("chart with its cursor")
	b.allowFailedRequests(true)
	query.kill()
	b.await(`document.querySelector("#tag .stale").checkVisibility() ? "stale" : ""`, "stale")
	check("an open tag without a connection")
	evaluate[any](b, `location.hash = "#tags"`)
	b.await(text("state-word"), "Cut off")
	check("without a connection")
	b.close()
}
