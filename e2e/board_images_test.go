package e2e_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
)

// TestWriteBoardImages writes the screenshots in docs/images, of a system with a month of history under load. It is skipped
// unless BOARD_IMAGES is set: BOARD_IMAGES=../docs/images go test -run TestWriteBoardImages . The page uses the font Inter if
// it is installed (Debian: fonts-inter).
func TestWriteBoardImages(t *testing.T) {
	folder := os.Getenv("BOARD_IMAGES")
	if folder == "" {
		t.Skip("BOARD_IMAGES is not set")
	}
	s := newSystem(t)
	s.variables["PARTITIONS"] = "1"
	s.variables["RECOGNITION_TIERS"] = "3,10,50,200"
	shop := newShop()
	s.backfill(t, shop)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	posting, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- shop.post(posting, ingest.url+"/increments/batch") }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	b := openBrowser(t, query.url+"/?range=24h")
	drawn := func(id string) {
		t.Helper()
		b.await(fmt.Sprintf(`String(document.querySelectorAll("#%s :is(.bars, .line)[d^=M]").length > 0)`, id), "true")
	}
	drawn("all-chart")
	time.Sleep(45 * time.Second) // rates settle, and contributors are recognized
	for _, view := range []struct{ name, hash, chart string }{
		{"board", "#tags", "all-chart"}, {"board-tag", "#tag/checkout?range=24h", "tag-chart"}, {"board-person", "#person/ada", "all-chart"},
		{"board-people", "#people", "all-chart"},
	} {
		for name, screen := range map[string]screen{"desktop": desktop, "phone": phone} {
			if view.name == "board-people" && name == "desktop" {
				continue // they are beside the tags
			}
			for _, scheme := range []string{"light", "dark"} {
				b.show(screen)
				call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
				})
				b.do(chromedp.Navigate(query.url + "/?range=24h" + view.hash))
				drawn(view.chart)
				evaluate[any](b, `scrollTo(0, location.hash === "#people" ? document.getElementById("columns").offsetTop : 0)`)
				time.Sleep(12 * time.Second) // the rows' charts load, and the rate of increments settles
				if view.chart == "tag-chart" && name == "desktop" {
					at := evaluate[[]float64](b, `(r => [r.left + r.width * 0.55, r.top + r.height / 2])(document.getElementById("tag-chart").getBoundingClientRect())`)
					call(b, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: input.DispatchMouseEventTypeMouseMoved, X: at[0], Y: at[1]})
				}
				b.save(filepath.Join(folder, fmt.Sprintf("%s-%s-%s.png", view.name, name, scheme)))
			}
		}
	}
	b.close()
}

// save writes a screenshot.
func (b *browser) save(path string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	image, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(path, image, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// shop simulates an online shop with more traffic by day than by night.
type shop struct {
	random       *rand.Rand
	tags         []string
	contributors []string
}

func newShop() *shop {
	return &shop{
		random: rand.New(rand.NewPCG(1, 2)),
		tags: strings.Fields("page_view search add_to_cart sign_in checkout play_start share like email_opened follow comment download " +
			"push_opened coupon_used sign_up review_posted gift_bought refund help_opened chat_started tour_finished form_saved " +
			"invite seat_added plan_upgraded export_csv job_retried login_failed plan_cancelled build_green"),
		contributors: strings.Fields("ada grace linus barbara katherine margaret alan edsger donald frances hedy radia"),
	}
}

// perSecond returns the increase per second of the tag with the given rank.
func (s *shop) perSecond(rank int, at time.Time) float64 {
	hours := float64(at.Unix()) / 3600
	phase := float64(rank*rank) * 0.7
	day := 1 + 0.55*math.Sin(2*math.Pi*(hours-9)/24)
	wave := 1 + 0.35*math.Sin(hours*6.1+phase) + 0.2*math.Sin(hours*17+2*phase)
	return 620 / math.Pow(float64(rank+1), 1.05) * max(0.05, day*wave)
}

// backfill writes the Commits of a month to the store.
func (s *system) backfill(t *testing.T, shop *shop) {
	t.Helper()
	documents, err := firestore.Connect(t.Context(), s.project, "(default)", s.store)
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close() //nolint:errcheck // written
	var state store.State
	now := time.Now()
	for at := now.AddDate(0, 0, -29).Truncate(time.Hour); at.Before(now); {
		step := time.Minute
		if now.Sub(at) > 25*time.Hour {
			step = time.Hour
		}
		var deltas []checkpoint.Delta
		for rank, tag := range shop.tags {
			value := shop.perSecond(rank, at) * step.Seconds() * (1 + 0.12*shop.random.NormFloat64())
			deltas = append(deltas, checkpoint.Delta{Name: tag, Value: int64(max(1, value)), Increments: int64(max(1, value/5))})
		}
		slices.SortFunc(deltas, func(a, b checkpoint.Delta) int { return strings.Compare(a.Name, b.Name) })
		next := state.Checkpoint.Next(at.Add(time.Second), 8*24*time.Hour, nil, deltas)
		revision, err := documents.Commit(t.Context(), store.Commit{
			Revision: state.Revision, Next: next, Tags: deltas, Closed: state.Checkpoint.Closed(&next),
		})
		if err != nil {
			t.Fatal(err)
		}
		state = store.State{Checkpoint: next, Revision: revision}
		at = at.Add(step)
	}
}

// post posts the shop's increments until ctx ends.
func (s *shop) post(ctx context.Context, url string) error {
	const every = 100 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			var items []string
			for rank, tag := range s.tags {
				n := s.perSecond(rank, now) * every.Seconds() / 5
				for range int(n + s.random.Float64()) {
					items = append(items, fmt.Sprintf(`{"name":%q,"value":%d}`, tag, 1+s.random.IntN(9)))
				}
			}
			contributor := s.contributors[int(float64(len(s.contributors))*math.Pow(s.random.Float64(), 2))]
			items = append(items, fmt.Sprintf(`{"name":"checkout","value":1,"contributor":%q}`, contributor))
			if r, err := post(url, `{"increments":[`+strings.Join(items, ",")+`]}`); err != nil || r.status != 202 {
				return fmt.Errorf("post: %d %s %w", r.status, r.body, err)
			}
		}
	}
}
