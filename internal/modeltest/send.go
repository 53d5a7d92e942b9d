package modeltest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// send gives the packet to a real.
func (m *LB) send(p packet, c Choice) Result {
	real, ok := m.Reals[c.Real]
	switch {
	case !ok || !real.Addr.IsValid():
		return drop("no_real")
	case real.Ifindex == 0:
		return drop("no_next_hop")
	case p.ttl() <= 1:
		return drop("ttl_expired")
	}
	var private []byte
	if second := m.Reals[c.Second]; second.Addr.IsValid() {
		private = secondHop(second.Addr)
	}
	over := overhead(real, private)
	if len(p.ip)+over > int(real.MTU) {
		return m.tooBig(p, int(real.MTU)-over)
	}
	inner := older(p)
	packet, kind := encapsulate(p, inner, real, private, c.Hash)

	out := append(bytes.Clone(real.DstMAC[:]), real.SrcMAC[:]...)
	for _, tag := range real.Tags {
		out = binary.BigEndian.AppendUint16(out, tag.Proto)
		out = binary.BigEndian.AppendUint16(out, tag.TCI)
	}
	out = binary.BigEndian.AppendUint16(out, kind)
	out = append(append(out, packet...), p.trailer()...)

	count := m.Counts[c.VIP]
	m.Counts[c.VIP] = Count{count.Packets + 1, count.Bytes + uint64(len(p.ip))}
	r := Result{Verdict: Redirect, Out: out, To: real.Ifindex, Real: c.Real, Second: c.Second}
	if real.Ifindex == p.ingress && !real.Redirect {
		r.Verdict = TX
	}
	return r
}

// older gives the IP packet one hop further.
func older(p packet) []byte {
	b := bytes.Clone(p.ip)
	if p.v6 {
		b[7]--
		return b
	}
	before := be16(b[8:])
	b[8]--
	binary.BigEndian.PutUint16(b[10:], update(be16(b[10:]), before, be16(b[8:])))
	return b
}

// secondHop gives the private data of GUE.
func secondHop(a netip.Addr) []byte {
	if a.Is4() {
		return append([]byte{1, 1, 4, 0}, a.AsSlice()...)
	}
	return append([]byte{1, 1, 6, 0}, a.AsSlice()...)
}

// overhead gives how much longer the packet gets.
func overhead(real Real, private []byte) int {
	n := ip6Len
	if real.Addr.Is4() {
		n = ipLen
	}
	switch real.Kind {
	case L2:
		return 0
	case GUE:
		return n + 8 + 4 + len(private)
	}
	return n
}

// encapsulate gives what the real gets, and its ethertype.
func encapsulate(p packet, inner []byte, real Real, private []byte, hash uint64) ([]byte, uint16) {
	what, kind := byte(proto4in), uint16(etherIPv4)
	if p.v6 {
		what, kind = proto6in, etherIPv6
	}
	switch real.Kind {
	case L2:
		return inner, kind
	case GUE:
		b := binary.BigEndian.AppendUint16(nil, 0xc000|uint16(hash&0x3fff))
		b = binary.BigEndian.AppendUint16(b, guePort)
		b = binary.BigEndian.AppendUint16(b, uint16(8+4+len(private)+len(inner)))
		b = append(b, 0, 0)                             // no checksum
		b = append(b, byte(len(private)/4), what, 0, 0) // variant 0, data, no flags
		inner = append(append(b, private...), inner...)
		what = protoUDP
	}
	old := packet{ip: p.ip, v6: p.v6}
	ttl, tos := old.ttl()-1, old.tos()
	if real.Addr.Is4() {
		return append(header4(real.Source, real.Addr, tos, ttl, what, len(inner)), inner...), etherIPv4
	}
	return append(header6(real.Source, real.Addr, tos, uint32(hash)>>12, ttl, what, len(inner)), inner...), etherIPv6
}

// header4 gives an IPv4 header with identification 0, not to be fragmented.
func header4(src, dst netip.Addr, tos, ttl, proto uint8, payload int) []byte {
	b := []byte{0x45, tos}
	b = binary.BigEndian.AppendUint16(b, uint16(ipLen+payload))
	b = append(b, 0, 0, 0x40, 0, ttl, proto, 0, 0)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return b
}

func header6(src, dst netip.Addr, class uint8, label uint32, limit, next uint8, payload int) []byte {
	b := binary.BigEndian.AppendUint32(nil, 6<<28|uint32(class)<<20|label)
	b = binary.BigEndian.AppendUint16(b, uint16(payload))
	b = append(b, next, limit)
	return append(append(b, src.AsSlice()...), dst.AsSlice()...)
}
