package board_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/accrue/accrue/query/internal/board"
)

func ask(t *testing.T, method, path string, lines ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	board.New().ServeHTTP(w, r)
	answer := w.Result()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

// parts are the addresses that the page names.
func parts(t *testing.T) []string {
	t.Helper()
	_, page := ask(t, http.MethodGet, "/")
	var all []string
	for _, found := range regexp.MustCompile(`(?:src|href)="(board/[^"]+)"`).FindAllStringSubmatch(page, -1) {
		all = append(all, "/"+found[1])
	}
	if len(all) < 5 {
		t.Fatalf("the page names the parts %v:\n%s", all, page)
	}
	return all
}

func TestPageIsRevalidatedAndItsPartsAreCached(t *testing.T) {
	t.Parallel()
	types := map[string]string{
		".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", "": "text/html; charset=utf-8",
	}
	for _, path := range append(parts(t), "/") {
		answer, body := ask(t, http.MethodGet, path)
		caching := "public, max-age=31536000, immutable"
		if path == "/" {
			caching = "no-cache"
		}
		h := answer.Header
		if answer.StatusCode != http.StatusOK || body == "" || h.Get("Cache-Control") != caching || h.Get("Content-Type") != types[filepath.Ext(path)] {
			t.Errorf("%s: %d %v, %d bytes", path, answer.StatusCode, h, len(body))
		}
		again, rest := ask(t, http.MethodGet, path, "If-None-Match: "+h.Get("ETag"))
		if again.StatusCode != http.StatusNotModified || rest != "" {
			t.Errorf("%s with its own entity tag %s: %d, %d bytes", path, h.Get("ETag"), again.StatusCode, len(rest))
		}
		if head, rest := ask(t, http.MethodHead, path); head.StatusCode != http.StatusOK || rest != "" {
			t.Errorf("HEAD %s: %d, %d bytes", path, head.StatusCode, len(rest))
		}
	}
}

func TestPageRunsAndShowsOnlyItsParts(t *testing.T) {
	t.Parallel()
	for _, path := range append(parts(t), "/") {
		answer, body := ask(t, http.MethodGet, path)
		const want = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
		if got := answer.Header.Get("Content-Security-Policy"); got != want || answer.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, answer.Header)
		}
		if path != "/" {
			continue
		}
		for what, pattern := range map[string]string{
			"a script of its own": `<script[^>]*>[^<]`, "a style of its own": `<style|\sstyle=`, "a handler": `\son[a-z]+=`,
			"another address": `(src|action|<link[^>]*href)="[a-z]*:?//`, "an absolute path": `(src|href|action)="/`, "a placeholder": `\{[a-z]+\}`,
		} {
			if found := regexp.MustCompile(pattern).FindString(body); found != "" {
				t.Errorf("the page has %s: %s", what, found)
			}
		}
	}
}

// Modules that are not preloaded load one after the other.
func TestPagePreloadsEveryModule(t *testing.T) {
	t.Parallel()
	all := parts(t)
	for _, path := range all {
		_, body := ask(t, http.MethodGet, path)
		for _, found := range regexp.MustCompile(`from '\./([a-z]+\.js)'`).FindAllStringSubmatch(body, -1) {
			if imported := filepath.Dir(path) + "/" + found[1]; !slices.Contains(all, imported) {
				t.Errorf("%s imports %s, which the page does not name: %v", path, imported, all)
			}
		}
		for _, found := range regexp.MustCompile(`url\("([^"]+)"\)`).FindAllStringSubmatch(body, -1) {
			if answer, _ := ask(t, http.MethodGet, filepath.Dir(path)+"/"+found[1]); answer.StatusCode != http.StatusOK {
				t.Errorf("%s shows %s: %d", path, found[1], answer.StatusCode)
			}
		}
	}
}

func TestPartOfAnotherReleaseIsNotCached(t *testing.T) {
	t.Parallel()
	answer, body := ask(t, http.MethodGet, "/board/0123456789abcdef/board.js")
	if answer.StatusCode != http.StatusOK || body == "" || answer.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
}

func TestUnknownPartsAreNotFound(t *testing.T) {
	t.Parallel()
	release := strings.Split(parts(t)[0], "/")[2]
	for _, path := range []string{
		"/board/" + release + "/", "/board/" + release + "/index.html", "/board/" + release + "/nothing.js", "/board/" + release,
		"/board/" + release + "/../board.go", "/board/", "/board", "/board/x/y/board.js",
	} {
		answer, body := ask(t, http.MethodGet, path)
		if answer.StatusCode != http.StatusNotFound || answer.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %.80s", path, answer.StatusCode, body)
		}
	}
}

// A part that nothing names is dead weight.
func TestPageIsSmall(t *testing.T) {
	t.Parallel()
	const bound = 120 << 10
	entries, err := os.ReadDir("page")
	if err != nil {
		t.Fatal(err)
	}
	release := strings.Split(parts(t)[0], "/")[2]
	sum := 0
	for _, entry := range entries {
		path := "/board/" + release + "/" + entry.Name()
		if entry.Name() == "index.html" {
			path = "/"
		}
		answer, body := ask(t, http.MethodGet, path, "Accept-Encoding: gzip")
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", path, answer.StatusCode)
		}
		sum += len(body)
	}
	t.Logf("%d bytes in %d parts", sum, len(entries))
	if sum > bound {
		t.Errorf("the page has %d bytes, compressed; want %d at most", sum, bound)
	}
}

// The logic of the page has tests in JavaScript.
func TestJavaScript(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is required in CI: ", err)
		}
		t.Skip("node is not installed: ", err)
	}
	tests, err := filepath.Glob("test/*.test.js")
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	output, err := exec.CommandContext(t.Context(), node, append([]string{"--test"}, tests...)...).CombinedOutput()
	if err != nil {
		t.Errorf("node --test: %v\n%s", err, output)
	}
}
