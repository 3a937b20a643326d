package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
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
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/tools/emulator"
	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

const (
	// chaosFor is how long a seed makes trouble at least, unless FOR says otherwise.
	chaosFor = 40 * time.Second
	// chaosPatience is how long after the last fault everything must be exact: a dead path, a lease, a window, and a busy machine.
	chaosPatience = 90 * time.Second
	// The most resident memory of a process in the settings of newChaos.
	mostOfIngest, mostOfAggregator, mostOfQuery = 192 << 20, 256 << 20, 192 << 20
)

// Two of each service run as processes on both emulators, behind proxies that make trouble by seed: to calls, to connections, to the
// processes and to the emulators. Producers with and without keys retry until they are answered 202. Afterwards everything is exact:
// totals, history, documents, contributors, recognitions, dead letters, and accrue reconcile agrees with every message that was
// published. make chaos runs several seeds, or the given one.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than a minute")
	}
	t.Parallel()
	first, seeds, trouble := uint64(1), 1, chaosFor
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		first = n
	}
	if n, err := strconv.Atoi(os.Getenv("RUNS")); err == nil {
		seeds = n
	}
	if d, err := time.ParseDuration(os.Getenv("FOR")); err == nil {
		trouble = d
	}
	all := &faultCounts{counts: make(map[kindOfFault]int)}
	for seed := first; seed < first+uint64(seeds); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			runChaos(t, seed, trouble, all)
			if t.Failed() {
				t.Logf("to repeat its faults: make chaos SEED=%d RUNS=1 FOR=%v", seed, trouble)
			}
		})
	}
	table, missing := all.report()
	t.Logf("faults in %d seeds, from %d on:\n%s", seeds, first, table)
	if len(missing) > 0 {
		t.Errorf("never reached: %q", missing)
	}
}

// chaos is a system in trouble.
type chaos struct {
	t                 *testing.T
	seed              uint64
	s                 *system
	counts            *faultCounts
	ledger            chaosLedger
	archive           string // the file in which accrue reconcile collects all messages
	pubSub, firestore *emulator.Emulator
	slots             []*slot
	links             []*link
	healed            atomic.Bool
	// ending are the stops and thaws in progress.
	ending sync.WaitGroup
	// most is the most resident memory of each service in bytes.
	most map[string]int64
}

// archiveSubscription keeps every message for accrue reconcile.
const archiveSubscription = "archive"

// slot is a place for a service, with links of its own to the emulators.
type slot struct {
	service           string
	pubSub, firestore *link

	mu      sync.Mutex
	process *process
	frozen  bool
}

func (o *slot) running() *process {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.process
}

// chaosLedger is what producers know: for each tag what was answered 202, and what may have been counted at most.
type chaosLedger struct {
	mu            sync.Mutex
	least, most   map[string]int64
	contributions map[string]int64
	letters       map[string]bool
	posts         int
	attempts      map[string]int
}

func (l *chaosLedger) add(values map[string]int64, least, most int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for tag, value := range values {
		l.least[tag] += least * value
		l.most[tag] += most * value
	}
}

// check compares totals with what may have been counted, and with what was seen before.
func (l *chaosLedger) check(totals, seen map[string]int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for tag, total := range totals {
		if total > l.most[tag] {
			return fmt.Errorf("%s is %d, and only %d were ever posted", tag, total, l.most[tag])
		}
	}
	for tag, total := range seen {
		if totals[tag] < total {
			return fmt.Errorf("%s is %d, and was %d", tag, totals[tag], total)
		}
	}
	return nil
}

