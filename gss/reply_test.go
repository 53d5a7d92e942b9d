package gss

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"anycastle/gss/decide"
	"anycastle/gss/message"
)

// deciding is a GSS that has decided, by views that a test gives, and does not run.
type deciding struct {
	*GSS
	t testing.TB
}

func newDeciding(t testing.TB, text string, failing ...string) *deciding {
	t.Helper()
	g, err := New(mustDecode(t, text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := &deciding{g, t}
	d.see(failing...)
	return d
}

// see has the probes of some answers fail and those of the others pass, and decides.
func (d *deciding) see(failing ...string) {
	d.t.Helper()
	for name, w := range d.engine.watched {
		for i := range w.targets {
			w.targets[i].state, w.targets[i].err = passing(failing, name)
			w.targets[i].assumed = false
		}
	}
	d.engine.decide(d.t.Context(), clock)
}

// ask gives the whole reply to a query from an address, as render writes it.
func (d *deciding) ask(from string, m *dns.Msg) string {
	d.t.Helper()
	return render(d.t, d.respond(packed(d.t, m), message.UDP, netip.MustParseAddrPort(net.JoinHostPort(from, "5353"))))
}

// question is a plain query with id 4242.
func question(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.Id, m.RecursionDesired = 4242, false
	return m
}

// withSubnet adds an OPT record with a client subnet.
func withSubnet(m *dns.Msg, subnet string) *dns.Msg {
	m.SetEdns0(1232, false)
	if subnet == "" {
		return m
	}
	p := netip.MustParsePrefix(subnet)
	family := uint16(1)
	if p.Addr().Is6() {
		family = 2
	}
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{
		Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice(),
	}}
	return m
}

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// render writes a reply in short: its code and flags, then the records and options that are not the question's.
func render(t testing.TB, wire []byte) string {
	t.Helper()
	if wire == nil {
		return "no reply"
	}
	var m dns.Msg
	if err := m.Unpack(wire); err != nil {
		t.Fatalf("unpack reply %x: %v", wire, err)
	}
	if m.Id != 4242 || !m.Response {
		t.Errorf("the reply's header is %+v", m.MsgHdr)
	}
	text := dns.RcodeToString[m.Rcode]
	if m.Authoritative {
		text += " aa"
	}
	for i, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			o, ok := rr.(*dns.OPT)
			if !ok {
				text += "\n" + [...]string{"", "authority ", "additional "}[i] + strings.Join(strings.Fields(rr.String()), " ")
				continue
			}
			for _, option := range o.Option {
				if s, ok := option.(*dns.EDNS0_SUBNET); ok {
					text += fmt.Sprintf("\nsubnet %v/%d/%d", s.Address, s.SourceNetmask, s.SourceScope)
				} else {
					text += "\noption " + option.String()
				}
			}
		}
	}
	return text
}

const soaLine = "\nauthority mail.example.org. 5 IN SOA ns-east.mail.example.org. hostmaster.example.org. 1 3600 600 1209600 5"

