package deployment

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const smallHome = "deployments/small-home/compose.yaml"

// compose reads a compose file of the repository as Compose does, with variables of the form NAME=value.
func compose(t *testing.T, file string, variables ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, file)}, cli.WithName("accrue-test"), cli.WithEnv(variables))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// reserved are the variables that the compose file sets itself.
func reserved(name string) bool {
	return name == "PORT" || name == "GOOGLE_CLOUD_PROJECT" || emulator(name)
}

// Each service is given the variables that it reads and no others: what the file names reaches it from the shell, and what is
// not set there is empty, which counts as not set.
func TestComposeGivesEachServiceWhatItReads(t *testing.T) {
	t.Parallel()
	project := compose(t, "docker-compose.yml", "LOG_LEVEL=debug")
	for name, config := range configs() {
		given, reads := project.Services[name].Environment, variables(t, config)
		for variable := range given {
			if _, ok := reads[variable]; !ok {
				t.Errorf("%s is given %s, which it does not read", name, variable)
			}
		}
		for variable, v := range reads {
			value := given[variable]
			switch {
			case variable == "PORT":
				if value != nil {
					t.Errorf("%s is given PORT", name)
				}
			case value == nil:
				t.Errorf("%s is not given %s", name, variable)
			case (v.required || emulator(variable)) && *value == "":
				t.Errorf("%s is given no value for %s", name, variable)
			case !reserved(variable) && !slices.Contains([]string{"", "debug", "4"}, *value):
				t.Errorf("%s is given %s=%s", name, variable, *value)
			}
		}
		if got := given["LOG_LEVEL"]; got == nil || *got != "debug" {
			t.Errorf("%s does not take LOG_LEVEL from the shell", name)
		}
	}
}

// example matches a line of .env.example.
var example = regexp.MustCompile(`(?m)^# ([A-Z_]+)=(.*)$`)

// interpolated matches a variable of a compose file, with its default.
var interpolated = regexp.MustCompile(`\$\{([A-Z_]+):-([^}]*)\}`)

// .env.example lists every variable of the compose file with the default that it has.
func TestExampleOfSettingsIsComplete(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, ".env.example"))
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string)
	for _, config := range configs() {
		for name, v := range variables(t, config) {
			if !reserved(name) {
				want[name] = v.fallback
			}
		}
	}
	for _, found := range interpolated.FindAllSubmatch(file, -1) {
		name, fallback := string(found[1]), string(found[2])
		if _, setting := want[name]; !setting && name != "VERSION" && name != "REVISION" || fallback != "" {
			want[name] = fallback
		}
	}
	got := make(map[string]string)
	for _, line := range example.FindAllSubmatch(text, -1) {
		got[string(line[1])] = string(line[2])
	}
	if !maps.Equal(got, want) {
		t.Errorf(".env.example has\n%v, want\n%v", got, want)
	}
}

func TestComposeBuildsEachServiceFromItsTarget(t *testing.T) {
	t.Parallel()
	for file, services := range map[string][]string{"docker-compose.yml": {"ingest", "aggregator", "query"}, smallHome: {"accrue"}} {
		project := compose(t, file)
		for _, name := range services {
			build := project.Services[name].Build
			if build == nil || build.Target != name || !slices.ContainsFunc(stages(t), func(s stage) bool { return s.name == name }) {
				t.Errorf("%s of %s is built as %+v", name, file, build)
				continue
			}
			path := filepath.Join(build.Context, build.Dockerfile)
			if want := filepath.Join(root, "deployments", "Dockerfile"); !same(t, path, want) {
				t.Errorf("%s of %s is built from %s", name, file, path)
			}
		}
	}
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	first, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(first, second)
}

// version matches an image tag with a version number. A tag such as latest changes its meaning.
var version = regexp.MustCompile(`^[^:]+:[^:@]*[0-9][^:@]*(@sha256:[0-9a-f]{64})?$`)

