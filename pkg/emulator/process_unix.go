//go:build unix

package emulator

import (
	"errors"
	"os"
	"syscall"
)

// kill ends the process group. It is no error that it has ended already.
func kill(p *os.Process) error {
	if err := syscall.Kill(-p.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
