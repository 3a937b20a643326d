package ingest_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/telemetry/telemetrytest"
)

// instantPublisher publishes at once and keeps nothing.
type instantPublisher struct{}

func (instantPublisher) Publish(context.Context, []broker.Message) error { return nil }

// benchmarkPost posts single increments over the loopback, from many connections at once. Client and server share the
// processors: compare results with each other, not with a deployment.
func benchmarkPost(b *testing.B, url string) {
	b.Helper()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		for pb.Next() {
			postFoo(b, client, url)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

func BenchmarkPostToService(b *testing.B) {
	config := ingest.Config{Partitions: 16, PendingBytes: 64 << 20}
	benchmarkPost(b, run(b, config, ingest.Parts{Publisher: instantPublisher{}}).url)
}

// postFoo posts an increment.
func postFoo(b *testing.B, client *http.Client, url string) {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url+"/increments", strings.NewReader(foo))
	if err != nil {
		b.Error(err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		b.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		b.Errorf("status = %d", response.StatusCode)
	}
}

// observed are the parts of a service with metrics, traces as settings say, and the lines that account for what is
// published, written to a file.
func observed(b *testing.B, settings telemetry.Settings) ingest.Parts {
	b.Helper()
	file, err := os.CreateTemp(b.TempDir(), "log")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = file.Close() }) // it is removed
	log := logging.New(file, "ingest", nil)
	measured, err := telemetry.New(b.Context(), "ingest", settings, log)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = measured.Shutdown(context.Background()) }) // the last spans are of no matter
	return ingest.Parts{Publisher: instantPublisher{}, Log: log, Telemetry: measured}
}

// BenchmarkPostObserved is BenchmarkPostToService, observed.
func BenchmarkPostObserved(b *testing.B) {
	benchmarkPost(b, run(b, ingest.Config{Partitions: 16, PendingBytes: 64 << 20}, observed(b, telemetry.Settings{})).url)
}

// BenchmarkCostOfObserving posts to a service that is observed and to one that is not, in turns of a fifth of a second, and
// reports what the one takes of the other: the medians of all pairs of turns. The time of the processors is that of
// client and server together, so what the server alone takes more is about twice as much.
//
//	go test -run '^$' -bench CostOfObserving -benchtime 100x .
func BenchmarkCostOfObserving(b *testing.B) {
	b.Run("metrics and log", func(b *testing.B) { benchmarkCost(b, telemetry.Settings{}) })
	b.Run("metrics, log and a hundredth of all traces", func(b *testing.B) {
		_, endpoint := telemetrytest.StartHTTP(b)
		b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
		benchmarkCost(b, telemetry.Settings{Export: true, Ratio: 0.01})
	})
}

func benchmarkCost(b *testing.B, settings telemetry.Settings) {
	b.Helper()
	config := ingest.Config{Partitions: 16, PendingBytes: 64 << 20}
	off, on := run(b, config, ingest.Parts{Publisher: instantPublisher{}}).url, run(b, config, observed(b, settings)).url
	turn(b, off)
	turn(b, on)
	var rates, times []float64
	for i := 0; b.Loop(); i++ {
		first, second := off, on
		if i%2 == 1 {
			first, second = on, off
		}
		a, z := turn(b, first), turn(b, second)
		if i%2 == 1 {
			a, z = z, a
		}
		rates, times = append(rates, z.rate/a.rate), append(times, z.cpu/a.cpu)
	}
	slices.Sort(rates)
	slices.Sort(times)
	b.ReportMetric(rates[len(rates)/2], "rate-ratio")
	b.ReportMetric(times[len(times)/2], "cpu-ratio")
}

// measured is a turn: requests a second, and seconds of processors for each.
type measured struct{ rate, cpu float64 }

func turn(b *testing.B, url string) measured {
	b.Helper()
	const connections, length = 64, 200 * time.Millisecond
	var done atomic.Int64
	var posting sync.WaitGroup
	before, began := cpuTime(b), time.Now()
	for range connections {
		posting.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			for time.Since(began) < length {
				postFoo(b, client, url)
				done.Add(1)
			}
		})
	}
	posting.Wait()
	n := float64(done.Load())
	return measured{rate: n / time.Since(began).Seconds(), cpu: (cpuTime(b) - before).Seconds() / n}
}

// cpuTime is what this process has taken of the processors.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkPostToBaseline(b *testing.B) {
	server := httptest.NewServer(ingest.Baseline(zerolog.Nop()))
	b.Cleanup(server.Close)
	benchmarkPost(b, server.URL)
}

// BenchmarkPostToSlowPublisher posts from 64 connections to a service whose publisher takes 20 ms at the median and 120 ms at
// p99, and reports the latency of posts.
//
//	go test -run '^$' -bench PostToSlowPublisher -benchtime 20000x ./ingest
func BenchmarkPostToSlowPublisher(b *testing.B) {
	publisher := new(slowPublisher)
	url := run(b, ingest.Config{Partitions: 16, PendingBytes: 64 << 20}, ingest.Parts{Publisher: publisher}).url
	var mu sync.Mutex
	var latencies []time.Duration
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		for pb.Next() {
			began := time.Now()
			postFoo(b, client, url)
			mu.Lock()
			latencies = append(latencies, time.Since(began))
			mu.Unlock()
		}
	})
	publisher.mu.Lock()
	defer publisher.mu.Unlock()
	for name, all := range map[string][]time.Duration{"post": latencies, "publish": publisher.latencies} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name+"-p50-ms")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, name+"-p99-ms")
	}
}

// slowPublisher takes 10 to 30 ms for 98 of 100 publishes, and 120 ms for the others.
type slowPublisher struct {
	mu        sync.Mutex
	latencies []time.Duration
}

func (p *slowPublisher) Publish(context.Context, []broker.Message) error {
	took := 10*time.Millisecond + time.Duration(rand.Int64N(int64(20*time.Millisecond)))
	if rand.IntN(100) < 2 {
		took = 120 * time.Millisecond
	}
	time.Sleep(took)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latencies = append(p.latencies, took)
	return nil
}
