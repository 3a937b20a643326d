package e2e_test

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// maxRecovery bounds the time from the failure of a network path until everything posted is counted.
const maxRecovery = 30 * time.Second

// The network path to Firestore, to Pub/Sub or to both starts to swallow all bytes of existing connections in both directions.
// TCP still acknowledges them, and new connections work. Everything is counted within half a minute.
func TestConnectionsThatSwallowBytesAreReplaced(t *testing.T) {
	t.Parallel()
	for name, swallowed := range map[string]struct{ firestore, pubSub bool }{
		"Firestore": {true, false},
		"Pub/Sub":   {false, true},
		"both":      {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			documents, messages := startSwallower(t, s.firestore), startSwallower(t, s.pubSub)
			s.firestore, s.pubSub = documents.address, messages.address
			aggregator, ingest, query := s.start(t, "aggregator"), s.start(t, "ingest"), s.start(t, "query")

			const posters = 4
			var load sync.WaitGroup
			var accepted atomic.Int64
			stop := make(chan struct{})
			for poster := range posters {
				load.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						case <-time.After(20 * time.Millisecond):
						}
						p := posting{path: "/increments", body: `{"name":"foo","value":1}`, key: fmt.Sprintf("%d-%d", poster, n)}
						if _, err := p.send(t.Context(), func() string { return ingest.url }); err != nil {
							t.Errorf("post: %v", err)
							return
						}
						accepted.Add(1)
					}
				})
			}
			end := sync.OnceFunc(func() { close(stop); load.Wait() })
			t.Cleanup(end)
			await(t, "200 increments counted", 30*time.Second, func() error {
				got, err := stats(query)
				if err == nil && got["foo"] < 200 {
					err = fmt.Errorf("foo is %d", got["foo"])
				}
				return err
			})

			began := time.Now()
			if swallowed.firestore {
				documents.swallow()
			}
			if swallowed.pubSub {
				messages.swallow()
			}
			time.Sleep(2 * time.Second) // the load runs
			end()
			answered := time.Since(began)
			awaitStats(t, query, map[string]int64{"foo": accepted.Load()}, time.Minute)
			took := time.Since(began)
			t.Logf("last post answered 202 after %.1f s, totals exact after %.1f s", answered.Seconds(), took.Seconds())
			if took > maxRecovery {
				t.Errorf("totals exact after %v, want at most %v", took, maxRecovery)
			}
			aggregator.stop()
		})
	}
}

// swallower is a TCP proxy that can swallow the bytes of its connections, or reset them.
type swallower struct {
	address string

	mu    sync.Mutex
	links []*swallowed
}

// swallowed is one connection through a swallower. Once swallowed is set, it reads and drops all bytes.
type swallowed struct {
	ends      [2]net.Conn
	swallowed atomic.Bool
}

func startSwallower(t *testing.T, target string) *swallower {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &swallower{address: listener.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			l := &swallowed{ends: [2]net.Conn{client, server}}
			s.mu.Lock()
			s.links = append(s.links, l)
			s.mu.Unlock()
			running.Go(func() { l.copy(server, client) })
			running.Go(func() { l.copy(client, server) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.mu.Lock()
		for _, l := range s.links {
			_, _ = l.ends[0].Close(), l.ends[1].Close()
		}
		s.mu.Unlock()
		running.Wait()
	})
	return s
}

// swallow makes all existing connections swallow bytes.
func (s *swallower) swallow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		l.swallowed.Store(true)
	}
}

// reset resets all existing connections.
func (s *swallower) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		if client, ok := l.ends[0].(*net.TCPConn); ok {
			_ = client.SetLinger(0) // closing sends a reset
		}
		_, _ = l.ends[0].Close(), l.ends[1].Close()
	}
	s.links = nil
}

func (l *swallowed) copy(to, from net.Conn) {
	defer to.Close() //nolint:errcheck // the other end is closed
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if !l.swallowed.Load() {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
}
