package rhi

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol marks our routes in the kernel (rtm_protocol). It is none of those in the kernel's rtnetlink.h, so that
// neither FRR nor BIRD takes our routes for its own, and we touch nobody else's.
const Protocol = 172

// Metric is the priority of our routes. Connected and configured routes have 0 and win, as is usual on routers.
const Metric = 20

// errUnreachable says that a route cannot go by a next hop now.
var errUnreachable = errors.New("no link that is up leads to it")

// errTaken says that another program's route stands where ours would go.
var errTaken = errors.New("another program has a route to it with the same metric")

// fib is the kernel's main routing table, as far as it is ours. It is not safe for concurrent use.
type fib struct {
	nl    *netlink.Handle
	raw   routeSocket
	plain error                  // why routes have plain next hops; nil: they go by resilient groups
	told  bool                   // plain was given by why
	from  netip.Addr             // that own packets take on our IPv4 routes; the zero Addr: the kernel's choice
	unset map[netip.Prefix]error // why wanted routes do not stand, or not by all next hops, since the last apply
}

// openFIB works on the network namespace of the calling thread.
func openFIB() (*fib, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	raw, err := openRouteSocket()
	if err != nil {
		nl.Close()
		return nil, err
	}
	return &fib{nl: nl, raw: raw}, nil
}

func (f *fib) close() {
	f.nl.Close()
	f.raw.close()
}

// list gives our routes, and the prefixes that others hold at our metric.
func (f *fib) list() (ours routeTable, taken prefixSet, err error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	ours, taken = routeTable{}, prefixSet{}
	links := linkNames{nl: f.nl}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := f.nl.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, nil, fmt.Errorf("list kernel routes: %w", err)
		}
		for _, r := range routes {
			p := routePrefix(r.Dst, family)
			switch {
			case r.Protocol == Protocol:
				ours[p] = nextHops(r, links.name)
			case r.Priority == Metric:
				taken[p] = struct{}{}
			}
		}
	}
	return ours, taken, nil
}

// replace installs or changes a route in one step: a packet meets the old next hops or the new ones, never none.
func (f *fib) replace(p netip.Prefix, hops []via) error {
	r := kernelRoute(p)
	if a := f.source(p); a.IsValid() {
		r.Src = a.AsSlice()
	}
	for _, h := range hops {
		info := &netlink.NexthopInfo{LinkIndex: h.ifindex}
		if h.gateway.Is6() && p.Addr().Is4() {
			info.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: h.gateway.AsSlice()}
		} else {
			info.Gw = h.gateway.AsSlice()
		}
		r.MultiPath = append(r.MultiPath, info)
	}
	if len(hops) == 1 {
		r.Gw, r.Via, r.LinkIndex, r.MultiPath = r.MultiPath[0].Gw, r.MultiPath[0].Via, hops[0].ifindex, nil
	}
	if err := f.nl.RouteReplace(r); err != nil {
		return fmt.Errorf("via %v: %w", addrsOf(hops), err)
	}
	return nil
}

// source gives the address that own packets take on a route; the zero Addr: the kernel's choice.
func (f *fib) source(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() {
		return netip.Addr{}
	}
	return f.from
}

// remove deletes our route to p; that it is gone already is no error.
func (f *fib) remove(p netip.Prefix) error {
	if err := f.nl.RouteDel(kernelRoute(p)); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove kernel route %v: %w", p, err)
	}
	return nil
}

// apply brings our kernel routes to the wanted ones and returns those that stand afterwards. It goes on after an error.
func (f *fib) apply(want routeTable, spared prefixSet) (routeTable, error) {
	have, taken, err := f.list()
	if err != nil {
		return nil, err
	}
	known, err := f.raw.nexthops()
	if err != nil {
		return nil, err
	}
	groups, err := f.raw.groupsOfRoutes()
	if err != nil {
		return nil, err
	}
	var errs []error
	f.unset = map[netip.Prefix]error{}
	fail := func(p netip.Prefix, err error) {
		f.unset[p] = err
		errs = append(errs, fmt.Errorf("set kernel route %v: %w", p, err))
	}
	replace, remove := kernelPlan(want, have, spared)
	for _, p := range replace {
		if taken.has(p) {
			fail(p, errTaken)
			continue
		}
		hops, err := f.reachable(want[p])
		if err != nil {
			fail(p, err)
		}
		if len(hops) == 0 {
			if _, ok := have[p]; ok { // by next hops that were withdrawn: it leads nowhere either
				remove = append(remove, p)
			}
			continue
		}
		if slices.Equal(addrsOf(hops), have[p]) {
			continue
		}
		if err := f.set(p, hops, known, groups); err != nil {
			fail(p, err)
			continue
		}
		have[p] = addrsOf(hops)
	}
	for _, p := range remove {
		if err := f.remove(p); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(have, p)
		delete(groups, p)
	}
	used := map[uint32]bool{}
	for _, id := range groups {
		used[id] = true
	}
	return have, errors.Join(append(errs, known.clean(used))...)
}

