package sockets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What package unix lacks of linux/sock_diag.h and linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	attrFilter       = 1  // INET_DIAG_REQ_BYTECODE, of a request
	attrMemory       = 7  // INET_DIAG_SKMEMINFO, of an answer
	attrOnlyIPv6     = 11 // INET_DIAG_SKV6ONLY
	memoryDrops      = 8  // SK_MEMINFO_DROPS, index in it

	requestSize = 56 // struct inet_diag_req_v2
	answerSize  = 72 // struct inet_diag_msg
)

// patience bounds the wait for one answer of the kernel.
var patience = unix.Timeval{Sec: 5}

// query says which sockets are asked for.
type query struct {
	family, proto uint8
	states        uint32 // one bit each
	memory        bool   // drops are wanted, too
	filter        []byte
}

// socket is one answer.
type socket struct {
	state          uint8
	local, remote  netip.AddrPort // never IPv4 in the IPv6 form
	cookie         uint64
	rqueue, wqueue uint32
	inode          uint32
	onlyIPv6       bool
	drops          uint32
}

func (q query) bytes() []byte {
	size := unix.NLMSG_HDRLEN + requestSize
	if len(q.filter) > 0 {
		size += unix.SizeofRtAttr + len(q.filter)
	}
	b := make([]byte, unix.NLMSG_HDRLEN+requestSize, size)
	native := binary.NativeEndian
	native.PutUint32(b, uint32(size))
	native.PutUint16(b[4:], sockDiagByFamily)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request := b[unix.NLMSG_HDRLEN:]
	request[0], request[1] = q.family, q.proto
	if q.memory {
		request[2] = 1 << (attrMemory - 1)
	}
	native.PutUint32(request[4:], q.states)
	if len(q.filter) > 0 {
		b = native.AppendUint16(b, uint16(unix.SizeofRtAttr+len(q.filter)))
		b = native.AppendUint16(b, attrFilter)
		b = append(b, q.filter...)
	}
	return b
}

// dump calls visit for each socket that answers a query.
func (r *Reader) dump(q query, visit func(socket) error) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("open a socket for socket diagnosis: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return fmt.Errorf("set a time limit: %w", err)
	}
	if err := unix.Sendto(fd, q.bytes(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask for sockets: %w", err)
	}
	for {
		n, _, err := unix.Recvfrom(fd, r.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the list of sockets: %w", err)
		}
		done, err := parse(r.buf[:n], visit)
		if errors.Is(err, unix.ENOENT) {
			return errors.New("the kernel has no socket diagnosis for TCP and UDP; load modules tcp_diag and udp_diag")
		}
		if done || err != nil {
			return err
		}
	}
}

// parse reads what the kernel sends at a time, and says whether the list is at its end.
func parse(b []byte, visit func(socket) error) (done bool, err error) {
	native := binary.NativeEndian
	for len(b) >= unix.NLMSG_HDRLEN {
		size, kind := int(native.Uint32(b)), native.Uint16(b[4:])
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			break
		}
		msg := b[unix.NLMSG_HDRLEN:size]
		switch kind {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			if len(msg) >= 4 {
				if code := int32(native.Uint32(msg)); code < 0 {
					return true, unix.Errno(-code)
				}
			}
			return true, nil
		case sockDiagByFamily:
			s, ok := parseSocket(msg)
			if !ok {
				return true, errors.New("the kernel answers in a form that is not known")
			}
			if err := visit(s); err != nil {
				return true, err
			}
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	if len(b) > 0 {
		return true, errors.New("the kernel's answer is cut short")
	}
	return false, nil
}

func parseSocket(b []byte) (s socket, ok bool) {
	if len(b) < answerSize {
		return s, false
	}
	native := binary.NativeEndian
	s.state = b[1]
	localAddr, ok1 := address(b[0], b[8:24])
	remoteAddr, ok2 := address(b[0], b[24:40])
	if !ok1 || !ok2 {
		return s, false
	}
	s.local = netip.AddrPortFrom(localAddr, binary.BigEndian.Uint16(b[4:]))
	s.remote = netip.AddrPortFrom(remoteAddr, binary.BigEndian.Uint16(b[6:]))
	s.cookie = uint64(native.Uint32(b[48:]))<<32 | uint64(native.Uint32(b[44:]))
	s.rqueue, s.wqueue = native.Uint32(b[56:]), native.Uint32(b[60:])
	s.inode = native.Uint32(b[68:])
	for b = b[answerSize:]; len(b) >= unix.SizeofRtAttr; {
		size, kind := int(native.Uint16(b)), native.Uint16(b[2:])
		if size < unix.SizeofRtAttr || size > len(b) {
			return s, false
		}
		switch value := b[unix.SizeofRtAttr:size]; {
		case kind == attrOnlyIPv6 && len(value) == 1:
			s.onlyIPv6 = value[0] != 0
		case kind == attrMemory && len(value) >= 4*(memoryDrops+1):
			s.drops = native.Uint32(value[4*memoryDrops:])
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return s, true
}

func address(family uint8, b []byte) (netip.Addr, bool) {
	switch family {
	case unix.AF_INET:
		return netip.AddrFrom4([4]byte(b)), true
	case unix.AF_INET6:
		return netip.AddrFrom16([16]byte(b)).Unmap(), true
	}
	return netip.Addr{}, false
}
