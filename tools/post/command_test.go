package post

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/tools/cli"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPost(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		arguments, stdin string
		code             int
		stdout           string
		stderr           string
		totals           map[string]int64
	}{
		"arguments":       {"foo=4 ballz foo", "", 0, "counted 3 (sum 6)\n", "", map[string]int64{"foo": 5, "ballz": 1}},
		"contributor":     {"--contributor ada foo", "", 0, "counted 1 (sum 1)\n", "", map[string]int64{"foo": 1, "ada": 1}},
		"words":           {"--words", "the cat\nsat on the mat", 0, "counted 5 (sum 5)\n", "", map[string]int64{"the": 2, "cat": 1, "sat": 1, "mat": 1}},
		"NDJSON":          {"", `{"name":"foo","value":4,"contributor":"ada","id":"a"}` + "\n\n" + `{"name":"foo"}` + "\n" + `{"contributor":"ada"}`, 0, "counted 3 (sum 5)\n", "", map[string]int64{"foo": 5, "ada": 2}},
		"JSON":            {"--json foo=4", "", 0, "{\n  \"counted\": 1,\n  \"failed\": 0,\n  \"sum\": 4\n}\n", "", map[string]int64{"foo": 4}},
		"a wrong line":    {"", `{"name":"foo"}` + "\n{", 1, "counted 1 (sum 1)\n", "line 2", map[string]int64{"foo": 1}},
		"unknown member":  {"", `{"name":"foo","count":4}`, 1, "counted 0 (sum 0)\n", `line 1: json: unknown field "count"`, map[string]int64{}},
		"a wrong name":    {"fo", "", 1, "counted 0 (sum 0)\n", "name must be", map[string]int64{}},
		"a wrong value":   {"foo ballz=10", "", 2, "", "ballz", map[string]int64{}},
		"nothing":         {"", "", 0, "counted 0 (sum 0)\n", "", map[string]int64{}},
		"too long a line": {"", strings.Repeat(" ", maxLine+1), 1, "counted 0 (sum 0)\n", "line 1: ", map[string]int64{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			totals, server := ingest(t)
			var stdout, stderr bytes.Buffer
			command := Command()
			command.SetIn(strings.NewReader(tc.stdin))
			code := cli.Execute(t.Context(), command, append([]string{"--url", server}, strings.Fields(tc.arguments)...), &stdout, &stderr)
			if code != tc.code || stdout.String() != tc.stdout || !strings.Contains(stderr.String(), tc.stderr) || (tc.stderr == "") != (stderr.Len() == 0) {
				t.Errorf("exit code %d, printed %q and %q, want %d, %q and %q", code, &stdout, &stderr, tc.code, tc.stdout, tc.stderr)
			}
			if !maps.Equal(totals, tc.totals) {
				t.Errorf("counted %v, want %v", totals, tc.totals)
			}
		})
	}
}

// ingest returns the totals and the address of a server that counts what it is posted.
func ingest(t *testing.T) (map[string]int64, string) {
	t.Helper()
	totals := map[string]int64{}
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var lists map[string][]struct {
			Name        string
			Value       int64
			Contributor string
		}
		if err := json.NewDecoder(r.Body).Decode(&lists); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, items := range lists {
			for _, item := range items {
				if item.Name != "" {
					totals[item.Name] += item.Value
				}
				if item.Contributor != "" {
					totals[item.Contributor]++
				}
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"accepted":1}`)
	}))
	t.Cleanup(server.Close)
	return totals, server.URL
}
