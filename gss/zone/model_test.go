package zone

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// model is a zone as RFC 1034 section 4.3.2 has it: names are strings, and everything is looked for in all records.
type model struct {
	origin string
	sets   map[string]map[uint16][]dns.RR // by owner in lower case
}

func (m *model) exists(name string) bool {
	for owner := range m.sets {
		if dns.IsSubDomain(name, owner) {
			return true
		}
	}
	return false
}

// above gives the names from the origin down to a name.
func (m *model) above(name string) []string {
	var names []string
	for n := name; ; {
		names = append([]string{n}, names...)
		if n == m.origin {
			return names
		}
		next, _ := dns.NextLabel(n, 0)
		n = n[next:]
	}
}

// lookup gives what Lookup is to give, but for Additional.
func (m *model) lookup(qname string, qtype uint16) Result {
	r := Result{Authoritative: true, Kind: Answer, Name: qname}
	used := map[string]bool{}
	for name := qname; ; {
		r.Name = name
		next := m.step(&r, name, qtype, used)
		if next == "" {
			return r
		}
		if !dns.IsSubDomain(m.origin, next) || used["alias "+next] {
			return r
		}
		name = next
	}
}

// step looks one name up and gives the next, or "" at the end.
func (m *model) step(r *Result, name string, qtype uint16, used map[string]bool) string {
	closest := m.origin
	for _, at := range m.above(name) {
		if !m.exists(at) {
			break
		}
		closest = at
		sets := m.sets[at]
		if at != m.origin && sets[dns.TypeNS] != nil && (at != name || qtype != dns.TypeDS) {
			r.Kind, r.Name, r.Authority = Delegation, at, sets[dns.TypeNS]
			r.Authoritative = len(r.Answer) > 0
			r.Types, r.DS = m.types(at, 0), sets[dns.TypeDS]
			r.Types = slices.DeleteFunc(r.Types, func(t uint16) bool { return t != dns.TypeNS && t != dns.TypeDS })
			return ""
		}
		if dname := sets[dns.TypeDNAME]; dname != nil && at != name {
			if used["dname "+at] {
				return ""
			}
			used["dname "+at] = true
			next := strings.TrimSuffix(name, at) + dname[0].(*dns.DNAME).Target
			r.Answer = append(r.Answer, dname[0], &dns.CNAME{Target: next,
				Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: dname[0].Header().Ttl}})
			used["alias "+name] = true
			if qtype == dns.TypeCNAME {
				return ""
			}
			return next
		}
	}
	source := name
	if closest != name {
		source = "*." + closest
		if !m.exists(source) {
			r.Kind, r.Rcode = NXDomain, dns.RcodeNameError
			m.deny(r)
			return ""
		}
		r.Wildcards = append(r.Wildcards, Wildcard{name, source})
	}
	sets := m.sets[source]
	if cname := sets[dns.TypeCNAME]; cname != nil && qtype != dns.TypeCNAME && qtype != dns.TypeANY && qtype != dns.TypeNSEC {
		r.Answer = append(r.Answer, owned(cname, name)...)
		used["alias "+name] = true
		return cname[0].(*dns.CNAME).Target
	}
	if types := m.types(source, 0); qtype == dns.TypeANY && len(types) > 0 {
		qtype = types[0]
	}
	if sets[qtype] == nil {
		r.Kind, r.Types = NoData, m.types(source, qtype)
		if sets[dns.TypeNS] != nil && source != m.origin {
			r.Types = []uint16{dns.TypeNS}
		}
		m.deny(r)
		return ""
	}
	r.Answer = append(r.Answer, owned(sets[qtype], name)...)
	return ""
}

func (m *model) types(name string, without uint16) []uint16 {
	var types []uint16
	for t := range m.sets[name] {
		if t != without {
			types = append(types, t)
		}
	}
	slices.Sort(types)
	return types
}

func (m *model) deny(r *Result) {
	soa := dns.Copy(m.sets[m.origin][dns.TypeSOA][0]).(*dns.SOA)
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	r.Authority = []dns.RR{soa}
}

// draw gives choices one after the other, from below n.
type draw func(n int) int

