// Package emulator runs the Pub/Sub and Firestore emulators of the Cloud SDK as child processes, for tests and for work
// on one machine. It needs a Unix system, Java, and the Cloud SDK with both emulators installed.
package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

const (
	// defaultHeapMiB holds the largest test of this repository twice over.
	defaultHeapMiB = 1024
	// startTimeout is many times what the emulators need to start on a busy machine with two cores.
	startTimeout = 60 * time.Second
	// attempts bounds how often start tries another free port: another process may take a port before the emulator binds it.
	attempts = 3
	// tailBytes bounds how much of an emulator's output is kept for error messages.
	tailBytes = 8 << 10
	// pipeTimeout bounds the wait for the end of an emulator's output after its process has ended.
	pipeTimeout = 2 * time.Second
	// loopback is the only address the emulators listen on, because they do not authenticate.
	loopback = "127.0.0.1"
)

// ErrNotFound is returned when the Cloud SDK, its emulator component, or Java is not installed. The error that wraps it
// names what is missing.
var ErrNotFound = errors.New("emulator not found")

// Options configures an emulator. The zero value suits tests.
type Options struct {
	// Port is the port on 127.0.0.1; 0 means any free port.
	Port int
	// HeapMiB bounds the Java heap, in MiB; 0 means 1024. The emulators keep all data in memory.
	HeapMiB int
	// Rules is the path of a Firestore rules file. Without one everything is allowed. Pub/Sub ignores it.
	Rules string
}

// Emulator is a running emulator. The caller must call Stop.
type Emulator struct {
	// Host is the address, "127.0.0.1:port", as PUBSUB_EMULATOR_HOST and FIRESTORE_EMULATOR_HOST expect it.
	Host string

	cmd    *exec.Cmd
	output *tail
	done   chan struct{} // closed when the process has ended and err is set
	err    error
}

// StartPubSub starts the Pub/Sub emulator and returns when it answers calls. ctx bounds only the start; the emulator runs
// until Stop. On Linux it is also killed when this process dies.
func StartPubSub(ctx context.Context, o Options) (*Emulator, error) {
	e, err := start(ctx, o, pubSub())
	if err != nil {
		return nil, fmt.Errorf("start the pub/sub emulator: %w", err)
	}
	return e, nil
}

// StartFirestore is StartPubSub for the Firestore emulator.
func StartFirestore(ctx context.Context, o Options) (*Emulator, error) {
	e, err := start(ctx, o, firestore())
	if err != nil {
		return nil, fmt.Errorf("start the firestore emulator: %w", err)
	}
	return e, nil
}

// kind holds what differs between the two emulators.
type kind struct {
	// jar is a glob pattern relative to the SDK's root; the file name contains the version.
	jar string
	// arguments returns the arguments of java that follow those of the JVM.
	arguments func(jar string, o Options) []string
	// ask makes a call that only a working server answers.
	ask func(context.Context, grpc.ClientConnInterface, ...grpc.CallOption) error
}

func pubSub() kind {
	return kind{
		jar: "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*.jar",
		arguments: func(jar string, o Options) []string {
			return []string{"-jar", jar, "--host=" + loopback, "--port=" + strconv.Itoa(o.Port)}
		},
		ask: func(ctx context.Context, c grpc.ClientConnInterface, o ...grpc.CallOption) error {
			_, err := pubsubpb.NewPublisherClient(c).ListTopics(ctx, &pubsubpb.ListTopicsRequest{Project: "projects/ready"}, o...)
			return err
		},
	}
}

func firestore() kind {
	return kind{
		jar: "platform/cloud-firestore-emulator/cloud-firestore-emulator*.jar",
		arguments: func(jar string, o Options) []string {
			arguments := []string{
				"-Duser.language=en", "-cp", jar, "com.google.cloud.datastore.emulator.firestore.CloudFirestore", "start",
				"--host=" + loopback, "--port=" + strconv.Itoa(o.Port),
			}
			if o.Rules != "" {
				arguments = append(arguments, "--rules="+o.Rules)
			}
			return arguments
		},
		ask: func(ctx context.Context, c grpc.ClientConnInterface, o ...grpc.CallOption) error {
			request := &firestorepb.ListCollectionIdsRequest{Parent: "projects/ready/databases/(default)/documents"}
			_, err := firestorepb.NewFirestoreClient(c).ListCollectionIds(ctx, request, o...)
			return err
		},
	}
}

