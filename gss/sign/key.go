package sign

import (
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Errors of keys and of signing.
var (
	// ErrAlgorithm says that an algorithm is none of ECDSAP256SHA256 (13) and ED25519 (15).
	ErrAlgorithm = errors.New("algorithm is neither ECDSAP256SHA256 nor ED25519")
	// ErrKeyFile says that a key file is not what it should be.
	ErrKeyFile = errors.New("unusable key file")
	// ErrUnsigned says that some of a reply could not be signed. The reply may be sent as it is: see Signer.Secure.
	ErrUnsigned = errors.New("reply is not wholly signed")
)

const (
	cskFlags = dns.ZONE | dns.SEP
	protocol = 3 // RFC 4034 section 2.1.2
	keyBits  = 256
)

// Key is one combined signing key of a zone with its private part. It is never changed.
type Key struct {
	record *dns.DNSKEY
	signer crypto.Signer
	tag    uint16
}

// NewKey makes a key for a zone, of algorithm dns.ECDSAP256SHA256 or dns.ED25519.
func NewKey(zone string, algorithm uint8) (*Key, error) {
	if !supported(algorithm) {
		return nil, fmt.Errorf("make a key for %s: %w", zone, ErrAlgorithm)
	}
	record := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: dns.CanonicalName(zone), Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET},
		Flags: cskFlags, Protocol: protocol, Algorithm: algorithm,
	}
	for {
		private, err := record.Generate(keyBits)
		if err != nil {
			return nil, fmt.Errorf("make a key for %s: %w", zone, err)
		}
		if record.KeyTag() != 0 { // with which the library does not sign
			return newKey(record, private)
		}
	}
}

// newKey joins the two parts after it has checked that they belong together.
func newKey(record *dns.DNSKEY, private crypto.PrivateKey) (*Key, error) {
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: its private part cannot sign", ErrKeyFile)
	}
	k := &Key{record: record, signer: signer, tag: record.KeyTag()}
	if err := k.check(); err != nil {
		return nil, err
	}
	return k, nil
}

// check signs something and verifies it: a private part of another key would make every answer bogus.
func (k *Key) check() (err error) {
	defer func() { // a private part of nonsense may be too much for the crypto libraries
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: its private part cannot sign: %v", ErrKeyFile, p)
		}
	}()
	probe := []dns.RR{k.record}
	now := time.Unix(0, 0)
	sig, err := k.sign(probe, 0, now, now)
	if err != nil {
		return fmt.Errorf("%w: its private part cannot sign: %w", ErrKeyFile, err)
	}
	if err := sig.Verify(k.record, probe); err != nil {
		return fmt.Errorf("%w: the private part does not belong to the public one: %w", ErrKeyFile, err)
	}
	return nil
}

func supported(algorithm uint8) bool {
	return algorithm == dns.ECDSAP256SHA256 || algorithm == dns.ED25519
}

// ID names the key as its files are named, such as Kexample.org.+013+12345.
func (k *Key) ID() string { return keyID(k.record.Hdr.Name, k.record.Algorithm, k.tag) }

func keyID(zone string, algorithm uint8, tag uint16) string {
	return fmt.Sprintf("K%s+%03d+%05d", zone, algorithm, tag)
}

// same says whether two keys are one, even if they were read from files twice.
func (k *Key) same(other *Key) bool {
	a, b := k.record, other.record
	return k == other || k.tag == other.tag && a.Algorithm == b.Algorithm && a.PublicKey == b.PublicKey
}

// Tag is the key tag (RFC 4034 appendix B).
func (k *Key) Tag() uint16 { return k.tag }

// Algorithm is the number of the algorithm.
func (k *Key) Algorithm() uint8 { return k.record.Algorithm }

// DNSKEY gives a copy of the public part with that TTL in seconds.
func (k *Key) DNSKEY(ttl uint32) *dns.DNSKEY {
	record := *k.record
	record.Hdr.Ttl = ttl
	return &record
}

// DS gives the delegation signer record for the parent: SHA-256, as RFC 8624 section 3.3 wants it.
func (k *Key) DS() *dns.DS { return k.record.ToDS(dns.SHA256) }

// sign signs one RRset that is spelled as unpack spells it. All but the signature's own TTL and owner spelling is set.
func (k *Key) sign(set []dns.RR, ttl uint32, inception, expiration time.Time) (*dns.RRSIG, error) {
	sig := &dns.RRSIG{
		Algorithm: k.record.Algorithm, KeyTag: k.tag, SignerName: k.record.Hdr.Name, OrigTtl: ttl,
		Inception: uint32(inception.Unix()), Expiration: uint32(expiration.Unix()),
	}
	if err := sig.Sign(k.signer, set); err != nil {
		return nil, err
	}
	return sig, nil
}
