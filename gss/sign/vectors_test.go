package sign

import (
	"testing"
	"time"

	"github.com/miekg/dns"
)

// vectors are the examples of RFC 6605 section 6.1 and RFC 8080 section 6.1.
var vectors = []struct {
	name, private, dnskey, ds, set, rrsig string
}{
	{
		name: "RFC 6605 ECDSA P-256",
		private: "Private-key-format: v1.2\nAlgorithm: 13 (ECDSAP256SHA256)\n" +
			"PrivateKey: GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=\n",
		dnskey: "example.net. 3600 IN DNSKEY 257 3 13 " +
			"GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
		ds:  "example.net. 3600 IN DS 55648 13 2 b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17",
		set: "www.example.net. 3600 IN A 192.0.2.1",
		rrsig: "www.example.net. 3600 IN RRSIG A 13 3 3600 20100909100439 20100812100439 55648 example.net. " +
			"qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXAyGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==",
	},
	{
		name:    "RFC 8080 Ed25519",
		private: "Private-key-format: v1.2\nAlgorithm: 15 (ED25519)\nPrivateKey: ODIyNjAzODQ2MjgwODAxMjI2NDUxOTAyMDQxNDIyNjI=\n",
		dnskey:  "example.com. 3600 IN DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
		ds:      "example.com. 3600 IN DS 3613 15 2 3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b",
		set:     "example.com. 3600 IN MX 10 mail.example.com.",
		rrsig: "example.com. 3600 IN RRSIG MX 15 2 3600 20150819220000 20150729220000 3613 example.com. " +
			"oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg==",
	},
}

func parseRR(t *testing.T, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			k, err := parseKey([]byte(v.dnskey+"\n"), []byte(v.private))
			if err != nil {
				t.Fatal(err)
			}
			ds := k.DS()
			ds.Hdr.Ttl = 3600
			if want := parseRR(t, v.ds); ds.String() != want.String() {
				t.Errorf("got %v, want %v", ds, want)
			}
			set, want := []dns.RR{parseRR(t, v.set)}, parseRR(t, v.rrsig).(*dns.RRSIG)
			if err := want.Verify(k.record, set); err != nil {
				t.Fatalf("the vector is mistyped: %v", err)
			}
			sig, err := k.sign(set, 3600, time.Unix(int64(want.Inception), 0), time.Unix(int64(want.Expiration), 0))
			if err != nil {
				t.Fatal(err)
			}
			sig.Hdr.Ttl = 3600
			if k.Algorithm() == dns.ECDSAP256SHA256 { // whose signatures are random
				if err := sig.Verify(k.record, set); err != nil {
					t.Error(err)
				}
				sig.Signature = want.Signature
			}
			if sig.String() != want.String() {
				t.Errorf("got %v\nwant %v", sig, want)
			}
		})
	}
}

func TestKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	other := newTestKey(t, "example.net.", dns.ECDSAP256SHA256)
	record := other.DNSKEY(0).String() + "\n"
	for name, c := range map[string][2]string{
		"of two pairs":      {record, vectors[0].private},
		"of two algorithms": {record, vectors[1].private},
		"no private part":   {record, ""},
		"no public part":    {"", vectors[0].private},
		"other record":      {"example.net. A 192.0.2.1\n", vectors[0].private},
		"RSA":               {"example.net. DNSKEY 257 3 8 AwEAAQ==\n", vectors[0].private},
		"zero":              {record, "Private-key-format: v1.3\nAlgorithm: 13\nPrivateKey: AAAA\n"},
		"not of a zone":     {"example.net. DNSKEY 1 3 13 " + other.record.PublicKey + "\n", vectors[0].private},
	} {
		if k, err := parseKey([]byte(c[0]), []byte(c[1])); err == nil {
			t.Errorf("%s: made %v", name, k.ID())
		}
	}
	if _, err := NewKey("example.net.", dns.RSASHA256); err == nil {
		t.Error("made an RSA key")
	}
}
