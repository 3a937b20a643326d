package main

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

	"github.com/accrue/accrue/tools/emulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCommandRunsBothUntilItIsStopped(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("left out by -short: it starts the emulators")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reader, writer := io.Pipe()
	var said bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- command(ctx, []string{"-pubsub-port", "0", "-firestore-port", "0", "-pubsub-heap", "128", "-firestore-heap", "128"}, writer, &said)
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
	if got == 1 && strings.Contains(said.String(), emulator.ErrNotFound.Error()) && os.Getenv("CI") != "true" {
		t.Skipf("left out: %s", said.String())
	}
	if got != 0 || len(hosts) != 2 {
		t.Fatalf("exit code %d after %v:\n%s", got, hosts, said.String())
	}
	for _, host := range hosts {
		if _, err := net.Dial("tcp", host); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s after the end: %v, want %v", host, err, syscall.ECONNREFUSED)
		}
	}
}

func TestCommandRefusesAWrongCommandLine(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]int{"-nothing": 2, "start": 2, "-pubsub-port x": 2, "-help": 0} {
		var said bytes.Buffer
		if got := command(t.Context(), strings.Fields(arguments), io.Discard, &said); got != want || said.Len() == 0 {
			t.Errorf("command(%s) = %d and says %q, want %d", arguments, got, said.String(), want)
		}
	}
}
