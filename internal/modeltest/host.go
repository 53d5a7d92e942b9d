package modeltest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// Hop is the way to another real.
type Hop struct {
	Ifindex        uint32
	DstMAC, SrcMAC [6]byte
}

// Host is the state of a real: what is asked of the program real.
type Host struct {
	Own, VIPs map[[16]byte]bool // IPv4 as ::ffff:a.b.c.d
	Hops      map[[16]byte]Hop  // to a real that is not named here, packets go back the way they came

	RedirectAlways bool // the ingress does not transmit by TX

	Fragments map[FragmentKey]bool // of packets with a second hop: whether the first went on to it
	Here, On  Count                // what was taken off, and what went on to its second hop
	Drops     map[string]uint64
}

// NewHost gives a real with addresses of its own and addresses of VIPs.
func NewHost(own, vips []netip.Addr) *Host {
	h := &Host{Own: map[[16]byte]bool{}, VIPs: map[[16]byte]bool{}, Hops: map[[16]byte]Hop{}, Fragments: map[FragmentKey]bool{}, Drops: map[string]uint64{}}
	for _, a := range own {
		h.Own[a.As16()] = true
	}
	for _, a := range vips {
		h.VIPs[a.As16()] = true
	}
	return h
}

// HostResult is what becomes of a frame at a real.
type HostResult struct {
	Verdict Verdict
	Reason  string
	Out     []byte
	To      uint32 // the interface that it leaves by, if it does
}

// outerPacket is a tunnel's packet.
type outerPacket struct {
	frame    []byte
	link     int
	v6       bool
	dst      netip.Addr
	tos, ttl uint8
	end      int    // of the outer packet in the frame
	inner    int    // where the inner packet begins
	proto    uint8  // of the inner packet
	second   []byte // address of the second hop
	gue      int    // where the GUE header begins
}

// Forget empties what the program keeps about fragments.
func (h *Host) Forget() { h.Fragments = map[FragmentKey]bool{} }

// Run gives what becomes of a frame.
func (h *Host) Run(frame []byte) HostResult {
	r := h.run(frame)
	if r.Verdict == Drop {
		h.Drops[r.Reason]++
	}
	return r
}

func (h *Host) run(frame []byte) HostResult {
	left := HostResult{Verdict: Pass, Out: frame}
	if len(frame) < ethLen {
		return left
	}
	o := outerPacket{frame: frame, link: ethLen}
	for tags := 0; tags < 2 && isTag(be16(frame[o.link-2:])); tags++ {
		if o.link += tagLen; len(frame) < o.link {
			return left
		}
	}
	var reason string
	ours := false
	switch be16(frame[o.link-2:]) {
	case etherIPv4:
		ours, reason = h.outer4(&o)
	case etherIPv6:
		ours, reason = h.outer6(&o)
	}
	switch {
	case !ours:
		return left
	case reason != "":
		return HostResult{Verdict: Drop, Reason: reason}
	}
	return h.take(o)
}

// outer4 says whether a packet is one of a tunnel that ends here, or would have to.
func (h *Host) outer4(o *outerPacket) (ours bool, reason string) {
	b := o.frame[o.link:]
	if len(b) < ipLen {
		return false, ""
	}
	o.dst, o.tos, o.ttl = netip.AddrFrom4([4]byte(b[16:20])), b[1], b[8]
	header, total, where := int(b[0]&15)*4, int(be16(b[2:])), be16(b[6:])
	o.end = o.link + total
	switch b[9] {
	case proto4in, proto6in:
		o.proto, o.inner = b[9], o.link+header
	case protoUDP:
		o.gue = o.link + header + 8
		if !h.Own[o.dst.As16()] || where&0x3fff != 0 || b[0] != 0x45 || total < header || total > len(b) || !o.isGUE() {
			return false, ""
		}
	default:
		return false, ""
	}
	switch {
	case b[0]>>4 != 4 || header < ipLen || total < header:
		return true, "bad_header"
	case total > len(b):
		return true, "truncated"
	case !h.Own[o.dst.As16()]:
		return true, "not_own"
	case where&0x3fff != 0:
		return true, "fragment"
	case header != ipLen:
		return true, "bad_header"
	}
	return true, o.privateData()
}

