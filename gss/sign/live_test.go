package sign

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// quick is a policy of seconds, so that a whole roll fits a test.
var quick = Policy{
	Algorithm: dns.ECDSAP256SHA256, KeyTTL: time.Second, MaxTTL: time.Second, Propagation: 300 * time.Millisecond,
	ParentTTL: time.Second,
}

// live is a zone whose keys roll while validators watch.
type live struct {
	t      *testing.T
	w      *world
	keeper *Keeper
	u      *unbound
	d      *delv
	parent Parent
	state  uint64
	last   Decision
	asked  int
	secure bool // from now on, each reply has to be validated
	seen   bool // that all were, in the last turn
}

// newLive is a zone whose key was there before, or one that was never signed.
func newLive(t *testing.T, signed bool) *live {
	l := &live{t: t, w: newWorld(t, dns.ECDSAP256SHA256, Config{MaxTTL: time.Second, NegativeTTL: time.Second}, time.Now)}
	for _, z := range []*testZone{l.w.top, l.w.zone} { // TTLs of a second, denials too
		for _, node := range z.nodes {
			for _, set := range node {
				for _, rr := range set {
					rr.Header().Ttl = 1
				}
			}
		}
		z.soa().Minttl = 1
	}
	l.w.top.set("zone.example.net.", dns.TypeDS)
	l.w.zone.use(t, Ring{})
	store, err := OpenStore(t.TempDir(), "zone.example.net.")
	if err != nil {
		t.Fatal(err)
	}
	if signed {
		key := newTestKey(t, "zone.example.net.", quick.Algorithm)
		if err := store.Add(key); err != nil {
			t.Fatal(err)
		}
		if err := store.Adopt(key.ID(), time.Now()); err != nil {
			t.Fatal(err)
		}
		ds := key.DS()
		ds.Hdr.Ttl = 1
		l.w.top.add(ds)
		l.secure = true
	}
	if l.keeper, err = NewKeeper(store, quick); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.keeper.Close() })
	l.u, l.d = newUnbound(t, l.w.ns, l.w.key, time.Time{}), newDelv(t, l.w.ns, l.w.key)
	l.parent = Parent{Servers: []string{"127.0.0.1:53"}, Exchange: l.exchange}
	return l
}

// exchange asks a server in the namespace.
func (l *live) exchange(_ context.Context, q *dns.Msg, server string) (m *dns.Msg, err error) {
	client := dns.Client{Timeout: 5 * time.Second}
	var conn *dns.Conn
	l.w.ns.Do(func() error {
		c, err := net.Dial("udp", server)
		conn = &dns.Conn{Conn: c}
		return err
	})
	defer conn.Close()
	m, _, err = client.ExchangeWithConn(q, conn)
	return m, err
}

