// Package process runs the programs that are compared: it starts, kills and stops them, with all their children, and reads
// how much time of the processors they have taken. It needs Linux.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// stopTimeout bounds a stop. After it, the process and its children are killed.
	stopTimeout = 20 * time.Second
	// goneTimeout bounds the wait for children after a kill.
	goneTimeout = 10 * time.Second
	// outputBytes bounds how much of the output is kept for error messages.
	outputBytes = 4 << 10
	// tick is the unit of /proc/PID/stat: Linux shows a hundredth of a second to programs, on every architecture.
	tick = 10 * time.Millisecond
)

// Command is a program to run.
type Command struct {
	Path      string
	Arguments []string
	// Env is added to the environment.
	Env []string
	// User, if not 0, is the id of the user and group to run as.
	User, Group uint32
	// Interrupt stops the process by SIGINT in place of SIGTERM.
	Interrupt bool
}

// Process is a program that runs. The caller must call Stop or Kill.
type Process struct {
	cmd    *exec.Cmd
	stop   syscall.Signal
	output *tail
	done   chan struct{} // closed when the process has ended and err is set
	err    error
}

// Start starts a program in a process group of its own. It runs until Stop or Kill; ctx bounds the start only.
func Start(ctx context.Context, c Command) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := &Process{
		cmd:  exec.Command(c.Path, c.Arguments...), //nolint:gosec,noctx // the caller names it, and ends it
		stop: syscall.SIGTERM, output: &tail{}, done: make(chan struct{}),
	}
	if c.Interrupt {
		p.stop = syscall.SIGINT
	}
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Dir = "/"
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = attributes()
	if c.User != 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.User, Gid: c.Group}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// Ended returns a channel that is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Err describes the end of a process that has ended, with the last of its output.
func (p *Process) Err() error {
	<-p.done
	return fmt.Errorf("%s ended: %w: %s", filepath.Base(p.cmd.Path), p.err, p.output)
}

// Stop asks the process to stop, and kills it if it does not.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(p.stop); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop: %w", err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("%s did not stop", filepath.Base(p.cmd.Path)), p.Kill())
	}
}

// Kill kills the process and its children with SIGKILL and waits for their end.
func (p *Process) Kill() error {
	pids, err := p.tree()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill: %w", err)
		}
	}
	<-p.done
	for _, pid := range pids[1:] {
		if err := gone(pid); err != nil {
			return err
		}
	}
	return nil
}

var errRemains = errors.New("killed, and still there")

// gone waits until a process has ended. One that nothing has waited for counts as ended.
func gone(pid int) error {
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		s, err := read(pid)
		switch {
		case errors.Is(err, os.ErrNotExist) || err == nil && s.state == "Z":
			return nil
		case err != nil:
			return err
		case time.Since(start) > goneTimeout:
			return fmt.Errorf("%d: %w", pid, errRemains)
		}
	}
}

// CPU returns the time of the processors that the process and its children have taken, those that have ended included.
func (p *Process) CPU() (time.Duration, error) {
	pids, err := p.tree()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range pids {
		s, err := read(pid)
		if errors.Is(err, os.ErrNotExist) {
			continue // its parent has its time now
		}
		if err != nil {
			return 0, err
		}
		sum += time.Duration(s.ticks) * tick
	}
	return sum, nil
}

// tree returns the ids of the process and of its children, and of theirs.
func (p *Process) tree() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("read processes: %w", err)
	}
	children := make(map[int][]int)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		s, err := read(pid)
		if err != nil {
			continue // it has ended
		}
		children[s.parent] = append(children[s.parent], pid)
	}
	pids := []int{p.cmd.Process.Pid}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return pids, nil
}

// stat is a part of /proc/PID/stat.
type stat struct {
	state  string
	parent int
	ticks  int64 // of the process and of its children that have ended
}

var errStat = errors.New("unknown form of /proc/PID/stat")

func read(pid int) (stat, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if errors.Is(err, syscall.ESRCH) {
		err = os.ErrNotExist
	}
	if err != nil {
		return stat{}, fmt.Errorf("read process: %w", err)
	}
	return parse(string(text))
}

// parse reads a line of /proc/PID/stat. The name, in parentheses, may hold anything.
func parse(text string) (stat, error) {
	const state, parent, user, childrenSystem = 0, 1, 11, 14 // after the name
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= childrenSystem {
		return stat{}, errStat
	}
	s := stat{state: fields[state]}
	var err error
	if s.parent, err = strconv.Atoi(fields[parent]); err != nil {
		return stat{}, fmt.Errorf("%w: %w", errStat, err)
	}
	for _, field := range fields[user : childrenSystem+1] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return stat{}, fmt.Errorf("%w: %w", errStat, err)
		}
		s.ticks += n
	}
	return s, nil
}

// ErrNotFound is returned for a program that is not installed.
var ErrNotFound = errors.New("not installed")

// Find returns the path of a program: in PATH, or the newest of Debian's folders for PostgreSQL.
func Find(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return filepath.Abs(path)
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("%s: %w", program, ErrNotFound)
	}
	return slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }), nil
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 is older than any
	return n
}

// Output runs a program to its end and returns what it prints.
func Output(ctx context.Context, path string, arguments ...string) (string, error) {
	output, err := exec.CommandContext(ctx, path, arguments...).Output() //nolint:gosec // the caller names it
	if err != nil {
		return "", fmt.Errorf("run %s: %w", filepath.Base(path), err)
	}
	return strings.TrimSpace(string(output)), nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > 2*outputBytes {
		t.text = append(t.text[:0], t.text[len(t.text)-outputBytes:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text[max(0, len(t.text)-outputBytes):]))
}
