package gss

import (
	"encoding/binary"
	"errors"

	"github.com/miekg/dns"
)

// transport is what a query came over.
type transport string

const (
	overUDP transport = "udp"
	overTCP transport = "tcp"
)

const (
	headerSize = 12   // RFC 1035 section 4.1.1
	plainSize  = 512  // of a UDP reply without EDNS0: RFC 1035 section 4.2.1
	ednsSize   = 1232 // of a UDP reply with it: fits IPv6's smallest MTU, so no reply is ever a fragment
)

// Bits of the third byte of a header.
const (
	bitQR      = 1 << 7
	maskOpcode = 0xf << 3
	bitRD      = 1
)

// query is a well-formed question.
type query struct {
	id       uint16
	wantsRD  bool
	question dns.Question
	opt      *dns.OPT // nil without EDNS0
}

var errMalformed = errors.New("malformed query")

// respond gives the reply to a message and its response code; nil when the message deserves none. It has no effect
// but its result, and does not keep wire.
func (z *zone) respond(wire []byte, via transport, d *decision) (reply []byte, rcode int, err error) {
	if len(wire) < headerSize || wire[2]&bitQR != 0 {
		return nil, 0, nil // two servers that answered each other's responses would never stop
	}
	if wire[2]&maskOpcode != dns.OpcodeQuery<<3 {
		return headerOnly(wire, dns.RcodeNotImplemented), dns.RcodeNotImplemented, nil
	}
	q, err := parse(wire)
	if err != nil {
		return headerOnly(wire, dns.RcodeFormatError), dns.RcodeFormatError, nil
	}
	m := z.answer(q, d)
	reply, err = pack(m, q.limit(via))
	return reply, m.Rcode, err
}

// headerOnly answers a message whose question cannot be trusted or does not matter.
func headerOnly(wire []byte, rcode int) []byte {
	reply := make([]byte, headerSize)
	copy(reply, wire[:2])
	reply[2] = bitQR | wire[2]&(maskOpcode|bitRD)
	reply[3] = byte(rcode)
	return reply
}

func parse(wire []byte) (query, error) {
	var m dns.Msg
	if err := m.Unpack(wire); err != nil {
		return query{}, errMalformed
	}
	// the library takes a message that ends before its counts are met; RFC 1035 does not
	for i, n := range []int{len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)} {
		if int(binary.BigEndian.Uint16(wire[4+2*i:])) != n {
			return query{}, errMalformed
		}
	}
	if len(m.Question) != 1 {
		return query{}, errMalformed
	}
	q := query{id: m.Id, wantsRD: m.RecursionDesired, question: m.Question[0]}
	for _, rr := range m.Extra {
		opt, ok := rr.(*dns.OPT)
		if !ok {
			continue
		}
		if q.opt != nil || opt.Hdr.Name != "." {
			return query{}, errMalformed // RFC 6891 sections 6.1.1 and 6.1.2
		}
		q.opt = opt
	}
	return q, nil
}

// limit is the size that the reply may have.
func (q query) limit(via transport) int {
	switch {
	case via == overTCP:
		return dns.MaxMsgSize
	case q.opt == nil:
		return plainSize
	}
	return min(max(int(q.opt.UDPSize()), plainSize), ednsSize)
}

// answer gives the whole reply, of whatever size.
func (z *zone) answer(q query, d *decision) *dns.Msg {
	m := &dns.Msg{Question: []dns.Question{q.question}}
	m.Id, m.Response, m.RecursionDesired = q.id, true, q.wantsRD
	if q.opt != nil {
		opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		opt.SetUDPSize(ednsSize)
		opt.SetDo(q.opt.Do()) // RFC 3225 section 3
		m.Extra = []dns.RR{opt}
	}
	qtype := q.question.Qtype
	switch {
	case q.opt != nil && q.opt.Version() != 0:
		m.Rcode = dns.RcodeBadVers
	case q.question.Qclass != dns.ClassINET,
		qtype == dns.TypeAXFR, qtype == dns.TypeIXFR,
		!z.contains(dns.CanonicalName(q.question.Name)):
		m.Rcode = dns.RcodeRefused
	default:
		z.lookup(m, qtype, d)
	}
	return m
}

