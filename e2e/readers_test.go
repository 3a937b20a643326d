package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// streamReader reads /stats/stream and keeps the totals.
type streamReader struct {
	mu     sync.Mutex
	totals map[string]int64
}

// read reads events until the context ends or the stream breaks.
func (r *streamReader) read(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	lines, kind := bufio.NewReader(response.Body), ""
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		if event, ok := strings.CutPrefix(line, "event: "); ok {
			kind = strings.TrimSpace(event)
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var body struct{ Totals map[string]int64 }
		if err := json.Unmarshal([]byte(data), &body); err != nil {
			return err
		}
		r.mu.Lock()
		if kind == "snapshot" {
			r.totals = body.Totals
		} else {
			maps.Copy(r.totals, body.Totals)
		}
		r.mu.Unlock()
	}
}

// metric returns the value of a metric without labels.
func metric(t *testing.T, p *process, name string) float64 {
	t.Helper()
	body, err := get(p.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(body) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("%s does not expose %s", p.name, name)
	return 0
}

// A thousand readers stream the totals at 5,000 increments a second. Each reader that stays ends with the exact totals, and
// after they leave, query has released their goroutines and memory. READERS_SECONDS sets the duration: 10 by default, 60 in CI.
func TestThousandStreamReaders(t *testing.T) {
	const readers, leaving = 1000, 100
	t.Parallel()
	seconds := 10
	if os.Getenv("CI") == "true" {
		seconds = 60
	}
	if n, err := strconv.Atoi(os.Getenv("READERS_SECONDS")); err == nil {
		seconds = n
	}
	s := newSystem(t)
	aggregator, ingest, query := s.start(t, "aggregator"), s.start(t, "ingest"), s.start(t, "query")
	runLoad := func(seconds int) {
		load := exec.Command(filepath.Join(binaries, "accrue"), "load", "--ingest", ingest.url, "--query", query.url, "--tags", "100", "--probe", "0",
			"--rate", "5000", "--batch", "50", "--connections", "8", "--duration", fmt.Sprintf("%ds", seconds))
		if output, err := load.CombinedOutput(); err != nil {
			t.Errorf("load: %v\n%s", err, output)
		}
	}
	runLoad(3)
	goroutines, heap := metric(t, query, "go_goroutines"), metric(t, query, "go_memstats_heap_alloc_bytes")

	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: readers, DisableCompression: true}}
	ctx, leave := context.WithCancel(t.Context())
	early, leaveEarly := context.WithCancel(ctx)
	all := make([]streamReader, readers)
	var group sync.WaitGroup
	for i := range all {
		reading := ctx
		if i < leaving {
			reading = early
		}
		group.Go(func() {
			if err := all[i].read(reading, client, query.url+"/stats/stream"); !errors.Is(err, context.Canceled) {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	leaves := time.AfterFunc(time.Duration(seconds)*time.Second/2, leaveEarly)
	defer leaves.Stop()
	runLoad(seconds)
	want, err := stats(query)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "exact totals at every remaining reader", 10*time.Second, func() error {
		for i := leaving; i < readers; i++ {
			all[i].mu.Lock()
			err := difference(all[i].totals, want)
			all[i].mu.Unlock()
			if err != nil {
				return fmt.Errorf("reader %d: %w", i, err)
			}
		}
		return nil
	})
	t.Logf("%d readers for %d s: query has %.0f goroutines, %.0f before; heap %.1f MB, %.1f before", readers-leaving, seconds,
		metric(t, query, "go_goroutines"), goroutines, metric(t, query, "go_memstats_heap_alloc_bytes")/1e6, heap/1e6)
	leave()
	leaveEarly()
	group.Wait()
	client.CloseIdleConnections()
	// The heap shrinks with garbage collections, the next of which the runtime forces within two minutes.
	await(t, "release of goroutines and memory", 150*time.Second, func() error {
		g, h := metric(t, query, "go_goroutines"), metric(t, query, "go_memstats_heap_alloc_bytes")
		if g > goroutines+20 || h > heap+8e6 {
			return fmt.Errorf("%.0f goroutines, %.0f before; heap %.1f MB, %.1f before", g, goroutines, h/1e6, heap/1e6)
		}
		return nil
	})
	aggregator.stop()
}
