package service_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/accrue/accrue/pkg/service"
)

func TestHiddenPathsAreServedOnTheSameMachineOnly(t *testing.T) {
	t.Parallel()
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for _, tc := range []struct {
		hidden       []string
		path, remote string
		proxied      bool
		want         int
	}{
		{nil, "/metrics", "192.0.2.1:1", false, 204},
		{[]string{"metrics"}, "/metrics", "192.0.2.1:1", false, 404},
		{[]string{"metrics"}, "//metrics", "192.0.2.1:1", false, 404},
		{[]string{"metrics"}, "/metrics/", "192.0.2.1:1", false, 404},
		{[]string{"metrics"}, "/metrics", "127.0.0.1:1", false, 204},
		{[]string{"metrics"}, "/metrics", "[::1]:1", false, 204},
		{[]string{"metrics"}, "/metrics", "127.0.0.1:1", true, 404},
		{[]string{"metrics"}, "/metrics", "", false, 404},
		{[]string{"metrics"}, "/contributors", "192.0.2.1:1", false, 204},
		{[]string{"metrics"}, "/health/ready", "192.0.2.1:1", false, 204},
		{[]string{"contributors"}, "/contributors", "192.0.2.1:1", false, 404},
		{[]string{"contributors"}, "/contributors/ada", "192.0.2.1:1", false, 404},
		{[]string{"contributors"}, "/recognitions", "192.0.2.1:1", false, 404},
		{[]string{"contributors"}, "/contributions", "192.0.2.1:1", false, 204},
		{[]string{"metrics", "contributors"}, "/metrics", "192.0.2.1:1", false, 404},
	} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://example.com/", http.NoBody)
		request.URL.Path, request.RemoteAddr = tc.path, tc.remote
		if tc.proxied {
			request.Header.Set("X-Forwarded-For", "192.0.2.1")
		}
		answer := httptest.NewRecorder()
		service.Hide(tc.hidden, served).ServeHTTP(answer, request)
		if answer.Code != tc.want {
			t.Errorf("HIDE=%v: %s from %q (proxied: %v) answers %d, want %d", tc.hidden, tc.path, tc.remote, tc.proxied, answer.Code, tc.want)
		}
	}
}
