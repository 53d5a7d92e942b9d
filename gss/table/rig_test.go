package table

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// records parses records, one a string.
func records(t testing.TB, texts ...string) (rrs []dns.RR) {
	t.Helper()
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

// reply is a reply as the slow path would make it for any query, without OPT.
type reply struct {
	answer, authority, additional []string
	rcode                         int
	referral                      bool
}

func (r reply) message(t testing.TB, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Id, m.RecursionDesired, m.Response, m.Authoritative, m.Compress, m.Rcode = 0, false, true, !r.referral, true, r.rcode
	m.Answer, m.Ns, m.Extra = records(t, r.answer...), records(t, r.authority...), records(t, r.additional...)
	return m
}

func (r reply) wire(t testing.TB, name string, qtype uint16) []byte {
	t.Helper()
	return pack(t, r.message(t, name, qtype))
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatalf("pack: %v", err)
	}
	return wire
}

// fixed is an entry of one reply.
func (r reply) fixed(t testing.TB, name string, qtype uint16) Entry {
	t.Helper()
	return Entry{Variants: []Variant{{Plain: r.wire(t, name, qtype)}}}
}

func newBuilder(t testing.TB, cfg Config) *Builder {
	t.Helper()
	b, err := NewBuilder(cfg)
	check(t, err)
	return b
}

func build(t testing.TB, b *Builder) *Table {
	t.Helper()
	table, err := b.Build()
	check(t, err)
	return table
}

// question is a query in wire form: changes may give it an OPT, other flags and so on.
func question(t testing.TB, name string, qtype uint16, changes ...func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Id, m.RecursionDesired = 0x1234, false
	for _, change := range changes {
		change(m)
	}
	return pack(t, m)
}

// edns gives a query an OPT.
func edns(size uint16, do bool, options ...dns.EDNS0) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.SetEdns0(size, do)
		m.IsEdns0().Option = options
	}
}

func subnetOption(prefix string) *dns.EDNS0_SUBNET {
	p := netip.MustParsePrefix(prefix)
	o := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()}
	if p.Addr().Is6() {
		o.Family = 2
	}
	return o
}

// ask has a query answered by the table, and parses the reply; nil: it is for the slow path.
func ask(t testing.TB, table *Table, c *Client, query []byte) *dns.Msg {
	t.Helper()
	var dst [largestSize]byte
	n, ok := table.Answer(dst[:], query, c)
	if !ok {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(dst[:n]); err != nil {
		t.Fatalf("the reply %x does not parse: %v", dst[:n], err)
	}
	return m
}

func client(addr string) *Client {
	return &Client{Addr: netip.MustParseAddr(addr), NSID: []byte("gss1"), Now: 1_700_000_000, Random: *rand.NewPCG(1, 2)}
}

// stamp is a stand-in for real cookies: a server cookie is the client's with each octet inverted.
type stamp struct{}

func (stamp) Append(dst, cookie []byte, _ netip.Addr, _ uint32) ([]byte, bool) {
	dst = append(dst, cookie[:8]...)
	for _, b := range cookie[:8] {
		dst = append(dst, ^b)
	}
	good := len(cookie) == 16
	for i := 8; i < len(cookie); i++ {
		good = good && cookie[i] == ^cookie[i-8]
	}
	return dst, good
}
