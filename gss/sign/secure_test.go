package sign

import (
	"crypto"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

var epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// counting counts what a key is asked to sign, and may refuse.
type counting struct {
	crypto.Signer
	calls  atomic.Int64
	broken atomic.Bool
}

var errBroken = errors.New("the key is broken")

func (c *counting) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	c.calls.Add(1)
	if c.broken.Load() {
		return nil, errBroken
	}
	return c.Signer.Sign(random, digest, opts)
}

func countingKey(t testing.TB, zone string, algorithm uint8) (*Key, *counting) {
	k := newTestKey(t, zone, algorithm)
	c := &counting{Signer: k.signer}
	k.signer = c
	return k, c
}

// verify checks every set of a reply against the keys, at a time, and gives the names and types that are signed.
func verify(t testing.TB, keys []*Key, now time.Time, sections ...[]dns.RR) (signed []string) {
	t.Helper()
	for _, rrs := range sections {
		for _, rr := range rrs {
			sig, ok := rr.(*dns.RRSIG)
			if !ok {
				continue
			}
			var set []dns.RR
			for _, other := range rrs {
				if h := other.Header(); h.Rrtype == sig.TypeCovered && strings.EqualFold(h.Name, sig.Hdr.Name) {
					set = append(set, other)
				}
			}
			verified := false
			for _, k := range keys {
				if k.tag == sig.KeyTag {
					if err := sig.Verify(k.record, set); err != nil {
						t.Errorf("%v: %v", sig, err)
					}
					verified = true
				}
			}
			if !verified || !sig.ValidityPeriod(now) || len(set) == 0 || set[0].Header().Ttl != sig.Hdr.Ttl || sig.Hdr.Ttl > sig.OrigTtl {
				t.Errorf("at %v this signature does not fit %v:\n%v", now, set, sig)
			}
			signed = append(signed, strings.ToLower(sig.Hdr.Name)+" "+dns.Type(sig.TypeCovered).String())
		}
	}
	return signed
}