func TestComposeContainersAreCheckedRestartedAndConfined(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"docker-compose.yml", smallHome} {
		project := compose(t, file)
		for _, name := range project.ServiceNames() {
			s := project.Services[name]
			if name == "welcome" { // prints where the others are
				continue
			}
			switch check := s.HealthCheck; {
			case check == nil || len(check.Test) < 2 || check.Disable:
				t.Errorf("%s has no health check", name)
			case check.StartInterval != nil:
				t.Errorf("%s has a start_interval, which Compose refuses on engines older than 25", name)
			case *check.Interval < types.Duration(10e9):
				t.Errorf("%s is checked every %v: each check is a new process", name, check.Interval)
			}
			if s.Restart == "" || s.Restart == "no" {
				t.Errorf("%s is not restarted", name)
			}
			if s.Image != "" && !version.MatchString(s.Image) {
				t.Errorf("%s runs %s, whose tag names no version", name, s.Image)
			}
			ours := s.Build != nil
			if !ours && s.Image == "" {
				t.Errorf("%s has neither an image nor a build", name)
			}
			if ours && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.SecurityOpt) == 0) {
				t.Errorf("%s is not confined", name)
			}
		}
	}
}

func TestComposePublishesOnLoopbackAtPortsFromOutside(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		file, service, variable, fallback string
		inside                            uint32
	}{
		{"docker-compose.yml", "ingest", "INGEST_PORT", "8080", 8080},
		{"docker-compose.yml", "query", "QUERY_PORT", "8081", 8080},
		{"docker-compose.yml", "aggregator", "AGGREGATOR_PORT", "8082-8089", 8080},
		{"docker-compose.yml", "pubsub", "PUBSUB_PORT", "8085", 8085},
		{"docker-compose.yml", "firestore", "FIRESTORE_PORT", "8086", 8086},
		{smallHome, "accrue", "ACCRUE_PORT", "8080", 8080},
	} {
		for _, given := range []string{"", "18080", "18090-18099"} {
			ports := compose(t, tc.file, tc.variable+"="+given).Services[tc.service].Ports
			want := given
			if want == "" {
				want = tc.fallback
			}
			if len(ports) != 1 || ports[0].HostIP != "127.0.0.1" || ports[0].Published != want || ports[0].Target != tc.inside {
				t.Errorf("%s with %s=%q publishes %+v, want %s on loopback", tc.service, tc.variable, given, ports, want)
			}
		}
	}
}

// An emulator that is full ends, so that it is restarted, and its memory can be set.
func TestComposeEmulatorsEndWhenTheyAreFull(t *testing.T) {
	t.Parallel()
	project := compose(t, "docker-compose.yml", "EMULATOR_MEMORY=3g")
	for _, name := range []string{"pubsub", "firestore"} {
		s := project.Services[name]
		options := s.Environment["JAVA_TOOL_OPTIONS"]
		if options == nil || *options != "-Xmx3g -XX:+ExitOnOutOfMemoryError" {
			t.Errorf("%s runs with %v", name, options)
		}
		if s.Restart != "unless-stopped" || s.Attach == nil || *s.Attach {
			t.Errorf("%s: restart %q, attached: %v", name, s.Restart, s.Attach)
		}
	}
}

// What the system prints when it is up names the addresses that it has.
func TestComposeWelcomeNamesThePorts(t *testing.T) {
	t.Parallel()
	welcome := compose(t, "docker-compose.yml", "INGEST_PORT=18080", "QUERY_PORT=18081").Services["welcome"]
	text := welcome.Environment["TEXT"]
	for _, want := range []string{"http://localhost:18080/increments", "http://localhost:18081/stats", "http://localhost:18081/\n"} {
		if text == nil || !strings.Contains(*text, want) {
			t.Errorf("the text lacks %s", want)
		}
	}
	for _, name := range []string{"ingest", "aggregator", "query"} {
		if welcome.DependsOn[name].Condition != "service_healthy" {
			t.Errorf("welcome does not wait for %s", name)
		}
	}
}

// The test of the containers is part of .ci/run, and a machine without an engine passes it with one line.
func TestComposeTestNeedsNoEngine(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(filepath.Join(root, ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(script, []byte("make compose-test")) {
		t.Error(".ci/run does not call make compose-test")
	}
	empty := t.TempDir() // a machine with no docker
	for _, tool := range []string{"bash", "dirname", "env"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(empty, tool)); err != nil {
			t.Fatal(err)
		}
	}
	run := exec.CommandContext(t.Context(), filepath.Join(root, "deployments", "compose-test"))
	run.Env = []string{"PATH=" + empty}
	output, err := run.CombinedOutput()
	if want := "SKIPPED: no container engine with Compose answers\n"; err != nil || string(output) != want {
		t.Errorf("compose-test: %v, %q, want %q", err, output, want)
	}
}
