package deployment

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	variableBlock = regexp.MustCompile(`(?ms)^variable "(\w+)" \{\n(.*?)^\}`)
	runBlock      = regexp.MustCompile(`(?ms)^run "(\w+)" \{\n(.*?)^\}`)
	runVariables  = regexp.MustCompile(`(?ms)^  variables \{\n(.*?)^  \}`)
	fileVariables = regexp.MustCompile(`(?ms)^variables \{\n(.*?)^\}`)
	setVariable   = regexp.MustCompile(`(?m)^(?:  )?  (\w+) += `)
	failing       = regexp.MustCompile(`(?m)^  expect_failures = \[(.*)\]$`)
	exampleRun    = regexp.MustCompile(`(?m)^    source = `)
)

// Every variable of the module is set in a run of its tests that succeeds, and refused in as many runs as it has validations.
func TestBothSidesOfEachVariableAreTested(t *testing.T) {
	t.Parallel()
	tests, err := filepath.Glob(filepath.Join(root, "terraform", "tests", "*.tftest.hcl"))
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	accepted, refused := make(map[string]bool), make(map[string]int)
	for _, path := range tests {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range fileVariables.FindAllStringSubmatch(string(content), -1) {
			for _, set := range setVariable.FindAllStringSubmatch(file[1], -1) {
				accepted[set[1]] = true
			}
		}
		for _, run := range runBlock.FindAllStringSubmatch(string(content), -1) {
			if exampleRun.MatchString(run[2]) { // of another module
				continue
			}
			var fails []string
			if found := failing.FindStringSubmatch(run[2]); found != nil {
				for _, name := range strings.Split(found[1], ", ") {
					fails = append(fails, strings.TrimPrefix(name, "var."))
				}
			}
			for _, name := range slices.Compact(slices.Sorted(slices.Values(fails))) {
				refused[name]++
			}
			for _, set := range runVariables.FindAllStringSubmatch(run[2], -1) {
				for _, name := range setVariable.FindAllStringSubmatch(set[1], -1) {
					if len(fails) == 0 {
						accepted[name[1]] = true
					}
				}
			}
		}
	}
	all := variableBlock.FindAllStringSubmatch(terraform(t)[filepath.Join(root, "terraform", "variables.tf")], -1)
	if len(all) < 30 {
		t.Errorf("found %d variables", len(all))
	}
	for _, variable := range all {
		name, validations := variable[1], strings.Count(variable[2], "\n  validation {")
		if !accepted[name] {
			t.Errorf("no run sets %s and succeeds", name)
		}
		if refused[name] < validations {
			t.Errorf("%s has %d validations, and is refused in %d runs", name, validations, refused[name])
		}
	}
}
