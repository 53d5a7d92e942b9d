package gssbench

import (
	"crypto"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const zone = "example.org."

// hostName is the i-th name that is asked for.
func hostName(i int) string { return fmt.Sprintf("host%d.%s", i, zone) }

// address is the record of the i-th name.
func address(i int) *dns.A {
	return &dns.A{Hdr: dns.RR_Header{Name: hostName(i), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
		A: []byte{198, 51, 100, byte(i)}}
}

// zoneFile is the zone of so many names as master files have it.
func zoneFile(names int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL 60\n@ SOA ns.%[1]s hostmaster.%[1]s 1 3600 600 86400 60\n@ NS ns.%[1]s\nns A 192.0.2.53\n", zone)
	for i := range names {
		fmt.Fprintf(&b, "%s\n", strings.ReplaceAll(address(i).String(), "\t", " "))
	}
	return b.String()
}

// signer signs sets of the zone.
type signer struct {
	key     *dns.DNSKEY
	private crypto.Signer
}

func newSigner() (*signer, error) {
	k := &dns.DNSKEY{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 60},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
	private, err := k.Generate(256)
	if err != nil {
		return nil, err
	}
	return &signer{k, private.(crypto.Signer)}, nil
}

func (s *signer) sign(rr dns.RR) (*dns.RRSIG, error) {
	now := time.Now()
	sig := &dns.RRSIG{KeyTag: s.key.KeyTag(), SignerName: zone, Algorithm: s.key.Algorithm,
		Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(24 * time.Hour).Unix())}
	return sig, sig.Sign(s.private, []dns.RR{rr})
}
