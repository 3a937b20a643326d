package redis

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/accrue/accrue/rivals/process"
)

// Start starts a redis-server that listens on port and keeps its append-only file in folder. Fsync is its appendfsync:
// everysec or always. It returns at once.
func Start(ctx context.Context, folder string, port int, fsync string) (*process.Process, error) {
	path, err := process.Find("redis-server")
	if err != nil {
		return nil, err
	}
	return process.Start(ctx, process.Command{Path: path, Arguments: []string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", folder,
		"--appendonly", "yes", "--appendfsync", fsync, "--save", "",
	}})
}

// Address returns the address of a server on port.
func Address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Version returns the version of the redis-server that is installed.
func Version(ctx context.Context) (string, error) {
	path, err := process.Find("redis-server")
	if err != nil {
		return "", err
	}
	line, err := process.Output(ctx, path, "--version")
	if err != nil {
		return "", err
	}
	var version string
	if _, err := fmt.Sscanf(line, "Redis server v=%s", &version); err != nil {
		return "", fmt.Errorf("read the version %q: %w", line, err)
	}
	return version, nil
}
