package sign

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestQueriesWhileKeysAndSetsChange has queries answered while everything changes: each reply is whole, signed by one ring.
func TestQueriesWhileKeysAndSetsChange(t *testing.T) {
	t.Parallel()
	keys := []*Key{newTestKey(t, "example.net.", dns.ECDSAP256SHA256), newTestKey(t, "example.net.", dns.ED25519)}
	z := signedZone(t, "example.net.", exampleNet, Config{CacheSize: 32}, oneKey(keys[0]))
	set := z.nodes["www.example.net."][dns.TypeA]
	soa := z.nodes["example.net."][dns.TypeSOA]
	sets := z.sets()
	var done atomic.Bool
	var askers sync.WaitGroup
	var asked atomic.Int64
	for range 2 {
		askers.Go(func() {
			for i := 0; !done.Load(); i++ {
				m := new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA)
				m.Answer, m.Ns = append(m.Answer, set...), append(m.Ns, soa...)
				name := string(rune('a'+i%26)) + ".example.net."
				if err := z.signer.Secure(m, Facts{Kind: NXDomain, Name: name, Type: dns.TypeA}, time.Now()); err != nil {
					t.Error(err)
				}
				tags := map[uint16]bool{}
				for _, rr := range append(m.Answer, m.Ns...) {
					if sig, ok := rr.(*dns.RRSIG); ok {
						tags[sig.KeyTag] = true
					}
				}
				if signed := verify(t, keys, time.Now(), m.Answer, m.Ns); len(signed) != 3 || len(tags) != 1 {
					t.Errorf("signed %v by %v", signed, tags)
				}
				asked.Add(1)
			}
		})
	}
	for i := range 20 {
		for _, change := range []func() error{
			func() error { return z.signer.Use(t.Context(), oneKey(keys[i%2]), time.Now()) },
			func() error { return z.signer.Presign(t.Context(), slices.Values(sets[:len(sets)-i]), time.Now()) },
			func() error { return z.signer.Add(t.Context(), sets[len(sets)-i:], time.Now()) },
			func() error { return z.signer.Refresh(t.Context(), time.Now().Add(11*24*time.Hour)) },
		} {
			if err := change(); err != nil {
				t.Error(err)
			}
		}
	}
	eventually(t, "some queries were answered", 10*time.Second, func() bool { return asked.Load() > 100 })
	done.Store(true)
	askers.Wait()
}
