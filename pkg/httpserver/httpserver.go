// Package httpserver is the HTTP server that every service runs: it binds first, serves later, stops cleanly, bounds
// what a client can hold open, and answers health requests.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/logging"
)

const (
	// headerTimeout bounds how long a client may take to send its request's header.
	headerTimeout = 10 * time.Second
	// readTimeout bounds the whole request: 1 MiB at 300 kbit/s.
	readTimeout = 30 * time.Second
	// writeTimeout bounds the whole answer, so that a client that does not read holds nothing for ever: 1 MiB at
	// 150 kbit/s. A stream lifts it, write by write, through http.ResponseController.
	writeTimeout = 60 * time.Second
	// idleTimeout is longer than the 600 s that Google's front ends keep a connection, so that they close it, not we.
	idleTimeout = 620 * time.Second
	// maxHeaderBytes bounds the header, far above what browsers send.
	maxHeaderBytes = 64 << 10
)

// Server is bound to its port and not yet serving.
type Server struct {
	listener net.Listener
	server   http.Server
	log      zerolog.Logger
	// drain bounds how long a stop waits for requests under way.
	drain time.Duration
}

// New binds to port, 0 for a free one, on all interfaces. A stop waits for requests under way for at most drain.
func New(port int, handler http.Handler, drain time.Duration, log zerolog.Logger) (*Server, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return nil, fmt.Errorf("bind to port %d: %w", port, err)
	}
	return &Server{
		listener: listener,
		server: http.Server{
			Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
			IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
			ErrorLog: stdlog.New(logging.Writer(log), "", 0),
		},
		log:   log,
		drain: drain,
	}, nil
}

// Port is the port that the server is bound to.
func (s *Server) Port() int { return s.listener.Addr().(*net.TCPAddr).Port } //nolint:forcetypeassert // tcp

type stoppingKey struct{}

// Stopping returns a channel that is closed when the server of a request begins to stop, given the request's context. An
// answer that would otherwise last, such as a stream, ends then, so that the stop need not wait for it. It is nil if the
// request has come through no Server.
func Stopping(ctx context.Context) <-chan struct{} {
	stopping, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return stopping
}

// Run serves until ctx ends, then takes no new connections and waits for the requests under way, as long as New said.
// What is still under way after that is cut.
func (s *Server) Run(ctx context.Context) error {
	s.server.BaseContext = func(net.Listener) context.Context {
		return context.WithValue(context.WithoutCancel(ctx), stoppingKey{}, ctx.Done())
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
		defer cancel()
		err := s.server.Shutdown(drain)
		if errors.Is(err, context.DeadlineExceeded) {
			s.log.Warn().Dur("drain_ms", s.drain).Msg("requests were still under way after the drain and were cut")
			err = s.server.Close()
		}
		stopped <- err
	}()
	s.log.Info().Int("port", s.Port()).Msg("serving")
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("stop serving: %w", err)
	}
	return nil
}

// Close unbinds a server that was never run.
func (s *Server) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("unbind: %w", err)
	}
	return nil
}
