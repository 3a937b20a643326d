package cost

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
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
)

// counter counts what the services ask of Pub/Sub and Firestore.
type counter struct {
	*databasetest.Topic
	*embedded.Store
	mu                         sync.Mutex
	publishes, messages, bytes float64
	commits, documents, packed float64
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

// run counts what a load asks of Pub/Sub and Firestore for some seconds of a stepped clock, with the real ingest and aggregator.
func run(t *testing.T, l *load, seconds int) *counter {
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
	names := make([]string, int(l.tags))
	for i := range names {
		names[i] = fmt.Sprintf("tag%c%c%c%c%c", 'a'+i/456976%26, 'a'+i/17576%26, 'a'+i/676%26, 'a'+i/26%26, 'a'+i%26) // 8 letters, as name has
	}
	var posting sync.WaitGroup
	for range seconds {
		for range int(l.rate / l.batch) {
			var body strings.Builder
			body.WriteString(`{"increments":[`)
			for i := range int(l.batch) {
				if i > 0 {
					body.WriteByte(',')
				}
				fmt.Fprintf(&body, `{"name":%q,"value":1}`, names[rand.N(len(names))])
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
			time.Sleep(time.Duration(float64(time.Second) * l.batch / l.rate * rand.ExpFloat64())) // they come at random
		}
	}
	posting.Wait()
	return c
}

// What the services write and publish is what the estimates charge for, at rates and numbers of tags that differ by orders of magnitude.
func TestEstimatesChargeForWhatIsCounted(t *testing.T) {
	t.Parallel()
	for _, of := range []struct{ rate, tags float64 }{{1000, 10}, {1000, 1000}, {1000, 55_000}, {10_000, 1000}} {
		for _, setting := range []time.Duration{0, 10 * time.Second, never} {
			l := usual()
			l.rate, l.batch, l.tags, l.tagDocuments = of.rate, 10, of.tags, setting
			if testing.Short() && of.rate > 1000 {
				continue
			}
			t.Run(fmt.Sprintf("%.0f per second of %.0f tags/%v", of.rate, of.tags, setting), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					const seconds = 22 // two settings, each a window late
					c := run(t, &l, seconds)
					writes, _ := l.store()
					messages, size := l.published(c.publishes / seconds)
					for _, of := range []struct {
						what      string
						got, want float64
						within    float64
					}{
						{"publishes", c.publishes, publishesOf(l.rate/l.batch, 1) * seconds, 0.1},
						{"documents written", c.commits + c.documents, writes * seconds, 0.15},
						{"messages in a publish", c.messages / c.publishes, messages, 0.1},
						{"bytes in a publish", c.bytes / c.publishes, size, 0.1},
					} {
						if math.Abs(of.got-of.want) > of.within*of.want {
							t.Errorf("%s: %.1f, estimated %.1f", of.what, of.got, of.want)
						}
					}
					million := 1e6 / (l.rate * seconds)
					t.Logf("a million increments: %.0f writes, %.0f publishes, %.0f messages, %.1f MB published, %.1f MB of checkpoints",
						(c.commits+c.documents)*million, c.publishes*million, c.messages*million, c.bytes*million/1e6, c.packed*million/1e6)
				})
			})
		}
	}
}
