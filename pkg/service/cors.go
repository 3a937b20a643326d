package service

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/rs/cors"
)

// anyOrigin, in place of a list of origins, allows the pages of every origin.
const anyOrigin = "*"

// maxOrigins bounds the list of origins: each request from a page is compared with all of them.
const maxOrigins = 100

// preflightAge is how long a browser may cache the answer to a preflight request. Chromium caches none longer.
const preflightAge = 2 * time.Hour

// validOrigins reports whether origins is anyOrigin alone, or 1 to maxOrigins origins as browsers send them: scheme, host,
// and port if it is not the default of the scheme.
func validOrigins(origins []string) bool {
	if slices.Equal(origins, []string{anyOrigin}) {
		return true
	}
	if len(origins) == 0 || len(origins) > maxOrigins {
		return false
	}
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Scheme+"://"+u.Host != origin ||
			// Browsers never send a default port; the library would take a * for a wildcard.
			slices.Contains([]string{"http:80", "https:443"}, u.Scheme+":"+u.Port()) || slices.Contains([]byte(u.Host), '*') {
			return false
		}
	}
	return true
}

// CORS lets pages of the given origins call handler and read its answers, without cookies or other credentials. It answers
// preflight requests itself, the same for all paths.
func CORS(origins []string, handler http.Handler) http.Handler {
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost},
		AllowedHeaders: []string{"Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "traceparent"},
		ExposedHeaders: []string{"Allow", "ETag", "Retry-After", "X-As-Of"},
		MaxAge:         int(preflightAge.Seconds()),
	}).Handler(handler)
}
