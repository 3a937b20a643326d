package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/store/firestore"
)

// countQueries calls run and returns how many documents Firestore queries returned meanwhile.
func countQueries(queries *atomic.Int64, run func()) int64 {
	before := queries.Load()
	run()
	return queries.Load() - before
}

// Requests for /stats read nothing from Firestore: query reads no more documents than its refreshes do.
// MEASURE=1 also compares the latency of GET /stats with that of reading the tags' documents, for docs/measured.md.
func TestStatsRequestsReadNoDocuments(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var queries atomic.Int64
	s.firestore = startProxy(t, s.firestore, func(method string, _, reply []byte) ([]byte, error) {
		if strings.HasSuffix(method, "/RunQuery") {
			queries.Add(1)
		}
		return reply, nil
	}).host
	aggregator, ingest, query := s.start(t, "aggregator"), s.start(t, "ingest"), s.start(t, "query")
	want := make(map[string]int64)
	var items []string
	for i := range 1000 {
		name := fmt.Sprintf("tag_%c%c%c", 'a'+i/100, 'a'+i/10%10, 'a'+i%10)
		want[name] = 4
		items = append(items, fmt.Sprintf(`{"name":%q,"value":4}`, name))
	}
	mustPost(t, ingest.url+"/increments/batch", `{"increments":[`+strings.Join(items, ",")+`]}`)
	awaitStats(t, query, want, 20*time.Second)

	const watch = 3 * time.Second
	getStats := func(etag string) (response, error) {
		request, err := http.NewRequest(http.MethodGet, query.url+"/stats", http.NoBody)
		if err != nil {
			return response{}, err
		}
		request.Header.Set("If-None-Match", etag)
		return do(request)
	}
	gets, began := 0, time.Now()
	read := countQueries(&queries, func() {
		for end := time.Now().Add(watch); time.Now().Before(end); gets++ {
			if _, err := getStats(""); err != nil {
				t.Fatal(err)
			}
		}
	})
	elapsed := time.Since(began)
	// A view is read every 500 ms at most: 16 checkpoints and the layouts, however many requests there are.
	most := 17 * (int64(elapsed/(500*time.Millisecond)) + 2)
	t.Logf("%d documents read in %v, during %d GETs", read, elapsed, gets)
	if gets < 20 || read > most {
		t.Errorf("%d documents read during %d GETs in %v, want at most %d", read, gets, elapsed, most)
	}
	if os.Getenv("MEASURE") == "" {
		return
	}
	aggregator.stop()
	documents, err := firestore.Connect(t.Context(), s.project, "(default)", s.store)
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close() //nolint:errcheck // read only
	first, err := getStats("")
	if err != nil {
		t.Fatal(err)
	}
	took := make(map[string][]time.Duration)
	measure := func(what string, run func() error) {
		began := time.Now()
		if err := run(); err != nil {
			t.Fatal(err)
		}
		took[what] = append(took[what], time.Since(began))
	}
	for range 60 {
		measure("the documents", func() error { _, err := documents.Tags(t.Context()); return err })
		measure("GET /stats", func() error { _, err := getStats(""); return err })
		measure("GET /stats, 304", func() error { _, err := getStats(first.header.Get("ETag")); return err })
	}
	for what, all := range took {
		slices.Sort(all)
		t.Logf("%s: median %v", what, all[len(all)/2])
	}
}
