package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/accrue/accrue/rivals/compare"
	"github.com/accrue/accrue/tools/cli"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" { // the comparison starts this program again
		main()
	}
	os.Exit(m.Run())
}

func TestWritesAPage(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes seconds")
	}
	folder := t.TempDir()
	page, chart := filepath.Join(folder, "page.md"), filepath.Join(folder, "chart.svg")
	var output bytes.Buffer
	arguments := []string{"--only", "NATS", "--rounds", "1", "--each", "100ms", "--kills", "1", "--page", page, "--chart", chart}
	if code := cli.Execute(t.Context(), compare.Command(), arguments, &output, &output); code != 0 {
		t.Fatalf("exit code %d: %s", code, &output)
	}
	written, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| NATS | D1 |", "| NATS SyncAlways, keys | D2 | yes |", "**exact**", "| nats.go |"} {
		if !strings.Contains(string(written), want) {
			t.Errorf("the page has no %q:\n%s", want, written)
		}
	}
	drawn, err := os.Open(chart)
	if err != nil {
		t.Fatal(err)
	}
	defer drawn.Close() //nolint:errcheck // only read
	for decoder := xml.NewDecoder(drawn); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the chart is not XML: %v", err)
		}
	}
}

// page runs the comparison of some subjects without kills and returns its page.
func page(t *testing.T, only string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page.md")
	var output bytes.Buffer
	arguments := []string{"--only", only, "--rounds", "1", "--each", "100ms", "--kills", "0", "--page", path, "--chart", path + ".svg"}
	if code := cli.Execute(t.Context(), compare.Command(), arguments, &output, &output); code != 0 {
		t.Fatalf("exit code %d: %s", code, &output)
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(written)
}

func TestComparesOnTheEmulators(t *testing.T) {
	t.Parallel()
	ci, _ := strconv.ParseBool(os.Getenv("CI")) // anything else means false
	if testing.Short() && !ci {
		t.Skip("needs the Firestore and Pub/Sub emulators")
	}
	written := page(t, "ten shards")
	if strings.Contains(written, "**Left out:**") && !ci {
		t.Skip("needs the Firestore and Pub/Sub emulators of the Cloud SDK and Java")
	}
	for _, want := range []string{"## On the emulators", "| Firestore, ten shards | D0 (emulator) |  | The same", "| Firestore's client | 1."} {
		if !strings.Contains(written, want) {
			t.Errorf("the page has no %q:\n%s", want, written)
		}
	}
}

func TestEmulatorsThatAreMissingAreLeftOut(t *testing.T) {
	path := t.TempDir()
	for _, program := range []string{"uname", "df"} { // which describe the machine
		found, err := exec.LookPath(program)
		if err != nil {
			t.Skip(err)
		}
		if err := os.Symlink(found, filepath.Join(path, program)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", path)
	if written := page(t, "(emulator)"); !strings.Contains(written, "**Left out:** start the firestore emulator: emulator not found: java") {
		t.Errorf("the page does not say that java is missing:\n%s", written)
	}
}

func TestUnknownSubject(t *testing.T) {
	t.Parallel()
	var output bytes.Buffer
	if code := cli.Execute(t.Context(), compare.Command(), []string{"--only", "none"}, &output, &output); code != 2 {
		t.Errorf("exit code %d, want 2: %s", code, &output)
	}
}
