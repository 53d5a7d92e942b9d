package rhi

import (
	"net/netip"
	"slices"
)

// statement is one line of the export policy; the first that matches decides, and what none matches stays in.
type statement struct {
	to      peers  // or from, of the import policy
	pass    string // set of prefixes that a learned route is in
	family  Family // empty: any
	own     bool   // holds for own routes with the marker, else for learned ones in the set pass
	marker  marker
	reject  bool       // all own routes, or all of both kinds
	rung    Rung       // how an own route is sent
	prepend int        // in all
	nextHop netip.Addr // the zero Addr: as it is
}

// exportPolicy says what goes to whom at a stage. The lines of each neighbor end with its own reject, so that a range that it lies
// in has no say about it.
func exportPolicy(c *Config, at stage) []statement {
	var policy []statement
	groups := c.groupNames()
	for _, p := range c.allPeers() {
		if p.watched {
			policy = append(policy, statement{to: p, reject: true})
			continue
		}
		group := uint32(slices.Index(groups, p.Group))
		for i, rung := range c.Ladder(p.Group) {
			if !rung.Withdrawn {
				policy = append(policy, p.sent(statement{own: true, marker: marker{group, uint32(i)}, rung: rung})...)
			}
		}
		policy = append(policy, statement{to: p, own: true, reject: true})
		for _, pass := range c.passings(p) {
			if at != settling {
				policy = append(policy, p.sent(statement{pass: pass.set, prepend: pass.Prepend})...)
			}
		}
		policy = append(policy, statement{to: p, reject: true})
	}
	if at == arriving || at == leaving {
		for i := range policy {
			policy[i].prepend++
		}
	}
	return policy
}

// importPolicy keeps what comes from peers that are only watched out of the routing table.
func importPolicy(c *Config) []statement {
	var policy []statement
	for _, p := range c.allPeers() {
		if p.watched {
			policy = append(policy, statement{to: p, reject: true})
		}
	}
	return policy
}

// sent completes a statement that lets something through to the peers. IPv6 routes over an IPv4 session come first, as
// they are in need of a next hop: the session's own address would be an IPv4 one.
func (p peers) sent(s statement) []statement {
	s.to, s.prepend = p, s.prepend+p.Prepend+s.rung.Prepend
	if !p.NextHop.IsValid() {
		return []statement{s}
	}
	over := s
	over.family, over.nextHop = IPv6, p.NextHop
	return []statement{over, s}
}
