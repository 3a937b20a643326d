//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/database"
)

func TestAFullDiskIsAnsweredNotCountedAndPasses(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var printed printedRecognitions
	p := startRun(t, folder, printed.read, fmt.Sprintf("%s=%d", limitVariable, 1<<20))
	address := p.serving(t)
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	e := &expected{tags: make(map[string]bounds), contributions: make(map[string]int64)}
	long := strings.Repeat("語", 100)
	// post posts n batches of 20, each by a contributor of its own, and returns how many were answered as not counted.
	n := 0
	post := func(batches int) (refused int) {
		t.Helper()
		for range batches {
			n++
			contributor := fmt.Sprintf("%s %d", long, n)
			item := fmt.Sprintf(`{"name":"foo","value":2,"contributor":%q},`, contributor)
			body := `{"increments":[` + strings.TrimSuffix(strings.Repeat(item, 20), ",") + `]}`
			result, err := send(t.Context(), client, address, "/increments/batch", "", body)
			switch {
			case err != nil:
				t.Fatal(err)
			case result == accepted:
				e.add("foo", 40, 40)
				e.contributions[contributor] = 20
			case result == unknown:
				t.Error("the outcome of a post to a full disk is unknown")
			default:
				refused++
			}
		}
		return refused
	}
	for patience := time.Now().Add(60 * time.Second); post(1) == 0; {
		if time.Now().After(patience) {
			t.Fatalf("after %d posts the disk is not full", n)
		}
	}
	for patience := time.Now().Add(30 * time.Second); post(20) < 20 && time.Now().Before(patience); {
	}
	var totals map[string]int64
	if err := get(t, client, address+"/stats", &totals); err != nil || totals["foo"] == 0 {
		t.Errorf("reads with a full disk: %v, %v", totals, err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	for patience := time.Now().Add(30 * time.Second); post(1) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(patience) {
			t.Fatal("posts are refused although there is room again")
		}
	}
	post(10)
	awaitTotals(t, client, address, e)
	p.kill(t)
	p = startRun(t, folder, printed.read)
	awaitTotals(t, client, p.serving(t), e)
	printed.await(e)
	p.stop(t)
	verifyStore(t, folder, e)
	t.Logf("%d of %d posts accepted", e.accepted, n)
}

func TestAFolderThatCannotBeUsedIsOneLine(t *testing.T) {
	t.Parallel()
	used := t.TempDir()
	p := startRun(t, used, nil)
	p.serving(t)
	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "accrue.db"), []byte(strings.Repeat("text\n", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(damaged, "accrue.db")
	moved := t.TempDir()
	d, err := database.Open(database.Options{Folder: moved, Log: zerolog.Nop()})
	if err == nil {
		err = errors.Join(d.Move(t.Context(), "projects/p/databases/d"), d.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	type fault struct{ folder, want string }
	faults := []fault{
		{used, "another process uses it"},
		{damaged, "the file is damaged"},
		{damaged, "restore a backup, or move it away"},
		{file, "not a directory"},
		{moved, "was migrated to projects/p/databases/d"},
	}
	if os.Getuid() != 0 {
		faults = append(faults, fault{closed, fs.ErrPermission.Error()})
	}
	for _, f := range faults {
		cmd := accrueCommand(t, "run", "--port", "0", "--data", f.folder)
		var failed strings.Builder
		cmd.Stderr = &failed
		out, _ := cmd.Output()
		if cmd.ProcessState.ExitCode() != 1 || len(out) > 0 || strings.Count(failed.String(), "\n") != 1 ||
			!strings.Contains(failed.String(), f.want) || !strings.Contains(failed.String(), f.folder) {
			t.Errorf("exit code %d, printed %q, want one line with %q", cmd.ProcessState.ExitCode(), failed.String(), f.want)
		}
	}
	p.stop(t)
}
