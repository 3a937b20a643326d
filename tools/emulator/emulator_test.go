//go:build unix

package emulator_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/accrue/accrue/tools/emulator"
	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

// parentVariable, when set, makes this test binary start an emulator and wait to be killed.
const parentVariable = "EMULATOR_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) != "" {
		e, err := emulator.StartPubSub(context.Background(), emulator.Options{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(e.PID())
		select {}
	}
	emulatortest.Main(m, goleak.IgnoreCurrent())
}

// start starts an emulator for one test. It skips the test where the emulators are not installed, except in CI.
func start(
	t *testing.T, start func(context.Context, emulator.Options) (*emulator.Emulator, error), o emulator.Options,
) *emulator.Emulator {
	t.Helper()
	if testing.Short() {
		t.Skip("starts an emulator")
	}
	e, err := start(t.Context(), o)
	if errors.Is(err, emulator.ErrNotFound) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestStopEndsEvenAStoppedProcess(t *testing.T) {
	t.Parallel()
	e := start(t, emulator.StartPubSub, emulator.Options{HeapMiB: 64})
	if err := e.Err(); err != nil {
		t.Errorf("Err() = %v while it runs", err)
	}
	if err := syscall.Kill(e.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second call has nothing to do
		if err := e.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	<-e.Done()
	if e.Err() == nil {
		t.Error("Err() = nil after the end")
	}
	if err := syscall.Kill(e.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v, want %v", e.PID(), err, syscall.ESRCH)
	}
	if _, err := net.Dial("tcp", e.Host); err == nil {
		t.Errorf("%s still answers", e.Host)
	}
}

func TestStartRefusesAPortInUse(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // test over
	port := listener.Addr().(*net.TCPAddr).Port
	_, err = emulator.StartPubSub(t.Context(), emulator.Options{Port: port})
	if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, emulator.ErrNotFound) {
		t.Errorf("StartPubSub() = %v, want %v", err, syscall.EADDRINUSE)
	}
}

func TestFirestoreEnforcesRules(t *testing.T) {
	t.Parallel()
	rules := filepath.Join(t.TempDir(), "firestore.rules")
	const text = `rules_version = '2';
service cloud.firestore { match /databases/{database}/documents { match /tags/{tag} { allow read: if true; } } }`
	if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e := start(t, emulator.StartFirestore, emulator.Options{Rules: rules})
	conn, err := grpc.NewClient(e.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // test over
	for document, want := range map[string]codes.Code{"tags/t-foo": codes.NotFound, "partitions/0": codes.PermissionDenied} {
		name := "projects/" + emulatortest.Project(t) + "/databases/(default)/documents/" + document
		_, err := firestorepb.NewFirestoreClient(conn).GetDocument(t.Context(), &firestorepb.GetDocumentRequest{Name: name})
		if got := status.Code(err); got != want {
			t.Errorf("GetDocument(%s) = %v, want %v", document, err, want)
		}
	}
}

func TestEmulatorDiesWithItsParent(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Skip("only Linux kills the children of a killed process")
	}
	start(t, emulator.StartPubSub, emulator.Options{HeapMiB: 64}) // skips where there is none

	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"=yes")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(line)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	waitForEnd(t, pid)
}

// waitForEnd waits until the process has ended or is a zombie.
func waitForEnd(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("process %d still runs: %s", pid, stat)
		}
	}
}

// The tests below replace gcloud and java with scripts.

// sdk makes a folder like a Cloud SDK with a Pub/Sub emulator, and returns a PATH that has gcloud and the given script as
// java.
func sdk(t *testing.T, java string) (path string) {
	t.Helper()
	root, path := t.TempDir(), t.TempDir()
	jar := filepath.Join(root, "platform", "pubsub-emulator", "lib", "cloud-pubsub-emulator-1.2.3-all.jar")
	if err := os.MkdirAll(filepath.Dir(jar), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(jar, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{"gcloud": "echo " + root, "java": java} {
		if err := os.WriteFile(filepath.Join(path, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestStartNamesWhatIsMissing(t *testing.T) {
	whole := sdk(t, "exit 1")
	without := func(name string) string {
		path := sdk(t, "exit 1")
		if err := os.Remove(filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tc := range map[string]struct {
		path  string
		start func(context.Context, emulator.Options) (*emulator.Emulator, error)
		want  string
	}{
		"java":         {without("java"), emulator.StartPubSub, "java"},
		"gcloud":       {without("gcloud"), emulator.StartPubSub, "gcloud"},
		"the emulator": {whole, emulator.StartFirestore, "cloud-firestore-emulator"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", tc.path)
			_, err := tc.start(t.Context(), emulator.Options{})
			if !errors.Is(err, emulator.ErrNotFound) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("start = %v, want %v that names %q", err, emulator.ErrNotFound, tc.want)
			}
		})
	}
}

func TestStartReportsTheOutputOfAFailedEmulator(t *testing.T) {
	t.Setenv("PATH", sdk(t, `echo "needs Java 99, was given: $*" >&2; exit 3`))
	_, err := emulator.StartPubSub(t.Context(), emulator.Options{HeapMiB: 77, Port: 0})
	if err == nil {
		t.Fatal("StartPubSub() = nil")
	}
	for _, want := range []string{"needs Java 99", "exit status 3", "-Xmx77m", "cloud-pubsub-emulator-1.2.3-all.jar"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("StartPubSub() = %q, does not name %q", err, want)
		}
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Errorf("StartPubSub() = %T, does not wrap %T", err, exit)
	}
}

func TestStartTriesAnotherPort(t *testing.T) {
	t.Setenv("PATH", sdk(t, `echo "$*" >> "$LOG"; echo "Address already in use" >&2; exit 1`))
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("LOG", log)
	if _, err := emulator.StartPubSub(t.Context(), emulator.Options{}); err == nil {
		t.Error("StartPubSub() = nil")
	}
	tries, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(tries), "\n"); got != 3 {
		t.Errorf("tried %d times, want 3:\n%s", got, tries)
	}
}

func TestCancellingStartKillsTheWholeProcessGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	if err := syscall.Mkfifo(pidFile, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PID_FILE", pidFile)
	// Some installations wrap java in a script that does not exec it: the whole group must end.
	t.Setenv("PATH", sdk(t, `/bin/sleep 1000 & echo $! > "$PID_FILE"; wait`))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	child := make(chan int, 1)
	go func() {
		defer cancel()
		text, _ := os.ReadFile(pidFile) // blocks until the script writes
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		child <- pid
	}()
	if _, err := emulator.StartPubSub(ctx, emulator.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("StartPubSub() = %v, want %v", err, context.Canceled)
	}
	pid := <-child
	if pid == 0 {
		t.Fatal("the script did not write its child's pid")
	}
	waitForEnd(t, pid)
}