func runChaos(t *testing.T, seed uint64, trouble time.Duration, counts *faultCounts) {
	c := newChaos(t, seed, counts)
	client := c.s.subscribe(t)
	events := c.s.consume(t, client)
	c.archive = filepath.Join(t.TempDir(), "archive.json")
	if err := client.EnsureSubscription(t.Context(), archiveSubscription, "increments", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	random := c.random("conductor")
	defer c.ending.Wait()
	for _, o := range c.slots {
		c.launch(o, random)
	}
	for _, o := range c.slots {
		await(t, o.service+" ready", time.Minute, func() error { _, err := get(o.running().url + "/health/ready"); return err })
	}
	began := time.Now()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	watching, endWatching := context.WithCancel(t.Context())
	var producers, watchers sync.WaitGroup
	defer watchers.Wait()
	defer endWatching()
	defer producers.Wait()
	for id := range 10 {
		producers.Go(func() { c.keyed(ctx, id) })
	}
	for id := range 2 {
		producers.Go(func() { c.plain(ctx, id) })
	}
	for _, o := range c.slots {
		if o.service == "query" {
			watchers.Go(func() { c.read(watching, o) })
		}
	}
	watchers.Go(func() { c.weigh(watching) })
	c.conduct(trouble, random, client.Topic("increments"))
	end()
	c.ending.Wait()
	c.healed.Store(true)
	healed := time.Now()
	producers.Wait() // each post is accepted now
	accepted := time.Since(healed)
	if t.Failed() {
		return
	}

	// No message is published any more once both ingests have stopped and late publishes have arrived.
	for _, o := range c.slots {
		if o.service == "ingest" {
			o.running().stop()
		}
	}
	for _, l := range c.links {
		l.later.Wait()
	}
	c.awaitReconciled("before the redrive", chaosPatience-time.Since(healed))
	exact := time.Since(healed)
	c.verifyRejected()
	c.redrive()
	c.awaitReconciled("after the redrive", 30*time.Second)
	totals := c.verifyTotals()
	c.s.audit(t)
	want := make(map[reached]bool)
	for id, n := range c.ledger.contributions {
		if n >= 3 {
			want[reached{id, 3}] = true
		}
	}
	again := events.await(t, want, 90*time.Second)
	c.s.checkRecognitions(t, c.ledger.contributions, want)
	c.verifyLetters(client)
	endWatching()
	watchers.Wait()
	for _, o := range c.slots {
		if o.service != "ingest" {
			o.running().stop()
		}
	}
	c.awaitReconciled("after the stop", 0)
	c.s.audit(t)
	c.verifyMemory()
	var increments int64
	for _, total := range totals {
		increments += total
	}
	t.Logf("seed %d: %v of trouble; %d posts accepted in %d attempts %v, %d in all, %d messages published, %d contributors, %d recognized, %d events repeated; "+
		"the last post accepted %.1f s after the last fault, totals exact after %.1f s; resident at most %v; %.0f s in all", seed, trouble, c.ledger.posts,
		sumOf(c.ledger.attempts), c.ledger.attempts, increments, c.archived(), len(c.ledger.contributions), len(want), again, accepted.Seconds(),
		exact.Seconds(), mebibytes(c.most), time.Since(began).Seconds())
}

func sumOf(counts map[string]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

func mebibytes(most map[string]int64) map[string]string {
	text := make(map[string]string, len(most))
	for service, bytes := range most {
		text[service] = fmt.Sprintf("%d MiB", bytes>>20)
	}
	return text
}

func newChaos(t *testing.T, seed uint64, counts *faultCounts) *chaos {
	t.Helper()
	emulatortest.PubSub(t) // skips the test, or fails it in CI, if there is no emulator
	c := &chaos{
		t: t, seed: seed, counts: counts, pubSub: ownEmulator(t, emulator.StartPubSub), firestore: ownEmulator(t, emulator.StartFirestore),
		ledger: chaosLedger{
			least: make(map[string]int64), most: make(map[string]int64), contributions: make(map[string]int64), letters: make(map[string]bool),
			attempts: make(map[string]int),
		},
		most: make(map[string]int64),
	}
	c.s = newSystemOn(t, c.firestore.Host)
	c.s.pubSub = c.pubSub.Host
	c.s.variables["PENDING_BYTES"], c.s.variables["BUFFER_BYTES"] = strconv.Itoa(16<<20), strconv.Itoa(32<<20)
	c.s.variables["IDEMPOTENCY_KEYS"] = "200000"
	for _, service := range []string{"ingest", "aggregator", "query"} {
		for i := range 2 {
			o := &slot{service: service}
			newLink := func(emulator string) *link {
				l := newLink(t, emulator, seed^hashOf(fmt.Sprint(service, i, emulator == c.pubSub.Host)), counts, &c.healed)
				c.links = append(c.links, l)
				return l
			}
			o.pubSub = newLink(c.pubSub.Host)
			if service != "ingest" {
				o.firestore = newLink(c.firestore.Host)
			}
			c.slots = append(c.slots, o)
		}
	}
	return c
}

func (c *chaos) random(name string) *rand.Rand { return rand.New(rand.NewPCG(c.seed, hashOf(name))) }

// launch starts the service of a slot, whether or not the one before has ended.
func (c *chaos) launch(o *slot, random *rand.Rand) {
	c.t.Helper()
	behind := *c.s
	behind.pubSub, behind.variables = o.pubSub.tcp.address, maps.Clone(c.s.variables)
	if o.firestore != nil {
		behind.firestore = o.firestore.tcp.address
	}
	behind.variables["PARTITIONS"] = []string{"4", "16", "64"}[random.IntN(3)]
	p := behind.launch(c.t, o.service)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.process = p
}

// deck is every event of the conductor. It deals all of them, in an order by the seed, before it deals one again.
var deck = []string{
	"kill ingest", "kill aggregator", "kill query", "stop ingest", "stop aggregator", "stop query", "freeze ingest", "freeze aggregator",
	"freeze query", "freeze Pub/Sub", "freeze Firestore", "swallow", "swallow", "reset", "garbage",
}

// conduct makes trouble with processes, connections and emulators for some time, and until the deck is dealt once.
func (c *chaos) conduct(trouble time.Duration, random *rand.Rand, topic *pubsub.Topic) {
	c.t.Helper()
	var dealt []string
	for n, began := 0, time.Now(); n < len(deck) || time.Since(began) < trouble; n++ {
		pause(random, 300*time.Millisecond, 2300*time.Millisecond)
		for _, o := range c.slots {
			select {
			case <-o.running().done:
				c.t.Fatalf("%s ended by itself: %v", o.service, o.running().waitErr)
			default:
			}
		}
		if len(dealt) == 0 {
			dealt = slices.Clone(deck)
			random.Shuffle(len(dealt), func(i, j int) { dealt[i], dealt[j] = dealt[j], dealt[i] })
		}
		verb, object, _ := strings.Cut(dealt[0], " ")
		dealt = dealt[1:]
		o := c.pick(object, random)
		frozenFor := time.Second + below(random, 5*time.Second)
		switch {
		case verb == "garbage":
			c.litter(topic, fmt.Sprintf("garbage %d", random.Uint64()))
		case object == "Pub/Sub":
			c.counts.add(pubSubDown)
			c.freeze(c.pubSub.PID(), frozenFor, func() {})
		case object == "Firestore":
			c.counts.add(storeDown)
			c.freeze(c.firestore.PID(), frozenFor, func() {})
		case verb == "swallow":
			c.counts.add(swallowing)
			c.links[random.IntN(len(c.links))].tcp.swallow()
		case verb == "reset":
			c.counts.add(reset)
			c.links[random.IntN(len(c.links))].tcp.reset()
		case o == nil: // both are frozen
		case verb == "kill":
			c.counts.add(killed)
			o.running().kill()
			c.launch(o, random)
		case verb == "stop":
			c.counts.add(terminated)
			c.counts.add(divided)
			before := o.running()
			c.launch(o, random) // beside the one before, as Cloud Run does
			c.ending.Go(before.stop)
		case verb == "freeze":
			c.counts.add(paused)
			if object == "aggregator" {
				c.counts.add(zombie)
				frozenFor += pubsub.EmulatorAckDeadline // its messages are delivered to the other, and then it goes on
			}
			o.mu.Lock()
			o.frozen = true
			pid := o.process.cmd.Process.Pid
			o.mu.Unlock()
			c.freeze(pid, frozenFor, func() {
				o.mu.Lock()
				defer o.mu.Unlock()
				o.frozen = false
			})
		}
	}
}

// pick returns a slot of the service that is not frozen, or nil.
func (c *chaos) pick(service string, random *rand.Rand) *slot {
	var all []*slot
	for _, o := range c.slots {
		o.mu.Lock()
		if o.service == service && !o.frozen {
			all = append(all, o)
		}
		o.mu.Unlock()
	}
	if len(all) == 0 {
		return nil
	}
	return all[random.IntN(len(all))]
}

// freeze stops a process for d, and then calls thawed.
func (c *chaos) freeze(pid int, d time.Duration, thawed func()) {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		c.t.Fatalf("freeze: %v", err)
	}
	c.ending.Go(func() {
		time.Sleep(d)
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			c.t.Errorf("thaw: %v", err)
		}
		thawed()
	})
}

