package sign

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func BenchmarkSignature(b *testing.B) {
	for _, algorithm := range []uint8{dns.ECDSAP256SHA256, dns.ED25519} {
		b.Run(dns.AlgorithmToString[algorithm], func(b *testing.B) {
			k := newTestKey(b, "example.net.", algorithm)
			z := newTestZone(b, "example.net.", exampleNet)
			set := z.nodes["www.example.net."][dns.TypeA]
			for b.Loop() {
				if _, err := k.sign(set, 300, epoch, epoch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSecure is what DNSSEC costs a query whose sets are signed already.
func BenchmarkSecure(b *testing.B) {
	key, count := countingKey(b, "example.net.", dns.ECDSAP256SHA256)
	z := signedZone(b, "example.net.", exampleNet, Config{}, oneKey(key))
	now := time.Now()
	if err := z.signer.Presign(b.Context(), slices.Values(z.sets()), now); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		what, name string
		rrtype     uint16
	}{
		{"one address", "mail.example.net.", dns.TypeA}, {"three addresses", "www.example.net.", dns.TypeA},
		{"no data", "mail.example.net.", dns.TypeAAAA}, {"chain", "chain.example.net.", dns.TypeA},
	} {
		b.Run(c.what, func(b *testing.B) {
			reply := new(dns.Msg).SetReply(query(c.name, c.rrtype))
			facts := z.lookup(reply, c.name, c.rrtype)
			before := count.calls.Load()
			b.ReportAllocs()
			for b.Loop() {
				m := *reply
				if err := z.signer.Secure(&m, facts, now); err != nil {
					b.Fatal(err)
				}
			}
			if count.calls.Load() != before {
				b.Fatal("a query was signed for")
			}
		})
	}
}

// BenchmarkMissing is what a query for a name that does not exist costs: one signature.
func BenchmarkMissing(b *testing.B) {
	z := signedZone(b, "example.net.", exampleNet, Config{}, oneKey(newTestKey(b, "example.net.", dns.ECDSAP256SHA256)))
	i := 0
	for b.Loop() {
		i++
		z.respond(query(fmt.Sprintf("x%d.example.net.", i), dns.TypeA))
	}
}

func manySets(n int) (sets [][]dns.RR) {
	for i := range n {
		sets = append(sets, []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: fmt.Sprintf("x%d.example.net.", i), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
			A:   []byte{192, 0, 2, 1},
		}})
	}
	return sets
}

// BenchmarkPresign signs 10,000 names ahead.
func BenchmarkPresign(b *testing.B) {
	sets := manySets(10_000)
	key := newTestKey(b, "example.net.", dns.ECDSAP256SHA256)
	for _, first := range []bool{true, false} {
		b.Run(map[bool]string{true: "all new", false: "all known"}[first], func(b *testing.B) {
			s := newTestSigner(b, Config{Origin: "example.net."})
			if err := s.Use(b.Context(), oneKey(key), epoch); err != nil {
				b.Fatal(err)
			}
			if err := s.Presign(b.Context(), slices.Values(sets), epoch); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if first {
					if err := s.Presign(b.Context(), slices.Values([][]dns.RR(nil)), epoch); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Presign(b.Context(), slices.Values(sets), epoch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAdd signs ten sets that change, beside 10,000.
func BenchmarkAdd(b *testing.B) {
	sets := manySets(10_000)
	s := newTestSigner(b, Config{Origin: "example.net."})
	if err := s.Use(b.Context(), oneKey(newTestKey(b, "example.net.", dns.ECDSAP256SHA256)), epoch); err != nil {
		b.Fatal(err)
	}
	if err := s.Presign(b.Context(), slices.Values(sets), epoch); err != nil {
		b.Fatal(err)
	}
	n := uint32(0)
	for b.Loop() {
		for _, set := range sets[:10] {
			n++
			set[0].(*dns.A).A = binary.BigEndian.AppendUint32(nil, n)
		}
		if err := s.Add(b.Context(), sets[:10], epoch); err != nil {
			b.Fatal(err)
		}
	}
}
