package e2e_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// fault stands between the reply of a call and the client that waits for it: it may change the reply, or lose it by
// returning an error in its place.
type fault func(method string, request, reply []byte) ([]byte, error)

// proxy stands between a service and an emulator, and speaks gRPC to both without knowing what they say.
type proxy struct {
	host  string
	fault fault

	mu  sync.Mutex
	cut chan struct{} // if not nil: calls wait until it is closed
}

// startProxy puts a proxy before an emulator, until the end of the test.
func startProxy(t *testing.T, emulator string, fault fault) *proxy {
	t.Helper()
	p := &proxy{fault: fault}
	upstream, err := grpc.NewClient(emulator,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.host = listener.Addr().String()
	server := grpc.NewServer(
		grpc.ForceServerCodecV2(bytesCodec{}), grpc.MaxRecvMsgSize(64<<20),
		grpc.UnknownServiceHandler(func(_ any, client grpc.ServerStream) error { return p.forward(client, upstream) }))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		p.restore()
		server.Stop()
		if err := errors.Join(<-served, upstream.Close()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// interrupt lets all calls wait, as when the other side does not answer.
func (p *proxy) interrupt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = make(chan struct{})
}

// restore ends what interrupt began.
func (p *proxy) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut != nil {
		close(p.cut)
		p.cut = nil
	}
}

// forward makes the same call upstream. All calls that the services make have one request.
func (p *proxy) forward(client grpc.ServerStream, upstream *grpc.ClientConn) error {
	method, _ := grpc.MethodFromServerStream(client)
	p.mu.Lock()
	cut := p.cut
	p.mu.Unlock()
	if cut != nil {
		select {
		case <-cut:
		case <-client.Context().Done():
			return status.FromContextError(client.Context().Err()).Err()
		}
	}
	var request []byte
	if err := client.RecvMsg(&request); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(client.Context())
	defer cancel()
	if header, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, header)
	}
	server, err := upstream.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := errors.Join(server.SendMsg(&request), server.CloseSend()); err != nil {
		return err
	}
	for {
		var reply []byte
		if err := server.RecvMsg(&reply); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if p.fault != nil {
			if reply, err = p.fault(method, request, reply); err != nil {
				return err
			}
		}
		if err := client.SendMsg(&reply); err != nil {
			return err
		}
	}
}

var errReplyLost = status.Error(codes.Unavailable, "the proxy lost the reply")

// bytesCodec passes messages on as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
