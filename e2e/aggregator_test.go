package e2e_test

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/tools/emulator"
	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

// measuring reports whether the tests run at the scale of docs/measured.md.
func measuring() bool { return os.Getenv("MEASURE") != "" }

// maxCrash bounds the time from the kill of an aggregator until everything is counted: a lease, a window, and some seconds for a
// busy machine.
const maxCrash = 25 * time.Second

// An aggregator is killed under load and replaced, as Cloud Run does. Everything is counted when the leases of the killed one have
// ended. MEASURE=1 repeats this ten times.
func TestKilledAggregatorCostsALease(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	aggregator := s.start(t, "aggregator")
	rounds := 1
	if measuring() {
		rounds = 10
	}
	want := make(map[string]int64)
	var all []time.Duration
	for range rounds {
		load := startLoad(t, ingest, 2, 10*time.Millisecond)
		time.Sleep(3 * time.Second) // the load runs
		aggregator.kill()
		killed := time.Now()
		aggregator = s.start(t, "aggregator")
		time.Sleep(time.Second) // the load goes on
		add(want, load.finish(t))
		awaitStats(t, query, want, 40*time.Second)
		all = append(all, time.Since(killed))
	}
	slices.Sort(all)
	if worst := all[len(all)-1]; worst > maxCrash {
		t.Errorf("totals exact %v after the kill, want at most %v", worst, maxCrash)
	}
	t.Logf("totals exact after the kill: %.1f s, median of %d; %.1f to %.1f s", all[len(all)/2].Seconds(), len(all), all[0].Seconds(), all[len(all)-1].Seconds())
	aggregator.stop()
	s.audit(t)
}

// While neither emulator answers, a stop takes less than 8 s. What was accepted before is counted later.
func TestStopWhileNothingAnswers(t *testing.T) {
	t.Parallel()
	emulatortest.PubSub(t) // skips the test, or fails it in CI, if there is no emulator
	messages, documents := ownEmulator(t, emulator.StartPubSub), ownEmulator(t, emulator.StartFirestore)
	s := newSystemOn(t, documents.Host)
	s.pubSub = messages.Host
	ingest, query, aggregator := s.start(t, "ingest"), s.start(t, "query"), s.start(t, "aggregator")
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":4}`)
	awaitStats(t, query, map[string]int64{"foo": 4}, 20*time.Second)
	signal := func(signals syscall.Signal) {
		for _, e := range []*emulator.Emulator{documents, messages} {
			if err := syscall.Kill(e.PID(), signals); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := syscall.Kill(documents.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":5}`)
	await(t, "the message in the aggregator", 10*time.Second, func() error {
		if takeSample(t, []*process{aggregator})["accrue_held_bytes"] == 0 {
			return errNothing
		}
		return nil
	})
	time.Sleep(2 * time.Second) // its Commit is in flight
	signal(syscall.SIGSTOP)
	began := time.Now()
	aggregator.stop()
	t.Logf("the stop took %.1f s", time.Since(began).Seconds())
	signal(syscall.SIGCONT)
	next := s.start(t, "aggregator")
	awaitStats(t, query, map[string]int64{"foo": 9}, 40*time.Second)
	next.stop()
	s.audit(t)
}

var errNothing = fmt.Errorf("nothing is held")

// Posts with a thousand random new tags each fill the checkpoints. All increments of a known tag are counted, and so are the new
// tags that have room; the others are rejected. MEASURE=1 posts ten times as many.
func TestKnownTagsAreCountedDuringAFloodOfNewTags(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	flood := 40
	s.variables["PARTITIONS"] = "1" // room for some 20,000 tags
	if measuring() {
		flood, s.variables["PARTITIONS"] = 400, "16"
	}
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	aggregator := s.start(t, "aggregator")
	mustPost(t, ingest.url+"/increments", `{"name":"known","value":1}`)
	awaitStats(t, query, map[string]int64{"known": 1}, 20*time.Second)

	accepted, stop := int64(1), make(chan struct{})
	var producer sync.WaitGroup
	producer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			p := posting{path: "/increments", body: `{"name":"known","value":1}`, key: rand.Text()}
			if _, err := p.send(t.Context(), func() string { return ingest.url }); err != nil {
				t.Errorf("post: %v", err)
				return
			}
			accepted++
		}
	})
	end := sync.OnceFunc(func() { close(stop); producer.Wait() })
	t.Cleanup(end)
	for range flood {
		var body strings.Builder
		body.WriteString(`{"increments":[`)
		for i := range 1000 {
			if i > 0 {
				body.WriteByte(',')
			}
			fmt.Fprintf(&body, `{"name":"x%s","value":1}`, strings.ToLower(strings.Map(letter, rand.Text()[:14])))
		}
		body.WriteString(`]}`)
		mustPost(t, ingest.url+"/increments/batch", body.String())
	}
	time.Sleep(3 * time.Second) // the producer continues while partitions are full
	end()
	flooded := time.Now()
	await(t, "all increments of the known tag", 60*time.Second, func() error {
		got, err := stats(query)
		if err == nil && got["known"] != accepted {
			err = fmt.Errorf("%d of %d", got["known"], accepted)
		}
		return err
	})
	now := takeSample(t, []*process{aggregator})
	t.Logf("%d increments of the known tag during %d new tags, counted %.1f s after the last; %v entries rejected", accepted, 1000*flood,
		time.Since(flooded).Seconds(), now["accrue_entries_rejected_total"])
	if now["accrue_entries_rejected_total"] == 0 || now["accrue_messages_dead_lettered_total"] > 0 {
		t.Errorf("%v entries rejected, want some; %v dead letters, want none", now["accrue_entries_rejected_total"], now["accrue_messages_dead_lettered_total"])
	}
	await(t, "all new tags counted or rejected", 60*time.Second, func() error {
		got, err := stats(query)
		rejected := int64(takeSample(t, []*process{aggregator})["accrue_entries_rejected_total"])
		if sum := int64(len(got)) - 1 + rejected; err == nil && sum != int64(1000*flood) {
			err = fmt.Errorf("%d of %d", sum, 1000*flood)
		}
		return err
	})
	aggregator.stop()
}

