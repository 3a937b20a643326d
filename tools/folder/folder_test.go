package folder

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/tools/cli"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic, subscription = "increments", "increments-aggregator"

// publish leaves n messages in a database.
func publish(t *testing.T, d *database.Database, n int, size int) {
	t.Helper()
	b := brokerembedded.New(d)
	if _, err := b.Subscribe(t.Context(), topic, subscription, time.Minute); err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := b.Topic(topic).Publish(t.Context(), []broker.Message{{Data: make([]byte, size)}}); err != nil {
			t.Fatal(err)
		}
	}
}

// waiting returns how many messages are in the database of a folder.
func waiting(t *testing.T, folder string) int {
	t.Helper()
	d, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, d)
	n, err := brokerembedded.New(d).Waiting(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n[topic+"/"+subscription]
}

func open(t *testing.T, folder string) *database.Database {
	t.Helper()
	d, err := database.Open(database.Options{Folder: folder, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func closed(t *testing.T, d *database.Database) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// use runs the server of a folder until the function that it returns is called.
func use(t *testing.T, folder string, d *database.Database) (stop func()) {
	t.Helper()
	server, err := Listen(folder, d, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}
}

func execute(t *testing.T, stdin []byte, arguments ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, failed bytes.Buffer
	command := map[string]func(map[string]string) int{
		"backup": func(v map[string]string) int {
			return cli.Execute(t.Context(), BackupCommand(v), arguments[1:], &out, &failed)
		},
		"restore": func(v map[string]string) int {
			c := RestoreCommand(v)
			c.SetIn(bytes.NewReader(stdin))
			return cli.Execute(t.Context(), c, arguments[1:], &out, &failed)
		},
	}[arguments[0]]
	return command(nil), out.String(), failed.String()
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	for _, used := range []bool{true, false} {
		folder, copies := t.TempDir(), t.TempDir()
		d := open(t, folder)
		publish(t, d, 3, 100)
		stop := func() {}
		if used {
			stop = use(t, folder, d)
			if info, err := os.Stat(filepath.Join(folder, socketName)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the socket is %v: %v", info, err)
			}
		} else {
			closed(t, d)
		}
		path := filepath.Join(copies, "backup.db")
		if code, out, failed := execute(t, nil, "backup", "--data", folder, path); code != 0 || !strings.Contains(out, "verified") {
			t.Fatalf("used %v: exit code %d: %s %s", used, code, out, failed)
		}
		code, streamed, failed := execute(t, nil, "backup", "--data", folder, "-")
		if code != 0 {
			t.Fatalf("used %v: exit code %d: %s", used, code, failed)
		}
		if code, _, failed := execute(t, nil, "backup", "--data", folder, path); code != 1 || !strings.Contains(failed, "exists") {
			t.Errorf("used %v: over a file that exists: exit code %d: %s", used, code, failed)
		}
		if code, _, failed := execute(t, nil, "restore", "--data", folder, path); code != 1 || !strings.Contains(failed, folder) {
			t.Errorf("used %v: restore to a folder with a database: exit code %d: %s", used, code, failed)
		}
		stop()
		if used {
			publish(t, d, 1, 100)
			closed(t, d)
		}
		first, second := filepath.Join(copies, "first"), filepath.Join(copies, "second")
		if code, _, failed := execute(t, nil, "restore", "--data", first, path); code != 0 {
			t.Errorf("used %v: restore: exit code %d: %s", used, code, failed)
		}
		if code, _, failed := execute(t, []byte(streamed), "restore", "--data", second, "-"); code != 0 {
			t.Errorf("used %v: restore from standard input: exit code %d: %s", used, code, failed)
		}
		if a, b := waiting(t, first), waiting(t, second); a != 3 || b != 3 {
			t.Errorf("used %v: the restored databases have %d and %d messages, want 3", used, a, b)
		}
	}
}

// stoppingWriter stops the server at the first write.
type stoppingWriter struct{ stop func() }

func (w *stoppingWriter) Write(p []byte) (int, error) {
	w.stop()
	return len(p), nil
}

func TestABackupThatIsCutShortIsAnError(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	d := open(t, folder)
	defer closed(t, d)
	publish(t, d, 8, 4_000_000) // more than the socket and the buffers hold
	stop := use(t, folder, d)
	ended := make(chan struct{})
	w := &stoppingWriter{stop: sync.OnceFunc(func() { go func() { defer close(ended); stop() }() })}
	if size, err := backup(t.Context(), folder, w); err == nil || size >= 32_000_000 {
		t.Errorf("backup() = %d, %v", size, err)
	}
	<-ended
}

func TestAClientThatDoesNotReadDoesNotHoldUpAStop(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	d := open(t, folder)
	defer closed(t, d)
	publish(t, d, 2, 4_000_000)
	stop := use(t, folder, d)
	conn, err := dial(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the server has closed it
	if _, err := conn.Write([]byte("GET /backup HTTP/1.1\r\nHost: accrue\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil { // it has begun
		t.Fatal(err)
	}
	stop()
}

func TestSocketOfKilledProcessIsReplaced(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	d := open(t, folder)
	server, err := Listen(folder, d, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	server.listener.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
	if err := server.listener.Close(); err != nil {
		t.Fatal(err)
	}
	publish(t, d, 1, 100)
	closed(t, d)
	path := filepath.Join(t.TempDir(), "backup.db")
	if code, _, failed := execute(t, nil, "backup", "--data", folder, path); code != 0 {
		t.Errorf("exit code %d: %s", code, failed)
	}
	d = open(t, folder)
	defer closed(t, d)
	use(t, folder, d)()
}

func TestFolderWithoutSocketsIsUsed(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	d := open(t, folder)
	defer closed(t, d)
	stop := use(t, folder, d)
	path := filepath.Join(t.TempDir(), "backup.db")
	if code, _, failed := execute(t, nil, "backup", "--data", folder, path); code != 1 || strings.Count(failed, "\n") != 1 {
		t.Errorf("exit code %d: %s", code, failed)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
	stop()
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	for arguments, want := range map[string]struct {
		code int
		text string
	}{
		"backup":                             {2, "name of one file"},
		"backup --data= x":                   {2, "--data is required"},
		"backup --data " + empty + " -":      {1, "there is no database in " + empty},
		"restore a b":                        {2, "name of one file"},
		"restore --data " + empty + " /no/x": {1, "no such file"},
	} {
		if code, _, failed := execute(t, nil, strings.Fields(arguments)...); code != want.code || !strings.Contains(failed, want.text) {
			t.Errorf("%s: exit code %d: %s", arguments, code, failed)
		}
	}
}
