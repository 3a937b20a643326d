package service

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/rs/cors"

	"github.com/accrue/accrue/pkg/problem"
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

// CORS lets pages of the given origins call handler and read its answers, without cookies or other credentials of the
// browser. It answers preflight requests itself, the same for all paths, and allows every header in them: libraries add
// headers of their own, and what a header means is for handler to decide.
//
// Browsers send some posts without a preflight request, those of navigator.sendBeacon among them. If origins are listed,
// such posts by pages of other origins are refused here (docs/decisions/0009-beacons.md).
func CORS(origins []string, handler http.Handler) http.Handler {
	if !slices.Equal(origins, []string{anyOrigin}) {
		handler = refuseOtherOrigins(origins, handler)
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost},
		AllowedHeaders: []string{"*"},
		ExposedHeaders: []string{"Allow", "ETag", "Link", "Retry-After", "X-As-Of"},
		MaxAge:         int(preflightAge.Seconds()),
	}).Handler(handler)
}

// refuseOtherOrigins refuses what browsers send for pages of other origins than the service's own and the given ones, unless
// it only reads. Programs that are no browsers do not say an origin, and are not refused.
func refuseOtherOrigins(origins []string, handler http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	for _, origin := range origins {
		_ = protection.AddTrustedOrigin(origin) // valid: the settings were checked
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		d := problem.New(http.StatusForbidden, "Pages of this origin may not post here. "+problem.NothingCounted)
		d.Type, d.Counted = problem.TypeOf("origin-not-allowed"), problem.CountedNo
		d.Write(w)
	}))
	return protection.Handler(handler)
}
