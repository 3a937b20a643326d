package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/accrue/accrue/rivals/postgres"
	"github.com/accrue/accrue/rivals/process"
	"github.com/accrue/accrue/rivals/redis"
)

// startTimeout bounds the start of a subject, recovery included.
const startTimeout = time.Minute

// class is what a 202 survives.
type class string

const (
	none   class = "–"
	memory class = "D0"
	killed class = "D1"
	fsync  class = "D2"
	// emulated is memory too: an emulator keeps nothing.
	emulated class = "D0 (emulator)"
)

// subject is one of those that are compared.
type subject struct {
	name  string
	class class
	// keys means that each post has an idempotency key, and the subject counts each key once.
	keys bool
	// accrue means that it is Accrue, and nothing that it counts nothing.
	accrue, nothing bool
	// singles leaves batches out.
	singles bool
	// program is what must be installed.
	program string
	// how says how it counts, and why what its 202 promises is more or less than Accrue's.
	how, why string

	address string
	parts   []*part
}

// part is one process of a subject.
type part struct {
	name    string
	start   func(context.Context) (*process.Process, error)
	process *process.Process
}

// places is where subjects find what they need.
type places struct {
	// folder is where they keep data, self this program, and accrue the program accrue.
	folder, self, accrue string
}

// list collects subjects.
type list struct {
	places
	subjects []*subject
	faults   []error
}

func (l *list) dir(name string) string {
	path := filepath.Join(l.folder, name)
	// PostgreSQL, as another user, enters the folder.
	l.faults = append(l.faults, os.MkdirAll(path, 0o755)) //nolint:gosec // it holds no secrets
	return path
}

func (l *list) port(ctx context.Context) int {
	n, err := freePort(ctx)
	l.faults = append(l.faults, err)
	return n
}

func (l *list) add(ctx context.Context, s *subject, app func(address string) process.Command, stores ...*part) {
	s.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port(ctx)))
	name := "app"
	if s.accrue {
		name = "accrue"
	}
	s.parts = slices.Concat(stores, []*part{{name: name, start: func(ctx context.Context) (*process.Process, error) {
		return process.Start(ctx, app(s.address))
	}}})
	l.subjects = append(l.subjects, s)
}

// serve returns the command that serves a rival.
func (p places) serve(arguments ...string) func(string) process.Command {
	return func(address string) process.Command {
		return process.Command{Path: p.self, Arguments: append([]string{"serve", "--address", address}, arguments...)}
	}
}

// run returns the command that runs Accrue.
func (p places) run(arguments ...string) func(string) process.Command {
	return func(address string) process.Command {
		_, port, _ := net.SplitHostPort(address) // it was joined before
		return process.Command{
			Path: p.accrue, Arguments: append([]string{"run", "--port", port}, arguments...),
			Env: []string{"GOOGLE_CLOUD_PROJECT=", "PUBSUB_EMULATOR_HOST=", "FIRESTORE_EMULATOR_HOST="},
		}
	}
}

