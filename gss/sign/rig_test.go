package sign

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// testZone looks names up as a server does, and has the signer secure what it finds.
type testZone struct {
	origin string
	signer *Signer // nil: unsigned
	now    func() time.Time

	mu     sync.Mutex
	nodes  map[string]map[uint16][]dns.RR // by lower-case name, empty non-terminals too
	ring   Ring
	tamper func(*dns.Msg)
}

func newTestZone(t testing.TB, origin, text string) *testZone {
	t.Helper()
	z := &testZone{origin: origin, now: time.Now, nodes: map[string]map[uint16][]dns.RR{}}
	p := dns.NewZoneParser(strings.NewReader(text), origin, "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		z.add(rr)
	}
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	return z
}

func (z *testZone) add(rr dns.RR) {
	z.mu.Lock()
	defer z.mu.Unlock()
	name := dns.CanonicalName(rr.Header().Name)
	for n := name; n != z.origin; {
		if z.nodes[n] == nil {
			z.nodes[n] = map[uint16][]dns.RR{}
		}
		off, _ := dns.NextLabel(n, 0)
		n = n[off:]
	}
	if z.nodes[z.origin] == nil {
		z.nodes[z.origin] = map[uint16][]dns.RR{}
	}
	z.nodes[name][rr.Header().Rrtype] = append(z.nodes[name][rr.Header().Rrtype], rr)
}

// set replaces a set.
func (z *testZone) set(name string, rrtype uint16, rrs ...dns.RR) {
	z.mu.Lock()
	delete(z.nodes[name], rrtype)
	z.mu.Unlock()
	for _, rr := range rrs {
		z.add(rr)
	}
}

// use has the zone signed by a ring.
func (z *testZone) use(t testing.TB, ring Ring) {
	t.Helper()
	if err := z.signer.Use(t.Context(), ring, z.now()); err != nil {
		t.Fatal(err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.ring = ring
}

// sets are all sets that a query can meet, and the denials at names that exist.
func (z *testZone) sets() (sets [][]dns.RR) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for name, node := range z.nodes {
		var types []uint16
		for rrtype, set := range node {
			types = append(types, rrtype)
			sets = append(sets, set)
		}
		sets = append(sets, []dns.RR{z.signer.NSEC(name, types, z.soa().Minttl)})
	}
	return sets
}

func (z *testZone) soa() *dns.SOA { return z.nodes[z.origin][dns.TypeSOA][0].(*dns.SOA) }

// get gives the sets of a name, and at the apex those of the keys.
func (z *testZone) get(name string) map[uint16][]dns.RR {
	node := z.nodes[name]
	if name != z.origin {
		return node
	}
	all := map[uint16][]dns.RR{}
	for rrtype, set := range node {
		all[rrtype] = set
	}
	for _, rr := range z.ring.Records(z.origin) {
		all[rr.Header().Rrtype] = append(all[rr.Header().Rrtype], rr)
	}
	return all
}

// cut is the delegation at or above a name.
func (z *testZone) cut(name string) string {
	labels := dns.SplitDomainName(name)
	for i := len(labels) - dns.CountLabel(z.origin) - 1; i >= 0; i-- {
		n := strings.Join(labels[i:], ".") + "."
		if len(z.nodes[n][dns.TypeNS]) > 0 {
			return n
		}
	}
	return ""
}

// respond answers a query as an authoritative server does.
func (z *testZone) respond(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	question := q.Question[0]
	var compact, secure bool
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(1232, opt.Do())
		secure, compact = opt.Do(), opt.Co()
	}
	facts := z.lookup(m, question.Name, question.Qtype)
	facts.CompactOK = compact
	if secure && z.signer != nil {
		if err := z.signer.Secure(m, facts, z.now()); err != nil {
			panic(err)
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.tamper != nil {
		z.tamper(m)
	}
	return m
}

func (z *testZone) lookup(m *dns.Msg, name string, rrtype uint16) Facts {
	z.mu.Lock()
	defer z.mu.Unlock()
	for range 8 {
		canon := dns.CanonicalName(name)
		if !dns.IsSubDomain(z.origin, canon) {
			return Facts{Kind: Answer}
		}
		if cut := z.cut(canon); cut != "" && !(cut == canon && rrtype == dns.TypeDS) {
			m.Authoritative = len(m.Answer) > 0
			m.Ns = append(m.Ns, z.nodes[cut][dns.TypeNS]...)
			m.Ns = append(m.Ns, z.nodes[cut][dns.TypeDS]...)
			for _, ns := range z.nodes[cut][dns.TypeNS] {
				m.Extra = append(m.Extra, z.nodes[ns.(*dns.NS).Ns][dns.TypeA]...)
			}
			return Facts{Kind: Referral, Name: cut, Type: rrtype}
		}
		node := z.get(canon)
		if node == nil {
			if node = z.wildcard(canon); node == nil {
				m.Rcode = dns.RcodeNameError
				m.Ns = append(m.Ns, z.soa())
				return Facts{Kind: NXDomain, Name: name, Type: rrtype}
			}
		}
		if set := expand(node[rrtype], name); len(set) > 0 {
			m.Answer = append(m.Answer, set...)
			return Facts{Kind: Answer}
		}
		if alias := expand(node[dns.TypeCNAME], name); len(alias) > 0 {
			m.Answer = append(m.Answer, alias...)
			name = alias[0].(*dns.CNAME).Target
			continue
		}
		m.Ns = append(m.Ns, z.soa())
		facts := Facts{Kind: NoData, Name: name, Type: rrtype}
		for have := range node {
			facts.Types = append(facts.Types, have)
		}
		return facts
	}
	return Facts{Kind: Answer}
}

// wildcard gives the sets of the wildcard that stands for a name which does not exist (RFC 4592).
func (z *testZone) wildcard(name string) map[uint16][]dns.RR {
	for off, end := dns.NextLabel(name, 0); !end; off, end = dns.NextLabel(name, off) {
		if z.nodes[name[off:]] != nil {
			return z.nodes["*."+name[off:]]
		}
	}
	return nil
}

// expand gives a set under the name that was asked for.
func expand(set []dns.RR, name string) []dns.RR {
	set = slices.Clone(set)
	for i, rr := range set {
		if rr.Header().Name != name {
			set[i] = dns.Copy(rr)
			set[i].Header().Name = name
		}
	}
	return set
}

// testServer answers for zones on one address, by UDP and TCP. The sockets come from listen, which may open them elsewhere.
func testServer(t testing.TB, do func(func() error), address string, zones ...*testZone) {
	t.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		var best *testZone
		name := dns.CanonicalName(q.Question[0].Name)
		for _, z := range zones {
			parent := name == z.origin && q.Question[0].Qtype == dns.TypeDS && len(zones) > 1
			if dns.IsSubDomain(z.origin, name) && (best == nil || len(z.origin) > len(best.origin)) && !parent {
				best = z
			}
		}
		if best == nil {
			w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeRefused))
			return
		}
		m := best.respond(q)
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncate(1232)
		}
		if err := w.WriteMsg(m); err != nil {
			t.Errorf("answer %v: %v", q.Question, err)
		}
	})
	var pc net.PacketConn
	var l net.Listener
	do(func() (err error) {
		if pc, err = net.ListenPacket("udp", address); err != nil {
			return err
		}
		l, err = net.Listen("tcp", address)
		return err
	})
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // after the shutdowns below
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: l, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() { s.ActivateAndServe() })
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
}

