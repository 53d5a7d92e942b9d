package bfd

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize   = 32
	dataRoom    = 256 // a packet says its length in one octet
	controlRoom = 128 // TTL, destination and time take 104 octets at most
)

// batch is room for what one recvmmsg gives, laid out once.
type batch struct {
	headers  [batchSize]header
	vectors  [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6 // the largest of the two families
	data     [batchSize][dataRoom]byte
	controls [batchSize][controlRoom]byte

	read time.Time // when the batch before was read
}

// header is the kernel's struct mmsghdr.
type header struct {
	unix.Msghdr
	length uint32
}

// message is a packet with what the kernel says of it.
type message struct {
	kind     kind
	src, dst netip.Addr
	link     int // number of the link that it came in by
	ttl      int // -1: the kernel did not say
	at       time.Time
	data     []byte
}

func (b *batch) prepare() {
	for i := range b.headers {
		b.vectors[i].Base = &b.data[i][0]
		b.vectors[i].SetLen(dataRoom)
		h := &b.headers[i].Msghdr
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Control = &b.controls[i][0]
	}
}

// receive takes what waits in the socket, up to a batch, and gives the number of packets. Go is not told of the call, as it
// never waits: for each call that might, a process that was asleep has a second thread look after it.
func (b *batch) receive(fd uintptr) int {
	for i := range b.headers {
		b.headers[i].Namelen = unix.SizeofSockaddrInet6
		b.headers[i].SetControllen(controlRoom)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.headers[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0 // nothing there, or an error that says nothing about a packet; the next arrival wakes us again
	}
	return int(n)
}

// message gives the i-th packet. The moment of its arrival is on the clock of now; if the wall clock was set meanwhile, the
// kernel's stamp means nothing and the packet counts as of now.
func (b *batch) message(i int, k kind, now time.Time, clockSet bool) message {
	h := &b.headers[i]
	m := message{kind: k, ttl: -1, at: now, data: b.data[i][:min(h.length, dataRoom)]}
	name := (*[unix.SizeofSockaddrInet6]byte)(unsafe.Pointer(&b.names[i]))
	if k.six {
		m.src = addr6(name[8:])
	} else {
		m.src = addr4(name[4:])
	}
	for rest := b.controls[i][:min(h.Controllen, controlRoom)]; len(rest) >= unix.SizeofCmsghdr; {
		c, value, next, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			break
		}
		rest = next
		m.control(&c, value, now, clockSet)
	}
	return m
}

func (m *message) control(c *unix.Cmsghdr, value []byte, now time.Time, clockSet bool) {
	native := binary.NativeEndian
	switch {
	case c.Level == unix.SOL_SOCKET && c.Type == unix.SO_TIMESTAMPNS && len(value) >= 16:
		stamp := time.Unix(int64(native.Uint64(value)), int64(native.Uint64(value[8:])))
		if waited := now.Sub(stamp); waited > 0 && !clockSet {
			m.at = now.Add(-waited)
		}
	case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_TTL && len(value) >= 4,
		c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_HOPLIMIT && len(value) >= 4:
		m.ttl = int(native.Uint32(value))
	case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_PKTINFO && len(value) >= 12:
		m.link, m.dst = int(native.Uint32(value)), addr4(value[8:])
	case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_PKTINFO && len(value) >= 20:
		m.link, m.dst = int(native.Uint32(value[16:])), addr6(value)
	}
}

// clockWasSet reports whether the wall clock was moved since the batch before, and remembers now.
func (b *batch) clockWasSet(now time.Time) bool {
	const slew = 10 * time.Millisecond // what an NTP client may move it by in the seconds between two batches
	before := b.read
	b.read = now
	if before.IsZero() {
		return false
	}
	return (now.Sub(before) - now.Round(0).Sub(before.Round(0))).Abs() > slew
}
