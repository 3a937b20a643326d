//go:build unix && !linux

package emulator

import "syscall"

// attributes puts the child into a process group of its own, so that kill reaches all of it. The child outlives a parent
// that is killed: only Linux can prevent that.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