func TestSecure(t *testing.T) {
	t.Parallel()
	key := newTestKey(t, "example.net.", dns.ECDSAP256SHA256)
	z := signedZone(t, "example.net.", exampleNet, Config{}, oneKey(key))
	z.now = func() time.Time { return epoch }
	z.use(t, oneKey(key))
	ds := newTestKey(t, "zone.example.net.", dns.ED25519).DS()
	ds.Hdr.Ttl = 300
	z.add(ds)
	for name, c := range map[string]struct {
		query     string
		rrtype    uint16
		compact   bool
		rcode     int
		answer    []string // signed sets
		authority []string
		nsec      string
	}{
		"answer in another spelling": {query: "WwW.eXample.net.", rrtype: dns.TypeA, answer: []string{"www.example.net. A"}},
		"alias": {query: "alias.example.net.", rrtype: dns.TypeA,
			answer: []string{"alias.example.net. CNAME", "www.example.net. A"}},
		"DNAME":                           {query: "dn.example.net.", rrtype: dns.TypeDNAME, answer: []string{"dn.example.net. DNAME"}},
		"wildcard":                        {query: "x.wild.example.net.", rrtype: dns.TypeA, answer: []string{"x.wild.example.net. A"}},
		"label that begins as a wildcard": {query: "*foo.example.net.", rrtype: dns.TypeA, answer: []string{"*foo.example.net. A"}},
		"no data": {query: "www.example.net.", rrtype: dns.TypeMX,
			authority: []string{"example.net. SOA", "www.example.net. NSEC"}, nsec: `\000.www.example.net. A AAAA RRSIG NSEC`},
		"no data at the apex": {query: "example.net.", rrtype: dns.TypeA, authority: []string{"example.net. SOA", "example.net. NSEC"},
			nsec: `\000.example.net. NS SOA MX TXT RRSIG NSEC DNSKEY CDS CDNSKEY`},
		"no data of a wildcard": {query: "x.wild.example.net.", rrtype: dns.TypeMX,
			authority: []string{"example.net. SOA", "x.wild.example.net. NSEC"}, nsec: `\000.x.wild.example.net. A TXT RRSIG NSEC`},
		"empty non-terminal": {query: "b.ent.example.net.", rrtype: dns.TypeA,
			authority: []string{"example.net. SOA", "b.ent.example.net. NSEC"}, nsec: `\000.b.ent.example.net. RRSIG NSEC`},
		"name that does not exist": {query: "Missing.example.net.", rrtype: dns.TypeA,
			authority: []string{"example.net. SOA", "missing.example.net. NSEC"}, nsec: `\000.missing.example.net. RRSIG NSEC NXNAME`},
		"name that does not exist, and the rcode understood": {query: "missing.example.net.", rrtype: dns.TypeA, compact: true,
			rcode:     dns.RcodeNameError,
			authority: []string{"example.net. SOA", "missing.example.net. NSEC"}, nsec: `\000.missing.example.net. RRSIG NSEC NXNAME`},
		"alias to a name that does not exist": {query: "nowhere.example.net.", rrtype: dns.TypeA,
			answer:    []string{"nowhere.example.net. CNAME"},
			authority: []string{"example.net. SOA", "missing.example.net. NSEC"}, nsec: `\000.missing.example.net. RRSIG NSEC NXNAME`},
		"NSEC asked for": {query: "www.example.net.", rrtype: dns.TypeNSEC, answer: []string{"www.example.net. NSEC"},
			nsec: `\000.www.example.net. A AAAA RRSIG NSEC`},
		"NSEC of a name that does not exist": {query: "missing.example.net.", rrtype: dns.TypeNSEC, compact: true,
			answer: []string{"missing.example.net. NSEC"}, nsec: `\000.missing.example.net. RRSIG NSEC NXNAME`},
		"referral": {query: "a.plain.example.net.", rrtype: dns.TypeA, authority: []string{"plain.example.net. NSEC"},
			nsec: `\000.plain.example.net. NS RRSIG NSEC`},
		"referral to a signed zone": {query: "a.zone.example.net.", rrtype: dns.TypeA, authority: []string{"zone.example.net. DS"}},
		"no DS": {query: "plain.example.net.", rrtype: dns.TypeDS,
			authority: []string{"example.net. SOA", "plain.example.net. NSEC"}, nsec: `\000.plain.example.net. NS RRSIG NSEC`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := query(c.query, c.rrtype)
			if c.compact {
				q.IsEdns0().SetCo()
			}
			m := z.respond(q)
			if m.Rcode != c.rcode || m.IsEdns0().Co() != (c.rcode == dns.RcodeNameError) {
				t.Errorf("got %s", m)
			}
			if diff := cmp.Diff(c.answer, verify(t, []*Key{key}, epoch, m.Answer)); diff != "" {
				t.Errorf("signed in the answer (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.authority, verify(t, []*Key{key}, epoch, m.Ns)); diff != "" {
				t.Errorf("signed in authority (-want +got):\n%s", diff)
			}
			if len(verify(t, nil, epoch, m.Extra)) > 0 {
				t.Errorf("glue is signed: %v", m.Extra)
			}
			var nsec string
			for _, rr := range append(m.Answer, m.Ns...) {
				if n, ok := rr.(*dns.NSEC); ok {
					_, nsec, _ = strings.Cut(n.String(), "NSEC\t")
					if n.Hdr.Ttl != 60 {
						t.Errorf("%v does not have the negative TTL", n)
					}
				}
			}
			if nsec != c.nsec {
				t.Errorf("got NSEC %q, want %q", nsec, c.nsec)
			}
			if _, err := m.Pack(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSecureLeavesAlone(t *testing.T) {
	t.Parallel()
	key := newTestKey(t, "example.net.", dns.ECDSAP256SHA256)
	text := `
x.dn.example.net.    60 CNAME x.target.example.net.
dn.example.net.      60 DNAME target.example.net.
x.target.example.net. 60 A 192.0.2.1
www.example.com.     60 A 192.0.2.1
fooexample.net.      60 A 192.0.2.1
foo\.example.net.    60 A 192.0.2.1
`
	m := new(dns.Msg).SetQuestion("x.dn.example.net.", dns.TypeA)
	p := dns.NewZoneParser(strings.NewReader(text), ".", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		m.Answer = append(m.Answer, rr)
	}
	s := newTestSigner(t, Config{Origin: "example.net."})
	if err := s.Secure(m, Facts{}, epoch); err != nil || len(m.Answer) != 6 {
		t.Fatalf("a zone without keys made %v, %v", m, err)
	}
	if err := s.Use(t.Context(), oneKey(key), epoch); err != nil {
		t.Fatal(err)
	}
	if err := s.Secure(m, Facts{}, epoch); err != nil {
		t.Fatal(err)
	}
	want := []string{"dn.example.net. DNAME", "x.target.example.net. A"}
	if diff := cmp.Diff(want, verify(t, []*Key{key}, epoch, m.Answer)); diff != "" {
		t.Errorf("signed (-want +got):\n%s", diff)
	}
}

func TestScatteredSetIsSignedAsOne(t *testing.T) {
	t.Parallel()
	key := newTestKey(t, "example.net.", dns.ECDSAP256SHA256)
	z := signedZone(t, "example.net.", exampleNet, Config{}, oneKey(key))
	m := z.respond(query("www.example.net.", dns.TypeA))
	m.Answer = without(m.Answer, dns.TypeRRSIG)
	m.Answer = append([]dns.RR{m.Answer[0], z.nodes["mail.example.net."][dns.TypeA][0]}, m.Answer[1:]...)
	if err := z.signer.Secure(m, Facts{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := verify(t, []*Key{key}, time.Now(), m.Answer); len(got) != 2 || len(m.Answer) != 6 {
		t.Errorf("got %v", m)
	}
}

func TestTTLs(t *testing.T) {
	t.Parallel()
	key := newTestKey(t, "example.net.", dns.ECDSAP256SHA256)
	z := signedZone(t, "example.net.", exampleNet, Config{MaxTTL: 200 * time.Second}, oneKey(key))
	m := z.respond(query("www.example.net.", dns.TypeA))
	verify(t, []*Key{key}, time.Now(), m.Answer)
	for _, rr := range m.Answer {
		if rr.Header().Ttl != 200 {
			t.Errorf("TTL is not lowered to the bound: %v", rr)
		}
	}
	if ttl := z.nodes["www.example.net."][dns.TypeA][0].Header().Ttl; ttl != 300 {
		t.Errorf("the zone's own record has TTL %d now", ttl)
	}
	m = new(dns.Msg)
	rr := dns.Copy(z.nodes["mail.example.net."][dns.TypeA][0])
	for _, ttl := range []uint32{5, 60, 5, 0} { // signed again for a greater TTL, not for a smaller one
		rr.Header().Ttl = ttl
		m.Answer = []dns.RR{rr}
		if err := z.signer.Secure(m, Facts{}, time.Now()); err != nil {
			t.Fatal(err)
		}
		verify(t, []*Key{key}, time.Now(), m.Answer)
	}
	if sig := m.Answer[1].(*dns.RRSIG); sig.OrigTtl != 60 || sig.Hdr.Ttl != 0 {
		t.Errorf("got %v", sig)
	}
}

func TestTwoKeysSignWhileTheAlgorithmChanges(t *testing.T) {
	t.Parallel()
	old, young := newTestKey(t, "example.net.", dns.ECDSAP256SHA256), newTestKey(t, "example.net.", dns.ED25519)
	keys := []*Key{old, young}
	z := signedZone(t, "example.net.", exampleNet, Config{}, Ring{Data: keys, Apex: keys, Parent: keys[1:], TTL: 60})
	m := z.respond(query("www.example.net.", dns.TypeA))
	if got := verify(t, keys, time.Now(), m.Answer); len(got) != 2 {
		t.Errorf("got %v", m)
	}
	m = z.respond(query("example.net.", dns.TypeDNSKEY))
	if got := verify(t, keys, time.Now(), m.Answer); len(got) != 2 || len(m.Answer) != 4 {
		t.Errorf("got %v", m)
	}
}

func TestDeleteRecords(t *testing.T) {
	t.Parallel()
	ring := Ring{Delete: true, TTL: 60}
	var got []string
	for _, rr := range ring.Records("Example.net") {
		got = append(got, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	want := []string{"example.net. 60 IN CDS 0 0 0 00", "example.net. 60 IN CDNSKEY 0 3 0 AA=="} // RFC 8078 section 4
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"no origin":                      {},
		"signatures end before records":  {Origin: "example.net.", MaxTTL: 48 * time.Hour, Validity: 72 * time.Hour},
		"TTL of no second":               {Origin: "example.net.", MaxTTL: time.Millisecond},
		"negative TTL beyond the others": {Origin: "example.net.", MaxTTL: time.Second, NegativeTTL: time.Minute},
		"negative skew":                  {Origin: "example.net.", Skew: -1},
	} {
		if s, err := New(c); err == nil {
			t.Errorf("%s: made %v", name, s)
		}
	}
}
