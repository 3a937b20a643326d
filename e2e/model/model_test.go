// Package model checks the protocol's model with Spin: the model is correct, and Spin finds planted defects.
package model

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// visited matches the number of states in the output of Spin's verifier.
var visited = regexp.MustCompile(`(?m)^\s*(\d+) states, stored`)

func TestModel(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles and runs verifiers")
	}
	for _, program := range []string{"spin", "cc"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	for _, tc := range []struct {
		name, defect string
		liveness     bool
		want         string // in the verifier's output
	}{
		{"nothing is counted twice", "", false, "errors: 0"},
		{"everything is counted", "", true, "errors: 0"},
		{"without a precondition", "NO_PRECONDITION", false, "assertion violated"},
		{"acknowledged early", "EARLY_ACKNOWLEDGEMENT", false, "assertion violated"},
		{"a checkpoint that forgets", "FORGETFUL", false, "assertion violated"},
		{"no redelivery after a crash", "NO_REDELIVERY", true, "acceptance cycle"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			model, err := filepath.Abs("protocol.pml")
			if err != nil {
				t.Fatal(err)
			}
			folder := t.TempDir()
			run := func(name string, arguments ...string) string {
				t.Helper()
				command := exec.CommandContext(t.Context(), name, arguments...)
				command.Dir = folder
				output, err := command.CombinedOutput()
				if err != nil {
					t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, output)
				}
				return string(bytes.TrimSpace(output))
			}
			defines := []string{"-DFAULTS=2"}
			if tc.defect != "" {
				defines = append(defines, "-D"+tc.defect)
			}
			run("spin", append(defines, "-a", model)...)
			if tc.liveness {
				run("cc", "-O2", "-o", "pan", "pan.c")
			} else {
				run("cc", "-O2", "-DSAFETY", "-DNOCLAIM", "-o", "pan", "pan.c")
			}
			verifier := []string{"-m100000"}
			if tc.liveness {
				verifier = append(verifier, "-a")
			}
			output := run(filepath.Join(folder, "pan"), verifier...)
			if !strings.Contains(output, tc.want) || strings.Contains(output, "max search depth too small") {
				t.Errorf("the verifier's output lacks %q:\n%s", tc.want, output)
			}
			if states := visited.FindStringSubmatch(output); states != nil {
				t.Logf("%s states", states[1])
			}
		})
	}
}
