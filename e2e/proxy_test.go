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

// interceptor may change the reply to a call, or drop it by returning an error.
type interceptor func(method string, request, reply []byte) ([]byte, error)

// proxy forwards gRPC calls between a service and an emulator without decoding them.
type proxy struct {
	host string
	// handle makes a call upstream, or does something else.
	handle func(ctx context.Context, c *rpc) error

	mu  sync.Mutex
	cut chan struct{} // if not nil, calls wait until it is closed
}

// startProxy starts a proxy in front of an emulator and stops it at the end of the test. The interceptor may be nil.
func startProxy(t *testing.T, emulator string, intercept interceptor) *proxy {
	t.Helper()
	return startHandlingProxy(t, emulator, func(ctx context.Context, c *rpc) error {
		return c.exchange(ctx, func(reply []byte) (err error) {
			if intercept != nil {
				if reply, err = intercept(c.method, c.request, reply); err != nil {
					return err
				}
			}
			return c.client.SendMsg(&reply)
		})
	})
}

// startHandlingProxy is startProxy, with a function that handles each call.
func startHandlingProxy(t *testing.T, emulator string, handle func(ctx context.Context, c *rpc) error) *proxy {
	t.Helper()
	p := &proxy{handle: handle}
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

// interrupt makes all calls hang, as if the emulator did not answer.
func (p *proxy) interrupt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = make(chan struct{})
}

// restore undoes interrupt.
func (p *proxy) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut != nil {
		close(p.cut)
		p.cut = nil
	}
}

// forward handles a call. Every call of the services has one request.
func (p *proxy) forward(client grpc.ServerStream, upstream *grpc.ClientConn) error {
	c := &rpc{client: client, upstream: upstream}
	c.method, _ = grpc.MethodFromServerStream(client)
	ctx := client.Context()
	p.mu.Lock()
	cut := p.cut
	p.mu.Unlock()
	if cut != nil {
		select {
		case <-cut:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	if err := client.RecvMsg(&c.request); err != nil {
		return err
	}
	return p.handle(ctx, c)
}

// rpc is a call through a proxy.
type rpc struct {
	method   string
	request  []byte
	client   grpc.ServerStream
	upstream *grpc.ClientConn
}

// exchange makes the call upstream and gives each reply to take. Its context may be another than the client's.
func (c *rpc) exchange(ctx context.Context, take func(reply []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if header, ok := metadata.FromIncomingContext(c.client.Context()); ok {
		ctx = metadata.NewOutgoingContext(ctx, header)
	}
	server, err := c.upstream.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, c.method)
	if err != nil {
		return err
	}
	if err := errors.Join(server.SendMsg(&c.request), server.CloseSend()); err != nil {
		return err
	}
	for {
		var reply []byte
		if err := server.RecvMsg(&reply); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := take(reply); err != nil {
			return err
		}
	}
}

var errReplyLost = status.Error(codes.Unavailable, "the proxy lost the reply")

// bytesCodec passes encoded messages through.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
