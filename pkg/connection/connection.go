// Package connection has the dial options of the gRPC connections to Pub/Sub and Firestore. They bound what a dead network
// path costs: a connection that swallows requests, or whose peer has vanished, is replaced within seconds.
package connection

import (
	"context"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

const (
	// silence is how long calls must time out on a connection that receives nothing before it is closed. It is less than the
	// longest deadline of a call, 10 s, so that one such call is enough.
	silence = 8 * time.Second
	// connectTimeout bounds one attempt to connect, and maxBackoff the pause before the next. The default pause grows to two
	// minutes, which is how long a service would take to notice that a server is back.
	connectTimeout, maxBackoff = 10 * time.Second, 5 * time.Second
	// keepaliveInterval is the interval of pings while calls wait. Java servers, including the emulators, close a connection with
	// more than one ping in five minutes.
	keepaliveInterval = 5*time.Minute + 10*time.Second
)

// tcpKeepalive detects within half a minute that the peer of an idle connection has vanished. Server applications do not see its
// probes.
var tcpKeepalive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// Options returns the dial options of a client. A connection is closed when calls on it have timed out for eight seconds while
// nothing was received on it. The client's other connections that have been silent as long are closed with it, so that calls need
// not find them one by one. Other calls on these connections fail with codes.Unavailable, and gRPC connects again. Calls without a
// deadline do not time out, so every call needs one.
//
// Behind a proxy (HTTPS_PROXY) gRPC dials itself, and connections are not watched.
func Options() []grpc.DialOption { return options(silence) }

func options(silence time.Duration) []grpc.DialOption {
	params := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}
	params.Backoff.MaxDelay = maxBackoff
	connect := grpc.WithConnectParams(params)
	keep := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval})
	if proxied() {
		return []grpc.DialOption{connect, keep}
	}
	w := &watch{silence: silence, begun: time.Now(), conns: make(map[ends]*conn)}
	return []grpc.DialOption{connect, keep, grpc.WithContextDialer(w.dial), grpc.WithStatsHandler(w)}
}

// proxied reports whether the environment names a proxy for Google's servers.
func proxied() bool {
	proxy, err := httpproxy.FromEnvironment().ProxyFunc()(&url.URL{Scheme: "https", Host: "googleapis.com"})
	return err != nil || proxy != nil
}

// watch is a stats.Handler that closes the connections it dialed when their calls time out in silence.
type watch struct {
	silence time.Duration
	begun   time.Time

	mu    sync.Mutex
	conns map[ends]*conn
}

// ends are the addresses of both ends of a connection.
type ends struct{ local, remote string }

// conn records when it last received bytes.
type conn struct {
	net.Conn
	watch    *watch
	received atomic.Int64 // time of the last bytes, in nanoseconds since watch.begun
	// failing is the start of the first call that has timed out since received. It is guarded by watch.mu.
	failing time.Duration
}

func (w *watch) dial(ctx context.Context, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: tcpKeepalive}
	dialed, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: dialed, watch: w}
	c.touch()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[c.ends()] = c
	return c, nil
}

func (c *conn) ends() ends { return ends{c.LocalAddr().String(), c.RemoteAddr().String()} }

func (c *conn) touch() { c.received.Store(int64(time.Since(c.watch.begun))) }

// Read reads and records the time.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.touch()
	}
	return n, err
}

// Close closes the connection and forgets it.
func (c *conn) Close() error {
	c.watch.mu.Lock()
	if c.watch.conns[c.ends()] == c {
		delete(c.watch.conns, c.ends())
	}
	c.watch.mu.Unlock()
	return c.Conn.Close()
}

// headerKey is the context's key of a call's *atomic.Pointer[stats.OutHeader], which has the addresses of its connection.
type headerKey struct{}

// TagRPC adds a place for the header of a call to its context.
func (w *watch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, headerKey{}, new(atomic.Pointer[stats.OutHeader]))
}

// HandleRPC records the connection of a call, and handles its timeout.
func (w *watch) HandleRPC(ctx context.Context, s stats.RPCStats) {
	header, ok := ctx.Value(headerKey{}).(*atomic.Pointer[stats.OutHeader])
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.OutHeader:
		header.Store(s)
	case *stats.End:
		if sent := header.Load(); sent != nil && status.Code(s.Error) == codes.DeadlineExceeded {
			w.timedOut(ends{sent.LocalAddr.String(), sent.RemoteAddr.String()}, s.BeginTime)
		}
	}
}

// TagConn and HandleConn do nothing: they complete stats.Handler.
func (w *watch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (w *watch) HandleConn(context.Context, stats.ConnStats) {}

// timedOut notes that a call on a connection timed out. When calls have timed out in silence for long enough, it closes
// the connection and all that have been silent as long.
func (w *watch) timedOut(e ends, began time.Time) {
	var silent []*conn
	w.mu.Lock()
	if c := w.conns[e]; c != nil && c.dead(began.Sub(w.begun), time.Since(w.begun)) {
		for _, other := range w.conns {
			if time.Duration(other.received.Load()) < c.failing {
				silent = append(silent, other)
			}
		}
	}
	w.mu.Unlock()
	for _, c := range silent {
		_ = c.Close() // gRPC sees the error in its next Read
	}
}

// dead reports whether the connection is dead after the timeout of a call that began at the time began.
func (c *conn) dead(began, now time.Duration) bool {
	received := time.Duration(c.received.Load())
	if began <= received {
		return false
	}
	if c.failing <= received || began < c.failing {
		c.failing = began
	}
	return now-c.failing >= c.watch.silence
}
