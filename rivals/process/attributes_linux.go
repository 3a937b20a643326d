package process

import "syscall"

// attributes puts the child into a process group of its own, so that a Ctrl-C for its parent does not reach it, and has the
// kernel kill it when its parent dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
