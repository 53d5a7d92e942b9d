package lb

import (
	"encoding/hex"
	"fmt"
	"net/netip"

	"anycastle/internal/probe"
)

// Config is the `lb:` section of a node file.
type Config struct {
	Uplinks []string `yaml:"uplinks"`  // interfaces that the packets for VIPs come in by; at least one
	HashKey HashKey  `yaml:"hash_key"` // the same on every LB of a site; required
	Farms   []Farm   `yaml:"farms"`    // server farms, each behind at least one VIP
	VIPs    []VIP    `yaml:"vips"`     // what is balanced; at least one
}

// Farm is a set of reals that do the same work.
type Farm struct {
	Name  string       `yaml:"name"`  // unique
	Probe probe.Config `yaml:"probe"` // how its reals are probed; port 0: the port of the farm's VIPs
	Reals []Real       `yaml:"reals"` // at least one
}

// Real is one server.
type Real struct {
	Name    string     `yaml:"name"`    // unique in its farm
	Address netip.Addr `yaml:"address"` // its own IPv4 address, which packets are encapsulated to
	Weight  int        `yaml:"weight"`  // its part of the flows, against the weights of the others; default 1
}

// VIP is an address, protocol and port that the farm answers for.
type VIP struct {
	Name     string     `yaml:"name"`      // unique
	Address  netip.Addr `yaml:"address"`   // IPv4
	Protocol string     `yaml:"protocol"`  // tcp or udp; default tcp
	Port     uint16     `yaml:"port"`      // 1 to 65535
	Farm     string     `yaml:"farm"`      // name of a farm
	MinReals int        `yaml:"min_reals"` // its address is announced while at least so many reals are in service; default 1
}

// SetDefaults implements config.Defaulter.
func (r *Real) SetDefaults() { *r = Real{Weight: 1} }

// SetDefaults implements config.Defaulter.
func (v *VIP) SetDefaults() { *v = VIP{Protocol: "tcp", MinReals: 1} }

// HashKey is the 128-bit key of the hash that spreads flows over slots.
type HashKey [16]byte

// UnmarshalText implements encoding.TextUnmarshaler: 32 hex digits.
func (k *HashKey) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(k) || len(text)%2 != 0 {
		return fmt.Errorf("%d hex digits, want %d", len(text), hex.EncodedLen(len(k)))
	}
	_, err := hex.Decode(k[:], text)
	return err
}

// Kind says in a complaint what a key looks like.
func (HashKey) Kind() string {
	return "32 hex digits, the same on every LB of the site (`openssl rand -hex 16` makes some)"
}

// farm gives the farm of that name. The config is valid, so there is one.
func (c *Config) farm(name string) *Farm {
	for i := range c.Farms {
		if c.Farms[i].Name == name {
			return &c.Farms[i]
		}
	}
	panic("lb: no farm " + name + " in a validated config")
}

// probePort is where the farm's reals are probed.
func (c *Config) probePort(f *Farm) uint16 {
	if f.Probe.Port != 0 {
		return f.Probe.Port
	}
	for _, v := range c.VIPs {
		if v.Farm == f.Name {
			return v.Port
		}
	}
	return 0
}
