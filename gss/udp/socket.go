package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is one of those that share an address.
type socket struct {
	fd     int
	six    bool
	any    bool // of an unspecified address: the kernel says which address was asked
	number int  // among all of the server
	local  netip.AddrPort
	counts counts
	sendAs func(fd int, headers []header) (sent int, err error) // sendmmsg, but in tests

	mu     sync.Mutex
	closed bool
}

type option struct {
	level, name, value int
	what               string
}

func (s *socket) options() []option {
	list := []option{{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "share the port"}}
	// OMIT: ICMP errors do not make replies smaller, so nobody can forge one, and then fragments
	if s.six {
		list = append(list, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, "keep to IPv6"},
			option{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT, "ignore path MTUs"})
		if s.any {
			list = append(list, option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, "ask for destinations"})
		}
		return list
	}
	list = append(list, option{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT, "ignore path MTUs"})
	if s.any {
		list = append(list, option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1, "ask for destinations"})
	}
	return list
}

// openSocket opens a blocking socket on an address.
func openSocket(at netip.AddrPort, number, buffer int) (_ *socket, err error) {
	s := &socket{six: at.Addr().Is6(), any: at.Addr().IsUnspecified(), number: number, sendAs: sendmmsg}
	family := unix.AF_INET
	if s.six {
		family = unix.AF_INET6
	}
	if s.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open a UDP socket: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(s.fd)
		}
	}()
	for _, o := range s.options() {
		if err := unix.SetsockoptInt(s.fd, o.level, o.name, o.value); err != nil {
			return nil, fmt.Errorf("%s on a UDP socket: %w", o.what, err)
		}
	}
	// a reply waits that long for room in the queue of its link
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: sendPatience}); err != nil {
		return nil, fmt.Errorf("bound the wait for room to send: %w", err)
	}
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer) // without the capability, as much as is allowed
	}
	if err := unix.Bind(s.fd, sockaddr(at)); err != nil {
		return nil, bindError(at, err)
	}
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return nil, fmt.Errorf("ask for the address of a UDP socket: %w", err)
	}
	s.local = addrPort(name)
	return s, nil
}

// sendPatience is in microseconds.
const sendPatience = 100_000

func bindError(at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		err = fmt.Errorf("%w: no interface of this node has it", err)
	case errors.Is(err, unix.EADDRINUSE):
		err = fmt.Errorf("%w: another program, or another user's, answers there", err)
	}
	return fmt.Errorf("answer on UDP %v: %w", at, err)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: linkNumber(a.Addr().Zone())}
}

// linkNumber is the kernel's number of a zone, which is a number already or the name of a link; 0: there is none.
func linkNumber(zone string) uint32 {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	if l, err := net.InterfaceByName(zone); err == nil {
		return uint32(l.Index)
	}
	return 0
}

func addrPort(name unix.Sockaddr) netip.AddrPort {
	switch n := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(n.Addr), uint16(n.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(n.Addr), uint16(n.Port))
	}
	return netip.AddrPort{}
}

// wake ends the wait for queries. It is no error that the socket is not connected: readers are woken all the same.
func (s *socket) wake() { _ = unix.Shutdown(s.fd, unix.SHUT_RD) }

// leave takes the socket out of those that the kernel chooses from: a connected one gets nothing but what its peer sends, and
// there is none. What it holds can still be read. If there is no way to nowhere, it stays, and the last queries may be lost.
func (s *socket) leave() {
	nowhere := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), discardPort)
	if s.six {
		nowhere = netip.AddrPortFrom(netip.IPv6Loopback(), discardPort)
	}
	_ = unix.Connect(s.fd, sockaddr(nowhere))
}

const discardPort = 9

func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		unix.Close(s.fd)
	}
	s.closed = true
}

func (s *socket) drop(why Reason) { s.counts.dropped[why].Add(1) }

// send sends replies, and gives how many could not be sent. One that cannot is lost, as a packet may be on any link: the
// resolver asks again. Those after it are sent.
func (s *socket) send(out []header) (lost int) {
	for refused := false; len(out) > 0; {
		n, err := s.sendAs(s.fd, out)
		switch {
		case err == nil:
			out, refused = out[n:], false
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECONNREFUSED) && !refused:
			refused = true // an error of something that was sent before, told now; this reply has not been tried
		default:
			s.drop(sendReason(err))
			out, refused = out[1:], false
			lost++
		}
	}
	return lost
}

// overflowed gives how many queries the kernel has thrown away for want of room in the socket.
func (s *socket) overflowed() uint64 {
	const soMeminfo, drops, values = 55, 8, 9 // SO_MEMINFO and SK_MEMINFO_DROPS of linux/sock_diag.h
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0
	}
	var info [values]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, soMeminfo,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return uint64(info[drops])
}
