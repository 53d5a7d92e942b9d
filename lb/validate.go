package lb

import (
	"net/netip"
	"slices"

	"anycastle/bpf"
	"anycastle/internal/config"
)

// maxWeight keeps the ratio of two weights where a share of a slot table can still show it.
const maxWeight = 1000

// Validate reports everything that is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	c.validateUplinks(at)
	if c.HashKey == (HashKey{}) {
		at.Key("hash_key").Errorf("missing or all zeros; give %s", c.HashKey.Kind())
	}
	if len(c.Farms) == 0 {
		at.Key("farms").Errorf("no farm; give at least one with its reals")
	}
	if len(c.Farms) > bpf.MaxFarms {
		at.Key("farms").Errorf("%d farms; at most %d", len(c.Farms), bpf.MaxFarms)
	}
	seen := map[string]bool{}
	addresses := map[netip.Addr]bool{}
	for i := range c.Farms {
		f := &c.Farms[i]
		f.validate(at.Key("farms").Index(i), seen)
		c.validateUse(at.Key("farms").Index(i), f)
		for _, r := range f.Reals {
			addresses[r.Address] = true
		}
	}
	if len(addresses) >= bpf.MaxReals {
		at.Key("farms").Errorf("%d addresses of reals; at most %d", len(addresses), bpf.MaxReals-1)
	}
	c.validateVIPs(at.Key("vips"), addresses)
}

func (c *Config) validateUplinks(at config.Cursor) {
	if len(c.Uplinks) == 0 {
		at.Key("uplinks").Errorf("no uplink; name the interfaces that packets for VIPs come in by, such as [eth1]")
	}
	for i, name := range c.Uplinks {
		switch {
		case name == "" || len(name) > 15:
			at.Key("uplinks").Index(i).Errorf("%q is no interface name; it has 1 to 15 characters", name)
		case slices.Contains(c.Uplinks[:i], name):
			at.Key("uplinks").Index(i).Errorf("uplink %q is named twice; keep one", name)
		}
	}
}

func (f *Farm) validate(at config.Cursor, seen map[string]bool) {
	validateName(at, "farm", f.Name, seen)
	f.Probe.Validate(at.Key("probe"))
	if len(f.Reals) == 0 {
		at.Key("reals").Errorf("farm %q has no reals; give at least one", f.Name)
	}
	names := map[string]bool{}
	owner := map[netip.Addr]string{}
	for i, r := range f.Reals {
		at := at.Key("reals").Index(i)
		validateName(at, "real", r.Name, names)
		if validateAddress(at.Key("address"), "real", r.Address) {
			if first, ok := owner[r.Address]; ok {
				at.Key("address").Errorf("%v is the address of real %q too; each real of a farm has its own", r.Address, first)
			} else {
				owner[r.Address] = r.Name
			}
		}
		if r.Weight < 1 || r.Weight > maxWeight {
			at.Key("weight").Errorf("%d must be from 1 to %d; to take a real out, remove it", r.Weight, maxWeight)
		}
	}
}

// validateUse checks that the farm is used and that its probes have one port.
func (c *Config) validateUse(at config.Cursor, f *Farm) {
	var ports []uint16
	var udp bool
	for _, v := range c.VIPs {
		if v.Farm == f.Name {
			udp = udp || v.Protocol == "udp"
			if !slices.Contains(ports, v.Port) {
				ports = append(ports, v.Port)
			}
		}
	}
	switch {
	case len(ports) == 0:
		at.Key("name").Errorf("no VIP uses farm %q; remove it, or name it in a VIP", f.Name)
	case f.Probe.Port != 0:
	case len(ports) > 1:
		at.Key("probe").Key("port").Errorf("farm %q is behind VIPs of several ports, %v; say which one to probe", f.Name, ports)
	case udp:
		at.Key("probe").Key("port").Errorf("farm %q is behind a udp VIP, whose port no tcp probe can ask; give a tcp port", f.Name)
	}
}

func (c *Config) validateVIPs(at config.Cursor, reals map[netip.Addr]bool) {
	if len(c.VIPs) == 0 {
		at.Errorf("no VIP; give at least one")
	}
	if len(c.VIPs) > bpf.MaxVIPs {
		at.Errorf("%d VIPs; at most %d", len(c.VIPs), bpf.MaxVIPs)
	}
	names := map[string]bool{}
	first := map[vipKey]string{}
	for i, v := range c.VIPs {
		at := at.Index(i)
		validateName(at, "vip", v.Name, names)
		if validateAddress(at.Key("address"), "vip", v.Address) {
			if reals[v.Address] {
				at.Key("address").Errorf("%v is the address of a real; a VIP needs one of its own", v.Address)
			}
			if name, ok := first[v.key()]; ok {
				at.Errorf("VIP %q has %v %s port %d already; change one of them", name, v.Address, v.Protocol, v.Port)
			} else {
				first[v.key()] = v.Name
			}
		}
		if v.Protocol != "tcp" && v.Protocol != "udp" {
			at.Key("protocol").Errorf("%q is neither tcp nor udp", v.Protocol)
		}
		if v.Port == 0 {
			at.Key("port").Errorf("missing or 0; give a port from 1 to 65535")
		}
		c.validateFarmOf(at, v)
	}
}

func (c *Config) validateFarmOf(at config.Cursor, v VIP) {
	i := slices.IndexFunc(c.Farms, func(f Farm) bool { return f.Name == v.Farm })
	if i < 0 {
		names := make([]string, len(c.Farms))
		for j, f := range c.Farms {
			names[j] = f.Name
		}
		if near := config.Nearest(v.Farm, names); near != "" {
			at.Key("farm").Errorf("no farm is called %q; did you mean %q?", v.Farm, near)
		} else {
			at.Key("farm").Errorf("no farm is called %q; there are %q", v.Farm, names)
		}
		return
	}
	if n := len(c.Farms[i].Reals); v.MinReals < 1 || v.MinReals > n {
		at.Key("min_reals").Errorf("%d must be from 1 to %d, the number of reals in farm %q", v.MinReals, n, v.Farm)
	}
}

func validateName(at config.Cursor, what, name string, seen map[string]bool) {
	switch {
	case name == "":
		at.Key("name").Errorf("missing; give the %s a name", what)
	case seen[name]:
		at.Key("name").Errorf("another %s is called %q; rename one", what, name)
	}
	seen[name] = true
}

// validateAddress says whether the address is one that the data path can take.
func validateAddress(at config.Cursor, what string, a netip.Addr) bool {
	switch {
	case !a.IsValid():
		at.Errorf("missing; give the %s an IPv4 address", what)
	case !a.Is4():
		at.Errorf("%v is IPv6, which this version does not balance; give an IPv4 address", a)
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		at.Errorf("%v is no address that one host can have on a network; give another", a)
	default:
		return true
	}
	return false
}
