//go:build linux

package process_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/rivals/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, script string) *process.Process {
	t.Helper()
	p, err := process.Start(t.Context(), process.Command{Path: "/bin/sh", Arguments: []string{"-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

func TestCPUIncludesChildrenAlsoAfterTheirEnd(t *testing.T) {
	t.Parallel()
	// The child works in the background, then it ends, and its parent waits for it and goes on.
	p := start(t, `(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done) & wait; exec sleep 1000`)
	var before time.Duration
	await(t, "the child's CPU time", func() bool {
		now, err := p.CPU()
		if err != nil {
			t.Fatal(err)
		}
		if now < before {
			t.Fatalf("CPU() = %v after %v: the time of a child that ended is lost", now, before)
		}
		before = now
		return now >= 50*time.Millisecond
	})
}

func TestKillEndsChildrenInOtherGroups(t *testing.T) {
	t.Parallel()
	p, err := process.Start(t.Context(), process.Command{Path: "/bin/sh", Arguments: []string{"-c", "setsid sleep 1000 & echo $!; wait"}})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "two processes", func() bool {
		pids, err := p.Tree()
		return err == nil && len(pids) == 2
	})
	pids, err := p.Tree()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the child", func() bool { return errors.Is(syscall.Kill(pids[1], 0), syscall.ESRCH) })
}

func TestStopAsksAndErrShowsTheOutput(t *testing.T) {
	t.Parallel()
	p := start(t, `trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.01; done`)
	await(t, "the trap", func() bool { return strings.Contains(p.Printed(), "ready") })
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	<-p.Ended()
	if err := p.Err(); !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "asked") {
		t.Errorf("Err() = %v, want the exit status and the output", err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	const line = "4711 (a) name) S 42 1 1 0 -1 4194560 100 0 0 0 7 5 3 2 20 0 1 0 100 1 1"
	parent, ticks, err := process.Parse(line)
	if err != nil || parent != 42 || ticks != 7+5+3+2 {
		t.Errorf("parse(%q) = %d, %d, %v, want 42, 17", line, parent, ticks, err)
	}
	for _, wrong := range []string{"", "1 (a) S", "1 (a) S x 1 1 0 -1 4194560 100 0 0 0 7 5 3 2 20", "1 (a) S 1 1 1 0 -1 4194560 100 0 0 0 7 x 3 2 20"} {
		if _, _, err := process.Parse(wrong); err == nil {
			t.Errorf("parse(%q) = nil, want an error", wrong)
		}
	}
}
