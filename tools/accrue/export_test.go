//go:build unix

package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// printed runs the command to its end and returns what it prints.
func printed(t *testing.T, stdin string, arguments ...string) string {
	t.Helper()
	cmd := accrueCommand(t, arguments...)
	cmd.Stdin = strings.NewReader(stdin)
	var failed strings.Builder
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("accrue %s: %v: %s", strings.Join(arguments, " "), err, failed.String())
	}
	return string(out)
}

func TestExportWritesEverything(t *testing.T) {
	t.Parallel()
	const tags = 2100 // three pages
	p := startRun(t, t.TempDir(), nil)
	address := p.serving(t)
	want := make(map[string]string)
	var input strings.Builder
	for i := range tags {
		name := fmt.Sprintf("tag_%s", letters("", i))
		want[name] = strconv.Itoa(i%9 + 1)
		fmt.Fprintf(&input, `{"name":%q,"value":%d,"contributor":"contributor, \"%d\""}`+"\n", name, i%9+1, i)
	}
	printed(t, input.String(), "post", "--url", address)
	var rows [][]string
	for patience := time.Now().Add(30 * time.Second); len(rows) <= tags && time.Now().Before(patience); time.Sleep(50 * time.Millisecond) {
		rows = parse(t, printed(t, "", "export", "totals", "--url", address))
	}
	totals := make(map[string]string)
	for _, row := range rows[1:] {
		totals[row[0]] = row[1]
	}
	if !slices.Equal(rows[0], []string{"name", "total", "increments", "updated_at"}) || fmt.Sprint(totals) != fmt.Sprint(want) {
		t.Errorf("exported %d totals under %q, want %d", len(totals), rows[0], len(want))
	}
	if rows = parse(t, printed(t, "", "export", "contributors", "--url", address)); len(rows) != tags+1 || !strings.HasPrefix(rows[1][0], `contributor, "`) || rows[1][1] != "1" {
		t.Errorf("exported %d contributors: %q", len(rows)-1, rows[1])
	}
	for _, resolution := range []string{"hour", "minute"} {
		rows = parse(t, printed(t, "", "export", "history", "--resolution", resolution, "--tag", "tag__aab", "--tag", "tag__aac", "--url", address))
		if len(rows) != 3 || rows[1][0] != "tag__aab" || rows[1][1] != resolution || rows[1][3] != "2" || rows[2][3] != "3" {
			t.Errorf("exported the history %q", rows)
		}
	}
	var one struct {
		Name  string
		Total int
	}
	lines := strings.Split(strings.TrimSpace(printed(t, "", "export", "totals", "--format", "ndjson", "--url", address)), "\n")
	if err := json.Unmarshal([]byte(lines[1]), &one); err != nil || len(lines) != tags || one.Name != "tag__aab" || one.Total != 2 {
		t.Errorf("%d lines, the second %s: %v", len(lines), lines[1], err)
	}
	p.stop(t)
}

func parse(t *testing.T, text string) [][]string {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}
