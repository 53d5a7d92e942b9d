package nexthop

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// minMTU is what every IPv6 link takes (RFC 8200, section 5); the data path relies on it.
const minMTU = 1280

// kernel answers for one look: what it was asked for once it keeps.
type kernel struct {
	uplinks []Uplink
	nl      *netlink.Handle
	links   map[int]netlink.Link
	neighs  map[neighKey][]netlink.Neigh
	takes   map[int]bool // redirects, by the link's index
}

type neighKey struct{ ifindex, family int }

// resolve asks the kernel for the way to addr. A neighbour that is being asked again keeps its old MAC address as long
// as the way is the same: probes decide whether a real answers, and ARP's pauses must not flap a slot table. Where the route
// has several ways, one by which nobody answers, such as a router that has just been switched on, is not taken.
func (k *kernel) resolve(addr netip.Addr, old Hop) (Hop, error) {
	routes, err := k.nl.RouteGet(addr.AsSlice())
	if err != nil {
		return Hop{}, fmt.Errorf("no route to %v: %w", addr, err)
	}
	if len(routes) == 0 || routes[0].Type != unix.RTN_UNICAST {
		return Hop{}, fmt.Errorf("no route to %v on a network", addr)
	}
	hop, known, err := k.by(routes[0], addr)
	if err != nil || known {
		return hop, err
	}
	hop.DstMAC = old.DstMAC
	if hop.ToInstall() == old.ToInstall() { // an earlier process's has no gateway
		return hop, nil
	}
	if other, ok := k.detour(routes[0], addr, old); ok {
		return other, nil
	}
	return Hop{}, fmt.Errorf("neighbour %v does not answer", gatewayOf(routes[0], addr))
}

// by gives the way of a route. If its neighbour is not known, the kernel has been made to ask for it.
func (k *kernel) by(route netlink.Route, addr netip.Addr) (hop Hop, known bool, err error) {
	link, err := k.link(route.LinkIndex)
	if err != nil {
		return Hop{}, false, fmt.Errorf("find the link to %v: %w", addr, err)
	}
	if hop, err = k.describe(link, route, addr); err != nil {
		return Hop{}, false, err
	}
	if g, ok := netip.AddrFromSlice(route.Gw); ok {
		hop.Gateway = g.Unmap()
	}
	if hop.DstMAC, known, err = k.neighbour(route.LinkIndex, gatewayOf(route, addr)); err != nil {
		return Hop{}, false, err
	}
	return hop, known, nil
}

func gatewayOf(route netlink.Route, addr netip.Addr) net.IP {
	if route.Gw != nil {
		return route.Gw
	}
	return addr.AsSlice()
}

