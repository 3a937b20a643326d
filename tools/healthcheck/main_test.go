package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReady(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		want   string
	}{
		"ready":     {http.StatusOK, ""},
		"not ready": {http.StatusServiceUnavailable, "pubsub is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.URL.Path != service.ReadyPath {
					t.Errorf("asked %s %s, want GET %s", r.Method, r.URL.Path, service.ReadyPath)
				}
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.want))
			}))
			defer service.Close()
			u, err := url.Parse(service.URL)
			if err != nil {
				t.Fatal(err)
			}
			if err := ready(u.Port()); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ready() = %v, want %q", err, tc.want)
			}
		})
	}
	if err := ready("1"); err == nil {
		t.Error("ready() of a closed port = nil")
	}
}

// The Dockerfile builds the one file, outside of any module.
func TestBuildsWithoutTheModule(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "main.go"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", "healthcheck", "main.go")
	build.Dir = folder
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}
