package compare

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// turns returns turns with some rates.
func turns(rates ...float64) []turn {
	all := make([]turn, len(rates))
	for i, rate := range rates {
		all[i] = turn{rate: rate, p50: 2 * time.Millisecond, p99: 9 * time.Millisecond, cpu: []float64{12}}
	}
	return all
}

func exampleReport() *report {
	part := []*part{{name: "app"}}
	subjects := []*subject{
		{name: "Accrue", class: fsync, accrue: true, parts: part},
		{name: "Accrue, keys", class: fsync, accrue: true, keys: true, parts: part},
		{name: "fast", class: killed, why: "it waits for nothing", parts: part},
		{name: "slow, keys", class: fsync, keys: true, parts: part},
		{name: "single", class: fsync, singles: true, parts: part},
	}
	r := &report{subjects: subjects, machine: &machine{}, losses: map[*subject]loss{
		subjects[1]: {posts: 10, accepted: 1000, counted: 1000},
		subjects[2]: {posts: 10, accepted: 1000, counted: 2234},
		subjects[3]: {posts: 10, accepted: 1000, counted: 990},
	}}
	for range shapes() {
		r.results = append(r.results, [][]turn{turns(100, 200, 300), turns(100, 100, 100), turns(150, 260, 600), turns(50, 60, 40), nil})
	}
	r.results[0][4], r.results[1][4] = turns(10, 10, 10), turns(10, 10, 10)
	return r
}

func TestPageComparesWithAccrueOfTheSameKind(t *testing.T) {
	t.Parallel()
	page := exampleReport().page()
	for _, want := range []string{
		"| Accrue | D2 |  | 200 (100 to 300) | 1 | 2.0, 9.0 | 12 |",
		"| fast | D1 |  | 260 (150 to 600) | 1.50 (1.30 to 2.00) |", // round by round
		"| slow, keys | D2 | yes | 50 (40 to 60) | 0.50 (0.40 to 0.60) |",
		"- Single posts, 128 connections: **fast** is 1.50 times as fast: it waits for nothing.",
		"| 1,000 | 1,000 | **exact** |", "| 1,000 | 2,234 | +1,234 |", "| 1,000 | 990 | -10 |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "**slow, keys**") {
		t.Error("the slow subject is listed as faster")
	}
	if got := strings.Count(page, "| single |"); got != 3 { // in the list of subjects, and in two shapes
		t.Errorf("the subject without batches has %d rows, want 3", got)
	}
}

// The aims are computed round by round from what has run, and what is not met says what holds it back.
func TestAimsAreComputed(t *testing.T) {
	t.Parallel()
	part := []*part{{name: "app"}}
	r := &report{machine: &machine{}, subjects: []*subject{
		{name: nameMemory, class: memory, accrue: true, parts: part}, {name: nameNothing, class: none, nothing: true, parts: part},
		{name: nameKeys, class: fsync, accrue: true, keys: true, parts: part}, {name: nameNATS, class: fsync, keys: true, parts: part},
	}}
	for range shapes() {
		r.results = append(r.results, [][]turn{turns(90, 80, 100), turns(100, 100, 100), turns(40, 50, 60), turns(10, 10, 10)})
	}
	page := r.page()
	for _, want := range []string{
		"| single posts, in memory / no-op | ≥ 0.80 | 0.90 (0.80 to 1.00) | met |",
		"| single posts, exact, D2 / Gin and NATS SyncAlways, exact | ≥ 6.0 | 5.0 (4.0 to 6.0) | **not met** |",
		"| batches of 1,000: increments/s accepted, in memory | ≥ 2,500,000 | 90 (80 to 100) | **not met** |",
		"| CPU of a single post, exact, D2 / the least of any rival | ≤ 1.00 | 1.00 (1.00 to 1.00) | met |",
		"- single posts, exact, D2 / Gin and NATS SyncAlways, exact: ",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q:\n%s", want, page)
		}
	}
	for _, not := range []string{"PostgreSQL, exact |", "- single posts, in memory / no-op: "} {
		if strings.Contains(page, not) {
			t.Errorf("the page has %q:\n%s", not, page)
		}
	}
}

func TestSettleWaitsForTheTotal(t *testing.T) {
	t.Parallel()
	var reads atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		total := `{"foo":1,"bar":2}`
		if reads.Add(1) > 2 {
			total = `{"foo":5,"bar":2}`
		}
		_, _ = w.Write([]byte(total))
	}))
	defer server.Close()
	s := &subject{address: strings.TrimPrefix(server.URL, "http://")}
	if got, err := settle(t.Context(), s, 7); got != 7 || err != nil {
		t.Errorf("settle() = %d, %v, want 7", got, err)
	}
	if got := reads.Load(); got != 3 {
		t.Errorf("settle() read totals %d times, want 3: it ends when the total is right", got)
	}
	if testing.Short() {
		return
	}
	if got, err := settle(t.Context(), s, 8); got != 7 || err != nil {
		t.Errorf("settle() = %d, %v, want 7, which stays", got, err)
	}
}
