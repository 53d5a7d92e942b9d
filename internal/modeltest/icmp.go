package modeltest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// answerOrFollow answers an echo request, and sends an error where the packets of the flow go that it is about.
func (m *LB) answerOrFollow(p packet) Result {
	address, ours := m.address(p.dst)
	if !ours {
		return pass(p)
	}
	if len(p.l4) < 8 {
		return drop("truncated")
	}
	typ, code := p.l4[0], p.l4[1]
	var echo, isError, neighbour bool
	if p.v6 {
		echo, isError, neighbour = typ == 128, typ >= 1 && typ <= 4, typ >= 133 && typ <= 137
	} else {
		echo, isError = typ == 8, typ == 3 || typ == 11 || typ == 12
	}
	switch {
	case echo && code == 0 && !address.InService:
		return drop("out_of_service")
	case echo && code == 0:
		return m.echo(p)
	case isError:
		return m.follow(p)
	case neighbour:
		return pass(p)
	}
	return drop("icmp_unhandled")
}

// oneHost says whether a source may be answered: RFC 1122 section 3.2.2 and RFC 4443 section 2.4 (e) forbid all others.
func oneHost(src netip.Addr) bool {
	if src.Is4() && (src.As4()[0] == 0 || src.As4()[0] >= 240) {
		return false
	}
	return !src.IsUnspecified() && !src.IsLoopback() && !src.IsMulticast()
}

// echo answers a request. One with options or extension headers would need an answer with others.
func (m *LB) echo(p packet) Result {
	if len(p.ip)-len(p.l4) != headerLen(p.v6) || !oneHost(p.src) {
		return drop("icmp_unhandled")
	}
	out := bytes.Clone(p.frame)
	ip := out[p.link : p.link+len(p.ip)]
	message := ip[len(ip)-len(p.l4):]
	before := be16(message)
	if p.v6 {
		copy(ip[8:], p.ip[24:40])
		copy(ip[24:], p.ip[8:24])
		ip[7] = 64
		message[0] = 129
	} else {
		copy(ip[12:], p.ip[16:20])
		copy(ip[16:], p.ip[12:16])
		ip[8] = 64
		binary.BigEndian.PutUint16(ip[10:], update(be16(ip[10:]), be16(p.ip[8:]), be16(ip[8:])))
		message[0] = 0
	}
	sum := update(be16(message[2:]), before, be16(message))
	if sum == 0 && !p.v6 {
		sum = 0xffff // 0 is wrong for a message of nothing but zeros, which only a reply in IPv4 can be (RFC 1624 section 3)
	}
	binary.BigEndian.PutUint16(message[2:], sum)
	return m.reply(p, out)
}

// reply sends a frame back the way the packet came; out has the Ethernet header and tags of the request.
func (m *LB) reply(p packet, out []byte) Result {
	copy(out, p.frame[6:12])
	copy(out[6:], p.frame[:6])
	m.Replies++
	r := Result{Verdict: TX, Out: out, To: p.ingress}
	if m.ReplyByRedirect {
		r.Verdict = Redirect
	}
	return r
}

// follow sends an ICMP error to the real that sent the packet which it is about.
func (m *LB) follow(p packet) Result {
	flow, ok := embedded(p)
	if !ok || flow.Dst.Addr() != p.dst {
		return drop("bad_inner")
	}
	vip, ok := m.vip(flow)
	if !ok {
		return drop("icmp_unhandled")
	}
	c, reason := m.choose(vip, flow, false)
	if reason != "" {
		return drop(reason)
	}
	return m.send(p, c)
}

// embedded gives the flow of the packet in an ICMP error, as the client sees it. That packet went the other way.
func embedded(p packet) (f Flow, ok bool) {
	b := p.l4[8:]
	var proto uint8
	var ports []byte
	var from, to netip.Addr
	if p.v6 {
		if len(b) < ip6Len || b[0]>>4 != 6 {
			return f, false
		}
		var at *fragment
		var reason string
		if proto, ports, at, reason = walk(b); reason != "" || at != nil && at.offset != 0 {
			return f, false
		}
		from, to = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	} else {
		if len(b) < ipLen || b[0]>>4 != 4 || b[0]&15 < 5 || int(b[0]&15)*4 > len(b) || be16(b[6:])&0x1fff != 0 {
			return f, false
		}
		proto, ports = b[9], b[int(b[0]&15)*4:]
		from, to = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	}
	if proto != protoTCP && proto != protoUDP || len(ports) < 4 {
		return f, false
	}
	return Flow{netip.AddrPortFrom(to, be16(ports[2:])), netip.AddrPortFrom(from, be16(ports)), proto}, true
}

// How much of a packet that is too big goes into the answer.
const embed4, embed6 = 512, 1024

// tooBig answers that a packet does not fit.
func (m *LB) tooBig(p packet, mtu int) Result {
	embed := embed4
	if p.v6 {
		embed = embed6
	}
	if p.icmp() || p.fragment != nil && p.fragment.offset != 0 || len(p.ip) < embed || !oneHost(p.src) {
		return drop("too_big")
	}
	out := bytes.Clone(p.frame[:p.link])
	quoted := p.ip[:embed]
	if p.v6 {
		message := binary.BigEndian.AppendUint32([]byte{2, 0, 0, 0}, uint32(mtu))
		ip := header6(p.dst, p.src, 0, 0, 64, protoICMP6, len(message)+embed)
		pseudo := binary.BigEndian.AppendUint32(bytes.Clone(ip[8:40]), uint32(len(message)+embed))
		pseudo = append(pseudo, 0, 0, 0, protoICMP6)
		binary.BigEndian.PutUint16(message[2:], checksum(pseudo, message, quoted))
		out = append(append(out, ip...), message...)
	} else {
		message := binary.BigEndian.AppendUint16([]byte{3, 4, 0, 0, 0, 0}, uint16(mtu))
		binary.BigEndian.PutUint16(message[2:], checksum(message, quoted))
		out = append(append(out, header4(p.dst, p.src, 0, 64, protoICMP, len(message)+embed)...), message...)
	}
	r := m.reply(p, append(out, quoted...))
	r.TooBig = true
	return r
}
