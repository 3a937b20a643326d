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
	"github.com/chromedp/chromedp"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
)

// TestWriteBoardImages writes the screenshots in docs/images, of a system with a week of history under load. It is skipped
// unless BOARD_IMAGES is set: BOARD_IMAGES=../docs/images go test -run TestWriteBoardImages . The page uses the font Inter if
// it is installed (Debian: fonts-inter).
func TestWriteBoardImages(t *testing.T) {
	folder := os.Getenv("BOARD_IMAGES")
	if folder == "" {
		t.Skip("BOARD_IMAGES is not set")
	}
	s := newSystem(t)
	s.variables["PARTITIONS"] = "1"
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

	b := openBrowser(t, query.url+"/")
	b.await(`String(document.querySelectorAll("#pulse .line[d*=L]").length)`, "1")
	time.Sleep(45 * time.Second) // the chart of the rate fills
	for name, screen := range map[string]screen{"desktop": desktop, "phone": phone} {
		for _, scheme := range []string{"light", "dark"} {
			b.show(screen)
			call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			time.Sleep(3 * time.Second) // the charts of new rows load
			b.save(filepath.Join(folder, fmt.Sprintf("board-%s-%s.png", name, scheme)))
		}
	}
	b.show(desktop)
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}},
	})
	b.do(chromedp.Click(chromedp.CSS(`#body .row:nth-child(3) a`)))
	b.await(`String(document.querySelectorAll("#tag-chart .bars[d^=M]").length > 0)`, "true")
	time.Sleep(2 * time.Second)
	b.save(filepath.Join(folder, "board-tag-light.png"))
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

// backfill writes the Commits of a week to the store.
func (s *system) backfill(t *testing.T, shop *shop) {
	t.Helper()
	documents, err := firestore.Connect(t.Context(), s.project, "(default)", s.store)
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close() //nolint:errcheck // written
	var state store.State
	now := time.Now()
	for at := now.AddDate(0, 0, -7).Truncate(time.Hour); at.Before(now); {
		step := time.Minute
		if now.Sub(at) > 4*time.Hour {
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