// litter publishes a message that cannot be decoded.
func (c *chaos) litter(topic *pubsub.Topic, text string) {
	c.counts.add(undecodable)
	c.ending.Go(func() { // Pub/Sub may be frozen
		for c.t.Context().Err() == nil {
			ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
			err := topic.Publish(ctx, []broker.Message{{Data: []byte(text)}})
			cancel()
			if err == nil {
				break
			}
		}
		c.ledger.mu.Lock()
		defer c.ledger.mu.Unlock()
		c.ledger.letters[text] = true
	})
}

// Outcomes of a post.
const (
	outcomeAccepted  = "accepted"
	outcomeUncounted = "uncounted"
	outcomeUnknown   = "unknown"
)

// post posts once, to either ingest, with less patience than a frozen one needs.
func (c *chaos) post(p *posting, random *rand.Rand) (outcome string) {
	defer func() {
		c.ledger.mu.Lock()
		defer c.ledger.mu.Unlock()
		c.ledger.attempts[outcome]++
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), 8*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.slots[random.IntN(2)].running().url+p.path, strings.NewReader(p.body))
	if err != nil {
		c.t.Error(err)
		return outcomeUnknown
	}
	request.Header.Set("Content-Type", "application/json")
	if p.key != "" {
		request.Header.Set("Idempotency-Key", p.key)
	}
	r, err := do(request)
	var dial *net.OpError
	switch {
	case err == nil && r.status == http.StatusAccepted:
		return outcomeAccepted
	case errors.As(err, &dial) && dial.Op == "dial": // nothing was sent
		return outcomeUncounted
	case err == nil && r.status == http.StatusServiceUnavailable && strings.Contains(r.body, "Nothing was counted"):
		return outcomeUncounted
	case err == nil && r.status != http.StatusServiceUnavailable:
		c.t.Errorf("a post was answered %d %s", r.status, r.body)
	}
	return outcomeUnknown
}

