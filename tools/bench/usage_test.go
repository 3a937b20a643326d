package bench

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseCPU(t *testing.T) {
	t.Parallel()
	const rest = " S 1 2 3 4 5 6 7 8 9 10 250 50 700 800 20 0 9\n"
	for name, tc := range map[string]struct {
		stat string
		want time.Duration
		fail bool
	}{
		"user and kernel":         {"42 (ingest)" + rest, 3 * time.Second, false},
		"a name with a space":     {"42 (my program)" + rest, 3 * time.Second, false},
		"parentheses in a name":   {"42 (a) (b))" + rest, 3 * time.Second, false},
		"too few fields":          {"42 (ingest) S 1 2", 0, true},
		"nothing":                 {"", 0, true},
		"a number that is a word": {"42 (ingest) S 1 2 3 4 5 6 7 8 9 10 x 50", 0, true},
	} {
		got, err := parseCPU(tc.stat)
		if (err != nil) != tc.fail || !tc.fail && got != tc.want {
			t.Errorf("%s: %v, %v, want %v", name, got, err, tc.want)
		}
	}
}

func TestParseResident(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status string
		want   float64
		fail   bool
	}{
		"among others":   {"Name:\tingest\nVmPeak:\t  900 kB\nVmHWM:\t   20 kB\nVmRSS:\t   10 kB\n", 20 * 1024, false},
		"none":           {"Name:\tingest\nVmRSS:\t   10 kB\n", 0, true},
		"another unit":   {"VmHWM:\t 20 MB\n", 0, true},
		"without number": {"VmHWM:\t many kB\n", 0, true},
	} {
		got, err := parseResident(tc.status)
		if (err != nil) != tc.fail || got != tc.want {
			t.Errorf("%s: %v, %v, want %v", name, got, err, tc.want)
		}
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	t.Parallel()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: &exec.Cmd{Process: self}}
	resident, err := p.resident()
	if errors.Is(err, errNoProc) {
		t.Skip(err)
	}
	if err != nil || resident < 1<<20 {
		t.Errorf("resident memory is %.0f bytes, %v", resident, err)
	}
	if cpu, err := p.cpu(); err != nil || cpu < 0 || cpu > time.Hour {
		t.Errorf("CPU time is %v, %v", cpu, err)
	}
}

// A process that has ended is not a machine without /proc.
func TestUsageOfAnEndedProcessIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc")
	}
	ended := &process{cmd: &exec.Cmd{Process: &os.Process{Pid: 1 << 30}}}
	if _, err := ended.cpu(); err == nil || errors.Is(err, errNoProc) {
		t.Errorf("cpu() = %v", err)
	}
}
