package firewall

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// gue is the port of Generic UDP Encapsulation, which our balancers send to.
const gue = 6080

// shape is what packets of a rule look like in one direction, in one IP version.
type shape struct {
	version  int // 4 or 6
	back     bool
	src, dst []netip.Prefix // any when empty
	proto    byte           // any when 0, which no packet passed on has
	sport    []Ports        // any when empty
	dport    []Ports
	icmp     int  // ICMP type, -1 for any
	answer   bool // a TCP segment that does not begin a connection
}

// shapes lists the ways in which a packet can fit the rule.
func (r Rule) shapes(version int) []shape {
	there := shape{version: version, src: ofVersion(r.FromPrefixes, version), dst: ofVersion(r.ToPrefixes, version), icmp: -1}
	back := shape{version: version, back: true, src: there.dst, dst: there.src, icmp: -1}
	switch r.Proto {
	case TCP:
		there.proto, there.dport = unix.IPPROTO_TCP, r.Ports
		back.proto, back.sport, back.answer = unix.IPPROTO_TCP, r.Ports, true
		return []shape{there, back}
	case UDP:
		there.proto, there.dport = unix.IPPROTO_UDP, r.Ports
		back.proto, back.sport = unix.IPPROTO_UDP, r.Ports
		return []shape{there, back}
	case ICMP:
		there.proto, there.icmp = unix.IPPROTO_ICMP, 8
		back.proto, back.icmp = unix.IPPROTO_ICMP, 0
		if version == 6 {
			there.proto, there.icmp = unix.IPPROTO_ICMPV6, 128
			back.proto, back.icmp = unix.IPPROTO_ICMPV6, 129
		}
		return []shape{there, back}
	case IPIP:
		inner6 := there
		there.proto, inner6.proto = unix.IPPROTO_IPIP, unix.IPPROTO_IPV6
		return []shape{there, inner6}
	case GUE:
		there.proto, there.dport = unix.IPPROTO_UDP, []Ports{{gue, gue}}
	}
	return []shape{there}
}

func (s shape) nfproto() byte {
	if s.version == 4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// match is a part of a packet that must lie in one of several ranges.
type match struct {
	load  expr.Any
	key   nftables.SetDatatype
	spans []span
}

func (s shape) ranges() []match {
	key, length, src, dst := nftables.TypeIPAddr, uint32(4), uint32(12), uint32(16)
	if s.version == 6 {
		key, length, src, dst = nftables.TypeIP6Addr, 16, 8, 24
	}
	var all []match
	for _, side := range []struct {
		offset uint32
		list   []netip.Prefix
	}{{src, s.src}, {dst, s.dst}} {
		if len(side.list) > 0 {
			load := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: side.offset, Len: length}
			all = append(all, match{load, key, prefixSpans(side.list)})
		}
	}
	for _, side := range []struct {
		offset uint32
		list   []Ports
	}{{0, s.sport}, {2, s.dport}} {
		if len(side.list) > 0 {
			all = append(all, match{transport(side.offset, 2), nftables.TypeInetService, portSpans(side.list)})
		}
	}
	return all
}

// exact lists what must be equal.
func (s shape) exact() []expr.Any {
	if s.proto == 0 {
		return nil
	}
	exprs := equal(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, s.proto)
	if s.icmp >= 0 {
		exprs = append(exprs, equal(transport(0, 1), byte(s.icmp))...)
	}
	if s.answer {
		const synAck, syn = 0x12, 0x02
		exprs = append(exprs, transport(13, 1),
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{synAck}, Xor: []byte{0}},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{syn}})
	}
	return exprs
}

// span is a range of values in the network's byte order, both ends in it.
type span struct{ first, last []byte }

func prefixSpans(list []netip.Prefix) []span {
	var spans []span
	for _, p := range list {
		first := p.Masked().Addr().AsSlice()
		last := slices.Clone(first)
		for bit := p.Bits(); bit < 8*len(last); bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		spans = append(spans, span{first, last})
	}
	return spans
}

func portSpans(list []Ports) []span {
	var spans []span
	for _, p := range list {
		spans = append(spans, span{binary.BigEndian.AppendUint16(nil, p.First), binary.BigEndian.AppendUint16(nil, p.Last)})
	}
	return spans
}

// merge joins spans that overlap or touch, for the kernel refuses them in one set. All have one length.
func merge(spans []span) []span {
	spans = slices.SortedFunc(slices.Values(spans), func(a, b span) int { return bytes.Compare(a.first, b.first) })
	var merged []span
	for _, s := range spans {
		if n := len(merged); n > 0 {
			after, ok := next(merged[n-1].last)
			if !ok || bytes.Compare(s.first, after) <= 0 {
				if bytes.Compare(s.last, merged[n-1].last) > 0 {
					merged[n-1].last = s.last
				}
				continue
			}
		}
		merged = append(merged, s)
	}
	return merged
}

// next adds one; false when there is no greater value of that length.
func next(value []byte) ([]byte, bool) {
	value = slices.Clone(value)
	for i := len(value) - 1; i >= 0; i-- {
		value[i]++
		if value[i] != 0 {
			return value, true
		}
	}
	return nil, false
}
