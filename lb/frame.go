package lb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Of the headers that an explanation writes and reads.
const (
	ethLen, tagLen         = 14, 4
	ip4Len, ip6Len         = 20, 40
	tcpLen, udpLen         = 20, 8
	gueLen, hopLen         = 4, 4
	etherIP4, etherIP6     = 0x0800, 0x86dd
	etherTag, etherTagS    = 0x8100, 0x88a8
	protoICMP, protoICMP6  = 1, 58
	protoTCP, protoUDP     = 6, 17
	protoIPinIP, protoIPv6 = 4, 41
	guePort                = 6080
	questionTTL            = 64
)

// asker is who a packet that is only asked about comes from: an address of documentation, RFC 7042.
var asker = [6]byte{0x00, 0x00, 0x5e, 0x00, 0x53, 0x01}

// frame gives the packet as it comes in, in a frame towards the interface with that address.
func (q Question) frame(to net.HardwareAddr) []byte {
	b := append([]byte(nil), to...)
	b = append(b, asker[:]...)
	src, dst := q.From.Addr(), q.To.Addr()
	payload := q.Size - ip4Len
	if dst.Is6() {
		payload = q.Size - ip6Len
		b = binary.BigEndian.AppendUint16(b, etherIP6)
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(payload))
		b = append(b, q.proto(), questionTTL)
		b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	} else {
		b = binary.BigEndian.AppendUint16(b, etherIP4)
		at := len(b)
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(q.Size))
		b = append(b, 0, 0, 0x40, 0, questionTTL, q.proto(), 0, 0) // do not fragment
		b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
		binary.BigEndian.PutUint16(b[at+10:], checksum(b[at:]))
	}
	return append(b, q.transport(payload)...)
}

// transport gives what is behind the IP header.
func (q Question) transport(size int) []byte {
	b := make([]byte, size)
	at := 6 // of the checksum
	switch q.proto() {
	case protoICMP, protoICMP6:
		b[0], at = 8, 2
		if q.proto() == protoICMP6 {
			b[0] = 128
		}
	case protoUDP:
		binary.BigEndian.PutUint16(b[4:], uint16(size))
	default:
		binary.BigEndian.PutUint32(b[4:], 1)
		b[12], b[13], at = tcpLen/4<<4, 0x02, 16
		if !q.SYN {
			b[11], b[13] = 1, 0x10
		}
		binary.BigEndian.PutUint16(b[14:], 0xffff)
	}
	if q.Protocol != EchoRequest {
		binary.BigEndian.PutUint16(b, q.From.Port())
		binary.BigEndian.PutUint16(b[2:], q.To.Port())
	}
	sum := checksum(q.pseudo(size), b)
	if sum == 0 && q.proto() == protoUDP {
		sum = 0xffff // 0 would say that there is none
	}
	binary.BigEndian.PutUint16(b[at:], sum)
	return b
}

// pseudo gives what a checksum covers beside the packet's payload.
func (q Question) pseudo(size int) []byte {
	if q.proto() == protoICMP {
		return nil
	}
	b := append(q.From.Addr().AsSlice(), q.To.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	return append(b, 0, 0, 0, q.proto())
}

// checksum is that of RFC 1071. All parts but the last have an even length.
func checksum(parts ...[]byte) uint16 {
	sum := uint32(0)
	for _, b := range parts {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) > 0 {
			sum += uint32(b[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// header is what a frame says of its way.
type header struct {
	source, nextHop [6]byte
	vlans           []int // outermost first
	from, to        netip.Addr
	size            int // of the IP packet
	proto           uint8
	second          netip.Addr // the hop that GUE carries beside to
	tooBig          int        // MTU, if it is the ICMP message that a packet is too big
}

var errShort = errors.New("the frame ends too early")

// readFrame reads what the program made of a frame. With gue, UDP to GUE's port is GUE, and else a client's packet.
func readFrame(b []byte, gue bool) (header, error) {
	var h header
	if len(b) < ethLen {
		return h, errShort
	}
	copy(h.nextHop[:], b)
	copy(h.source[:], b[6:])
	ether := binary.BigEndian.Uint16(b[12:])
	b = b[ethLen:]
	for ether == etherTag || ether == etherTagS {
		if len(b) < tagLen || len(h.vlans) == 2 {
			return h, errShort
		}
		h.vlans = append(h.vlans, int(binary.BigEndian.Uint16(b)&0xfff))
		ether = binary.BigEndian.Uint16(b[2:])
		b = b[tagLen:]
	}
	switch {
	case ether == etherIP4 && len(b) >= ip4Len && int(b[0]&0xf)*4 >= ip4Len && len(b) >= int(b[0]&0xf)*4:
		h.from, h.to = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		h.size, h.proto = int(binary.BigEndian.Uint16(b[2:])), b[9]
		return h, h.readTransport(b[int(b[0]&0xf)*4:], gue)
	case ether == etherIP6 && len(b) >= ip6Len:
		h.from, h.to = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		h.size, h.proto = int(binary.BigEndian.Uint16(b[4:]))+ip6Len, b[6]
		return h, h.readTransport(b[ip6Len:], gue)
	case ether == etherIP4 || ether == etherIP6:
		return h, errShort
	}
	return h, fmt.Errorf("ethertype %#04x is not IP", ether)
}

func (h *header) readTransport(b []byte, gue bool) error {
	switch {
	case h.proto == protoICMP && len(b) >= 8 && b[0] == 3 && b[1] == 4:
		h.tooBig = int(binary.BigEndian.Uint16(b[6:]))
	case h.proto == protoICMP6 && len(b) >= 8 && b[0] == 2:
		h.tooBig = int(binary.BigEndian.Uint32(b[4:]))
	case gue && h.proto == protoUDP && len(b) >= udpLen+gueLen && binary.BigEndian.Uint16(b[2:]) == guePort:
		return h.readHops(b[udpLen:])
	}
	return nil
}

// readHops reads the private data of a GUE header, which has the second hop if there is one.
func (h *header) readHops(b []byte) error {
	size := int(b[0]&0x1f) * 4
	b = b[gueLen:]
	if size == 0 {
		return nil
	}
	if len(b) < size || size < hopLen {
		return errShort
	}
	switch family, addr := b[2], b[hopLen:size]; {
	case family == 4 && len(addr) == 4, family == 6 && len(addr) == 16:
		h.second, _ = netip.AddrFromSlice(addr)
		return nil
	}
	return errors.New("private data that is no second hop")
}
