package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// systemRow is a row of what accrue bench --json prints.
type systemRow struct {
	Key    string  `json:"key"`
	What   string  `json:"what"`
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
	Unit   string  `json:"unit"`
}

// systemAim is what Accrue wants to be by itself: the median of the row with a key.
type systemAim struct {
	key  string
	want float64
	// most means that the figure must be at most want, and not at least.
	most bool
	// holds says what holds it back.
	holds string
}

const mebibyte = 1 << 20

func systemAims() []systemAim {
	const (
		cores = "Emulators, services and load share this machine's cores"
		cost  = "`accrue cost --table` has the items of the price; more increments in a request, or a longer window, lower most of them."
		heap  = "Go lets a heap grow to twice what is live before it collects; "
	)
	return []systemAim{
		{"freshness_1s_p99_seconds", 1.6, true, "A window of 1 s, a Commit and query's refresh interval add up. " + cores + ", and the slowest increments wait for one."},
		{
			"freshness_200ms_p99_seconds", 0.5, true,
			"A window of 200 ms, a Commit and query's refresh interval add up, and the emulators make some 470 Commits/s ([measured.md](measured.md#recovery-of-the-aggregator)).",
		},
		{"increments_per_write", 85, false, "A window writes each tag that changed once, so the fewer increments a tag has in a window, the fewer a write has."},
		{"cost_per_billion_100_tags", 10, true, cost},
		{"cost_per_billion_1000_tags_30s", 13, true, cost},
		{"ingest_resident_bytes", 64 * mebibyte, true, heap + "each connection, body that waits and publish under way adds its buffers."},
		{"aggregator_resident_bytes", 128 * mebibyte, true, heap + "messages that wait for their Commit, recent keys and checkpoints are live."},
		{"query_resident_bytes", 128 * mebibyte, true, heap + "the view of all tags, their histories, and the buffers of streams are live."},
		{
			"stats_gzip_per_second", 500, false,
			"A version of the totals is encoded and compressed once; what remains is net/http, and the client on the same cores. `go test ./query/internal/api -run '^$' -bench BenchmarkStatsOverHTTP -cpuprofile cpu.out && go tool pprof -top cpu.out`",
		},
		{"stats_304_per_second", 20_000, false, "A 304 is hardly more than a request and an answer of net/http, and the client that asks takes its share of the same cores. `go test ./query/internal/api -run '^$' -bench 'StatsOverHTTP/304' -cpuprofile cpu.out && go tool pprof -top cpu.out`"},
		{"streams_cores", 0.25, true, "A change is encoded once, and written to each stream by itself: a timer, a wakeup and a system call for each, whatever its size."},
		{"ingest_cpu_ratio", 1.3, true, "A post waits for a publish, which costs parking, waking and smaller bursts of answers, and each publish is a request of gRPC. " + profileSingle},
		{"words_seconds", 15, true, "Most words are rare, so a write counts few increments, and their documents wait for the Firestore emulator ([measured.md](measured.md#real-input-make-words))."},
		{"increments_counted_per_second", 2e6, false, cores + ": each message passes the Pub/Sub emulator, which copies the set of all that wait for each Pull, and decoding is most of ingest. " + profileBatch},
	}
}

var errTwice = errors.New("two rows have the same key")

// readSystem reads the file of --system. It returns nil without one.
func (s settings) readSystem() ([]systemRow, error) {
	if s.system == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.system)
	if err != nil {
		return nil, fmt.Errorf("read what accrue bench printed: %w", err)
	}
	rows := []systemRow{}
	if err := json.Unmarshal(text, &rows); err != nil {
		return nil, fmt.Errorf("read what accrue bench printed: %s: %w", s.system, err)
	}
	keys := make(map[string]bool)
	for _, row := range rows {
		if row.Key != "" && keys[row.Key] {
			return nil, fmt.Errorf("read what accrue bench printed: %s: %w: %s", s.system, errTwice, row.Key)
		}
		keys[row.Key] = true
	}
	return rows, nil
}

// judgeSystem compares rows with their aims, in the order of the aims.
func judgeSystem(rows []systemRow) []judged {
	var lines []judged
	for _, a := range systemAims() {
		at := slices.IndexFunc(rows, func(row systemRow) bool { return row.Key == a.key })
		if at < 0 {
			continue
		}
		row := rows[at]
		met := row.Median >= a.want
		if a.most {
			met = row.Median <= a.want
		}
		text := row.show(row.Median)
		if span := row.span(); span != "" {
			text += " (" + span + ")"
		}
		lines = append(lines, judged{
			what: row.What, aim: sign(a.most) + " " + row.show(a.want), figure: text, met: met, holds: a.holds,
		})
	}
	return lines
}

// ofSystem says where the rows of accrue bench in the table of aims are from.
func (r *report) ofSystem() string {
	if r.system == nil {
		return ""
	}
	return " The last rows are of `accrue bench`\non the same machine: the three services as processes on the emulators."
}

// alone writes the rows of accrue bench that have no aim.
func (r *report) alone(w func(string, ...any)) {
	rows := slices.DeleteFunc(slices.Clone(r.system), func(row systemRow) bool {
		return slices.ContainsFunc(systemAims(), func(a systemAim) bool { return a.key == row.Key })
	})
	if len(rows) == 0 {
		return
	}
	w("\n## Accrue by itself\n\nWhat else `accrue bench` measures, on the emulators.\n\n| what | median | least to most |\n|---|---|---|\n")
	for _, row := range rows {
		w("| %s | %s | %s |\n", row.What, row.show(row.Median), row.span())
	}
}

// span is from the least to the most, empty if it was measured once.
func (s systemRow) span() string {
	if s.Least == s.Most {
		return ""
	}
	return s.show(s.Least) + " to " + s.show(s.Most)
}

// show writes a figure with its unit: bytes in MiB, and short times in milliseconds.
func (s systemRow) show(n float64) string {
	switch {
	case s.Unit == "bytes" || strings.HasSuffix(s.Key, "_bytes"):
		return figure(n/mebibyte) + " MiB"
	case s.Unit == "s" && n < 0.1:
		return figure(n*1000) + " ms"
	case s.Unit == "$":
		return "$" + figure(n)
	case s.Unit == "" || strings.HasPrefix(s.Unit, "/"):
		return figure(n) + s.Unit
	default:
		return figure(n) + " " + s.Unit
	}
}

// figure writes a number with three digits, or more before the point.
func figure(n float64) string {
	if n >= 999.5 {
		return thousands(n)
	}
	return strconv.FormatFloat(n, 'g', 3, 64)
}
