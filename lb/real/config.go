package real

import (
	"net/netip"
	"slices"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/lb/agent"
)

// maxLook leaves a load balancer, which gives up an agent that is silent for two seconds, one report more.
const maxLook = time.Second

// Config is the `real:` section of a node file.
type Config struct {
	Uplinks   []string     `yaml:"uplinks"`   // interfaces that packets from load balancers come in by; at least one
	Addresses []netip.Addr `yaml:"addresses"` // own addresses that they are sent to; default: every address of the uplinks but link-local IPv6
	VIPs      []netip.Addr `yaml:"vips"`      // addresses to answer for, IPv4 or IPv6; at least one
	Agent     *AgentConfig `yaml:"agent"`     // what tells load balancers of refused connections, flows and load; default: nothing does
}

// AgentConfig is where load balancers ask for reports, and how both sides prove who they are.
type AgentConfig struct {
	Listen config.ListenAddr `yaml:"listen"` // default ":6087"
	TLS    mtls.Files        `yaml:"tls"`    // a load balancer is who shows a certificate of this CA; required
	Look   time.Duration     `yaml:"look"`   // at the sockets while a load balancer listens: once in so long, 20ms to 1s; default 20ms
}

// SetDefaults implements config.Defaulter.
func (c *AgentConfig) SetDefaults() { c.Listen, c.Look = config.AnyAddr(6087), agent.MinEvery }

// Validate reports everything that is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	if len(c.Uplinks) == 0 {
		at.Key("uplinks").Errorf("no uplink; name the interfaces that packets from load balancers come in by, such as [eth1]")
	}
	for i, name := range c.Uplinks {
		switch {
		case name == "" || len(name) > 15:
			at.Key("uplinks").Index(i).Errorf("%q is no interface name; it has 1 to 15 characters", name)
		case name == "lo":
			at.Key("uplinks").Index(i).Errorf("lo is no uplink; name the interface towards the load balancers")
		case slices.Contains(c.Uplinks[:i], name):
			at.Key("uplinks").Index(i).Errorf("uplink %q is named twice; keep one", name)
		}
	}
	if len(c.VIPs) == 0 {
		at.Key("vips").Errorf("no VIP; give the addresses that this server answers for")
	}
	validateAddresses(at.Key("addresses"), c.Addresses)
	validateAddresses(at.Key("vips"), c.VIPs)
	for i, a := range c.VIPs {
		if slices.Contains(c.Addresses, a) {
			at.Key("vips").Index(i).Errorf("%v is among addresses too; a VIP is not the server's own", a)
		}
	}
	if c.Agent != nil {
		if slices.Contains(c.VIPs, c.Agent.Listen.Addr) {
			at.Key("agent").Key("listen").Errorf("%v is a VIP, which leads to any real; give an address of this server alone", c.Agent.Listen.Addr)
		}
		c.Agent.TLS.Validate(at.Key("agent").Key("tls"))
		if l := c.Agent.Look; l < agent.MinEvery || l > maxLook {
			at.Key("agent").Key("look").Errorf("%v is out of range; use %v to %v", l, agent.MinEvery, maxLook)
		}
	}
}

func validateAddresses(at config.Cursor, list []netip.Addr) {
	for i, a := range list {
		at := at.Index(i)
		switch {
		case !a.IsValid():
			at.Errorf("missing; give an IPv4 or IPv6 address")
		case a.Is4In6():
			at.Errorf("%v is IPv4 in an IPv6 form; write %v", a, a.Unmap())
		case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is6() && a.IsLinkLocalUnicast() || a.Zone() != "":
			at.Errorf("%v is no address that one host can have on all networks; give another", a)
		case slices.Contains(list[:i], a):
			at.Errorf("%v is given twice; keep one", a)
		}
	}
}
