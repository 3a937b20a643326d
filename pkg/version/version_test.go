package version

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestInfoIsReadFromTheBuild(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		build debug.BuildInfo
		want  string
	}{
		"a release": {debug.BuildInfo{
			GoVersion: "go1.26.0", Main: debug.Module{Version: "v0.1.0"},
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "false"}},
		}, "v0.1.0 abc go1.26.0"},
		"changed files": {debug.BuildInfo{
			GoVersion: "go1.26.0", Main: debug.Module{Version: "v0.1.1-0.20261126-abc+dirty"},
			Settings: []debug.BuildSetting{{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: "abc"}},
		}, "v0.1.1-0.20261126-abc+dirty abc+dirty go1.26.0"},
		"no version control": {debug.BuildInfo{GoVersion: "go1.26.0"}, "(devel) go1.26.0"},
	} {
		if got := of(&tc.build).String(); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	if got := Current(); got.Version == "" || got.Go != runtime.Version() {
		t.Errorf("Current() = %+v", got)
	}
}
