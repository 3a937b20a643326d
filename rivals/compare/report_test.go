package compare

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

// Subjects on the emulators are compared with Accrue on them, in a section of their own.
func TestEmulatorsHaveASection(t *testing.T) {
	t.Parallel()
	part := []*part{{name: "app"}}
	missing := errors.New("emulator not found: java")
	for name, tc := range map[string]struct {
		emulation *emulation
		want, not []string
	}{
		"ran": {
			&emulation{subjects: []*subject{
				{name: nameEmulated, class: emulated, accrue: true, parts: part, how: "in one process"}, {name: "documents", class: emulated, parts: part},
			}, turns: [][]turn{turns(1000, 2000, 3000), turns(100, 100, 600)}},
			[]string{
				"## On the emulators\n\nSingle posts, 128 connections, on", "| Accrue on the emulators | D0 (emulator) |  | in one process |",
				"| Accrue on the emulators | D0 (emulator) |  | 2,000 (1,000 to 3,000) | 1 |",
				"| documents | D0 (emulator) |  | 100 (100 to 600) | 0.10 (0.05 to 0.20) |",
			},
			[]string{"Left out"},
		},
		"missing":       {&emulation{missing: missing}, []string{"**Left out:** emulator not found: java.\n"}, []string{"documents"}},
		"not asked for": {nil, nil, []string{"## On the emulators"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := exampleReport()
			r.emulation = tc.emulation
			page := r.page()
			for _, want := range append(tc.want, "| slow, keys | D2 | yes | 50 (40 to 60) | 0.50 (0.40 to 0.60) |") {
				if !strings.Contains(page, want) {
					t.Errorf("the page has no %q:\n%s", want, page)
				}
			}
			for _, not := range tc.not {
				if strings.Contains(page, not) {
					t.Errorf("the page has %q:\n%s", not, page)
				}
			}
		})
	}
}

// system writes a file of rows and reads it as --system does.
func system(t *testing.T, text string) ([]systemRow, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bench.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return settings{system: path}.readSystem()
}

// What accrue bench prints is compared with its aims, after those of the rivals, and what has no aim is listed.
func TestSystemIsComparedWithItsAims(t *testing.T) {
	t.Parallel()
	r := exampleReport()
	var err error
	if r.system, err = system(t, `[
		{"key":"increments_per_write","what":"increments per write","median":85,"least":80,"most":90.04,"unit":"","more":[1]},
		{"key":"ingest_resident_bytes","what":"ingest, resident","median":67108864,"least":1048576,"most":70000000,"unit":"bytes"},
		{"key":"query_resident_bytes","what":"query, resident","median":140000000,"least":130000000,"most":150000000,"unit":"bytes"},
		{"key":"freshness_200ms_p99_seconds","what":"freshness at 200 ms, p99","median":0.612,"least":0.5,"most":1.25,"unit":"s"},
		{"key":"freshness_1s_p99_seconds","what":"freshness at 1 s, p99","median":1.2,"least":1.1,"most":1.3,"unit":"s"},
		{"key":"increments_counted_per_second","what":"counted","median":1999999,"least":1500000,"most":2100000,"unit":"/s"},
		{"key":"other_bytes","what":"another","median":3145728,"least":2097152,"most":1572864000},
		{"key":"cost_per_billion_100_tags","what":"a billion, 100 tags","median":9.172,"least":9.172,"most":9.172,"unit":"$"},
		{"key":"streams_cores","what":"CPU of query","median":0.3,"least":0.3,"most":0.3,"unit":"cores"},
		{"key":"single_post_p99_seconds","what":"a post","median":0.0177,"least":0.0138,"most":0.2,"unit":"s"},
		{"what":"without a key","median":22591.4,"least":0.25,"most":26720}
	]`); err != nil {
		t.Fatal(err)
	}
	page := r.page()
	for _, want := range []string{
		"`make bench`",
		"| increments per write | ≥ 85 | 85 (80 to 90) | met |", "| ingest, resident | ≤ 64 MiB | 64 MiB (1 MiB to 66.8 MiB) | met |",
		"| query, resident | ≤ 128 MiB | 134 MiB (124 MiB to 143 MiB) | **not met** |", "| freshness at 1 s, p99 | ≤ 1.6 s | 1.2 s (1.1 s to 1.3 s) | met |",
		"| freshness at 200 ms, p99 | ≤ 0.5 s | 0.612 s (0.5 s to 1.25 s) | **not met** |",
		"| counted | ≥ 2,000,000/s | 1,999,999/s (1,500,000/s to 2,100,000/s) | **not met** |",
		"| a billion, 100 tags | ≤ $10 | $9.17 | met |", "| CPU of query | ≤ 0.25 cores | 0.3 cores | **not met** |", "| a post | 17.7 ms | 13.8 ms to 0.2 s |",
		"- freshness at 200 ms, p99: A window of 200 ms, ", "- query, resident: ", "- counted: ",
		"## Accrue by itself\n", "| another | 3 MiB | 2 MiB to 1,500 MiB |", "| without a key | 22,591 | 0.25 to 26,720 |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q:\n%s", want, page)
		}
	}
	for _, not := range []string{"| increments per write | 85", "- freshness at 1 s, p99: ", "1000 tags", "make bench-rivals"} {
		if strings.Contains(page, not) {
			t.Errorf("the page has %q:\n%s", not, page)
		}
	}
	own, of := strings.Index(page, "batches of 1,000, D2 / the fastest"), strings.Index(page, "freshness at 1 s")
	if own < 0 || of < own {
		t.Errorf("the rows of the system are not after the page's own:\n%s", page)
	}
	// Without --system nothing of it is there.
	r.system = nil
	page = r.page()
	for _, not := range []string{"Accrue by itself", "accrue bench", "`make bench`"} {
		if strings.Contains(page, not) {
			t.Errorf("without --system the page has %q", not)
		}
	}
}

func TestSystemAimsSayWhatHoldsThemBack(t *testing.T) {
	t.Parallel()
	keys := make(map[string]bool)
	for _, a := range systemAims() {
		if keys[a.key] || a.want <= 0 || a.holds == "" {
			t.Errorf("the aim of %s is there twice, or not whole", a.key)
		}
		keys[a.key] = true
	}
	if len(keys) != 14 {
		t.Errorf("%d aims, want 14", len(keys))
	}
}

func TestSystemMustBeAListOfRows(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing": "", "an object": `{"what":"foo"}`, "a text for a figure": `[{"median":"1"}]`, "a key twice": `[{"key":"a"},{"key":"a"}]`,
	} {
		if rows, err := system(t, text); err == nil {
			t.Errorf("%s: read %v", name, rows)
		}
	}
	if rows, err := system(t, `[{"what":"foo"},{"what":"bar"}]`); err != nil || len(rows) != 2 {
		t.Errorf("rows without keys: %v, %v", rows, err)
	}
	if rows, err := (settings{system: filepath.Join(t.TempDir(), "none")}).readSystem(); err == nil {
		t.Errorf("a missing file: read %v", rows)
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
