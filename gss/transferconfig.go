package gss

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"anycastle/gss/transfer"
	"anycastle/gss/zone"
	"anycastle/internal/config"
)

// minSecret is how many bytes the secret of a key has at least: RFC 8945 section 8 wants as many as its hash, or so.
const minSecret = 16

// Bounds of Zone.MaxSize: what is beyond is a slip.
const (
	minMaxSize = 1 << 10
	maxMaxSize = 1 << 30
)

// TSIGKey is a secret that this server shares with others (RFC 8945).
type TSIGKey struct {
	Name       string `yaml:"name"`        // a domain name, the same at both servers, such as east-west.example.org
	Algorithm  string `yaml:"algorithm"`   // hmac-sha256 (default), hmac-sha384, hmac-sha512, hmac-sha224 or hmac-sha1
	Secret     string `yaml:"secret"`      // in base64
	SecretFile string `yaml:"secret_file"` // or a file with it
}

// Transfer says who may have a zone.
type Transfer struct {
	To []Secondary `yaml:"to"` // default nobody
}

// Secondary is a server, or some, that may have a zone. At least one of prefix and key is given; if both are, both must fit.
type Secondary struct {
	Prefix       netip.Prefix `yaml:"prefix"`
	Key          string       `yaml:"key"`           // name of a key
	WithoutRules bool         `yaml:"without_rules"` // leave out what rules answer, for a site selector with the same rules; default false
}

// Peer is a server that zones are taken from, or that is told of changes.
type Peer struct {
	Address netip.AddrPort `yaml:"address"`
	Key     string         `yaml:"key"` // name of the key that messages are signed with; default none
}

// SetDefaults implements config.Defaulter.
func (k *TSIGKey) SetDefaults() { *k = TSIGKey{Algorithm: transfer.Algorithms()[0]} }

// checkKeys reports what is wrong with the keys.
func (c *Config) checkKeys(at config.Cursor) {
	names := map[string]bool{}
	for i := range c.TSIGKeys {
		k, at := &c.TSIGKeys[i], at.Index(i)
		name, err := hostname(k.Name)
		switch {
		case err != nil:
			at.Key("name").Errorf("%v", err)
		case names[name]:
			at.Key("name").Errorf("another key is called %q; rename one", k.Name)
		}
		names[name] = true
		if !slices.Contains(transfer.Algorithms(), k.Algorithm) {
			at.Key("algorithm").Errorf("no algorithm is called %q; there are %q", k.Algorithm, transfer.Algorithms())
		}
		switch where, secret, err := k.secret(); {
		case err != nil:
			at.Key(where).Errorf("%v", err)
		case len(secret) < minSecret:
			at.Key(where).Errorf("%d bytes are too few; use %d or more, such as what `openssl rand -base64 32` gives", len(secret), minSecret)
		}
	}
}

// secret gives the secret, and the config key that it comes from.
func (k *TSIGKey) secret() (where string, secret []byte, err error) {
	text := k.Secret
	where = "secret"
	switch {
	case k.Secret != "" && k.SecretFile != "":
		return "secret_file", nil, fmt.Errorf("is not taken beside secret; keep one of them")
	case k.SecretFile != "":
		where = "secret_file"
		b, err := os.ReadFile(k.SecretFile)
		if err != nil {
			return where, nil, err
		}
		text = strings.TrimSpace(string(b))
	case text == "":
		return where, nil, fmt.Errorf("missing; give a secret in base64, such as what `openssl rand -base64 32` gives, or a secret_file with it")
	}
	secret, err = base64.StdEncoding.DecodeString(text)
	if err != nil {
		return where, nil, fmt.Errorf("it is not base64; write what `openssl rand -base64 32` gives")
	}
	return where, secret, nil
}

// keys gives the keys of a valid config.
func (c *Config) keys() (transfer.Keys, error) {
	keys := transfer.Keys{}
	for i := range c.TSIGKeys {
		k := &c.TSIGKeys[i]
		_, secret, err := k.secret()
		if err != nil {
			return nil, fmt.Errorf("gss config: key %s: %w", k.Name, err)
		}
		name := dns.CanonicalName(k.Name)
		keys[name] = &transfer.Key{Name: name, Algorithm: k.Algorithm, Secret: secret}
	}
	return keys, nil
}

