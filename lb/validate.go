package lb

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"anycastle/bpf"
	"anycastle/internal/config"
)

const (
	// maxWeight keeps the ratio of two weights where a share of a slot table can still show it.
	maxWeight = 1000
	// A shorter transition would end before it has done anything; a longer one is an order that was forgotten.
	minTransition, maxTransition = time.Second, 7 * 24 * time.Hour
	maxName                      = 64 // bytes
	maxCapacity                  = 1_000_000_000
)

// Validate reports everything that is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	c.validateUplinks(at)
	if c.HashKey == (HashKey{}) {
		at.Key("hash_key").Errorf("missing or all zeros; give %s", c.HashKey.Kind())
	}
	if !filepath.IsAbs(c.StateDir) {
		at.Key("state_dir").Errorf("%q is no absolute path; give one such as /var/lib/anycastle/lb", c.StateDir)
	}
	if c.TLS != nil {
		c.TLS.Validate(at.Key("tls"))
	}
	if c.Mesh != nil {
		c.Mesh.Validate(at.Key("mesh"))
	}
	if len(c.Farms) == 0 {
		at.Key("farms").Errorf("no farm; give at least one with its reals")
	}
	if len(c.Farms) > bpf.MaxFarms {
		at.Key("farms").Errorf("%d farms; at most %d", len(c.Farms), bpf.MaxFarms)
	}
	seen := map[string]bool{}
	addresses := map[netip.Addr]bool{}
	entries := map[realKey]bool{}
	for i := range c.Farms {
		f := &c.Farms[i]
		f.validate(at.Key("farms").Index(i), seen)
		c.validateUse(at.Key("farms").Index(i), f)
		for j := range f.Reals {
			addresses[f.Reals[j].Address] = true
			entries[f.realKey(&f.Reals[j])] = true
		}
	}
	if len(entries) >= bpf.MaxReals {
		at.Key("farms").Errorf("%d addresses of reals, each way of forwarding counted; at most %d", len(entries), bpf.MaxReals-1)
	}
	c.validateVIPs(at.Key("vips"), addresses)
	c.validateReport(at)
}

func (c *Config) validateUplinks(at config.Cursor) {
	if len(c.Uplinks) == 0 {
		at.Key("uplinks").Errorf("no uplink; name the interfaces that packets for VIPs come in by, such as [eth1]")
	}
	for i, name := range c.Uplinks {
		switch {
		case name == "" || len(name) > 15:
			at.Key("uplinks").Index(i).Errorf("%q is no interface name; it has 1 to 15 characters", name)
		case name == "lo":
			at.Key("uplinks").Index(i).Errorf("lo is no uplink; name the interface that packets for VIPs come in by")
		case slices.Contains(c.Uplinks[:i], name):
			at.Key("uplinks").Index(i).Errorf("uplink %q is named twice; keep one", name)
		}
	}
}

func (f *Farm) validate(at config.Cursor, seen map[string]bool) {
	validateName(at, "farm", f.Name, seen)
	f.validateForward(at)
	f.validateTransition(at.Key("transition"))
	f.validateWeights(at)
	f.validateCapacity(at.Key("capacity"))
	if len(f.Probes) == 0 {
		at.Key("probes").Errorf("no probe; give at least one, such as `probes: [{type: tcp}]`")
	}
	for i := range f.Probes {
		f.Probes[i].Validate(at.Key("probes").Index(i))
	}
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
			at.Key("weight").Errorf("%d must be from 1 to %d; to take a real out, suspend or remove it", r.Weight, maxWeight)
		}
	}
}

func (f *Farm) validateForward(at config.Cursor) {
	known := []Forward{ForwardIPIP, ForwardGUE, ForwardL2}
	if !slices.Contains(known, f.Forward) {
		at.Key("forward").Errorf("%q is no way of forwarding; there are %q", f.Forward, known)
	}
	for i := range f.Reals {
		if w := f.Reals[i].Forward; w != "" && !slices.Contains(known, w) {
			at.Key("reals").Index(i).Key("forward").Errorf("%q is no way of forwarding; there are %q", w, known)
		}
	}
}

func (f *Farm) validateTransition(at config.Cursor) {
	if t := f.Transition.Time; t < minTransition || t > maxTransition {
		at.Key("time").Errorf("%v must be from %v to %v", t, minTransition, maxTransition)
	}
	switch {
	case f.Transition.Method == Tracked:
		return
	case f.Transition.Method != SecondChance:
		at.Key("method").Errorf("%q is no method; use %s or %s", f.Transition.Method, Tracked, SecondChance)
		return
	case f.Agent == nil:
		at.Key("method").Errorf("%s needs `anycastle real` on each real; give the farm an agent, or use %s", SecondChance, Tracked)
		return
	}
	for i := range f.Reals {
		r := &f.Reals[i]
		if w := f.forward(r); w != ForwardGUE {
			at.Key("method").Errorf("%s needs forward %s, and real %q has %s; change that, or use %s", SecondChance, ForwardGUE, r.Name, w, Tracked)
		}
		if first := f.Reals[0].Address; first.IsValid() && r.Address.IsValid() && first.Is4() != r.Address.Is4() {
			at.Key("method").Errorf("%s needs reals of one IP version, since they pass packets on to each other, and %v and %v are of two; use %s",
				SecondChance, first, r.Address, Tracked)
			return
		}
	}
}

