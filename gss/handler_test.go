package gss

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"anycastle/internal/config"
)

func testZone(t testing.TB) *zone {
	t.Helper()
	c := mustDecode(t, nodeFile)
	return c.compile(config.Cursor{})
}

// eastOnly is the decision while east passes.
var eastOnly = &decision{1, map[string][]netip.Addr{"smtp": {netip.MustParseAddr("203.0.113.110")}}}

// question is a plain query with id 4242.
func question(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.Id, m.RecursionDesired = 4242, false
	return m
}

// withEDNS adds an OPT record.
func withEDNS(m *dns.Msg, size uint16, do bool) *dns.Msg {
	m.SetEdns0(size, do)
	return m
}

// change alters a query in place.
func change(m *dns.Msg, f func(*dns.Msg)) *dns.Msg {
	f(m)
	return m
}

func wireOf(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// render writes a whole reply: header, question, every record.
func render(t testing.TB, wire []byte) string {
	t.Helper()
	if wire == nil {
		return "no reply"
	}
	var m dns.Msg
	if err := m.Unpack(wire); err != nil {
		t.Fatalf("unpack reply %x: %v", wire, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s", m.Id, dns.OpcodeToString[m.Opcode], dns.RcodeToString[m.Rcode])
	for _, f := range []struct {
		set  bool
		name string
	}{
		{m.Response, "qr"}, {m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"},
		{m.RecursionAvailable, "ra"}, {m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"}, {m.Zero, "z"},
	} {
		if f.set {
			b.WriteString(" " + f.name)
		}
	}
	for _, q := range m.Question {
		fmt.Fprintf(&b, "\nquestion %s %s %s", q.Name, dns.Class(q.Qclass), dns.Type(q.Qtype))
	}
	for _, section := range []struct {
		name string
		rrs  []dns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"additional", m.Extra}} {
		for _, rr := range section.rrs {
			if o, ok := rr.(*dns.OPT); ok {
				fmt.Fprintf(&b, "\nopt version %d size %d do %v options %d", o.Version(), o.UDPSize(), o.Do(), len(o.Option))
				continue
			}
			fmt.Fprintf(&b, "\n%s %s", section.name, strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	return b.String()
}

const (
	soaLine = "\nauthority mail.example.org. 5 IN SOA ns-east.mail.example.org. hostmaster.example.org. 1 3600 600 1209600 5"
	smtpA   = "\nanswer smtp.mail.example.org. 5 IN A 203.0.113.110"
)

// exchange is a query and the whole reply to it, as render writes it.
type exchange struct {
	query *dns.Msg
	want  string
}

// runExchanges asks each query over both transports.
func runExchanges(t *testing.T, exchanges map[string]exchange) {
	for name, tc := range exchanges {
		t.Run(name, func(t *testing.T) {
			z := testZone(t)
			for _, via := range []transport{overUDP, overTCP} {
				reply, _, err := z.respond(wireOf(t, tc.query), via, eastOnly)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.want, render(t, reply)); diff != "" {
					t.Errorf("over %s (-want +got):\n%s", via, diff)
				}
			}
		})
	}
}

func TestRepliesByName(t *testing.T) {
	runExchanges(t, map[string]exchange{
		"rule": {question("smtp.mail.example.org.", dns.TypeA),
			"4242 QUERY NOERROR qr aa\nquestion smtp.mail.example.org. IN A" + smtpA},
		"rule in mixed case": {question("sMTp.mAil.EXAMPLE.org.", dns.TypeA),
			"4242 QUERY NOERROR qr aa\nquestion sMTp.mAil.EXAMPLE.org. IN A\nanswer sMTp.mAil.EXAMPLE.org. 5 IN A 203.0.113.110"},
		"rule, other type": {question("smtp.mail.example.org.", dns.TypeAAAA),
			"4242 QUERY NOERROR qr aa\nquestion smtp.mail.example.org. IN AAAA" + soaLine},
		"rule, unknown type": {question("smtp.mail.example.org.", 65280),
			"4242 QUERY NOERROR qr aa\nquestion smtp.mail.example.org. IN TYPE65280" + soaLine},
		"rule, any": {question("smtp.mail.example.org.", dns.TypeANY),
			"4242 QUERY NOERROR qr aa\nquestion smtp.mail.example.org. IN ANY\nanswer smtp.mail.example.org. 5 IN HINFO \"RFC8482\" \"\""},
		"record": {question("web.mail.example.org.", dns.TypeA),
			"4242 QUERY NOERROR qr aa\nquestion web.mail.example.org. IN A\nanswer web.mail.example.org. 5 IN A 192.0.2.80"},
		"alias to a record": {question("www.mail.example.org.", dns.TypeA),
			"4242 QUERY NOERROR qr aa\nquestion www.mail.example.org. IN A\nanswer www.mail.example.org. 60 IN CNAME web.mail.example.org.\nanswer web.mail.example.org. 5 IN A 192.0.2.80"},
		"alias to a rule": {question("Alias.mail.example.org.", dns.TypeA),
			"4242 QUERY NOERROR qr aa\nquestion Alias.mail.example.org. IN A\nanswer Alias.mail.example.org. 5 IN CNAME smtp.mail.example.org." + smtpA},
		"alias without the type": {question("www.mail.example.org.", dns.TypeTXT),
			"4242 QUERY NOERROR qr aa\nquestion www.mail.example.org. IN TXT\nanswer www.mail.example.org. 60 IN CNAME web.mail.example.org." + soaLine},
		"alias itself": {question("www.mail.example.org.", dns.TypeCNAME),
			"4242 QUERY NOERROR qr aa\nquestion www.mail.example.org. IN CNAME\nanswer www.mail.example.org. 60 IN CNAME web.mail.example.org."},
		"alias, any": {question("www.mail.example.org.", dns.TypeANY),
			"4242 QUERY NOERROR qr aa\nquestion www.mail.example.org. IN ANY\nanswer www.mail.example.org. 60 IN CNAME web.mail.example.org."},
		"alias out of the zone": {question("away.mail.example.org.", dns.TypeA),
			"4242 QUERY NOERROR qr aa\nquestion away.mail.example.org. IN A\nanswer away.mail.example.org. 5 IN CNAME www.example.net."},
		"apex ns with glue": {question("mail.example.org.", dns.TypeNS),
			"4242 QUERY NOERROR qr aa\nquestion mail.example.org. IN NS\nanswer mail.example.org. 5 IN NS ns-east.mail.example.org." +
				"\nanswer mail.example.org. 5 IN NS ns-west.mail.example.org.\nanswer mail.example.org. 5 IN NS ns.example.net." +
				"\nadditional ns-east.mail.example.org. 5 IN A 198.51.100.7\nadditional ns-west.mail.example.org. 5 IN A 192.0.2.7" +
				"\nadditional ns-west.mail.example.org. 5 IN AAAA 2001:db8::7"},
		"apex soa": {question("mail.example.org.", dns.TypeSOA),
			"4242 QUERY NOERROR qr aa\nquestion mail.example.org. IN SOA" + strings.Replace(soaLine, "authority", "answer", 1)},
		"apex mx": {question("mail.example.org.", dns.TypeMX),
			"4242 QUERY NOERROR qr aa\nquestion mail.example.org. IN MX\nanswer mail.example.org. 5 IN MX 10 smtp.mail.example.org."},
		"apex without the type": {question("mail.example.org.", dns.TypeA),
			"4242 QUERY NOERROR qr aa\nquestion mail.example.org. IN A" + soaLine},
		"unknown name": {question("nope.mail.example.org.", dns.TypeA),
			"4242 QUERY NXDOMAIN qr aa\nquestion nope.mail.example.org. IN A" + soaLine},
		"below a record": {question("x.web.mail.example.org.", dns.TypeA),
			"4242 QUERY NXDOMAIN qr aa\nquestion x.web.mail.example.org. IN A" + soaLine},
		"empty non-terminal": {question("deep.mail.example.org.", dns.TypeA),
			"4242 QUERY NOERROR qr aa\nquestion deep.mail.example.org. IN A" + soaLine},
		"empty non-terminal, any": {question("deep.mail.example.org.", dns.TypeANY),
			"4242 QUERY NOERROR qr aa\nquestion deep.mail.example.org. IN ANY" + soaLine},
		"parent zone": {question("example.org.", dns.TypeA),
			"4242 QUERY REFUSED qr\nquestion example.org. IN A"},
		"root": {question(".", dns.TypeNS),
			"4242 QUERY REFUSED qr\nquestion . IN NS"},
		"dot inside a label": {question(`smtp\.mail.example.org.`, dns.TypeA),
			"4242 QUERY REFUSED qr\nquestion smtp\\.mail.example.org. IN A"},
	})
}

func TestRepliesByProtocol(t *testing.T) {
	runExchanges(t, map[string]exchange{
		"rd is copied, ad and cd are not": {change(question("smtp.mail.example.org.", dns.TypeA), func(m *dns.Msg) {
			m.RecursionDesired, m.AuthenticatedData, m.CheckingDisabled, m.Authoritative, m.Truncated = true, true, true, true, true
		}), "4242 QUERY NOERROR qr aa rd\nquestion smtp.mail.example.org. IN A" + smtpA},
		"class": {change(question("smtp.mail.example.org.", dns.TypeA), func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
			"4242 QUERY REFUSED qr\nquestion smtp.mail.example.org. CH A"},
		"transfer": {question("mail.example.org.", dns.TypeAXFR),
			"4242 QUERY REFUSED qr\nquestion mail.example.org. IN AXFR"},
		"incremental transfer": {change(new(dns.Msg).SetIxfr("mail.example.org.", 1, "ns.example.net.", "h.example.net."), func(m *dns.Msg) { m.Id = 4242 }),
			"4242 QUERY REFUSED qr\nquestion mail.example.org. IN IXFR"},
		"edns": {withEDNS(question("smtp.mail.example.org.", dns.TypeA), 4096, false),
			"4242 QUERY NOERROR qr aa\nquestion smtp.mail.example.org. IN A" + smtpA + "\nopt version 0 size 1232 do false options 0"},
		"edns do and unknown option": {change(withEDNS(question("nope.mail.example.org.", dns.TypeA), 100, true), func(m *dns.Msg) {
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1}}}
		}), "4242 QUERY NXDOMAIN qr aa\nquestion nope.mail.example.org. IN A" + soaLine + "\nopt version 0 size 1232 do true options 0"},
		"edns version": {change(withEDNS(question("smtp.mail.example.org.", dns.TypeA), 1232, false), func(m *dns.Msg) { m.IsEdns0().SetVersion(1) }),
			"4242 QUERY BADSIG qr\nquestion smtp.mail.example.org. IN A\nopt version 0 size 1232 do false options 0"},
		"edns twice": {change(withEDNS(question("smtp.mail.example.org.", dns.TypeA), 1232, false), func(m *dns.Msg) { m.Extra = append(m.Extra, m.Extra[0]) }),
			"4242 QUERY FORMERR qr"},
		"edns elsewhere": {change(withEDNS(question("smtp.mail.example.org.", dns.TypeA), 1232, false), func(m *dns.Msg) { m.IsEdns0().Hdr.Name = "x." }),
			"4242 QUERY FORMERR qr"},
		"no question": {change(question("x.", dns.TypeA), func(m *dns.Msg) { m.Question = nil }),
			"4242 QUERY FORMERR qr"},
		"two questions": {change(question("x.", dns.TypeA), func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
			"4242 QUERY FORMERR qr"},
		"notify": {change(question("mail.example.org.", dns.TypeSOA), func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }),
			"4242 NOTIFY NOTIMP qr"},
		"update": {change(question("mail.example.org.", dns.TypeSOA), func(m *dns.Msg) { m.Opcode, m.RecursionDesired = dns.OpcodeUpdate, true }),
			"4242 UPDATE NOTIMP qr rd"},
		"response": {change(question("smtp.mail.example.org.", dns.TypeA), func(m *dns.Msg) { m.Response = true }), "no reply"},
	})
}

func TestTruncatedMessages(t *testing.T) {
	z := testZone(t)
	wire := wireOf(t, withEDNS(question("smtp.mail.example.org.", dns.TypeA), 1232, false))
	for n := range wire {
		want := "4242 QUERY FORMERR qr"
		if n < headerSize {
			want = "no reply"
		}
		reply, _, err := z.respond(wire[:n], overUDP, eastOnly)
		if err != nil {
			t.Fatal(err)
		}
		if got := render(t, reply); got != want {
			t.Errorf("the first %d bytes of a query get %q, want %q", n, got, want)
		}
	}
}

func TestLargeReplies(t *testing.T) {
	big := ""
	for i := range 60 {
		big += fmt.Sprintf("      big TXT \"%03d %s\"\n", i, strings.Repeat("x", 40))
	}
	for i := range 20 {
		big += fmt.Sprintf("      @ NS ns%d\n      ns%d A 192.0.2.%d\n      ns%d AAAA 2001:db8::%d\n", i, i, i+1, i, i+1)
	}
	c := mustDecode(t, strings.Replace(nodeFile, "      @        MX", big+"      @        MX", 1))
	z := c.compile(config.Cursor{})
	for name, tc := range map[string]struct {
		query               *dns.Msg
		via                 transport
		most                int
		tc                  bool
		answer, glue, other int
	}{
		"txt, plain":          {question("big.mail.example.org.", dns.TypeTXT), overUDP, 512, true, 0, 0, 0},
		"txt, edns":           {withEDNS(question("big.mail.example.org.", dns.TypeTXT), 65535, false), overUDP, 1232, true, 0, 0, 1},
		"txt, tcp":            {question("big.mail.example.org.", dns.TypeTXT), overTCP, 65535, false, 60, 0, 0},
		"ns, plain":           {question("mail.example.org.", dns.TypeNS), overUDP, 512, false, 23, 0, 0},
		"ns, small edns":      {withEDNS(question("mail.example.org.", dns.TypeNS), 700, false), overUDP, 700, false, 23, 0, 1},
		"ns, large edns":      {withEDNS(question("mail.example.org.", dns.TypeNS), 1232, false), overUDP, 1232, false, 23, 0, 1},
		"ns, tcp":             {question("mail.example.org.", dns.TypeNS), overTCP, 65535, false, 23, 43, 0},
		"short, edns size 0":  {withEDNS(question("web.mail.example.org.", dns.TypeA), 0, false), overUDP, 512, false, 1, 0, 1},
		"long, edns size 600": {withEDNS(question("big.mail.example.org.", dns.TypeTXT), 600, false), overUDP, 600, true, 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			wire, _, err := z.respond(wireOf(t, tc.query), tc.via, eastOnly)
			if err != nil {
				t.Fatal(err)
			}
			var m dns.Msg
			if err := m.Unpack(wire); err != nil {
				t.Fatal(err)
			}
			if len(wire) > tc.most || m.Truncated != tc.tc || len(m.Answer) != tc.answer || len(m.Extra) != tc.glue+tc.other || m.Rcode != 0 {
				t.Errorf("%d bytes, want at most %d, in\n%v", len(wire), tc.most, &m)
			}
		})
	}
}

// checkReply checks what holds for a reply to anything.
func checkReply(t *testing.T, z *zone, query *dns.Msg, via transport) {
	t.Helper()
	checkRaw(t, z, wireOf(t, query), via)
}

func checkRaw(t *testing.T, z *zone, wire []byte, via transport) {
	t.Helper()
	reply, rcode, err := z.respond(wire, via, eastOnly)
	if err != nil {
		t.Fatalf("query %x gives error %v", wire, err)
	}
	if reply == nil {
		return
	}
	var m dns.Msg
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("reply %x to %x does not parse: %v", reply, wire, err)
	}
	limit := dns.MaxMsgSize
	if via == overUDP {
		limit = plainSize
		if opt := m.IsEdns0(); opt != nil {
			limit = ednsSize
		}
	}
	if len(reply) > limit || !m.Response || m.Id != uint16(wire[0])<<8|uint16(wire[1]) || m.Rcode != rcode || m.Rcode == dns.RcodeServerFailure {
		t.Fatalf("reply of %d bytes, limit %d, to %x is\n%v", len(reply), limit, wire, &m)
	}
}

func FuzzQuery(f *testing.F) {
	f.Add(wireOf(f, question("smtp.mail.example.org.", dns.TypeA)))
	f.Add(wireOf(f, withEDNS(question("Alias.mail.example.org.", dns.TypeANY), 1232, true)))
	f.Add(wireOf(f, question("mail.example.org.", dns.TypeNS)))
	f.Add(wireOf(f, new(dns.Msg).SetIxfr("mail.example.org.", 1, "ns.example.net.", "h.example.net.")))
	f.Add(wireOf(f, new(dns.Msg).SetTsig("key.example.org.", dns.HmacSHA256, 300, 1)))
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	z := testZone(f)
	f.Fuzz(func(t *testing.T, wire []byte) {
		checkRaw(t, z, wire, overUDP)
		checkRaw(t, z, wire, overTCP)
	})
}
