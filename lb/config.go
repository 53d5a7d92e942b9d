package lb

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"anycastle/bpf"
	"anycastle/internal/config"
	"anycastle/internal/mesh"
	"anycastle/internal/mtls"
	"anycastle/internal/probe"
)

// Config is the `lb:` section of a node file.
type Config struct {
	Uplinks  []string     `yaml:"uplinks"`   // interfaces that the packets for VIPs come in by; at least one
	HashKey  HashKey      `yaml:"hash_key"`  // the same on every LB of a site; required
	StateDir string       `yaml:"state_dir"` // where orders and transitions survive a restart; default /var/lib/anycastle/lb
	TLS      *mtls.Files  `yaml:"tls"`       // of the calls to agents; required when a farm has an agent
	Mesh     *mesh.Config `yaml:"mesh"`      // shares orders and transitions with the other LBs of the site; default none
	Report   *Report      `yaml:"report"`    // tells site selectors how each VIP stands; default: nobody is told
	Farms    []Farm       `yaml:"farms"`     // server farms, each behind at least one VIP
	VIPs     []VIP        `yaml:"vips"`      // what is balanced; at least one
}

// Farm is a set of reals that do the same work.
type Farm struct {
	Name       string         `yaml:"name"`       // unique; no slash in it
	Forward    Forward        `yaml:"forward"`    // how packets get to its reals: ipip, gue or l2; default ipip
	Transition Transition     `yaml:"transition"` // what happens to established flows when a real comes, goes or changes its weight
	Agent      *Agent         `yaml:"agent"`      // `anycastle real` answers on each real; default: there is none
	Weights    string         `yaml:"weights"`    // config; agent: times what the agent's load leaves; agent-check: times what that probe says; default config
	Capacity   int            `yaml:"capacity"`   // flows that all its reals together can hold, for site selectors; needs an agent; default: not known
	Probes     []probe.Config `yaml:"probes"`     // all must pass; port 0: the port of the farm's VIPs; at least one
	Reals      []Real         `yaml:"reals"`      // at least one
}

// Report is where site selectors hear how the VIPs stand.
type Report struct {
	Listen  config.ListenAddr `yaml:"listen"`  // TCP; the address must be one that lb.tls names
	Clients []string          `yaml:"clients"` // names of those who may listen, as their certificates have it; default: all whom the CA has signed
}

// Transition is how established flows stay on their real while slots move.
type Transition struct {
	// tracked: new flows are remembered on the LB meanwhile; for any real. second-chance: the packet carries both reals, and
	// the agent on the first passes on what is not its own; needs forward gue, an agent and one IP version of all reals.
	// Default tracked.
	Method string        `yaml:"method"`
	Time   time.Duration `yaml:"time"` // that established flows are given, 1s to 168h; default 1h
}

// Agent is where a real's agent answers.
type Agent struct {
	Port uint16 `yaml:"port"` // TCP port on the real's own address; default 6087
}

// Real is one server.
type Real struct {
	Name    string     `yaml:"name"`    // unique in its farm; no slash in it
	Address netip.Addr `yaml:"address"` // its own address, IPv4 or IPv6, which packets are sent to
	Weight  int        `yaml:"weight"`  // its part of the flows, against the weights of the others, 1 to 1000; default 1
	Forward Forward    `yaml:"forward"` // default: as its farm
}

