package httpserver_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/accrue/accrue/pkg/httpserver"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	for origins, want := range map[string]bool{
		"*":                   true,
		"https://example.com": true,
		"https://example.com,http://localhost:3000,http://[::1]:8080": true,
		"":                         false,
		"*,https://example.com":    false,
		"https://*.example.com":    false,
		"https://example.com/":     false,
		"https://example.com:443":  false,
		"http://example.com:80":    false,
		"HTTPS://example.com":      false,
		"https://u@example.com":    false,
		"https://":                 false,
		"https://:3000":            false,
		"example.com":              false,
		"ftp://example.com":        false,
		"null":                     false,
		"https://example.com,":     false,
		"https://example.com?a=b":  false,
		"https://example.com#part": false,
		strings.TrimSuffix(strings.Repeat("https://example.com,", 100), ","): true,
		strings.TrimSuffix(strings.Repeat("https://example.com,", 101), ","): false,
	} {
		if err := httpserver.ValidateOrigins(strings.Split(origins, ",")); (err == nil) != want {
			t.Errorf("%q: %v", origins, err)
		}
	}
	if httpserver.ValidateOrigins(nil) == nil {
		t.Error("no origin at all is taken")
	}
}

// answering says of each request that it came through.
func answering(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Method", r.Method) }

func TestPagesOfTheOriginsMayRead(t *testing.T) {
	t.Parallel()
	listed := []string{"https://example.com", "http://localhost:3000"}
	for title, tc := range map[string]struct {
		origins []string
		origin  string
		want    string
	}{
		"any":                            {[]string{httpserver.AnyOrigin}, "https://elsewhere.org", "*"},
		"one of the list":                {listed, "http://localhost:3000", "http://localhost:3000"},
		"none of the list":               {listed, "https://elsewhere.org", ""},
		"the list, by its host alone":    {listed, "http://example.com", ""},
		"the list, with another in it":   {listed, "https://example.com.elsewhere.org", ""},
		"a program, which has no origin": {listed, "", ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			handler := httpserver.CORS(tc.origins, http.HandlerFunc(answering))
			r := httptest.NewRequest(http.MethodPost, "/increments", nil)
			if tc.origin != "" {
				r.Header.Set("Origin", tc.origin)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			h := w.Result().Header
			if h.Get("X-Method") != http.MethodPost {
				t.Error("the request did not come through: CORS keeps pages from reading, nobody from asking")
			}
			if got := h.Get("Access-Control-Allow-Origin"); got != tc.want {
				t.Errorf("Access-Control-Allow-Origin = %q, want %q", got, tc.want)
			}
			if got := h.Get("Access-Control-Expose-Headers"); (got == "Allow, Etag, Retry-After, X-As-Of") != (tc.want != "") {
				t.Errorf("Access-Control-Expose-Headers = %q", got)
			}
			if h.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("credentials are allowed")
			}
			if !slices.Contains(h.Values("Vary"), "Origin") {
				t.Errorf("Vary = %q: a cache would show one origin's answer to another", h.Values("Vary"))
			}
		})
	}
}

func TestPreflightIsAnsweredAndKept(t *testing.T) {
	t.Parallel()
	handler := httpserver.CORS([]string{"https://example.com"}, http.HandlerFunc(answering))
	for title, tc := range map[string]struct {
		origin, method, headers string
		allowed                 bool
	}{
		"a post of JSON with a key":   {"https://example.com", "POST", "content-type,idempotency-key", true},
		"a post with its trace":       {"https://example.com", "POST", "content-type,traceparent", true},
		"a conditional get":           {"https://example.com", "GET", "if-none-match", true},
		"a stream that is taken up":   {"https://example.com", "GET", "last-event-id", true},
		"a method that there is not":  {"https://example.com", "DELETE", "", false},
		"a header that means nothing": {"https://example.com", "POST", "x-other", false},
		"another origin":              {"https://elsewhere.org", "POST", "content-type", false},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodOptions, "/increments", nil)
			r.Header.Set("Origin", tc.origin)
			r.Header.Set("Access-Control-Request-Method", tc.method)
			if tc.headers != "" {
				r.Header.Set("Access-Control-Request-Headers", tc.headers)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			h := w.Result().Header
			if w.Code != http.StatusNoContent || h.Get("X-Method") != "" {
				t.Errorf("status %d, by %q", w.Code, h.Get("X-Method"))
			}
			want := map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Methods": "", "Access-Control-Allow-Headers": "", "Access-Control-Max-Age": ""}
			if tc.allowed {
				want = map[string]string{
					"Access-Control-Allow-Origin": tc.origin, "Access-Control-Allow-Methods": tc.method,
					"Access-Control-Allow-Headers": tc.headers, "Access-Control-Max-Age": "7200",
				}
			}
			for name, want := range want {
				if got := h.Get(name); got != want {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
		})
	}
	// Not a preflight request: the handler's own answer, as for any method.
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodOptions, "/increments", nil))
	if got := w.Result().Header.Get("X-Method"); got != http.MethodOptions {
		t.Errorf("OPTIONS of a program came through as %q", got)
	}
}

// The way of a post without an origin, which nearly all are: some 50 ns, and no memory but the header's own map.
func BenchmarkCORS(b *testing.B) {
	for title, handler := range map[string]http.Handler{
		"without": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		"with":    httpserver.CORS([]string{"https://example.com"}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})),
	} {
		b.Run(title, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodPost, "/increments", nil)
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				clear(w.Header())
				handler.ServeHTTP(w, r)
			}
		})
	}
}
