package netconf

import (
	"net/netip"
	"strings"

	"anycastle/internal/config"
	"anycastle/internal/firewall"
)

const (
	maxName = 15 // IFNAMSIZ less the final zero
	minMTU  = 68 // RFC 791: every link carries this much
	maxMTU  = 65535
)

// Config is the `net:` section of a node file. The zero Config changes nothing.
type Config struct {
	Forward    bool           `yaml:"forward"`    // forward IPv4, and as with several next hops (see Route); default false: left as it is
	Loopback   []netip.Prefix `yaml:"loopback"`   // more addresses for lo, such as 192.0.2.1/32; default none
	Interfaces []Interface    `yaml:"interfaces"` // links to wait for and set up; default none
	Routes     []Route        `yaml:"routes"`     // static routes; default none

	Firewall *firewall.Config `yaml:"firewall"` // what a router passes on between its interfaces; default none: everything
}

// Interface is a link that somebody else makes.
type Interface struct {
	Name      string         `yaml:"name"`      // as the topology calls it, such as eth1; required, unique
	Addresses []netip.Prefix `yaml:"addresses"` // with the length of their subnet, such as 192.0.2.3/31; default none
	MTU       int            `yaml:"mtu"`       // bytes; default 0: left as it is
}

// Route is a static route. Routes that rhi learns have a worse metric and give way to it.
type Route struct {
	To     Destination  `yaml:"to"`     // a prefix or `default`; required, unique
	Via    []netip.Addr `yaml:"via"`    // next hops on the interfaces' subnets; several share the flows by addresses and ports, asymmetric paths are taken, and routes by links without carrier are passed over; required
	Source netip.Addr   `yaml:"source"` // address that the node's own packets take here; default: the kernel chooses
}

// Destination is a prefix that may be written as `default`.
type Destination struct{ netip.Prefix }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Destination) UnmarshalText(text []byte) error {
	if string(text) == "default" {
		d.Prefix = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		return nil
	}
	return d.Prefix.UnmarshalText(text)
}

// Kind words what a Destination looks like, for complaints.
func (Destination) Kind() string { return "a prefix such as 203.0.113.0/24, or default" }

// SetDefaults implements config.Defaulter. All defaults are zero values.
func (c *Config) SetDefaults() {}

// Validate reports everything that is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	own := map[netip.Addr]bool{}
	checkAddresses(at.Key("loopback"), c.Loopback, own)
	names := map[string]bool{}
	for i, ifc := range c.Interfaces {
		at := at.Key("interfaces").Index(i)
		switch {
		case ifc.Name == "":
			at.Key("name").Errorf("missing; name the interface, such as eth1")
		case ifc.Name == "lo":
			at.Key("name").Errorf("lo is always there; put its addresses under `loopback`")
		case len(ifc.Name) > maxName || strings.ContainsAny(ifc.Name, "/: \t\n") || ifc.Name == "." || ifc.Name == "..":
			at.Key("name").Errorf("%q is no interface name; use at most %d characters without slash, colon or space", ifc.Name, maxName)
		case names[ifc.Name]:
			at.Key("name").Errorf("%s is given twice; keep one entry with all its addresses", ifc.Name)
		}
		names[ifc.Name] = true
		checkAddresses(at.Key("addresses"), ifc.Addresses, own)
		if ifc.MTU != 0 && (ifc.MTU < minMTU || ifc.MTU > maxMTU) {
			at.Key("mtu").Errorf("%d is out of range; use %d to %d, or 0 to leave it", ifc.MTU, minMTU, maxMTU)
		}
	}
	c.checkRoutes(at.Key("routes"), own)
	if c.Firewall == nil {
		return
	}
	if !c.Forward {
		at.Key("firewall").Errorf("this node passes nothing on, so that there is nothing to keep out; add `forward: true`, or remove it")
	}
	var links []string
	for _, ifc := range c.Interfaces {
		links = append(links, ifc.Name)
	}
	c.Firewall.Validate(at.Key("firewall"), links)
}

// checkAddresses takes IPv4 addresses of a host, and notes them in own, where each may be once.
func checkAddresses(at config.Cursor, list []netip.Prefix, own map[netip.Addr]bool) {
	for i, p := range list {
		at := at.Index(i)
		switch {
		case !p.IsValid():
			at.Errorf("no address; write one with its length, such as 192.0.2.3/31")
		case !p.Addr().Is4():
			at.Errorf("%v is IPv6, which this version does not set up; use an IPv4 address", p)
		case p.Addr().IsUnspecified() || p.Addr().IsMulticast() || p.Addr().IsLoopback():
			at.Errorf("%v is no address for a node; use a unicast address", p)
		case p.Bits() < 31 && p == p.Masked():
			at.Errorf("%v is the subnet itself; give an address in it, such as %v", p, netip.PrefixFrom(p.Addr().Next(), p.Bits()))
		case own[p.Addr()]:
			at.Errorf("%v is given twice on this node; keep one", p.Addr())
		}
		own[p.Addr()] = true
	}
}

func (c *Config) checkRoutes(at config.Cursor, own map[netip.Addr]bool) {
	seen := map[netip.Prefix]bool{}
	for i, r := range c.Routes {
		at := at.Index(i)
		switch to := r.To.Prefix; {
		case !to.IsValid():
			at.Key("to").Errorf("missing; give a prefix or default")
		case !to.Addr().Is4():
			at.Key("to").Errorf("%v is IPv6, which this version does not set up; use an IPv4 prefix", to)
		case to != to.Masked():
			at.Key("to").Errorf("%v has bits set beyond its length; write %v", to, to.Masked())
		case seen[to]:
			at.Key("to").Errorf("two routes to %v; use one with both next hops under `via`", to)
		}
		seen[r.To.Prefix] = true
		if len(r.Via) == 0 {
			at.Key("via").Errorf("missing; give at least one next hop")
		}
		hops := map[netip.Addr]bool{}
		for j, via := range r.Via {
			at := at.Key("via").Index(j)
			switch {
			case !via.IsValid():
				at.Errorf("no address; give the next hop's address")
			case own[via]:
				at.Errorf("%v is this node's own address; give the neighbor's", via)
			case !c.onLink(via):
				at.Errorf("%v is on no interface's subnet; give a neighbor's address, or the interface an address in its subnet", via)
			case hops[via]:
				at.Errorf("%v is given twice; keep one", via)
			}
			hops[via] = true
		}
		if r.Source.IsValid() && !own[r.Source] {
			at.Key("source").Errorf("%v is no address of this node; add it under `loopback` or to an interface, or leave source out", r.Source)
		}
	}
}

func (c *Config) onLink(a netip.Addr) bool {
	for _, ifc := range c.Interfaces {
		for _, p := range ifc.Addresses {
			if p.Contains(a) {
				return true
			}
		}
	}
	return false
}
