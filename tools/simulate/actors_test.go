package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/tools/redrive"
)

// refusable is the tag whose document the store refuses at times.
const refusable = "refusable"

func (w *world) random(name string) *rand.Rand {
	return rand.New(rand.NewPCG(w.seed, hash(name)))
}

func pause(random *rand.Rand, least, most time.Duration) {
	time.Sleep(least + time.Duration(random.Int64N(int64(most-least))))
}

func letter(prefix string, n int) string { return prefix + "_" + string(rune('a'+n%26)) }

// keyed posts batches with keys, each until it is accepted: to whichever ingest, with whatever PARTITIONS.
func (w *world) keyed(ctx context.Context, id int) {
	random := w.random(fmt.Sprintf("keyed %d", id))
	for n := 0; ctx.Err() == nil; n++ {
		contributor := fmt.Sprintf("contributor-%d-%d", id, n/4)
		sums := make(map[string]int64)
		items := make([]string, 1+random.IntN(5))
		for i := range items {
			tag, value := letter("keyed", random.IntN(12)), 1+random.Int64N(9)
			if random.IntN(8) == 0 {
				tag = refusable
			}
			sums[tag] += value
			items[i] = fmt.Sprintf(`{"name":%q,"value":%d}`, tag, value)
		}
		items[0] = strings.Replace(items[0], "}", fmt.Sprintf(`,"contributor":%q}`, contributor), 1)
		body, key := `{"increments":[`+strings.Join(items, ",")+`]}`, fmt.Sprintf("%d-%d", id, n)
		for tag, sum := range sums {
			w.ledger.add(tag, 0, sum)
		}
		for w.post(random.IntN(slots), "/increments/batch", key, body) != accepted {
			pause(random, 20*time.Millisecond, time.Second)
		}
		for tag, sum := range sums {
			w.ledger.add(tag, sum, 0)
		}
		w.ledger.mu.Lock()
		w.ledger.contributions[contributor]++
		w.ledger.posts++
		w.ledger.mu.Unlock()
		if random.IntN(10) == 0 { // a producer that did not see the answer
			w.post(random.IntN(slots), "/increments/batch", key, body)
		}
		pause(random, 50*time.Millisecond, 1500*time.Millisecond)
	}
}

// plain posts single increments without keys, each once.
func (w *world) plain(ctx context.Context, id int) {
	random := w.random(fmt.Sprintf("plain %d", id))
	for ctx.Err() == nil {
		tag, value := letter("plain", random.IntN(6)), 1+random.Int64N(9)
		w.ledger.add(tag, 0, value)
		switch w.post(random.IntN(slots), "/increments", "", fmt.Sprintf(`{"name":%q,"value":%d}`, tag, value)) {
		case accepted:
			w.ledger.add(tag, value, 0)
		case uncounted:
			w.ledger.add(tag, 0, -value)
		case unknown:
		}
		w.ledger.mu.Lock()
		w.ledger.posts++
		w.ledger.mu.Unlock()
		pause(random, 50*time.Millisecond, 1500*time.Millisecond)
	}
}

// read reads the totals of one query, through all its lives, and checks that none exceeds what was posted or falls.
func (w *world) read(ctx context.Context, slot int) {
	random := w.random(fmt.Sprintf("reader %d", slot))
	seen := make(map[string]int64)
	for ctx.Err() == nil {
		pause(random, 200*time.Millisecond, 2*time.Second)
		body := w.get(slot, "/stats")
		if body == nil {
			continue
		}
		var totals map[string]int64
		if err := json.Unmarshal(body, &totals); err != nil {
			w.faulty("/stats answered %s: %v", body, err)
			return
		}
		if err := w.ledger.check(totals, seen); err != nil {
			w.faulty("query %d: %v", slot, err)
			return
		}
		seen = totals
	}
}

// conduct makes trouble until ctx ends.
func (w *world) conduct(ctx context.Context) {
	random := w.random("conductor")
	services := []string{ingests, aggregators, queries}
	for ctx.Err() == nil {
		pause(random, 200*time.Millisecond, 4*time.Second)
		name, slot := services[random.IntN(len(services))], random.IntN(slots)
		switch random.IntN(10) {
		case 0, 1:
			w.kill(name, slot)
			pause(random, time.Millisecond, 3*time.Second)
			w.start(name, slot, random)
		case 2:
			w.stop(name, slot)
			w.start(name, slot, random)
		case 3:
			if in := w.running(name, slot); in != nil {
				w.tally.add(frozen)
				in.link.freeze(5*time.Second + time.Duration(random.Int64N(int64(30*time.Second))))
			}
		case 4:
			system := []string{"store", "broker"}[random.IntN(2)]
			w.weather.mu.Lock()
			w.weather.down[system] = outage{time.Now().Add(time.Duration(random.Int64N(int64(15 * time.Second)))), random.IntN(2) == 0}
			w.weather.mu.Unlock()
		case 5:
			w.weather.mu.Lock()
			w.weather.full = time.Now().Add(time.Duration(random.Int64N(int64(5 * time.Second))))
			w.weather.mu.Unlock()
		case 6:
			w.weather.mu.Lock()
			w.weather.refuses, w.weather.refusesUntil = refusable, time.Now().Add(5*time.Second)
			w.weather.mu.Unlock()
		case 7:
			w.redrive(random)
		case 8:
			w.litter(fmt.Sprintf("garbage %d", random.Uint64()))
		case 9:
			if in := w.running(ingests, slot); in != nil {
				w.tally.add(jumped)
				in.wrong.Store(hours(random))
			}
		}
	}
}

// redrive runs two redrivers at the same time, one of which may be killed.
func (w *world) redrive(random *rand.Rand) {
	w.tally.add(redriven)
	kill := random.IntN(2) == 0
	if kill {
		w.tally.add(cutShort)
	}
	after := time.Duration(random.Int64N(int64(200 * time.Millisecond)))
	for i := range 2 {
		l, _ := w.link("redrive")
		w.ending.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if kill && i == 0 {
				time.AfterFunc(after, func() { l.kill(); cancel() })
			}
			_, _, _ = redrive.Entries(ctx, l.faults.Store(w.store), 4) // what is left waits for the next
		})
	}
}

// litter publishes a message that cannot be decoded.
func (w *world) litter(text string) {
	w.tally.add(garbage)
	w.ledger.mu.Lock()
	w.ledger.letters[text] = true
	w.ledger.mu.Unlock()
	if err := w.increments.Publish(context.Background(), []broker.Message{{Data: []byte(text)}}); err != nil {
		w.faulty("%v", err)
	}
}

// heal ends all faults.
func (w *world) heal() {
	w.weather.mu.Lock()
	w.weather.healed = true
	w.weather.mu.Unlock()
	random := w.random("healer")
	for _, name := range []string{ingests, aggregators, queries} {
		for slot := range slots {
			if w.running(name, slot) == nil {
				w.start(name, slot, random)
			}
		}
	}
}
