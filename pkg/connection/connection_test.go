package connection

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// testSilence replaces silence.
	testSilence = 300 * time.Millisecond
	// callTimeout is the deadline of a call, in proportion to testSilence as those of the services to silence.
	callTimeout = 100 * time.Millisecond
	// patience bounds the time to wait for what must happen.
	patience = 20 * time.Second
)

// server answers health checks: those of the service "slow" after three silences, and those of "hang" when it stops.
type server struct {
	*health.Server
	stopped chan struct{}
}

func (s server) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	switch r.GetService() {
	case "slow":
		time.Sleep(3 * testSilence)
	case "hang":
		<-s.stopped
	}
	return s.Server.Check(ctx, &healthpb.HealthCheckRequest{})
}

func startServer(t testing.TB) (address string) {
	t.Helper()
	listener := listen(t)
	s := grpc.NewServer()
	stopped := make(chan struct{})
	healthpb.RegisterHealthServer(s, server{health.NewServer(), stopped})
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		close(stopped)
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// mode is what a proxy does with the bytes of a connection.
type mode int32

const (
	forward mode = iota
	discard      // reads bytes, so that TCP acknowledges them, and drops them
	stall        // reads nothing, so that TCP acknowledges only what fits a small buffer
)

// proxy stands between clients and a server.
type proxy struct {
	address  string
	accepted atomic.Int32

	mu    sync.Mutex
	links []*link
}

// link is one connection through a proxy.
type link struct {
	client, server net.Conn
	mode           atomic.Int32
	closed         chan struct{}
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener := listen(t)
	p := &proxy{address: listener.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", target)
			if err != nil {
				t.Error(err)
				return
			}
			_ = client.(*net.TCPConn).SetReadBuffer(4096)
			l := &link{client: client, server: upstream, closed: make(chan struct{})}
			p.mu.Lock()
			p.links = append(p.links, l)
			p.mu.Unlock()
			p.accepted.Add(1)
			running.Go(func() { l.copy(upstream, client) })
			running.Go(func() { l.copy(client, upstream) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		for _, l := range p.links {
			close(l.closed)
			_, _ = l.client.Close(), l.server.Close()
		}
		p.mu.Unlock()
		running.Wait()
	})
	return p
}

// copy forwards bytes until one end closes, and then closes the other.
func (l *link) copy(to, from net.Conn) {
	defer to.Close() //nolint:errcheck // the end of the test
	buffer := make([]byte, 64<<10)
	for {
		if mode(l.mode.Load()) == stall {
			<-l.closed
			return
		}
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if mode(l.mode.Load()) == forward {
			_, _ = to.Write(buffer[:n])
		}
	}
}

// swallow sets the mode of all existing connections. New ones are forwarded.
func (p *proxy) swallow(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.mode.Store(int32(m))
	}
}

func connect(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	return connectWith(t, address, options(testSilence))
}

func connectWith(t testing.TB, address string, options []grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(address, append(slices.Clip(options), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cc.Close(); err != nil {
			t.Error(err)
		}
	})
	return cc
}

// check makes one call with a deadline.
func check(t *testing.T, cc *grpc.ClientConn, service string, timeout time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	_, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	return err
}

// watchOnce opens a stream and receives its first message.
func watchOnce(t *testing.T, cc *grpc.ClientConn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	stream, err := healthpb.NewHealthClient(cc).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

func TestConnectionThatSwallowsBytesIsReplaced(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 32<<10)
	for name, tc := range map[string]struct {
		mode mode
		call func(*testing.T, *grpc.ClientConn) error
	}{
		"acknowledged bytes":   {discard, func(t *testing.T, cc *grpc.ClientConn) error { return check(t, cc, large, callTimeout) }},
		"unacknowledged bytes": {stall, func(t *testing.T, cc *grpc.ClientConn) error { return check(t, cc, large, callTimeout) }},
		"streams":              {discard, watchOnce},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, startServer(t))
			cc := connect(t, p.address)
			if err := check(t, cc, "", patience); err != nil {
				t.Fatal(err)
			}
			p.swallow(tc.mode)
			begun := time.Now()
			for tc.call(t, cc) != nil {
				if time.Since(begun) > patience {
					t.Fatal("the connection was not replaced")
				}
			}
			if took := time.Since(begun); took < testSilence {
				t.Errorf("the connection was replaced after %v, want %v or more", took, testSilence)
			}
			if got := p.accepted.Load(); got != 2 {
				t.Errorf("%d connections, want 2", got)
			}
		})
	}
}

// A client has several connections, and a call that times out uses one of them.
func TestSilentConnectionsOfAClientAreReplacedTogether(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t))
	options := options(testSilence)
	first, second := connectWith(t, p.address, options), connectWith(t, p.address, options)
	if err := errors.Join(check(t, first, "", patience), check(t, second, "", patience)); err != nil {
		t.Fatal(err)
	}
	p.swallow(discard)
	for begun := time.Now(); check(t, first, "", callTimeout) != nil; {
		if time.Since(begun) > patience {
			t.Fatal("the connection was not replaced")
		}
	}
	if err := check(t, second, "", patience); err != nil {
		t.Errorf("a call on the other connection = %v", err)
	}
}

