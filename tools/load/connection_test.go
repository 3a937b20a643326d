package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func address(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestConnectionPostsOverOneConnection(t *testing.T) {
	t.Parallel()
	peers := make(map[string]bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peers[r.RemoteAddr] = true
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
		if len(body) > 3 {
			w.(http.Flusher).Flush() // then it does not know the length: the body comes in chunks
		}
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL, r.Header.Get("Content-Type"), body)
	}))
	defer server.Close()
	for prefix, path := range map[string]string{"": "/increments", "/": "/increments", "/below/": "/below/increments"} {
		c := newConnection(address(t, server.URL+prefix), "increments")
		defer c.close()
		clear(peers)
		for _, body := range []string{"foo", "", strings.Repeat("x", 1000), "foo"} {
			a, err := c.post([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			want := "POST " + path + " application/json " + body
			if a.status != 503 || a.retryAfter != 7*time.Second || string(a.body) != want {
				t.Errorf("post() = %d, %v, %q, want 503, 7s, %q", a.status, a.retryAfter, a.body, want)
			}
		}
		if len(peers) != 1 {
			t.Errorf("used %d connections, want 1", len(peers))
		}
	}
}

func TestConnectionOverTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the handshake that we break off
	server.StartTLS()
	defer server.Close()
	c := newConnection(address(t, server.URL), "increments")
	defer c.close()
	if _, err := c.post(nil); !errors.Is(err, errNotSent) {
		t.Errorf("post() to a server with an unknown certificate = %v, want %v", err, errNotSent)
	}
	c.tls.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if a, err := c.post(nil); err != nil || a.status != http.StatusAccepted || a.retryAfter >= 0 {
		t.Errorf("post() = %+v, %v", a, err)
	}
}

func TestConnectionDistinguishesRequestsThatWereNotSent(t *testing.T) {
	t.Parallel()
	const request = "POST /increments HTTP/1.1\r\n"
	for name, tc := range map[string]struct {
		// answer is what the server sends before it closes the connection.
		answer string
		status int
		fails  bool
	}{
		"no answer":                     {"", 0, true},
		"half an answer":                {"HTTP/1.1 202 Acc", 0, true},
		"an answer without its end":     {"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n{", 202, true},
		"something else":                {"SSH-2.0-OpenSSH\r\n", 0, true},
		"an answer that ends by itself": {"HTTP/1.1 503 Full\r\nConnection: close\r\n\r\nfull", 503, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() {
				for range 2 { // both posts come on connections of their own
					conn, err := listener.Accept()
					if err != nil {
						served <- err
						return
					}
					line, err := bufio.NewReader(conn).ReadString('\n')
					if err == nil && line != request {
						err = fmt.Errorf("request begins %q", line)
					}
					_, writing := io.WriteString(conn, tc.answer)
					if err = errors.Join(err, writing, conn.Close()); err != nil {
						served <- err
						return
					}
				}
				served <- listener.Close()
			}()
			c := newConnection(address(t, "http://"+listener.Addr().String()), "increments")
			defer c.close()
			for range 2 {
				a, err := c.post([]byte("body"))
				if (err != nil) != tc.fails || errors.Is(err, errNotSent) || a.status != tc.status {
					t.Errorf("post() = %d, %v", a.status, err)
				}
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
			if _, err := c.post(nil); !errors.Is(err, errNotSent) {
				t.Errorf("post() to a closed port = %v, want %v", err, errNotSent)
			}
		})
	}
}

func TestConnectionReadsAnAnswerBeforeTheEndOfTheRequest(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	}))
	defer server.Close()
	c := newConnection(address(t, server.URL), "increments")
	defer c.close()
	// Larger than what the operating system takes on the way; the server may also cut the connection, which is no answer.
	a, err := c.post(make([]byte, 8<<20))
	if err == nil && a.status != http.StatusRequestEntityTooLarge || errors.Is(err, errNotSent) {
		t.Errorf("post() = %d, %v", a.status, err)
	}
}

// BenchmarkPost is what one post costs the generator, and the standard library's server.
func BenchmarkPost(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	defer server.Close()
	u, err := url.Parse(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	c := newConnection(u, "increments")
	defer c.close()
	for b.Loop() {
		if _, err := c.post([]byte(`{"name":"foo","value":4}`)); err != nil {
			b.Fatal(err)
		}
	}
}
