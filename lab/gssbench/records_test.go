package gssbench

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"anycastle/internal/proctest"
)

// lookup is what a client asks for, and is to be told.
type lookup struct {
	name  string
	typ   uint16
	rcode int
	want  []string // name, type and data of each record
}

func lookups() []lookup {
	const east4, east6 = "203.0.113.11", "2001:db8:11::25"
	return []lookup{
		{"smtp.example.org.", dns.TypeA, dns.RcodeSuccess, []string{"smtp.example.org. A " + east4}},
		{"smtp.example.org.", dns.TypeAAAA, dns.RcodeSuccess, []string{"smtp.example.org. AAAA " + east6}},
		{"example.org.", dns.TypeMX, dns.RcodeSuccess, []string{
			"example.org. MX 10 mx-east.example.org.", "example.org. MX 20 mx-west.example.org."}},
		{"mx-west.example.org.", dns.TypeA, dns.RcodeSuccess, []string{"mx-west.example.org. A 203.0.113.21"}},
		{"_imaps._tcp.example.org.", dns.TypeSRV, dns.RcodeSuccess, []string{
			"_imaps._tcp.example.org. SRV 10 100 993 mx-east.example.org.",
			"_imaps._tcp.example.org. SRV 20 100 993 mx-west.example.org."}},
		{"web.example.org.", dns.TypeHTTPS, dns.RcodeSuccess, []string{
			`web.example.org. HTTPS 10 mx-east.example.org. alpn="h2" ipv4hint="203.0.113.11" ipv6hint="2001:db8:11::25"`,
			`web.example.org. HTTPS 20 mx-west.example.org. alpn="h2" ipv4hint="203.0.113.21" ipv6hint="2001:db8:21::25"`}},
		{"any.thing.wild.example.org.", dns.TypeTXT, dns.RcodeSuccess, []string{`any.thing.wild.example.org. TXT "any name"`}},
		{"any.smtp.example.org.", dns.TypeAAAA, dns.RcodeSuccess, []string{"any.smtp.example.org. AAAA " + east6}},
		{"chain.example.org.", dns.TypeA, dns.RcodeSuccess, []string{"chain.example.org. CNAME link.example.org.",
			"link.example.org. CNAME smtp.example.org.", "smtp.example.org. A " + east4}},
		{"www.example.org.", dns.TypeMX, dns.RcodeSuccess, nil},
		{"tcp.example.org.", dns.TypeA, dns.RcodeNameError, nil},
		{"deep.sub.example.org.", dns.TypeA, dns.RcodeSuccess, []string{"deep.sub.example.org. A 192.0.2.99"}},
	}
}

// look asks a resolver for all records, some of which only one that follows a delegation can get, and gives how many
// there were.
func (w *world) look(t testing.TB, r *resolver) (n int) {
	t.Helper()
	for _, l := range lookups() {
		if !r.follows && strings.HasSuffix(l.name, ".sub.example.org.") {
			continue
		}
		n++
		m, err := w.query(r.host(), l.name, l.typ)
		if err != nil {
			t.Error(err)
			continue
		}
		var got []string
		for _, rr := range m.Answer {
			h := rr.Header()
			got = append(got, h.Name+" "+dns.Type(h.Rrtype).String()+" "+strings.TrimPrefix(rr.String(), h.String()))
		}
		slices.Sort(got)
		if diff := cmp.Diff(l.want, got); diff != "" || m.Rcode != l.rcode {
			t.Errorf("%s: %s %s: %s (-want +got):\n%s", r.host(), l.name, dns.Type(l.typ), dns.RcodeToString[m.Rcode], diff)
		}
	}
	return n
}

// habit is how a resolver asks, of which the test makes sure.
type habit struct {
	what string
	is   func(*dns.Msg) bool
}

// habits are those of a resolver beside EDNS, which all have.
func (r *resolver) habits() []habit {
	mixed := habit{"letters of mixed case", func(m *dns.Msg) bool {
		name := m.Question[0].Name
		return strings.ToLower(name) != name && strings.ToUpper(name) != name
	}}
	cookies := habit{"a cookie that the server has given", func(m *dns.Msg) bool {
		o := m.IsEdns0()
		return o != nil && slices.ContainsFunc(o.Option, func(o dns.EDNS0) bool {
			c, ok := o.(*dns.EDNS0_COOKIE)
			return ok && len(c.Cookie) == 48 // hex digits: 8 bytes of the client, 16 of the server (RFC 9018)
		})
	}}
	edns := habit{"EDNS", func(m *dns.Msg) bool { return m.IsEdns0() != nil }}
	switch r.name {
	case "unbound", "knot":
		return []habit{edns, mixed}
	case "bind":
		return []habit{edns, cookies}
	}
	return []habit{edns}
}

// resolve has resolvers look for all records, and sees to it that each asks as it should, and that none complains in its log.
// It gives how often something was asked for.
func resolve(t testing.TB, list []*resolver) (lookups int) {
	t.Helper()
	for _, r := range list {
		if r.name == "unbound" {
			r.setting = "use-caps-for-id: yes"
		}
	}
	w := newWorld(t, append(hostsOf(list), "gss-child")...)
	w.probing = patient
	w.startAll()
	dir := w.folder("gss-child")
	w.write("gss-child", "node.yml", child(w.addr["gss-child"], dir))
	proctest.Start(t, w.hosts["gss-child"], "gss-child", dir, binary, "gss", "--config", "node.yml", "--run-dir", dir)
	w.waitGSS("child")
	seen := w.tapRouter()
	for _, r := range list {
		p := w.startResolver(r)
		said := len(p.Log().String())
		lookups += w.look(t, r)
		for _, h := range r.habits() {
			proctest.Eventually(t, r.host()+" asks with "+h.what, func() bool { return seen.asked(w.addr[r.host()], h.is) })
		}
		for line := range strings.Lines(p.Log().String()[said:]) {
			if r.bad.MatchString(line) {
				t.Errorf("%s complains: %s", r.host(), line)
			}
		}
	}
	return lookups
}

// TestResolversUnderstand has two resolvers ask for every kind of record. BenchmarkResolve has all.
func TestResolversUnderstand(t *testing.T) {
	t.Parallel()
	resolve(t, resolvers(false, "unbound", "bind"))
}

// BenchmarkResolve has all resolvers ask for every kind of record, and fails where one is told something wrong or complains.
func BenchmarkResolve(b *testing.B) {
	n := resolve(b, resolvers(false))
	b.ReportMetric(0, "ns/op") // it says nothing
	b.ReportMetric(float64(n), "lookups")
}
