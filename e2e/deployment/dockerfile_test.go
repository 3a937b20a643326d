package deployment

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// instruction is one instruction of a Dockerfile.
type instruction struct{ name, arguments string }

// stages returns the instructions of each build stage.
func stages(t *testing.T) [][]instruction {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deployments", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]instruction
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", "")) {
		name, arguments, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		if name == "FROM" {
			all = append(all, nil)
		}
		if len(all) == 0 {
			t.Fatalf("%s before FROM", name)
		}
		last := &all[len(all)-1]
		*last = append(*last, instruction{name, strings.TrimSpace(arguments)})
	}
	return all
}

// machine runs the instructions of a build stage in a folder, without a container engine.
type machine struct {
	t       *testing.T
	folder  string
	workdir string
	env     map[string]string
}

func (m *machine) expand(text string) string {
	return os.Expand(text, func(name string) string {
		value, ok := m.env[name]
		if !ok {
			m.t.Errorf("%s is not set in %q", name, text)
		}
		return value
	})
}

func (m *machine) do(i instruction) {
	m.t.Helper()
	switch i.name {
	case "FROM":
	case "ARG":
		for _, name := range strings.Fields(i.arguments) {
			if _, ok := m.env[name]; !ok {
				m.t.Fatalf("the build has no argument %s", name)
			}
		}
	case "ENV":
		for _, pair := range strings.Fields(i.arguments) {
			name, value, _ := strings.Cut(pair, "=")
			m.env[name] = m.expand(value)
		}
	case "WORKDIR":
		m.workdir = filepath.Join(m.folder, i.arguments)
		if err := os.MkdirAll(m.workdir, 0o700); err != nil {
			m.t.Fatal(err)
		}
	case "COPY":
		paths := strings.Fields(m.expand(i.arguments))
		for _, from := range paths[:len(paths)-1] {
			m.copy(from, paths[len(paths)-1])
		}
	case "RUN":
		m.run(i.arguments)
	default:
		m.t.Fatalf("unknown instruction %s", i.name)
	}
}

// copy copies a file or folder of the build context, without tests.
func (m *machine) copy(from, to string) {
	m.t.Helper()
	target := filepath.Join(m.workdir, to)
	err := filepath.WalkDir(filepath.Join(root, from), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "testdata" {
			return fs.SkipDir
		}
		if entry.IsDir() || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		inside, err := filepath.Rel(filepath.Join(root, from), path)
		if err != nil {
			return err
		}
		if inside == "." { // a file, into a folder
			inside = filepath.Base(path)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		copied := filepath.Join(target, inside)
		return errors.Join(os.MkdirAll(filepath.Dir(copied), 0o700), os.WriteFile(copied, data, 0o600))
	})
	if err != nil {
		m.t.Fatalf("COPY %s %s: %v", from, to, err)
	}
}

func (m *machine) run(command string) {
	m.t.Helper()
	out := filepath.Join(m.folder, "out")
	run := exec.CommandContext(m.t.Context(), "sh", "-ec", strings.ReplaceAll(command, "/out/", out+"/"))
	run.Dir = m.workdir
	run.Env = os.Environ()
	for name, value := range m.env {
		run.Env = append(run.Env, name+"="+value)
	}
	if output, err := run.CombinedOutput(); err != nil {
		m.t.Fatalf("RUN %s: %v\n%s", command, err, output)
	}
}

