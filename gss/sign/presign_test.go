package sign

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// presigned is a zone all of whose sets are signed, by a key that counts.
type presigned struct {
	*testZone
	t     *testing.T
	key   *Key
	count *counting
	clock time.Time
}

func newPresigned(t *testing.T, algorithm uint8) *presigned {
	p := &presigned{t: t, clock: epoch, testZone: newTestZone(t, "example.net.", exampleNet)}
	p.key, p.count = countingKey(t, "example.net.", algorithm)
	p.signer = newTestSigner(t, Config{Origin: "example.net."})
	p.now = func() time.Time { return p.clock }
	p.use(t, oneKey(p.key))
	p.presign()
	return p
}

func (p *presigned) presign() {
	p.t.Helper()
	if err := p.signer.Presign(p.t.Context(), slices.Values(p.sets()), p.clock); err != nil {
		p.t.Fatal(err)
	}
}

// ask has replies of each kind signed and verified, and wants that it cost so many signatures since an earlier count.
func (p *presigned) ask(what string, since, want int64) {
	p.t.Helper()
	for _, q := range []struct {
		name   string
		rrtype uint16
	}{
		{"www.example.net.", dns.TypeA}, {"WWW.example.net.", dns.TypeA}, {"chain.example.net.", dns.TypeA},
		{"example.net.", dns.TypeDNSKEY}, {"www.example.net.", dns.TypeTXT}, {"www.example.net.", dns.TypeSRV},
		{"ent.example.net.", dns.TypeA}, {"example.net.", dns.TypeA},
	} {
		m := p.respond(query(q.name, q.rrtype))
		if signed := verify(p.t, []*Key{p.key}, p.clock, m.Answer, m.Ns); len(signed) == 0 {
			p.t.Fatalf("%s: no signature in %v", what, m)
		}
	}
	if got := p.count.calls.Load() - since; got != want {
		p.t.Errorf("%s: %d signatures were made, want %d", what, got, want)
	}
}

func TestPresignedRepliesCostNoCrypto(t *testing.T) {
	t.Parallel()
	p := newPresigned(t, dns.ECDSAP256SHA256)
	start := p.count.calls.Load()
	p.ask("as they were signed", start, 0)
	set := p.nodes["www.example.net."][dns.TypeA]
	for range 20 {
		set[0], set[1], set[2] = dns.Copy(set[1]), dns.Copy(set[2]), dns.Copy(set[0])
		for _, rr := range set {
			rr.Header().Ttl -= 10
		}
		p.ask("in another order, with lower TTLs", start, 0)
	}
	p.presign()
	p.ask("signed again with lower TTLs", start, 0)
	for i, add := range []func(){p.presign, func() {
		if err := p.signer.Add(t.Context(), [][]dns.RR{p.nodes["www.example.net."][dns.TypeA]}, p.clock); err != nil {
			t.Fatal(err)
		}
	}} {
		p.set("www.example.net.", dns.TypeA, set[:i+1]...)
		add()
		p.ask("a set has changed", start, int64(i)+1)
		add()
		p.ask("it was told of twice", start, int64(i)+1)
	}
}

func TestChangeOfKeysCostsQueriesNoCrypto(t *testing.T) {
	t.Parallel()
	p := newPresigned(t, dns.ECDSAP256SHA256)
	generation := p.signer.Generation()
	p.key, p.count = countingKey(t, "example.net.", dns.ED25519)
	p.use(t, oneKey(p.key))
	if p.signer.Generation() == generation {
		t.Error("a change of keys is no new generation")
	}
	start := p.count.calls.Load()
	p.ask("with another key", start, 0)
	copied := *p.key // as if it were read from its files again
	for _, k := range []*Key{&copied, p.key} {
		p.use(t, oneKey(k))
		p.respond(query("random.example.net.", dns.TypeA))
	}
	p.ask("with the same key again", start, 1)
}

func TestSignaturesAreRefreshed(t *testing.T) {
	t.Parallel()
	p := newPresigned(t, dns.ED25519)
	start := p.count.calls.Load()
	for range 90 {
		p.clock = p.clock.Add(24 * time.Hour)
		before, generation := p.count.calls.Load(), p.signer.Generation()
		if err := p.signer.Refresh(t.Context(), p.clock); err != nil {
			t.Fatal(err)
		}
		if (p.count.calls.Load() != before) != (p.signer.Generation() != generation) {
			t.Errorf("at %v generation %d came after %d", p.clock, p.signer.Generation(), generation)
		}
		p.ask("after a day", p.count.calls.Load(), 0)
	}
	if n, sets := p.count.calls.Load()-start, int64(len(p.sets())+3); n < sets*90/14 || n > sets*90/9 {
		t.Errorf("%d sets were signed %d times in 90 days", sets, n)
	}
}

func TestBrokenKeyLeavesTheLastGoodSignatures(t *testing.T) {
	t.Parallel()
	key, count := countingKey(t, "example.net.", dns.ECDSAP256SHA256)
	z := signedZone(t, "example.net.", exampleNet, Config{}, oneKey(key))
	now := epoch
	ask := func() (*dns.Msg, error) {
		m := new(dns.Msg).SetReply(query("www.example.net.", dns.TypeA))
		m.Answer = expand(z.nodes["www.example.net."][dns.TypeA], "www.example.net.")
		return m, z.signer.Secure(m, Facts{}, now)
	}
	if err := z.signer.Presign(t.Context(), slices.Values(z.sets()), now); err != nil {
		t.Fatal(err)
	}
	count.broken.Store(true)
	for ; now.Before(epoch.Add(13 * 24 * time.Hour)); now = now.Add(6 * time.Hour) {
		if err := z.signer.Refresh(t.Context(), now); err != nil && !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		m, err := ask()
		if err != nil || len(verify(t, []*Key{key}, now, m.Answer)) != 1 {
			t.Fatalf("after %v: %v, %v", now.Sub(epoch), m, err)
		}
	}
	now = epoch.Add(15 * 24 * time.Hour)
	m, err := ask()
	if !errors.Is(err, ErrUnsigned) || !errors.Is(err, errBroken) || len(m.Answer) != 3 || m.Rcode != dns.RcodeSuccess {
		t.Fatalf("with no signature left: %v, %v", m, err)
	}
	count.broken.Store(false)
	if m, err = ask(); err != nil || len(m.Answer) != 4 {
		t.Fatalf("with the key mended: %v, %v", m, err)
	}
}

// TestAddWaitsForNothing: who decides does not wait for the signing of a whole zone, and what was added meanwhile stays.
func TestAddWaitsForNothing(t *testing.T) {
	t.Parallel()
	p := newPresigned(t, dns.ECDSAP256SHA256)
	record := func(text string) []dns.RR {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return []dns.RR{rr}
	}
	added := record("added.example.net. 5 IN A 192.0.2.77")
	slowly := func(yield func([]dns.RR) bool) {
		if err := p.signer.Add(t.Context(), [][]dns.RR{added}, p.clock); err != nil {
			t.Error(err)
		}
		yield(record("other.example.net. 5 IN A 192.0.2.78"))
	}
	if err := p.signer.Presign(t.Context(), slowly, p.clock); err != nil {
		t.Fatal(err)
	}
	made := p.signer.Signed()
	m := &dns.Msg{Answer: added}
	if err := p.signer.Secure(m, Facts{Kind: Answer, Name: "added.example.net.", Type: dns.TypeA}, p.clock); err != nil || len(m.Answer) != 2 {
		t.Errorf("what was added meanwhile: %v, %v", m, err)
	}
	if p.signer.Signed() != made {
		t.Error("it is signed again")
	}
}
