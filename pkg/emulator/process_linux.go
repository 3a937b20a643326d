package emulator

import "syscall"

// attributes put the child into a process group of its own, so that a Ctrl-C meant for its parent does not reach it and
// kill reaches all of it, and tie its life to its parent's.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
