package deployment

import (
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
	"syscall"
	"testing"
)

// instruction is one instruction of a Dockerfile.
type instruction struct{ name, arguments string }

// stage is one build stage of a Dockerfile.
type stage struct {
	name, image  string
	instructions []instruction
}

// stages returns the stages of the Dockerfile in their order.
func stages(t *testing.T) []stage {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deployments", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	var all []stage
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", "")) {
		name, arguments, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		if name == "FROM" {
			words := strings.Fields(strings.TrimPrefix(arguments, "--platform=$BUILDPLATFORM "))
			if len(words) != 3 || words[1] != "AS" {
				t.Fatalf("FROM %s: want an image and a name", arguments)
			}
			all = append(all, stage{image: words[0], name: words[2]})
			continue
		}
		if len(all) == 0 {
			t.Fatalf("%s before FROM", name)
		}
		last := &all[len(all)-1]
		last.instructions = append(last.instructions, instruction{name, strings.TrimSpace(arguments)})
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

// mounts matches the flags of RUN that mount a cache: here the caches are those of the machine.
var mounts = regexp.MustCompile(`^(--mount=type=cache,target=\S+\s+)+`)

func (m *machine) run(command string) {
	m.t.Helper()
	out := filepath.Join(m.folder, "out")
	command = mounts.ReplaceAllString(command, "")
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

// The build stage is carried out as it is written. Each program that it builds runs, is static, and reports the version.
func TestDockerfileBuildsEachProgram(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the services")
	}
	if runtime.GOOS != "linux" {
		t.Skip("the binaries run on Linux only")
	}
	m := &machine{t: t, folder: t.TempDir(), env: map[string]string{"VERSION": "v0.1.0", "TARGETOS": runtime.GOOS, "TARGETARCH": runtime.GOARCH}}
	for _, i := range stages(t)[0].instructions {
		m.do(i)
	}
	// Without settings a service names a missing one, and the health check cannot connect.
	for program, want := range map[string]string{
		"ingest": "GOOGLE_CLOUD_PROJECT", "aggregator": "GOOGLE_CLOUD_PROJECT", "query": "GOOGLE_CLOUD_PROJECT",
		"accrue": "unknown command", "healthcheck": "connection refused",
	} {
		path := filepath.Join(m.folder, "out", program)
		if err := static(path); err != nil {
			t.Errorf("%s: %v", program, err)
		}
		arguments := []string(nil)
		if program == "accrue" {
			arguments = []string{"nothing"}
		}
		output, err := inEmptyRoot(t, path, []string{"PORT=1"}, arguments...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(output, want) {
			t.Errorf("%s: %v, output lacks %q:\n%s", program, err, want, output)
		}
		if program == "healthcheck" {
			continue
		}
		if version, err := inEmptyRoot(t, path, nil, "--version"); err != nil || !strings.HasPrefix(version, program+" v0.1.0 ") {
			t.Errorf("%s --version: %v, %q", program, err, version)
		}
	}
}

// inEmptyRoot runs a program as the image does, with no other file to be seen, if the test may do that.
func inEmptyRoot(t *testing.T, path string, environment []string, arguments ...string) (string, error) {
	t.Helper()
	run := exec.CommandContext(t.Context(), path, arguments...)
	if os.Getuid() == 0 {
		root := t.TempDir()
		if err := os.Link(path, filepath.Join(root, "program")); err != nil {
			t.Fatal(err)
		}
		run = exec.CommandContext(t.Context(), "/program", arguments...)
		run.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
		run.Dir = "/"
	}
	run.Env = environment
	if environment == nil {
		run.Env = []string{}
	}
	output, err := run.CombinedOutput()
	return string(output), err
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

func TestImagesArePinnedLabelledAndNotRoot(t *testing.T) {
	t.Parallel()
	pinned := regexp.MustCompile(`^[a-z0-9./_-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}$`)
	all := stages(t)
	for _, s := range all[:2] { // the others are made from these
		if !pinned.MatchString(s.image) {
			t.Errorf("FROM %s: want an image with a tag, for people, and a digest", s.image)
		}
	}
	base := make(map[string]string)
	for _, i := range all[1].instructions {
		base[i.name] = i.arguments
	}
	if !strings.Contains(all[1].image, "distroless/static") || !regexp.MustCompile(`^[1-9]\d*(:[1-9]\d*)?$`).MatchString(base["USER"]) {
		t.Errorf("the images are FROM %s with USER %s: want distroless and a user id other than root", all[1].image, base["USER"])
	}
	for _, label := range []string{"source", "version", "revision", "licenses"} {
		if !strings.Contains(base["LABEL"], "org.opencontainers.image."+label+"=") {
			t.Errorf("the images have no label org.opencontainers.image.%s", label)
		}
	}
	for _, s := range all[2:] {
		last := make(map[string]string)
		for _, i := range s.instructions {
			last[i.name] = i.arguments
		}
		want := `["/service"]`
		if s.name == "accrue" {
			want = `["/accrue"]`
		}
		if s.image != all[1].name || last["USER"] != "" || last["ENTRYPOINT"] != want {
			t.Errorf("%s is FROM %s with USER %q and ENTRYPOINT %s, want %s", s.name, s.image, last["USER"], last["ENTRYPOINT"], want)
		}
	}
}

func TestDockerfileHasTheGoVersionOfGoMod(t *testing.T) {
	t.Parallel()
	image := regexp.MustCompile(`golang:(\d+\.\d+)\.`).FindStringSubmatch(stages(t)[0].image)
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
	for _, i := range stages(t)[0].instructions {
		if i.name != "COPY" {
			continue
		}
		paths := strings.Fields(i.arguments)
		for _, path := range paths[:len(paths)-1] {
			if !slices.ContainsFunc(lines, func(rule string) bool {
				included, ok := strings.CutPrefix(rule, "!")
				return ok && (path == included || strings.HasPrefix(path, included+"/"))
			}) {
				t.Errorf(".dockerignore excludes %s", path)
			}
		}
	}
}
