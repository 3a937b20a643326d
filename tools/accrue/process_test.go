//go:build unix

package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childVariable makes the test binary the command accrue.
const childVariable = "ACCRUE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if size, err := strconv.ParseUint(os.Getenv(limitVariable), 10, 64); err == nil {
			limitFiles(size)
		}
		main()
	}
	goleak.VerifyTestMain(m)
}

// limitVariable is the size, in bytes, beyond which the child's files do not grow: a disk that is full.
const limitVariable = "ACCRUE_TEST_LIMIT"

// limitFiles limits the size of files until the process gets SIGUSR1.
func limitFiles(size uint64) {
	signal.Ignore(syscall.SIGXFSZ)
	room := make(chan os.Signal, 1)
	signal.Notify(room, syscall.SIGUSR1)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
	set := func(size uint64) {
		limit.Cur = size
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			panic(err)
		}
	}
	set(size)
	go func() {
		<-room
		set(limit.Max)
	}()
}

// accrueCommand returns the command accrue as a process of its own.
func accrueCommand(t *testing.T, arguments ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], arguments...)
	cmd.Env = append(os.Environ(), childVariable+"=1", "WINDOW=100ms", "REFRESH=50ms", "LOG_FORMAT=json")
	return cmd
}

// process is an accrue run.
type process struct {
	cmd     *exec.Cmd
	address chan string // receives the address once it serves
	printed func(line string)
	reading sync.WaitGroup
	log     strings.Builder // standard error, complete once the process has ended
}

var addressForm = regexp.MustCompile(`look +(http://\S+)/$`)

// startRun starts accrue run on a folder. Printed, if it is not nil, is called with every line of standard output.
func startRun(t *testing.T, folder string, printed func(line string), environment ...string) *process {
	t.Helper()
	p := &process{cmd: accrueCommand(t, "run", "--port", "0", "--data", folder), address: make(chan string, 1), printed: printed}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Env = append(p.cmd.Env, environment...)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.reading.Go(func() { p.read(out) })
	return p
}

func (p *process) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if found := addressForm.FindStringSubmatch(lines.Text()); found != nil {
			p.address <- strings.Replace(found[1], "localhost", "127.0.0.1", 1)
		}
		if p.printed != nil {
			p.printed(lines.Text())
		}
	}
}

// serving returns the address of the process.
func (p *process) serving(t *testing.T) string {
	t.Helper()
	select {
	case address := <-p.address:
		return address
	case <-time.After(30 * time.Second):
		t.Fatal("accrue run does not serve within 30 s")
		return ""
	}
}

// kill ends the process at once, and returns when everything that it has printed is read.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.reading.Wait()
	if err := p.cmd.Wait(); err == nil || p.cmd.ProcessState.Exited() {
		t.Fatalf("accrue run ended by itself: %v\n%s", err, p.log.String())
	}
}

// stop ends the process in order.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	p.reading.Wait()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("accrue run: %v\n%s", err, p.log.String())
	}
}
