package modeltest

import (
	"math/rand/v2"
	"net/netip"
)

// Source gives random frames for a world: half as a network would carry them, the others cut or mangled.
type Source struct {
	*rand.Rand
	world *World
	noise []byte
}

// NewSource gives the same frames for the same world and numbers.
func NewSource(w *World, rnd *rand.Rand) *Source {
	return &Source{Rand: rnd, world: w, noise: noise(rnd)}
}

// Longest is the Longest frame that a source gives: a page has to hold it, with room before and after.
const Longest = 3000

// Next gives another frame.
func (s *Source) Next() []byte {
	return s.spoil(s.Good())
}

// spoil cuts or mangles a frame, or lets it be.
func (s *Source) spoil(frame []byte) []byte {
	switch s.IntN(10) {
	case 0:
		frame = s.cut(frame)
	case 1, 2, 3, 4:
		for range 1 + s.IntN(3) {
			frame = s.mangle(frame)
		}
		if s.in(8) {
			frame = s.cut(frame)
		}
	}
	return frame[:min(len(frame), Longest)]
}

// Good gives a frame that is whole.
func (s *Source) Good() []byte {
	ip, v6 := s.packet()
	return s.ethernet(v6, ip)
}

// packet gives an IP packet as clients send it, and says whether it is of version 6.
func (s *Source) packet() (ip []byte, v6 bool) {
	vip, client := s.target()
	switch s.IntN(10) {
	case 0:
		ip = s.ip(header{src: client, dst: vip.Addr, proto: pick(s, otherProtocols)}, s.payload(s.IntN(80)))
	case 1, 2:
		ip = s.fragment(vip, client)
	case 3:
		ip = s.message(vip, client)
	case 4, 5:
		ip = s.aboutFlow(vip, client)
	default:
		ip = s.segment(vip, client)
	}
	return ip, vip.Addr.Is6()
}

// otherProtocols are none of the balancer's business, or not in this family.
var otherProtocols = []uint8{2, 4, 41, 47, 50, 59, 89, 103, 132, 1, 58, 255}

// target gives a VIP, or something near one, and a client of its family.
func (s *Source) target() (VIPKey, netip.Addr) {
	vip := pick(s, s.world.vips)
	switch s.IntN(12) {
	case 0:
		vip.Port = uint16(s.Uint32())
	case 1:
		vip.Proto ^= protoTCP ^ protoUDP
	case 2:
		vip.Addr = pick(s, s.world.addresses)
	case 3:
		vip.Addr = pick(s, strangers)
	}
	if vip.Addr.Is4() {
		return vip, netip.AddrFrom4([4]byte{192, 0, 2, byte(s.IntN(20) * 3)})
	}
	client := netip.MustParseAddr("2001:db8::").As16()
	client[5], client[15] = byte(0xc0+s.IntN(4)), byte(s.IntN(8))
	return vip, netip.AddrFrom16(client)
}

// strangers are no VIPs' addresses; the last is one written in IPv6.
var strangers = []netip.Addr{
	netip.MustParseAddr("203.0.113.200"), netip.MustParseAddr("198.51.100.101"), netip.MustParseAddr("2001:db8:1::200"),
	netip.MustParseAddr("2001:db8:2::65"), netip.MustParseAddr("::ffff:203.0.113.10"),
}

// port gives a client's port: few enough for flows to be met again.
func (s *Source) port() uint16 { return uint16(40000 + s.IntN(24)) }

// size gives the length of a payload under headers of a length: mostly little, and sometimes what just fits a real.
func (s *Source) size(headers int) int {
	switch s.IntN(24) {
	case 0, 1:
		return max(0, pick(s, s.world.sizes)-headers+s.IntN(5)-2)
	case 2:
		return s.IntN(2400)
	}
	return s.IntN(40)
}

func (s *Source) segment(vip VIPKey, client netip.Addr) []byte {
	l4 := map[bool]int{true: 20, false: 8}[vip.Proto == protoTCP]
	b := s.transport(vip.Proto, s.port(), vip.Port, s.payload(s.size(headerLen(vip.Addr.Is6())+l4)))
	return s.ip(header{src: client, dst: vip.Addr, proto: vip.Proto}, b)
}

// fragment gives a first or a later one, of few packets, so that they meet.
func (s *Source) fragment(vip VIPKey, client netip.Addr) []byte {
	h := header{src: client, dst: vip.Addr, proto: vip.Proto, frag: &fragment{id: uint32(s.IntN(4))}, more: true}
	if s.in(20) {
		h.proto = pick(s, []uint8{protoICMP, protoICMP6, destination, fragmentHeader, 50})
	}
	size := s.size(headerLen(vip.Addr.Is6()) + 20)
	if s.in(2) {
		return s.ip(h, s.transport(vip.Proto, s.port(), vip.Port, s.payload(size)))
	}
	h.frag.offset = 8 * (1 + s.IntN(8191))
	h.more = s.in(2)
	return s.ip(h, s.payload(size))
}

// message gives an ICMP message that is about no packet.
func (s *Source) message(vip VIPKey, client netip.Addr) []byte {
	h, typ := header{src: client, dst: vip.Addr, proto: protoICMP}, byte(8)
	if vip.Addr.Is6() {
		h.proto, typ = protoICMP6, 128
	}
	code := byte(0)
	if s.in(3) {
		typ, code = pick(s, []byte{0, 5, 8, 9, 13, 127, 128, 129, 130, 133, 134, 135, 136, 137, 138, 143, byte(s.Uint32())}), byte(s.IntN(2))
	}
	b := append([]byte{typ, code, byte(s.Uint32()), byte(s.Uint32())}, s.payload(4+s.IntN(100))...)
	if s.in(10) {
		b[2] = byte(0xff * s.IntN(2)) // a sum of 0 or of 0xffff
		b[3] = b[2]
	}
	return s.ip(h, b)
}

// aboutFlow gives an ICMP error about a packet that a real sent for a VIP.
func (s *Source) aboutFlow(vip VIPKey, client netip.Addr) []byte {
	v6 := vip.Addr.Is6()
	inner := header{src: vip.Addr, dst: client, proto: vip.Proto}
	switch s.IntN(16) {
	case 0:
		inner.src = pick(s, s.world.addresses)
		if inner.src.Is6() != v6 {
			inner.src = client
		}
	case 1:
		inner.proto = pick(s, otherProtocols)
	case 2:
		inner.frag, inner.more = &fragment{id: 5, offset: 8 * s.IntN(2)}, s.in(2)
	}
	packet := s.ip(inner, s.transport(vip.Proto, vip.Port, s.port(), s.payload(s.IntN(60))))
	if s.in(2) {
		packet = packet[:min(len(packet), headerLen(v6)+s.IntN(30))]
	}
	outer, typ := header{src: client, dst: vip.Addr, proto: protoICMP}, pick(s, []byte{3, 3, 11, 12, 4, 5})
	if s.in(2) { // a router on the way says it
		outer.src = netip.MustParseAddr("192.0.2.254")
	}
	if v6 {
		outer.proto, typ = protoICMP6, pick(s, []byte{1, 2, 2, 3, 4, 0, 5})
		if outer.src.Is4() {
			outer.src = netip.MustParseAddr("2001:db8:cf::1")
		}
	}
	b := append([]byte{typ, byte(s.IntN(5)), byte(s.Uint32()), byte(s.Uint32()), 0, 0, 5, 120}, packet...)
	if s.in(12) {
		b = append(b, s.payload(s.size(len(b)+headerLen(v6)))...)
	}
	return s.ip(outer, b)
}
