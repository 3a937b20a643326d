package e2e_test

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Every word of Go's source code is posted as an increment of 1 by accrue load. Then /stats equals what sort and uniq count.
// By default the test counts the 200,000 words of net/http. `make words` sets WORDS to the whole standard library, 7 million words.
func TestCountsEveryWordOfGo(t *testing.T) {
	// Not parallel: it uses all cores.
	folder := cmp.Or(os.Getenv("WORDS"), filepath.Join(goroot(t), "src", "net", "http"))
	s := newSystem(t)
	aggregator, ingest, query := s.start(t, "aggregator"), s.start(t, "ingest"), s.start(t, "query")

	started := time.Now()
	load := exec.Command(filepath.Join(binaries, "accrue"), "load", "--ingest", ingest.url, "--query", query.url,
		"--batch", "1000", "--connections", "16", "--probe", "0", "--words", folder+"/**/*.go")
	output, err := load.CombinedOutput()
	t.Logf("load, after %v:\n%s", time.Since(started).Round(time.Millisecond), output)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	want := countWords(t, folder)
	got, err := stats(query)
	if err != nil {
		t.Fatal(err)
	}
	if err := difference(got, want); err != nil {
		t.Errorf("/stats differs from sort | uniq -c: %v", err)
	}
	s.audit(t)
	aggregator.stop()
	log := strings.Split(aggregator.logged(), "\n")
	t.Logf("%d tags; the aggregator's last line: %s", len(want), log[len(log)-1])
}

func goroot(t *testing.T) string {
	t.Helper()
	output, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(output))
}

// countWords counts the words of all Go files in a folder with sort and uniq.
func countWords(t *testing.T, folder string) map[string]int64 {
	t.Helper()
	count := exec.Command("bash", "-c",
		`find -L "$0" -name '*.go' -type f -print0 | xargs -0 cat | LC_ALL=C tr -c 'a-z_' '\n' | LC_ALL=C grep -Ex '[a-z_]{3,15}' | LC_ALL=C sort | uniq -c`, folder)
	output, err := count.Output()
	if err != nil {
		t.Fatalf("count with sort and uniq: %v", err)
	}
	words := map[string]int64{}
	for line := range bytes.Lines(output) {
		var word string
		var n int64
		if _, err := fmt.Sscan(string(line), &n, &word); err != nil {
			t.Fatalf("parse %s of uniq: %v", strconv.Quote(string(line)), err)
		}
		words[word] = n
	}
	return words
}