// letter replaces digits, which tag names cannot contain.
func letter(r rune) rune {
	if r < 'A' {
		return '_'
	}
	return r
}

// feed publishes messages with one increment each, as ingest does for single posts.
type feed struct {
	topic     *pubsub.Topic
	publisher message.Publisher
	sequences []uint64
	mu        sync.Mutex
	next      int

	published, retried atomic.Int64 // messages, and requests
}

func (s *system) feed(t *testing.T, partitions int) *feed {
	t.Helper()
	client := s.subscribe(t)
	return &feed{topic: client.Topic("increments"), publisher: message.NewPublisher(), sequences: make([]uint64, partitions)}
}

// publish publishes n messages in one request, for each partition in turn.
func (f *feed) publish(t *testing.T, n int) {
	t.Helper()
	messages := make([]broker.Message, n)
	f.mu.Lock()
	for i := range messages {
		partition := f.next % len(f.sequences)
		f.next++
		f.sequences[partition]++
		var b message.Builder
		b.AddIncrement(fmt.Sprintf("tag_%c%c", 'a'+partition%26, 'a'+partition/26%26), 1, message.Key{})
		messages[i] = broker.Message{
			Data:       b.Encode(f.publisher, uint32(partition), f.sequences[partition], time.Now()),
			Attributes: message.ShardAttributes(uint32(partition)),
		}
	}
	f.mu.Unlock()
	for { // a message that is published twice has one identity
		err := f.topic.Publish(t.Context(), messages)
		switch {
		case err == nil:
			f.published.Add(int64(n))
			return
		case t.Context().Err() != nil:
			t.Error(err)
			return
		}
		f.retried.Add(1)
	}
}

