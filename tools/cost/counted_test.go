package cost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/embedded"
	text "github.com/accrue/accrue/tools/load"
)

// counter counts what the services ask of Pub/Sub and Firestore.
type counter struct {
	*databasetest.Topic
	*embedded.Store
	mu sync.Mutex
	counts
}

// counts are sums since a counter was made.
type counts struct {
	publishes, messages, bytes float64
	commits, documents, packed float64
}

// since returns what was counted after before was.
func (c counts) since(before counts) counts {
	return counts{
		publishes: c.publishes - before.publishes, messages: c.messages - before.messages, bytes: c.bytes - before.bytes,
		commits: c.commits - before.commits, documents: c.documents - before.documents, packed: c.packed - before.packed,
	}
}

// now returns what was counted so far.
func (c *counter) now() counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

// Publish takes as long as the estimates plan with.
func (c *counter) Publish(ctx context.Context, messages []broker.Message) error {
	time.Sleep(time.Duration(publishSeconds * float64(time.Second)))
	c.mu.Lock()
	c.publishes++
	c.messages += float64(len(messages))
	for _, m := range messages {
		c.bytes += float64(len(m.Data) + messageOverhead)
	}
	c.mu.Unlock()
	return c.Topic.Publish(ctx, messages)
}

func (c *counter) Commit(ctx context.Context, commit store.Commit) (store.Revision, error) {
	revision, err := c.Store.Commit(ctx, commit)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.commits++
		c.documents += float64(commit.Documents())
		c.packed += float64(len(commit.Next.PackTotals()))
	}
	return revision, err
}

// evenly returns names of tags that are drawn alike.
func evenly(tags int) []string {
	names := make([]string, tags)
	for i := range names {
		names[i] = fmt.Sprintf("tag%c%c%c%c%c", 'a'+i/456976%26, 'a'+i/17576%26, 'a'+i/676%26, 'a'+i/26%26, 'a'+i%26) // as long as nameBytes is usually
	}
	return names
}

