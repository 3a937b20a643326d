package firestore_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
)

// recorder records the headers of every call and answers it with an error.
type recorder struct {
	mu      sync.Mutex
	headers map[string]metadata.MD // by method
}

func (r *recorder) record(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	headers, _ := metadata.FromIncomingContext(stream.Context())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers[method] = headers
	return status.Error(codes.PermissionDenied, "recorded")
}

func TestEveryCallNamesItsDatabase(t *testing.T) {
	t.Parallel()
	for database, want := range map[string]struct{ params, prefix string }{
		"(default)": {"project_id=example.com%3Aours&database_id=%28default%29", "projects/example.com:ours/databases/(default)"},
		"staging":   {"project_id=example.com%3Aours&database_id=staging", "projects/example.com:ours/databases/staging"},
	} {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			r := &recorder{headers: make(map[string]metadata.MD)}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer(grpc.UnknownServiceHandler(r.record))
			served := make(chan error, 1)
			go func() { served <- server.Serve(listener) }()
			client, err := firestore.Connect(t.Context(), "example.com:ours", database, listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				server.Stop()
				if err := errors.Join(client.Close(), <-served); err != nil {
					t.Error(err)
				}
			})
			callEverything(t.Context(), client)
			for method, headers := range r.headers {
				if got := headers.Get("x-goog-request-params"); !slices.Equal(got, []string{want.params}) {
					t.Errorf("%s: x-goog-request-params is %q, want %q", method, got, want.params)
				}
				if got := headers.Get("google-cloud-resource-prefix"); !slices.Equal(got, []string{want.prefix}) {
					t.Errorf("%s: google-cloud-resource-prefix is %q, want %q", method, got, want.prefix)
				}
			}
			if len(r.headers) != 5 {
				t.Errorf("%d methods were called, want BatchGetDocuments, RunQuery, RunAggregationQuery, Commit and BatchWrite", len(r.headers))
			}
		})
	}
}

// callEverything calls each of the five RPC methods that the client uses.
func callEverything(ctx context.Context, c *firestore.Client) {
	_ = c.Check(ctx)
	_, _ = c.Load(ctx, 1)
	_, _ = c.Commit(ctx, store.Commit{})
	_, _, _ = c.Totals(ctx)
	_, _ = c.History(ctx, 1, checkpoint.Minute, time.Now(), time.Now())
	_, _, _ = c.CountRecognized(ctx, 3)
	_ = c.Recognize(ctx, store.Recognition{Contributor: "ada", Tier: 3})
	_ = c.MarkSent(ctx, []store.Recognition{{Contributor: "ada", Tier: 3}})
}
