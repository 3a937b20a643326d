package firestore_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// refusingServer answers every Commit with one code.
type refusingServer struct {
	firestorepb.UnimplementedFirestoreServer
	code codes.Code
}

func (s *refusingServer) Commit(context.Context, *firestorepb.CommitRequest) (*firestorepb.CommitResponse, error) {
	return nil, status.Error(s.code, "refused")
}

// The emulator knows no contention. Whoever takes that for a sign that the recognition exists loses it.
func TestOnlyWhatExistsIsSaidToExist(t *testing.T) {
	t.Parallel()
	cases := []error{store.ErrExists, store.ErrNotFound, store.ErrRefused, store.ErrConflict}
	for code, want := range map[codes.Code]error{
		codes.AlreadyExists: store.ErrExists, codes.NotFound: store.ErrNotFound, codes.InvalidArgument: store.ErrRefused,
		codes.Aborted: nil, codes.FailedPrecondition: nil, codes.PermissionDenied: nil, codes.Internal: nil,
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			client := connectTo(t, &refusingServer{code: code})
			for name, err := range map[string]error{
				"Recognize": client.Recognize(t.Context(), store.Recognition{Contributor: "ada", Tier: 3}),
				"Raise":     client.Raise(t.Context(), "ada", 3),
			} {
				for _, c := range cases {
					if err == nil || errors.Is(err, c) != errors.Is(want, c) {
						t.Errorf("%s() = %v, want %v", name, err, want)
					}
				}
			}
		})
	}
}

// connectTo serves calls by a fake, until the end of the test.
func connectTo(t *testing.T, fake firestorepb.FirestoreServer) *firestore.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	firestorepb.RegisterFirestoreServer(server, fake)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	client, err := firestore.Connect(t.Context(), "test", "(default)", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Stop()
		if err := errors.Join(client.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return client
}

// countingServer says of every write of a batch that it was done, but of every tenth that it failed with a code, and keeps
// how many there were in each batch.
type countingServer struct {
	firestorepb.UnimplementedFirestoreServer
	code    codes.Code
	batches []int
}

func (s *countingServer) BatchWrite(_ context.Context, r *firestorepb.BatchWriteRequest) (*firestorepb.BatchWriteResponse, error) {
	s.batches = append(s.batches, len(r.GetWrites()))
	response := &firestorepb.BatchWriteResponse{}
	for i := range r.GetWrites() {
		code := codes.OK
		if i%10 == 0 {
			code = s.code
		}
		response.Status = append(response.Status, status.New(code, "").Proto())
		response.WriteResults = append(response.WriteResults, &firestorepb.WriteResult{})
	}
	return response, nil
}

// The emulator takes any number of writes; Firestore takes 500.
func TestBatchesAreCutAndTheirWritesAreJudgedOneByOne(t *testing.T) {
	t.Parallel()
	for code, wantMarked := range map[codes.Code]bool{codes.NotFound: true, codes.Unavailable: false, codes.Aborted: false} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			fake := &countingServer{code: code}
			client := connectTo(t, fake)
			recognitions, pending := make([]store.Recognition, 1200), make([]store.PendingRecognition, 1200)
			if err := client.MarkSent(t.Context(), recognitions); (err == nil) != wantMarked {
				t.Errorf("MarkSent() = %v", err)
			}
			claimed, err := client.Claim(t.Context(), pending)
			if err != nil || len(claimed) != 1080 {
				t.Errorf("Claim() = %d, %v, want 1080", len(claimed), err)
			}
			if want := []int{500, 500, 200, 500, 500, 200}; !slices.Equal(fake.batches, want) {
				t.Errorf("batches of %v, want %v", fake.batches, want)
			}
		})
	}
}