// words returns the words of this project's own code, each as often as it is there, how many different ones there are, and their mean length.
func words(t *testing.T) (all []string, distinct, bytes int) {
	t.Helper()
	seen := make(map[string]bool)
	err := fs.WalkDir(os.DirFS("../.."), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git"):
			return cmp.Or(err, fs.SkipDir)
		case !strings.HasSuffix(path, ".go"):
			return nil
		}
		file, err := os.Open(filepath.Join("../..", path))
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // read
		source := text.NewWords(file)
		for {
			word, err := source.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			seen[string(word)] = true
			all = append(all, string(word))
			bytes += len(word)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, len(seen), bytes / len(all)
}

// run counts what a load asks of Pub/Sub and Firestore for some seconds of a stepped clock, with the real ingest and aggregator. Increments
// are of names, drawn by chance. It counts from the middle of a window to the middle of another, so that the windows between are whole.
func run(t *testing.T, l *load, names []string, seconds int) counts {
	t.Helper()
	topic := databasetest.NewTopic(t)
	c := &counter{Topic: topic, Store: databasetest.Store(t)}
	taking, err := ingest.New(ingest.Config{
		Config: service.Config{Port: service.NoPort}, Partitions: int(l.partitions), PendingBytes: 64 << 20,
	}, ingest.Parts{Publisher: c, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	setting := aggregator.TagDocuments(l.tagDocuments)
	if l.tagDocuments == never {
		setting = -1
	}
	counting, err := aggregator.New(aggregator.Config{
		Config: service.Config{Port: service.NoPort}, Window: l.window, TagDocuments: setting, CommitDocuments: maxDocuments, Commits: 256,
		Horizon: time.Hour, Keys: 1000, BufferBytes: 128 << 20,
	}, aggregator.Parts{Source: topic.Subscribe(aggregator.AckDeadline), Ledger: c, DeadLetters: databasetest.NewTopic(t), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for _, part := range []func(context.Context) error{taking.Run, counting.Run} {
		running.Go(func() {
			if err := part(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	var posting sync.WaitGroup
	random := rand.New(rand.NewPCG(1, uint64(l.rate)))
	post := func(end time.Time) {
		for time.Now().Before(end) {
			var body strings.Builder
			body.WriteString(`{"increments":[`)
			for i := range int(l.batch) {
				if i > 0 {
					body.WriteByte(',')
				}
				fmt.Fprintf(&body, `{"name":%q,"value":1}`, names[random.IntN(len(names))])
			}
			body.WriteString(`]}`)
			posting.Go(func() {
				request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/increments/batch", strings.NewReader(body.String()))
				request.Header.Set("Content-Type", "application/json")
				answer := httptest.NewRecorder()
				taking.Handler().ServeHTTP(answer, request)
				if answer.Code != http.StatusAccepted {
					t.Errorf("answer %d: %s", answer.Code, answer.Body)
				}
			})
			time.Sleep(time.Duration(float64(time.Second) * l.batch / l.rate * random.ExpFloat64())) // they come at random
		}
	}
	from := time.Now().Add(l.window / 2)
	post(from)
	before := c.now()
	post(from.Add(time.Duration(seconds) * time.Second))
	counted := c.now().since(before)
	posting.Wait()
	return counted
}

// What the services write and publish is what the estimates charge for, at rates and numbers of tags that differ by orders of magnitude, and
// for real words.
func TestEstimatesChargeForWhatIsCounted(t *testing.T) {
	t.Parallel()
	everySetting := []time.Duration{0, 10 * time.Second, never}
	for _, of := range []struct {
		rate, batch, tags float64
		settings          []time.Duration
		seconds           int
	}{
		{1000, 10, 10, everySetting, 22}, // two of the longest setting, each a window late
		{1000, 10, 1000, everySetting, 22},
		{1000, 10, 55_000, everySetting, 22},
		{10_000, 10, 100, everySetting[:1], 22},
		{10_000, 10, 1000, everySetting, 22},
		{100_000, 100, 100, everySetting[:1], 4},
		{100_000, 100, 55_000, everySetting[:1], 4},
	} {
		for _, setting := range of.settings {
			if testing.Short() && of.rate > 1000 {
				continue
			}
			l := usual()
			l.rate, l.batch, l.tags, l.tagDocuments = of.rate, of.batch, of.tags, setting
			t.Run(fmt.Sprintf("%.0f per second of %.0f tags/%v", of.rate, of.tags, setting), func(t *testing.T) {
				t.Parallel()
				compare(t, &l, evenly(int(of.tags)), of.seconds, 0.15, 0.1)
			})
		}
	}
	t.Run("10000 words per second", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("takes seconds")
		}
		all, distinct, bytes := words(t)
		l := usual()
		l.rate, l.batch, l.tags, l.zipf, l.nameBytes = 10_000, 100, float64(distinct), true, bytes
		compare(t, &l, all, 22, 0.25, 0.1) // they are not quite as Zipf has them
	})
}

// compare compares what a load asks for with its estimate. Writes, and the bytes of a publish, must be within a part of it.
func compare(t *testing.T, l *load, names []string, seconds int, writesWithin, bytesWithin float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := run(t, l, names, seconds)
		writes, _ := l.store()
		messages, size := l.published(c.publishes / float64(seconds))
		for _, of := range []struct {
			what      string
			got, want float64
			within    float64
		}{
			{"publishes", c.publishes, publishesOf(l.rate/l.batch, 1) * float64(seconds), 0.1},
			{"documents written", c.commits + c.documents, writes * float64(seconds), writesWithin},
			{"messages in a publish", c.messages / c.publishes, messages, 0.1},
			{"bytes in a publish", c.bytes / c.publishes, size, bytesWithin},
		} {
			if math.Abs(of.got-of.want) > of.within*of.want {
				t.Errorf("%s: %.1f, estimated %.1f", of.what, of.got, of.want)
			}
		}
		million := 1e6 / (l.rate * float64(seconds))
		t.Logf("a million increments: %.0f writes, %.0f publishes, %.0f messages, %.1f MB published, %.1f MB of checkpoints",
			(c.commits+c.documents)*million, c.publishes*million, c.messages*million, c.bytes*million/1e6, c.packed*million/1e6)
	})
}