// randomZone draws the records of a zone of few labels, so that they meet in all ways, and which of its sets are dynamic.
func randomZone(d draw) (rrs []dns.RR, dynamic map[string][]uint16) {
	header := func(name string, t uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: 60}
	}
	rrs = []dns.RR{
		&dns.SOA{Hdr: header("z.", dns.TypeSOA), Ns: "ns.z.", Mbox: "h.z.", Serial: 1, Refresh: 1, Retry: 1, Expire: 1, Minttl: 30},
		&dns.NS{Hdr: header("z.", dns.TypeNS), Ns: "ns.z."},
	}
	dynamic = map[string][]uint16{}
	for range 3 + d(12) {
		name := randomName(d)
		switch d(10) {
		case 0, 1:
			rrs = append(rrs, &dns.CNAME{Hdr: header(name, dns.TypeCNAME), Target: randomName(d)})
		case 2:
			rrs = append(rrs, &dns.DNAME{Hdr: header(name, dns.TypeDNAME), Target: randomName(d)})
		case 3:
			rrs = append(rrs, &dns.NS{Hdr: header(name, dns.TypeNS), Ns: randomName(d)})
			if d(2) == 0 {
				rrs = append(rrs, &dns.DS{Hdr: header(name, dns.TypeDS), KeyTag: 1, Algorithm: 13, DigestType: 2, Digest: strings.Repeat("00", 32)})
			}
		case 4:
			rrs = append(rrs, &dns.MX{Hdr: header(name, dns.TypeMX), Preference: 1, Mx: randomName(d)})
		case 5:
			rrs = append(rrs, &dns.TXT{Hdr: header(name, dns.TypeTXT), Txt: []string{"x"}})
		case 6:
			dynamic[name] = []uint16{dns.TypeA, dns.TypeTXT}[:1+d(2)]
		default:
			rrs = append(rrs, &dns.A{Hdr: header(name, dns.TypeA), A: net.IPv4(192, 0, 2, byte(d(200)))})
		}
	}
	return rrs, dynamic
}

func randomName(d draw) string {
	name := "z."
	for range d(5) {
		name = []string{"a", "b", "*", "c"}[d(4)] + "." + name
	}
	return name
}

// liveOf makes records for a dynamic set.
func liveOf(name string, t uint16) []dns.RR {
	h := dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: 5}
	if t == dns.TypeTXT {
		return []dns.RR{&dns.TXT{Hdr: h, Txt: []string{"live"}}}
	}
	return []dns.RR{&dns.A{Hdr: h, A: net.IPv4(203, 0, 113, 1)}}
}

// sameAsModel draws a zone, and compares what it says to each name and type with the model. It gives how many were
// compared.
func sameAsModel(t *testing.T, d draw) int {
	t.Helper()
	rrs, dynamic := randomZone(d)
	z, err := Build("z.", slices.Values(rrs))
	if err != nil {
		return 0
	}
	m := &model{origin: "z.", sets: map[string]map[uint16][]dns.RR{}}
	for rr := range z.All(nil) {
		m.add(rr)
	}
	if with, err := z.WithDynamic(dynamic); err == nil {
		z = with
		for name, types := range dynamic {
			for _, t := range types {
				m.add(liveOf(name, t)[0])
			}
		}
	}
	asked := 0
	for range 30 {
		qname := randomName(d)
		for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeCNAME, dns.TypeDS, dns.TypeMX, dns.TypeANY, dns.TypeNSEC} {
			got, want := z.Lookup(qname, qtype, liveOf), m.lookup(qname, qtype)
			reply := &dns.Msg{Answer: got.Answer, Ns: got.Authority, Extra: got.Additional}
			if _, err := reply.Pack(); err != nil || got.Glue > len(got.Additional) {
				t.Fatalf("%s %s: %v cannot be sent: %v", qname, dns.Type(qtype), got, err)
			}
			got.Additional, got.Glue = nil, 0
			asked++
			if !sameResult(want, got) {
				diff := cmp.Diff(want, got, cmp.Transformer("line", func(rr dns.RR) string { return rr.String() }))
				t.Fatalf("%s %s (-want +got):\n%s\nin the zone\n%s\ndynamic %v", qname, dns.Type(qtype), diff, strings.Join(lines(rrs), "\n"), dynamic)
			}
		}
	}
	return asked
}

// sameResult compares two results but for Additional.
func sameResult(a, b Result) bool {
	same := func(x, y dns.RR) bool { return dns.IsDuplicate(x, y) && *header(x) == *header(y) }
	return a.Kind == b.Kind && a.Rcode == b.Rcode && a.Authoritative == b.Authoritative && a.Name == b.Name &&
		slices.EqualFunc(a.Answer, b.Answer, same) && slices.EqualFunc(a.Authority, b.Authority, same) && slices.EqualFunc(a.DS, b.DS, same) &&
		slices.Equal(a.Types, b.Types) && slices.Equal(a.Wildcards, b.Wildcards)
}

// header is a record's header without its length, which only packing sets.
func header(rr dns.RR) *dns.RR_Header {
	h := *rr.Header()
	h.Rdlength = 0
	return &h
}

func (m *model) add(rr dns.RR) {
	h := rr.Header()
	if m.sets[h.Name] == nil {
		m.sets[h.Name] = map[uint16][]dns.RR{}
	}
	m.sets[h.Name][h.Rrtype] = append(m.sets[h.Name][h.Rrtype], rr)
}

// TestModel compares random zones with the model.
func TestModel(t *testing.T) {
	t.Parallel()
	zones, asked := 0, 0
	for seed := range uint64(1500) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			if n := sameAsModel(t, r.IntN); n > 0 {
				zones++
				asked += n
			}
		})
	}
	if zones < 300 {
		t.Errorf("only %d zones are in order", zones)
	}
	t.Logf("%d queries to %d zones", asked, zones)
}
