package service

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
	// writeTimeout bounds the whole answer, so that a client that does not read holds resources for a bounded time: 1 MiB
	// at 150 kbit/s. A stream extends it, write by write, through http.ResponseController.
	writeTimeout = 60 * time.Second
	// idleTimeout is longer than the 600 s for which Google's front ends keep a connection, so that they close it first.
	idleTimeout = 620 * time.Second
	// maxHeaderBytes bounds the header. Browsers send far less.
	maxHeaderBytes = 64 << 10
)

// Server is the HTTP server of a service. It is bound to its port when it is made, and serves when it runs.
type Server struct {
	listener net.Listener
	server   http.Server
	log      zerolog.Logger
	// drain bounds how long a stop waits for requests in progress.
	drain time.Duration
}

// NoPort is the port of a server that is not bound: what runs several services in one process serves their handlers.
const NoPort = -1

// NewServer binds to port, or to a free one if it is 0, on all interfaces, or to none if it is NoPort. A stop waits for
// requests in progress for at most drain.
func NewServer(port int, handler http.Handler, drain time.Duration, log zerolog.Logger) (*Server, error) {
	if port == NoPort {
		return &Server{server: http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout}}, nil
	}
	return Listen(":"+strconv.Itoa(port), handler, drain, log)
}

// Listen is like NewServer, for an address such as "127.0.0.1:8080".
func Listen(address string, handler http.Handler, drain time.Duration, log zerolog.Logger) (*Server, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("bind: %w", err)
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

// Handler returns the handler of all requests.
func (s *Server) Handler() http.Handler { return s.server.Handler }

// Port returns the port that the server is bound to. It must be bound.
func (s *Server) Port() int { return s.listener.Addr().(*net.TCPAddr).Port } //nolint:forcetypeassert // tcp

type stoppingKey struct{}

// Stopping returns a channel that is closed when the server begins to stop, given the context of a request. Handlers of
// streams end then, so that the stop need not wait for them. It returns nil if the request did not come through a Server.
func Stopping(ctx context.Context) <-chan struct{} {
	stopping, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return stopping
}

// Run serves until ctx ends, then accepts no new connections and waits for the requests in progress, at most for the drain
// time. Then it closes the connections that are left. A server that is not bound waits until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		<-ctx.Done()
		return nil
	}
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
			s.log.Warn().Dur("drain_ms", s.drain).Msg("closed connections with requests still in progress after the drain time")
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
