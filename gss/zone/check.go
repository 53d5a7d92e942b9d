package zone

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// check reports what is wrong with the zone as a whole. What is missing is not told while lines cannot be read, since it
// may stand in them.
func (l *layout) check() {
	if l.errs.full() {
		return
	}
	whole := len(l.errs.list) == 0
	if whole {
		l.checkApex()
	}
	l.data.index()
	z := &Zone{data: l.data, origin: l.origin}
	for i := range l.data.nodes {
		l.checkNode(uint32(i))
		if l.strict && whole {
			l.checkTargets(z, uint32(i))
		}
		if l.errs.full() {
			return
		}
	}
}

// place is where the first record of a node's set stands.
func (l *layout) place(i uint32, rrtype uint16) pos {
	first := int(l.data.nodes[i].sets)
	for j, s := range l.data.nodeSets(i) {
		if s.rrtype == rrtype {
			return l.places[first+j]
		}
	}
	return pos{}
}

func (l *layout) checkApex() {
	soa := l.data.static(0, dns.TypeSOA)
	switch {
	case soa == nil:
		l.errs.addf(pos{line: 1}, "no SOA record of %s; begin with one such as `@ 3600 %s`",
			l.origin, strings.TrimPrefix(examples["SOA"], "@ "))
	case soa.count > 1:
		l.errs.addf(l.place(0, dns.TypeSOA), "%d SOA records; keep one", soa.count)
	}
	if soa != nil && l.data.static(0, dns.TypeNS) == nil {
		l.errs.addf(l.place(0, dns.TypeSOA), "no NS record of %s; add one such as `%s`", l.origin, examples["NS"])
	}
}

// checkNode reports sets that cannot be at one name, or not below another.
func (l *layout) checkNode(i uint32) {
	d := l.data
	sets := d.nodeSets(i)
	if len(sets) == 0 {
		return
	}
	owner := func() string { return present(d.nodeKey(i)) }
	for _, rrtype := range []uint16{dns.TypeCNAME, dns.TypeDNAME} {
		if s := d.static(i, rrtype); s != nil && s.count > 1 {
			l.errs.addf(l.place(i, rrtype), "%s has %d %s records; keep one", owner(), s.count, dns.Type(rrtype))
		}
	}
	if d.static(i, dns.TypeCNAME) != nil && len(sets) > 1 {
		l.errs.addf(l.place(i, dns.TypeCNAME),
			"%s is an alias and has other records beside its CNAME (RFC 1034 section 3.6.2); keep one", owner())
	}
	if i > 0 && d.static(i, dns.TypeDNAME) != nil && d.static(i, dns.TypeNS) != nil {
		l.errs.addf(l.place(i, dns.TypeDNAME),
			"%s has a DNAME and NS records, and one of them does not count (RFC 6672 section 2.3); keep one", owner())
	}
	if d.static(i, dns.TypeDS) != nil && d.static(i, dns.TypeNS) == nil {
		l.errs.addf(l.place(i, dns.TypeDS), "%s has DS records and is no delegation; add its NS records, or remove the DS", owner())
	}
	cut := d.nodes[i].cut
	if l.strict && cut != none && cut != i && d.isDNAME(cut) {
		l.errs.addf(l.place(i, sets[0].rrtype), "%s is below the DNAME of %s, which hides it (RFC 6672 section 2.4); remove one",
			owner(), present(d.nodeKey(cut)))
	}
}

// isDNAME says whether a cut is that of a DNAME and not of a delegation.
func (d *data) isDNAME(cut uint32) bool { return d.static(cut, dns.TypeDNAME) != nil }

// checkTargets reports names in records that lead nowhere. Those that a dynamic name may mend are kept for Dangling.
func (l *layout) checkTargets(z *Zone, i uint32) {
	d := l.data
	cut := d.nodes[i].cut
	if cut != none && cut != i {
		return // never answered
	}
	for _, s := range d.nodeSets(i) {
		switch s.rrtype {
		case dns.TypeNS, dns.TypeMX, dns.TypeSRV, dns.TypeCNAME, dns.TypeSVCB, dns.TypeHTTPS:
		default:
			continue
		}
		for _, rr := range d.records(&s, present(d.nodeKey(i))) {
			p := pointer{at: l.place(i, s.rrtype), owner: rr.Header().Name, target: target(rr), rrtype: s.rrtype}
			what, final := "", true
			if cut == i && s.rrtype == dns.TypeNS && dns.IsSubDomain(p.owner, p.target) {
				what = p.withoutGlue(z)
			} else {
				what, final = p.wrong(z)
			}
			switch {
			case what == "":
			case final:
				l.errs.addf(p.at, "%s", what)
			default:
				d.pointers = append(d.pointers, p)
			}
		}
	}
}

// pointer is a record that names another name.
type pointer struct {
	at            pos
	owner, target string
	rrtype        uint16
}

