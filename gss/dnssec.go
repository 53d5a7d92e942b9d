package gss

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/sign"
	"anycastle/internal/config"
)

const askTime = 5 * time.Second // for the answer of one server

// DNSSEC is how a zone is signed. Durations that are too long cost time; those that are too short cost answers.
type DNSSEC struct {
	Keys      string        `yaml:"keys"`      // directory; default the folder keys in gss.state_dir
	Follow    bool          `yaml:"follow"`    // another server rolls the keys, and gives them through the mesh, or the directory is copied; default false
	Share     bool          `yaml:"share"`     // keys go through the mesh, if there is one; default true
	Algorithm string        `yaml:"algorithm"` // ecdsap256sha256 (default) or ed25519
	Lifetime  time.Duration `yaml:"lifetime"`  // of a key; 0s: until an order; default a year
	Insecure  bool          `yaml:"insecure"`  // go back to an unsigned zone, without a moment that does not validate

	KeyTTL      time.Duration `yaml:"key_ttl"`     // of the DNSKEY, CDS and CDNSKEY sets; default 1h
	Propagation time.Duration `yaml:"propagation"` // until all servers of the zone have new keys; default 10m

	ParentTTL         time.Duration    `yaml:"parent_ttl"`         // of the DS set at the parent, at least; default 24h
	ParentPropagation time.Duration    `yaml:"parent_propagation"` // until all of the parent's servers have what is seen at those asked; default 2h
	Resolver          netip.AddrPort   `yaml:"resolver"`           // one that finds the parent's servers, to ask for DS records
	ParentServers     []netip.AddrPort `yaml:"parent_servers"`     // all of them, instead
}

// SetDefaults implements config.Defaulter.
func (d *DNSSEC) SetDefaults() {
	p := sign.DefaultPolicy()
	*d = DNSSEC{
		Share: true, Algorithm: strings.ToLower(dns.AlgorithmToString[p.Algorithm]), Lifetime: p.Lifetime, KeyTTL: p.KeyTTL, Propagation: p.Propagation,
		ParentTTL: p.ParentTTL, ParentPropagation: p.ParentPropagation,
	}
}

// policy gives what the keeper of the keys is to know.
func (d *DNSSEC) policy() sign.Policy {
	p := sign.DefaultPolicy()
	p.Algorithm = dns.StringToAlgorithm[strings.ToUpper(d.Algorithm)]
	p.Lifetime, p.Insecure, p.KeyTTL, p.Propagation = d.Lifetime, d.Insecure, d.KeyTTL, d.Propagation
	p.ParentTTL, p.ParentPropagation = d.ParentTTL, d.ParentPropagation
	return p
}

func (d *DNSSEC) validate(at config.Cursor) {
	if _, known := dns.StringToAlgorithm[strings.ToUpper(d.Algorithm)]; !known {
		at.Key("algorithm").Errorf("no algorithm is called %q; use ecdsap256sha256 or ed25519", d.Algorithm)
		return
	}
	p := d.policy()
	if err := p.Check(); err != nil {
		at.Errorf("%v", err)
	}
	if d.Resolver.IsValid() && len(d.ParentServers) > 0 {
		at.Key("resolver").Errorf("is not taken beside parent_servers; keep one of them")
	}
}

// parent gives how the parent's servers are asked; nil: they are not.
func (d *DNSSEC) parent() *sign.Parent {
	if !d.Resolver.IsValid() && len(d.ParentServers) == 0 {
		return nil
	}
	p := &sign.Parent{Exchange: askServer}
	for _, a := range d.ParentServers {
		p.Servers = append(p.Servers, a.String())
	}
	if d.Resolver.IsValid() {
		p.Resolver = d.Resolver.String()
	}
	return p
}

// askServer asks by UDP, and again by TCP if the answer does not fit.
func askServer(ctx context.Context, q *dns.Msg, server string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var m *dns.Msg
	var err error
	for _, network := range []string{"udp", "tcp"} {
		m, _, err = (&dns.Client{Net: network, Timeout: askTime}).ExchangeContext(ctx, q, server)
		if err == nil && !m.Truncated {
			break
		}
	}
	return m, err
}

// DefaultKeys is the directory of keys of a node file that says nothing about it.
const DefaultKeys = defaultStateDir + "/keys"

// AdoptKey takes over a zone that was signed elsewhere with one key alone, whose ID is that of its files in the directory, and whose
// DS record the parent has.
func AdoptKey(dir, zone, id string) error {
	name, err := canonical(zone)
	if err != nil {
		return err
	}
	store, err := sign.OpenStore(dir, name)
	if err != nil {
		return err
	}
	return store.Adopt(id, time.Now())
}
