package firestore_test

import (
	"context"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
)

// requests records every request as text and refuses it.
type requests struct {
	mu  sync.Mutex
	all []string
}

func (r *requests) record(request any) error {
	text, err := protojson.Marshal(request.(proto.Message))
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, string(text))
	return status.Error(codes.PermissionDenied, "recorded")
}

func (r *requests) unary(_ context.Context, request any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
	return nil, r.record(request)
}

// recordedStream records the request of a stream.
type recordedStream struct {
	grpc.ServerStream
	to *requests
}

func (s *recordedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.to.record(m)
}

func (r *requests) stream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return handle(server, &recordedStream{stream, r})
}

// requestsOf returns the requests of a client that uses everything, and refuses them.
func requestsOf(t *testing.T, options ...firestore.Option) []string {
	t.Helper()
	r := &requests{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(r.unary), grpc.StreamInterceptor(r.stream))
	firestorepb.RegisterFirestoreServer(server, firestorepb.UnimplementedFirestoreServer{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	client, err := firestore.Connect(t.Context(), "test", "(default)", listener.Addr().String(), options...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // the server ends
	useEverything(t.Context(), client)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

// useEverything makes a request with each collection in each kind of request.
func useEverything(ctx context.Context, c *firestore.Client) {
	at := time.Unix(1_800_000_000, 0)
	commit := store.Commit{
		Partition:    1,
		Tags:         []checkpoint.Delta{{Name: "foo", Value: 4, Increments: 1}},
		Contributors: []store.Contributions{{Contributor: "ada", Contributions: 1}},
		Closed:       []checkpoint.Period{{Resolution: checkpoint.Minute, Begin: at}, {Resolution: checkpoint.Hour, Begin: at}},
	}
	commit.Next = commit.Next.Next(at, time.Hour, nil, nil)
	ada, recognition := store.Contributor{ID: "ada", Contributions: 3}, store.Recognition{Contributor: "ada", Tier: 3, RecognizedAt: at}
	for _, call := range []func() error{
		func() error { return c.Check(ctx) },
		func() error { _, err := c.Commit(ctx, commit); return err },
		func() error { _, err := c.Load(ctx, 1); return err },
		func() error { _, err := c.Peek(ctx, []uint32{1}); return err },
		func() error { _, _, err := c.Layouts(ctx); return err },
		func() error { _, _, err := c.Totals(ctx); return err },
		func() error { _, err := c.Tags(ctx); return err },
		func() error { _, err := c.Keys(ctx, 1, store.KeysPosition{At: at}, 1); return err },
		func() error { _, err := c.ReleasedKeys(ctx, 1, 1, 1); return err },
		func() error { _, err := c.Folds(ctx, 1, store.KeysPosition{At: at}, 1); return err },
		func() error { _, err := c.History(ctx, 1, checkpoint.Minute, at, at); return err },
		func() error { _, err := c.History(ctx, 1, checkpoint.Hour, at, at); return err },
		func() error { _, err := c.Contributor(ctx, "ada"); return err },
		func() error { _, err := c.Due(ctx, 0, 3, 1); return err },
		func() error { _, err := c.RecognizedTiers(ctx); return err },
		func() error { _, _, err := c.CountRecognized(ctx, 3); return err },
		func() error { _, _, err := c.Unrecognized(ctx, 3, ada, 1); return err },
		func() error { return c.Recognize(ctx, recognition) },
		func() error { return c.Raise(ctx, "ada", 3) },
		func() error { _, _, err := c.ContributorsWith(ctx, "a", ada, 1); return err },
		func() error {
			_, _, err := c.Recognitions(ctx, store.RecognitionFilter{Tier: 3, Since: at}, recognition, 1)
			return err
		},
		func() error {
			_, _, err := c.Recognitions(ctx, store.RecognitionFilter{Contributor: "ada"}, store.Recognition{}, 1)
			return err
		},
		func() error { return c.MarkSent(ctx, []store.Recognition{recognition}) },
		func() error { _, err := c.Rejected(ctx, "", 1); return err },
		func() error { _, err := c.Waiting(ctx); return err },
		func() error { _, err := c.Audits(ctx, "", 1); return err },
		func() error { return c.PutAudit(ctx, store.AuditRecord{ID: "1"}) },
		func() error { return c.DropTag(ctx, "foo") },
	} {
		_ = call() // the server refuses it
	}
}

var (
	// inName matches the collections in the name of a document, and inQuery that of a query.
	inName  = regexp.MustCompile(`/documents/([a-z_]+)(?:/[^/"]+/([a-z_]+)/)?`)
	inQuery = regexp.MustCompile(`"collectionId": ?"([a-z_]+)"`)
)

// With a prefix every collection in every request has it, and nothing else is different.
func TestPrefixIsBeforeEveryCollection(t *testing.T) {
	t.Parallel()
	const prefix = "accrue_"
	plain, prefixed := requestsOf(t), requestsOf(t, firestore.WithPrefix(prefix))
	seen := make(map[string]bool)
	for _, request := range prefixed {
		for _, form := range []*regexp.Regexp{inName, inQuery} {
			for _, found := range form.FindAllStringSubmatch(request, -1) {
				for _, collection := range found[1:] {
					if collection != "" && !strings.HasPrefix(collection, prefix) {
						t.Errorf("%s has no prefix in\n%s", collection, request)
					}
					seen[strings.TrimPrefix(collection, prefix)] = true
				}
			}
		}
	}
	delete(seen, "")
	want := []string{
		store.Audit, store.Contributors, store.Folds, store.Hours, store.Keys, store.Layouts, store.Minutes, store.Partitions,
		store.Recognitions, store.Rejected, store.Tags,
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
		t.Errorf("the requests name %v, want %v", got, want)
	}
	if len(plain) != len(prefixed) {
		t.Fatalf("%d requests without a prefix, %d with one", len(plain), len(prefixed))
	}
	for _, request := range plain {
		if strings.Contains(request, prefix) {
			t.Errorf("a prefix that nobody asked for: %s", request)
		}
	}
}
