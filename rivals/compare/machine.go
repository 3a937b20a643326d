package compare

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/accrue/accrue/rivals/postgres"
	"github.com/accrue/accrue/rivals/process"
	"github.com/accrue/accrue/rivals/redis"
)

// machine describes what a run depends on.
type machine struct {
	cpu, kernel, fileSystem string
	// busy is the share of the processors' time that something else took in the seconds before the run.
	busy  float64
	cores int
	// fsyncs is how often the disk keeps 4 KiB in a second.
	fsyncs   float64
	versions [][2]string
}

// describe describes this machine, and the disk of a folder.
func describe(ctx context.Context, folder string) (*machine, error) {
	m := &machine{cores: runtime.NumCPU()}
	var faults []error
	keep := func(value string, err error) string {
		faults = append(faults, err)
		return value
	}
	m.cpu = keep(cpuModel())
	var err error
	m.busy, err = measureBusy(ctx, 2*time.Second)
	faults = append(faults, err)
	m.kernel = keep(process.Output(ctx, "uname", "-sr"))
	m.fileSystem = keep(process.Output(ctx, "df", "--output=fstype", folder))
	m.fileSystem = m.fileSystem[strings.LastIndexByte(m.fileSystem, '\n')+1:]
	m.fsyncs, err = measureFsync(folder, time.Second)
	faults = append(faults, err)
	m.versions = [][2]string{{"Go", strings.TrimPrefix(runtime.Version(), "go")}}
	for _, program := range []struct {
		name    string
		version func(context.Context) (string, error)
	}{{"Redis", redis.Version}, {"PostgreSQL", postgres.Version}} {
		version, err := program.version(ctx)
		if errors.Is(err, process.ErrNotFound) {
			continue // and what needs it does not run
		}
		m.versions, faults = append(m.versions, [2]string{program.name, version}), append(faults, err)
	}
	info, _ := debug.ReadBuildInfo()
	modules := map[string]string{
		"github.com/nats-io/nats-server/v2": "nats-server", "github.com/nats-io/nats.go": "nats.go",
		"github.com/synadia-io/orbit.go/counters": "orbit counters", "github.com/redis/rueidis": "rueidis",
		"github.com/jackc/pgx/v5": "pgx", "github.com/gin-gonic/gin": "Gin",
		"cloud.google.com/go/firestore": "Firestore's client",
	}
	if info != nil {
		for _, d := range info.Deps {
			if name := modules[d.Path]; name != "" {
				m.versions = append(m.versions, [2]string{name, strings.TrimPrefix(d.Version, "v")})
			}
		}
	}
	return m, errors.Join(faults...)
}

// cpuModel returns the model of the processors.
func cpuModel() (string, error) {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "", fmt.Errorf("read processors: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value), nil
		}
	}
	return runtime.GOARCH, lines.Err()
}

// measureBusy returns the share of the processors' time that is not idle, for some time. The load average would have what ended a minute ago.
func measureBusy(ctx context.Context, d time.Duration) (float64, error) {
	busy, all, err := processorTime()
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	busyThen, allThen, err := processorTime()
	return (busyThen - busy) / max(allThen-all, 1), err
}

// processorTime returns how long the processors were busy since the start of the machine, and how long they were there.
func processorTime() (busy, all float64, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("read the time of processors: %w", err)
	}
	first, _, _ := strings.Cut(string(stat), "\n")
	for i, field := range strings.Fields(first)[1:] { // user, nice, system, idle, iowait, and what follows
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read the time of processors: %w", err)
		}
		if all += ticks; i != 3 && i != 4 {
			busy += ticks
		}
	}
	return busy, all, nil
}

// measureFsync returns how often a second 4 KiB can be written and kept.
func measureFsync(folder string, d time.Duration) (float64, error) {
	file, err := os.Create(filepath.Join(folder, "fsync")) //nolint:gosec // a folder of this run
	if err != nil {
		return 0, fmt.Errorf("measure the disk: %w", err)
	}
	defer os.Remove(file.Name()) //nolint:errcheck // the folder is removed too
	defer file.Close()           //nolint:errcheck // nothing depends on it
	page, n := make([]byte, 4096), 0
	start := time.Now()
	for time.Since(start) < d {
		if _, err := file.Write(page); err != nil {
			return 0, fmt.Errorf("measure the disk: %w", err)
		}
		if err := file.Sync(); err != nil {
			return 0, fmt.Errorf("measure the disk: %w", err)
		}
		n++
	}
	return float64(n) / time.Since(start).Seconds(), nil
}
