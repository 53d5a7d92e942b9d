package message

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const (
	wwwA     = "\nquestion www.example.org. IN A"
	plainOPT = "\nopt version 0 size 1232"
)

// read is a message and what Read must make of it, over UDP and TCP.
type read struct {
	name string
	wire []byte
	want string
}

func runReads(t *testing.T, e *Edge, reads []read) {
	t.Helper()
	for _, tc := range reads {
		t.Run(tc.name, func(t *testing.T) {
			for _, via := range []Transport{UDP, TCP} {
				q, reply, drop := e.Read(tc.wire, via, testClient, testTime)
				if diff := cmp.Diff(tc.want, outcome(t, q, reply, drop)); diff != "" {
					t.Errorf("over %v (-want +got):\n%s", via, diff)
				}
			}
		})
	}
}

func tsig() *dns.TSIG {
	return &dns.TSIG{Hdr: dns.RR_Header{Name: "key.example.org.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
		Algorithm: dns.HmacSHA256, TimeSigned: 1559731985, Fudge: 300, MACSize: 2, MAC: "abcd", OrigId: 4242}
}

func a(name string) dns.RR {
	return &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: []byte{192, 0, 2, 1}}
}

func TestRead(t *testing.T) {
	t.Run("form", func(t *testing.T) { runReads(t, newEdge(t, nil), formReads(t)) })
	t.Run("opcode", func(t *testing.T) { runReads(t, newEdge(t, nil), opcodeReads(t)) })
	t.Run("class and type", func(t *testing.T) { runReads(t, newEdge(t, nil), classReads(t)) })
	t.Run("EDNS", func(t *testing.T) { runReads(t, newEdge(t, nil), ednsReads(t)) })
	t.Run("cookie query", func(t *testing.T) { runReads(t, newEdge(t, nil), cookieReads(t)) })
}

