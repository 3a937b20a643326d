package ingest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/telemetry"
)

// instantPublisher takes everything and keeps nothing.
type instantPublisher struct{}

func (instantPublisher) Publish(context.Context, []broker.Message) error { return nil }

// benchmarkPost posts single increments over the loopback, from many connections at once. Client and server share the
// processors: compare one result with the other, not with a deployment.
func benchmarkPost(b *testing.B, url string) {
	b.Helper()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		for pb.Next() {
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
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

func BenchmarkPostToService(b *testing.B) {
	config := ingest.Config{Partitions: 16, PendingBytes: 64 << 20}
	benchmarkPost(b, run(b, config, ingest.Parts{Publisher: instantPublisher{}}).url)
}

// BenchmarkPostObserved is BenchmarkPostToService with metrics, traces that nobody follows, and the lines that account for
// what is published, written to a file that forgets: what they cost is the difference.
func BenchmarkPostObserved(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	log := logging.New(null, "ingest", nil)
	measured, err := telemetry.New(b.Context(), "ingest", telemetry.Settings{}, log)
	if err != nil {
		b.Fatal(err)
	}
	config := ingest.Config{Partitions: 16, PendingBytes: 64 << 20}
	benchmarkPost(b, run(b, config, ingest.Parts{Publisher: instantPublisher{}, Log: log, Telemetry: measured}).url)
}

func BenchmarkPostToBaseline(b *testing.B) {
	server := httptest.NewServer(ingest.Baseline(zerolog.Nop()))
	b.Cleanup(server.Close)
	benchmarkPost(b, server.URL)
}
