package table

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// world is a table and what it was made of.
type world struct {
	table   *Table
	names   []string
	replies map[string]reply // by name and type
	signed  map[string]reply
}

var worldTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT}

func newWorld(t testing.TB, r *rand.Rand) *world {
	t.Helper()
	w := &world{replies: map[string]reply{}, signed: map[string]reply{}}
	b := newBuilder(t, Config{Cookies: stamp{}})
	for i := range 40 {
		name := fmt.Sprintf("host%d.%sexample.org.", i, strings.Repeat("sub.", r.IntN(4)))
		w.names = append(w.names, name)
		for _, qtype := range worldTypes {
			if r.IntN(4) == 0 {
				continue
			}
			plain := randomReply(r, name, qtype)
			key := fmt.Sprint(name, qtype)
			w.replies[key] = plain
			v := Variant{Plain: plain.wire(t, name, qtype)}
			if r.IntN(2) == 0 {
				signed := plain
				const signature = " 60 RRSIG A 13 3 60 20301231000000 20201231000000 1 example.org. c2ln"
				signed.answer = append(slices.Clone(plain.answer), name+signature)
				w.signed[key] = signed
				v.Signed = signed.wire(t, name, qtype)
			}
			check(t, b.Add(name, qtype, 0, Entry{Variants: []Variant{v}}))
		}
	}
	w.table = build(t, b)
	return w
}

func randomReply(r *rand.Rand, name string, qtype uint16) reply {
	var out reply
	switch qtype {
	case dns.TypeA:
		for i := range r.IntN(40) {
			out.answer = append(out.answer, fmt.Sprintf("%s 60 A 192.0.2.%d", name, i))
		}
	case dns.TypeAAAA:
		for i := range r.IntN(40) {
			out.answer = append(out.answer, fmt.Sprintf("%s 60 AAAA 2001:db8::%d", name, i))
		}
	case dns.TypeMX:
		out.answer = []string{name + " 60 MX 10 mx." + name}
		for i := range r.IntN(40) {
			out.additional = append(out.additional, fmt.Sprintf("mx.%s 60 A 192.0.2.%d", name, i))
		}
	case dns.TypeTXT:
		out.answer = []string{fmt.Sprintf("%s 60 TXT %q", name, strings.Repeat("t", r.IntN(255)))}
	}
	if len(out.answer) == 0 {
		out.authority = []string{"example.org. 5 SOA ns.example.org. hostmaster.example.org. 1 2 3 4 5"}
	}
	return out
}

// expect is the reply that a server with a DNS library gives, and whether it is truncated; nil: there is none in the table.
func (w *world) expect(t testing.TB, q *dns.Msg) (wire []byte, truncated bool) {
	t.Helper()
	asked := q.Question[0]
	name := dns.CanonicalName(asked.Name)
	r, ok := w.replies[fmt.Sprint(name, asked.Qtype)]
	if !ok {
		return nil, false
	}
	opt := q.IsEdns0()
	if s, ok := w.signed[fmt.Sprint(name, asked.Qtype)]; ok && opt != nil && opt.Do() {
		r = s
	}
	m := r.message(t, name, asked.Qtype)
	m.Id, m.RecursionDesired, m.CheckingDisabled = q.Id, q.RecursionDesired, q.CheckingDisabled
	limit, glue := 512, m.Extra
	m.Extra = nil
	if opt != nil {
		limit = min(max(int(opt.UDPSize()), 512), 1232)
		m.Extra = []dns.RR{w.expectOPT(opt)}
	}
	bare := m.Extra
	m.Extra = append(slices.Clone(glue), bare...)
	if wire = pack(t, m); len(wire) > limit {
		m.Extra = bare
		wire = pack(t, m)
	}
	if len(wire) > limit {
		m.Answer, m.Ns, m.Truncated = nil, nil, true
		wire = pack(t, m)
	}
	// the library compresses names of one case only, so the case that was asked for comes in last
	_, err := dns.PackDomainName(asked.Name, wire, 12, nil, false)
	check(t, err)
	return wire, m.Truncated
}

