// Package folder is what the command accrue does with the folder of an embedded database, also while accrue run uses it:
// accrue run then listens on a Unix socket in the folder, which other machines and other users cannot connect to.
package folder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/database"
)

const (
	// socketName is the name of the socket in the folder.
	socketName = "accrue.sock"
	// backupPath is the route of backups.
	backupPath = "/backup"
	// headerTimeout bounds how long a client may take to send its request.
	headerTimeout = 10 * time.Second
	// drain bounds how long a stop waits for backups to notice it.
	drain = time.Second
)

// Default returns the folder that DATA names, or .accrue if it is not set. Variables are the environment.
func Default(variables map[string]string) string {
	if folder, ok := variables["DATA"]; ok {
		return folder
	}
	return ".accrue"
}

// Server lets other processes of the same user back up a database that this process has open.
type Server struct {
	database *database.Database
	log      zerolog.Logger
	listener net.Listener // nil if the folder takes no socket
}

// Listen opens the socket in the folder of a database that is open. If the folder takes none, since its path is too long or
// its file system has none, the log says so and the database is backed up only while no process uses it.
func Listen(folder string, d *database.Database, log zerolog.Logger) (*Server, error) {
	path := filepath.Join(folder, socketName)
	// One that exists was left by a process that was killed: the folder is ours alone.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	s := &Server{database: d, log: log}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "unix", path)
	if err != nil {
		log.Warn().Err(err).Msg("no backups while this process runs: the folder takes no socket")
		return s, nil
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close the socket to others: %w", err), listener.Close())
	}
	s.listener = listener
	return s, nil
}

// Run serves until ctx ends, and ends the backups that are in progress then.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+backupPath, s.backup)
	server := http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		err := server.Shutdown(draining)
		if errors.Is(err, context.DeadlineExceeded) { // a client that does not read
			err = server.Close()
		}
		stopped <- err
	}()
	if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the folder's socket: %w", err)
	}
	return <-stopped
}

// backup answers with a copy of the database. A copy that is cut short ends in an error at the client too.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	w.Header().Set("Content-Type", "application/octet-stream")
	size, err := s.database.Backup(r.Context(), w)
	if err != nil {
		s.log.Warn().Err(err).Msg("backup failed")
		panic(http.ErrAbortHandler)
	}
	s.log.Info().Int64("bytes", size).Dur("took", time.Since(began)).Msg("backed up the database")
}
