package imapfront

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// relay waits for what one side says, with a small buffer, and hands it on. If more has come than that holds, a big one
// takes all of it.
func (j *joined) relay(from *tls.Conn, small *[smallRoom]byte, hand func([]byte) error) error {
	n, err := from.Read(small[:])
	if n < smallRoom || err != nil {
		if n > 0 {
			err = cmp.Or(hand(small[:n]), err)
		}
		return err
	}
	big := j.server.bufs.Get().(*[bigRoom]byte)
	defer j.server.bufs.Put(big)
	copy(big[:], small[:])
	// with its time up, Read gives what TLS holds and does not wait; the caller sets the time anew
	if err := from.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	for err == nil && n < bigRoom {
		var more int
		more, err = from.Read(big[n:])
		n += more
	}
	// whatever the error is, if it is one then the next Read gives it too
	return hand(big[:n])
}

func write(to *tls.Conn, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	if err := to.SetWriteDeadline(time.Now().Add(spliceWrite)); err != nil {
		return errUnread
	}
	if _, err := to.Write(text); err != nil {
		return errUnread
	}
	return nil
}

// aside runs f on a goroutine of its own, and waits for it: what f needs of stack goes when f is done.
func aside(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return <-done
}

// socketOf gives the socket of a TCP connection.
func socketOf(conn net.Conn) (syscall.RawConn, error) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("imapfront: %T has no socket", conn)
	}
	return c.SyscallConn()
}

// readable waits until there is something to read, be it the end, or the deadline passes. TLS must hold no whole record.
func readable(socket syscall.RawConn) error {
	var one [1]byte
	return socket.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN
	})
}