// formReads is about RFC 1035 section 4.1, RFC 9619, RFC 8945 section 5.1, RFC 6891 section 6.1.
func formReads(t *testing.T) []read {
	const formerr = "4242 opcode 0 rcode 1 qr"
	www := func(f func(*dns.Msg)) *dns.Msg { return with(ask("www.example.org.", dns.TypeA), f) }
	extra := func(rrs ...dns.RR) *dns.Msg { return www(func(m *dns.Msg) { m.Extra = rrs }) }
	return []read{
		{"nothing", nil, "drop short"},
		{"11 bytes", wireOf(t, ask("a.", 1))[:11], "drop short"},
		{"a reply", wireOf(t, www(func(m *dns.Msg) { m.Response = true })), "drop reply"},
		{"a malformed reply", append(unhex(t, "1092 8000"), make([]byte, 8)...), "drop reply"},
		{"query", wireOf(t, ask("www.example.org.", dns.TypeA)), "query"},
		{"all flags", wireOf(t, www(func(m *dns.Msg) {
			m.Authoritative, m.Truncated, m.RecursionAvailable, m.Zero, m.AuthenticatedData, m.Rcode = true, true, true, true, true, 5
		})), "query"},
		{"root", wireOf(t, ask(".", dns.TypeNS)), "query"},
		{"unknown type", wireOf(t, ask("www.example.org.", 666)), "query"},
		{"transfer", wireOf(t, ask("example.org.", dns.TypeAXFR)), "query"},

		{"header alone", unhex(t, "1092 0000 0000 0000 0000 0000"), formerr},
		{"header alone, RD and CD", unhex(t, "1092 0110 0000 0000 0000 0000"), formerr + " rd cd"},
		{"header with counts", unhex(t, "1092 0000 0001 0000 0000 0000"), formerr},
		{"two questions", wireOf(t, www(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })), formerr},
		{"two questions and an OPT", wireOf(t, with(edns(t), func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })),
			formerr + plainOPT},
		{"name without an end", edit(t, ask("www.example.org.", 1), func(b []byte) []byte { return b[:20] }), formerr},
		{"question without class", edit(t, ask("www.example.org.", 1), func(b []byte) []byte { return b[:len(b)-2] }), formerr},
		{"question's name is a pointer", unhex(t, "1092 0000 0001 0000 0000 0000 c00c 0001 0001"), formerr},
		{"question's name has an extended label", unhex(t, "1092 0000 0001 0000 0000 0000 4103 00 0001 0001"), formerr},
		{"question's name is too long", append(append(unhex(t, "1092 0000 0001 0000 0000 0000"),
			[]byte(strings.Repeat("\x3f"+strings.Repeat("a", 63), 4))...), 0, 0, 1, 0, 1), formerr},

		{"trailing byte", edit(t, ask("www.example.org.", 1), func(b []byte) []byte { return append(b, 0) }), formerr + wwwA},
		{"trailing byte after an OPT", edit(t, edns(t), func(b []byte) []byte { return append(b, 0) }), formerr + wwwA + plainOPT},
		{"more answers than there are", edit(t, ask("www.example.org.", 1), count(1, 1)), formerr + wwwA},
		{"more additional than there are", edit(t, edns(t), count(3, 2)), formerr + wwwA + plainOPT},
		{"fewer additional than there are", edit(t, edns(t), count(3, 0)), formerr + wwwA},
		{"record's data beyond the end", edit(t, extra(a("x.example.org.")), func(b []byte) []byte { return b[:len(b)-1] }), formerr + wwwA},
		{"record's name points ahead", append(edit(t, ask("www.example.org.", 1), count(3, 1)),
			unhex(t, "c0ff 0001 0001 00000000 0000")...), formerr + wwwA},
		{"record's name points into the header", append(edit(t, ask("www.example.org.", 1), count(3, 1)),
			unhex(t, "c000 0001 0001 00000000 0000")...), formerr + wwwA},
		{"records that mean nothing", wireOf(t, www(func(m *dns.Msg) {
			m.Answer, m.Ns, m.Extra = []dns.RR{a("x.")}, []dns.RR{a("y.")}, []dns.RR{a("z.")}
		})), "query"},

		{"OPT twice", wireOf(t, extra(opt(t), opt(t))), formerr + wwwA + plainOPT},
		{"OPT of a name", edit(t, edns(t), func(b []byte) []byte {
			return append(append(b[:len(b)-11], 1, 'x'), b[len(b)-11:]...)
		}), formerr + wwwA},
		{"OPT's name is a pointer to a root", edit(t, edns(t), func(b []byte) []byte {
			tail := append([]byte{0xc0, 28}, b[len(b)-10:]...)
			return append(b[:len(b)-11], tail...)
		}), formerr + wwwA},
		{"OPT as answer", wireOf(t, www(func(m *dns.Msg) { m.Answer = []dns.RR{opt(t)} })), formerr + wwwA},
		{"OPT as authority", wireOf(t, www(func(m *dns.Msg) { m.Ns = []dns.RR{opt(t)} })), formerr + wwwA},
		{"OPT after another record", wireOf(t, extra(a("x."), opt(t))), "query"},

		{"TSIG", wireOf(t, extra(opt(t), tsig())), "query"},
		{"TSIG before OPT", wireOf(t, extra(tsig(), opt(t))), formerr + wwwA + plainOPT},
		{"TSIG twice", wireOf(t, extra(tsig(), tsig())), formerr + wwwA},
		{"TSIG as answer", wireOf(t, www(func(m *dns.Msg) { m.Answer = []dns.RR{tsig()} })), formerr + wwwA},
		{"TSIG of class IN", wireOf(t, extra(with(tsig(), func(s *dns.TSIG) { s.Hdr.Class = dns.ClassINET }))), formerr + wwwA},
		{"TSIG with a TTL", wireOf(t, extra(with(tsig(), func(s *dns.TSIG) { s.Hdr.Ttl = 1 }))), formerr + wwwA},
		{"TSIG cut short", edit(t, extra(tsig()), func(b []byte) []byte {
			b = b[:len(b)-2]
			binary.BigEndian.PutUint16(b[len(b)-31:], 29)
			return b
		}), formerr + wwwA},
	}
}

