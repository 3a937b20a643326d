// Package commands_test runs the commands in the README and the documentation literally.
//
// A command is a line that begins with "$ " in a console block of a Markdown file. The lines below it are its output: each
// must appear in the real output, in order. Lines of "..." are skipped; white space, times and milliseconds may differ.
// Commands that cannot run here stand in a section with a comment,
//
//	<!-- not run: it needs a cloud -->
//
// which covers its section from there on, subsections included. Commands in running text are checked, not run: their make
// targets, packages and flags must exist.
package commands_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	root = "../.."
	// server is the command that runs until it is interrupted; the other commands of a file run against it.
	server = "make run"
	// freePorts makes the server listen on free ports, so that the test disturbs no other process.
	freePorts = "ARGS=--port 0"
	// commandTimeout bounds one block of commands, compilation included.
	commandTimeout = 3 * time.Minute
)

// command is a command of a console block and the output that the page shows for it.
type command struct {
	line   int
	text   string
	output []string
}

// block is a console block.
type block struct {
	line     int
	commands []command
	notRun   string // the reason why the block is not run, if any
}

var (
	headingForm = regexp.MustCompile(`^(#+) `)
	notRunForm  = regexp.MustCompile(`^<!-- not run: (.+) -->$`)
	inlineForm  = regexp.MustCompile("`((?:make|go run) [^`]+)`")
	targetForm  = regexp.MustCompile(`(?m)^([a-z-]+):`)
	addressForm = regexp.MustCompile(`localhost:\d+`)
	variantForm = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z|"lag_ms":\d+`)
)

// parse returns the console blocks of a page and the commands in its running text.
func parse(page string) (blocks []block, inline []string, err error) {
	var fence, notRun string
	var notRunLevel, level int
	for i, text := range strings.Split(page, "\n") {
		number := i + 1
		switch trimmed := strings.TrimSpace(text); {
		case fence == "" && strings.HasPrefix(trimmed, "```"):
			if fence = trimmed; fence == "```sh" || fence == "```bash" || fence == "```shell" {
				return nil, nil, fmt.Errorf("line %d: write a console block, so that the commands are tested", number)
			}
			if fence == "```console" {
				blocks = append(blocks, block{line: number, notRun: notRun})
			}
		case strings.HasPrefix(trimmed, "```"):
			fence = ""
		case fence == "```console":
			b := &blocks[len(blocks)-1]
			if line, ok := strings.CutPrefix(text, "$ "); ok {
				b.commands = append(b.commands, command{line: number, text: line})
			} else if len(b.commands) == 0 {
				return nil, nil, fmt.Errorf("line %d: output before the first command", number)
			} else if last := &b.commands[len(b.commands)-1]; strings.HasSuffix(last.text, `\`) {
				last.text += "\n" + text
			} else {
				last.output = append(last.output, text)
			}
		case fence != "":
		default:
			if m := headingForm.FindStringSubmatch(text); m != nil {
				if level = len(m[1]); level <= notRunLevel {
					notRun, notRunLevel = "", 0
				}
			}
			if m := notRunForm.FindStringSubmatch(trimmed); m != nil && notRun == "" {
				notRun, notRunLevel = m[1], level
			}
			for _, m := range inlineForm.FindAllStringSubmatch(text, -1) {
				inline = append(inline, m[1])
			}
		}
	}
	return blocks, inline, nil
}

// pages returns the Markdown files of the repository, the README first.
func pages(t *testing.T) []string {
	t.Helper()
	found := []string{"README.md"}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || strings.HasPrefix(entry.Name(), ".") && path != root) {
			return filepath.SkipDir
		}
		relative, err := filepath.Rel(root, path)
		if err == nil && filepath.Ext(path) == ".md" && relative != "README.md" {
			found = append(found, relative)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCommandsInTheDocumentationWork(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles and runs the commands of the documentation")
	}
	programs := t.TempDir() // accrue is on the path of those who built it
	build := exec.CommandContext(t.Context(), "go", "build", "-o", programs, "./tools/accrue")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build accrue: %v\n%s", err, output)
	}
	folder := usedFolder(t, programs)
	for _, page := range pages(t) {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		blocks, inline, err := parse(string(text))
		if err != nil {
			t.Errorf("%s: %v", page, err)
			continue
		}
		for _, line := range inline {
			if err := exists(t.Context(), line); err != nil {
				t.Errorf("%s: `%s`: %v", page, line, err)
			}
		}
		if len(blocks) > 0 {
			t.Run(page, func(t *testing.T) { runBlocks(t, blocks, programs, folder) })
		}
	}
}

// usedFolder returns a folder that accrue run has used, which the pages call FOLDER.
func usedFolder(t *testing.T, programs string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "data")
	run := exec.CommandContext(t.Context(), filepath.Join(programs, "accrue"), "run", "--data", folder, "--port", "0")
	stdout, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), "Press Ctrl-C to stop.") {
	}
	_ = run.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	_, _ = io.Copy(io.Discard, stdout)
	if err := run.Wait(); err != nil {
		t.Fatalf("accrue run: %v", err)
	}
	return folder
}

// runBlocks runs the blocks of a page in order, against a server of their own.
func runBlocks(t *testing.T, blocks []block, programs, folder string) {
	var running *runningServer
	ran := 0
	for _, b := range blocks {
		if b.notRun != "" {
			t.Logf("line %d: %d commands not run: %s", b.line, len(b.commands), b.notRun)
			continue
		}
		var script []command
		for _, c := range b.commands {
			ran++
			if c.text == server || addressForm.MatchString(c.text) {
				if running == nil {
					running = startServer(t, c)
				}
			}
			if c.text != server {
				script = append(script, c)
			}
		}
		if len(script) > 0 {
			runScript(t, script, programs, folder, running)
		}
	}
	t.Logf("%d commands ran", ran)
}

// runScript runs commands in one shell, so that they share variables, and compares their output.
func runScript(t *testing.T, commands []command, programs, folder string, running *runningServer) {
	t.Helper()
	const separator = "\x1e"
	var script strings.Builder
	for _, c := range commands {
		script.WriteString(running.toReal(c.text) + "\nprintf '" + `\036%d\036` + "' $?\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-c", script.String())
	shell.Dir = root
	shell.Env = append(os.Environ(), "FOLDER="+folder, "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"))
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that a timeout ends its children too
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
	var stderr bytes.Buffer
	shell.Stderr = &stderr
	output, err := shell.Output()
	parts := strings.Split(string(output), separator)
	for i, c := range commands {
		if 2*i+1 >= len(parts) {
			t.Fatalf("line %d: `%s` did not end: %v\n%s%s", c.line, c.text, err, output, stderr.Bytes())
		}
		text := running.toDocumented(parts[2*i])
		if code := parts[2*i+1]; code != "0" {
			t.Errorf("line %d: `%s` exits with %s\n%s%s", c.line, c.text, code, text, stderr.Bytes())
		} else if missing := firstMissing(c.output, text); missing != "" {
			t.Errorf("line %d: `%s` does not print %q but\n%s", c.line, c.text, missing, text)
		}
	}
}

// firstMissing returns the first expected line that is not in the output after the lines before it.
func firstMissing(expected []string, output string) string {
	rest := normalize(output)
	for _, line := range expected {
		want := normalize(line)
		if want == "..." {
			continue
		}
		_, after, found := strings.Cut(rest, want)
		if !found {
			return line
		}
		rest = after
	}
	return ""
}

// normalize removes white space, since pages wrap long lines, and what differs from run to run.
func normalize(text string) string {
	return variantForm.ReplaceAllString(strings.Join(strings.Fields(text), ""), "VARIES")
}

// runningServer is the server of a page. A nil runningServer maps no addresses.
type runningServer struct {
	documented, real []string // addresses, in the order in which the server prints them
}

func (r *runningServer) toReal(text string) string {
	if r == nil {
		return text
	}
	return addressForm.ReplaceAllStringFunc(text, func(address string) string {
		if i := slices.Index(r.documented, address); i >= 0 {
			return r.real[i]
		}
		return address
	})
}

func (r *runningServer) toDocumented(text string) string {
	if r == nil {
		return text
	}
	return addressForm.ReplaceAllStringFunc(text, func(address string) string {
		if i := slices.Index(r.real, address); i >= 0 {
			return r.documented[i]
		}
		return address
	})
}

// documentedServer returns the README's command for the server, for pages that use the server without showing it.
func documentedServer(t *testing.T) command {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks, _, err := parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		for _, c := range b.commands {
			if c.text == server {
				return c
			}
		}
	}
	t.Fatalf("the README does not show %s", server)
	return command{}
}

// startServer runs the server until the end of the test, and checks that it prints what the page shows.
func startServer(t *testing.T, c command) *runningServer {
	t.Helper()
	if len(c.output) == 0 || c.text != server {
		c = documentedServer(t)
	}
	last := ""
	for _, line := range c.output {
		if line != "" && line != "..." {
			last = line
		}
	}
	data := t.TempDir() + "/"
	cmd := exec.Command("make", "run", "DATA="+data+".accrue", freePorts)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "ACCRUE=go run ./tools/accrue") // of the packages that other tests have compiled
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close() //nolint:errcheck // the command has its own
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	printed := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		var output strings.Builder
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			output.WriteString(strings.ReplaceAll(lines.Text(), data, "") + "\n")
			if strings.Contains(lines.Text(), last) {
				select {
				case printed <- output.String():
				default:
				}
			}
		}
		close(printed)
	})
	t.Cleanup(func() {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Errorf("interrupt %s: %v", server, err)
		}
		reading.Wait()
		_ = cmd.Wait() // make reports the interrupt as an error
	})
	select {
	case output := <-printed:
		r := &runningServer{}
		for _, address := range addressForm.FindAllString(strings.Join(c.output, "\n"), -1) {
			if !slices.Contains(r.documented, address) {
				r.documented = append(r.documented, address)
			}
		}
		for _, address := range addressForm.FindAllString(output, -1) {
			if !slices.Contains(r.real, address) {
				r.real = append(r.real, address)
			}
		}
		if len(r.real) != len(r.documented) {
			t.Fatalf("%s prints the addresses %v, documented are %v\n%s", server, r.real, r.documented, output)
		}
		if missing := firstMissing(c.output, r.toDocumented(output)); missing != "" {
			t.Errorf("line %d: `%s` does not print %q but\n%s", c.line, server, missing, output)
		}
		return r
	case <-time.After(commandTimeout):
		said, _ := os.ReadFile(stderr.Name())
		t.Fatalf("%s does not print %q\n%s", server, last, said)
		return nil
	}
}

// exists checks the make target, or the package and the flags, of a command in running text.
func exists(ctx context.Context, line string) error {
	fields := strings.Fields(line)
	if fields[0] == "make" {
		makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
		if err != nil {
			return err
		}
		for _, m := range targetForm.FindAllSubmatch(makefile, -1) {
			if string(m[1]) == fields[1] {
				return nil
			}
		}
		return fmt.Errorf("no target %s", strconv.Quote(fields[1]))
	}
	arguments := slices.DeleteFunc(slices.Clone(fields[2:]), func(s string) bool { return strings.HasPrefix(s, "-") })
	last := slices.IndexFunc(arguments, func(s string) bool { return strings.HasPrefix(s, "./") })
	if last < 0 {
		return fmt.Errorf("no package of this repository")
	}
	// A subcommand follows the package at once, before any flag.
	run := []string{"run", arguments[last]}
	at := slices.Index(fields, arguments[last])
	if at+1 < len(fields) && !strings.HasPrefix(fields[at+1], "-") {
		run = append(run, fields[at+1])
	}
	help := exec.CommandContext(ctx, "go", append(run, "--help")...)
	help.Dir = root
	usage, err := help.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go %s --help: %w\n%s", strings.Join(run, " "), err, usage)
	}
	for _, field := range fields[at+1:] {
		if name, ok := strings.CutPrefix(field, "-"); ok && !regexp.MustCompile(`(?m)^\s.*--`+regexp.QuoteMeta(strings.TrimLeft(name, "-"))+`\b`).Match(usage) {
			return fmt.Errorf("no flag %s", field)
		}
	}
	return nil
}
