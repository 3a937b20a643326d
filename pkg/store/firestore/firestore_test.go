package firestore_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/accrue/accrue/pkg/emulator/emulatortest"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/pkg/store/storetest"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

func connect(t *testing.T) *firestore.Client {
	t.Helper()
	client, err := firestore.Connect(t.Context(), emulatortest.Project(t), "(default)", emulatortest.Firestore(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Store { return connect(t) })
}

// A Commit that Firestore will never take must be told from one that may go through later.
func TestAnIDThatIsTooLongIsRefused(t *testing.T) {
	t.Parallel()
	client := connect(t)
	commit := store.Commit{Partition: 1, Contributors: []store.Contributions{{Contributor: string(make([]byte, 2000)), Contributions: 1}}}
	commit.Next = commit.Next.Next(time.Now(), time.Hour, nil, nil)
	if _, err := client.Commit(t.Context(), commit); !errors.Is(err, store.ErrRefused) {
		t.Errorf("Commit() of an id that is too long = %v, want ErrRefused", err)
	}
	state, err := client.Load(t.Context(), 1)
	if err != nil || state.Revision != (store.Revision{}) {
		t.Errorf("the refused commit left %+v, %v", state, err)
	}
}

// Firestore names the document at fault, and errors end in logs: no id of a person is in what is returned.
func TestErrorsDoNotNamePeople(t *testing.T) {
	t.Parallel()
	client := connect(t)
	const person = "ada lovelace/%"
	commit := store.Commit{Partition: 1, Contributors: []store.Contributions{{Contributor: person, Contributions: 1}}}
	commit.Next = commit.Next.Next(time.Now(), time.Hour, nil, nil)
	if _, err := client.Commit(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	recognition := store.Recognition{Contributor: person, Tier: 3, Contributions: 3, RecognizedAt: time.Now()}
	if err := client.Recognize(t.Context(), recognition); err != nil {
		t.Fatal(err)
	}
	long := commit
	long.Partition, long.Contributors = 2, []store.Contributions{{Contributor: person + string(make([]byte, 2000)), Contributions: 1}}
	_, refused := client.Commit(t.Context(), long)
	for title, tc := range map[string]struct{ err, want error }{
		"exists":  {client.Recognize(t.Context(), recognition), store.ErrExists},
		"missing": {client.Raise(t.Context(), person+" of nowhere", 3), store.ErrNotFound},
		"refused": {refused, store.ErrRefused},
	} {
		if !errors.Is(tc.err, tc.want) || strings.Contains(tc.err.Error(), "lovelace") {
			t.Errorf("%s: %v, want %v and nobody's name", title, tc.err, tc.want)
		}
	}
}

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
