package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// dialTimeout bounds the wait for a connection.
	dialTimeout = 10 * time.Second
	// responseTimeout bounds the wait for an answer: longer than ingest waits for a publish.
	responseTimeout = 30 * time.Second
	// maxAnswer bounds how much of an answer is kept.
	maxAnswer = 64 << 10
)

// errNotSent is the error of a request of which not a byte was sent.
var errNotSent = errors.New("nothing was sent")

// connection posts over one HTTP/1.1 connection, one request at a time. It takes half the CPU time of http.Transport, which
// matters since it shares the machine with what it measures. It is not safe for concurrent use.
type connection struct {
	address string // host:port
	tls     *tls.Config
	head    []byte // the request up to the number in Content-Length
	key     []byte // if not empty, the start of each request's idempotency key
	posts   int64
	request []byte // the whole, made anew in the same place
	of      *http.Request

	conn   net.Conn
	reader *bufio.Reader
}

// newConnection returns a connection that posts to a path below server. It dials when it is first used.
func newConnection(server *url.URL, path string) *connection {
	c := &connection{
		address: net.JoinHostPort(server.Hostname(), portOf(server)),
		head: fmt.Appendf(nil, "POST %s/%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: accrue-load\r\nContent-Type: application/json\r\nContent-Length: ",
			strings.TrimSuffix(server.EscapedPath(), "/"), path, server.Host),
		of: &http.Request{Method: http.MethodPost},
	}
	if server.Scheme == "https" {
		c.tls = &tls.Config{ServerName: server.Hostname(), MinVersion: tls.VersionTLS12}
	}
	return c
}

// portOf returns the port of an address, or of its scheme.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// answer is the answer of a server.
type answer struct {
	status int
	// retryAfter is how long the server asks to wait; negative if it does not.
	retryAfter time.Duration
	body       []byte
}

// post sends a body and returns the answer. The error is errNotSent if the server cannot know of the request; after any
// other it may.
func (c *connection) post(body []byte) (answer, error) {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return answer{}, fmt.Errorf("%w: %w", errNotSent, err)
		}
	}
	c.request = append(c.request[:0], c.head...)
	c.request = strconv.AppendInt(c.request, int64(len(body)), 10)
	if c.key != nil {
		c.posts++
		c.request = append(append(c.request, "\r\nIdempotency-Key: "...), c.key...)
		c.request = strconv.AppendInt(c.request, c.posts, 10)
	}
	c.request = append(c.request, "\r\n\r\n"...)
	c.request = append(c.request, body...)
	a, keep, err := c.exchange()
	if err != nil || !keep {
		c.close()
	}
	return a, err
}

func (c *connection) dial() error {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if c.tls != nil {
		secured := tls.Client(conn, c.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = conn.Close() // it was never used
			return fmt.Errorf("connect: %w", err)
		}
		conn = secured
	}
	c.conn, c.reader = conn, bufio.NewReader(conn)
	return nil
}

// exchange sends the request and reads the answer to its end. Keep says whether the connection can be used again.
func (c *connection) exchange() (a answer, keep bool, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(responseTimeout)); err != nil {
		return answer{}, false, fmt.Errorf("post: %w", err)
	}
	// A server may answer and close before it has read everything: its answer counts even if the rest cannot be sent.
	_, sending := c.conn.Write(c.request)
	response, err := http.ReadResponse(c.reader, c.of)
	if err != nil {
		return answer{}, false, fmt.Errorf("post: %w", errors.Join(sending, err))
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	a = answer{status: response.StatusCode, retryAfter: -1}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds >= 0 {
		a.retryAfter = time.Duration(seconds) * time.Second
	}
	if a.body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer)); err != nil {
		return a, false, fmt.Errorf("read answer: %w", err)
	}
	return a, sending == nil && !response.Close && len(a.body) < maxAnswer, nil
}

// close ends the connection, if there is one.
func (c *connection) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is under way
		c.conn, c.reader = nil, nil
	}
}