// turn has everybody do one thing.
func (l *live) turn() {
	l.t.Helper()
	o, err := l.parent.Observe(l.t.Context(), "zone.example.net.", l.keeper.Keys(), time.Now)
	if err != nil {
		l.t.Fatal(err)
	}
	ring, d, err := l.keeper.Step(&o, time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	l.last = d
	if serial := l.keeper.state.Serial; serial != l.state {
		l.state = serial
		l.w.zone.use(l.t, ring)
	}
	l.register()
	l.watch()
}

// register is what a parent does: it takes CDS records that a key of its DS set signs (RFC 7344 section 4.1), or, while it has
// none, those that it sees (RFC 8078 section 3.3).
func (l *live) register() {
	l.t.Helper()
	m, err := l.exchange(l.t.Context(), query("zone.example.net.", dns.TypeCDS), "127.0.0.2:53")
	if err != nil {
		l.t.Fatal(err)
	}
	l.w.top.mu.Lock()
	trusted := dsSet("zone.example.net.", l.w.top.nodes["zone.example.net."][dns.TypeDS], l.keeper.keys)
	l.w.top.mu.Unlock()
	signed := len(trusted) == 0
	var cds, ds []dns.RR
	for _, rr := range m.Answer {
		if c, ok := rr.(*dns.CDS); ok {
			cds = append(cds, c)
			if record := c.DS; record.Algorithm != 0 {
				record.Hdr = dns.RR_Header{Name: "zone.example.net.", Rrtype: dns.TypeDS, Class: dns.ClassINET, Ttl: 1}
				ds = append(ds, &record)
			}
		}
	}
	for _, rr := range m.Answer {
		for _, id := range trusted {
			sig, ok := rr.(*dns.RRSIG)
			signed = signed || ok && sig.Verify(l.keeper.keys[id].record, cds) == nil
		}
	}
	if len(cds) == 0 {
		return
	}
	if !signed {
		l.t.Fatalf("the parent has %v, which did not sign %v", trusted, m)
	}
	l.w.top.set("zone.example.net.", dns.TypeDS, ds...)
}

// watch has the validators judge.
func (l *live) watch() {
	l.t.Helper()
	l.asked++
	l.seen = true
	for _, q := range []struct {
		name   string
		rrtype uint16
	}{
		{"www.zone.example.net.", dns.TypeA}, {"x.w.zone.example.net.", dns.TypeA}, {"zone.example.net.", dns.TypeDNSKEY},
		{"www.zone.example.net.", dns.TypeTXT}, {fmt.Sprintf("x%d.zone.example.net.", l.asked), dns.TypeA},
	} {
		m := l.u.ask(q.name, q.rrtype)
		l.seen = l.seen && m.AuthenticatedData
		missing := m.Rcode == dns.RcodeNameError && !l.secure // of an unsigned zone, plainly
		if m.Rcode != dns.RcodeSuccess && !missing || l.secure && !m.AuthenticatedData {
			l.t.Fatalf("%+v\nunbound says %v", l.last, m)
		}
	}
	if l.asked%4 != 0 { // it takes long
		return
	}
	out := l.d.ask("www.zone.example.net.", dns.TypeA)
	if !strings.Contains(out, "; fully validated") && (l.secure || !strings.Contains(out, "; unsigned answer")) {
		l.t.Fatalf("%+v\ndelv says %s", l.last, out)
	}
}

// stage is something that a live zone comes to after an order.
type stage struct {
	what  string
	order func()
	ok    func() bool
}

func (l *live) alone(algorithm uint8) func() bool {
	return func() bool {
		return len(l.last.Keys) == 1 && l.last.Keys[0].State == Active && same(l.last.DNSKEY, l.last.Data) &&
			l.keeper.keys[l.last.DNSKEY[0]].Algorithm() == algorithm
	}
}

func (l *live) policy(p Policy) func() {
	return func() {
		if err := l.keeper.SetPolicy(p); err != nil {
			l.t.Fatal(err)
		}
	}
}

func TestValidatorsAgreeThroughoutARoll(t *testing.T) {
	t.Parallel()
	another, unsigned := quick, quick
	another.Algorithm, unsigned.Insecure = dns.ED25519, true
	first, next, other := newLive(t, false), newLive(t, true), newLive(t, true)
	lives := map[*live][]stage{
		first: {
			{"the zone is signed", func() {}, first.alone(quick.Algorithm)},
			{"Unbound has forgotten that it was not", func() {}, func() bool { return first.seen }},
			{"the zone is unsigned", first.policy(unsigned), func() bool { return len(first.last.DNSKEY)+len(first.last.Data) == 0 }},
		},
		next: {
			{"there is a next key", next.keeper.Roll, func() bool { return len(next.last.Keys) == 2 }},
			{"the next key is alone", func() {}, next.alone(quick.Algorithm)},
		},
		other: {{"the key of another algorithm is alone", other.policy(another), other.alone(another.Algorithm)}},
	}
	begin := time.Now()
	for _, stages := range lives {
		stages[0].order()
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ; len(lives) > 0; <-tick.C {
		for l, stages := range lives {
			if time.Since(begin) > time.Minute {
				t.Fatalf("not within a minute: %s; %+v", stages[0].what, l.last)
			}
			if l.turn(); !stages[0].ok() {
				continue
			}
			t.Logf("%s after %v", stages[0].what, time.Since(begin).Round(10*time.Millisecond))
			if lives[l] = stages[1:]; len(stages) == 1 {
				delete(lives, l)
			} else {
				stages[1].order()
				l.secure = l != first
			}
		}
	}
}
