package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	firestore "cloud.google.com/go/firestore/apiv1"
	"cloud.google.com/go/firestore/apiv1/firestorepb"
	vkit "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/accrue/accrue/pkg/store"
)

// startSingle runs everything in one process, with the settings of terraform's mode single.
func (s *system) startSingle(t *testing.T) *process {
	t.Helper()
	p := &process{t: t, name: "accrue", done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(binaries, "accrue"), "run", "--port", "0", "--hold", "1s")
	variables := map[string]string{
		"GOOGLE_CLOUD_PROJECT": s.project, "PUBSUB_EMULATOR_HOST": s.pubSub, "FIRESTORE_EMULATOR_HOST": s.firestore, "LOG_FORMAT": "json",
		"GOMEMLIMIT": "200MiB", "PARTITIONS": "1", "WINDOW": "200ms", "REFRESH": "5s",
		"IDEMPOTENCY_KEYS": "200000", "BUFFER_BYTES": "16777216", "PENDING_BYTES": "8388608",
	}
	maps.Copy(variables, s.variables)
	for name, value := range variables {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	output, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ports := make(chan int, 1)
	go p.read(output, ports)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of accrue run:\n%s", p.logged())
		}
	})
	select {
	case port := <-ports:
		p.url = fmt.Sprintf("http://127.0.0.1:%d", port)
	case <-p.done:
		t.Fatalf("accrue run exited at startup: %v\n%s", p.waitErr, p.logged())
	case <-time.After(30 * time.Second):
		t.Fatalf("accrue run does not listen\n%s", p.logged())
	}
	await(t, "accrue run ready", 30*time.Second, func() error {
		_, err := get(p.url + "/health/ready")
		return err
	})
	return p
}

// The one process of mode single is killed while it counts, and sleeps while messages arrive. When it wakes everything is counted
// once, within the memory of the smallest service.
func TestSingleProcessWakesAndCountsWhatWaited(t *testing.T) {
	t.Parallel()
	const memory = 256 << 20
	s := newSystem(t)
	s.subscribe(t)
	all, want := postings(20_000, kind{keys: true, singles: 2, largest: 500, tags: 20})
	third := len(all) / 3
	post := func(p *process, some []posting) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		results := make(chan error)
		for i := range some {
			go func() {
				_, err := some[i].send(ctx, func() string { return p.url })
				results <- err
			}()
		}
		for range some {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	}

	single := s.startSingle(t)
	post(single, all[:third])
	largest := single.rss(t)

	// Killed with posts in progress, which their producers repeat.
	cut, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	for i := third; i < 2*third; i++ {
		go func() {
			_, _ = all[i].try(cut, single.url)
			ended <- struct{}{}
		}()
	}
	<-ended // the first answer
	single.kill()
	cancel()
	for range third - 1 {
		<-ended
	}

	// It sleeps, and messages arrive.
	ingest := s.start(t, "ingest")
	post(ingest, all[third:])
	ingest.stop()

	single = s.startSingle(t)
	awaitStats(t, single, want, 60*time.Second)
	post(single, all[:third]) // retries count once
	awaitStats(t, single, want, 10*time.Second)
	largest = max(largest, single.rss(t))
	t.Logf("resident memory up to %.0f MiB", float64(largest)/(1<<20))
	if largest >= memory {
		t.Errorf("resident memory was %d bytes, want less than %d", largest, memory)
	}
	single.stop()
}

// Under load the settings change one after the other, as in docs/operate.md: PARTITIONS up and down, the window, the tiers.
func TestSettingsChangeUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.subscribe(t)
	ingest, query, aggregator := s.start(t, "ingest"), s.start(t, "query"), s.start(t, "aggregator")
	load := startLoad(t, ingest, 4, 10*time.Millisecond)
	for _, change := range []struct{ service, variable, value string }{
		{"ingest", "PARTITIONS", "64"},
		{"aggregator", "WINDOW", "3s"},
		{"query", "RECOGNITION_TIERS", "3,10"},
		{"ingest", "PARTITIONS", "4"},
		{"aggregator", "WINDOW", "100ms"},
		{"query", "RECOGNITION_TIERS", "10"},
	} {
		s.variables[change.variable] = change.value
		next := s.start(t, change.service) // beside the one before, as Cloud Run does
		switch change.service {
		case "ingest":
			load.moveTo(next)
			ingest.stop()
			ingest = next
		case "aggregator":
			aggregator.stop()
			aggregator = next
		case "query":
			query.stop()
			query = next
		}
	}
	want := load.finish(t)
	awaitStats(t, query, want, 60*time.Second)
	s.audit(t)
}

