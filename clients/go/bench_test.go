package accrue_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/accrue/accrue/clients/go"
)

// BenchmarkAdd measures the cost of an increment for a producer, from Add to the end of its post, in batches of 500.
func BenchmarkAdd(b *testing.B) {
	accept := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // as a server does
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
	})
	b.Run("without a network", func(b *testing.B) {
		benchmarkAdd(b, accrue.Config{URL: "http://ingest", Transport: direct{accept}})
	})
	b.Run("over a network", func(b *testing.B) {
		server := httptest.NewServer(accept)
		defer server.Close()
		benchmarkAdd(b, accrue.Config{URL: server.URL})
	})
}

func benchmarkAdd(b *testing.B, config accrue.Config) {
	b.Helper()
	c, err := accrue.New(config)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	e := accrue.Entry{Name: "foo", Value: 4}
	for b.Loop() {
		if err := c.Add(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}