func (f *Farm) validateWeights(at config.Cursor) {
	if f.Agent != nil && f.Agent.Port == 0 {
		at.Key("agent").Key("port").Errorf("0 is no port; give one from 1 to 65535")
	}
	checks := 0
	for _, p := range f.Probes {
		if p.Type == agentCheck {
			checks++
		}
	}
	switch {
	case f.Weights != weightsConfig && f.Weights != weightsAgent && f.Weights != weightsAgentCheck:
		at.Key("weights").Errorf("%q is no source of weights; use %s, %s or %s", f.Weights, weightsConfig, weightsAgent, weightsAgentCheck)
	case f.Weights == weightsAgent && f.Agent == nil:
		at.Key("weights").Errorf("%s is the load that agents report; give the farm an agent", weightsAgent)
	case f.Weights == weightsAgentCheck && checks == 0:
		at.Key("weights").Errorf("%s needs a probe of that type; add one", weightsAgentCheck)
	case checks > 1:
		at.Key("probes").Errorf("%d probes of type %s, which may contradict each other; keep one", checks, agentCheck)
	}
}

func (f *Farm) validateCapacity(at config.Cursor) {
	switch {
	case f.Capacity < 0 || f.Capacity > maxCapacity:
		at.Errorf("%d is no number of flows from 1 to %d", f.Capacity, maxCapacity)
	case f.Capacity > 0 && f.Agent == nil:
		at.Errorf("it is held against the flows that agents count; give the farm an agent")
	}
}

// validateUse checks that the farm is used and that its probes have one port.
func (c *Config) validateUse(at config.Cursor, f *Farm) {
	var ports []Ports
	var udp bool
	for _, v := range c.VIPs {
		if v.Farm == f.Name {
			udp = udp || v.Protocol == "udp"
			if !slices.Contains(ports, v.Port) {
				ports = append(ports, v.Port)
			}
		}
	}
	if len(ports) == 0 {
		at.Key("name").Errorf("no VIP uses farm %q; remove it, or name it in a VIP", f.Name)
		return
	}
	if f.Agent != nil && c.TLS == nil {
		at.Key("agent").Errorf("agents are called over TLS with a certificate; give `tls: {cert: , key: , ca: }` in the lb section")
	}
	for i := range f.Probes {
		p := &f.Probes[i]
		at := at.Key("probes").Index(i).Key("port")
		switch {
		case p.Port != 0 || !p.NeedsPort():
		case p.Type == agentCheck:
			at.Errorf("missing; give the port of the agent, which is not a VIP's")
		case len(ports) > 1:
			at.Errorf("farm %q is behind VIPs of several ports, %v; say which one to probe", f.Name, ports)
		case !ports[0].single():
			at.Errorf("farm %q is behind a VIP of many ports, %v; say which one to probe", f.Name, ports[0])
		case udp && p.Type != "dns":
			at.Errorf("farm %q is behind a udp VIP, whose port no %s probe can ask; give a tcp port", f.Name, p.Type)
		}
	}
}

func validateName(at config.Cursor, what, name string, seen map[string]bool) {
	switch {
	case name == "":
		at.Key("name").Errorf("missing; give the %s a name", what)
	case len(name) > maxName:
		at.Key("name").Errorf("%q has %d bytes; at most %d", name, len(name), maxName)
	case !validText(name, maxName) || strings.Contains(name, "/"):
		at.Key("name").Errorf("%q has a slash or a control character in it, which no name may have; rename the %s", name, what)
	case seen[name]:
		at.Key("name").Errorf("another %s is called %q; rename one", what, name)
	}
	seen[name] = true
}

// validateAddress says whether the address is one that the data path can take.
func validateAddress(at config.Cursor, what string, a netip.Addr) bool {
	switch {
	case !a.IsValid():
		at.Errorf("missing; give the %s an IPv4 or IPv6 address", what)
	case a.Is4In6():
		at.Errorf("%v is an IPv4 address in IPv6 form; write %v", a, a.Unmap())
	case a.Zone() != "" || a.Is6() && a.IsLinkLocalUnicast():
		at.Errorf("%v is good on one link only; give a routed address", a)
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		at.Errorf("%v is no address that one host can have on a network; give another", a)
	default:
		return true
	}
	return false
}
