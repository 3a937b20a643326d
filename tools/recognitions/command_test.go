package recognitions

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		arguments []string
		want      int
	}{
		"help":              {[]string{"--help"}, 0},
		"no project":        {nil, 2},
		"unknown flag":      {[]string{"--project", "p", "--x"}, 2},
		"an argument":       {[]string{"--project", "p", "x"}, 2},
		"remember 0":        {[]string{"--project", "p", "--remember", "0"}, 2},
		"remember too many": {[]string{"--project", "p", "--remember", "10000001"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr strings.Builder
			if got := cli.Execute(t.Context(), Command(nil), tc.arguments, &stdout, &stderr); got != tc.want || stdout.Len()+stderr.Len() == 0 {
				t.Errorf("recognitions %q: exit code %d, printed %q and %q, want %d", tc.arguments, got, &stdout, &stderr, tc.want)
			}
		})
	}
}

// lines is an output that is read while it is written.
type lines struct {
	written chan struct{}

	mu sync.Mutex
	b  strings.Builder
}

func newLines() *lines { return &lines{written: make(chan struct{}, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.written <- struct{}{}:
	default: // there is a token already
	}
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits until the output ends with a text.
func (l *lines) await(t *testing.T, end string) {
	t.Helper()
	patience := time.After(30 * time.Second)
	for !strings.HasSuffix(l.String(), end) {
		select {
		case <-l.written:
		case <-patience:
			t.Fatalf("the output is %q, want %q at its end", l, end)
		}
	}
}

func TestPrintsRecognitionsOnceUntilStopped(t *testing.T) {
	t.Parallel()
	host, project := emulatortest.PubSub(t), emulatortest.Project(t)
	environment := map[string]string{"GOOGLE_CLOUD_PROJECT": project, "PUBSUB_EMULATOR_HOST": host}
	ctx, stop := context.WithCancel(t.Context())
	stdout, stderr := newLines(), newLines()
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Execute(ctx, Command(environment), nil, stdout, stderr)
	}()
	stderr.await(t, "press Ctrl-C to stop\n")

	client, err := pubsub.Connect(t.Context(), project, host)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // what was published was acknowledged
	event := func(id string) broker.Message {
		return broker.Message{
			Data: []byte(`{"contributor":"` + id + `","tier":3,"contributions":4,"recognized_at":"2026-11-23T06:08:09.087Z"}`),
			Attributes: map[string]string{
				"ce-id": id, "ce-source": "/accrue/query", "ce-specversion": "1.0", "ce-type": "dev.accrue.contributor.recognized.v1",
			},
		}
	}
	publish := func(messages ...broker.Message) {
		t.Helper()
		if err := client.Topic("recognitions").Publish(t.Context(), messages); err != nil {
			t.Fatal(err)
		}
	}
	const ada = `recognized "ada" for reaching tier 3, with 4 contributions, at 2026-11-23T06:08:09Z` + "\n"
	publish(event("ada"))
	stdout.await(t, ada)
	publish(event("ada"))
	publish(event("bob"))
	both := ada + strings.Replace(ada, "ada", "bob", 1)
	stdout.await(t, strings.TrimPrefix(both, ada))
	if got := stdout.String(); got != both {
		t.Errorf("printed %q, want %q", got, both)
	}

	began := time.Now()
	stop()
	if code := <-ended; code != 0 || time.Since(began) > 8*time.Second {
		t.Errorf("ended with %d after %v", code, time.Since(began))
	}
}
