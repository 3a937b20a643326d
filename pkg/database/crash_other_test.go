//go:build unix && !linux

package database_test

import (
	"errors"
	"os/exec"
	"testing"
)

func ownFileSystems(t *testing.T, _ *exec.Cmd) {
	t.Helper()
	t.Skip("needs the mount namespaces of Linux")
}

func mount(string) error { return errors.ErrUnsupported }
