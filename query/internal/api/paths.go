package api

import (
	"net/http"
	"net/url"
	"strings"
)

// canonical serves a path with needless escapes, such as /%73tats, as it serves the path without them (RFC 3986, section
// 6.2.2.2). A slash stays escaped: it belongs to a name.
func canonical(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawPath != "" { // the escapes are not those that Go would use
			r.URL.RawPath = canonicalPath(r.URL.RawPath)
		}
		handler.ServeHTTP(w, r)
	})
}

// canonicalPath escapes each segment of a path as Go does.
func canonicalPath(escaped string) string {
	segments := strings.Split(escaped, "/")
	for i, segment := range segments {
		if text, err := url.PathUnescape(segment); err == nil { // net/http refuses a path with a bad escape
			segments[i] = url.PathEscape(text)
		}
	}
	return strings.Join(segments, "/")
}
