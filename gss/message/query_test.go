package message

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"anycastle/gss/cookie"
)

func TestQuery(t *testing.T) {
	e := newEdge(t, nil)
	v6 := netip.MustParseAddrPort("[2001:db8::53%eth0]:4000")
	soa := with(edns(t, "9:", "11:", "12:0000"), func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeSOA })
	for _, tc := range []struct {
		name   string
		m      *dns.Msg
		via    Transport
		from   netip.AddrPort
		want   Query
		client string
		limit  int
	}{
		{"plain", with(ask("wWw.Example.ORG.", dns.TypeAAAA), func(m *dns.Msg) { m.RecursionDesired, m.CheckingDisabled = true, true }),
			UDP, testClient, Query{RD: true, CD: true}, "198.51.100.100/32", 512},
		{"AD over TCP", with(ask("www.example.org.", dns.TypeA), func(m *dns.Msg) { m.AuthenticatedData = true }),
			TCP, testClient, Query{AD: true}, "198.51.100.100/32", 65535},
		{"small EDNS size", mend(edns(t), func(o *dns.OPT) { o.Hdr.Class = 100 }), UDP, v6,
			Query{EDNS: true, UDPSize: 512}, "2001:db8::53/128", 512},
		{"middle EDNS size", mend(edns(t), func(o *dns.OPT) { o.Hdr.Class = 800 }), UDP, testClient,
			Query{EDNS: true, UDPSize: 800}, "198.51.100.100/32", 800},
		{"flags and options", mend(edns(t, "3:", "10:"+testCookie), func(o *dns.OPT) { o.SetDo(); o.SetCo() }), UDP, testClient,
			Query{EDNS: true, UDPSize: 1400, DO: true, CO: true, NSID: true, Cookie: cookie.Valid}, "198.51.100.100/32", 1232},
		{"over UDP", soa, UDP, testClient, Query{EDNS: true, UDPSize: 1400, Expire: true}, "198.51.100.100/32", 1232},
		{"over TCP", soa, TCP, testClient, Query{EDNS: true, UDPSize: 1400, Expire: true, Keepalive: true}, "198.51.100.100/32", 65535},
		{"over TLS", soa, TLS, testClient, Query{EDNS: true, UDPSize: 1400, Expire: true, Keepalive: true, Padding: true},
			"198.51.100.100/32", 65535},
		{"EXPIRE of an A", edns(t, "9:"), TCP, testClient, Query{EDNS: true, UDPSize: 1400}, "198.51.100.100/32", 65535},
		{"IPv4 in IPv6 form", edns(t, "10:"+testCookie), UDP, netip.MustParseAddrPort("[::ffff:198.51.100.100]:7"),
			Query{EDNS: true, UDPSize: 1400, Cookie: cookie.Valid}, "198.51.100.100/32", 1232},
		{"subnet", edns(t, "8:00011800cb0071"), UDP, testClient,
			Query{EDNS: true, UDPSize: 1400, Subnet: netip.MustParsePrefix("203.0.113.0/24")}, "203.0.113.0/24", 1232},
		{"subnet of IPv6 from IPv4", edns(t, "8:0002200020010db8"), UDP, testClient,
			Query{EDNS: true, UDPSize: 1400, Subnet: netip.MustParsePrefix("2001:db8::/32")}, "2001:db8::/32", 1232},
		{"subnet opt-out", edns(t, "8:00010000"), UDP, testClient, Query{EDNS: true, UDPSize: 1400}, "198.51.100.100/32", 1232},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, reply, drop := e.Read(wireOf(t, tc.m), tc.via, tc.from, testTime)
			if reply != nil || drop != "" {
				t.Fatal(outcome(t, q, reply, drop))
			}
			tc.want.ID, tc.want.Question, tc.want.Name = 4242, tc.m.Question[0], strings.ToLower(tc.m.Question[0].Name)
			tc.want.Via, tc.want.From = tc.via, tc.from
			got := *q
			got.asked, got.cookie, got.subnet, got.subnetMax = false, nil, nil, 0
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(Query{}), cmp.Comparer(sameAddrPort), cmp.Comparer(samePrefix)); diff != "" {
				t.Errorf("query (-want +got):\n%s", diff)
			}
			if got := q.Client().String(); got != tc.client {
				t.Errorf("rules look at %s, want %s", got, tc.client)
			}
			if got := e.Limit(q); got != tc.limit {
				t.Errorf("limit %d, want %d", got, tc.limit)
			}
			if got, want := q.Trusted(), tc.via != UDP || tc.want.Cookie == cookie.Valid; got != want {
				t.Errorf("trusted: %v", got)
			}
		})
	}
}

func sameAddrPort(a, b netip.AddrPort) bool { return a == b }
func samePrefix(a, b netip.Prefix) bool     { return a == b }

// What the transfer layer works on.
func TestQueryOfTransfers(t *testing.T) {
	e := newEdge(t, nil)
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "ns.example.org.",
		Mbox: "hostmaster.example.org.", Serial: 7}
	ixfr := wireOf(t, with(ask("example.org.", dns.TypeIXFR), func(m *dns.Msg) {
		m.Ns, m.Extra = []dns.RR{soa}, []dns.RR{tsig()}
	}))
	q, _, _ := e.Read(ixfr, TCP, testClient, testTime)
	if len(q.Authority) != 1 || q.Authority[0].String() != soa.String() || q.Answer != nil {
		t.Errorf("IXFR: %v, %v", q.Authority, q.Answer)
	}
	if q.TSIG == nil || q.TSIG.Hdr.Name != "key.example.org." || string(q.Signed) != string(ixfr) {
		t.Errorf("signature: %v of %x", q.TSIG, q.Signed)
	}
	clear(ixfr) // the next message in the same buffer
	if q.Signed[0] != 4242>>8 || q.Authority[0].String() != soa.String() {
		t.Error("the query lives in the message's memory")
	}
	broken := edit(t, with(ask("example.org.", dns.TypeIXFR), func(m *dns.Msg) { m.Ns = []dns.RR{soa} }), func(b []byte) []byte {
		b = b[:len(b)-1]
		binary.BigEndian.PutUint16(b[len(b)-43:], 41)
		return b
	})
	if _, reply, _ := e.Read(broken, TCP, testClient, testTime); reply == nil || Rcode(reply) != dns.RcodeFormatError {
		t.Errorf("IXFR with a broken SOA: %s", render(t, reply))
	}
	notify := wireOf(t, with(ask("example.org.", dns.TypeSOA), func(m *dns.Msg) {
		m.Opcode, m.Answer = dns.OpcodeNotify, []dns.RR{soa}
	}))
	if q, _, _ := e.Read(notify, UDP, testClient, testTime); q.Opcode != dns.OpcodeNotify || len(q.Answer) != 1 || q.Authority != nil {
		t.Errorf("NOTIFY: %+v", q)
	}
}