// checkTransfer reports what is wrong with who a zone comes from and goes to.
func (c *Config) checkTransfer(z *Zone, at config.Cursor) {
	for i := range z.Transfer.To {
		s, at := &z.Transfer.To[i], at.Key("transfer").Key("to").Index(i)
		switch {
		case s.Key == "" && !s.Prefix.IsValid() && !at.Has("prefix"): // else the decoder has complained of it
			at.Errorf("everybody may have the zone; give a prefix such as 192.0.2.53/32, a key, or both")
		case s.Prefix.IsValid() && s.Prefix.Masked() != s.Prefix:
			at.Key("prefix").Errorf("%v has bits beyond its length; write %v", s.Prefix, s.Prefix.Masked())
		}
		c.checkKey(at.Key("key"), s.Key)
	}
	if len(z.Transfer.To) > 0 && z.DNSSEC != nil {
		at.Key("transfer").Errorf("a secondary would have the zone without signatures, which are made by each server as it answers; " +
			"have the other servers be site selectors with the same keys, or sign the zone there")
	}
	c.checkPeers(at.Key("notify"), z.Notify)
	c.checkPeers(at.Key("primaries"), z.Primaries)
	if at.Has("primaries") && len(z.Primaries) == 0 {
		at.Key("primaries").Errorf("none; give at least one, such as [{address: 192.0.2.53:53}], or a file or records")
	}
	switch size := at.Key("max_size"); {
	case !at.Has("max_size"):
	case len(z.Primaries) == 0:
		size.Errorf("is taken only with primaries; remove it")
	case z.MaxSize < minMaxSize || z.MaxSize > maxMaxSize:
		size.Errorf("%d is not from %d to %d bytes; %d suits most", z.MaxSize, minMaxSize, maxMaxSize, transfer.DefaultMaxSize)
	}
}

func (c *Config) checkKey(at config.Cursor, name string) {
	if name != "" {
		find(at, "key", c.TSIGKeys, func(k *TSIGKey) string { return k.Name }, name)
	}
}

func (c *Config) checkPeers(at config.Cursor, peers []Peer) {
	for i, p := range peers {
		at, address := at.Index(i), at.Index(i).Key("address")
		switch {
		case !p.Address.IsValid():
			if !at.Has("address") {
				address.Errorf("missing; give one such as 192.0.2.53:53")
			}
		case p.Address.Addr().IsUnspecified() || p.Address.Addr().IsMulticast() || p.Address.Addr().Is4In6():
			address.Errorf("%v is no address of a server; give its own", p.Address.Addr())
		case p.Address.Port() == 0:
			address.Errorf("port 0 is none; use 53")
		case slices.ContainsFunc(peers[:i], func(o Peer) bool { return o.Address == p.Address }):
			address.Errorf("%v is listed twice; keep one", p.Address)
		}
		c.checkKey(at.Key("key"), p.Key)
	}
}

// primaries gives what package transfer is to know of who a zone is taken from.
func (z *Zone) primaries(keys transfer.Keys) []transfer.Peer {
	peers := peersOf(z.Primaries, keys)
	for i := range peers {
		peers[i].MaxSize = z.MaxSize
	}
	return peers
}

// peersOf gives what package transfer is to know of peers.
func peersOf(list []Peer, keys transfer.Keys) (peers []transfer.Peer) {
	for _, p := range list {
		peers = append(peers, transfer.Peer{Addr: p.Address, Key: keys[dns.CanonicalName(p.Key)]})
	}
	return peers
}

// awaited is what there is of a secondary zone before its first transfer: enough to have names of rules. What of it is not
// theirs is never answered.
func awaited(origin string) (*zone.Zone, error) {
	h := dns.RR_Header{Name: origin, Class: dns.ClassINET, Ttl: 1}
	soa, ns := &dns.SOA{Hdr: h, Ns: ".", Mbox: ".", Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: 1}, &dns.NS{Hdr: h, Ns: "invalid."}
	soa.Hdr.Rrtype, ns.Hdr.Rrtype = dns.TypeSOA, dns.TypeNS
	return zone.Build(origin, slices.Values([]dns.RR{soa, ns}))
}