// subjects returns all subjects but those on the emulators. They do not run.
func (p places) subjects(ctx context.Context) ([]*subject, error) {
	l := &list{places: p}
	l.add(ctx, &subject{
		name: nameNothing, class: none, nothing: true, how: "Decodes, validates, answers 202 and keeps nothing: the ceiling",
		why: "it counts nothing",
	}, p.serve("nothing"))
	l.add(ctx, &subject{
		name: nameWaits, class: none, nothing: true, how: "The same, but each post waits up to 4 ms for others, as it does for a group commit: the ceiling of what answers after a group",
		why: "it counts nothing",
	}, p.serve("waiting"))
	l.add(ctx, &subject{
		name: nameMemory, class: memory, accrue: true, how: "`accrue run --data ''`", why: "it keeps nothing on disk",
	}, p.run("--data", ""))
	l.add(ctx, &subject{name: nameAccrue, class: fsync, accrue: true, how: "`accrue run --data FOLDER`"}, p.run("--data", l.dir("accrue")))
	l.add(ctx, &subject{
		name: nameKeys, class: fsync, accrue: true, keys: true, how: "The same, with an `Idempotency-Key` on each post",
	}, p.run("--data", l.dir("accrue-keys")))
	for _, r := range []struct {
		name, fsync string
		class       class
		keys        bool
		why         string
	}{
		{nameEverysec, "everysec", killed, false, "its answer comes up to a second before the fsync, and a retry counts again"},
		{"Redis everysec, keys", "everysec", killed, true, "its answer comes up to a second before the fsync"},
		{"Redis always", "always", fsync, false, "a retry counts again"},
		{nameAlways, "always", fsync, true, ""},
	} {
		port, data := l.port(ctx), l.dir("redis-"+r.fsync+"-"+strconv.FormatBool(r.keys))
		how := "Gin, rueidis, `HINCRBY` on redis-server with `appendfsync " + r.fsync + "`"
		if r.keys {
			how = "The same in one script with `SET key NX EX 86400`, `appendfsync " + r.fsync + "`"
		}
		l.add(ctx, &subject{name: r.name, class: r.class, keys: r.keys, how: how, why: r.why, program: "redis-server"},
			p.serve("redis", "--store", redis.Address(port), "--keys="+strconv.FormatBool(r.keys)),
			&part{name: "redis", start: func(ctx context.Context) (*process.Process, error) {
				return redis.Start(ctx, data, port, r.fsync)
			}})
	}
	data := l.dir("postgres")
	l.add(ctx, &subject{
		name: namePostgres, class: fsync, keys: true, program: "postgres",
		how: "Gin, pgx; posts that wait are one transaction: `INSERT … ON CONFLICT DO NOTHING` of their keys, then one UPSERT of sums by tag",
	}, p.serve("postgres", "--store", data), &part{name: "postgres", start: func(ctx context.Context) (*process.Process, error) {
		return postgres.Start(ctx, data)
	}})
	l.add(ctx, &subject{
		name: "NATS", class: killed, how: "Gin, JetStream counters of a nats-server in the same process, as it comes: it fsyncs every 2 minutes.",
		why: "its answer comes up to two minutes before the fsync, and a retry counts again",
	}, p.serve("nats", "--store", l.dir("nats")))
	l.add(ctx, &subject{
		name: nameNATS, class: fsync, keys: true, singles: true,
		how: "The same with `SyncAlways`, and the key as each message's `Nats-Msg-Id`. It fsyncs each message by itself, so batches take seconds and are left out",
	}, p.serve("nats", "--store", l.dir("nats-sync"), "--keys", "--sync"))
	return l.subjects, errors.Join(l.faults...)
}

// freePort returns a port that is free now.
func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // tcp
	return port, l.Close()
}

func (s *subject) url() string { return "http://" + s.address }

// start starts all parts and waits until totals can be read.
func (s *subject) start(ctx context.Context) error {
	for _, p := range s.parts {
		started, err := p.start(ctx)
		if err != nil {
			return fmt.Errorf("start %s of %s: %w", p.name, s.name, err)
		}
		p.process = started
	}
	for began := time.Now(); ; {
		_, err := s.total(ctx)
		if err == nil {
			return nil
		}
		for _, p := range s.parts {
			select {
			case <-p.process.Ended():
				return fmt.Errorf("start %s of %s: %w", p.name, s.name, p.process.Err())
			default:
			}
		}
		if time.Since(began) > startTimeout {
			return fmt.Errorf("start %s: %w", s.name, err)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// stop stops all parts, the last first.
func (s *subject) stop() error { return s.end((*process.Process).Stop) }

// kill kills all parts, the last first.
func (s *subject) kill() error { return s.end((*process.Process).Kill) }

func (s *subject) end(by func(*process.Process) error) error {
	var faults []error
	for _, p := range slices.Backward(s.parts) {
		if p.process != nil {
			faults = append(faults, by(p.process))
			p.process = nil
		}
	}
	return errors.Join(faults...)
}

// cpu returns the time of the processors that each part has taken.
func (s *subject) cpu() ([]time.Duration, error) {
	times := make([]time.Duration, len(s.parts))
	for i, p := range s.parts {
		var err error
		if times[i], err = p.process.CPU(); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", p.name, s.name, err)
		}
	}
	return times, nil
}

var errStats = errors.New("totals cannot be read")

// total returns the sum of all totals.
func (s *subject) total(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url()+"/stats", http.NoBody)
	if err != nil {
		return 0, fmt.Errorf("read totals: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("read totals: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%w: %s", errStats, response.Status)
	}
	var totals map[string]int64
	if err := json.NewDecoder(response.Body).Decode(&totals); err != nil {
		return 0, fmt.Errorf("read totals: %w", err)
	}
	var sum int64
	for _, n := range totals {
		sum += n
	}
	return sum, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
