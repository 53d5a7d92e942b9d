package modeltest

import (
	"encoding/binary"
	"net/netip"
)

// Own gives the addresses of a real that has one of each family.
func (w *World) Own() []netip.Addr {
	return []netip.Addr{w.LB.Reals[firstGUE4].Addr, w.LB.Reals[firstGUE6].Addr}
}

// The first reals of kind GUE of each family, by index.
const firstGUE4, firstGUE6, guesPerFamily = 13, 19, 6

// NewHost gives the host of a real, on which all VIPs of the world are. It knows the way to some reals of its kind.
func (w *World) NewHost() *Host {
	h := NewHost(w.Own(), w.addresses)
	mac := func(n byte) [6]byte { return [6]byte{0, 0, 0x5e, 0, 0x53, n} }
	for i := range uint16(3) {
		for _, first := range []uint16{firstGUE4, firstGUE6} {
			h.Hops[w.LB.Reals[first+1+i].Addr.As16()] = Hop{Ifindex: []uint32{Ingress, Other, Ingress}[i], DstMAC: mac(200 + byte(i)), SrcMAC: mac(3)}
		}
	}
	return h
}

// NextAtReal gives a frame as it comes to a real, or worse.
func (s *Source) NextAtReal() []byte {
	if s.in(20) {
		return s.Next()
	}
	inner, v6 := s.packet()
	proto := uint8(proto4in)
	if v6 {
		proto = proto6in
	}
	outer := header{plain: !s.in(6), src: netip.MustParseAddr("198.51.100.1"), dst: s.world.LB.Reals[firstGUE4].Addr}
	first := uint16(firstGUE4)
	if s.in(2) {
		first = firstGUE6
		outer.src, outer.dst = netip.MustParseAddr("2001:db8:2::1"), s.world.LB.Reals[firstGUE6].Addr
	}
	if s.in(20) { // another's
		outer.dst = s.world.LB.Reals[first+1].Addr
	}
	if s.in(40) {
		outer.frag, outer.more = &fragment{id: 9, offset: 8 * s.IntN(2)}, s.in(2)
	}
	outer.proto = proto
	if !s.in(3) {
		inner, outer.proto = s.gue(proto, first, inner), protoUDP
	}
	return s.spoil(s.ethernet(outer.dst.Is6(), s.ip(outer, inner)))
}

// gue gives a datagram with a packet in it, and most often with a second hop.
func (s *Source) gue(proto uint8, first uint16, inner []byte) []byte {
	var private []byte
	switch s.IntN(8) {
	case 0:
	case 1:
		private = make([]byte, 4*s.IntN(8))
		copy(private, []byte{1, 1, 4})
	case 2:
		private = secondHop(s.world.LB.Reals[uint16(firstGUE4+s.IntN(2*guesPerFamily))].Addr)
	default:
		private = secondHop(s.world.LB.Reals[first+uint16(s.IntN(guesPerFamily))].Addr)
	}
	b := binary.BigEndian.AppendUint16(nil, 0xc000|uint16(s.Uint32()))
	b = binary.BigEndian.AppendUint16(b, guePort)
	b = binary.BigEndian.AppendUint16(b, uint16(12+len(private)+len(inner)))
	b = append(b, 0, 0, byte(len(private)/4), proto, 0, 0)
	return append(append(b, private...), inner...)
}
