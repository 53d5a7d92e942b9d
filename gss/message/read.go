package message

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Bits of the third and fourth byte of a header.
const (
	bitQR      = 1 << 7
	maskOpcode = 0xf << 3
	bitRD      = 1
	bitAD      = 1 << 5
	bitCD      = 1 << 4
)

// maxCarried bounds the records that a NOTIFY or an IXFR query may carry; honest ones have one.
const maxCarried = 4

// verdict is how Read answers by itself; the zero verdict leaves the query to others.
type verdict struct {
	final bool
	rcode int
	why   uint16   // EDE code; 0 for none
	about []dns.RR // the answer section
	tc    bool
}

func say(rcode int) verdict { return verdict{final: true, rcode: rcode} }

// Read reads a message that came from the address at the time. It gives one of three things. A reason: the message gets
// no reply. A reply: it goes out as it is, and the Query, which may lack what could not be read, is for metrics and
// limits. Otherwise a Query to answer. Read does not keep wire.
func (e *Edge) Read(wire []byte, via Transport, from netip.AddrPort, now time.Time) (*Query, []byte, Reason) {
	switch {
	case len(wire) < headerSize:
		return nil, nil, Short
	case wire[2]&bitQR != 0:
		return nil, nil, IsReply
	case via == UDP && from.Port() == 0:
		return nil, nil, NoPort
	}
	q := &Query{
		ID: binary.BigEndian.Uint16(wire), Opcode: int(wire[2]&maskOpcode) >> 3,
		RD: wire[2]&bitRD != 0, AD: wire[3]&bitAD != 0, CD: wire[3]&bitCD != 0,
		Via: via, From: from,
	}
	v := e.judge(q, wire, now)
	if !v.final {
		return q, nil, ""
	}
	return q, e.reply(q, v), ""
}

// judge fills in the query and says what Read has to answer by itself.
func (e *Edge) judge(q *Query, wire []byte, now time.Time) verdict {
	known := q.Opcode == dns.OpcodeQuery || q.Opcode == dns.OpcodeNotify
	p := parts{walker: walker{wire: wire, off: headerSize}}
	sound := p.read(q)
	if p.hasOPT {
		q.takeOPT(p.opt)
	}
	if !known {
		// the flags and the sections may mean something else under another opcode, so nothing of them is repeated
		q.RD, q.CD, q.asked = false, false, false
	}
	switch {
	case sound && p.hasOPT && version(p.opt) != 0:
		return say(dns.RcodeBadVers) // RFC 6891 section 6.1.3; options of another version may mean anything
	case !known:
		return say(dns.RcodeNotImplemented)
	case !sound:
		return say(dns.RcodeFormatError)
	case p.hasOPT && !e.takeOptions(q, p.opt.data, now):
		return say(dns.RcodeFormatError)
	case !q.asked:
		return q.withoutQuestion()
	case !p.carried(q):
		return say(dns.RcodeFormatError)
	case e.cfg.RequireCookie && e.cookies != nil && q.Opcode == dns.OpcodeQuery && !q.Trusted():
		return q.wantCookie()
	}
	return e.byClassAndType(q)
}

// Sections of records, in their order.
const (
	answer = iota
	authority
	additional
)

// parts is what lies in a message, found without giving records a meaning.
type parts struct {
	walker
	sections [2][]record // answer and authority; at most maxCarried of each
	counts   [3]int
	opt      record
	hasOPT   bool
}

// read finds the question and the records, and says whether the message is sound as a whole: counts that are met, nothing
// after the last record, OPT and TSIG where they may stand. The OPT record is found in an unsound message too, if it
// comes before the fault.
func (p *parts) read(q *Query) bool {
	questions := int(binary.BigEndian.Uint16(p.wire[4:]))
	sound := questions <= 1 // RFC 9619
	for range questions {
		at, ok := p.question()
		if !ok {
			return false
		}
		if questions == 1 {
			q.ask(p.wire, at)
		}
	}
	for s := range p.counts {
		p.counts[s] = int(binary.BigEndian.Uint16(p.wire[6+2*s:]))
		for i := range p.counts[s] {
			r, ok := p.record()
			if !ok {
				return false
			}
			if s < len(p.sections) && i < maxCarried {
				p.sections[s] = append(p.sections[s], r)
			}
			last := s == additional && i == p.counts[s]-1
			sound = p.place(q, r, s, last) && sound
		}
	}
	return sound && p.off == len(p.wire)
}

// place looks at a record that may not stand anywhere, and keeps it.
func (p *parts) place(q *Query, r record, section int, last bool) bool {
	switch r.rrtype {
	case dns.TypeOPT:
		if section != additional || !r.root || p.hasOPT {
			return false // RFC 6891 sections 6.1.1 and 6.1.2
		}
		p.opt, p.hasOPT = r, true
	case dns.TypeTSIG:
		if !last || r.class != dns.ClassANY || r.ttl != 0 {
			return false // RFC 8945 sections 4.2 and 5.1
		}
		rr, ok := p.unpackOne(r)
		if !ok {
			return false
		}
		q.TSIG, q.Signed = rr.(*dns.TSIG), bytes.Clone(p.wire)
	}
	return true
}

// carried unpacks the records that a NOTIFY or an IXFR query is about. Those of other queries mean nothing.
func (p *parts) carried(q *Query) bool {
	var ok bool
	switch {
	case q.Opcode == dns.OpcodeNotify:
		q.Answer, ok = p.unpack(answer)
		return ok
	case q.Question.Qtype == dns.TypeIXFR:
		q.Authority, ok = p.unpack(authority)
		return ok
	}
	return true
}

func (p *parts) unpack(section int) (rrs []dns.RR, ok bool) {
	if p.counts[section] > maxCarried {
		return nil, false
	}
	for _, r := range p.sections[section] {
		rr, ok := p.unpackOne(r)
		if !ok {
			return nil, false
		}
		rrs = append(rrs, rr)
	}
	return rrs, true
}

// unpackOne unpacks a record. The library takes one that ends between two of its fields; the types that something hangs
// on are not taken so.
func (p *parts) unpackOne(r record) (dns.RR, bool) {
	if r.rrtype == dns.TypeSOA && !p.wholeSOA(r) || r.rrtype == dns.TypeTSIG && !p.wholeTSIG(r) {
		return nil, false
	}
	rr, end, err := dns.UnpackRR(p.wire, r.start)
	return rr, err == nil && end == r.end
}

// ask takes in the one question; its type and class are at the offset.
func (q *Query) ask(wire []byte, at int) {
	name, _, err := dns.UnpackDomainName(wire, headerSize)
	if err != nil {
		return // the walker has seen that it is sound; if not, the message has no question
	}
	q.Question = dns.Question{
		Name: name, Qtype: binary.BigEndian.Uint16(wire[at:]), Qclass: binary.BigEndian.Uint16(wire[at+2:]),
	}
	q.Name, q.asked = dns.CanonicalName(name), true
}
