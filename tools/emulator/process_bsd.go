//go:build unix && !linux

package emulator

import "syscall"

// attributes put the child into a process group of its own, so that kill reaches all of it. A parent that is killed
// leaves it behind: only Linux offers better.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
