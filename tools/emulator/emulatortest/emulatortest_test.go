package emulatortest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/accrue/accrue/tools/emulator"
)

func TestMain(m *testing.M) { Main(m) }

// notedTest records a skip or a failure instead of reporting it.
type notedTest struct {
	testing.TB
	skipped, failed string
}

func (*notedTest) Helper() {}

func (n *notedTest) Skipf(format string, args ...any) {
	n.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (n *notedTest) Fatal(args ...any) {
	n.failed = fmt.Sprint(args...)
	runtime.Goexit()
}

func TestMissingEmulatorSkipsButFailsInCI(t *testing.T) {
	missing := fmt.Errorf("start: %w: java", emulator.ErrNotFound)
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		ci, variable    string
		err             error
		host            string
		skipped, failed string
	}{
		"running":           {variable: "127.0.0.1:1", err: broken, host: "127.0.0.1:1"},
		"missing":           {ci: "", err: missing, skipped: "Wonder emulator"},
		"missing, CI=false": {ci: "false", err: missing, skipped: "Wonder emulator"},
		"missing, CI=true":  {ci: "true", err: missing, failed: "emulator not found"},
		"broken":            {err: broken, failed: "broken"},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && tc.ci != "true" {
				t.Skip("get would skip it too")
			}
			t.Setenv("CI", tc.ci)
			t.Setenv("WONDER_EMULATOR_HOST", tc.variable)
			s := shared{
				name: "Wonder", variable: "WONDER_EMULATOR_HOST",
				start: func(context.Context, emulator.Options) (*emulator.Emulator, error) { return nil, tc.err },
			}
			noted, host := &notedTest{TB: t}, ""
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				host = s.get(noted)
			}()
			<-ended
			if host != tc.host {
				t.Errorf("host = %q, want %q", host, tc.host)
			}
			if !strings.Contains(noted.skipped, tc.skipped) || (noted.skipped == "") != (tc.skipped == "") {
				t.Errorf("skipped: %q, want %q", noted.skipped, tc.skipped)
			}
			if !strings.Contains(noted.failed, tc.failed) || (noted.failed == "") != (tc.failed == "") {
				t.Errorf("failed: %q, want %q", noted.failed, tc.failed)
			}
		})
	}
}

func TestProjectsDiffer(t *testing.T) {
	t.Parallel()
	if a, b := Project(t), Project(t); a == b {
		t.Errorf("Project() = %q twice", a)
	}
}
