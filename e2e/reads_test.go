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

// countQueries runs what is given and returns how many documents queries of Firestore returned meanwhile.
func countQueries(queries *atomic.Int64, run func()) int64 {
	before := queries.Load()
	run()
	return queries.Load() - before
}

// Reading costs the store what the refreshes cost, whoever reads: as many documents are read while /stats is asked for
// as fast as it answers as while nobody asks. MEASURE=1 also measures GET /stats and its 304 against reading the tags'
// documents for a request, in turns: docs/measured.md.
func TestReadingCostsTheStoreNothing(t *testing.T) {
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
	ask := func(etag string) (response, error) {
		request, err := http.NewRequest(http.MethodGet, query.url+"/stats", http.NoBody)
		if err != nil {
			return response{}, err
		}
		request.Header.Set("If-None-Match", etag)
		return do(request)
	}
	quiet := countQueries(&queries, func() { time.Sleep(watch) }) //nolint:forbidigo // nobody asks
	gets := 0
	busy := countQueries(&queries, func() {
		for end := time.Now().Add(watch); time.Now().Before(end); gets++ {
			if _, err := ask(""); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Logf("%d documents read in %v while nobody asks, %d during %d GETs", quiet, watch, busy, gets)
	if gets < 100 || busy > quiet+40 { // two reads more of sixteen checkpoints; a read for each GET would be thousands
		t.Errorf("%d documents were read during %d GETs, %d without any", busy, gets, quiet)
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
	first, err := ask("")
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
		measure("GET /stats", func() error { _, err := ask(""); return err })
		measure("GET /stats, 304", func() error { _, err := ask(first.header.Get("ETag")); return err })
	}
	for what, all := range took {
		slices.Sort(all)
		t.Logf("%s: median %v", what, all[len(all)/2])
	}
}