// detour gives another way of the route to addr than the one that the kernel has chosen, if the neighbour there is known: the
// way that is taken already rather than any.
func (k *kernel) detour(chosen netlink.Route, addr netip.Addr, old Hop) (Hop, bool) {
	routes, err := k.nl.RouteGetWithOptions(addr.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil || len(routes) == 0 {
		return Hop{}, false
	}
	var found *Hop
	for _, way := range routes[0].MultiPath {
		if way.Flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0 || way.LinkIndex == chosen.LinkIndex && way.Gw.Equal(chosen.Gw) {
			continue
		}
		routes, err := k.nl.RouteGetWithOptions(addr.AsSlice(), &netlink.RouteGetOptions{OifIndex: way.LinkIndex})
		if err != nil || len(routes) == 0 || routes[0].Type != unix.RTN_UNICAST || !routes[0].Gw.Equal(way.Gw) {
			continue
		}
		hop, known, err := k.by(routes[0], addr)
		if err == nil && known && (found == nil || hop.ToInstall() == old.ToInstall()) {
			found = &hop
		}
	}
	if found == nil {
		return Hop{}, false
	}
	return *found, true
}

// describe gives all of a hop but the MAC address of the neighbour.
func (k *kernel) describe(link netlink.Link, route netlink.Route, addr netip.Addr) (Hop, error) {
	source, ok := netip.AddrFromSlice(route.Src)
	source = source.Unmap()
	if !ok || source.Is4() != addr.Is4() || len(link.Attrs().HardwareAddr) != len(Hop{}.SrcMAC) {
		return Hop{}, fmt.Errorf("link %s to %v has no Ethernet or no address", link.Attrs().Name, addr)
	}
	hop := Hop{Source: source, MTU: link.Attrs().MTU, SrcMAC: [6]byte(link.Attrs().HardwareAddr)}
	if route.MTU != 0 {
		hop.MTU = min(hop.MTU, route.MTU)
	}
	if hop.MTU < minMTU {
		return Hop{}, fmt.Errorf("link %s to %v has an mtu of %d, at least %d is needed", link.Attrs().Name, addr, hop.MTU, minMTU)
	}
	below, err := k.untag(link, &hop)
	if err != nil {
		return Hop{}, fmt.Errorf("link %s to %v: %w", link.Attrs().Name, addr, err)
	}
	hop.Ifindex, hop.Veth = below.Attrs().Index, below.Type() == "veth"
	if k.redirectsTo(below) && !k.takesRedirects(below.Attrs().Index) {
		return Hop{}, fmt.Errorf("link %s to %v: %w", link.Attrs().Name, addr, errNoRedirect)
	}
	return hop, nil
}

// untag goes from a VLAN's interface down to the one that takes frames, and notes the tags, outermost first.
func (k *kernel) untag(link netlink.Link, hop *Hop) (netlink.Link, error) {
	for {
		vlan, ok := link.(*netlink.Vlan)
		if !ok {
			return link, nil
		}
		if hop.Tags[1] != (Tag{}) {
			return nil, errors.New("more than two tags")
		}
		proto := uint16(vlan.VlanProtocol)
		if proto == 0 {
			proto = unix.ETH_P_8021Q
		}
		hop.Tags[1] = hop.Tags[0]
		hop.Tags[0] = Tag{Proto: proto, TCI: uint16(vlan.VlanId)}
		var err error
		if link, err = k.link(vlan.Attrs().ParentIndex); err != nil {
			return nil, fmt.Errorf("find the interface below the VLAN: %w", err)
		}
	}
}

func (k *kernel) takesRedirects(index int) bool {
	takes, ok := k.takes[index]
	if !ok {
		takes = takesRedirects(index)
		if k.takes == nil {
			k.takes = map[int]bool{}
		}
		k.takes[index] = takes
	}
	return takes
}

func (k *kernel) link(index int) (netlink.Link, error) {
	if l, ok := k.links[index]; ok {
		return l, nil
	}
	l, err := k.nl.LinkByIndex(index)
	if err != nil {
		return nil, err
	}
	if k.links == nil {
		k.links = map[int]netlink.Link{}
	}
	k.links[index] = l
	return l, nil
}

// neighbour looks the MAC address up, and has the kernel ask for it when it is not known.
func (k *kernel) neighbour(ifindex int, ip net.IP) (mac [6]byte, ok bool, err error) {
	family := netlink.FAMILY_V6
	if ip.To4() != nil {
		family = netlink.FAMILY_V4
	}
	list, err := k.neighbours(neighKey{ifindex, family})
	if err != nil {
		return mac, false, fmt.Errorf("list neighbours: %w", err)
	}
	const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT
	for _, n := range list {
		if n.IP.Equal(ip) && n.State&usable != 0 && len(n.HardwareAddr) == len(mac) {
			return [6]byte(n.HardwareAddr), true, nil
		}
	}
	ask := netlink.Neigh{LinkIndex: ifindex, Family: family, IP: ip, Flags: netlink.NTF_USE, State: netlink.NUD_NONE}
	if err := k.nl.NeighSet(&ask); err != nil {
		return mac, false, fmt.Errorf("ask for neighbour %v: %w", ip, err)
	}
	return mac, false, nil
}

func (k *kernel) neighbours(key neighKey) ([]netlink.Neigh, error) {
	if list, ok := k.neighs[key]; ok {
		return list, nil
	}
	list, err := k.nl.NeighList(key.ifindex, key.family)
	if err != nil {
		return nil, err
	}
	if k.neighs == nil {
		k.neighs = map[neighKey][]netlink.Neigh{}
	}
	k.neighs[key] = list
	return list, nil
}
