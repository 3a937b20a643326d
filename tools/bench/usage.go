package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticks is the number of units of CPU time in a second in /proc/PID/stat: USER_HZ, which is 100 on every Linux that Go runs on.
const ticks = 100

// errNoProc is returned elsewhere than on Linux.
var errNoProc = errors.New("there is no /proc")

// proc returns the content of a file of a process in /proc.
func (p *process) proc(file string) (string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file))
	if errors.Is(err, fs.ErrNotExist) {
		if _, self := os.Stat("/proc/self/" + file); self != nil {
			return "", errNoProc
		}
	}
	if err != nil {
		return "", fmt.Errorf("usage of %s: %w", p.cmd.Path, err)
	}
	return string(content), nil
}

// cpu returns the CPU time that the process has used. The error is errNoProc elsewhere than on Linux.
func (p *process) cpu() (time.Duration, error) {
	stat, err := p.proc("stat")
	if err != nil {
		return 0, err
	}
	return parseCPU(stat)
}

// resident returns the most resident memory that the process has had, in bytes. The error is errNoProc elsewhere than on Linux.
func (p *process) resident() (float64, error) {
	status, err := p.proc("status")
	if err != nil {
		return 0, err
	}
	return parseResident(status)
}

// parseCPU returns the CPU time of a process, as user and in the kernel, from its /proc/PID/stat.
func parseCPU(stat string) (time.Duration, error) {
	// The name of the program, in parentheses, may hold spaces and parentheses itself.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const user, kernel = 11, 12 // after the name
	if len(fields) <= kernel {
		return 0, fmt.Errorf("stat of a process: %d fields after the name", len(fields))
	}
	var sum time.Duration
	for _, field := range []string{fields[user], fields[kernel]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat of a process: %w", err)
		}
		sum += time.Duration(n) * time.Second / ticks
	}
	return sum, nil
}

// parseResident returns VmHWM, in bytes, from a /proc/PID/status.
func parseResident(status string) (float64, error) {
	for line := range strings.Lines(status) {
		value, ok := strings.CutPrefix(line, "VmHWM:")
		if !ok {
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || unit != "kB" {
			return 0, fmt.Errorf("status of a process: VmHWM is %q", strings.TrimSpace(value))
		}
		return float64(n) * 1024, nil
	}
	return 0, errors.New("status of a process: there is no VmHWM")
}
