package service

import (
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/telemetry"
)

// hideable has the first segments of the paths that each value of HIDE hides.
var hideable = map[string][]string{
	"metrics":      {strings.TrimPrefix(telemetry.MetricsPath, "/")},
	"contributors": {"contributors", "recognitions"},
}

// canHide reports whether all values are of hideable.
func canHide(hidden []string) bool {
	return !slices.ContainsFunc(hidden, func(what string) bool { return hideable[what] == nil })
}

// Hide returns a handler that answers 404 for the paths of what is hidden, except to callers on the same machine, such as a
// collector of metrics beside the container. The other requests are handler's.
func Hide(hidden []string, handler http.Handler) http.Handler {
	paths := make(map[string]bool)
	for _, what := range hidden {
		for _, path := range hideable[what] {
			paths[path] = true
		}
	}
	if len(paths) == 0 {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _, _ := strings.Cut(strings.TrimLeft(r.URL.Path, "/"), "/")
		if paths[first] && !isLocal(r) {
			problem.New(http.StatusNotFound, problem.NoPath).Write(w)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// isLocal reports whether a request comes from this machine, and not through a proxy on it.
func isLocal(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	return err == nil && net.ParseIP(host).IsLoopback() && r.Header.Get("X-Forwarded-For") == "" && r.Header.Get("Forwarded") == ""
}
