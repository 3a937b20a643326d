package deployment

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
)

// composed has the properties of a service in the compose file that the tests check.
type composed struct {
	Image string `yaml:"image"`
	Build struct {
		Dockerfile string            `yaml:"dockerfile"`
		Args       map[string]string `yaml:"args"`
	} `yaml:"build"`
	Environment map[string]string `yaml:"environment"`
	Healthcheck struct {
		Test []string `yaml:"test"`
	} `yaml:"healthcheck"`
}

func compose(t *testing.T) map[string]composed {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]composed `yaml:"services"`
	}
	// A key beside a merge key (<<) overrides the merged one. The library reports it as a duplicate.
	if err := yaml.UnmarshalWithOptions(content, &file, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	return file.Services
}

// A variable that a service does not read has no effect. Without a required variable it does not start, and without the
// address of an emulator it connects to Google Cloud.
func TestComposeGivesEachServiceWhatItReads(t *testing.T) {
	t.Parallel()
	services := compose(t)
	for name, config := range configs() {
		given := services[name].Environment
		reads := variables(t, config)
		for variable := range maps.Keys(given) {
			if _, ok := reads[variable]; !ok {
				t.Errorf("%s is given %s, which it does not read", name, variable)
			}
		}
		for variable, v := range reads {
			if given[variable] == "" && (v.required || emulator(variable)) {
				t.Errorf("%s is not given %s", name, variable)
			}
		}
	}
}

func TestComposeBuildsEachServiceFromTheDockerfile(t *testing.T) {
	t.Parallel()
	services := compose(t)
	for name := range configs() {
		build := services[name].Build
		if got, want := build.Args["SERVICE"], name; got != want {
			t.Errorf("%s is built with SERVICE=%q", want, got)
		}
		if _, err := os.Stat(filepath.Join(root, build.Dockerfile)); err != nil || build.Dockerfile == "" {
			t.Errorf("%s is built from %q: %v", name, build.Dockerfile, err)
		}
	}
}

// version matches an image tag with a version number. A tag such as latest changes its meaning.
var version = regexp.MustCompile(`^[^:]+:[^:@]*[0-9][^:@]*(@sha256:[0-9a-f]{64})?$`)

func TestComposeWatchesEveryServiceAndPinsEveryImage(t *testing.T) {
	t.Parallel()
	services := compose(t)
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s := services[name]
		if len(s.Healthcheck.Test) < 2 {
			t.Errorf("%s has no health check", name)
		}
		if s.Image != "" && !version.MatchString(s.Image) {
			t.Errorf("%s runs %s, whose tag names no version", name, s.Image)
		}
		if s.Image == "" && s.Build.Dockerfile == "" {
			t.Errorf("%s has neither an image nor a build", name)
		}
	}
}
