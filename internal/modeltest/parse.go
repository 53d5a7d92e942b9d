package modeltest

import "net/netip"

// packet is a frame as far as it was understood.
type packet struct {
	frame    []byte
	ingress  uint32
	link     int    // where the IP packet begins
	ip       []byte // the IP packet, as long as it says it is
	v6       bool
	src, dst netip.Addr
	proto    uint8
	l4       []byte // what comes after the IP headers
	fragment *fragment
}

// fragment is what a packet that is one says about it.
type fragment struct {
	id     uint32
	offset int
}

func (p packet) icmp() bool { return p.proto == protoICMP && !p.v6 || p.proto == protoICMP6 && p.v6 }

// trailer is what comes after the IP packet.
func (p packet) trailer() []byte { return p.frame[p.link+len(p.ip):] }

func (p packet) ttl() uint8 {
	if p.v6 {
		return p.ip[7]
	}
	return p.ip[8]
}

// tos gives the type of service or the traffic class.
func (p packet) tos() uint8 {
	if p.v6 {
		return p.ip[0]<<4 | p.ip[1]>>4
	}
	return p.ip[1]
}

const ethLen, tagLen, ipLen, ip6Len = 14, 4, 20, 40

func headerLen(v6 bool) int {
	if v6 {
		return ip6Len
	}
	return ipLen
}

// parse goes as far as the transport header.
func (m *LB) parse(frame []byte) (packet, Result) {
	p := packet{frame: frame, link: ethLen}
	if len(frame) < ethLen {
		return p, pass(p)
	}
	for tags := 0; tags < 2 && isTag(be16(frame[p.link-2:])); tags++ {
		p.link += tagLen
		if len(frame) < p.link {
			return p, drop("truncated")
		}
	}
	switch be16(frame[p.link-2:]) {
	case etherIPv4:
		return m.parse4(p)
	case etherIPv6:
		return m.parse6(p)
	}
	return p, pass(p) // a third tag among others
}

func isTag(kind uint16) bool { return kind == 0x8100 || kind == 0x88a8 }

func (m *LB) parse4(p packet) (packet, Result) {
	b := p.frame[p.link:]
	if len(b) < ipLen {
		return p, drop("truncated")
	}
	p.src, p.dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	header, total := int(b[0]&15)*4, int(be16(b[2:]))
	switch {
	case b[0]>>4 != 4 || header < ipLen || total < header:
		return p, m.refuse(p, "bad_header")
	case total > len(b):
		return p, m.refuse(p, "truncated")
	}
	p.proto, p.ip, p.l4 = b[9], b[:total], b[header:total]
	if p.proto != protoICMP && p.proto != protoTCP && p.proto != protoUDP {
		return p, pass(p)
	}
	if where := be16(b[6:]) & 0x3fff; where != 0 { // more fragments, or an offset
		p.fragment = &fragment{id: uint32(be16(b[4:])), offset: int(where&0x1fff) * 8}
	}
	return p, Result{}
}

func (m *LB) parse6(p packet) (packet, Result) {
	b := p.frame[p.link:]
	if len(b) < ip6Len {
		return p, drop("truncated")
	}
	p.v6 = true
	p.src, p.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	total := ip6Len + int(be16(b[4:]))
	switch {
	case b[0]>>4 != 6:
		return p, m.refuse(p, "bad_header")
	case total > len(b):
		return p, m.refuse(p, "truncated")
	}
	p.ip = b[:total]
	var reason string
	if p.proto, p.l4, p.fragment, reason = walk(p.ip); reason != "" {
		return p, m.refuse(p, reason)
	}
	if p.proto != protoICMP6 && p.proto != protoTCP && p.proto != protoUDP {
		return p, pass(p)
	}
	return p, Result{}
}

// The extension headers that are walked over, and how many of them.
const (
	hopByHop, routing, fragmentHeader, auth, destination = 0, 43, 44, 51, 60

	maxHeaders = 8
)

func extension(proto uint8) bool {
	switch proto {
	case hopByHop, routing, fragmentHeader, auth, destination:
		return true
	}
	return false
}

// walk goes over the extension headers of an IPv6 packet to what comes after them. In a later fragment that is the
// middle of something. A reason says why it could not.
func walk(ip []byte) (proto uint8, rest []byte, f *fragment, reason string) {
	proto, rest = ip[6], ip[ip6Len:]
	for n := 0; extension(proto); n++ {
		if n == maxHeaders {
			return 0, nil, nil, "ext_header"
		}
		size := headerSize(proto, rest)
		if size == 0 || size > len(rest) {
			return 0, nil, nil, "truncated"
		}
		h := rest[:size]
		proto0 := proto
		proto, rest = h[0], rest[size:]
		switch proto0 {
		case routing:
			if h[3] != 0 { // segments left: the destination is not the final one
				return 0, nil, nil, "ext_header"
			}
		case fragmentHeader:
			offset, more := int(be16(h[2:])&^7), h[3]&1 != 0
			if offset == 0 && !more { // atomic (RFC 6946)
				continue
			}
			f = &fragment{id: be32(h[4:]), offset: offset}
			if offset == 0 {
				continue
			}
			if extension(proto) {
				return 0, nil, nil, "ext_header"
			}
			return proto, rest, f, ""
		}
	}
	return proto, rest, f, ""
}

// headerSize gives the size that an extension header says it has, 0 if that cannot be read.
func headerSize(proto uint8, b []byte) int {
	switch {
	case proto == fragmentHeader:
		return 8
	case len(b) < 2:
		return 0
	case proto == auth:
		return (int(b[1]) + 2) * 4
	}
	return (int(b[1]) + 1) * 8
}
