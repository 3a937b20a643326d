//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
)

// bounds are what a total must be: between what was accepted, and that and what may have been.
type bounds struct{ least, most int64 }

// expected is what the posters of a test know.
type expected struct {
	mu            sync.Mutex
	tags          map[string]bounds
	contributions map[string]int64
	accepted      int
	unknown       int
}

func (e *expected) add(tag string, least, most int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.tags[tag]
	e.tags[tag] = bounds{b.least + least, b.most + most}
	if least > 0 {
		e.accepted++
	} else {
		e.unknown++
	}
}

// outcome is what an answer, or none, says.
type outcome int

const (
	accepted outcome = iota
	uncounted
	unknown
)

// send posts once.
func send(ctx context.Context, client *http.Client, address, path, key, body string) (outcome, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address+path, strings.NewReader(body))
	if err != nil {
		return uncounted, err
	}
	request.GetBody = nil // or a Transport may post twice
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	answer, err := client.Do(request)
	if err != nil {
		if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
			return uncounted, nil
		}
		return unknown, nil
	}
	defer answer.Body.Close() //nolint:errcheck // read
	text, err := io.ReadAll(answer.Body)
	switch {
	case answer.StatusCode == http.StatusAccepted:
		return accepted, nil
	case err != nil:
		return unknown, nil
	case answer.StatusCode == http.StatusServiceUnavailable && bytes.Contains(text, []byte(`"counted":"no"`)):
		return uncounted, nil
	case answer.StatusCode == http.StatusServiceUnavailable:
		return unknown, nil
	default:
		return uncounted, fmt.Errorf("POST %s = %d %s", path, answer.StatusCode, text)
	}
}

// letters returns a name of a tag with a number in it.
func letters(prefix string, n int) string {
	return prefix + "_" + string([]byte{byte('a' + n/26/26%26), byte('a' + n/26%26), byte('a' + n%26)})
}

// poster posts until posting ends, to whichever process serves.
type poster struct {
	address  *atomic.Pointer[string]
	client   *http.Client
	expected *expected
	id       int
}

