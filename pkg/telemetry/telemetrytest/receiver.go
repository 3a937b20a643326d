// Package telemetrytest receives the spans that a service exports, for tests.
package telemetrytest

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Receiver keeps the spans that are exported to it. It is safe for concurrent use.
type Receiver struct {
	collector.UnimplementedTraceServiceServer

	mu  sync.Mutex
	got []*spans.Span
}

// StartHTTP starts a receiver of spans over HTTP until the test ends, and returns it with its address.
func StartHTTP(t testing.TB) (r *Receiver, endpoint string) {
	t.Helper()
	r = new(Receiver)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		var export collector.ExportTraceServiceRequest
		body, err := io.ReadAll(request.Body)
		if err = errors.Join(err, proto.Unmarshal(body, &export)); err != nil || request.URL.Path != "/v1/traces" {
			t.Errorf("POST %s: %v", request.URL.Path, err)
		}
		_, _ = r.Export(request.Context(), &export)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	return r, server.URL
}

// StartGRPC is like StartHTTP with gRPC.
func StartGRPC(t testing.TB) (r *Receiver, endpoint string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r = new(Receiver)
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r, "http://" + listener.Addr().String()
}

// Export implements the trace service of OTLP.
func (r *Receiver) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			r.got = append(r.got, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// Named returns the spans of a name in the order of their arrival.
func (r *Receiver) Named(name string) []*spans.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*spans.Span
	for _, s := range r.got {
		if s.GetName() == name {
			found = append(found, s)
		}
	}
	return found
}

// Of returns the spans of a name that belong to a trace, given in hexadecimal, or link to it.
func (r *Receiver) Of(name, trace string) []*spans.Span {
	return slices.DeleteFunc(r.Named(name), func(s *spans.Span) bool {
		return hex.EncodeToString(s.GetTraceId()) != trace &&
			!slices.ContainsFunc(s.GetLinks(), func(l *spans.Span_Link) bool { return hex.EncodeToString(l.GetTraceId()) == trace })
	})
}