// below returns a random duration below most.
func below(random *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(most)))
}

// pause waits between least and most.
func pause(random *rand.Rand, least, most time.Duration) {
	time.Sleep(least + below(random, most-least))
}

// keyed posts with keys, each until it is accepted, and some again. Each posting has one contribution.
func (c *chaos) keyed(ctx context.Context, id int) {
	random := c.random(fmt.Sprintf("keyed %d", id))
	for n := 0; ctx.Err() == nil && !c.t.Failed(); n++ {
		contributor := fmt.Sprintf("contributor/%d/%d/%d", c.seed, id, n/4)
		p := c.keyedPosting(random, fmt.Sprintf("%d/%d", id, n), contributor)
		c.ledger.add(p.values, 0, 1)
		for c.post(&p, random) != outcomeAccepted {
			if c.t.Failed() {
				return
			}
			pause(random, 20*time.Millisecond, 200*time.Millisecond)
		}
		c.ledger.add(p.values, 1, 0)
		c.ledger.mu.Lock()
		c.ledger.contributions[contributor]++
		c.ledger.posts++
		c.ledger.mu.Unlock()
		if random.IntN(10) == 0 { // a producer that did not see the answer
			c.counts.add(repeated)
			c.post(&p, random)
		}
		pause(random, 5*time.Millisecond, 60*time.Millisecond)
	}
}

