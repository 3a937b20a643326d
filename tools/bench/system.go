package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/tools/emulator"
)

// lab is the two emulators, each a process, and the programs that are measured with them.
type lab struct {
	binaries            string
	messages, documents *emulator.Emulator
	// projects is the number of projects that systems were started on.
	projects int
}

// heapMiB bounds the heap of each emulator: the Pub/Sub emulator keeps every message of the run, and with 1 GiB it stalled after a hundred
// million increments.
const heapMiB = 4096

// openLab starts the emulators.
func openLab(ctx context.Context, binaries string) (*lab, error) {
	messages, err := emulator.StartPubSub(ctx, emulator.Options{HeapMiB: heapMiB})
	if err != nil {
		return nil, err
	}
	documents, err := emulator.StartFirestore(ctx, emulator.Options{HeapMiB: heapMiB})
	if err != nil {
		return nil, errors.Join(err, messages.Stop())
	}
	return &lab{binaries: binaries, messages: messages, documents: documents}, nil
}

// close ends the emulators.
func (l *lab) close() error { return errors.Join(l.messages.Stop(), l.documents.Stop()) }

// system is the three services, each a process.
type system struct {
	binaries                  string
	environment               []string
	ingest, aggregator, query *process
}

// start starts the services with settings, on a project of their own: nothing that an earlier system counted slows them. It returns when they
// are ready. The caller must call stop.
func (l *lab) start(ctx context.Context, settings ...string) (*system, error) {
	l.projects++
	s := &system{binaries: l.binaries, environment: append([]string{
		fmt.Sprintf("GOOGLE_CLOUD_PROJECT=accrue-bench-%d", l.projects),
		"PUBSUB_EMULATOR_HOST=" + l.messages.Host, "FIRESTORE_EMULATOR_HOST=" + l.documents.Host, "PORT=0",
	}, settings...)}
	for _, p := range []struct {
		name    string
		process **process
	}{{"aggregator", &s.aggregator}, {"ingest", &s.ingest}, {"query", &s.query}} {
		if err := s.launch(ctx, p.name, p.process); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	return s, nil
}

// launch starts a service and returns when it is ready.
func (s *system) launch(ctx context.Context, name string, p **process) error {
	started, err := launch(filepath.Join(s.binaries, name), nil, s.environment)
	if err != nil {
		return err
	}
	*p = started
	return started.ready(ctx)
}

// restart ends a service and starts it anew.
func (s *system) restart(ctx context.Context, name string, p **process) error {
	if err := (*p).stop(); err != nil {
		return err
	}
	return s.launch(ctx, name, p)
}

// still is how long /stats must be unchanged before everything counts as counted: more than two windows.
const still = 2500 * time.Millisecond

// settleLimit bounds the wait for that.
const settleLimit = 5 * time.Minute

// stop ends the services. It may be called more than once.
func (s *system) stop() error {
	var faults []error
	for _, p := range []*process{s.ingest, s.query, s.aggregator} {
		if p != nil {
			faults = append(faults, p.stop())
		}
	}
	return errors.Join(faults...)
}

// counted is what the aggregator logs when it stops.
type counted struct {
	Increments     int64 `json:"increments"`
	Documents      int64 `json:"documents"`
	CommitsByAge   int64 `json:"commits_by_age"`
	CommitsBySize  int64 `json:"commits_by_size"`
	CommitsByDrain int64 `json:"commits_by_drain"`
}

// writes returns the number of documents written: those of tags, and a checkpoint for each Commit.
func (c counted) writes() int64 {
	return c.Documents + c.CommitsByAge + c.CommitsBySize + c.CommitsByDrain
}

// perWrite returns the number of increments for each write.
func (c counted) perWrite() float64 { return float64(c.Increments) / float64(max(c.writes(), 1)) }

// process is one program that serves.
type process struct {
	cmd     *exec.Cmd
	url     string
	ended   chan struct{}
	err     error
	counted counted // complete when it has ended
}

var errNotServing = errors.New("does not serve")

// startLimit bounds the wait for a program to serve, and to be ready.
const startLimit = 30 * time.Second

func launch(path string, arguments, environment []string) (*process, error) {
	p := &process{cmd: exec.Command(path, arguments...), ended: make(chan struct{})} //nolint:gosec,noctx // stop ends it
	p.cmd.Env = append(os.Environ(), environment...)
	output, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("launch: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("launch (after `make build`): %w", err)
	}
	ports := make(chan int, 1)
	go p.read(output, ports)
	select {
	case port := <-ports:
		p.url = fmt.Sprintf("http://127.0.0.1:%d", port)
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("%s: %w: %w", path, errNotServing, p.err)
	case <-time.After(startLimit):
		return nil, errors.Join(fmt.Errorf("%s: %w", path, errNotServing), p.stop())
	}
}

// ready returns when the process is ready.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+service.ReadyPath, http.NoBody)
		if err != nil {
			return fmt.Errorf("ask whether it is ready: %w", err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = answer.Body.Close() // the status says it
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("%s answers %s", request.URL, answer.Status)
		}
		select {
		case <-ticker.C:
		case <-p.ended:
			return fmt.Errorf("%s: %w: %w", p.cmd.Path, errNotServing, p.err)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.cmd.Path, errors.Join(ctx.Err(), err))
		}
	}
}

// read takes the port and the final counts from the log.
func (p *process) read(output io.Reader, ports chan<- int) {
	defer close(p.ended)
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		var line struct {
			Message string `json:"message"`
			Port    int    `json:"port"`
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		switch line.Message {
		case "serving":
			ports <- line.Port
		case "drained":
			_ = json.Unmarshal(lines.Bytes(), &p.counted) // it is JSON
		}
	}
	p.err = p.cmd.Wait()
}

// stop ends the process. It may be called more than once.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop: %w", err)
	}
	select {
	case <-p.ended:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return p.err
}
