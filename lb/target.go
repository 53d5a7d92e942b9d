package lb

import (
	"net/netip"
	"strconv"
	"strings"

	"anycastle/internal/probe"
)

// targetID names one probe of one real.
type targetID struct {
	realID
	probe int // its place among the farm's
}

// target is one probe of one real, with what it asks.
type target struct {
	id     targetID
	addr   netip.AddrPort
	config *probe.Config
}

// targetsOf are the probes of a real.
func (c *Config) targetsOf(f *Farm, r *Real) []target {
	targets := make([]target, len(f.Probes))
	for i := range f.Probes {
		p := &f.Probes[i]
		targets[i] = target{targetID{realID{f.Name, r.Name}, i}, netip.AddrPortFrom(r.Address, c.probePort(f, p)), p}
	}
	return targets
}

// targets are those of all reals, as a probe.Runner takes them.
func (c *Config) targets() []probe.Target {
	var list []probe.Target
	for i := range c.Farms {
		f := &c.Farms[i]
		for j := range f.Reals {
			for _, t := range c.targetsOf(f, &f.Reals[j]) {
				list = append(list, probe.Target{Name: t.id.String(), Addr: t.addr, Config: t.config})
			}
		}
	}
	return list
}

// String gives a name that is unique, since a slash is in no name of the config.
func (id targetID) String() string { return id.farm + "/" + id.name + "/" + strconv.Itoa(id.probe) }

// parseTargetID undoes String.
func parseTargetID(s string) targetID {
	farm, rest, _ := strings.Cut(s, "/")
	name, n, _ := strings.Cut(rest, "/")
	i, _ := strconv.Atoi(n) // of our own making
	return targetID{realID{farm, name}, i}
}
