package gss

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"anycastle/gss/message"
	"anycastle/gss/udp"
)

// fast gives the reply of the fast path, nil if it has none.
func (d *deciding) fast(wire []byte, from netip.AddrPort) []byte {
	l := d.Lane(0)
	l.Begin(clock)
	dst := make([]byte, udp.MaxReply)
	n, v := l.Fast(dst, wire, from)
	if v != udp.Answered {
		return nil
	}
	return dst[:n]
}

// Both paths answer alike, whoever asks for whatever, in each state of the answers.
func TestBothPathsAnswerAlike(t *testing.T) {
	for _, failing := range []string{"", "smtp-east", "smtp-west", "smtp-east smtp-west"} {
		text := strings.Replace(nodeFile, "  listen:", "  edns: {id: gss-east}\n  listen:", 1)
		text = strings.Replace(text, "  rules:\n", "  rules:\n"+
			"    - {name: lab-only, domains: [lab.mail.example.org], sources: [lab], clauses: [{group: west}]}\n", 1)
		d := newDeciding(t, text, strings.Fields(failing)...)
		fast := 0
		for _, name := range []string{
			"smtp.mail.example.org.", "SmTp.mail.EXAMPLE.org.", "web.mail.example.org.", "ns-east.mail.example.org.", "mail.example.org.",
			"alias.mail.example.org.", "a.pop.mail.example.org.", "nope.mail.example.org.", "deep.mail.example.org.", "example.net.",
			"lab.mail.example.org.",
		} {
			for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeANY} {
				for _, from := range []string{"198.51.100.99:53", "192.0.2.3:53", "192.0.2.200:53", "[2001:db8:1::9]:53"} {
					for _, m := range variations(name, rrtype) {
						wire, addr := packed(t, m), netip.MustParseAddrPort(from)
						got := d.fast(wire, addr)
						if got == nil {
							continue
						}
						fast++
						want := d.respond(wire, message.UDP, addr)
						if diff := cmp.Diff(unpacked(t, want), unpacked(t, got)); diff != "" {
							t.Fatalf("to %v from %s with %q failing (-slow +fast):\n%s", m, from, failing, diff)
						}
					}
				}
			}
		}
		if fast < 250 {
			t.Errorf("with %q failing only %d were answered fast", failing, fast)
		}
	}
}

// variations are queries for a name and type with different flags and options.
func variations(name string, rrtype uint16) (list []*dns.Msg) {
	add := func(f func(*dns.Msg)) {
		m := question(name, rrtype)
		f(m)
		list = append(list, m)
	}
	option := func(o ...dns.EDNS0) func(*dns.Msg) {
		return func(m *dns.Msg) { m.SetEdns0(1232, true); m.IsEdns0().Option = o }
	}
	add(func(*dns.Msg) {})
	add(func(m *dns.Msg) {
		m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData, m.Zero = true, true, true, true
	})
	add(option())
	add(func(m *dns.Msg) { m.SetEdns0(100, false) })
	add(option(&dns.EDNS0_NSID{Code: dns.EDNS0NSID}))
	add(option(&dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1}}))
	add(option(&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{192, 0, 2, 0}}))
	add(option(&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 0, Address: []byte{0, 0, 0, 0}}))
	add(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
	return list
}

// unpacked writes a reply whole, but for the case of names that are not the question's: who compresses it may point to those of
// the question instead of spelling them.
func unpacked(t *testing.T, wire []byte) string {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(wire); err != nil {
		t.Fatalf("%x: %v", wire, err)
	}
	return fmt.Sprintf("%v\n%s", m.Question, strings.ToLower(m.String()))
}

