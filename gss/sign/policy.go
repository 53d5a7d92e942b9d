package sign

import (
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Policy is how the keys of a zone are rolled. Durations that are too long cost time; those that are too short cost answers.
type Policy struct {
	Algorithm uint8         // dns.ECDSAP256SHA256 or dns.ED25519
	Lifetime  time.Duration // of a key, after which the next is made; 0: only by order
	Insecure  bool          // the zone is to be unsigned

	KeyTTL      time.Duration // of the DNSKEY, CDS and CDNSKEY sets
	MaxTTL      time.Duration // of any record of the zone, denials too: Config.MaxTTL of the Signer
	Propagation time.Duration // from a change of State until all servers of the zone answer by it: Signer.Use takes its time

	ParentTTL         time.Duration // of the DS set, or of its absence, at least; an observation may say more
	ParentPropagation time.Duration // until all the parent's servers have what those show that are asked
	Registration      time.Duration // from a CDS record until the parent acts on it, or never does; counts if it is taken back
}

// DefaultPolicy suits a zone of short TTLs below a top-level domain.
func DefaultPolicy() Policy {
	return Policy{
		Algorithm: dns.ECDSAP256SHA256, Lifetime: 365 * 24 * time.Hour,
		KeyTTL: time.Hour, MaxTTL: 24 * time.Hour, Propagation: 10 * time.Minute,
		ParentTTL: 24 * time.Hour, ParentPropagation: 2 * time.Hour, Registration: 48 * time.Hour,
	}
}

// Check says what is wrong with a policy.
func (p *Policy) Check() error {
	if !supported(p.Algorithm) {
		return fmt.Errorf("algorithm %d: %w", p.Algorithm, ErrAlgorithm)
	}
	for _, d := range []time.Duration{p.Lifetime, p.Propagation, p.ParentPropagation, p.Registration} {
		if d < 0 {
			return fmt.Errorf("%v is a negative time", d)
		}
	}
	if p.KeyTTL < time.Second || p.MaxTTL < time.Second || p.ParentTTL < time.Second {
		return errors.New("a TTL is 1s or more")
	}
	if least := p.rollTime(); p.Lifetime > 0 && p.Lifetime < least {
		return fmt.Errorf("a key lives for %v, but a roll takes %v with these TTLs; make it live longer", p.Lifetime, least)
	}
	return nil
}

// rollTime is what a roll takes if the parent acts at once.
func (p *Policy) rollTime() time.Duration {
	return p.KeyTTL + p.Propagation + p.ParentTTL + p.ParentPropagation + p.MaxTTL + p.Propagation
}

// keyTTL is how long caches keep a DNSKEY set, or that there is none.
func (p *Policy) keyTTL(keys []string) time.Duration {
	if len(keys) == 0 {
		return max(p.KeyTTL, p.MaxTTL)
	}
	return p.KeyTTL
}
