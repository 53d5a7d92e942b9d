package sign

import (
	"bytes"
	"fmt"

	"github.com/miekg/dns"
)

// The extensions of a key's two files, as BIND's tools name them.
const (
	publicExt  = ".key"
	privateExt = ".private"
)

// parseKey reads the texts of a key's two files in the format of BIND's dnssec-keygen.
func parseKey(public, private []byte) (*Key, error) {
	rr, err := dns.ReadRR(bytes.NewReader(public), "")
	if err != nil {
		return nil, fmt.Errorf("%w: public part: %w", ErrKeyFile, err)
	}
	record, ok := rr.(*dns.DNSKEY)
	if !ok {
		return nil, fmt.Errorf("%w: public part: no DNSKEY record", ErrKeyFile)
	}
	switch {
	case record.Protocol != protocol || record.Flags&dns.ZONE == 0 || record.Flags&dns.REVOKE != 0:
		return nil, fmt.Errorf("%w: public part: flags %d, protocol %d; a key that signs alone has 257 and 3",
			ErrKeyFile, record.Flags, record.Protocol)
	case !supported(record.Algorithm):
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, ErrAlgorithm)
	}
	record.Hdr = dns.RR_Header{Name: dns.CanonicalName(record.Hdr.Name), Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET}
	key, err := record.ReadPrivateKey(bytes.NewReader(private), "")
	if err != nil {
		return nil, fmt.Errorf("%w: private part: %w", ErrKeyFile, err)
	}
	if key == nil {
		return nil, fmt.Errorf("%w: private part: empty", ErrKeyFile)
	}
	return newKey(record, key)
}

// formatKey gives the texts of the two files. Their TTL is left to who publishes the key.
func formatKey(k *Key) (public, private []byte) {
	r := k.record
	head := fmt.Sprintf("; This is a combined signing key, keyid %d, for %s\n", k.tag, r.Hdr.Name)
	record := fmt.Sprintf("%s IN DNSKEY %d %d %d %s\n", r.Hdr.Name, r.Flags, r.Protocol, r.Algorithm, r.PublicKey)
	return []byte(head + record), []byte(r.PrivateKeyString(k.signer))
}
