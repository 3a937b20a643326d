package content_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/accrue/accrue/pkg/content"
)

func serve(b *content.Body, method string, lines ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", http.NoBody)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "text/plain")
	b.Serve(w, r)
	return w
}

func bodies() map[string]*content.Body {
	text := []byte(strings.Repeat("counts ", 1000))
	return map[string]*content.Body{"static": content.Static(text), "strong": content.New(text, `"1"`), "weak": content.New(text, `W/"1"`)}
}

func TestLongBodiesAreCompressedForClientsThatAcceptIt(t *testing.T) {
	t.Parallel()
	for title, b := range bodies() {
		plain, compressed := serve(b, http.MethodGet), serve(b, http.MethodGet, "Accept-Encoding: gzip")
		if plain.Code != http.StatusOK || !bytes.Equal(plain.Body.Bytes(), b.Bytes()) || plain.Header().Get("Content-Encoding") != "" || plain.Header().Get("ETag") != b.ETag() {
			t.Errorf("%s: %d, %d bytes, %v", title, plain.Code, plain.Body.Len(), plain.Header())
		}
		r, err := gzip.NewReader(compressed.Body)
		if err != nil {
			t.Fatalf("%s: %v", title, err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, b.Bytes()) {
			t.Errorf("%s: inflates to %d bytes, %v", title, len(got), err)
		}
		h := compressed.Header()
		if h.Get("ETag") != "W/"+strings.TrimPrefix(b.ETag(), "W/") || h.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: %v", title, h)
		}
		for _, w := range []*httptest.ResponseRecorder{plain, compressed} {
			if w.Header().Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s: Vary = %q", title, w.Header().Get("Vary"))
			}
		}
		head := serve(b, http.MethodHead, "Accept-Encoding: gzip")
		if length := head.Header().Get("Content-Length"); head.Body.Len() != 0 || length != h.Get("Content-Length") || length == fmt.Sprint(len(b.Bytes())) {
			t.Errorf("%s: HEAD has %d bytes, Content-Length %s", title, head.Body.Len(), length)
		}
	}
	if short := serve(content.Static([]byte("short")), http.MethodGet, "Accept-Encoding: gzip"); short.Header().Get("Content-Encoding") != "" {
		t.Error("a short body was compressed")
	}
}

func TestUnchangedBodyIsNotSent(t *testing.T) {
	t.Parallel()
	for title, b := range bodies() {
		for _, lines := range [][]string{
			{"If-None-Match: " + b.ETag()}, {"If-None-Match: W/" + strings.TrimPrefix(b.ETag(), "W/")}, {"If-None-Match: *"},
			{`If-None-Match: "other"`, "If-None-Match: " + b.ETag()}, // the lines are one list
			{"If-None-Match: " + b.ETag(), "Accept-Encoding: gzip"},
		} {
			if w := serve(b, http.MethodGet, lines...); w.Code != http.StatusNotModified || w.Body.Len() != 0 || w.Header().Get("Content-Encoding") != "" {
				t.Errorf("%s, %q: %d, %d bytes", title, lines, w.Code, w.Body.Len())
			}
		}
		if w := serve(b, http.MethodGet, `If-None-Match: "other"`); w.Code != http.StatusOK {
			t.Errorf("%s: %d", title, w.Code)
		}
	}
}

func TestDifferentBodiesHaveDifferentTags(t *testing.T) {
	t.Parallel()
	if content.Static([]byte("a")).ETag() == content.Static([]byte("b")).ETag() {
		t.Error("two bodies have one entity tag")
	}
}
