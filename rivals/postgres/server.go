package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/accrue/accrue/rivals/process"
)

// Start creates a database in folder, unless it holds one, and starts a server on a socket in it. Everything is as
// PostgreSQL comes, but for twice the usual memory and room in the log, so that checkpoints are rare. The server refuses to run as root,
// so root starts it as the user postgres, who must be able to enter the parents of folder. It returns at once.
func Start(ctx context.Context, folder string) (*process.Process, error) {
	path, err := process.Find("postgres")
	if err != nil {
		return nil, err
	}
	uid, gid, err := owner()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(folder, "data")
	if _, err := os.Stat(data); errors.Is(err, os.ErrNotExist) {
		if err := create(ctx, folder, data, uid, gid); err != nil {
			return nil, err
		}
	}
	return process.Start(ctx, process.Command{
		Path: path, User: uid, Group: gid, Interrupt: true, // SIGINT stops it without waiting for clients
		Arguments: []string{
			"-D", data, "-c", "listen_addresses=", "-c", "unix_socket_directories=" + folder,
			"-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB",
		},
	})
}

func create(ctx context.Context, folder, data string, uid, gid uint32) error {
	path, err := process.Find("initdb")
	if err != nil {
		return err
	}
	initialize := exec.CommandContext(ctx, path, //nolint:gosec // where Find finds it
		"-D", data, "-U", "postgres", "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync")
	initialize.Dir = "/"
	if uid != 0 {
		if err := os.Chown(folder, int(uid), int(gid)); err != nil {
			return fmt.Errorf("create database: %w", err)
		}
		initialize.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
	if output, err := initialize.CombinedOutput(); err != nil {
		return fmt.Errorf("create database: %w: %s", err, output)
	}
	return nil
}

// owner returns the ids of the user postgres for root, and zeros for everybody else.
func owner() (uid, gid uint32, err error) {
	if os.Getuid() != 0 {
		return 0, 0, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, fmt.Errorf("postgres does not run as root: %w", err)
	}
	ids := make([]uint32, 0, 2)
	for _, text := range []string{u.Uid, u.Gid} {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return 0, 0, fmt.Errorf("read the user postgres: %w", err)
		}
		ids = append(ids, uint32(id))
	}
	return ids[0], ids[1], nil
}

// Version returns the version of PostgreSQL that is installed.
func Version(ctx context.Context) (string, error) {
	path, err := process.Find("postgres")
	if err != nil {
		return "", err
	}
	line, err := process.Output(ctx, path, "--version")
	if err != nil {
		return "", err
	}
	var version string
	if _, err := fmt.Sscanf(line, "postgres (PostgreSQL) %s", &version); err != nil {
		return "", fmt.Errorf("read the version %q: %w", line, err)
	}
	return version, nil
}