// subscriberOf returns a client of subscriptions at the emulator.
func (s *system) subscriberOf(t *testing.T) *vkit.SubscriptionAdminClient {
	t.Helper()
	client, err := vkit.NewSubscriptionAdminClient(t.Context(), option.WithEndpoint(s.pubSub), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// halves are the filters of shards = 2 in terraform/messages.tf.
var halves = []string{
	`NOT attributes:shard OR hasPrefix(attributes.shard, "1") OR hasPrefix(attributes.shard, "2") OR hasPrefix(attributes.shard, "3")`,
	`attributes:shard AND NOT hasPrefix(attributes.shard, "1") AND NOT hasPrefix(attributes.shard, "2") AND NOT hasPrefix(attributes.shard, "3")`,
}

// Under load one pool becomes three, two of them with shards, and then the two alone.
func TestShardsAreIntroducedUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.subscribe(t)
	subscriptions := s.subscriberOf(t)
	ingest, query, plain := s.start(t, "ingest"), s.start(t, "query"), s.start(t, "aggregator")
	load := startLoad(t, ingest, 4, 10*time.Millisecond)
	for i, filter := range halves {
		if _, err := subscriptions.CreateSubscription(t.Context(), &pubsubpb.Subscription{
			Name:  fmt.Sprintf("projects/%s/subscriptions/increments-aggregator-%d", s.project, i),
			Topic: fmt.Sprintf("projects/%s/topics/increments", s.project), Filter: filter, AckDeadlineSeconds: 10,
		}); err != nil {
			t.Fatal(err)
		}
	}
	created := time.Now()
	var pools []*process
	for i := range halves {
		s.variables["INCREMENTS_SUBSCRIPTION"] = fmt.Sprintf("increments-aggregator-%d", i)
		pools = append(pools, s.start(t, "aggregator"))
	}
	for i, pool := range pools {
		await(t, fmt.Sprintf("pool %d commits", i), 30*time.Second, func() error {
			body, err := get(pool.url + "/metrics")
			if err == nil && !strings.Contains(body, `accrue_commits_total{result="ok"`) {
				err = errors.New("no Commit")
			}
			return err
		})
	}
	await(t, "the plain subscription has nothing from before the shards", 30*time.Second, func() error {
		if age := metric(t, plain, "accrue_held_age_seconds"); age >= time.Since(created).Seconds() {
			return fmt.Errorf("the oldest message is %.1f s old", age)
		}
		return nil
	})
	plain.stop() // what it holds the shards have, too
	want := load.finish(t)
	awaitStats(t, query, want, 60*time.Second)
	s.audit(t)
}

// copyDatabase copies all documents of a database to another, as a restored backup has them: without their update times.
func (s *system) copyDatabase(t *testing.T, from, to string) (documents int) {
	t.Helper()
	client, err := firestore.NewClient(t.Context(), option.WithEndpoint(s.store), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithPerRPCCredentials(owner{})))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // the test ends
	source, target := fmt.Sprintf("projects/%s/databases/%s", s.project, from), fmt.Sprintf("projects/%s/databases/%s", s.project, to)
	var writes []*firestorepb.Write
	for _, collection := range []string{
		store.Tags, store.Contributors, store.Partitions, store.Recognitions, store.Rejected, store.Layouts, store.Audit,
		store.Keys, store.Folds, store.Minutes, store.Hours,
	} {
		stream, err := client.RunQuery(t.Context(), &firestorepb.RunQueryRequest{
			Parent: source + "/documents",
			QueryType: &firestorepb.RunQueryRequest_StructuredQuery{StructuredQuery: &firestorepb.StructuredQuery{
				From:  []*firestorepb.StructuredQuery_CollectionSelector{{CollectionId: collection, AllDescendants: true}},
				Limit: wrapperspb.Int32(100_000),
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for {
			response, err := stream.Recv()
			if errors.Is(err, io.EOF) || errors.Is(err, iterator.Done) {
				break
			}
			if err != nil {
				t.Fatalf("read %s: %v", collection, err)
			}
			if doc := response.GetDocument(); doc != nil {
				writes = append(writes, &firestorepb.Write{Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
					Name: target + strings.TrimPrefix(doc.GetName(), source), Fields: doc.GetFields(),
				}}})
			}
		}
	}
	if _, err := client.Commit(t.Context(), &firestorepb.CommitRequest{Database: target, Writes: writes}); err != nil {
		t.Fatal(err)
	}
	return len(writes)
}

// owner makes the emulator ignore rules.
type owner struct{}

func (owner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (owner) RequireTransportSecurity() bool { return false }

// A database is restored beside the live one, and the messages of the topic from before the backup on are replayed into it, as
// docs/operate.md says. The totals are exact: what the backup has is not counted again, and what it lacks is. A second subscription
// that nobody has pulled from stands for a seek, which the emulator does not know.
func TestRestoredDatabaseIsExactAfterAReplay(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.subscribe(t)
	if _, err := s.subscriberOf(t).CreateSubscription(t.Context(), &pubsubpb.Subscription{
		Name:  fmt.Sprintf("projects/%s/subscriptions/replay", s.project),
		Topic: fmt.Sprintf("projects/%s/topics/increments", s.project), AckDeadlineSeconds: 10,
	}); err != nil {
		t.Fatal(err)
	}
	ingest, query, aggregator := s.start(t, "ingest"), s.start(t, "query"), s.start(t, "aggregator")
	all, want := postings(3000, kind{keys: true, singles: 5, largest: 50, tags: 20})
	post := func(p *posting) {
		t.Helper()
		if status, err := p.try(t.Context(), ingest.url); err != nil || status != http.StatusAccepted {
			t.Fatalf("%d, %v", status, err)
		}
	}
	before := make(map[string]int64)
	for i := range all[:len(all)/2] {
		post(&all[i])
		add(before, all[i].values)
	}
	awaitStats(t, query, before, 30*time.Second)
	documents := s.copyDatabase(t, "(default)", "restored") // the backup
	for i := len(all) / 2; i < len(all); i++ {
		post(&all[i])
	}
	awaitStats(t, query, want, 30*time.Second)
	aggregator.stop()
	query.stop()

	s.variables["FIRESTORE_DATABASE"], s.variables["INCREMENTS_SUBSCRIPTION"] = "restored", "replay"
	restored := s.start(t, "query")
	awaitStats(t, restored, before, 30*time.Second) // what the backup has, and nothing else
	s.start(t, "aggregator")
	awaitStats(t, restored, want, 30*time.Second)
	for i := range all { // producers that repeat everything
		post(&all[i])
	}
	ingest.stop()
	awaitStats(t, restored, want, 10*time.Second)
	t.Logf("restored %d documents, and replayed %d increments", documents, 3000)
}
