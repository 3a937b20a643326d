package content_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/accrue/accrue/pkg/content"
)

func stream(method string, write func(io.Writer), lines ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", http.NoBody)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "text/csv")
	content.Stream(w, r, write)
	return w
}

func TestAStreamHasTheSameRulesAsABody(t *testing.T) {
	t.Parallel()
	line := []byte(strings.Repeat("counts ", 100) + "\n")
	write := func(w io.Writer) {
		for range 1000 {
			if n, err := w.Write(line); err != nil {
				t.Errorf("Write() = %d, %v", n, err)
			}
		}
	}
	want := strings.Repeat(string(line), 1000)
	plain := stream(http.MethodGet, write)
	etag := plain.Header().Get("ETag")
	if plain.Code != http.StatusOK || plain.Body.String() != want || etag != content.Tag([]byte(want)) || plain.Header().Get("Vary") != "Accept-Encoding" {
		t.Errorf("%d, %d bytes, %v", plain.Code, plain.Body.Len(), plain.Header())
	}
	zipped := stream(http.MethodGet, write, "Accept-Encoding: gzip")
	r, err := gzip.NewReader(zipped.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != want || zipped.Header().Get("ETag") != "W/"+etag || zipped.Header().Get("Content-Encoding") != "gzip" {
		t.Errorf("inflates to %d bytes, %v; %v", len(got), err, zipped.Header())
	}
	for _, lines := range [][]string{
		{"If-None-Match: " + etag}, {"If-None-Match: W/" + etag}, {`If-None-Match: "other", ` + etag}, {`If-None-Match: "other"`, "If-None-Match: " + etag},
		{"If-None-Match: *"}, {"If-None-Match: " + etag, "Accept-Encoding: gzip"},
	} {
		if w := stream(http.MethodGet, write, lines...); w.Code != http.StatusNotModified || w.Body.Len() > 0 || w.Header().Get("Content-Encoding") != "" || w.Header().Get("ETag") == "" {
			t.Errorf("%q: %d, %d bytes, %v", lines, w.Code, w.Body.Len(), w.Header())
		}
	}
	if w := stream(http.MethodGet, write, `If-None-Match: "other"`); w.Code != http.StatusOK {
		t.Errorf("%d for another entity tag", w.Code)
	}
	if w := stream(http.MethodHead, write); w.Code != http.StatusOK || w.Body.Len() > 0 || w.Header().Get("ETag") != etag {
		t.Errorf("HEAD: %d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
	}
	// What is written at once is bounded.
	pieces := &pieceWriter{ResponseWriter: httptest.NewRecorder()}
	content.Stream(pieces, httptest.NewRequest(http.MethodGet, "/", http.NoBody), write)
	if longest := pieces.longest; longest > 64<<10 || pieces.written != len(want) {
		t.Errorf("%d bytes are written, up to %d at once", pieces.written, longest)
	}
}

// pieceWriter records how many bytes are written at once.
type pieceWriter struct {
	http.ResponseWriter
	written, longest int
}

func (w *pieceWriter) Write(p []byte) (int, error) {
	w.written += len(p)
	w.longest = max(w.longest, len(p))
	return len(p), nil
}
