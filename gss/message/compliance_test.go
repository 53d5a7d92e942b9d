package message

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// server answers for the zone example.org from a few records, as the GSS does: Read, look up, Finish.
type server struct {
	edge     *Edge
	sets     map[string][]dns.RR // by canonical name and type
	unsigned bool
}

const zoneText = `
example.org. 5 IN SOA ns.example.org. hostmaster.example.org. 1 3600 600 1209600 5
example.org. 5 IN NS ns.example.org.
example.org. 5 IN DNSKEY 257 3 8 KEYKEYKEY
example.org. 5 IN DNSKEY 256 3 8 KEYKEYKEY
www.example.org. 5 IN A 192.0.2.1
ns.example.org. 5 IN A 192.0.2.53
`

func newServer(t testing.TB, e *Edge) *server {
	s := &server{edge: e, sets: map[string][]dns.RR{}}
	// two RSA keys of 2048 bits are a set that no reply of 512 bytes holds
	text := strings.ReplaceAll(zoneText, "KEYKEYKEY", strings.Repeat("A", 344))
	for line := range strings.Lines(strings.TrimSpace(text)) {
		r := rr(t, line)
		k := key(r.Header().Name, r.Header().Rrtype)
		s.sets[k] = append(s.sets[k], r)
	}
	return s
}

func key(name string, rrtype uint16) string {
	return dns.CanonicalName(name) + dns.TypeToString[rrtype]
}

func (s *server) serve(t testing.TB, wire []byte, via Transport) []byte {
	t.Helper()
	q, reply, _ := s.edge.Read(wire, via, testClient, testTime)
	if q == nil || reply != nil {
		return reply
	}
	m := &dns.Msg{}
	if q.Opcode == dns.OpcodeNotify || !dns.IsSubDomain("example.org.", q.Name) {
		m.Rcode = dns.RcodeRefused
		return mustFinish(t, s.edge, q, m, Extras{})
	}
	m.Authoritative = true
	m.Answer = s.sets[key(q.Name, q.Question.Qtype)]
	if len(m.Answer) == 0 {
		m.Ns = s.sets[key("example.org.", dns.TypeSOA)]
	} else if q.DO && !s.unsigned {
		m.Answer = append(m.Answer[:len(m.Answer):len(m.Answer)], signature(q.Question))
	}
	expire := uint32(1209600)
	return mustFinish(t, s.edge, q, m, Extras{Expire: &expire})
}

// signature stands for one; nobody here checks it.
func signature(q dns.Question) dns.RR {
	return &dns.RRSIG{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: 5}, TypeCovered: q.Qtype,
		Algorithm: dns.ECDSAP256SHA256, Labels: 2, OrigTtl: 5, Expiration: 1560000000, Inception: 1550000000, KeyTag: 1,
		SignerName: "example.org.", Signature: strings.Repeat("A", 86) + "=="}
}

// compliance is a query that ISC's test of EDNS compliance (genreport, full mode) sends, under its name for it.
type compliance struct {
	name  string
	via   Transport
	query []byte
	want  string
}

