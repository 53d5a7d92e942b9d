package sign

import (
	"reflect"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzSecure has messages of any content secured, with any facts. What is signed must verify, and what can be packed before
// must be packed after.
func FuzzSecure(f *testing.F) {
	key := newTestKey(f, "example.net.", dns.ED25519)
	s := newTestSigner(f, Config{Origin: "example.net.", CacheSize: 64})
	if err := s.Use(f.Context(), oneKey(key), epoch); err != nil {
		f.Fatal(err)
	}
	z := newTestZone(f, "example.net.", exampleNet)
	for _, k := range kinds {
		m := z.respond(query(k.name, k.rrtype))
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		for kind := range Referral + 1 {
			f.Add(wire, uint8(kind), k.name, k.rrtype, uint16(dns.TypeA))
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte, kind uint8, name string, rrtype, have uint16) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		_, err := dns.PackDomainName(dns.Fqdn(name), make([]byte, 256), 0, nil, false)
		_, unpackable := m.Pack()
		for _, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
			for i, rr := range rrs { // those that came signed prove nothing here
				if rr.Header().Rrtype == dns.TypeRRSIG {
					rrs[i] = &dns.TXT{Hdr: dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"x"}}
				}
			}
		}
		facts := Facts{Kind: Kind(kind), Name: dns.Fqdn(name), Type: rrtype, Types: []uint16{have}, Additional: true}
		if secureErr := s.Secure(m, facts, epoch); secureErr != nil && unpackable == nil && err == nil {
			t.Errorf("Secure: %v", secureErr)
		}
		for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
			verifySection(t, key, section)
		}
		if _, err := m.Pack(); err != nil && unpackable == nil && m.Len() < dns.MaxMsgSize {
			if _, bad := dns.PackDomainName(facts.Name, make([]byte, 256), 0, nil, false); bad == nil {
				t.Errorf("cannot be packed any more: %v", err)
			}
		}
	})
}

// verifySection wants that a set stands in front of each signature, and fits it.
func verifySection(t *testing.T, key *Key, section []dns.RR) {
	t.Helper()
	for i, rr := range section {
		sig, ok := rr.(*dns.RRSIG)
		if !ok {
			continue
		}
		begin := i
		for begin > 0 && sameSet(section[begin-1], section[i-1]) {
			begin--
		}
		set, err := normal(section[begin:i])
		if err != nil {
			t.Fatal(err)
		}
		sig.Hdr.Name = set[0].Header().Name
		if err := sig.Verify(key.record, set); err != nil {
			t.Errorf("%v\n%v: %v", section[begin:i], sig, err)
		}
	}
}

// normal is what a validator sees of a set.
func normal(set []dns.RR) (out []dns.RR, err error) {
	var b setKey
	key, err := b.build(set)
	if err != nil {
		return nil, err
	}
	return unpack(key)
}

func FuzzKeyFile(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte(v.dnskey+"\n"), []byte(v.private))
	}
	k := newTestKey(f, "example.net.", dns.ECDSAP256SHA256)
	public, private := formatKey(k)
	f.Add(public, private)
	f.Fuzz(func(t *testing.T, public, private []byte) {
		k, err := parseKey(public, private)
		if err != nil {
			return
		}
		again, err := parseKey(formatKey(k))
		if err != nil || again.ID() != k.ID() || again.record.PublicKey != k.record.PublicKey {
			t.Errorf("%v became %v, %v", k.record, again, err)
		}
	})
}

// FuzzState has Next go on from any state that is taken, for a while.
func FuzzState(f *testing.F) {
	r := &rolling{t: f, now: epoch, policy: testPolicy()}
	r.policy.Lifetime = 100 * time.Hour
	for i := range 60 {
		if i%4 == 0 {
			text, err := r.state.Encode()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
		r.run(5 * time.Hour)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := DecodeState(text)
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil {
			return // years that JSON does not know
		}
		if back, err := DecodeState(again); err != nil || !reflect.DeepEqual(normalState(back), normalState(s)) {
			t.Fatalf("%s became\n%s: %v", text, again, err)
		}
		r := &rolling{t: t, now: epoch, policy: testPolicy(), state: s, keys: 90}
		r.run(20 * time.Hour)
		if err := r.state.check(); err != nil {
			t.Errorf("Next made a state that is refused: %v", err)
		}
	})
}

// normalState has no difference that JSON does not keep.
func normalState(s State) State {
	s = s.clone()
	for _, vs := range [][]Version{s.DNSKEY, s.Data, s.DS} {
		for i := range vs {
			v := &vs[i]
			v.From, v.Until, v.Withdrawn = v.From.UTC(), v.Until.UTC(), v.Withdrawn.UTC()
			v.Keys = append([]string{}, v.Keys...)
		}
	}
	for id, k := range s.Keys {
		k.Made, k.Trusted = k.Made.UTC(), k.Trusted.UTC()
		s.Keys[id] = k
	}
	s.Request.Since, s.Request.Keys = s.Request.Since.UTC(), append([]string{}, s.Request.Keys...)
	s.Seen.At = s.Seen.At.UTC()
	if len(s.Seen.Sets) == 0 {
		s.Seen.Sets = nil
	}
	for i, set := range s.Seen.Sets {
		s.Seen.Sets[i] = append([]string{}, set...)
	}
	return s
}

// FuzzRolls is TestEachCacheValidatesAtEachMoment with more seeds.
func FuzzRolls(f *testing.F) {
	f.Add(uint64(1000))
	f.Fuzz(func(t *testing.T, seed uint64) {
		if w := newSim(t, seed, lies{}); !w.run(1000) {
			w.fatal(seed)
		}
	})
}
