package connection

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// The kernel probes connections that are dialed.
func TestDialedConnectionsAreProbed(t *testing.T) {
	t.Parallel()
	w := &watch{silence: testSilence, begun: time.Now(), conns: make(map[ends]*conn)}
	listener := listen(t)
	defer listener.Close() //nolint:errcheck // the end of the test
	dialed, err := w.dial(t.Context(), listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close() //nolint:errcheck // the end of the test
	raw, err := dialed.(*conn).Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		for name, option := range map[string]struct{ level, number, want int }{
			"SO_KEEPALIVE":  {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
			"TCP_KEEPIDLE":  {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
			"TCP_KEEPINTVL": {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 5},
			"TCP_KEEPCNT":   {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3},
		} {
			if got, err := syscall.GetsockoptInt(int(fd), option.level, option.number); err != nil || got != option.want {
				t.Errorf("%s is %d, want %d (%v)", name, got, option.want, err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