// complianceCases gives all of its cases. "signed" asks of "do" whether there was a signature.
func complianceCases(t *testing.T) []compliance {
	const (
		soa    = "\nquestion example.org. IN SOA"
		answer = "\nanswer example.org. 5 IN SOA ns.example.org. hostmaster.example.org. 1 3600 600 1209600 5"
		rrsig  = "\nanswer example.org. 5 IN RRSIG SOA 13 2 5 20190608132000 20190212193320 1 example.org. "
		ok     = "4242 opcode 0 rcode 0 qr aa"
		vers   = "4242 opcode 0 rcode 16 qr" + soa + plainOPT
		ecs    = "8:00010000"
		client = "10:" + testClientCookie
		cookie = " 10:" + testCookie
		nsid   = " 3:6773732d65617374"
		expire = " 9:00127500"
	)
	plain := func(f func(*dns.Msg)) []byte { return wireOf(t, with(ask("example.org.", dns.TypeSOA), f)) }
	withOPT := func(f func(*dns.Msg, *dns.OPT), options ...string) []byte {
		o := opt(t, options...)
		o.Hdr.Class = 4096
		return plain(func(m *dns.Msg) {
			m.Extra = []dns.RR{o}
			f(m, o)
		})
	}
	none := func(*dns.Msg, *dns.OPT) {}
	v1 := func(_ *dns.Msg, o *dns.OPT) { o.SetVersion(1) }
	do := func(_ *dns.Msg, o *dns.OPT) { o.SetDo() }
	keys := func(m *dns.Msg, o *dns.OPT) { o.Hdr.Class, m.Question[0].Qtype = 512, dns.TypeDNSKEY; o.SetDo() }
	signed := answer + rrsig + strings.Repeat("A", 86) + "=="
	keyAnswer := "\nanswer example.org. 5 IN DNSKEY 257 3 8 " + strings.Repeat("A", 344) +
		"\nanswer example.org. 5 IN DNSKEY 256 3 8 " + strings.Repeat("A", 344) + strings.Replace(signed[len(answer):], "SOA", "DNSKEY", 1)
	return []compliance{
		{"dns", UDP, plain(func(m *dns.Msg) {}), ok + soa + answer},
		{"aa", UDP, plain(func(m *dns.Msg) { m.Authoritative = true }), ok + soa + answer},
		{"ad", UDP, plain(func(m *dns.Msg) { m.AuthenticatedData = true }), ok + soa + answer},
		{"cd", UDP, plain(func(m *dns.Msg) { m.CheckingDisabled = true }), ok + " cd" + soa + answer},
		{"ra", UDP, plain(func(m *dns.Msg) { m.RecursionAvailable = true }), ok + soa + answer},
		{"rd", UDP, plain(func(m *dns.Msg) { m.RecursionDesired = true }), ok + " rd" + soa + answer},
		{"tc", UDP, plain(func(m *dns.Msg) { m.Truncated = true }), ok + soa + answer},
		{"zflag", UDP, plain(func(m *dns.Msg) { m.Zero = true }), ok + soa + answer},
		{"opcode", UDP, unhex(t, "1092 7800 0000 0000 0000 0000"), "4242 opcode 15 rcode 4 qr"},
		{"opcodeflg", UDP, unhex(t, "1092 7ff0 0000 0000 0000 0000"), "4242 opcode 15 rcode 4 qr"},
		{"type666", UDP, plain(func(m *dns.Msg) { m.Question[0].Qtype = 666 }),
			ok + "\nquestion example.org. IN TYPE666" + strings.Replace(answer, "answer", "authority", 1)},
		{"tcp", TCP, plain(func(m *dns.Msg) {}), ok + soa + answer},
		{"edns", UDP, withOPT(none), ok + soa + answer + plainOPT},
		{"edns1", UDP, withOPT(v1), vers},
		{"edns@512", UDP, withOPT(keys), "4242 opcode 0 rcode 0 qr aa tc\nquestion example.org. IN DNSKEY" + plainOPT + " do"},
		{"ednsopt", UDP, withOPT(none, "100:"), ok + soa + answer + plainOPT},
		{"edns1opt", UDP, withOPT(v1, "100:"), vers},
		{"do and signed", UDP, withOPT(do), ok + soa + signed + plainOPT + " do"},
		{"docd", UDP, withOPT(func(m *dns.Msg, o *dns.OPT) { m.CheckingDisabled = true; o.SetDo() }), ok + " cd" + soa + signed + plainOPT + " do"},
		{"edns1do", UDP, withOPT(func(_ *dns.Msg, o *dns.OPT) { o.SetVersion(1); o.SetDo() }), vers + " do"},
		{"ednsflags", UDP, withOPT(func(_ *dns.Msg, o *dns.OPT) { o.SetZ(0x80) }), ok + soa + answer + plainOPT},
		{"optlist", UDP, withOPT(none, "3:", ecs, "9:", client), ok + soa + answer + plainOPT + cookie + " " + ecs + expire + nsid},
		{"ednsnsid", UDP, withOPT(none, "3:"), ok + soa + answer + plainOPT + nsid},
		{"ednscookie", UDP, withOPT(none, client), ok + soa + answer + plainOPT + cookie},
		{"ednsexpire", UDP, withOPT(none, "9:"), ok + soa + answer + plainOPT + expire},
		{"ednssubnet", UDP, withOPT(none, ecs), ok + soa + answer + plainOPT + " " + ecs},
		{"edns1nsid", UDP, withOPT(v1, "3:"), vers},
		{"edns1cookie", UDP, withOPT(v1, client), vers},
		{"edns1expire", UDP, withOPT(v1, "9:"), vers},
		{"edns1subnet", UDP, withOPT(v1, ecs), vers},
		{"ednstcp", TCP, withOPT(keys), ok + "\nquestion example.org. IN DNSKEY" + keyAnswer + plainOPT + " do"},
		{"bind11", UDP, withOPT(do, client), ok + soa + signed + plainOPT + " do" + cookie},
		{"dig11", UDP, withOPT(func(m *dns.Msg, _ *dns.OPT) { m.RecursionDesired, m.AuthenticatedData = true, true }, client),
			ok + " rd" + soa + answer + plainOPT + cookie},
	}
}

// Each reply is held to more than the test of ISC's asks: to every bit, record and option.
func TestEDNSCompliance(t *testing.T) {
	s := newServer(t, newEdge(t, nil))
	cases := complianceCases(t)
	if len(cases) != 33 {
		t.Errorf("%d cases", len(cases))
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, render(t, s.serve(t, tc.query, tc.via))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
