package mailroles

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// silence is how long one who connects may say nothing and not be noticed.
const silence = 5 * time.Second

// onlyTalkers has a listener's process not be woken by those who connect and say nothing (tcp(7), TCP_DEFER_ACCEPT): clients
// of a store speak first, as TLS has it, and each front end looks every second whether the store is there.
func onlyTalkers(ln net.Listener) error {
	socket, ok := ln.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, int(silence/time.Second))
	}); cerr != nil {
		return cerr
	}
	return err
}