// keyedPosting returns a post of one of four kinds.
func (c *chaos) keyedPosting(random *rand.Rand, key, contributor string) posting {
	p := posting{path: "/increments/batch", key: key, values: make(map[string]int64)}
	named := fmt.Sprintf(`"contributor":%q`, contributor)
	if random.IntN(4) == 0 {
		p.path, p.body = "/contributions", "{"+named+"}"
		return p
	}
	ids := random.IntN(3) == 0
	items := make([]string, 1+random.IntN(20))
	for i := range items {
		name, value := "keyed_"+string(rune('a'+random.IntN(26))), 1+random.Int64N(9)
		if random.IntN(50) == 0 {
			name = refusable
		}
		p.values[name] += value
		items[i] = fmt.Sprintf(`"name":%q,"value":%d`, name, value)
		if i == 0 {
			items[i] += "," + named
		}
		if ids {
			items[i] += fmt.Sprintf(`,"id":"%s/%d"`, key, i)
		}
		items[i] = "{" + items[i] + "}"
	}
	if ids {
		p.key = ""
	}
	if p.body = `{"increments":[` + strings.Join(items, ",") + `]}`; len(items) == 1 {
		p.path, p.body = "/increments", items[0]
	}
	return p
}

// plain posts without keys, each until it is accepted. An attempt without a definite answer may count as well.
func (c *chaos) plain(ctx context.Context, id int) {
	random := c.random(fmt.Sprintf("plain %d", id))
	for ctx.Err() == nil && !c.t.Failed() {
		name, value := "plain_"+string(rune('a'+random.IntN(26))), 1+random.Int64N(9)
		p := posting{path: "/increments", body: fmt.Sprintf(`{"name":%q,"value":%d}`, name, value), values: map[string]int64{name: value}}
		for done := false; !done && !c.t.Failed(); {
			c.ledger.add(p.values, 0, 1)
			switch c.post(&p, random) {
			case outcomeAccepted:
				c.ledger.add(p.values, 1, 0)
				done = true
			case outcomeUncounted:
				c.ledger.add(p.values, 0, -1)
			}
			pause(random, 5*time.Millisecond, 60*time.Millisecond)
		}
		c.ledger.mu.Lock()
		c.ledger.posts++
		c.ledger.mu.Unlock()
	}
}

// read reads the totals of a slot's queries, and checks that none exceeds what was posted, or falls while one process answers.
func (c *chaos) read(ctx context.Context, o *slot) {
	var from *process
	var seen map[string]int64
	for ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
		p := o.running()
		totals, err := stats(p)
		if err != nil {
			continue
		}
		if p != from {
			from, seen = p, nil
		}
		if err := c.ledger.check(totals, seen); err != nil {
			c.t.Errorf("a reader: %v", err)
			return
		}
		seen = totals
	}
}