// withoutGlue says what is wrong with a server of a delegation that is itself below it.
func (p *pointer) withoutGlue(z *Zone) string {
	var n name
	if n.parse(p.target) && z.hasAddress(z.find(n.key(n.labels))) {
		return ""
	}
	return fmt.Sprintf("%s is delegated to %s, which nobody can ask for without its address; add its A or AAAA record (glue) here",
		p.owner, p.target)
}

// wrong says what is wrong with the target, if it is in the zone: NS, MX and SRV want a name with an address of its own,
// aliases and services one that exists. It is final if no dynamic name can mend it.
func (p *pointer) wrong(z *Zone) (what string, final bool) {
	var n name
	if p.target == "." || !n.parse(p.target) || !z.contains(&n) || z.covered(&n) {
		return "", false
	}
	rrtype := dns.Type(p.rrtype)
	source, own := z.source(&n)
	switch {
	case p.rrtype == dns.TypeCNAME:
		if endless, final := z.endless(source, own); endless {
			return fmt.Sprintf("the alias %s leads over more than %d others or in a circle; name what it stands for", p.owner, maxChain), final
		}
		fallthrough
	case isService(p.rrtype):
		if source == none {
			return fmt.Sprintf("the %s record of %s leads to %s, which does not exist; add records or a rule for it, or mend the name",
				rrtype, p.owner, p.target), false
		}
	case source != none && z.staticOf(source, dns.TypeCNAME) != nil:
		return fmt.Sprintf("the %s record of %s names %s, which is an alias (RFC 2181 section 10.3); name what it stands for",
			rrtype, p.owner, p.target), own
	case !z.hasAddress(source):
		return fmt.Sprintf("the %s record of %s names %s, which has no address; add its A or AAAA record, or a rule for it",
			rrtype, p.owner, p.target), false
	}
	return "", false
}

// endless says whether more aliases follow from a node than Lookup does. It is final if all are names of their own.
func (z *Zone) endless(i uint32, own bool) (endless, final bool) {
	final = own
	for range maxChain {
		if i == none || z.cutOf(i) != none {
			return false, false
		}
		s := z.staticOf(i, dns.TypeCNAME)
		if s == nil {
			return false, false
		}
		var n name
		if !n.parse(target(z.records(s, ".")[0])) || !z.contains(&n) {
			return false, false
		}
		i, own = z.source(&n)
		final = final && own
	}
	return true, final
}

// Dangling reports records whose target is in the zone and is not what clients look for there: for NS, MX and SRV a name
// with an address that is no alias, for aliases and services a name that exists. Parse cannot tell where a dynamic set may
// mend it, so this is to be called after WithDynamic. It gives nil or Errors. A zone made by Build has none.
func (z *Zone) Dangling() error {
	c := collector{files: z.files}
	for _, p := range z.pointers {
		if what, _ := p.wrong(z); what != "" {
			c.addf(p.at, "%s", what)
		}
	}
	return c.err()
}

// covered says whether a name is at or below a delegation, or below a DNAME.
func (z *Zone) covered(n *name) bool {
	labels := n.labels
	i := z.find(n.key(labels))
	for ; i == none; i = z.find(n.key(labels)) {
		labels--
	}
	return z.cutOf(i) != none || labels < n.labels && z.staticOf(i, dns.TypeDNAME) != nil
}

// hasAddress says whether a node has address records; none has not.
func (z *Zone) hasAddress(i uint32) bool {
	return i != none && slices.ContainsFunc(z.typesOf(i), func(t uint16) bool { return t == dns.TypeA || t == dns.TypeAAAA })
}

// source gives the node that answers for a name in the zone: its own, or the wildcard's that covers it, or none.
func (z *Zone) source(n *name) (i uint32, own bool) {
	labels := n.labels
	i = z.find(n.key(labels))
	for ; i == none; i = z.find(n.key(labels)) {
		labels--
	}
	if labels == n.labels {
		return i, true
	}
	w := *n
	return z.find(w.wildcard(labels)), false
}

// target gives the name that a record points to, whose addresses a client wants next; "" for types that have none.
func target(rr dns.RR) string {
	switch rr := rr.(type) {
	case *dns.NS:
		return rr.Ns
	case *dns.MX:
		return rr.Mx
	case *dns.SRV:
		return rr.Target
	case *dns.CNAME:
		return rr.Target
	case *dns.SVCB:
		return serviceTarget(rr)
	case *dns.HTTPS:
		return serviceTarget(&rr.SVCB)
	}
	return ""
}

// isService says whether records of a type describe services (RFC 9460).
func isService(rrtype uint16) bool { return rrtype == dns.TypeSVCB || rrtype == dns.TypeHTTPS }

// serviceTarget is the name of a service: with the target "." its owner, or none of an alias (RFC 9460 section 2.5).
func serviceTarget(rr *dns.SVCB) string {
	switch {
	case rr.Target != ".":
		return rr.Target
	case rr.Priority == 0:
		return ""
	}
	return rr.Hdr.Name
}