func TestReplies(t *testing.T) {
	const smtp, plain = "smtp.mail.example.org.", "198.51.100.99"
	for name, tc := range map[string]struct {
		from    string
		query   *dns.Msg
		failing string // answers
		want    string
	}{
		"rule, A":              {plain, question(smtp, dns.TypeA), "", "NOERROR aa\n" + smtp + " 5 IN A 203.0.113.110"},
		"rule, AAAA":           {plain, question(smtp, dns.TypeAAAA), "", "NOERROR aa\n" + smtp + " 5 IN AAAA 2001:db8::110"},
		"rule in mixed case":   {plain, question("sMTp.MAIL.example.org.", dns.TypeA), "", "NOERROR aa\nsMTp.MAIL.example.org. 5 IN A 203.0.113.110"},
		"rule, other type":     {plain, question(smtp, dns.TypeTXT), "", "NOERROR aa" + soaLine},
		"rule, east is out":    {plain, question(smtp, dns.TypeA), "smtp-east", "NOERROR aa\n" + smtp + " 2 IN A 203.0.113.210"},
		"west has no IPv6":     {plain, question(smtp, dns.TypeAAAA), "smtp-east", "NOERROR aa" + soaLine},
		"rule by a wildcard":   {plain, question("a.pop.mail.example.org.", dns.TypeA), "", "NOERROR aa\na.pop.mail.example.org. 5 IN A 203.0.113.110"},
		"alias to a rule":      {plain, question("alias.mail.example.org.", dns.TypeA), "", "NOERROR aa\nalias.mail.example.org. 5 IN CNAME " + smtp + "\n" + smtp + " 5 IN A 203.0.113.110"},
		"record":               {plain, question("web.mail.example.org.", dns.TypeA), "", "NOERROR aa\nweb.mail.example.org. 5 IN A 192.0.2.80"},
		"record leads to one":  {plain, question("other.mail.example.org.", dns.TypeMX), "", "NOERROR aa\nother.mail.example.org. 5 IN MX 10 " + smtp + "\nadditional " + smtp + " 5 IN A 203.0.113.110\nadditional " + smtp + " 5 IN AAAA 2001:db8::110"},
		"unknown name":         {plain, question("nope.mail.example.org.", dns.TypeA), "", "NXDOMAIN aa" + soaLine},
		"another zone":         {plain, question("example.org.", dns.TypeA), "", "REFUSED"},
		"another zone, EDNS":   {plain, withSubnet(question("example.org.", dns.TypeA), ""), "", "REFUSED\noption 20 (Not Authoritative): ()"},
		"transfer":             {plain, withSubnet(question("mail.example.org.", dns.TypeAXFR), ""), "", "REFUSED\noption 21 (Not Supported): ()"},
		"first rule that fits": {"192.0.2.200", question(smtp, dns.TypeA), "", "NOERROR aa\n" + smtp + " 60 IN A 203.0.113.210"},
		"near west":            {"192.0.2.3", question(smtp, dns.TypeA), "", "NOERROR aa\n" + smtp + " 5 IN A 203.0.113.210"},
		"near west, IPv6":      {"2001:db8:1::9", question(smtp, dns.TypeA), "", "NOERROR aa\n" + smtp + " 5 IN A 203.0.113.210"},
		"subnet near west":     {plain, withSubnet(question(smtp, dns.TypeA), "192.0.2.0/25"), "", "NOERROR aa\n" + smtp + " 5 IN A 203.0.113.210\nsubnet 192.0.2.0/25/25"},
		"subnet elsewhere":     {"192.0.2.3", withSubnet(question(smtp, dns.TypeA), "203.0.113.0/24"), "", "NOERROR aa\n" + smtp + " 5 IN A 203.0.113.110\nsubnet 203.0.113.0/24/5"},
		"subnet, IPv4 in IPv6": {plain, withSubnet(question(smtp, dns.TypeA), "::ffff:192.0.2.0/121"), "", "NOERROR aa\n" + smtp + " 5 IN A 203.0.113.210\nsubnet 192.0.2.0/121/121"},
		"subnet, all of IPv4":  {plain, withSubnet(question(smtp, dns.TypeA), "::ffff:0:0/96"), "", "NOERROR aa\n" + smtp + " 5 IN A 203.0.113.110\nsubnet 0.0.0.0/96/97"},
		"subnet, no matter":    {plain, withSubnet(question("web.mail.example.org.", dns.TypeA), "192.0.2.0/24"), "", "NOERROR aa\nweb.mail.example.org. 5 IN A 192.0.2.80\nsubnet 192.0.2.0/24/0"},
		"MX":                   {plain, question("mail.example.org.", dns.TypeMX), "", "NOERROR aa\nmail.example.org. 5 IN MX 10 mx-east.example.org.\nmail.example.org. 5 IN MX 20 mx-west.example.org."},
		"MX, east is out":      {plain, question("mail.example.org.", dns.TypeMX), "smtp-east", "NOERROR aa\nmail.example.org. 2 IN MX 10 mx-west.example.org."},
		"SRV":                  {plain, question("_submission._tcp.mail.example.org.", dns.TypeSRV), "smtp-west", "NOERROR aa\n_submission._tcp.mail.example.org. 2 IN SRV 10 100 587 mx-east.example.org."},
		"HTTPS":                {plain, question("mail.example.org.", dns.TypeHTTPS), "smtp-west", "NOERROR aa\n" + `mail.example.org. 2 IN HTTPS 1 . alpn="h2" ipv4hint="203.0.113.110" ipv6hint="2001:db8::110"`},
		"all are out":          {plain, withSubnet(question(smtp, dns.TypeA), ""), "smtp-east smtp-west", "NOERROR aa\n" + smtp + " 2 IN A 203.0.113.110\n" + smtp + " 2 IN A 203.0.113.210\noption 3 (Stale Answer): (rule smtp: nothing works; all there is)"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeciding(t, nodeFile, strings.Fields(tc.failing)...)
			if diff := cmp.Diff(tc.want, d.ask(tc.from, tc.query)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// When all are out, what was answered last goes on, and the resolver's people are told.
func TestLastGoodIsAnswered(t *testing.T) {
	d := newDeciding(t, nodeFile, "smtp-east")
	d.see("smtp-east", "smtp-west")
	want := "NOERROR aa\nsmtp.mail.example.org. 2 IN A 203.0.113.210\noption 3 (Stale Answer): (rule smtp: nothing works; the last known good)"
	if got := d.ask("198.51.100.99", withSubnet(question("smtp.mail.example.org.", dns.TypeA), "")); got != want {
		t.Errorf("the reply is\n%s\nwant\n%s", got, want)
	}
}

// Reverse zones of less than a /24 have a slash in their names (RFC 2317).
func TestClasslessReverseZone(t *testing.T) {
	d := newDeciding(t, strings.Replace(nodeFile, "    - name: mail.example.org\n", "    - {name: 0/25.2.0.192.in-addr.arpa, "+
		"primary: ns.example.net, contact: h.example.net, records: \"@ NS ns.example.net.\\n7 PTR web.mail.example.org.\"}\n"+
		"    - name: mail.example.org\n", 1))
	want := "NOERROR aa\n7.0/25.2.0.192.in-addr.arpa. 5 IN PTR web.mail.example.org."
	if diff := cmp.Diff(want, d.ask("198.51.100.99", question("7.0/25.2.0.192.in-addr.arpa.", dns.TypePTR))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A reload that moves a rule to another group leaves nothing of the former: an answer without a target would make a record that
// says that there is no mail (RFC 7505).
func TestLastGoodIsOfTheRule(t *testing.T) {
	d := newDeciding(t, nodeFile, "smtp-west")
	text := strings.Replace(nodeFile, "target: mx-east.example.org", "weight: 100", 1)
	text = strings.Replace(text, "clauses: [{group: smtp, count: 2}]", "clauses: [{group: west, count: 2}]", 1)
	cfg := mustDecode(t, text)
	cfg.StateDir = d.engine.serving().config.StateDir
	if err := d.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	d.see("smtp-west")
	got := d.ask("198.51.100.99", question("mail.example.org.", dns.TypeMX))
	if want := "NOERROR aa\nmail.example.org. 2 IN MX 10 mx-west.example.org."; got != want {
		t.Errorf("the reply is\n%s\nwant\n%s", got, want)
	}
}

// Each balance method gives clients their shares.
func TestSharesOfClients(t *testing.T) {
	const ask = 2000
	for _, tc := range []struct {
		method   decide.Method
		east     int // of the clients
		slack    int
		clinging bool // a client gets the same each time
	}{
		{decide.Ordered, ask, 0, true},
		{decide.RoundRobin, ask / 2, 0, false},
		{decide.Weighted, ask / 4, 100, false},
		{decide.LeastLoaded, ask / 4, 100, false},
		{decide.Hashed, ask / 4, 100, true},
	} {
		t.Run(string(tc.method), func(t *testing.T) {
			text := strings.Replace(nodeFile, "balance: nearest", "balance: "+string(tc.method), 1)
			text = strings.Replace(text, "      near: [{sources: branch, sites: [west]}]\n", "", 1)
			text = strings.Replace(text, "      target: mx-west", "      weight: 300\n      target: mx-west", 1)
			d := newDeciding(t, text)
			east := 0
			for i := range ask {
				from := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}).String()
				reply := d.ask(from, question("smtp.mail.example.org.", dns.TypeA))
				if strings.HasSuffix(reply, " 203.0.113.110") {
					east++
				}
				if tc.clinging && i%20 == 0 && d.ask(from, question("smtp.mail.example.org.", dns.TypeA)) != reply {
					t.Fatalf("%s gets two answers", from)
				}
			}
			if east < tc.east-tc.slack || east > tc.east+tc.slack {
				t.Errorf("%d of %d clients are sent east, want %d", east, ask, tc.east)
			}
		})
	}
}

func FuzzQuery(f *testing.F) {
	f.Add(packed(f, question("smtp.mail.example.org.", dns.TypeA)))
	f.Add(packed(f, withSubnet(question("Alias.mail.example.org.", dns.TypeANY), "192.0.2.0/24")))
	f.Add(packed(f, question("mail.example.org.", dns.TypeNS)))
	f.Add(packed(f, new(dns.Msg).SetIxfr("mail.example.org.", 1, "ns.example.net.", "h.example.net.")))
	f.Add(packed(f, new(dns.Msg).SetTsig("key.example.org.", dns.HmacSHA256, 300, 1)))
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	d := newDeciding(f, strings.Replace(nodeFile, "  listen:", "  limits: {responses_per_second: 0}\n  edns: {id: gss-east}\n  listen:", 1))
	f.Fuzz(func(t *testing.T, wire []byte) {
		for _, via := range []message.Transport{message.UDP, message.TCP, message.TLS} {
			reply := d.respond(wire, via, netip.MustParseAddrPort("192.0.2.3:53"))
			if reply == nil {
				continue
			}
			var m dns.Msg
			if err := m.Unpack(reply); err != nil {
				t.Fatalf("reply %x to %x does not parse: %v", reply, wire, err)
			}
			if !m.Response || m.Id != uint16(wire[0])<<8|uint16(wire[1]) || m.Rcode == dns.RcodeServerFailure {
				t.Fatalf("the reply to %x is\n%v", wire, &m)
			}
		}
		from := netip.MustParseAddrPort("192.0.2.3:53")
		if fast := d.fast(wire, from); fast != nil {
			if diff := cmp.Diff(unpacked(t, d.respond(wire, message.UDP, from)), unpacked(t, fast)); diff != "" && !strings.Contains(diff, "COOKIE") {
				t.Fatalf("%x is answered in two ways (-slow +fast):\n%s", wire, diff)
			}
		}
		if n := faults(d); n != 0 {
			t.Fatalf("%v queries were lost to a fault", n)
		}
	})
}
