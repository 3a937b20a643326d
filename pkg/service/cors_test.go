package service_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/service"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	for origins, want := range map[string]bool{
		"*":                   true,
		"https://example.com": true,
		"https://example.com,http://localhost:3000,http://[::1]:8080": true,
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
		if err := service.Load(map[string]string{"GOOGLE_CLOUD_PROJECT": "p", "CORS_ORIGINS": origins}, new(service.Config)); (err == nil) != want {
			t.Errorf("%q: %v", origins, err)
		}
	}
}

// answering answers with the method of the request.
func answering(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Method", r.Method) }

func TestCORSLetsPagesOfTheOriginsRead(t *testing.T) {
	t.Parallel()
	listed := []string{"https://example.com", "http://localhost:3000"}
	for title, tc := range map[string]struct {
		origins []string
		origin  string
		want    string
	}{
		"any":              {[]string{"*"}, "https://elsewhere.org", "*"},
		"one of the list":  {listed, "http://localhost:3000", "http://localhost:3000"},
		"none of the list": {listed, "https://elsewhere.org", ""},
		"an origin of the list with another scheme":  {listed, "http://example.com", ""},
		"an origin that begins like one of the list": {listed, "https://example.com.elsewhere.org", ""},
		"no origin, as from a program":               {listed, "", ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			handler := service.CORS(tc.origins, http.HandlerFunc(answering))
			r := httptest.NewRequest(http.MethodPost, "https://accrue.test/increments", nil)
			if tc.origin != "" {
				r.Header.Set("Origin", tc.origin)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			h := w.Result().Header
			refused := tc.want == "" && tc.origin != ""
			if (h.Get("X-Method") == http.MethodPost) == refused || (w.Code == http.StatusForbidden) != refused {
				t.Errorf("status %d, by %q, refused = %v", w.Code, h.Get("X-Method"), refused)
			}
			if got := h.Get("Access-Control-Allow-Origin"); got != tc.want {
				t.Errorf("Access-Control-Allow-Origin = %q, want %q", got, tc.want)
			}
			if got := h.Get("Access-Control-Expose-Headers"); (got == "Allow, Etag, Link, Retry-After, X-As-Of") != (tc.want != "") {
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

func TestCORSAnswersPreflightRequests(t *testing.T) {
	t.Parallel()
	handler := service.CORS([]string{"https://example.com"}, http.HandlerFunc(answering))
	for title, tc := range map[string]struct {
		origin, method, headers string
		allowed                 bool
	}{
		"a post of JSON with a key": {"https://example.com", "POST", "content-type,idempotency-key", true},
		"a post with its trace":     {"https://example.com", "POST", "content-type,traceparent", true},
		"a conditional get":         {"https://example.com", "GET", "if-none-match", true},
		"a stream that is resumed":  {"https://example.com", "GET", "last-event-id", true},
		"a method without routes":   {"https://example.com", "DELETE", "", false},
		"headers of libraries":      {"https://example.com", "POST", "baggage,cache-control,sentry-trace,tracestate,x-requested-with", true},
		"a token":                   {"https://example.com", "POST", "authorization,content-type", true},
		"another origin":            {"https://elsewhere.org", "POST", "content-type", false},
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
	// Without the preflight headers, OPTIONS reaches the handler as any method does.
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodOptions, "/increments", nil))
	if got := w.Result().Header.Get("X-Method"); got != http.MethodOptions {
		t.Errorf("OPTIONS reached the handler as %q", got)
	}
}

// Browsers send a beacon without asking first.
func TestPostsOfUnlistedOriginsAreRefused(t *testing.T) {
	t.Parallel()
	handler := service.CORS([]string{"https://example.com"}, http.HandlerFunc(answering))
	for title, tc := range map[string]struct {
		method  string
		headers []string
		refused bool
	}{
		"a listed origin":                 {"POST", []string{"Origin: https://example.com", "Sec-Fetch-Site: cross-site"}, false},
		"its own page":                    {"POST", []string{"Origin: http://example.org", "Sec-Fetch-Site: same-origin"}, false},
		"its own page, an old browser":    {"POST", []string{"Origin: http://example.com"}, false}, // the host of the request
		"a program":                       {"POST", nil, false},
		"a page that reads":               {"GET", []string{"Origin: https://elsewhere.org", "Sec-Fetch-Site: cross-site"}, false},
		"another origin":                  {"POST", []string{"Origin: https://elsewhere.org", "Sec-Fetch-Site: cross-site"}, true},
		"a page that hides its origin":    {"POST", []string{"Origin: null", "Sec-Fetch-Site: cross-site"}, true},
		"a subdomain":                     {"POST", []string{"Origin: https://a.example.com", "Sec-Fetch-Site: same-site"}, true},
		"a listed origin, an old browser": {"POST", []string{"Origin: https://example.com"}, false},
	} {
		r := httptest.NewRequest(tc.method, "/increments", nil)
		for _, line := range tc.headers {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if refused := w.Code == http.StatusForbidden; refused != tc.refused {
			t.Errorf("%s: status %d, want refused = %v", title, w.Code, tc.refused)
		}
		if tc.refused && (w.Header().Get("Content-Type") != problem.ContentType || !strings.Contains(w.Body.String(), `"counted":"no"`)) {
			t.Errorf("%s: %v %s", title, w.Header(), w.Body)
		}
	}
}

// BenchmarkCORS measures a post without an origin, as programs send it: some 50 ns, and no allocation but the header's map.
func BenchmarkCORS(b *testing.B) {
	for title, handler := range map[string]http.Handler{
		"without": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		"with":    service.CORS([]string{"https://example.com"}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})),
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