// weigh notes the most resident memory of each service.
func (c *chaos) weigh(ctx context.Context) {
	for ctx.Err() == nil {
		for _, o := range c.slots {
			if bytes, err := residentBytes(o.running().cmd.Process.Pid); err == nil { // it may have ended
				c.most[o.service] = max(c.most[o.service], bytes)
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (c *chaos) verifyMemory() {
	c.t.Helper()
	for service, most := range map[string]int64{"ingest": mostOfIngest, "aggregator": mostOfAggregator, "query": mostOfQuery} {
		if c.most[service] == 0 || c.most[service] > most {
			c.t.Errorf("%s took %d bytes, want at most %d", service, c.most[service], most)
		}
	}
}

// verifyTotals compares the totals of both queries with what producers know, and returns them.
func (c *chaos) verifyTotals() (totals map[string]int64) {
	c.t.Helper()
	for _, o := range c.slots {
		if o.service != "query" {
			continue
		}
		await(c.t, "exact totals", 20*time.Second, func() (err error) {
			if totals, err = stats(o.running()); err != nil {
				return err
			}
			keyed := maps.Clone(totals)
			want := maps.Clone(c.ledger.least)
			for tag, least := range c.ledger.least {
				if strings.HasPrefix(tag, "plain_") {
					delete(keyed, tag)
					delete(want, tag)
					if totals[tag] < least || totals[tag] > c.ledger.most[tag] {
						return fmt.Errorf("%s is %d, want %d to %d", tag, totals[tag], least, c.ledger.most[tag])
					}
				}
			}
			return difference(keyed, want)
		})
	}
	return totals
}

// verifyRejected checks that all entries of keyed posts are counted, or wait to be redriven: at least those whose document was refused.
func (c *chaos) verifyRejected() {
	c.t.Helper()
	documents, err := firestore.Connect(c.t.Context(), c.s.project, "(default)", c.firestore.Host)
	if err != nil {
		c.t.Fatal(err)
	}
	defer documents.Close() //nolint:errcheck // read only
	rejected, sums, want := make(map[string]int64), make(map[string]int64), make(map[string]int64)
	const page = 100
	for after, more := "", true; more; {
		found, err := documents.Rejected(c.t.Context(), after, page)
		if err != nil {
			c.t.Fatal(err)
		}
		for i := range found {
			for _, e := range found[i].Entries {
				rejected[e.Tag] += int64(e.Value)
			}
			after = found[i].ID()
		}
		more = len(found) == page
	}
	partitions, _, err := documents.Totals(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, partition := range partitions {
		for _, total := range partition.Totals {
			sums[total.Name] += total.Total
		}
	}
	for tag, least := range c.ledger.least {
		if !strings.HasPrefix(tag, "plain_") {
			sums[tag] += rejected[tag]
			want[tag] = least
		} else {
			delete(sums, tag)
		}
	}
	if err := difference(sums, want); err != nil {
		c.t.Errorf("counted and rejected entries: %v", err)
	}
	if rejected[refusable] == 0 {
		c.t.Errorf("of %d of %s, the document of which was refused, none waits", want[refusable], refusable)
	}
	delete(rejected, "") // contributions
	c.t.Logf("rejected entries of %d tags wait, which add up to %d; of %s %d of %d", len(rejected), sumOf64(rejected), refusable, rejected[refusable],
		want[refusable])
}

func sumOf64(values map[string]int64) (n int64) {
	for _, value := range values {
		n += value
	}
	return n
}

// redrive counts the rejected entries.
func (c *chaos) redrive() {
	c.t.Helper()
	output, err := c.s.accrue(c.t, "redrive", "--partitions", "16").CombinedOutput()
	if err != nil {
		c.t.Errorf("accrue redrive: %v\n%s", err, output)
	}
}

// verifyLetters checks that the dead letters are the messages that could not be decoded. Some may be there twice.
func (c *chaos) verifyLetters(client *pubsub.Client) {
	c.t.Helper()
	found := make(map[string]bool)
	await(c.t, "the dead letters", 30*time.Second, func() error {
		letters, err := client.Subscription("letters").Pull(c.t.Context(), broker.MaxPull)
		for i := range letters {
			text := string(letters[i].Data)
			if found[text] = true; !c.ledger.letters[text] || letters[i].Attributes[message.ReasonAttribute] == "" {
				c.t.Errorf("a dead letter is %q %v", text, letters[i].Attributes)
			}
		}
		if err == nil && len(found) < len(c.ledger.letters) {
			err = fmt.Errorf("%d of %d", len(found), len(c.ledger.letters))
		}
		return err
	})
}

// awaitReconciled waits until accrue reconcile finds no difference between all messages that were published, which it collects in
// the archive, the checkpoints and the documents.
func (c *chaos) awaitReconciled(when string, limit time.Duration) {
	c.t.Helper()
	await(c.t, "accrue reconcile agrees "+when, limit, func() error {
		output, err := c.s.accrue(c.t, "reconcile", "--subscription", archiveSubscription, "--archive", c.archive).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, output)
		}
		c.t.Logf("accrue reconcile, %s: %s", when, output)
		return nil
	})
}

// archived is the number of messages in the archive.
func (c *chaos) archived() int {
	c.t.Helper()
	text, err := os.ReadFile(c.archive)
	if err != nil {
		c.t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}