func start(ctx context.Context, o Options, k kind) (*Emulator, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, fmt.Errorf("%w: java: %w", ErrNotFound, err)
	}
	jar, err := find(ctx, k.jar)
	if err != nil {
		return nil, err
	}
	if o.HeapMiB == 0 {
		o.HeapMiB = defaultHeapMiB
	}
	// An emulator that is full answers nothing any more. It ends instead, and its clients see that.
	heap := "-Xmx" + strconv.Itoa(o.HeapMiB) + "m"
	for attempt := 1; ; attempt++ {
		with := o
		if with.Port, err = freePort(ctx, o.Port); err != nil {
			return nil, err
		}
		e, err := launch(java, append([]string{heap, "-XX:+ExitOnOutOfMemoryError"}, k.arguments(jar, with)...), with.Port)
		if err != nil {
			return nil, err
		}
		if err = e.wait(ctx, k); err == nil {
			return e, nil
		}
		err = errors.Join(err, e.Stop())
		if o.Port != 0 || attempt == attempts || ctx.Err() != nil || !strings.Contains(e.output.String(), "in use") {
			return nil, err
		}
	}
}

// find returns the newest file under the Cloud SDK's root that matches pattern.
func find(ctx context.Context, pattern string) (string, error) {
	out, err := exec.CommandContext(ctx, "gcloud", "info", "--format=value(installation.sdk_root)").Output()
	if err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("ask gcloud for the sdk: %w", ctx.Err())
		}
		return "", fmt.Errorf("%w: gcloud: %w", ErrNotFound, err)
	}
	root := strings.TrimSpace(string(out))
	found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("%w: %s in the cloud sdk (gcloud components install)", ErrNotFound, pattern)
	}
	return slices.Max(found), nil
}

// freePort returns port, or a free port if it is 0, and an error if port is in use. Without this check, another emulator
// that already listens on port would be taken for the one that could not bind it.
func freePort(ctx context.Context, port int) (int, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()                          //nolint:errcheck // it accepted nothing
	return listener.Addr().(*net.TCPAddr).Port, nil //nolint:forcetypeassert // tcp
}

// launch starts the process.
func launch(java string, arguments []string, port int) (*Emulator, error) {
	e := &Emulator{
		Host:   net.JoinHostPort(loopback, strconv.Itoa(port)),
		cmd:    exec.Command(java, arguments...), //nolint:gosec,noctx // java as found on the path; Stop ends it
		output: &tail{},
		done:   make(chan struct{}),
	}
	e.cmd.Stdout, e.cmd.Stderr = e.output, e.output
	e.cmd.WaitDelay = pipeTimeout
	e.cmd.SysProcAttr = attributes()
	started := make(chan error, 1)
	go func() {
		// The kernel kills the child when the thread that started it ends, not only when the process does, so this
		// goroutine keeps its thread until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := e.cmd.Start()
		started <- err
		if err == nil {
			e.err = e.cmd.Wait()
			close(e.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run java: %w", err)
	}
	return e, nil
}

// wait returns nil when the emulator has answered a call, and an error if the emulator or ctx ends first.
func (e *Emulator) wait(ctx context.Context, k kind) error {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		select {
		case <-e.done:
			cancel()
		case <-ctx.Done():
		}
	})
	conn, err := grpc.NewClient(e.Host, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay: 50 * time.Millisecond, Multiplier: 1, MaxDelay: 50 * time.Millisecond,
		}}))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", e.Host, err)
	}
	defer conn.Close() //nolint:errcheck // only asked whether the emulator is ready
	for {
		err := k.ask(ctx, conn, grpc.WaitForReady(true))
		select {
		case <-e.done:
			return fmt.Errorf("it exited: %w\n%s", e.Err(), e.output)
		default:
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("wait for it to answer: %w\n%s", ctx.Err(), e.output)
		case status.Code(err) == codes.Unavailable: // the connection broke; try again
		default:
			return nil // any other status is an answer too
		}
	}
}

// PID returns the id of the Java process, which is also the id of its process group.
func (e *Emulator) PID() int { return e.cmd.Process.Pid }

// Done returns a channel that is closed when the process has ended, by Stop or on its own.
func (e *Emulator) Done() <-chan struct{} { return e.done }

// Err returns nil while the process runs and a non-nil error after it has ended. Output may show the reason.
func (e *Emulator) Err() error {
	select {
	case <-e.done:
	default:
		return nil
	}
	if e.err == nil {
		return errors.New("exit status 0")
	}
	return e.err
}

// Output returns the last few kilobytes of the emulator's output.
func (e *Emulator) Output() string { return e.output.String() }

// Stop kills the emulator, which loses its data, and waits until its process has ended. It may be called more than once,
// and on an emulator that is stopped by SIGSTOP.
func (e *Emulator) Stop() error {
	select {
	case <-e.done:
		return nil
	default:
	}
	if err := kill(e.cmd.Process); err != nil {
		return fmt.Errorf("stop the emulator at %s: %w", e.Host, err)
	}
	<-e.done
	return nil
}

// kill ends the process group. A process that has already ended is not an error.
func kill(p *os.Process) error {
	if err := syscall.Kill(-p.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// tail is an io.Writer that keeps the last tailBytes written to it. It is safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p[max(0, len(p)-tailBytes):]...)
	if excess := len(t.kept) - tailBytes; excess > 0 {
		t.kept = append(t.kept[:0], t.kept[excess:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.kept))
}
