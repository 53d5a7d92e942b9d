package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	oneHopPort   = 3784 // RFC 5881 4
	multihopPort = 4784 // RFC 5883 5
	firstPort    = 49152
	ports        = 65536 - firstPort

	networkControl = 0xc0 // DSCP CS6: routers do not drop it behind the traffic that it watches over

	// receiveBuffer holds a second of packets of a thousand sessions at ten a second. The kernel charges each some 800 octets.
	receiveBuffer = 8 << 20
)

// kind is what has a receiving socket of its own.
type kind struct{ six, multihop bool }

func (c *Config) kind() kind { return kind{six: c.Remote.Is6(), multihop: c.Multihop} }

func (k kind) port() int {
	if k.multihop {
		return multihopPort
	}
	return oneHopPort
}

// option is a socket option with a number for its value.
type option struct {
	level, name, value int
	what               string
}

// newSocket opens a UDP socket that never blocks.
func newSocket(six bool, options ...option) (int, error) {
	family := unix.AF_INET
	if six {
		family = unix.AF_INET6
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, "keep to IPv6"})
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a BFD socket: %w", err)
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("%s on a BFD socket: %w", o.what, err)
		}
	}
	return fd, nil
}

func bindPort(fd int, six bool, port int) error {
	if six {
		return unix.Bind(fd, &unix.SockaddrInet6{Port: port})
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Port: port})
}

// listen opens the receiving socket of a kind. Each packet comes with its TTL, link, destination and time of arrival.
func listen(k kind) (*socket, error) {
	options := []option{{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1, "ask for times of arrival"}}
	if k.six {
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1, "ask for hop limits"},
			option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, "ask for destinations"})
	} else {
		options = append(options, option{unix.IPPROTO_IP, unix.IP_RECVTTL, 1, "ask for TTLs"},
			option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1, "ask for destinations"})
	}
	fd, err := newSocket(k.six, options...)
	if err != nil {
		return nil, err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // without the capability, as much as is allowed
	}
	if err := bindPort(fd, k.six, k.port()); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("UDP port %d is taken; stop the other BFD daemon of this host: %w", k.port(), err)
		}
		return nil, fmt.Errorf("listen on UDP port %d: %w", k.port(), err)
	}
	s := &socket{kind: k, file: os.NewFile(uintptr(fd), "bfd")}
	if s.conn, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, fmt.Errorf("poll a BFD socket: %w", err)
	}
	s.prepare()
	return s, nil
}

// sender sends the packets of one session, from a port of its own (RFC 5881 4).
type sender struct {
	fd      int
	to      unix.RawSockaddrInet6 // room for either family
	control []byte                // the link and source address, in the kernel's form
	vector  unix.Iovec
	header  unix.Msghdr
	failed  uint64
	err     error // of the last packet; nil: it went
}

func openSender(c *Config, random func() float64) (*sender, error) {
	// The kernel lets nobody else send to what this socket never reads: the buffer is as small as can be.
	options := []option{{unix.SOL_SOCKET, unix.SO_RCVBUF, 0, "shrink the buffer"}, {unix.SOL_SOCKET, unix.SO_PRIORITY, 6, "set the priority"}}
	if c.Remote.Is6() {
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255, "set the hop limit"},
			option{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, networkControl, "set the traffic class"})
	} else {
		options = append(options, option{unix.IPPROTO_IP, unix.IP_TTL, 255, "set the TTL"},
			option{unix.IPPROTO_IP, unix.IP_TOS, networkControl, "set the TOS"})
	}
	fd, err := newSocket(c.Remote.Is6(), options...)
	if err != nil {
		return nil, err
	}
	for first, i := int(random()*ports), 0; i < ports; i++ {
		if err = bindPort(fd, c.Remote.Is6(), firstPort+(first+i)%ports); !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("take a source port of %d or more: %w", firstPort, err)
	}
	return &sender{fd: fd}, nil
}

// aim fits the sender to the session's addresses and to the present number of its link; 0: any.
func (o *sender) aim(c *Config, link int) {
	port := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, uint16(c.kind().port())))
	if c.Remote.Is6() {
		o.to = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: c.Remote.As16(), Scope_id: uint32(link)}
		o.header.Namelen = unix.SizeofSockaddrInet6
		info := unix.Inet6Pktinfo{Ifindex: uint32(link)}
		if c.Local.IsValid() {
			info.Addr = c.Local.As16()
		}
		o.control = unix.PktInfo6(&info)
		return
	}
	*(*unix.RawSockaddrInet4)(unsafe.Pointer(&o.to)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: c.Remote.As4()}
	o.header.Namelen = unix.SizeofSockaddrInet4
	info := unix.Inet4Pktinfo{Ifindex: int32(link)}
	if c.Local.IsValid() {
		info.Spec_dst = c.Local.As4()
	}
	o.control = unix.PktInfo4(&info)
}

// send gives a packet to the kernel, which never waits; so Go is not told, as of receive.
func (o *sender) send(b []byte) {
	o.vector.Base = &b[0]
	o.vector.SetLen(len(b))
	h := &o.header
	h.Name, h.Iov, h.Control = (*byte)(unsafe.Pointer(&o.to)), &o.vector, &o.control[0]
	h.SetIovlen(1)
	h.SetControllen(len(o.control))
	_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(o.fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if o.err = nil; errno != 0 {
		o.err = errno
		o.failed++
	}
}

func (o *sender) close() { unix.Close(o.fd) }

// linkNumber is the kernel's number of a link; 0 while there is none of the name.
func linkNumber(name string) int {
	if l, err := net.InterfaceByName(name); err == nil {
		return l.Index
	}
	return 0
}

// socket receives the packets of one kind. Its buffers are used with the speaker's lock held.
type socket struct {
	kind kind
	file *os.File
	conn syscall.RawConn
	batch
}

func addr4(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) }

func addr6(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b[:16])).Unmap() }