func (h *Host) outer6(o *outerPacket) (ours bool, reason string) {
	b := o.frame[o.link:]
	if len(b) < ip6Len {
		return false, ""
	}
	o.v6, o.dst, o.ttl = true, netip.AddrFrom16([16]byte(b[24:40])), b[7]
	o.tos = b[0]<<4 | b[1]>>4
	o.end = o.link + ip6Len + int(be16(b[4:]))
	switch b[6] {
	case proto4in, proto6in:
		o.proto, o.inner = b[6], o.link+ip6Len
	case protoUDP:
		o.gue = o.link + ip6Len + 8
		if !h.Own[o.dst.As16()] || b[0]>>4 != 6 || o.end > len(o.frame) || !o.isGUE() {
			return false, ""
		}
	default:
		return false, ""
	}
	switch {
	case b[0]>>4 != 6:
		return true, "bad_header"
	case o.end > len(o.frame):
		return true, "truncated"
	case !h.Own[o.dst.As16()]:
		return true, "not_own"
	}
	return true, o.privateData()
}

// isGUE says whether a datagram is GUE of variant 0 with an IP packet and no flags: anything else is somebody else's.
func (o *outerPacket) isGUE() bool {
	if min(len(o.frame), o.end) < o.gue+4 {
		return false
	}
	b := o.frame[o.gue-8:]
	o.proto, o.inner = b[9], o.gue+4+int(b[8])*4
	return be16(b[2:]) == guePort && b[8]&0xe0 == 0 && (b[9] == proto4in || b[9] == proto6in) && be16(b[10:]) == 0
}

// privateData reads what comes after the GUE header: a second hop, or something that is not for us.
func (o *outerPacket) privateData() (reason string) {
	switch {
	case o.gue == 0:
		return ""
	case o.inner > o.end:
		return "bad_inner"
	}
	private := o.frame[o.gue+4 : o.inner]
	if len(private) == 8 && be32(private)>>8 == 0x010104 || len(private) == 20 && be32(private)>>8 == 0x010106 {
		o.second = private[4:]
	}
	return ""
}

// take gives the inner packet to the host, or on to the second hop.
func (h *Host) take(o outerPacket) HostResult {
	p, ok := innerPacket(o)
	switch {
	case !ok:
		return HostResult{Verdict: Drop, Reason: "bad_inner"}
	case !h.VIPs[p.dst.As16()]:
		return HostResult{Verdict: Drop, Reason: "not_vip"}
	case o.second != nil && h.goesOn(p):
		return h.onward(o, p)
	}
	tos, ok := joinTOS(o.tos, p.tos())
	if !ok {
		return HostResult{Verdict: Drop, Reason: "ecn"}
	}
	h.Here.Packets++
	h.Here.Bytes += uint64(len(p.ip))
	kind := uint16(etherIPv4)
	if p.v6 {
		kind = etherIPv6
	}
	out := binary.BigEndian.AppendUint16(bytes.Clone(o.frame[:o.link-2]), kind)
	at := len(out)
	out = append(out, o.frame[o.inner:]...)
	ip := out[at : at+len(p.ip)]
	ttl := min(p.ttl(), o.ttl)
	if p.v6 {
		ip[0], ip[1], ip[7] = 0x60|tos>>4, tos<<4|ip[1]&15, ttl
		return HostResult{Verdict: Pass, Out: out}
	}
	sum := be16(ip[10:])
	for _, field := range []struct {
		at    int
		value uint8
	}{{1, tos}, {8, ttl}} {
		word := field.at &^ 1
		before := be16(ip[word:])
		ip[field.at] = field.value
		sum = update(sum, before, be16(ip[word:]))
	}
	binary.BigEndian.PutUint16(ip[10:], sum)
	return HostResult{Verdict: Pass, Out: out}
}

// joinTOS gives the class of the packet that comes out: the outer DSCP (RFC 2983), and the ECN of RFC 6040, figure 4.
func joinTOS(outer, inner uint8) (uint8, bool) {
	const notECT, ect1, ect0, ce = 0, 1, 2, 3
	o, i := outer&3, inner&3
	switch {
	case o == ce && i == notECT:
		return 0, false
	case o == ce:
		i = ce
	case o == ect1 && i == ect0:
		i = ect1
	}
	return outer&^3 | i, true
}

