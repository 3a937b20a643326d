// Package emulator runs the Pub/Sub and Firestore emulators of the Cloud SDK as child processes, for tests and for work
// on one machine. Nothing of a service imports it.
package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	// startTimeout is many times what a Java process takes to answer on a busy machine with two cores.
	startTimeout = 60 * time.Second
	// attempts is how often a free port is looked for. Between finding one and using it, somebody else may take it.
	attempts = 3
	// tailBytes is how much of an emulator's output is kept for error messages.
	tailBytes = 8 << 10
	// pipeTimeout bounds how long the end of an emulator's output is waited for after the emulator itself has ended.
	pipeTimeout = 2 * time.Second
	// loopback is the only address that emulators listen on: they know no authentication.
	loopback = "127.0.0.1"
)

// ErrNotFound is the case of a machine without the Cloud SDK, without the emulator in it, or without Java. The error
// says which.
var ErrNotFound = errors.New("emulator not found")

// Options are the settings of an emulator. The zero value is good for tests.
type Options struct {
	// Port on 127.0.0.1; 0 for a free one.
	Port int
	// HeapMiB bounds Java's heap, in MiB; 0 means 1024. Emulators keep everything in memory.
	HeapMiB int
	// Rules is the path of a Firestore rules file. Without one everything is allowed. It means nothing to Pub/Sub.
	Rules string
}

// Emulator is one that runs, until Stop.
type Emulator struct {
	// Host is its address, "127.0.0.1:port", in the form of PUBSUB_EMULATOR_HOST and FIRESTORE_EMULATOR_HOST.
	Host string

	cmd    *exec.Cmd
	output *tail
	done   chan struct{} // closed when the process has ended and err is set
	err    error
}

// StartPubSub starts the Pub/Sub emulator and returns when it answers. Its end is for the caller to bring about, with
// Stop: ctx bounds only the start. Should this process be killed, the emulator is killed with it, on Linux.
func StartPubSub(ctx context.Context, o Options) (*Emulator, error) {
	e, err := start(ctx, o, pubSub())
	if err != nil {
		return nil, fmt.Errorf("start the pub/sub emulator: %w", err)
	}
	return e, nil
}

// StartFirestore starts the Firestore emulator, as StartPubSub.
func StartFirestore(ctx context.Context, o Options) (*Emulator, error) {
	e, err := start(ctx, o, firestore())
	if err != nil {
		return nil, fmt.Errorf("start the firestore emulator: %w", err)
	}
	return e, nil
}

// kind is what the emulators differ in.
type kind struct {
	// jar is a pattern below the SDK's root; the name holds the version.
	jar string
	// arguments of java, after those of the JVM.
	arguments func(jar string, o Options) []string
	// ask makes any call that tells a working server.
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
	heap := "-Xmx" + strconv.Itoa(o.HeapMiB) + "m"
	for attempt := 1; ; attempt++ {
		with := o
		if with.Port, err = freePort(ctx, o.Port); err != nil {
			return nil, err
		}
		e, err := launch(java, append([]string{heap}, k.arguments(jar, with)...), with.Port)
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

// find returns the newest file below the Cloud SDK's root that matches a pattern.
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

// freePort returns port, or any for 0, if nobody listens on it. Without this look, an emulator that cannot bind to its
// port would seem to answer when in truth another one does, that was there before.
func freePort(ctx context.Context, port int) (int, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()                          //nolint:errcheck // it was never used
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
		// The kernel kills the child when the thread that started it ends, not only when the process does. So this
		// goroutine keeps its thread until the child is gone.
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

// wait returns nil once the emulator has answered a call, and an error when it ends or ctx does.
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
	defer conn.Close() //nolint:errcheck // nothing is left to lose
	for {
		err := k.ask(ctx, conn, grpc.WaitForReady(true))
		select {
		case <-e.done:
			return fmt.Errorf("it ended by itself: %w\n%s", e.Err(), e.output)
		default:
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("wait for it to answer: %w\n%s", ctx.Err(), e.output)
		case status.Code(err) == codes.Unavailable: // the connection broke
		default:
			return nil // even a refusal is an answer
		}
	}
}

// PID is the id of the Java process, which is also its process group.
func (e *Emulator) PID() int { return e.cmd.Process.Pid }

// Done is closed when the process has ended, by Stop or by itself.
func (e *Emulator) Done() <-chan struct{} { return e.done }

// Err says how the process ended; Output may say why. It is nil as long as it runs, and never after that.
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

// Output returns the last few kilobytes that the emulator has written.
func (e *Emulator) Output() string { return e.output.String() }

// Stop kills the emulator, with all that it holds, and waits for its end. It may be called more than once, and also for
// an emulator that was frozen by a signal.
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

// tail keeps the last tailBytes of what is written to it.
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