// plain posts single increments without keys. A tag with an unknown outcome is left, so that its total is known but for one
// increment.
func (p *poster) plain(posting context.Context) error {
	for tag, n := letters("plain", p.id), p.id; posting.Err() == nil; {
		value := 1 + rand.Int64N(9)
		result, err := send(context.Background(), p.client, *p.address.Load(), "/increments", "", fmt.Sprintf(`{"name":%q,"value":%d}`, tag, value))
		switch {
		case err != nil:
			return err
		case result == accepted:
			p.expected.add(tag, value, value)
		case result == unknown:
			p.expected.add(tag, 0, value)
			n += 16
			tag = letters("plain", n)
		default:
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}

// keyed posts batches with keys, each until it is accepted. Every fourth batch begins with another contributor.
func (p *poster) keyed(posting context.Context) error {
	for n := 0; posting.Err() == nil; n++ {
		contributor := fmt.Sprintf("contributor-%d-%d", p.id, n/4)
		sums := make(map[string]int64)
		items := make([]string, 1+n%3*10)
		for i := range items {
			tag, value := letters("keyed", rand.IntN(40)), 1+rand.Int64N(9)
			sums[tag] += value
			items[i] = fmt.Sprintf(`{"name":%q,"value":%d}`, tag, value)
		}
		items[0] = strings.Replace(items[0], "}", fmt.Sprintf(`,"contributor":%q}`, contributor), 1)
		body, key := `{"increments":[`+strings.Join(items, ",")+`]}`, fmt.Sprintf("%d-%d", p.id, n)
		for {
			result, err := send(context.Background(), p.client, *p.address.Load(), "/increments/batch", key, body)
			if err != nil {
				return err
			}
			if result == accepted {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		for tag, sum := range sums {
			p.expected.add(tag, sum, sum)
		}
		p.expected.mu.Lock()
		p.expected.contributions[contributor]++
		p.expected.mu.Unlock()
	}
	return nil
}

// get decodes an answer of the process.
func get(t *testing.T, client *http.Client, address string, into any) error {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // read
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s = %s", address, answer.Status)
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

func TestEverythingAcceptedCountsOnceThroughKillsOfTheProcess(t *testing.T) {
	t.Parallel()
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	if n, err := strconv.Atoi(os.Getenv("ROUNDS")); err == nil {
		rounds = n
	}
	folder := t.TempDir()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	e := &expected{tags: make(map[string]bounds), contributions: make(map[string]int64)}
	var printed printedRecognitions
	var address atomic.Pointer[string]
	nowhere := "http://127.0.0.1:1"
	address.Store(&nowhere)
	posting, stop := context.WithCancel(t.Context())
	defer stop()
	var posters sync.WaitGroup
	for i := range 12 {
		p := &poster{&address, client, e, i}
		run := p.plain
		if i%2 == 0 {
			run = p.keyed
		}
		posters.Go(func() {
			if err := run(posting); err != nil {
				t.Error(err)
			}
		})
	}
	var restarts []time.Duration
	for range rounds {
		began := time.Now()
		p := startRun(t, folder, printed.read)
		at := time.NewTimer(rand.N(700 * time.Millisecond))
		select {
		case serving := <-p.address:
			restarts = append(restarts, time.Since(began))
			address.Store(&serving)
			<-at.C
		case <-at.C: // before it serves
		}
		p.kill(t)
	}
	began := time.Now()
	p := startRun(t, folder, printed.read)
	serving := p.serving(t)
	restarts = append(restarts, time.Since(began))
	address.Store(&serving)
	stop()
	posters.Wait()

	awaitTotals(t, client, serving, e)
	verifyHistory(t, client, serving, e)
	due := printed.await(e)
	p.stop(t)
	verifyStore(t, folder, e)
	if len(printed.lines) != due {
		t.Errorf("recognitions of %d contributors were printed, want %d", len(printed.lines), due)
	}
	for contributor, lines := range printed.lines { // an event may come again, unchanged
		if len(lines) != 1 {
			t.Errorf("%q was printed as %q", contributor, slices.Collect(maps.Keys(lines)))
		}
	}
	slices.Sort(restarts)
	t.Logf("%d kills: %d posts accepted, %d unknown, %d contributors; from the start of a process until it serves: median %v, at most %v",
		rounds, e.accepted, e.unknown, len(e.contributions), restarts[len(restarts)/2], restarts[len(restarts)-1])
}

// printedRecognitions are the lines that processes printed about each contributor.
type printedRecognitions struct {
	mu    sync.Mutex
	lines map[string]map[string]bool
}

// read keeps a line that a process printed, if it is about a recognition.
func (r *printedRecognitions) read(line string) {
	rest, ok := strings.CutPrefix(line, "recognized ")
	if !ok {
		return
	}
	contributor, _ := strconv.QuotedPrefix(rest)
	contributor, _ = strconv.Unquote(contributor)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lines == nil {
		r.lines = make(map[string]map[string]bool)
	}
	if r.lines[contributor] == nil {
		r.lines[contributor] = make(map[string]bool)
	}
	r.lines[contributor][line] = true
}

// await waits until there are as many as are due by what is expected, and returns how many these are.
func (r *printedRecognitions) await(e *expected) (due int) {
	for _, n := range e.contributions {
		if n >= 3 {
			due++
		}
	}
	for patience := time.Now().Add(30 * time.Second); time.Now().Before(patience); time.Sleep(20 * time.Millisecond) {
		r.mu.Lock()
		n := len(r.lines)
		r.mu.Unlock()
		if n >= due {
			break
		}
	}
	return due
}

// awaitTotals waits until the totals are what is expected, and checks that they stay so.
func awaitTotals(t *testing.T, client *http.Client, address string, e *expected) {
	t.Helper()
	wrong := func() (faults []string) {
		var totals map[string]int64
		if err := get(t, client, address+"/stats", &totals); err != nil {
			return []string{err.Error()}
		}
		for tag, total := range totals {
			if _, ok := e.tags[tag]; !ok {
				faults = append(faults, fmt.Sprintf("%s is %d and was never posted", tag, total))
			}
		}
		for tag, b := range e.tags {
			if total := totals[tag]; total < b.least || total > b.most {
				faults = append(faults, fmt.Sprintf("%s is %d, want %d to %d", tag, total, b.least, b.most))
			}
		}
		return faults
	}
	for patience := time.Now().Add(30 * time.Second); len(wrong()) > 0 && time.Now().Before(patience); {
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond) // five windows: what counts twice would show
	for _, fault := range wrong() {
		t.Error(fault)
	}
}

// verifyHistory checks that the minutes and the hours of each tag add up to its total.
func verifyHistory(t *testing.T, client *http.Client, address string, e *expected) {
	t.Helper()
	var totals map[string]int64
	if err := get(t, client, address+"/stats", &totals); err != nil {
		t.Fatal(err)
	}
	from := url.QueryEscape(time.Now().UTC().Add(-23 * time.Hour).Format(time.RFC3339))
	for tag := range e.tags {
		for _, resolution := range []string{"minute", "hour"} {
			var history struct{ Changes []int64 }
			if totals[tag] == 0 {
				continue // its one increment was not counted
			}
			if err := get(t, client, fmt.Sprintf("%s/tags/%s/history?resolution=%s&from=%s", address, tag, resolution, from), &history); err != nil {
				t.Fatal(err)
			}
			sum := int64(0)
			for _, change := range history.Changes {
				sum += change
			}
			if sum != totals[tag] {
				t.Errorf("the history of %s by %s adds up to %d, its total is %d", tag, resolution, sum, totals[tag])
			}
		}
	}
}

// verifyStore checks, in the folder of a process that has ended after all due recognitions were printed, that every contributor has their
// contributions, and those with three or more one recognition, that no recognition is pending, and that the documents of tags have what
// the checkpoints have.
func verifyStore(t *testing.T, folder string, e *expected) {
	t.Helper()
	documents := storeembedded.New(databasetest.OpenFolder(t, folder))
	for id, want := range e.contributions {
		standing, err := documents.Standing(t.Context(), id)
		if err != nil || standing.Contributions != want || len(standing.Recognitions) > 1 || (len(standing.Recognitions) == 1) != (want >= 3) {
			t.Errorf("%s is %+v, want %d contributions: %v", id, standing, want, err)
		}
	}
	if pending, _, err := documents.Pending(t.Context(), store.Recognition{}, 10); err != nil || len(pending) > 0 {
		t.Errorf("pending recognitions are left: %v %v", pending, err)
	}
	totals, _, err := documents.Totals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sums := make(map[string]int64)
	for _, partition := range totals {
		for _, total := range partition.Totals {
			sums[total.Name] += total.Total
		}
	}
	tags, err := documents.Tags(t.Context())
	if err != nil || len(tags) != len(sums) {
		t.Errorf("%d tags in %d documents: %v", len(sums), len(tags), err)
	}
	for _, tag := range tags {
		if tag.Total != sums[tag.Name] {
			t.Errorf("the document of %s has %d, the checkpoint %d", tag.Name, tag.Total, sums[tag.Name])
		}
	}
}
