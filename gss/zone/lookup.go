package zone

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Lookup finds what the zone says to a query for a name and type (RFC 1034 section 4.3.2), with wildcards (RFC 4592),
// DNAME (RFC 6672), and aliases as far as they lead in the zone. The owner in the answer is spelt as the name was asked.
//
// A query for ANY gets one set (RFC 8482 section 4.1): that of the lowest type, so always the same one, and an address or
// an alias where there is one, which is what the old mail software that asks for ANY is after.
func (z *Zone) Lookup(qname string, qtype uint16, live Live) Result {
	owner := dns.Fqdn(qname)
	s := search{Zone: z, live: live, qtype: qtype}
	if rcode := refusal(qtype); rcode != dns.RcodeSuccess {
		return Result{Rcode: rcode, Name: owner}
	}
	if !s.name.parse(owner) || !z.contains(&s.name) {
		return Result{Rcode: dns.RcodeRefused, Name: owner}
	}
	for aliases := 1; s.step(owner); aliases++ {
		if !s.name.parse(s.next) || !z.contains(&s.name) || aliases > maxChain || s.circle() {
			s.result.Kind = Answer
			break
		}
		owner = s.next
	}
	s.result.Name = owner
	if s.result.Kind == Delegation {
		s.result.Name = s.cut
	}
	s.result.Authoritative = s.result.Kind != Delegation || len(s.result.Answer) > 0
	return s.result
}

// refusal gives the rcode for a type that no query of this kind has. A transfer is another operation, the types of mail
// agents went out with RFC 973, and the others belong to messages or have no meaning yet. (Type 0 is just one that no
// name has.)
func refusal(qtype uint16) int {
	switch {
	case qtype == dns.TypeANY || qtype == dns.TypeNone || !metaType(qtype):
		return dns.RcodeSuccess
	case qtype == dns.TypeAXFR || qtype == dns.TypeIXFR:
		return dns.RcodeRefused
	case qtype == dns.TypeMAILA || qtype == dns.TypeMAILB:
		return dns.RcodeNotImplemented
	}
	return dns.RcodeFormatError
}

// search is one lookup under way.
type search struct {
	*Zone
	live   Live
	qtype  uint16
	name   name // being looked for
	next   string
	cut    string // what is delegated
	result Result
}

// step looks for one name. It says whether an alias leads on, to next.
func (s *search) step(owner string) bool {
	labels := s.name.labels
	i := s.find(s.name.key(labels))
	found := i != none
	for i == none { // the origin exists
		labels--
		i = s.find(s.name.key(labels))
	}
	cut := s.cutOf(i)
	if cut == none && !found && s.staticOf(i, dns.TypeDNAME) != nil {
		cut = i
	}
	switch {
	case cut != none && s.isDNAME(cut):
		return s.rewrite(cut, owner)
	case cut != none && found && cut == i && s.qtype == dns.TypeDS: // the one type that the parent has (RFC 4035 section 3.1.4.1)
		s.answer(i, owner)
		return false
	case cut != none:
		s.delegate(cut)
		return false
	case found:
		return s.at(i, owner)
	}
	w := s.find(s.name.wildcard(labels))
	if w == none {
		s.deny(NXDomain)
		return false
	}
	s.result.Wildcards = append(s.result.Wildcards, Wildcard{Name: owner, Source: present(s.keyOf(w))})
	return s.at(w, owner)
}

// at answers from a node that is not covered.
func (s *search) at(i uint32, owner string) bool {
	if cname := s.staticOf(i, dns.TypeCNAME); cname != nil && follows(s.qtype) {
		rrs := s.records(cname, owner)
		s.result.Answer = append(s.result.Answer, rrs...)
		s.next = rrs[0].(*dns.CNAME).Target
		return true
	}
	s.answer(i, owner)
	return false
}

// follows says whether a query for the type goes on from an alias. NSEC and RRSIG stand beside it (RFC 4035 section 2.5).
func follows(qtype uint16) bool {
	return qtype != dns.TypeCNAME && qtype != dns.TypeANY && qtype != dns.TypeNSEC && qtype != dns.TypeRRSIG
}

// answer answers with a node's set, or denies it.
func (s *search) answer(i uint32, owner string) {
	var rrs []dns.RR
	asked := s.qtype
	if asked == dns.TypeANY {
		for _, asked = range s.typesOf(i) {
			if rrs = s.recordsOf(i, asked, owner, s.live); len(rrs) > 0 {
				break
			}
		}
	} else {
		rrs = s.recordsOf(i, asked, owner, s.live)
	}
	if len(rrs) == 0 {
		s.result.Types = slices.DeleteFunc(s.typesOf(i), func(t uint16) bool { return t == s.qtype || s.qtype == dns.TypeANY })
		if s.cutOf(i) == i { // the rest is glue, and not the zone's (RFC 4035 section 2.3)
			s.result.Types = []uint16{dns.TypeNS}
		}
		s.deny(NoData)
		return
	}
	s.result.Kind = Answer
	s.result.Answer = append(s.result.Answer, rrs...)
	s.addAddresses(rrs)
}

// deny adds the SOA record with the time that the denial may be kept (RFC 2308 section 5).
func (s *search) deny(kind Kind) {
	s.result.Kind = kind
	if kind == NXDomain {
		s.result.Rcode = dns.RcodeNameError
	}
	soa := s.SOA()
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	s.result.Authority = append(s.result.Authority, soa)
}

// rewrite applies the DNAME of a node to a name below it.
func (s *search) rewrite(i uint32, owner string) bool {
	dname := s.records(s.static(i, dns.TypeDNAME), present(s.nodeKey(i)))[0].(*dns.DNAME)
	for _, rr := range s.result.Answer {
		if h := rr.Header(); h.Rrtype == dns.TypeDNAME && h.Name == dname.Hdr.Name {
			s.result.Kind = Answer // who applies one twice is nearly always in a circle that makes the name ever longer
			return false
		}
	}
	s.result.Answer = append(s.result.Answer, dname)
	above, _ := dns.PrevLabel(owner, keyLabels(s.nodeKey(i)))
	s.next = owner[:above] + strings.TrimPrefix(dname.Target, ".")
	var n name
	if !n.parse(s.next) {
		s.result.Kind, s.result.Rcode = YXDomain, dns.RcodeYXDomain
		return false
	}
	s.result.Answer = append(s.result.Answer, &dns.CNAME{
		Hdr:    dns.RR_Header{Name: owner, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: dname.Hdr.Ttl}, // RFC 6672 section 3.1
		Target: s.next,
	})
	s.result.Kind = Answer
	return s.qtype != dns.TypeCNAME
}

// circle says whether next is a name that an alias led on from.
func (s *search) circle() bool {
	for _, rr := range s.result.Answer {
		if rr.Header().Rrtype == dns.TypeCNAME && strings.EqualFold(rr.Header().Name, s.next) {
			return true
		}
	}
	return false
}

// delegate refers to the servers of a delegation.
func (s *search) delegate(cut uint32) {
	s.cut = present(s.nodeKey(cut))
	s.result.Kind = Delegation
	ns := s.records(s.static(cut, dns.TypeNS), s.cut)
	s.result.Authority = append(s.result.Authority, ns...)
	s.result.Types = []uint16{dns.TypeNS}
	if ds := s.static(cut, dns.TypeDS); ds != nil {
		s.result.Types = append(s.result.Types, dns.TypeDS)
		s.result.DS = s.records(ds, s.cut)
	}
	s.addGlue(s.nodeKey(cut), ns)
}