// innerPacket reads the inner packet, which must be whole.
func innerPacket(o outerPacket) (packet, bool) {
	p := packet{frame: o.frame, link: o.inner, v6: o.proto == proto6in}
	if o.end < o.inner {
		return p, false
	}
	b := o.frame[o.inner:o.end]
	switch {
	case o.proto == proto4in:
		if len(b) < ipLen || b[0]>>4 != 4 || b[0]&15 < 5 || be16(b[2:]) < uint16(b[0]&15)*4 || int(be16(b[2:])) > len(b) {
			return p, false
		}
		p.ip, p.dst, p.src = b[:be16(b[2:])], netip.AddrFrom4([4]byte(b[16:20])), netip.AddrFrom4([4]byte(b[12:16]))
		p.proto, p.l4 = b[9], p.ip[int(b[0]&15)*4:]
		if where := be16(b[6:]) & 0x3fff; where != 0 {
			p.fragment = &fragment{uint32(be16(b[4:])), int(where&0x1fff) * 8}
		}
		return p, true
	case p.v6:
		if len(b) < ip6Len || b[0]>>4 != 6 || ip6Len+int(be16(b[4:])) > len(b) {
			return p, false
		}
		p.ip, p.dst, p.src = b[:ip6Len+int(be16(b[4:]))], netip.AddrFrom16([16]byte(b[24:40])), netip.AddrFrom16([16]byte(b[8:24]))
		var reason string
		if p.proto, p.l4, p.fragment, reason = walk(p.ip); reason != "" {
			p.proto = 59 // nothing that any socket could want, and the host's to judge
		}
		return p, true
	}
	return p, false
}

// goesOn says whether a packet with a second hop goes there when no socket here wants it.
func (h *Host) goesOn(p packet) bool {
	if p.fragment != nil && p.fragment.offset != 0 {
		return h.Fragments[p.fragmentKey()]
	}
	on := false
	switch {
	case p.proto == protoTCP && len(p.l4) >= 20:
		on = p.l4[13]&0x12 != 0x02
	case p.icmp() && len(p.l4) >= 8:
		typ := p.l4[0]
		if p.v6 && typ >= 1 && typ <= 4 || !p.v6 && (typ == 3 || typ == 11 || typ == 12) {
			flow, ok := embedded(p)
			on = ok && flow.Proto == protoTCP
		}
	}
	if p.fragment != nil {
		h.Fragments[p.fragmentKey()] = on
	}
	return on
}

// onward sends the packet to its second hop: without the private data, and one hop older. No socket here wants it, as
// there is none in a test run.
func (h *Host) onward(o outerPacket, p packet) HostResult {
	if o.ttl <= 1 {
		return HostResult{Verdict: Drop, Reason: "ttl_expired"}
	}
	second, _ := netip.AddrFromSlice(o.second)
	if second.Is4() == o.v6 {
		return HostResult{Verdict: Drop, Reason: "no_route"}
	}
	r := HostResult{Verdict: TX, To: Ingress}
	out := append(bytes.Clone(o.frame[6:12]), o.frame[:6]...)
	if hop, ok := h.Hops[second.As16()]; ok {
		r.To = hop.Ifindex
		out = append(bytes.Clone(hop.DstMAC[:]), hop.SrcMAC[:]...)
	}
	if r.To != Ingress || h.RedirectAlways {
		r.Verdict = Redirect
	}
	out = append(out, o.frame[12:o.link]...)

	size := uint16(len(o.second) + 4)
	head := bytes.Clone(o.frame[o.link : o.gue+4])
	udp := head[len(head)-12:]
	binary.BigEndian.PutUint16(udp[4:], be16(udp[4:])-size)
	udp[8] = 0
	if o.v6 {
		binary.BigEndian.PutUint16(head[4:], be16(head[4:])-size)
		head[7]--
		copy(head[24:], o.second)
	} else {
		binary.BigEndian.PutUint16(head[2:], be16(head[2:])-size)
		head[8]--
		copy(head[16:], o.second)
		head[10], head[11] = 0, 0
		binary.BigEndian.PutUint16(head[10:], checksum(head[:ipLen]))
	}
	r.Out = append(append(out, head...), o.frame[o.inner:]...)
	h.On.Packets++
	h.On.Bytes += uint64(len(p.ip))
	return r
}
