package link

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A store that is gone without a word, or whose address is another host's by now, is noticed within about 4 s: of what is
// sent to it nothing is acknowledged, or it does not answer probes.
const (
	deafTime   = 4 * time.Second
	probeAfter = 2 * time.Second // of silence
	probeEvery = time.Second
	probeCount = 2
)

// Dialer gives what opens connections to stores within a time, such that notice that the store is gone.
func Dialer(within time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout: within,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: probeAfter, Interval: probeEvery, Count: probeCount,
		},
		Control: deaf,
	}
}

// deaf bounds how long what is sent may stay unacknowledged (tcp(7), TCP_USER_TIMEOUT).
func deaf(_, _ string, socket syscall.RawConn) error {
	var err error
	if cerr := socket.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deafTime/time.Millisecond))
	}); cerr != nil {
		return cerr
	}
	return err
}
