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

// reached is a contributor and a tier that the contributor reached.
type reached struct {
	Contributor string `json:"contributor"`
	Tier        int64  `json:"tier"`
}

// events collects the events of the recognitions topic and recognizes copies by source and id, as a consumer does.
type events struct {
	mu sync.Mutex
	// copies has the data of every copy of an event by source and id.
	copies map[[2]string][]string
	seen   map[reached]time.Time
	errors []string
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
			_ = source.Acknowledge(ctx, receipts) // a redelivery is one more copy
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
		e.errors = append(e.errors, fmt.Sprintf("malformed event %s %v: %v", m.Data, m.Attributes, err))
	}
	if e.copies[key] == nil {
		if _, again := e.seen[data.reached]; again {
			e.errors = append(e.errors, fmt.Sprintf("%v has two events with different ids", data.reached))
		}
		e.seen[data.reached] = time.Now()
	}
	e.copies[key] = append(e.copies[key], string(m.Data))
	if e.copies[key][0] != string(m.Data) {
		e.errors = append(e.errors, fmt.Sprintf("copies of an event differ: %s and %s", e.copies[key][0], m.Data))
	}
}

// await waits until all wanted events have arrived, fails the test if there are others, and returns the number of repeated
// copies.
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
			return fmt.Errorf("%d of %d missing: %.200s", len(missing), len(want), strings.Join(missing, " "))
		}
		return nil
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	for r := range e.seen {
		if !want[r] {
			t.Errorf("unexpected event: %q reached %d", r.Contributor, r.Tier)
		}
	}
	for _, err := range e.errors {
		t.Error(err)
	}
	for _, copies := range e.copies {
		repeated += len(copies) - 1
	}
	return repeated
}