func (w *world) expectOPT(asked *dns.OPT) *dns.OPT {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.SetUDPSize(1232)
	opt.SetDo(asked.Do())
	found := map[uint16]dns.EDNS0{}
	for _, o := range asked.Option {
		if found[o.Option()] == nil {
			found[o.Option()] = o
		}
	}
	if o := found[dns.EDNS0COOKIE]; o != nil {
		cookie, _ := hex.DecodeString(o.(*dns.EDNS0_COOKIE).Cookie)
		data, _ := stamp{}.Append(nil, cookie, netip.Addr{}, 0)
		opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(data)})
	}
	if o := found[dns.EDNS0SUBNET]; o != nil {
		opt.Option = append(opt.Option, o)
	}
	if found[dns.EDNS0NSID] != nil {
		opt.Option = append(opt.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: hex.EncodeToString([]byte("gss1"))})
	}
	return opt
}

// randomQuery is one that Answer has to know.
func (w *world) randomQuery(r *rand.Rand) *dns.Msg {
	name := []byte(w.names[r.IntN(len(w.names))])
	for i, b := range name {
		if 'a' <= b && b <= 'z' && r.IntN(2) == 0 {
			name[i] = b - 0x20
		}
	}
	q := new(dns.Msg)
	q.SetQuestion(string(name), worldTypes[r.IntN(len(worldTypes))])
	q.Id, q.RecursionDesired = uint16(r.Uint32()), r.IntN(2) == 0
	q.CheckingDisabled, q.AuthenticatedData = r.IntN(2) == 0, r.IntN(2) == 0
	if r.IntN(4) == 0 {
		return q
	}
	q.SetEdns0(uint16(r.IntN(1500)+1), r.IntN(2) == 0)
	opt := q.IsEdns0()
	options := []dns.EDNS0{
		&dns.EDNS0_NSID{Code: dns.EDNS0NSID},
		&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"},
		&dns.EDNS0_PADDING{Padding: make([]byte, r.IntN(20))},
		&dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1, 2, 3}},
		subnetOption([]string{"203.0.113.0/24", "2001:db8::/48", "0.0.0.0/0"}[r.IntN(3)]),
	}
	r.Shuffle(len(options), func(i, j int) { options[i], options[j] = options[j], options[i] })
	opt.Option = options[:r.IntN(len(options)+1)]
	return q
}

// TestAsTheSlowPath holds replies to those that the DNS library makes, octet by octet.
func TestAsTheSlowPath(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	w, c := newWorld(t, r), client("192.0.2.53")
	answers, whole := 0, 0
	for range 5000 {
		q := w.randomQuery(r)
		var dst [defaultSize]byte
		n, ok := w.table.Answer(dst[:], pack(t, q), c)
		want, truncated := w.expect(t, q)
		if ok != (want != nil) {
			t.Fatalf("ok is %v for\n%v", ok, q)
		}
		if !ok {
			continue
		}
		answers++
		if !truncated {
			whole++
		}
		if diff := cmp.Diff(hex.Dump(want), hex.Dump(dst[:n])); diff != "" {
			t.Fatalf("reply to\n%v\n(-want +got):\n%s", q, diff)
		}
	}
	if answers < 3000 || whole < 2000 || whole == answers {
		t.Errorf("of 5000 queries %d have replies, %d of them whole: too few to tell", answers, whole)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	w, c := newWorld(t, rand.New(rand.NewPCG(5, 6))), client("192.0.2.53")
	r := rand.New(rand.NewPCG(7, 8))
	var queries [][]byte
	for range 100 {
		queries = append(queries, pack(t, w.randomQuery(r)))
	}
	dst := make([]byte, defaultSize)
	answered := 0
	if n := testing.AllocsPerRun(100, func() {
		for _, q := range queries {
			if _, ok := w.table.Answer(dst, q, c); ok {
				answered++
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations for 100 queries", n)
	}
	if answered == 0 {
		t.Error("no query was answered")
	}
	balanced, names := balancedTable(t)
	answered = 0
	if n := testing.AllocsPerRun(100, func() {
		for _, q := range names {
			if _, ok := balanced.Answer(dst, q, c); ok {
				answered++
			}
		}
	}); n != 0 || answered == 0 {
		t.Errorf("%v allocations for a query of each method, %d answered", n, answered)
	}
}