// Calls that wait on a connection that is replaced get an error that clients retry.
func TestCallsOnAReplacedConnectionAreUnavailable(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t))
	cc := connect(t, p.address)
	if err := check(t, cc, "", patience); err != nil {
		t.Fatal(err)
	}
	p.swallow(discard)
	waiting := make(chan error)
	go func() { waiting <- check(t, cc, "", patience) }()
	for begun := time.Now(); p.accepted.Load() == 1; {
		if time.Since(begun) > patience {
			t.Fatal("the connection was not replaced")
		}
		_ = check(t, cc, "", callTimeout)
	}
	if err := <-waiting; status.Code(err) != codes.Unavailable {
		t.Errorf("the call that waited = %v, want Unavailable", err)
	}
}

// A canceled call does not mean that the connection is dead.
func TestCancelledCallsDoNotReplaceAConnection(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t))
	cc := connect(t, p.address)
	if err := check(t, cc, "", patience); err != nil {
		t.Fatal(err)
	}
	p.swallow(discard)
	for begun := time.Now(); time.Since(begun) < 3*testSilence; {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(callTimeout, cancel)
		_, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
		timer.Stop()
		if status.Code(err) != codes.Canceled {
			t.Errorf("a cancelled call = %v", err)
		}
	}
	if got := p.accepted.Load(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}

func TestConnectionIsKept(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(*testing.T, *grpc.ClientConn){
		"while one call times out and others are answered": func(t *testing.T, cc *grpc.ClientConn) {
			hanging := make(chan error)
			go func() { hanging <- check(t, cc, "hang", 3*testSilence) }()
			for {
				select {
				case err := <-hanging:
					if status.Code(err) != codes.DeadlineExceeded {
						t.Errorf("a call that hangs = %v", err)
					}
					return
				case <-time.After(testSilence / 10):
				}
				if err := check(t, cc, "", patience); err != nil {
					t.Error(err)
				}
			}
		},
		"while nothing is called": func(*testing.T, *grpc.ClientConn) { time.Sleep(2 * testSilence) },
		"when one call times out after a while without calls": func(t *testing.T, cc *grpc.ClientConn) {
			time.Sleep(2 * testSilence)
			if err := check(t, cc, "hang", callTimeout); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("a call that hangs = %v", err)
			}
		},
		"while one call waits for long": func(t *testing.T, cc *grpc.ClientConn) {
			if err := check(t, cc, "slow", patience); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, startServer(t))
			cc := connect(t, p.address)
			if err := check(t, cc, "", patience); err != nil {
				t.Fatal(err)
			}
			use(t, cc)
			if err := check(t, cc, "", patience); err != nil {
				t.Error(err)
			}
			if got := p.accepted.Load(); got != 1 {
				t.Errorf("%d connections, want 1", got)
			}
		})
	}
}

// A dead path costs the silence until its connection is closed, an attempt to connect and the pause before the next: less than
// half a minute with a window and a refresh. Servers do not accept more frequent pings than one in five minutes.
func TestBoundsOfADeadPath(t *testing.T) {
	t.Parallel()
	const longestDeadline = 10 * time.Second // of a call
	if silence >= longestDeadline {
		t.Errorf("one call times out before a silence of %v", silence)
	}
	if worst := longestDeadline + connectTimeout + maxBackoff; worst > 25*time.Second {
		t.Errorf("a dead path costs %v", worst)
	}
	if vanished := tcpKeepalive.Idle + time.Duration(tcpKeepalive.Count)*tcpKeepalive.Interval; !tcpKeepalive.Enable || vanished > 30*time.Second {
		t.Errorf("a peer that vanished is found after %v", vanished)
	}
	if keepaliveInterval <= 5*time.Minute {
		t.Errorf("pings every %v", keepaliveInterval)
	}
}

func TestWatchForgetsClosedConnections(t *testing.T) {
	t.Parallel()
	w := &watch{silence: testSilence, begun: time.Now(), conns: make(map[ends]*conn)}
	listener := listen(t)
	defer listener.Close() //nolint:errcheck // the end of the test
	for range 3 {
		c, err := w.dial(t.Context(), listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(w.conns) != 0 {
		t.Errorf("%d closed connections are remembered", len(w.conns))
	}
}

func TestProxyOfTheEnvironmentIsUsed(t *testing.T) {
	for name, tc := range map[string]struct {
		proxy string
		want  bool
	}{
		"none":     {"", false},
		"a proxy":  {"http://127.0.0.1:3128", true},
		"no proxy": {"http://127.0.0.1:3128", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HTTPS_PROXY", tc.proxy)
			t.Setenv("NO_PROXY", "")
			if name == "no proxy" {
				t.Setenv("NO_PROXY", "googleapis.com")
			}
			if got := proxied(); got != tc.want {
				t.Errorf("proxied() = %v, want %v", got, tc.want)
			}
		})
	}
}

// BenchmarkCall measures what watching a connection adds to a call.
func BenchmarkCall(b *testing.B) {
	address := startServer(b)
	for name, options := range map[string][]grpc.DialOption{"plain": nil, "watched": Options()} {
		b.Run(name, func(b *testing.B) {
			cc := connectWith(b, address, options)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := healthpb.NewHealthClient(cc).Check(b.Context(), &healthpb.HealthCheckRequest{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