// A cookie that one path gave is good for the other.
func TestCookiesOfBothPaths(t *testing.T) {
	d := newDeciding(t, nodeFile)
	from := netip.MustParseAddrPort("198.51.100.99:53")
	ask := func(cookie string) []byte {
		m := question("smtp.mail.example.org.", dns.TypeA)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie}}
		return packed(t, m)
	}
	cookieOf := func(wire []byte) string {
		var m dns.Msg
		if err := m.Unpack(wire); err != nil {
			t.Fatal(err)
		}
		return m.IsEdns0().Option[0].(*dns.EDNS0_COOKIE).Cookie
	}
	const client = "0102030405060708"
	now := time.Now()
	l := d.Lane(0).(*lane)
	l.Begin(now)
	dst := make([]byte, udp.MaxReply)
	n, v := l.Fast(dst, ask(client), from)
	if v != udp.Answered || l.client.Known {
		t.Fatalf("without a server cookie: %v, known %v", v, l.client.Known)
	}
	given := cookieOf(dst[:n])
	if !strings.HasPrefix(given, client) || len(given) != 48 {
		t.Fatalf("the cookie is %s", given)
	}
	if _, v = l.Fast(dst, ask(given), from); v != udp.Answered || !l.client.Known {
		t.Errorf("with the server cookie: %v, known %v", v, l.client.Known)
	}
	q, _, _ := d.engine.current.Load().edge.Read(ask(given), message.UDP, from, now)
	if !q.Trusted() {
		t.Error("the slow path does not believe the cookie")
	}
	strict := newDeciding(t, strings.Replace(nodeFile, "  listen:", "  edns: {require_cookie: true}\n  listen:", 1))
	if strict.fast(ask(client), from) != nil {
		t.Error("where cookies are required, the fast path answers without one")
	}
}

// A flood of one name gets no more than its share, and then truncated replies.
func TestFloodIsLimited(t *testing.T) {
	d := newDeciding(t, nodeFile)
	l := d.Lane(0)
	l.Begin(time.Now())
	wire, dst, whole, cut := packed(t, question("smtp.mail.example.org.", dns.TypeA)), make([]byte, udp.MaxReply), 0, 0
	for i := range 1000 {
		n, v := l.Fast(dst, wire, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 53))
		switch {
		case v != udp.Answered:
			t.Fatalf("query %d is not answered: %v", i, v)
		case dst[2]&2 != 0:
			if cut++; n != len(wire) {
				t.Fatalf("a truncated reply has %d octets to a query of %d", n, len(wire))
			}
		default:
			whole++
		}
	}
	if whole < 190 || whole > 210 || cut != 1000-whole {
		t.Errorf("%d replies are whole and %d truncated", whole, cut)
	}
}

func TestFastPathDoesNotAllocate(t *testing.T) {
	dst, from := make([]byte, udp.MaxReply), netip.MustParseAddrPort("198.51.100.99:53")
	for _, limits := range []string{"0", "1, slip: 1", "1, slip: 0"} {
		d := newDeciding(t, strings.Replace(nodeFile, "  listen:", "  limits: {responses_per_second: "+limits+"}\n  listen:", 1))
		l := d.Lane(0)
		want := udp.Answered
		if limits == "1, slip: 0" {
			want = udp.Dropped
		}
		for name, m := range map[string]*dns.Msg{
			"rule":   question("smtp.mail.example.org.", dns.TypeA),
			"record": withSubnet(question("web.mail.example.org.", dns.TypeA), "192.0.2.0/24"),
		} {
			wire := packed(t, m)
			l.Begin(clock)
			l.Fast(dst, wire, from) // within the limit
			if n := testing.AllocsPerRun(100, func() {
				l.Begin(clock)
				if _, v := l.Fast(dst, wire, from); v != want || dst[2]&2 != 0 != (limits == "1, slip: 1") {
					t.Fatalf("%s, with limits of %s: %v, truncated %v", name, limits, v, dst[2]&2 != 0)
				}
			}); n > 0 {
				t.Errorf("%s, with limits of %s: %v allocations", name, limits, n)
			}
		}
	}
}

// A reply that is truncated as there were too many is the same on both paths.
func TestBothPathsSlipAlike(t *testing.T) {
	d := newDeciding(t, strings.Replace(nodeFile, "  listen:", "  edns: {id: gss-east}\n  limits: {responses_per_second: 1}\n  listen:", 1))
	from := netip.MustParseAddrPort("192.0.2.3:53")
	for _, m := range variations("SmTp.mail.example.org.", dns.TypeA) {
		wire := packed(t, m)
		for range 2 {
			d.fast(wire, from)
			d.respond(wire, message.UDP, from)
		}
		fast := d.fast(wire, from)
		if fast == nil {
			continue
		}
		slow := d.respond(wire, message.UDP, from)
		if fast[2]&2 == 0 || slow[2]&2 == 0 {
			t.Fatalf("replies to %v are whole", m)
		}
		if diff := cmp.Diff(unpacked(t, slow), unpacked(t, fast)); diff != "" {
			t.Errorf("to %v (-slow +fast):\n%s", m, diff)
		}
	}
}