// pour publishes messages at a rate for the duration d, in requests of per messages.
func (f *feed) pour(t *testing.T, rate, per int, d time.Duration) {
	t.Helper()
	var requests sync.WaitGroup
	defer requests.Wait()
	slots := make(chan struct{}, 8)
	began := time.Now()
	for sent := 0; time.Since(began) < d; sent += per {
		if ahead := time.Duration(sent)*time.Second/time.Duration(rate) - time.Since(began); ahead > 0 {
			time.Sleep(ahead)
		}
		slots <- struct{}{}
		requests.Go(func() {
			f.publish(t, per)
			<-slots
		})
	}
}

// sum returns the sum of all totals.
func sum(query *process) (n int64, err error) {
	got, err := stats(query)
	for _, total := range got {
		n += total
	}
	return n, err
}

func awaitSum(t *testing.T, query *process, want int64, limit time.Duration) {
	t.Helper()
	await(t, "all messages counted", limit, func() error {
		got, err := sum(query)
		if err == nil && got != want {
			err = fmt.Errorf("%d of %d", got, want)
		}
		return err
	})
}

// useFastPubSub gives the system a Pub/Sub that many messages may wait in, if the test measures: for each Pull the emulator
// copies the set of all that wait.
func (s *system) useFastPubSub(t *testing.T) {
	t.Helper()
	if measuring() {
		s.pubSub, _ = startPubSubServer(t)
	}
}

// A backlog drains as fast with a long window as with a short one. MEASURE=1 drains a million messages.
func TestDrainOfABacklog(t *testing.T) {
	backlog := 20_000
	if measuring() {
		backlog = 1_000_000
	} else {
		t.Parallel()
	}
	for _, window := range []string{"1s", "10s"} {
		t.Run("WINDOW="+window, func(t *testing.T) {
			s := newSystem(t)
			s.useFastPubSub(t)
			s.variables["WINDOW"] = window
			f := s.feed(t, 16)
			for range backlog / 1000 {
				f.publish(t, 1000)
			}
			query := s.start(t, "query")
			began := time.Now()
			aggregator := s.start(t, "aggregator")
			await(t, "all messages pulled", 5*time.Minute, func() error {
				if n := takeSample(t, []*process{aggregator})["accrue_messages_decoded_total"]; n < float64(backlog) {
					return fmt.Errorf("%v of %d", n, backlog)
				}
				return nil
			})
			pulled := time.Since(began)
			awaitSum(t, query, int64(backlog), time.Minute)
			t.Logf("%d messages pulled in %.1f s, %.0f/s; totals exact after %.1f s; CPU of the aggregator %.1f s", backlog, pulled.Seconds(),
				float64(backlog)/pulled.Seconds(), time.Since(began).Seconds(), aggregator.cpu(t).Seconds())
			aggregator.stop()
			query.stop()
			if measuring() {
				s.pullAll(t, f)
			}
		})
	}
}

// pullAll logs how fast four loops pull and acknowledge a backlog that nothing is done with: the limit of Pub/Sub.
func (s *system) pullAll(t *testing.T, f *feed) {
	t.Helper()
	const backlog = 200_000
	subscription := s.subscribe(t).Subscription("increments-aggregator")
	for range backlog / 1000 {
		f.publish(t, 1000)
	}
	began := time.Now()
	var pulled atomic.Int64
	var loops sync.WaitGroup
	for range 4 {
		loops.Go(func() {
			for pulled.Load() < backlog {
				deliveries, err := subscription.Pull(t.Context(), broker.MaxPull)
				receipts := make([]string, len(deliveries))
				for i := range deliveries {
					receipts[i] = deliveries[i].Receipt
				}
				if err = errors.Join(err, subscription.Acknowledge(t.Context(), receipts)); err != nil {
					t.Error(err)
					return
				}
				pulled.Add(int64(len(deliveries)))
			}
		})
	}
	loops.Wait()
	t.Logf("four loops pulled and acknowledged %d messages at %.0f/s", pulled.Load(), float64(pulled.Load())/time.Since(began).Seconds())
}

// cpu returns the CPU time that a process has used.
func (p *process) cpu(t *testing.T) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Logf("no CPU time: %v", err) // not on Linux
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / 100
}

