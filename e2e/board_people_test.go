package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/accrue/accrue/pkg/checkpoint"
)

// choose chooses an option of a select by its value.
func choose(id, value string) string {
	return fmt.Sprintf(`(e => { e.value = %q; e.dispatchEvent(new Event("change")); return e.value; })(document.getElementById(%q))`, value, id)
}

// people is an expression for the contributors of a list, in its order.
func people(id string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#%s .who")].map(e => e.innerText).join(" ")`, id)
}

func TestBoardFiltersRecognitionsAndFindsContributors(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.variables["RECOGNITION_TIERS"] = "1,2"
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	items := []string{`{"contributor":"bob"}`, `{"contributor":"bob"}`, `{"contributor":"bo%/"}`}
	for i := range 10 {
		items = append(items, fmt.Sprintf(`{"contributor":"ada %d"}`, i))
	}
	mustPost(t, ingest.url+"/contributions/batch", `{"contributions":[`+strings.Join(items, ",")+`]}`)
	b := openBrowser(t, query.url+"/")
	await(t, "recognitions of both tiers", patience, func() error {
		if got := evaluate[string](b, `[...document.getElementById("latest-tier").options].map(o => o.value).join(" ")`); got != " 1 2" {
			return fmt.Errorf("tiers %q", got)
		}
		return nil
	})
	evaluate[string](b, choose("latest-tier", "2"))
	b.await(people("latest"), "bob")
	evaluate[string](b, choose("latest-since", "24"))
	b.await(people("latest"), "bob")
	b.await(`document.getElementById("latest-more").checkVisibility() ? "more" : "all"`, "all")
	evaluate[string](b, choose("latest-tier", ""))
	b.await(`String(document.querySelectorAll("#latest li").length)`, "8")
	b.do(chromedp.Click(chromedp.ID("latest-more")))
	b.await(`String(document.querySelectorAll("#latest li").length)`, "13")

	b.do(chromedp.SendKeys(chromedp.ID("contributors-text"), "bo"))
	b.await(people("contributors"), "bo%/ bob")
	b.do(chromedp.SendKeys(chromedp.ID("contributors-text"), "%/"))
	b.await(people("contributors"), "bo%/")
	b.do(chromedp.SendKeys(chromedp.ID("contributors-text"), "x"))
	b.await(text("contributors-nothing"), "No contributor's id begins with bo%/x.")
	b.close()
}

func TestBoardSortsByWhatGrewMost(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	now := time.Now()
	s.commit(t, now.Add(-30*time.Hour), checkpoint.Delta{Name: "fell", Value: 9, Increments: 1}, checkpoint.Delta{Name: "grew", Value: 1, Increments: 1},
		checkpoint.Delta{Name: "stays", Value: 5, Increments: 1})
	s.commit(t, now.Add(-10*time.Hour), checkpoint.Delta{Name: "grew", Value: 7, Increments: 1}, checkpoint.Delta{Name: "stays", Value: 5, Increments: 1})
	query := s.start(t, "query")
	b := openBrowser(t, query.url+"/?sort=-change")
	b.await(rows, "grew 8, stays 10, fell 9")
	b.await(`document.querySelector("[data-order=change]").parentElement.getAttribute("aria-sort")`, "descending")
	b.do(chromedp.Click(chromedp.CSS(`[data-order=change]`)))
	b.await(rows, "fell 9, stays 10, grew 8")
	b.await("location.search", "?sort=change")
	t.Logf("first contentful paint after %.0f ms", evaluate[float64](b, `performance.getEntriesByName("first-contentful-paint")[0].startTime`))
	b.close()
}