// checkRecognitions checks that the store has exactly the wanted recognitions, all of them marked sent, and the numbers of
// contributions.
func (s *system) checkRecognitions(t *testing.T, contributions map[string]int64, want map[reached]bool) {
	t.Helper()
	documents, err := firestore.Connect(t.Context(), s.project, "(default)", s.store)
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close() //nolint:errcheck // read only
	await(t, "all recognitions to be marked sent", 30*time.Second, func() error {
		pending, _, err := documents.Pending(t.Context(), store.Recognition{}, 1000)
		if err == nil && len(pending) > 0 {
			err = fmt.Errorf("%d pending", len(pending))
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
				// Contributions after the recognition may still be leased to a killed aggregator.
				for err == nil && standing.Contributions < contributions[id] && time.Now().Before(deadline) {
					time.Sleep(200 * time.Millisecond)
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
			t.Errorf("no recognition of %q for %d", r.Contributor, r.Tier)
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

// awaitContributions waits until query reports the wanted number of contributions.
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

func TestThirdContributionIsRecognizedOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	events := s.consume(t, s.subscribe(t))
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	none := map[reached]bool{}

	mustPost(t, ingest.url+"/contributions", contribution("ada"))
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":4,"contributor":"ada"}`)
	awaitContributions(t, query, "ada", 2)
	time.Sleep(3 * time.Second) // no event may arrive
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
	if r, err := getResponse(query.url + "/contributors/Ada"); err != nil || r.status != http.StatusNotFound {
		t.Errorf("/contributors/Ada: %d %s, %v, want 404", r.status, r.body, err)
	}
	time.Sleep(3 * time.Second) // no further event may arrive
	if repeated := events.await(t, ada, 0); repeated != 0 {
		t.Errorf("%d events repeated", repeated)
	}
}

func TestUnusualContributorIDsAreRecognizedSeparately(t *testing.T) {
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
		t.Errorf("%d events repeated", repeated)
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
	s.checkRecognitions(t, contributions, want)
}

// listContributors returns the contributors of all pages in the given order.
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
	t.Fatal("more than 1000 pages")
	return nil
}

// crowd is a set of contributors whose contributions are posted in random order.
type crowd struct {
	contributions map[string]int64
	done          chan struct{} // closed when everything is posted

	mu sync.Mutex
	// third has the time at which the third contribution of each contributor was answered 202.
	third  map[string]time.Time
	errors []string
}

// contribute starts to post 1 to 6 contributions for each contributor through all three routes, spread over duration.
func contribute(t *testing.T, ingest *process, contributors int, duration time.Duration) *crowd {
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
	pause := duration * posters * each / time.Duration(len(order))
	accepted := map[string]int64{}
	queue := make(chan []string)
	var group sync.WaitGroup
	for range posters {
		group.Go(func() {
			for ids := range queue {
				err := postContributions(ingest, ids)
				c.mu.Lock()
				if err != nil {
					c.errors = append(c.errors, err.Error())
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

// postContributions posts one contribution for each id.
func postContributions(ingest *process, ids []string) (err error) {
	send := func(path, body string) {
		r, errPost := post(ingest.url+path, body)
		if errPost != nil || r.status != http.StatusAccepted {
			err = fmt.Errorf("POST %s: %d %s, %w", path, r.status, r.body, errPost)
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
	return err
}

// want returns the recognitions that the tiers require.
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
	for _, err := range c.errors {
		t.Error(err)
	}
}

// recognizeThree posts three contributions for each of n contributors and returns the required recognitions.
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

// If query is killed after it wrote recognitions and before it published their events, another instance publishes them. A proxy
// blocks the publishing, so that no event is out at the time of the kill.
func TestRecognitionsOfKilledInstanceAreSentByAnother(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	events := s.consume(t, s.subscribe(t))
	proxy := startProxy(t, s.pubSub, nil)
	proxied := *s
	proxied.pubSub = proxy.host
	ingest, victim := s.start(t, "ingest"), proxied.start(t, "query")
	s.start(t, "aggregator")
	proxy.interrupt()
	contributions, want := recognizeThree(t, ingest, 200)
	documents, err := firestore.Connect(t.Context(), s.project, "(default)", s.store)
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close() //nolint:errcheck // read only
	await(t, "all recognitions in Firestore", 30*time.Second, func() error {
		pending, _, err := documents.Pending(t.Context(), store.Recognition{}, 1000)
		if err == nil && len(pending) != len(want) {
			err = fmt.Errorf("%d pending, want %d", len(pending), len(want))
		}
		return err
	})
	victim.kill()
	events.await(t, map[reached]bool{}, 0) // none is published
	s.start(t, "query")
	repeated := events.await(t, want, 60*time.Second)
	s.checkRecognitions(t, contributions, want)
	t.Logf("%d events were repeated", repeated)
}

// If query is killed after Pub/Sub accepted an event and before the reply arrived, another instance publishes the event again,
// unchanged, so that consumers can drop the copy. A proxy holds the replies.
func TestEventOfKilledPublisherIsRepeatedUnchanged(t *testing.T) {
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
	proxied := *s
	proxied.pubSub = proxy.host
	ingest, victim := s.start(t, "ingest"), proxied.start(t, "query")
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
	s.checkRecognitions(t, contributions, want)
	repeated := events.await(t, want, 0)
	t.Logf("%d events were repeated", repeated)
	if repeated == 0 {
		t.Error("the event whose reply was held was not published again")
	}
}

// An aggregator and one of two query instances are killed at random moments. Every contributor is recognized once.
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
	s.checkRecognitions(t, crowd.contributions, want)
	t.Logf("%d contributors, %d recognized, %d kills, %d events repeated", len(crowd.contributions), len(want), kills, repeated)
}

// Without failures no event is repeated, and a tier that is added later recognizes the contributors who have passed it, once.
// Without the must-not-exist precondition the test fails: both instances recognize the same contributors, with different events.
func TestEventsAreNotRepeatedWithoutFailures(t *testing.T) {
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
		s.checkRecognitions(t, crowd.contributions, want)
		if repeated := events.await(t, want, time.Second); repeated != 0 {
			t.Errorf("tiers %s: %d events repeated", step.settings, repeated)
		}
	}
	for _, query := range queries {
		query.stop()
	}
	if repeated := events.await(t, crowd.want(3, 4, 5), time.Second); repeated != 0 {
		t.Errorf("%d events repeated", repeated)
	}
	logLatencies(t, crowd, events)
}

// logLatencies logs the time from the 202 of the third contribution to the receipt of the event.
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
