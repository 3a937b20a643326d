package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
)

// reached is a contributor at a tier.
type reached struct {
	Contributor string `json:"contributor"`
	Tier        int64  `json:"tier"`
}

// events collects what is published to the recognitions topic, as a consumer does that drops second copies.
type events struct {
	mu sync.Mutex
	// copies are the data of each event, by its source and id.
	copies map[[2]string][]string
	seen   map[reached]time.Time
	faults []string
}

// consume subscribes to the recognitions topic until the end of the test.
func (s *system) consume(t *testing.T, client *pubsub.Client) *events {
	t.Helper()
	const topic, subscription = "recognitions", "recognitions-e2e"
	if err := errors.Join(client.EnsureTopic(t.Context(), topic),
		client.EnsureSubscription(t.Context(), subscription, topic, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	e := &events{copies: map[[2]string][]string{}, seen: map[reached]time.Time{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var group sync.WaitGroup
	group.Go(func() {
		for source := client.Subscription(subscription); ctx.Err() == nil; {
			deliveries, err := source.Pull(ctx, broker.MaxPull)
			if err != nil {
				continue
			}
			receipts := make([]string, len(deliveries))
			for i, d := range deliveries {
				receipts[i] = d.Receipt
				e.take(d.Message)
			}
			_ = source.Acknowledge(ctx, receipts) // or they come again, which is dropped
		}
	})
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return e
}

func (e *events) take(m broker.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var data struct {
		reached
		Contributions int64     `json:"contributions"`
		RecognizedAt  time.Time `json:"recognized_at"`
	}
	key := [2]string{m.Attributes["ce-source"], m.Attributes["ce-id"]}
	err := json.Unmarshal(m.Data, &data)
	if err != nil || key[0] == "" || key[1] == "" || data.Contributions < data.Tier || time.Since(data.RecognizedAt).Abs() > time.Hour ||
		m.Attributes["ce-specversion"] != "1.0" || m.Attributes["ce-type"] == "" || m.Attributes["ce-subject"] == "" ||
		m.Attributes["ce-time"] == "" || m.Attributes["content-type"] != "application/json" {
		e.faults = append(e.faults, fmt.Sprintf("%s %v: %v", m.Data, m.Attributes, err))
	}
	if e.copies[key] == nil {
		if _, again := e.seen[data.reached]; again {
			e.faults = append(e.faults, fmt.Sprintf("%v has a second event, of another id", data.reached))
		}
		e.seen[data.reached] = time.Now()
	}
	e.copies[key] = append(e.copies[key], string(m.Data))
	if e.copies[key][0] != string(m.Data) {
		e.faults = append(e.faults, fmt.Sprintf("two copies of an event differ: %s and %s", e.copies[key][0], m.Data))
	}
}

// await waits until the events are those that are wanted, each once when copies are dropped, and returns how many copies
// there were beside the first ones.
func (e *events) await(t *testing.T, want map[reached]bool, limit time.Duration) (repeated int) {
	t.Helper()
	await(t, "the events", limit, func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		var missing []string
		for r := range want {
			if e.seen[r].IsZero() {
				missing = append(missing, fmt.Sprint(r))
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("%d of %d are missing: %.200s", len(missing), len(want), strings.Join(missing, " "))
		}
		return nil
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	for r := range e.seen {
		if !want[r] {
			t.Errorf("an event says that %q has reached %d", r.Contributor, r.Tier)
		}
	}
	for _, fault := range e.faults {
		t.Error(fault)
	}
	for _, copies := range e.copies {
		repeated += len(copies) - 1
	}
	return repeated
}

// recognitions checks that the store has the recognitions that are wanted, no other, and all of them sent.
func (s *system) recognitions(t *testing.T, contributions map[string]int64, want map[reached]bool) {
	t.Helper()
	documents, err := firestore.Connect(t.Context(), s.project, "(default)", s.store)
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close() //nolint:errcheck // read only
	await(t, "all recognitions to be marked sent", 30*time.Second, func() error {
		pending, _, err := documents.Pending(t.Context(), store.Recognition{}, 1000)
		if err == nil && len(pending) > 0 {
			err = fmt.Errorf("%d are pending", len(pending))
		}
		return err
	})
	found := map[reached]bool{}
	var mu sync.Mutex
	var readers sync.WaitGroup
	deadline := time.Now().Add(30 * time.Second) // three leases
	ids := make(chan string)
	for range 16 {
		readers.Go(func() {
			for id := range ids {
				standing, err := documents.Standing(t.Context(), id)
				// What came after the recognition may still be leased to an aggregator that was killed.
				for err == nil && standing.Contributions < contributions[id] && time.Now().Before(deadline) {
					time.Sleep(200 * time.Millisecond) //nolint:forbidigo // it comes again when the lease ends
					standing, err = documents.Standing(t.Context(), id)
				}
				mu.Lock()
				if n := contributions[id]; err != nil || standing.Contributions != n {
					t.Errorf("%q has %d contributions, %v, want %d", id, standing.Contributions, err, n)
				}
				for _, r := range standing.Recognitions {
					found[reached{id, r.Tier}] = true
					if standing.RecognizedTier < r.Tier || r.Contributions > standing.Contributions {
						t.Errorf("%+v of %+v", r, standing.Contributor)
					}
				}
				mu.Unlock()
			}
		})
	}
	for id := range contributions {
		ids <- id
	}
	close(ids)
	readers.Wait()
	for r := range want {
		if !found[r] {
			t.Errorf("no recognition says that %q has reached %d", r.Contributor, r.Tier)
		}
	}
	if len(found) != len(want) {
		t.Errorf("%d recognitions, want %d", len(found), len(want))
	}
}

func contribution(id string) string {
	encoded, err := json.Marshal(map[string]string{"contributor": id})
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

// awaitContributions waits until query answers that a contributor has so many.
func awaitContributions(t *testing.T, query *process, id string, want int64) (body string) {
	t.Helper()
	await(t, fmt.Sprintf("%d contributions of %.30q", want, id), 15*time.Second, func() (err error) {
		var got struct {
			ID            string `json:"id"`
			Contributions int64  `json:"contributions"`
		}
		if body, err = get(query.url + "/contributors/" + url.PathEscape(id)); err == nil {
			err = json.Unmarshal([]byte(body), &got)
		}
		if err == nil && (got.ID != id || got.Contributions != want) {
			err = errors.New(body)
		}
		return err
	})
	return body
}

func TestTheThirdContributionIsRecognizedAndNoOther(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	events := s.consume(t, s.subscribe(t))
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	none := map[reached]bool{}

	mustPost(t, ingest.url+"/contributions", contribution("ada"))
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":4,"contributor":"ada"}`)
	awaitContributions(t, query, "ada", 2)
	time.Sleep(3 * time.Second) //nolint:forbidigo // for what must not come
	events.await(t, none, 0)

	mustPost(t, ingest.url+"/contributions", contribution("ada"))
	posted := time.Now()
	ada := map[reached]bool{{"ada", 3}: true}
	events.await(t, ada, 10*time.Second)
	t.Logf("recognized %v after the third 202", time.Since(posted).Round(time.Millisecond))
	mustPost(t, ingest.url+"/contributions", contribution("ada"))
	body := awaitContributions(t, query, "ada", 4)
	if !strings.Contains(body, `"recognized_tier":3`) || !strings.Contains(body, `"recognitions":[{"tier":3,"contributions":3,"recognized_at":"`) {
		t.Errorf("/contributors/ada = %s", body)
	}
	if r, err := getAny(query.url + "/contributors/Ada"); err != nil || r.status != http.StatusNotFound {
		t.Errorf("/contributors/Ada: %d %s, %v, want 404", r.status, r.body, err)
	}
	time.Sleep(3 * time.Second) //nolint:forbidigo // for what must not come
	if repeated := events.await(t, ada, 0); repeated != 0 {
		t.Errorf("%d events came twice", repeated)
	}
}

func TestContributorsFromOutsideAreRecognizedEachForThemselves(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	events := s.consume(t, s.subscribe(t))
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	ids := []string{
		"ada", "Ada", "ADA", ".", "..", "/", "//", "a/b", "a%2Fb", "a%252Fb", "../../x", "__x__", "__", "___", "c-ada", "👩‍💻", "é", "e\u0301",
		strings.Repeat("𝒳", 128), strings.Repeat("/", 128), strings.Repeat("%", 128), strings.Repeat(":", 128),
		" ", "a b", "a+b", "a+b/c", "a:3", "a:", "a?b=c", "a#b", "a;b", "*", "~", "%", `"`, `\`, "<&>", "\u2028", "\ufffe",
	}
	contributions, want := map[string]int64{}, map[reached]bool{}
	var items []string
	for i, id := range ids {
		contributions[id] = int64(2 + i%3)
		for range contributions[id] {
			items = append(items, contribution(id))
		}
		if contributions[id] >= 3 {
			want[reached{id, 3}] = true
		}
	}
	rand.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	mustPost(t, ingest.url+"/contributions/batch", `{"contributions":[`+strings.Join(items, ",")+`]}`)
	if repeated := events.await(t, want, 20*time.Second); repeated != 0 {
		t.Errorf("%d events came twice", repeated)
	}
	for id, n := range contributions {
		awaitContributions(t, query, id, n)
	}
	for _, order := range []string{"id", "-contributions"} {
		if listed := listContributors(t, query, order); len(listed) != len(contributions) {
			t.Errorf("%d contributors by %s, want %d", len(listed), order, len(contributions))
		} else {
			for id, n := range contributions {
				if listed[id] != n {
					t.Errorf("%q is listed by %s with %d contributions, want %d", id, order, listed[id], n)
				}
			}
		}
	}
	s.recognitions(t, contributions, want)
}

// listContributors walks the pages of an order.
func listContributors(t *testing.T, query *process, order string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	parameters := url.Values{"order_by": {order}, "page_size": {"7"}}
	for range 1000 {
		body, err := get(query.url + "/contributors?" + parameters.Encode())
		var page struct {
			Contributors []struct {
				ID            string `json:"id"`
				Contributions int64  `json:"contributions"`
			} `json:"contributors"`
			NextPageToken string `json:"next_page_token"`
		}
		if err := errors.Join(err, json.Unmarshal([]byte(body), &page)); err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Contributors {
			all[c.ID] = c.Contributions
		}
		if page.NextPageToken == "" {
			return all
		}
		parameters.Set("page_token", page.NextPageToken)
	}
	t.Fatal("the pages have no end")
	return nil
}

// crowd is contributors who contribute, in random order, over HTTP.
type crowd struct {
	contributions map[string]int64
	done          chan struct{} // closed when everything is posted

	mu sync.Mutex
	// third is when the third contribution of somebody was answered 202.
	third  map[string]time.Time
	faults []string
}

// contribute starts posters that post 1 to 6 contributions of each of so many contributors, by all three ways that there
// are, for about a given time.
func contribute(t *testing.T, ingest *process, contributors int, last time.Duration) *crowd {
	t.Helper()
	c := &crowd{contributions: map[string]int64{}, done: make(chan struct{}), third: map[string]time.Time{}}
	var order []string
	for i := range contributors {
		id := fmt.Sprintf("contributor/%d", i)
		c.contributions[id] = 1 + rand.N[int64](6)
		for range c.contributions[id] {
			order = append(order, id)
		}
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	const posters, each = 8, 5
	pause := last * posters * each / time.Duration(len(order))
	accepted := map[string]int64{}
	queue := make(chan []string)
	var group sync.WaitGroup
	for range posters {
		group.Go(func() {
			for ids := range queue {
				fault := postContributions(ingest, ids)
				c.mu.Lock()
				if fault != "" {
					c.faults = append(c.faults, fault)
				}
				for _, id := range ids {
					if accepted[id]++; accepted[id] == 3 {
						c.third[id] = time.Now()
					}
				}
				c.mu.Unlock()
				time.Sleep(pause)
			}
		})
	}
	group.Go(func() {
		defer close(queue)
		for ids := range slices.Chunk(order, each) {
			queue <- ids
		}
	})
	go func() {
		group.Wait()
		close(c.done)
	}()
	t.Cleanup(func() { <-c.done })
	return c
}

// postContributions posts one contribution of each, and returns what went wrong.
func postContributions(ingest *process, ids []string) (fault string) {
	send := func(path, body string) {
		if r, err := post(ingest.url+path, body); err != nil || r.status != http.StatusAccepted {
			fault = fmt.Sprintf("POST %s: %d %s, %v", path, r.status, r.body, err)
		}
	}
	items := make([]string, len(ids))
	for i, id := range ids {
		items[i] = contribution(id)
	}
	switch rand.N(3) {
	case 0:
		send("/contributions/batch", `{"contributions":[`+strings.Join(items, ",")+`]}`)
	case 1:
		for _, item := range items {
			send("/contributions", item)
		}
	default:
		for _, item := range items {
			send("/increments", `{"name":"foo","value":1,`+item[1:])
		}
	}
	return fault
}

// want returns who must be recognized for the tiers.
func (c *crowd) want(tiers ...int64) map[reached]bool {
	want := map[reached]bool{}
	for id, n := range c.contributions {
		for _, tier := range tiers {
			if n >= tier {
				want[reached{id, tier}] = true
			}
		}
	}
	return want
}

func (c *crowd) finish(t *testing.T) {
	t.Helper()
	<-c.done
	for _, fault := range c.faults {
		t.Error(fault)
	}
}

// recognizeThree posts three contributions of each of n contributors, and returns who must be recognized.
func recognizeThree(t *testing.T, ingest *process, n int) (contributions map[string]int64, want map[reached]bool) {
	t.Helper()
	contributions, want = map[string]int64{}, map[reached]bool{}
	var items []string
	for i := range n {
		id := fmt.Sprintf("contributor/%d", i)
		contributions[id], want[reached{id, 3}] = 3, true
		items = append(items, contribution(id), contribution(id), contribution(id))
	}
	mustPost(t, ingest.url+"/contributions/batch", `{"contributions":[`+strings.Join(items, ",")+`]}`)
	return contributions, want
}

// A query that is killed after it wrote recognitions and before it published their events leaves them to another one. The
// proxy holds its publishing, so that none of the events is out when it is killed.
func TestRecognitionsOfAKilledInstanceAreSentByAnother(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	events := s.consume(t, s.subscribe(t))
	proxy := startProxy(t, s.pubSub, nil)
	behind := *s
	behind.pubSub = proxy.host
	ingest, victim := s.start(t, "ingest"), behind.start(t, "query")
	s.start(t, "aggregator")
	proxy.interrupt()
	contributions, want := recognizeThree(t, ingest, 200)
	documents, err := firestore.Connect(t.Context(), s.project, "(default)", s.store)
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close() //nolint:errcheck // read only
	await(t, "all recognitions in the store", 30*time.Second, func() error {
		pending, _, err := documents.Pending(t.Context(), store.Recognition{}, 1000)
		if err == nil && len(pending) != len(want) {
			err = fmt.Errorf("%d pending, want %d", len(pending), len(want))
		}
		return err
	})
	victim.kill()
	events.await(t, map[reached]bool{}, 0) // none is out
	s.start(t, "query")
	repeated := events.await(t, want, 60*time.Second)
	s.recognitions(t, contributions, want)
	t.Logf("%d events were repeated", repeated)
}

// A query that is killed after Pub/Sub has an event and before it knows leaves the event to be published again, unchanged,
// so that consumers can drop the second copy. The proxy holds the replies to its publishing.
func TestAnEventWhosePublisherWasKilledIsRepeatedUnchanged(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	events := s.consume(t, s.subscribe(t))
	held, release := make(chan struct{}, 1), make(chan struct{})
	t.Cleanup(func() { close(release) })
	proxy := startProxy(t, s.pubSub, func(method string, _, reply []byte) ([]byte, error) {
		if strings.HasSuffix(method, "/Publish") {
			select {
			case held <- struct{}{}:
			default:
			}
			<-release
		}
		return reply, nil
	})
	behind := *s
	behind.pubSub = proxy.host
	ingest, victim := s.start(t, "ingest"), behind.start(t, "query")
	s.start(t, "aggregator")
	contributions, want := recognizeThree(t, ingest, 200)
	select {
	case <-held:
	case <-time.After(30 * time.Second):
		t.Fatal("no event was published")
	}
	victim.kill()
	s.start(t, "query")
	events.await(t, want, 60*time.Second)
	s.recognitions(t, contributions, want)
	repeated := events.await(t, want, 0)
	t.Logf("%d events were repeated", repeated)
	if repeated == 0 {
		t.Error("the event whose reply was held was not repeated")
	}
}

// An aggregator and one of two queries are killed at random moments: everyone is recognized once.
func TestKilledInstancesRecognizeEveryContributorOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	events := s.consume(t, s.subscribe(t))
	ingest, aggregator := s.start(t, "ingest"), s.start(t, "aggregator")
	queries := []*process{s.start(t, "query"), s.start(t, "query")}
	crowd := contribute(t, ingest, 600, 10*time.Second)
	kills := 0
	for posting := true; posting; kills++ {
		select {
		case <-crowd.done:
			posting = false
		case <-time.After(500*time.Millisecond + rand.N(500*time.Millisecond)):
		}
		if kills%2 == 0 {
			aggregator.kill()
			aggregator = s.start(t, "aggregator")
		} else {
			queries[1].kill()
			queries[1] = s.start(t, "query")
		}
	}
	crowd.finish(t)
	want := crowd.want(3)
	repeated := events.await(t, want, 60*time.Second)
	s.recognitions(t, crowd.contributions, want)
	t.Logf("%d contributors, %d recognized, %d kills, %d events repeated", len(crowd.contributions), len(want), kills, repeated)
}

// With nobody killed no event comes twice, and tiers that are added later recognize those who are past them, once. With the
// must-not-exist precondition taken off, both instances recognized the same contributors, in events that differed.
func TestUndisturbedInstancesRecognizeWithoutRepeatedEvents(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	events := s.consume(t, s.subscribe(t))
	ingest := s.start(t, "ingest")
	queries := []*process{s.start(t, "query"), s.start(t, "query")}
	s.start(t, "aggregator")
	crowd := contribute(t, ingest, 400, 4*time.Second)
	crowd.finish(t)

	for _, step := range []struct {
		settings string
		tiers    []int64
	}{{"3", []int64{3}}, {"3,5", []int64{3, 5}}, {"3,4,5", []int64{3, 4, 5}}} {
		if step.settings != "3" {
			s.variables["RECOGNITION_TIERS"] = step.settings
			for i, query := range queries {
				query.stop()
				queries[i] = s.start(t, "query")
			}
		}
		want := crowd.want(step.tiers...)
		events.await(t, want, 30*time.Second)
		s.recognitions(t, crowd.contributions, want)
		if repeated := events.await(t, want, time.Second); repeated != 0 {
			t.Errorf("tiers %s: %d events came twice", step.settings, repeated)
		}
	}
	for _, query := range queries {
		query.stop()
	}
	if repeated := events.await(t, crowd.want(3, 4, 5), time.Second); repeated != 0 {
		t.Errorf("%d events came twice", repeated)
	}
	logLatencies(t, crowd, events)
}

// logLatencies tells the time from the third 202 to the event, pulled.
func logLatencies(t *testing.T, crowd *crowd, events *events) {
	t.Helper()
	events.mu.Lock()
	defer events.mu.Unlock()
	var took []time.Duration
	for id, at := range crowd.third {
		took = append(took, events.seen[reached{id, 3}].Sub(at).Round(time.Millisecond))
	}
	slices.Sort(took)
	t.Logf("from the third 202 to the event: median %v, p99 %v, longest %v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}
