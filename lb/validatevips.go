package lb

import (
	"net/netip"
	"slices"

	"anycastle/bpf"
	"anycastle/internal/config"
)

func (c *Config) validateVIPs(at config.Cursor, reals map[netip.Addr]bool) {
	if len(c.VIPs) == 0 {
		at.Errorf("no VIP; give at least one")
	}
	if len(c.VIPs) > bpf.MaxVIPs {
		at.Errorf("%d VIPs; at most %d", len(c.VIPs), bpf.MaxVIPs)
	}
	names := map[string]bool{}
	before := map[netip.Addr][]*VIP{} // those of the address that come earlier in the file
	for i := range c.VIPs {
		v, at := &c.VIPs[i], at.Index(i)
		validateName(at, "vip", v.Name, names)
		if validateAddress(at.Key("address"), "vip", v.Address) {
			if reals[v.Address] {
				at.Key("address").Errorf("%v is the address of a real; a VIP needs one of its own", v.Address)
			}
			v.validateBeside(at, before[v.Address])
			before[v.Address] = append(before[v.Address], v)
		}
		if v.Protocol != "tcp" && v.Protocol != "udp" {
			at.Key("protocol").Errorf("%q is neither tcp nor udp", v.Protocol)
		}
		if v.Port == (Ports{}) {
			at.Key("port").Errorf("missing; give %s", v.Port.Kind())
		}
		v.validateHash(at)
		c.validateFarmOf(at, v)
	}
}

// validateBeside checks a VIP against earlier ones on its address.
func (v *VIP) validateBeside(at config.Cursor, before []*VIP) {
	ranges := 0
	for _, o := range before {
		if !o.Port.single() {
			ranges++
		}
		switch {
		case o.Protocol != v.Protocol:
		case o.Port == v.Port:
			at.Errorf("VIP %q has %v %s port %v already; change one of them", o.Name, v.Address, v.Protocol, v.Port)
			return
		case !o.Port.single() && o.Port.width() == v.Port.width() && o.Port.overlaps(v.Port):
			at.Key("port").Errorf("%v overlaps %v of VIP %q, and neither is narrower; give one port to one of them", v.Port, o.Port, o.Name)
			return
		}
	}
	if !v.Port.single() && ranges == bpf.MaxRanges {
		at.Key("port").Errorf("%v has %d VIPs of many ports already, and no address takes more; merge some", v.Address, ranges)
	}
}

func (v *VIP) validateHash(at config.Cursor) {
	prefix := at.Key("source_prefix")
	switch {
	case v.Hash != hashFlow && v.Hash != hashSource:
		at.Key("hash").Errorf("%q is no hash; use %s or %s", v.Hash, hashFlow, hashSource)
	case v.SourcePrefix == 0:
	case v.Hash != hashSource:
		prefix.Errorf("it is of no use with hash %s; remove it, or use hash %s", v.Hash, hashSource)
	case v.Address.IsValid() && (v.SourcePrefix < 1 || v.SourcePrefix > v.Address.BitLen()):
		prefix.Errorf("%d must be from 1 to %d", v.SourcePrefix, v.Address.BitLen())
	}
}

func (c *Config) validateFarmOf(at config.Cursor, v *VIP) {
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
	} else if v.FullReals < 0 || v.FullReals > n {
		at.Key("full_reals").Errorf("%d must be from 0 to %d, the number of reals in farm %q", v.FullReals, n, v.Farm)
	}
	for _, share := range []struct {
		key   string
		value int
	}{{"min_share", v.MinShare}, {"full_share", v.FullShare}} {
		if share.value < 0 || share.value > 100 {
			at.Key(share.key).Errorf("%d is no share of the farm's weight; use 0 to 100, in percent", share.value)
		}
	}
}