// lookup answers for a name in the zone: RFC 1034 section 4.3.2 without delegations and wildcards. The first owner is
// the name as it was asked, so that a resolver that mixes the case of its letters to thwart forgers gets them back.
func (z *zone) lookup(m *dns.Msg, qtype uint16, d *decision) {
	m.Authoritative = true
	owner := m.Question[0].Name
	for range maxChain {
		n, ok := z.nodes[dns.CanonicalName(owner)]
		if !ok {
			m.Rcode = dns.RcodeNameError
			m.Ns = []dns.RR{z.soa}
			return
		}
		alias := n.records[dns.TypeCNAME]
		if len(alias) == 0 || qtype == dns.TypeCNAME {
			z.fill(m, n, owner, qtype, d)
			return
		}
		m.Answer = append(m.Answer, owned(alias, owner)...)
		if qtype == dns.TypeANY {
			return
		}
		owner = alias[0].(*dns.CNAME).Target
		if !z.contains(dns.CanonicalName(owner)) {
			return // the resolver goes on from here
		}
	}
}

// fill answers from the node where the chain of aliases ends.
func (z *zone) fill(m *dns.Msg, n *node, owner string, qtype uint16, d *decision) {
	var set []dns.RR
	if qtype == dns.TypeANY && (n.group != "" || len(n.records) > 0) {
		set = []dns.RR{&dns.HINFO{Hdr: z.header(owner, dns.TypeHINFO), Cpu: "RFC8482"}} // section 4.2
	} else {
		set = z.set(n, owner, qtype, d)
	}
	if len(set) == 0 {
		m.Ns = []dns.RR{z.soa}
		return
	}
	m.Answer = append(m.Answer, set...)
	if qtype == dns.TypeNS {
		m.Extra = append(m.Extra, z.glue(set, d)...)
	}
}

// set gives the node's records of one type.
func (z *zone) set(n *node, owner string, rrtype uint16, d *decision) []dns.RR {
	if rrtype != dns.TypeA || n.group == "" {
		return owned(n.records[rrtype], owner)
	}
	var set []dns.RR
	for _, a := range d.addresses[n.group] {
		set = append(set, &dns.A{Hdr: z.header(owner, dns.TypeA), A: a.AsSlice()})
	}
	return set
}

// glue gives the addresses of the name servers in the zone.
func (z *zone) glue(servers []dns.RR, d *decision) []dns.RR {
	var rrs []dns.RR
	for _, rr := range servers {
		name := rr.(*dns.NS).Ns
		if n := z.nodes[dns.CanonicalName(name)]; n != nil {
			rrs = append(rrs, z.set(n, name, dns.TypeA, d)...)
			rrs = append(rrs, z.set(n, name, dns.TypeAAAA, d)...)
		}
	}
	return rrs
}

// owned copies records with another spelling of their owner.
func owned(rrs []dns.RR, owner string) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = owner
	}
	return out
}

// pack gives the message in at most limit bytes. Glue is left out in silence when it does not fit (RFC 2181
// section 9); when the rest does not fit either, TC sends the resolver to TCP.
func pack(m *dns.Msg, limit int) ([]byte, error) {
	m.Compress = true
	wire, err := m.Pack()
	if err != nil || len(wire) <= limit {
		return wire, err
	}
	opt := m.IsEdns0()
	m.Extra = nil
	if opt != nil {
		m.Extra = []dns.RR{opt}
	}
	if wire, err = m.Pack(); err != nil || len(wire) <= limit {
		return wire, err
	}
	m.Answer, m.Ns, m.Truncated = nil, nil, true
	return m.Pack()
}
