package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/netnstest"

	"golang.org/x/sys/unix"
)

// listen opens a TCP listener on loopback that lives as long as the test.
func listen(t testing.TB, address string) (net.Listener, netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln, ln.Addr().(*net.TCPAddr).AddrPort()
}

// option reads an option of a probe's socket.
func option(t *testing.T, conn net.Conn, level, name int) (value int) {
	t.Helper()
	raw, err := conn.(*boundConn).Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), level, name) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return value
}

func TestSocketsAreMarkedAndBound(t *testing.T) {
	netnstest.Root(t)
	_, four := listen(t, "127.0.0.1:0")
	_, six := listen(t, "[::1]:0")
	for name, tc := range map[string]struct {
		network string
		addr    netip.AddrPort
		source  string
	}{
		"tcp4": {"tcp", four, "127.0.0.9"}, "udp4": {"udp", four, "127.0.0.9"},
		"tcp6": {"tcp", six, "::1"}, "udp6": {"udp", six, "::1"},
	} {
		t.Run(name, func(t *testing.T) {
			target := Target{Addr: tc.addr, Mark: 0x0ac00007, Source: netip.MustParseAddr(tc.source), Config: &Config{Timeout: time.Minute}}
			conn, err := target.dial(t.Context(), tc.network)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if mark := option(t, conn, unix.SOL_SOCKET, unix.SO_MARK); mark != 0x0ac00007 {
				t.Errorf("mark is %#x", mark)
			}
			if from, err := netip.ParseAddrPort(conn.LocalAddr().String()); err != nil || from.Addr() != target.Source {
				t.Errorf("the socket is bound to %v, want %v", conn.LocalAddr(), target.Source)
			}
		})
	}
}

func TestSourceThatIsNotHere(t *testing.T) {
	_, addr := listen(t, "127.0.0.1:0")
	target := Target{Addr: addr, Source: netip.MustParseAddr("192.0.2.99"), Config: &Config{Timeout: time.Minute}}
	if _, err := target.dial(t.Context(), "tcp"); !errors.Is(err, syscall.EADDRNOTAVAIL) || ours(err) {
		t.Errorf("error is %v, want that the address is not available, as evidence", err)
	}
}

// A read ends with its context, and so does one that begins after it.
func TestConnectionEndsWithItsContext(t *testing.T) {
	_, addr := listen(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	target := Target{Addr: addr, Config: &Config{Timeout: time.Second}}
	conn, err := target.dial(ctx, "tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	cancel()
	if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) || cause(err, time.Second).Error() != "no answer within 1s" {
		t.Errorf("the read ends with %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write after the end gives %v", err)
	}
}