// query builds a query with DO.
func query(name string, rrtype uint16) *dns.Msg {
	q := new(dns.Msg).SetQuestion(name, rrtype)
	q.SetEdns0(1232, true)
	return q
}

func newTestKey(t testing.TB, zone string, algorithm uint8) *Key {
	t.Helper()
	k, err := NewKey(zone, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func oneKey(k *Key) Ring { return Ring{Data: []*Key{k}, Apex: []*Key{k}, Parent: []*Key{k}, TTL: 60} }

func newTestSigner(t testing.TB, cfg Config) *Signer {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const exampleNet = `
$TTL 300
@          SOA ns1 hostmaster 1 3600 600 1209600 60
@          NS  ns1
@          MX  10 mail
@          TXT "at the apex"
ns1        A   127.0.0.1
mail       A   192.0.2.25
www        A   192.0.2.1
www        A   192.0.2.2
www        A   192.0.2.3
www        AAAA 2001:db8::1
alias      CNAME www
chain      CNAME Alias
nowhere    CNAME missing
nodata     CNAME mail
*.wild     A   192.0.2.9
*.wild     TXT "wild"
alias.wild CNAME other.wild
a.b.ent    A   192.0.2.10
*foo       A   192.0.2.11
escaped    MX  10 \077ail
_imaps._tcp SRV 0 1 993 Mail
svc        HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1
dn         DNAME target
x.target   A   192.0.2.13
zone       NS  ns.zone
ns.zone    A   127.0.0.2
plain      NS  ns.plain
ns.plain   A   127.0.0.3
`

func signedZone(t testing.TB, origin, text string, cfg Config, ring Ring) *testZone {
	t.Helper()
	z := newTestZone(t, origin, text)
	cfg.Origin = origin
	z.signer = newTestSigner(t, cfg)
	z.use(t, ring)
	return z
}

func child(address string) string {
	return fmt.Sprintf("$TTL 300\n@ SOA ns hostmaster 1 3600 600 1209600 60\n@ NS ns\nns A %s\n", address) +
		"www A 192.0.2.30\n*.w A 192.0.2.31\n"
}