// VIP is an address, protocol and port that the farm answers for.
type VIP struct {
	Name         string     `yaml:"name"`          // unique
	Address      netip.Addr `yaml:"address"`       // IPv4 or IPv6
	Protocol     string     `yaml:"protocol"`      // tcp or udp; default tcp
	Port         Ports      `yaml:"port"`          // one port, a range such as 1000-2000, or any; of several VIPs the narrowest takes a packet
	Farm         string     `yaml:"farm"`          // name of a farm
	MinReals     int        `yaml:"min_reals"`     // its address is announced while at least so many reals are in service; default 1
	MinShare     int        `yaml:"min_share"`     // and at least so many percent of the farm's weight; default 0
	FullReals    int        `yaml:"full_reals"`    // with fewer in service it is announced as degraded; default 0
	FullShare    int        `yaml:"full_share"`    // with fewer percent of the farm's weight it is announced as degraded; default 0
	Hash         string     `yaml:"hash"`          // flow: by addresses and ports; source: by the client's address, so that the VIPs of a farm agree; default flow
	SourcePrefix int        `yaml:"source_prefix"` // bits of the client's address that hash source looks at; default all

	AgentCheck config.ListenAddr `yaml:"agent_check"` // TCP: where it tells HAProxy and others how it stands, in one line; default nowhere
}

// Forward is how packets get to a real.
type Forward string

// The ways of forwarding.
const (
	ForwardIPIP Forward = "ipip" // IPv4 or IPv6 in IPv4 or IPv6, as the addresses are
	ForwardGUE  Forward = "gue"  // Generic UDP Encapsulation
	ForwardL2   Forward = "l2"   // the packet as it is, to the real's MAC address: the real is on a network of the LB's
)

// The methods of a Transition.
const (
	Tracked      = "tracked"
	SecondChance = "second-chance"
)

// Where weights come from.
const (
	weightsConfig     = "config"
	weightsAgent      = "agent"
	weightsAgentCheck = "agent-check"
)

const (
	hashFlow   = "flow"
	hashSource = "source"

	agentCheck = "agent-check" // type of a probe
)

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() { *c = Config{StateDir: "/var/lib/anycastle/lb"} }

// SetDefaults implements config.Defaulter.
func (f *Farm) SetDefaults() { *f = Farm{Forward: ForwardIPIP, Weights: weightsConfig} }

// SetDefaults implements config.Defaulter.
func (t *Transition) SetDefaults() { *t = Transition{Method: Tracked, Time: time.Hour} }

// SetDefaults implements config.Defaulter.
func (a *Agent) SetDefaults() { *a = Agent{Port: 6087} }

// SetDefaults implements config.Defaulter.
func (r *Real) SetDefaults() { *r = Real{Weight: 1} }

// SetDefaults implements config.Defaulter.
func (v *VIP) SetDefaults() { *v = VIP{Protocol: "tcp", MinReals: 1, Hash: hashFlow} }

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

// find gives a real of the config by its names, or nil.
func (c *Config) find(id realID) (*Farm, *Real) {
	for i := range c.Farms {
		f := &c.Farms[i]
		for j := range f.Reals {
			if f.Name == id.farm && f.Reals[j].Name == id.name {
				return f, &f.Reals[j]
			}
		}
	}
	return nil, nil
}

// probePort is where a probe of the farm asks. It is 0 for a probe that needs no port.
func (c *Config) probePort(f *Farm, p *probe.Config) uint16 {
	if p.Port != 0 || !p.NeedsPort() {
		return p.Port
	}
	for _, v := range c.VIPs {
		if v.Farm == f.Name {
			return v.Port.Low
		}
	}
	return 0
}

// forward is how packets get to a real of the farm.
func (f *Farm) forward(r *Real) Forward {
	if r.Forward != "" {
		return r.Forward
	}
	return f.Forward
}

// kind is what the data path calls a way of forwarding.
func (w Forward) kind() uint8 {
	switch w {
	case ForwardGUE:
		return bpf.KindGUE
	case ForwardL2:
		return bpf.KindL2
	}
	return bpf.KindIPIP
}

// sourcePrefix is how many bits of a client's address decide its slot; 0 if the whole flow does.
func (v *VIP) sourcePrefix() int {
	switch {
	case v.Hash != hashSource:
		return 0
	case v.SourcePrefix == 0:
		return v.Address.BitLen()
	}
	return v.SourcePrefix
}
