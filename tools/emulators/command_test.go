package emulators

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/emulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCommandRunsBothUntilStopped(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts the emulators")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reader, writer := io.Pipe()
	var printed bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- cli.Execute(ctx, Command(), []string{"--pubsub-port", "0", "--firestore-port", "0", "--pubsub-heap", "128", "--firestore-heap", "128"}, writer, &printed)
		_ = writer.Close() // of a pipe: always nil
	}()
	var hosts []string
	line := regexp.MustCompile(`^export (PUBSUB|FIRESTORE)_EMULATOR_HOST=(127\.0\.0\.1:\d+)$`)
	for lines := bufio.NewScanner(reader); lines.Scan(); {
		match := line.FindStringSubmatch(lines.Text())
		if match == nil {
			t.Fatalf("printed %q", lines.Text())
		}
		hosts = append(hosts, match[2])
		if len(hosts) == 2 {
			stop()
		}
	}
	got := <-code
	if got == 1 && strings.Contains(printed.String(), emulator.ErrNotFound.Error()) && os.Getenv("CI") != "true" {
		t.Skipf("%s", printed.String())
	}
	if got != 0 || len(hosts) != 2 {
		t.Fatalf("exit code %d after %v:\n%s", got, hosts, printed.String())
	}
	for _, host := range hosts {
		if _, err := net.Dial("tcp", host); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s after the end: %v, want %v", host, err, syscall.ECONNREFUSED)
		}
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]int{"--nothing": 2, "start": 2, "--pubsub-port x": 2, "--help": 0} {
		var printed bytes.Buffer
		if got := cli.Execute(t.Context(), Command(), strings.Fields(arguments), &printed, &printed); got != want || printed.Len() == 0 {
			t.Errorf("emulators %s: exit code %d, printed %q, want %d", arguments, got, printed.String(), want)
		}
	}
}
