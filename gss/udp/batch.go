package udp

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize = 64
	// Buffers that are a power of two apart share few lines of the processor's cache, and of most only the first are used.
	apart       = 64
	controlRoom = 64 // one address takes 40 octets at most
)

// header is the kernel's struct mmsghdr.
type header struct {
	unix.Msghdr
	length uint32
}

// batch is room for what one recvmmsg gives and for the replies, laid out once. The reply to a query uses the query's name
// and control data: the kernel takes an address of ours that it gave as the one to send from.
type batch struct {
	six, any bool
	in, out  [batchSize]header
	vectors  [2][batchSize]unix.Iovec // of the queries and of the replies
	names    [batchSize]name
	controls [batchSize][controlRoom]byte
	queries  [batchSize][MaxQuery + apart]byte
	replies  [batchSize][MaxReply + apart]byte
}

// name is room for the larger of the two families' addresses.
type name [unix.SizeofSockaddrInet6]byte

func newBatch(s *socket) *batch {
	b := &batch{six: s.six, any: s.any}
	for i := range b.in {
		b.vectors[0][i].Base = &b.queries[i][0]
		b.vectors[0][i].SetLen(MaxQuery)
		b.vectors[1][i].Base = &b.replies[i][0]
		for v, h := range []*header{&b.in[i], &b.out[i]} {
			h.Iov = &b.vectors[v][i]
			h.SetIovlen(1)
		}
		b.in[i].Name = &b.names[i][0]
		if s.any {
			b.in[i].Control = &b.controls[i][0]
		}
		b.refresh(i)
	}
	return b
}

// refresh restores what the kernel has written over in a header.
func (b *batch) refresh(i int) {
	b.in[i].Namelen = unix.SizeofSockaddrInet6
	if b.any {
		b.in[i].SetControllen(controlRoom)
	}
}

// receive takes what waits in the socket, up to a batch.
func (b *batch) receive(fd, flags int) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.in[0])), batchSize, uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func sendmmsg(fd int, headers []header) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)),
		unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// query gives the i-th query, or nil and why there is none.
func (b *batch) query(i int) (query []byte, from netip.AddrPort, why Reason) {
	h := &b.in[i]
	if h.Flags&unix.MSG_TRUNC != 0 {
		return nil, from, Oversize
	}
	n := &b.names[i]
	port := binary.BigEndian.Uint16(n[2:])
	if port == 0 {
		return nil, from, NoPort // nobody can be answered there
	}
	if b.six {
		from = netip.AddrPortFrom(netip.AddrFrom16([16]byte(n[8:24])), port)
	} else {
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(n[4:8])), port)
	}
	return b.queries[i][:h.length], from, 0
}

// answer makes the k-th message out a reply of so many octets to the i-th query.
func (b *batch) answer(k, i, size int) {
	in, out := &b.in[i], &b.out[k]
	b.vectors[1][k].SetLen(size)
	out.Name, out.Namelen = in.Name, in.Namelen
	if b.any {
		out.Control = in.Control
		out.SetControllen(ourAddress(b.controls[i][:in.Controllen]))
	}
}

// ourAddress makes of the control data of a query that of its reply, and gives its length. The link of the query is erased
// from it, for routes say where the reply goes, but for an address that means nothing without its link.
func ourAddress(control []byte) int {
	const head, info4, info6 = unix.SizeofCmsghdr, unix.SizeofInet4Pktinfo, unix.SizeofInet6Pktinfo
	if len(control) < head {
		return 0
	}
	c, data := (*unix.Cmsghdr)(unsafe.Pointer(&control[0])), control[head:]
	switch {
	case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_PKTINFO && len(data) >= info4:
		clear(data[:4])
		return len(control)
	case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_PKTINFO && len(data) >= info6:
		if linkLocal := data[0] == 0xfe && data[1]&0xc0 == 0x80; !linkLocal {
			clear(data[16:20])
		}
		return len(control)
	}
	return 0
}