func TestDockerfileBuildsEachService(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the services")
	}
	if runtime.GOOS != "linux" {
		t.Skip("the binaries run on Linux only")
	}
	for _, service := range []string{"ingest", "aggregator", "query"} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			m := &machine{t: t, folder: t.TempDir(), env: map[string]string{
				"SERVICE": service, "VERSION": "v0.1.0", "TARGETOS": runtime.GOOS, "TARGETARCH": runtime.GOARCH,
			}}
			for _, i := range stages(t)[0] {
				m.do(i)
			}
			version, err := exec.CommandContext(t.Context(), filepath.Join(m.folder, "out", "service"), "--version").Output()
			if err != nil || !strings.HasPrefix(string(version), service+" v0.1.0 ") {
				t.Errorf("--version: %v, %q", err, version)
			}
			for _, binary := range []string{"service", "healthcheck"} {
				path := filepath.Join(m.folder, "out", binary)
				if err := static(path); err != nil {
					t.Errorf("%s: %v", binary, err)
				}
				// Without settings the service names a missing one, and the health check cannot connect.
				run := exec.CommandContext(t.Context(), path)
				run.Env = []string{"PORT=1"}
				output, err := run.CombinedOutput()
				want := map[string]string{"service": "GOOGLE_CLOUD_PROJECT", "healthcheck": "connection refused"}[binary]
				var exit *exec.ExitError
				if !errors.As(err, &exit) || !bytes.Contains(output, []byte(want)) {
					t.Errorf("%s: %v, output lacks %q:\n%s", binary, err, want, output)
				}
			}
		})
	}
}

// static returns an error if a program is linked dynamically.
func static(path string) error {
	program, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer program.Close() //nolint:errcheck // only read
	if slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return errors.New("it is linked dynamically")
	}
	return nil
}

func TestImageIsPinnedAndNotRoot(t *testing.T) {
	t.Parallel()
	pinned := regexp.MustCompile(`^[a-z0-9./_-]+(:[A-Za-z0-9._-]+)$`)
	all := stages(t)
	for _, stage := range all {
		words := strings.Fields(stage[0].arguments)
		image := words[0]
		if strings.HasPrefix(image, "--") {
			image = words[1]
		}
		if tag := pinned.FindStringSubmatch(image); tag == nil || tag[1] == ":latest" {
			t.Errorf("FROM %s: want an image with a tag", image)
		}
	}
	last := make(map[string]string)
	for _, i := range all[len(all)-1] {
		last[i.name] = i.arguments
	}
	if !strings.Contains(last["FROM"], "distroless/static") || !regexp.MustCompile(`^[1-9]\d*(:[1-9]\d*)?$`).MatchString(last["USER"]) {
		t.Errorf("the image is FROM %s with USER %s: want distroless and a user id other than root", last["FROM"], last["USER"])
	}
	if got, want := last["ENTRYPOINT"], `["/service"]`; got != want {
		t.Errorf("ENTRYPOINT %s, want %s", got, want)
	}
}

func TestDockerfileHasTheGoVersionOfGoMod(t *testing.T) {
	t.Parallel()
	image := regexp.MustCompile(`golang:(\d+\.\d+)\.`).FindStringSubmatch(stages(t)[0][0].arguments)
	modules, err := filepath.Glob(filepath.Join(root, "go.mod"))
	if err != nil || image == nil {
		t.Fatal("no Go in the Dockerfile", err)
	}
	for _, module := range modules {
		text, err := os.ReadFile(module)
		if err != nil {
			t.Fatal(err)
		}
		var needs string
		for line := range strings.Lines(string(text)) {
			if _, err := fmt.Sscanf(line, "go %s", &needs); err == nil {
				break
			}
		}
		if !strings.HasPrefix(needs+".", image[1]+".") {
			t.Errorf("%s needs Go %s, the image has %s", module, needs, image[1])
		}
	}
}

func TestDockerignoreIncludesWhatIsCopied(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if lines[1] != "*" {
		t.Errorf("the first rule is %q, want * to exclude everything", lines[1])
	}
	for _, i := range stages(t)[0] {
		if i.name != "COPY" {
			continue
		}
		paths := strings.Fields(i.arguments)
		for _, from := range paths[:len(paths)-1] {
			for _, service := range []string{"ingest", "aggregator", "query"} {
				path := strings.ReplaceAll(from, "${SERVICE}", service)
				if !slices.ContainsFunc(lines, func(rule string) bool {
					included, ok := strings.CutPrefix(rule, "!")
					return ok && (path == included || strings.HasPrefix(path, included+"/"))
				}) {
					t.Errorf(".dockerignore excludes %s", path)
				}
			}
		}
	}
}
