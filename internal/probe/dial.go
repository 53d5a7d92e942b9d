package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// control marks and prepares a socket of the target before it is bound and connected.
func (t *Target) control(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		if err = t.mark(int(fd)); err != nil || !t.Source.IsValid() {
			return
		}
		// with it the kernel picks a port that is free towards this target, not one that is free towards all
		if err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			err = fmt.Errorf("prepare to bind: %w", err)
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}

func (t *Target) mark(fd int) error {
	if t.Mark == 0 {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(t.Mark)); err != nil {
		return fmt.Errorf("mark the socket (needs CAP_NET_ADMIN): %w", err)
	}
	return nil
}

// dial opens a socket to the target. Reads and writes end when ctx does. A close resets a TCP connection, so that
// neither this machine nor the target keeps TIME_WAIT for it.
func (t *Target) dial(ctx context.Context, network string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	if t.Mark != 0 || t.Source.IsValid() {
		d.Control = t.control
	}
	if t.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.Source, 0))
		if network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(t.Source, 0))
		}
	}
	conn, err := d.DialContext(ctx, network, t.Addr.String())
	if err != nil {
		return nil, cause(err, t.Config.Timeout)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			conn.Close()
			return nil, fmt.Errorf("set linger: %w", err)
		}
	}
	return endsWith(ctx, conn), nil
}

// boundConn is a connection whose reads and writes end with a context.
type boundConn struct {
	net.Conn
	release func() bool
}

func endsWith(ctx context.Context, conn net.Conn) net.Conn {
	return &boundConn{conn, context.AfterFunc(ctx, func() {
		// its only error is that conn is closed already
		_ = conn.SetDeadline(time.Unix(1, 0))
	})}
}

// Close closes the connection and lets go of the context.
func (c *boundConn) Close() error {
	c.release()
	return c.Conn.Close()
}
