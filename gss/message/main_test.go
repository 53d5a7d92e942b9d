package message

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/cookie"
	"anycastle/internal/config"
)

// testTime is that of RFC 9018 appendix A.1, and testClient its client.
var (
	testTime   = time.Unix(1559731985, 0)
	testClient = netip.MustParseAddrPort("198.51.100.100:5353")
)

const (
	testClientCookie = "2464c4abcf10c957"
	testCookie       = testClientCookie + "010000005cf79f111f8130c3eee29480"
	badCookie        = testClientCookie + "010000005cf79f110000000000000000"
)

// newEdge gives an Edge with the defaults, an ID, a version and cookies, and what change makes of that.
func newEdge(t testing.TB, change func(*Config)) *Edge {
	t.Helper()
	var c Config
	c.SetDefaults()
	c.ID, c.Version = "gss-east", "anycastle"
	if change != nil {
		change(&c)
	}
	if err := checkConfig(&c); err != nil {
		t.Fatal(err)
	}
	return New(c, cookie.NewServer(cookie.Secret(unhex(t, "e5e973e5a6b2a43f48e7dc849e37bfcf"))))
}

func checkConfig(c *Config) error { return config.Check("gss", c.Validate) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask is a query with id 4242 for the name and type.
func ask(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.Id, m.RecursionDesired = 4242, false
	return m
}

// with changes a message or a record in place.
func with[T any](v *T, f func(*T)) *T {
	f(v)
	return v
}

// opt is an OPT record of size 1400 with the options: each a code and the hex digits of its content.
func opt(t testing.TB, options ...string) *dns.OPT {
	t.Helper()
	o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1400}}
	for _, text := range options {
		code, body, _ := strings.Cut(text, ":")
		n, err := strconv.ParseUint(code, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: uint16(n), Data: unhex(t, body)})
	}
	return o
}

// edns is a query for www.example.org A with an OPT record with the options.
func edns(t testing.TB, options ...string) *dns.Msg {
	return with(ask("www.example.org.", dns.TypeA), func(m *dns.Msg) { m.Extra = []dns.RR{opt(t, options...)} })
}

// mend changes the OPT record of a message.
func mend(m *dns.Msg, f func(*dns.OPT)) *dns.Msg {
	f(m.IsEdns0())
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

// edit changes the wire form of a message.
func edit(t testing.TB, m *dns.Msg, f func([]byte) []byte) []byte { return f(wireOf(t, m)) }

// count sets one of the header's counts: 0 for questions to 3 for additional records.
func count(section int, n uint16) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.BigEndian.PutUint16(b[4+2*section:], n)
		return b
	}
}

// render writes a whole message: header, question, every record and option.
func render(t testing.TB, wire []byte) string {
	t.Helper()
	if wire == nil {
		return "nothing"
	}
	var m dns.Msg
	if err := m.Unpack(wire); err != nil {
		t.Fatalf("unpack reply %x: %v", wire, err)
	}
	var b strings.Builder
	// the RCODE by number: the library gives 16 the name of another error
	fmt.Fprintf(&b, "%d opcode %d rcode %d", m.Id, m.Opcode, Rcode(wire))
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
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if o, ok := rr.(*dns.OPT); ok {
				b.WriteString("\n" + renderOPT(o, rawOptions(t, wire)))
				continue
			}
			fmt.Fprintf(&b, "\n%s %s", [...]string{"answer", "authority", "additional"}[i], strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	return b.String()
}

func renderOPT(o *dns.OPT, options []string) string {
	s := fmt.Sprintf("opt version %d size %d", o.Version(), o.UDPSize())
	if o.Do() {
		s += " do"
	}
	if o.Co() || o.Z() != 0 {
		s += fmt.Sprintf(" flags %#x", o.Hdr.Ttl&0x7fff)
	}
	for _, text := range options {
		s += " " + text
	}
	return s
}

// rawOptions gives the options of a message's OPT record as opt takes them.
func rawOptions(t testing.TB, wire []byte) (options []string) {
	t.Helper()
	w := walker{wire: wire, off: headerSize}
	for range binary.BigEndian.Uint16(wire[4:]) {
		w.question()
	}
	for w.off < len(wire) {
		r, ok := w.record()
		if !ok {
			t.Fatalf("malformed: %x", wire)
		}
		for d := r.data; r.rrtype == dns.TypeOPT && len(d) > 0; {
			n := int(binary.BigEndian.Uint16(d[2:]))
			options = append(options, fmt.Sprintf("%d:%x", binary.BigEndian.Uint16(d), d[4:4+n]))
			d = d[4+n:]
		}
	}
	return options
}

// outcome writes what Read gave.
func outcome(t testing.TB, q *Query, reply []byte, drop Reason) string {
	t.Helper()
	switch {
	case drop != "":
		if q != nil || reply != nil {
			t.Errorf("dropped, and yet query %v, reply %x", q, reply)
		}
		return "drop " + string(drop)
	case reply != nil:
		return render(t, reply)
	}
	return "query"
}