// opcodeReads is about RFC 1035 section 4.1.1, and RFC 6891 section 6.1.1 for the OPT record.
func opcodeReads(t *testing.T) []read {
	opcode := func(n int, m *dns.Msg) []byte {
		return edit(t, m, func(b []byte) []byte {
			b[2], b[3] = byte(n)<<3|7, 0xf0 // with AA, TC, RD, RA, Z, AD and CD
			return b
		})
	}
	notify := func(f func(*dns.Msg)) []byte {
		return wireOf(t, with(ask("example.org.", dns.TypeSOA), func(m *dns.Msg) {
			m.Opcode = dns.OpcodeNotify
			f(m)
		}))
	}
	four := []dns.RR{a("x."), a("x."), a("x."), a("x.")}
	return []read{
		{"IQUERY", opcode(1, ask("www.example.org.", 1)), "4242 opcode 1 rcode 4 qr"},
		{"STATUS", opcode(2, ask("www.example.org.", 1)), "4242 opcode 2 rcode 4 qr"},
		{"3", opcode(3, ask("www.example.org.", 1)), "4242 opcode 3 rcode 4 qr"},
		{"UPDATE", opcode(5, ask("example.org.", dns.TypeSOA)), "4242 opcode 5 rcode 4 qr"},
		{"DSO", unhex(t, "1092 3000 0000 0000 0000 0000 0001 0004 00003a98"), "4242 opcode 6 rcode 4 qr"},
		{"15, header alone", unhex(t, "1092 7800 0000 0000 0000 0000"), "4242 opcode 15 rcode 4 qr"},
		{"15 with EDNS", opcode(15, mend(edns(t), func(o *dns.OPT) { o.SetDo() })), "4242 opcode 15 rcode 4 qr" + plainOPT + " do"},
		{"15 with EDNS 1", opcode(15, mend(edns(t), func(o *dns.OPT) { o.SetVersion(1) })), "4242 opcode 15 rcode 16 qr" + plainOPT},
		{"15 with EDNS 1, malformed", append(opcode(15, mend(edns(t), func(o *dns.OPT) { o.SetVersion(1) })), 0),
			"4242 opcode 15 rcode 4 qr" + plainOPT},
		{"15, malformed", opcode(15, ask("www.example.org.", 1))[:20], "4242 opcode 15 rcode 4 qr"},
		{"NOTIFY", notify(func(m *dns.Msg) {}), "query"},
		{"NOTIFY with a SOA", notify(func(m *dns.Msg) { m.Answer = []dns.RR{a("example.org.")} }), "query"},
		{"NOTIFY with four records", notify(func(m *dns.Msg) { m.Answer = four }), "query"},
		{"NOTIFY with more", notify(func(m *dns.Msg) { m.Answer = append(four, a("x.")) }),
			"4242 opcode 4 rcode 1 qr\nquestion example.org. IN SOA"},
		{"NOTIFY without a question", notify(func(m *dns.Msg) { m.Question = nil }), "4242 opcode 4 rcode 1 qr"},
		{"NOTIFY without one, with a cookie", notify(func(m *dns.Msg) {
			m.Question, m.Extra = nil, []dns.RR{opt(t, "10:"+testClientCookie)}
		}), "4242 opcode 4 rcode 1 qr" + plainOPT + " 10:" + testCookie},
		{"NOTIFY of class CH", notify(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
			"4242 opcode 4 rcode 5 qr\nquestion example.org. CH SOA"},
	}
}

// ofClass is a query of any class.
func ofClass(t *testing.T, name string, qtype, class uint16) []byte {
	return wireOf(t, with(ask(name, qtype), func(m *dns.Msg) { m.Question[0].Qclass = class }))
}

// classReads is about RFC 4892 for CH; RFC 6895 section 3.1, RFC 9824 section 3.5 and others for the types.
func classReads(t *testing.T) []read {
	class := func(name string, qtype, class uint16) []byte { return ofClass(t, name, qtype, class) }
	const refused = "4242 opcode 0 rcode 5 qr\nquestion "
	return []read{
		{"version.bind", class("version.bind.", dns.TypeTXT, 3),
			"4242 opcode 0 rcode 0 qr aa\nquestion version.bind. CH TXT\nanswer version.bind. 0 CH TXT \"anycastle\""},
		{"version.server in mixed case", class("vErsion.Server.", dns.TypeTXT, 3),
			"4242 opcode 0 rcode 0 qr aa\nquestion vErsion.Server. CH TXT\nanswer vErsion.Server. 0 CH TXT \"anycastle\""},
		{"hostname.bind, any", class("hostname.bind.", dns.TypeANY, 3),
			"4242 opcode 0 rcode 0 qr aa\nquestion hostname.bind. CH ANY\nanswer hostname.bind. 0 CH TXT \"gss-east\""},
		{"id.server", class("id.server.", dns.TypeTXT, 3),
			"4242 opcode 0 rcode 0 qr aa\nquestion id.server. CH TXT\nanswer id.server. 0 CH TXT \"gss-east\""},
		{"id.server, other type", class("id.server.", dns.TypeA, 3), refused + "id.server. CH A"},
		{"CH, other name", class("authors.bind.", dns.TypeTXT, 3), refused + "authors.bind. CH TXT"},
		{"id.server in IN", class("id.server.", dns.TypeTXT, 1), "query"},
		{"HS", class("www.example.org.", dns.TypeA, 4), refused + "www.example.org. HS A"},
		{"NONE", class("www.example.org.", dns.TypeA, 254), refused + "www.example.org. NONE A"},
		{"ANY", class("www.example.org.", dns.TypeA, 255), refused + "www.example.org. CLASS255 A"},
		{"unknown class", class("www.example.org.", dns.TypeA, 77), refused + "www.example.org. CLASS77 A"},
		{"type OPT", wireOf(t, ask("www.example.org.", dns.TypeOPT)), "4242 opcode 0 rcode 1 qr\nquestion www.example.org. IN OPT"},
		{"type TSIG", wireOf(t, ask("www.example.org.", dns.TypeTSIG)), "4242 opcode 0 rcode 1 qr\nquestion www.example.org. IN TSIG"},
		{"type TKEY", wireOf(t, ask("www.example.org.", dns.TypeTKEY)), "4242 opcode 0 rcode 4 qr\nquestion www.example.org. IN TKEY"},
		{"type MAILA", wireOf(t, ask("www.example.org.", dns.TypeMAILA)), "4242 opcode 0 rcode 4 qr\nquestion www.example.org. IN MAILA"},
		{"type MAILB", wireOf(t, ask("www.example.org.", dns.TypeMAILB)), "4242 opcode 0 rcode 4 qr\nquestion www.example.org. IN MAILB"},
		{"type NXNAME", wireOf(t, ask("www.example.org.", typeNXNAME)), "4242 opcode 0 rcode 1 qr\nquestion www.example.org. IN NXNAME"},
		{"type NXNAME with EDNS", wireOf(t, with(edns(t), func(m *dns.Msg) { m.Question[0].Qtype = typeNXNAME })),
			"4242 opcode 0 rcode 1 qr\nquestion www.example.org. IN NXNAME" + plainOPT + " 15:001e"},
		{"type ANY", wireOf(t, ask("www.example.org.", dns.TypeANY)), "query"},
	}
}

func TestWhoAmI(t *testing.T) {
	const refused = "4242 opcode 0 rcode 5 qr\nquestion "
	silent := newEdge(t, func(c *Config) { c.ID, c.Version = "", "" })
	runReads(t, silent, []read{
		{"version not configured", ofClass(t, "version.bind.", dns.TypeTXT, 3), refused + "version.bind. CH TXT"},
		{"id not configured", ofClass(t, "id.server.", dns.TypeTXT, 3), refused + "id.server. CH TXT"},
	})
	odd := newEdge(t, func(c *Config) { c.Version = "a\"b\\c é" })
	runReads(t, odd, []read{{"odd characters", ofClass(t, "version.bind.", dns.TypeTXT, 3),
		"4242 opcode 0 rcode 0 qr aa\nquestion version.bind. CH TXT\nanswer version.bind. 0 CH TXT \"a\\\"b\\\\c \\195\\169\""}})
}

// ednsReads is about RFC 6891 section 6.1.3 and each option's own RFC.
func ednsReads(t *testing.T) []read {
	const (
		formerr = "4242 opcode 0 rcode 1 qr" + wwwA + plainOPT
		badvers = "4242 opcode 0 rcode 16 qr" + wwwA + plainOPT
	)
	ecs := func(hex string) string { return "8:" + hex }
	return []read{
		{"plain", wireOf(t, edns(t)), "query"},
		{"version 1", wireOf(t, mend(edns(t), func(o *dns.OPT) { o.SetVersion(1) })), badvers},
		{"version 255, DO", wireOf(t, mend(edns(t), func(o *dns.OPT) { o.SetVersion(255); o.SetDo() })), badvers + " do"},
		{"version 1, all flags", wireOf(t, mend(edns(t), func(o *dns.OPT) { o.SetVersion(1); o.Hdr.Ttl |= 0x7fff })), badvers},
		{"version 1, malformed options", wireOf(t, mend(edns(t, "10:00", ecs("00")), func(o *dns.OPT) { o.SetVersion(1) })), badvers},
		{"version 1, no question", wireOf(t, with(mend(edns(t, "10:"+testClientCookie), func(o *dns.OPT) { o.SetVersion(1) }),
			func(m *dns.Msg) { m.Question = nil })), "4242 opcode 0 rcode 16 qr" + plainOPT},
		{"unknown options", wireOf(t, edns(t, "100:", "65001:0102", "0:", "65535:00")), "query"},
		{"options of others, malformed", wireOf(t, edns(t, "1:00", "2:0000", "5:", "15:", "19:00")), "query"},
		{"option's code cut", edit(t, edns(t), appendOptionBytes("0003 00")), formerr},
		{"option's content cut", edit(t, edns(t), appendOptionBytes("0003 0002 00")), formerr},

		{"cookie, client's", wireOf(t, edns(t, "10:"+testClientCookie)), "query"},
		{"cookie, valid", wireOf(t, edns(t, "10:"+testCookie)), "query"},
		{"cookie, bad", wireOf(t, edns(t, "10:"+badCookie)), "query"},
		{"cookie, empty", wireOf(t, edns(t, "10:")), formerr},
		{"cookie, 7 bytes", wireOf(t, edns(t, "10:00000000000000")), formerr},
		{"cookie, 15 bytes", wireOf(t, edns(t, "10:"+testCookie[:30])), formerr},
		{"cookie, 41 bytes", wireOf(t, edns(t, "10:"+strings.Repeat("00", 41))), formerr},
		{"cookie, the first of two counts", wireOf(t, edns(t, "10:"+testCookie, "10:00")), "query"},

		{"subnet, IPv4", wireOf(t, edns(t, ecs("0001 1800 c00002"))), "query"},
		{"subnet, IPv6", wireOf(t, edns(t, ecs("0002 3800 20010db8000100"))), "query"},
		{"subnet, opt-out", wireOf(t, edns(t, ecs("0001 0000"))), "query"},
		{"subnet, opt-out without a family", wireOf(t, edns(t, ecs("0000 0000"))), "query"},
		{"subnet, no family", wireOf(t, edns(t, ecs("0000 0800 c0"))), formerr},
		{"subnet, unknown family", wireOf(t, edns(t, ecs("0003 0000"))), formerr},
		{"subnet, too short", wireOf(t, edns(t, ecs("0001 00"))), formerr},
		{"subnet, scope", wireOf(t, edns(t, ecs("0001 1801 c00002"))), formerr},
		{"subnet, prefix too long", wireOf(t, edns(t, ecs("0001 2100 c0000201 80"))), formerr},
		{"subnet, prefix too long for IPv6", wireOf(t, edns(t, ecs("0002 8100"+strings.Repeat("00", 17)))), formerr},
		{"subnet, too few bytes", wireOf(t, edns(t, ecs("0001 1800 c000"))), formerr},
		{"subnet, too many bytes", wireOf(t, edns(t, ecs("0001 1800 c0000201"))), formerr},
		{"subnet, bits beyond the prefix", wireOf(t, edns(t, ecs("0001 1700 c00003"))), formerr},
		{"subnet, the first of two counts", wireOf(t, edns(t, ecs("0001 1800 c00002"), ecs("00"))), "query"},
		{"subnet malformed, with a cookie", wireOf(t, edns(t, ecs("00"), "10:"+testClientCookie)), formerr + " 10:" + testCookie},
		{"NSID with content", wireOf(t, edns(t, "3:00ff")), "query"},
		{"EXPIRE with content", wireOf(t, edns(t, "9:00000000")), "query"},
	}
}

// appendOptionBytes adds raw bytes to the options of an OPT record that ends the message and has none.
func appendOptionBytes(digits string) func([]byte) []byte {
	return func(b []byte) []byte {
		raw, _ := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		binary.BigEndian.PutUint16(b[len(b)-2:], uint16(len(raw)))
		return append(b, raw...)
	}
}

// withoutQuestion is a query of options alone.
func withoutQuestion(t *testing.T, options ...string) []byte {
	return wireOf(t, with(edns(t, options...), func(m *dns.Msg) { m.Question = nil }))
}

// cookieReads is about RFC 7873 section 5.4.
func cookieReads(t *testing.T) []read {
	empty := func(options ...string) []byte { return withoutQuestion(t, options...) }
	return []read{
		{"client's", empty("10:" + testClientCookie), "4242 opcode 0 rcode 0 qr" + plainOPT + " 10:" + testCookie},
		{"valid", empty("10:" + testCookie), "4242 opcode 0 rcode 0 qr" + plainOPT + " 10:" + testCookie},
		{"bad", empty("10:" + badCookie), "4242 opcode 0 rcode 23 qr" + plainOPT + " 10:" + testCookie},
		{"malformed", empty("10:00"), "4242 opcode 0 rcode 1 qr" + plainOPT},
		{"none", empty(), "4242 opcode 0 rcode 1 qr" + plainOPT},
		{"NSID alone", empty("3:"), "4242 opcode 0 rcode 1 qr" + plainOPT + " 3:6773732d65617374"},
		{"expire and a cookie", empty("9:", "10:"+testClientCookie), "4242 opcode 0 rcode 0 qr" + plainOPT + " 10:" + testCookie},
	}
}

func TestWithoutCookies(t *testing.T) {
	var c Config
	c.SetDefaults()
	runReads(t, New(c, nil), []read{
		{"cookies off", withoutQuestion(t, "10:"+testClientCookie), "4242 opcode 0 rcode 1 qr" + plainOPT},
		{"cookies off, malformed", wireOf(t, edns(t, "10:00")), "query"},
	})
}

// RFC 7873 section 5.2.3: the policy for a server under attack.
func TestRequireCookie(t *testing.T) {
	e := newEdge(t, func(c *Config) { c.RequireCookie = true })
	const badcookie = "4242 opcode 0 rcode 23 qr" + wwwA + plainOPT + " 10:" + testCookie
	notify := with(ask("example.org.", dns.TypeSOA), func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify })
	for _, tc := range []struct {
		name string
		m    *dns.Msg
		via  Transport
		want string
	}{
		{"no EDNS", ask("www.example.org.", dns.TypeA), UDP, "4242 opcode 0 rcode 0 qr tc" + wwwA},
		{"no cookie", edns(t), UDP, "4242 opcode 0 rcode 0 qr tc" + wwwA + plainOPT},
		{"client's", edns(t, "10:"+testClientCookie), UDP, badcookie},
		{"bad", edns(t, "10:"+badCookie), UDP, badcookie},
		{"valid", edns(t, "10:"+testCookie), UDP, "query"},
		{"TCP", ask("www.example.org.", dns.TypeA), TCP, "query"},
		{"TLS, bad", edns(t, "10:"+badCookie), TLS, "query"},
		{"NOTIFY, which primaries send without", notify, UDP, "query"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, reply, drop := e.Read(wireOf(t, tc.m), tc.via, testClient, testTime)
			if diff := cmp.Diff(tc.want, outcome(t, q, reply, drop)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoPort(t *testing.T) {
	e := newEdge(t, nil)
	from := netip.AddrPortFrom(testClient.Addr(), 0)
	q, reply, drop := e.Read(wireOf(t, edns(t)), UDP, from, testTime)
	if got := outcome(t, q, reply, drop); got != "drop no-port" {
		t.Error(got)
	}
}

func TestSlipAndBadCookie(t *testing.T) {
	e := newEdge(t, nil)
	query := wireOf(t, edns(t, "3:", "10:"+badCookie)) // NSID would make the reply larger
	q, _, _ := e.Read(query, UDP, testClient, testTime)
	if n := len(e.Slip(q)); n > len(query) {
		t.Errorf("slip of %d bytes for %d", n, len(query))
	}
	if diff := cmp.Diff("4242 opcode 0 rcode 0 qr tc"+wwwA+plainOPT+" 10:"+testCookie, render(t, e.Slip(q))); diff != "" {
		t.Errorf("slip (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("4242 opcode 0 rcode 23 qr"+wwwA+plainOPT+" 10:"+testCookie, render(t, e.BadCookie(q))); diff != "" {
		t.Errorf("bad cookie (-want +got):\n%s", diff)
	}
	q, _, _ = e.Read(wireOf(t, ask("www.example.org.", dns.TypeA)), UDP, testClient, testTime)
	if e.BadCookie(q) != nil {
		t.Error("BADCOOKIE to who sent no cookie")
	}
	if diff := cmp.Diff("4242 opcode 0 rcode 0 qr tc"+wwwA, render(t, e.Slip(q))); diff != "" {
		t.Errorf("slip without EDNS (-want +got):\n%s", diff)
	}
}
