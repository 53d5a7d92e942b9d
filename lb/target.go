package lb

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"anycastle/internal/probe"
)

// targetID names one probe of one real.
type targetID struct {
	realID
	probe int        // its place among the farm's
	vip   netip.Addr // that it asks for; the zero Addr: it asks the real's own address
}

// target is one probe of one real, with what it asks.
type target struct {
	id     targetID
	addr   netip.AddrPort
	config *probe.Config
}

// targetsOf are the probes of a real: each asks for every address of the farm's VIPs, those given, on that real, as a client's
// packets would come to it. agent-check asks the server itself, at its own address. So does exec unless it sets the mark
// that it is told, with the VIP, on its sockets.
func (c *Config) targetsOf(f *Farm, r *Real, vips []netip.Addr) []target {
	var targets []target
	for i := range f.Probes {
		p := &f.Probes[i]
		port := c.probePort(f, p)
		if p.Type == agentCheck {
			targets = append(targets, target{targetID{realID{f.Name, r.Name}, i, netip.Addr{}}, netip.AddrPortFrom(r.Address, port), p})
			continue
		}
		for _, vip := range vips {
			addr := vip
			if p.Type == "exec" {
				addr = r.Address
			}
			targets = append(targets, target{targetID{realID{f.Name, r.Name}, i, vip}, netip.AddrPortFrom(addr, port), p})
		}
	}
	return targets
}

// addressesOf are those of the farm's VIPs, each once, in the order of the config.
func (c *Config) addressesOf(f *Farm) []netip.Addr {
	var addrs []netip.Addr
	seen := map[netip.Addr]bool{}
	for _, v := range c.VIPs {
		if v.Farm == f.Name && !seen[v.Address] {
			seen[v.Address] = true
			addrs = append(addrs, v.Address)
		}
	}
	return addrs
}

// String gives a name that is unique, since a slash is in no name of the config.
func (id targetID) String() string {
	s := fmt.Sprintf("%s/%s/%d", id.farm, id.name, id.probe)
	if id.vip.IsValid() {
		s += "/" + id.vip.String()
	}
	return s
}

// parseTargetID undoes String.
func parseTargetID(s string) targetID {
	parts := strings.Split(s, "/") // of our own making
	id := targetID{realID: realID{parts[0], parts[1]}}
	id.probe, _ = strconv.Atoi(parts[2])
	if len(parts) > 3 {
		id.vip, _ = netip.ParseAddr(parts[3])
	}
	return id
}
