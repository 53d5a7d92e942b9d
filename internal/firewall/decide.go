package firewall

import (
	"net/netip"
	"slices"
)

// Question is a packet that begins something: no answer to another.
type Question struct {
	From, To            string // zones
	Source, Destination netip.Addr
	Proto               Proto  // not Any
	Port                uint16 // with TCP and UDP
}

// Decide gives the number, from 1, of the first rule that lets a packet pass, or 0 when it is dropped. It is what the
// kernel does with the same Config.
func (c Config) Decide(q Question) int {
	if c.returns(q.From, q.To) {
		return 0
	}
	for i, r := range c.Allow {
		if slices.Contains(r.From, q.From) && slices.Contains(r.To, q.To) && r.fits(q) {
			return i + 1
		}
	}
	return 0
}

// returns says whether what goes from a zone to another leaves by the interface that it came in by.
func (c Config) returns(from, to string) bool { return from == to && len(c.Zones[from]) == 1 }

func (r Rule) fits(q Question) bool {
	if !within(r.FromPrefixes, q.Source) || !within(r.ToPrefixes, q.Destination) {
		return false
	}
	switch {
	case r.Proto == Any:
		return true
	case q.Proto == GUE && r.Proto == UDP:
		return onPort(r.Ports, gue)
	case q.Proto == UDP && r.Proto == GUE:
		return q.Port == gue
	}
	return r.Proto == q.Proto && onPort(r.Ports, q.Port)
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

func onPort(list []Ports, port uint16) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(p Ports) bool { return p.First <= port && port <= p.Last })
}

// Zone gives the zone that an interface is in, or "".
func (c Config) Zone(name string) string {
	for zone, members := range c.Zones {
		if slices.Contains(members, name) {
			return zone
		}
	}
	return ""
}
