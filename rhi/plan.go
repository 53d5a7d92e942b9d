package rhi

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// prefixSet is a set of prefixes without host bits.
type prefixSet map[netip.Prefix]struct{}

func newPrefixSet(prefixes ...[]netip.Prefix) prefixSet {
	s := prefixSet{}
	for _, list := range prefixes {
		for _, p := range list {
			s[p] = struct{}{}
		}
	}
	return s
}

func (s prefixSet) has(p netip.Prefix) bool { _, ok := s[p]; return ok }

// sorted lists the set in address order, so that logs and what goes out are the same for the same set.
func (s prefixSet) sorted() []netip.Prefix { return slices.SortedFunc(maps.Keys(s), comparePrefixes) }

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits())
}

// routeTable maps a prefix to its next hops, which are sorted and without repetition.
type routeTable map[netip.Prefix][]netip.Addr

// path is what the speaker knows of one prefix: the own path, or the next hops of the equally good best ones.
type path struct {
	prefix   netip.Prefix
	own      bool
	markers  []marker // of the own path
	nextHops []netip.Addr
}

// learnedRoutes picks what belongs into the kernel: the best learned paths for prefixes that are not the node's own.
func learnedRoutes(paths []path, own prefixSet) routeTable {
	t := routeTable{}
	for _, p := range paths {
		if !p.own && p.unfit(own) == "" {
			t[p.prefix] = p.usable()
		}
	}
	return t
}

// usable lists the next hops that a kernel route can have, sorted and each once. An IPv4 route can go by IPv6 ones (RFC 8950),
// an IPv6 route not by IPv4 ones.
func (p path) usable() []netip.Addr {
	hops := slices.DeleteFunc(slices.Clone(p.nextHops), func(a netip.Addr) bool { return a.Is4() && p.prefix.Addr().Is6() })
	slices.SortFunc(hops, netip.Addr.Compare)
	return slices.Compact(hops)
}

// unfit says why a learned path does not belong into the kernel; empty: it does.
func (p path) unfit(own prefixSet) string {
	switch {
	case own.has(p.prefix):
		return "the prefix is the node's own"
	case !routable(p.prefix):
		return "not a prefix that is routed between hosts"
	case len(p.nextHops) == 0:
		return "no next hop that is an address on a known link"
	case len(p.usable()) == 0:
		return "an IPv6 route cannot go by an IPv4 next hop"
	}
	return ""
}

// routable refuses what no peer has a business to announce and the kernel would rather not have.
func routable(p netip.Prefix) bool {
	a := p.Addr()
	return !a.Is4In6() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}

// kernelPlan is what turns the kernel's routes of our protocol into the wanted ones. Prefixes in spared are not removed.
func kernelPlan(want, have routeTable, spared prefixSet) (replace, remove []netip.Prefix) {
	for p, hops := range want {
		if !slices.Equal(hops, have[p]) {
			replace = append(replace, p)
		}
	}
	for p := range have {
		if _, ok := want[p]; !ok && !spared.has(p) {
			remove = append(remove, p)
		}
	}
	slices.SortFunc(replace, comparePrefixes)
	slices.SortFunc(remove, comparePrefixes)
	return replace, remove
}

// covering gives the prefix of the list that p lies in, equal or longer.
func covering(list []netip.Prefix, p netip.Prefix) (netip.Prefix, bool) {
	for _, c := range list {
		if c.Bits() <= p.Bits() && c.Contains(p.Addr()) {
			return c, true
		}
	}
	return netip.Prefix{}, false
}

// unspecified is 0.0.0.0 or ::, of the family of a.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
