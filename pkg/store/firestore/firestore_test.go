package firestore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/accrue/accrue/pkg/checkpoint"
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

// If other errors, such as that of contention, which the emulator does not have, were taken for ErrExists, recognitions would be
// lost.
func TestErrorsOfRecognizeAreClassified(t *testing.T) {
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

// connectTo returns a client of a fake server that runs until the end of the test.
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

// damagedServer has an intact partition, one with damaged totals, and one of a later version.
type damagedServer struct {
	firestorepb.UnimplementedFirestoreServer
}

func (s *damagedServer) RunQuery(r *firestorepb.RunQueryRequest, stream firestorepb.Firestore_RunQueryServer) error {
	for id, fields := range []map[string]*firestorepb.Value{
		{"version": integer(checkpoint.Version), "totals": {ValueType: &firestorepb.Value_BytesValue{BytesValue: new(checkpoint.Checkpoint).PackTotals()}}},
		{"version": integer(checkpoint.Version), "totals": {ValueType: &firestorepb.Value_BytesValue{BytesValue: []byte("damaged")}}},
		{"version": integer(checkpoint.VersionOwing + 1)},
	} {
		if err := stream.Send(&firestorepb.RunQueryResponse{ReadTime: timestamppb.Now(), Document: &firestorepb.Document{
			Name: fmt.Sprintf("%s/partitions/%d", r.GetParent(), id), Fields: fields, UpdateTime: timestamppb.Now(),
		}}); err != nil {
			return err
		}
	}
	return nil
}

func integer(n int64) *firestorepb.Value {
	return &firestorepb.Value{ValueType: &firestorepb.Value_IntegerValue{IntegerValue: n}}
}

func TestTotalsNamesUnreadablePartitions(t *testing.T) {
	t.Parallel()
	all, asOf, err := connectTo(t, &damagedServer{}).Totals(t.Context())
	if err != nil || len(all) != 3 || asOf.IsZero() {
		t.Fatalf("Totals() = %v, %v, %v, want three partitions", all, asOf, err)
	}
	for i, want := range []error{nil, checkpoint.ErrCorrupt, checkpoint.ErrCorrupt} {
		if p := all[i]; p.Partition != uint32(i) || !errors.Is(p.Err, want) || (p.Err == nil) != (want == nil) || p.Revision.UpdateTime.IsZero() {
			t.Errorf("partition %d: %+v, want error %v", i, p, want)
		}
	}
}

// countingServer reports success for all writes of a batch except every tenth, which fails with code. It records the sizes of the
// batches.
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

// Firestore accepts 500 writes in a batch; the emulator accepts any number.
func TestBatchesAreSplitAndWritesFailIndependently(t *testing.T) {
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