// why gives once why routes have plain next hops, if they have.
func (f *fib) why() error {
	if f.told {
		return nil
	}
	f.told = f.plain != nil
	return f.plain
}

// set installs a route by a group of its own, or changes that group under it, as long as the kernel has groups.
func (f *fib) set(p netip.Prefix, hops []via, known *nexthops, groups map[netip.Prefix]uint32) error {
	if f.plain == nil {
		id, err := known.group(groups[p], hops)
		switch {
		case errors.Is(err, errNoGroups):
			f.plain = err
		case err != nil:
			return err
		case id == groups[p]:
			return nil
		default:
			if err := f.raw.setRouteByGroup(p, id, f.source(p)); err != nil {
				return err
			}
			groups[p] = id
			return nil
		}
	}
	delete(groups, p)
	return f.replace(p, hops)
}

// reachable picks the next hops that are on a link, and the link. The kernel would refuse the whole route for a single one
// that is not, so that one peer's nonsense, or its dead link, would keep out the other peers' next hops.
func (f *fib) reachable(hops []netip.Addr) (good []via, err error) {
	var errs []error
	for _, h := range hops {
		link, err := f.linkTo(h)
		if err != nil {
			errs = append(errs, fmt.Errorf("next hop %v: %w", h, err))
			continue
		}
		good = append(good, via{h, link})
	}
	return good, errors.Join(errs...)
}

// linkTo gives the link that a next hop is on.
func (f *fib) linkTo(hop netip.Addr) (int, error) {
	if name := hop.Zone(); name != "" {
		link, err := f.nl.LinkByName(name)
		if err != nil || link.Attrs().RawFlags&unix.IFF_UP == 0 || link.Attrs().RawFlags&unix.IFF_RUNNING == 0 {
			return 0, errors.Join(errUnreachable, err)
		}
		return link.Attrs().Index, nil
	}
	routes, err := f.nl.RouteGet(hop.AsSlice())
	if err != nil {
		return 0, err
	}
	if len(routes) != 1 || routes[0].Gw != nil || routes[0].Type != unix.RTN_UNICAST {
		return 0, errUnreachable
	}
	return routes[0].LinkIndex, nil
}

func addrsOf(hops []via) []netip.Addr {
	addrs := make([]netip.Addr, len(hops))
	for i, h := range hops {
		addrs[i] = h.gateway
	}
	return addrs
}

func kernelRoute(p netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Dst:      &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		Table:    unix.RT_TABLE_MAIN,
		Protocol: Protocol,
		Priority: Metric,
	}
}

// routePrefix turns netlink's destination into a prefix; none at all is the default route.
func routePrefix(dst *net.IPNet, family int) netip.Prefix {
	switch {
	case dst == nil && family == netlink.FAMILY_V4:
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	case dst == nil:
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	addr, _ := netip.AddrFromSlice(dst.IP)
	if family == netlink.FAMILY_V4 {
		addr = addr.Unmap()
	}
	bits, _ := dst.Mask.Size()
	return netip.PrefixFrom(addr, bits)
}

// nextHops reads those of a route; link gives the name of a link.
func nextHops(r netlink.Route, link func(ifindex int) string) []netip.Addr {
	var hops []netip.Addr
	add := func(gw net.IP, other netlink.Destination, ifindex int) {
		if v, ok := other.(*netlink.Via); ok {
			gw = v.Addr
		}
		a, ok := netip.AddrFromSlice(gw)
		if a = a.Unmap(); linkLocal(a) {
			a = a.WithZone(link(ifindex))
		}
		if ok {
			hops = append(hops, a)
		}
	}
	add(r.Gw, r.Via, r.LinkIndex)
	for _, h := range r.MultiPath {
		add(h.Gw, h.Via, h.LinkIndex)
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return hops
}