// rss returns the resident memory of a process in bytes.
func (p *process) rss(t *testing.T) int64 {
	t.Helper()
	n, err := residentBytes(p.cmd.Process.Pid)
	if err != nil {
		t.Logf("no resident memory: %v", err) // not on Linux
	}
	return n
}

func residentBytes(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		if text, found := strings.CutPrefix(lines.Text(), "VmRSS:"); found {
			n, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, errNoMemory
}

var errNoMemory = errors.New("no resident memory")

// While Firestore is frozen and small messages arrive, the aggregator's memory stays bounded. Afterwards everything is counted.
// With MEASURE=1 this takes two minutes at 20,000 messages a second, with default settings.
func TestMemoryWhileFirestoreIsFrozen(t *testing.T) {
	emulatortest.PubSub(t) // skips the test, or fails it in CI, if there is no emulator
	rate, frozen := 5000, 10*time.Second
	if measuring() {
		rate, frozen = 20_000, 2*time.Minute
	} else {
		t.Parallel()
	}
	documents := ownEmulator(t, emulator.StartFirestore)
	s := newSystemOn(t, documents.Host)
	s.useFastPubSub(t)
	if !measuring() {
		s.variables["BUFFER_BYTES"] = strconv.Itoa(16 << 20) // so that the buffer is full
	}
	f := s.feed(t, 16)
	query, aggregator := s.start(t, "query"), s.start(t, "aggregator")
	f.pour(t, rate, rate/20, 3*time.Second)
	awaitSum(t, query, f.published.Load(), time.Minute)
	if err := syscall.Kill(documents.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var most int64
	var watching sync.WaitGroup
	stop := make(chan struct{})
	watching.Go(func() {
		for {
			most = max(most, aggregator.rss(t))
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	f.pour(t, rate, rate/20, frozen)
	full := takeSample(t, []*process{aggregator})
	if err := syscall.Kill(documents.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	thawed := time.Now()
	awaitSum(t, query, f.published.Load(), 10*time.Minute)
	took := time.Since(thawed)
	close(stop)
	watching.Wait()
	now := takeSample(t, []*process{aggregator})
	t.Logf("%d messages in %v, %.0f MiB resident at most, %.0f MiB held; totals exact %.1f s after the thaw; %v deliveries, %v released, %d publishes were retried", f.published.Load(),
		frozen, float64(most)/(1<<20), full["accrue_held_bytes"]/(1<<20), took.Seconds(), now["accrue_messages_pulled_total"], now["accrue_messages_released_total"], f.retried.Load())
	limit := int64(512 << 20)
	if !measuring() {
		limit = 200 << 20
	}
	if most > limit {
		t.Errorf("%d bytes resident, want at most %d", most, limit)
	}
	aggregator.stop()
}

// quantile returns a quantile of a histogram of the processes, as the upper bound of its bucket.
func quantile(before, after sample, name string, q float64) float64 {
	type bucket struct{ le, n float64 }
	var buckets []bucket
	for series, n := range after {
		bound, found := strings.CutPrefix(series, name+`_bucket{le="`)
		if !found {
			continue
		}
		le, err := strconv.ParseFloat(strings.TrimSuffix(bound, `"}`), 64)
		if err != nil {
			continue
		}
		buckets = append(buckets, bucket{le, n - before[series]})
	}
	slices.SortFunc(buckets, func(a, b bucket) int { return cmp.Compare(a.le, b.le) })
	for _, b := range buckets {
		if b.n >= q*buckets[len(buckets)-1].n {
			return b.le
		}
	}
	return math.NaN()
}

// freshness logs the ages of messages at their Commit since before, and returns the 99th percentile in seconds.
func freshness(t *testing.T, aggregator *process, before sample) float64 {
	t.Helper()
	after := takeSample(t, []*process{aggregator})
	const name = "accrue_freshness_committed_seconds"
	p99 := quantile(before, after, name, .99)
	t.Logf("%.0f messages committed: p50 within %v s, p99 within %v s of their acceptance", after[name+"_count"]-before[name+"_count"],
		quantile(before, after, name, .5), p99)
	return p99
}

// While the checkpoint of one of 64 partitions cannot be read, the others stay fresh. Its messages are counted when the checkpoint
// is repaired.
func TestUnreadablePartitionDoesNotDelayOthers(t *testing.T) {
	t.Parallel()
	rate, d := 1000, 10*time.Second
	if measuring() {
		rate, d = 4000, 2*time.Minute
	}
	s := newSystem(t)
	f := s.feed(t, 64)
	query, aggregator := s.start(t, "query"), s.start(t, "aggregator")
	f.pour(t, rate, 64, 3*time.Second)
	awaitSum(t, query, f.published.Load(), time.Minute)
	repair := s.damage(t, 7)
	before := takeSample(t, []*process{aggregator})
	f.pour(t, rate, 64, d)
	if p99 := freshness(t, aggregator, before); measuring() && p99 > 2 {
		t.Errorf("99%% committed within %v s, want 2", p99)
	}
	await(t, "63 of 64 partitions counted", 20*time.Second, func() error {
		now := takeSample(t, []*process{aggregator})
		got := now["accrue_freshness_committed_seconds_count"]
		if want := float64(f.published.Load() * 63 / 64); got < want || now["accrue_partitions_failing"] != 1 {
			return fmt.Errorf("%v of %v messages, %v partitions fail", got, want, now["accrue_partitions_failing"])
		}
		return nil
	})
	repair()
	repaired := time.Now()
	awaitSum(t, query, f.published.Load(), 2*time.Minute)
	t.Logf("totals exact %.1f s after the repair", time.Since(repaired).Seconds())
	aggregator.stop()
	s.audit(t)
}

// damage sets the version of a partition's checkpoint to a later one, and returns a function that repairs it.
func (s *system) damage(t *testing.T, partition uint32) (repair func()) {
	t.Helper()
	setVersion := func(version int) {
		t.Helper()
		url := fmt.Sprintf("http://%s/v1/projects/%s/databases/(default)/documents/%s/%s?updateMask.fieldPaths=version", s.store, s.project,
			store.Partitions, store.PartitionID(partition))
		request, err := http.NewRequest(http.MethodPatch, url, strings.NewReader(fmt.Sprintf(`{"fields":{"version":{"integerValue":"%d"}}}`, version)))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer owner") // makes the emulator ignore the security rules
		if r, err := do(request); err != nil || r.status != http.StatusOK {
			t.Fatalf("PATCH %s: %d %s %v", url, r.status, r.body, err)
		}
	}
	setVersion(checkpoint.Version + 1000)
	return func() { setVersion(checkpoint.Version) }
}

// With 1,024 partitions, a message a second in each, and Commits of 150 ms, totals are fresh. It runs with MEASURE=1 only.
func TestThousandPartitionsAreFresh(t *testing.T) {
	emulatortest.Firestore(t) // skips the test, or fails it in CI, if there is no emulator
	if !measuring() {
		t.Skip("MEASURE is not set; package aggregator has a test with a simulated clock")
	}
	s := newSystem(t)
	s.firestore = startProxy(t, s.firestore, func(method string, _, reply []byte) ([]byte, error) {
		if strings.HasSuffix(method, "/Commit") {
			time.Sleep(150 * time.Millisecond)
		}
		return reply, nil
	}).host
	f := s.feed(t, 1024)
	query, aggregator := s.start(t, "query"), s.start(t, "aggregator")
	f.pour(t, 1024, 128, 20*time.Second)
	awaitSum(t, query, f.published.Load(), time.Minute)
	before := takeSample(t, []*process{aggregator})
	f.pour(t, 1024, 128, time.Minute)
	if p99 := freshness(t, aggregator, before); p99 > 2 {
		t.Errorf("99%% committed within %v s, want 2", p99)
	}
	awaitSum(t, query, f.published.Load(), time.Minute)
	now := takeSample(t, []*process{aggregator})
	t.Logf("%.0f Commits; CPU of the aggregator %.1f s", now[`accrue_commits_total{result="ok"}`], aggregator.cpu(t).Seconds())
}
