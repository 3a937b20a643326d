package httpserver

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/rs/cors"
)

// AnyOrigin alone, in place of a list of origins, lets the pages of all of them read.
const AnyOrigin = "*"

// maxOrigins bounds the list of origins: each request from a page is compared with all of them.
const maxOrigins = 100

// preflightAge is how long a browser may keep the answer to a preflight request. Chromium keeps none longer.
const preflightAge = 2 * time.Hour

// ErrOrigins is the case of origins that CORS does not take.
var ErrOrigins = errors.New("*, or 1 to 100 origins such as https://example.com, separated by commas")

// ValidateOrigins returns ErrOrigins unless origins are AnyOrigin alone, or a list of origins as browsers send them: scheme,
// host, and port if it is not the scheme's own.
func ValidateOrigins(origins []string) error {
	if slices.Equal(origins, []string{AnyOrigin}) {
		return nil
	}
	if len(origins) == 0 || len(origins) > maxOrigins {
		return ErrOrigins
	}
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Scheme+"://"+u.Host != origin ||
			// Neither is ever in a header Origin; a * would match more than was meant.
			slices.Contains([]string{"http:80", "https:443"}, u.Scheme+":"+u.Port()) || slices.Contains([]byte(u.Host), '*') {
			return ErrOrigins
		}
	}
	return nil
}

// CORS lets pages of the given origins, which ValidateOrigins takes, call handler and read its answers. Nobody's cookies or
// other credentials come along: there are none here. Preflight requests are answered for all paths alike, by CORS itself.
func CORS(origins []string, handler http.Handler) http.Handler {
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost},
		AllowedHeaders: []string{"Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "traceparent"},
		ExposedHeaders: []string{"Allow", "ETag", "Retry-After", "X-As-Of"},
		MaxAge:         int(preflightAge.Seconds()),
	}).Handler(handler)
}
