package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/accrue/accrue/tools/emulator"
)

// system is the emulators, the three services and the baseline, each a process.
type system struct {
	emulators                           []*emulator.Emulator
	baseline, ingest, aggregator, query *process
	counted                             counted

	stopping sync.Once
	stopped  error
}

// counted is what the aggregator logs when it stops.
type counted struct {
	Message        string `json:"message"`
	Increments     int64  `json:"increments"`
	Documents      int64  `json:"documents"`
	CommitsByAge   int64  `json:"commits_by_age"`
	CommitsBySize  int64  `json:"commits_by_size"`
	CommitsByDrain int64  `json:"commits_by_drain"`
}

const project = "accrue-bench"

func start(ctx context.Context, binaries string) (*system, error) {
	s := &system{}
	if err := s.start(ctx, binaries); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *system) start(ctx context.Context, binaries string) error {
	messages, err := emulator.StartPubSub(ctx, emulator.Options{})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	s.emulators = append(s.emulators, messages)
	documents, err := emulator.StartFirestore(ctx, emulator.Options{})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	s.emulators = append(s.emulators, documents)
	environment := []string{
		"GOOGLE_CLOUD_PROJECT=" + project, "PUBSUB_EMULATOR_HOST=" + messages.Host, "FIRESTORE_EMULATOR_HOST=" + documents.Host, "PORT=0",
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	for _, program := range []struct {
		process   **process
		path      string
		arguments []string
	}{
		{&s.aggregator, filepath.Join(binaries, "aggregator"), nil},
		{&s.ingest, filepath.Join(binaries, "ingest"), nil},
		{&s.query, filepath.Join(binaries, "query"), nil},
		{&s.baseline, self, []string{"bench", "baseline", "--port", "0"}},
	} {
		if *program.process, err = launch(program.path, program.arguments, environment); err != nil {
			return err
		}
	}
	return nil
}

// still is how long /stats must be unchanged before everything counts as counted: more than two windows.
const still = 2500 * time.Millisecond

// settleLimit bounds the wait for that.
const settleLimit = 5 * time.Minute

// stop ends all processes, the services first. Further calls return the same.
func (s *system) stop() error {
	s.stopping.Do(func() {
		var faults []error
		for _, p := range []*process{s.baseline, s.ingest, s.query, s.aggregator} {
			if p != nil {
				faults = append(faults, p.stop())
			}
		}
		if s.aggregator != nil {
			s.counted = s.aggregator.counted
		}
		for _, e := range s.emulators {
			faults = append(faults, e.Stop())
		}
		s.stopped = errors.Join(faults...)
	})
	return s.stopped
}

// process is one program that serves.
type process struct {
	cmd     *exec.Cmd
	url     string
	ended   chan struct{}
	err     error
	counted counted
}

var errNotServing = errors.New("does not serve")

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
	case <-time.After(30 * time.Second):
		return nil, errors.Join(fmt.Errorf("%s: %w", path, errNotServing), p.stop())
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
