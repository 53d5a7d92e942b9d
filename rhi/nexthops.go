package rhi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The kernel hashes flows to the next hops of a route anew whenever one comes or goes, which sends most flows to another
// one. A resilient group (Linux 5.13) has a table of buckets instead: when a next hop goes, only its buckets get another,
// and one that comes gets those that nothing was sent by for a while.
const (
	buckets         = 128
	idleTicks       = 30 * userHZ  // of a bucket that may move at once
	unbalancedTicks = 300 * userHZ // and of a group after which busy buckets move too
	userHZ          = 100          // of the kernel's user interface, on every platform

	// firstID is where our nexthops begin; ip(8) and FRR count from 1.
	firstID = Protocol << 24
)

// Of include/uapi/linux/nexthop.h, what package unix has not.
const (
	nhaResGroup = 12 // NHA_RES_GROUP

	nhaResBuckets         = 1 // NHA_RES_GROUP_BUCKETS
	nhaResIdleTimer       = 2 // NHA_RES_GROUP_IDLE_TIMER
	nhaResUnbalancedTimer = 3 // NHA_RES_GROUP_UNBALANCED_TIMER

	nexthopGroupResilient = 1 // NEXTHOP_GRP_TYPE_RES

	nhmsgLen = 8
	rtaNhID  = 30 // RTA_NH_ID
)

// errNoGroups says that the kernel has no resilient groups.
var errNoGroups = errors.New("this kernel has no resilient nexthop groups (CONFIG_NET_NEXTHOP, Linux 5.13)")

// via is a next hop on a link. A link-local gateway has the link's name as its zone, too.
type via struct {
	gateway netip.Addr
	ifindex int
}

// routeSocket is a netlink socket, of the namespace that it was opened in.
type routeSocket struct{ socket *nl.SocketHandle }

// openRouteSocket works on the network namespace of the calling thread.
func openRouteSocket() (routeSocket, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE) // to no group: it answers requests
	if err != nil {
		return routeSocket{}, fmt.Errorf("open netlink: %w", err)
	}
	if err := errors.Join(s.SetSendTimeout(&nl.SocketTimeoutTv), s.SetReceiveTimeout(&nl.SocketTimeoutTv)); err != nil {
		s.Close()
		return routeSocket{}, fmt.Errorf("open netlink: %w", err)
	}
	return routeSocket{&nl.SocketHandle{Socket: s}}, nil
}

func (k routeSocket) close() { k.socket.Close() }

// ask sends a request and gives the messages of the answer.
func (k routeSocket) ask(request, flags int, answer uint16, data ...nl.NetlinkRequestData) ([][]byte, error) {
	req := nl.NewNetlinkRequest(request, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.socket}
	for _, d := range data {
		req.AddData(d)
	}
	return req.Execute(unix.NETLINK_ROUTE, answer)
}

// nexthops is what the kernel holds of nexthop objects: ours, and the numbers that anybody has taken.
type nexthops struct {
	routeSocket
	hops   map[via]uint32
	groups map[uint32][]uint32 // the members of each, sorted
	taken  map[uint32]bool
}

// nhmsg is struct nhmsg.
type nhmsg struct{ family, protocol uint8 }

// Len implements nl.NetlinkRequestData.
func (m nhmsg) Len() int { return nhmsgLen }

// Serialize implements nl.NetlinkRequestData.
func (m nhmsg) Serialize() []byte { return []byte{m.family, 0, m.protocol, 0, 0, 0, 0, 0} }

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// nexthops reads them. A kernel without nexthop objects gives none.
func (k routeSocket) nexthops() (*nexthops, error) {
	msgs, err := k.ask(unix.RTM_GETNEXTHOP, unix.NLM_F_DUMP, unix.RTM_NEWNEXTHOP, nhmsg{family: unix.AF_UNSPEC})
	n := &nexthops{routeSocket: k, hops: map[via]uint32{}, groups: map[uint32][]uint32{}, taken: map[uint32]bool{}}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return n, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list nexthops: %w", err)
	}
	for _, b := range msgs {
		if err := n.add(b); err != nil {
			return nil, fmt.Errorf("list nexthops: %w", err)
		}
	}
	return n, nil
}

// add takes in one message of the kernel.
func (n *nexthops) add(b []byte) error {
	if len(b) < nhmsgLen {
		return fmt.Errorf("a message of %d bytes", len(b))
	}
	attrs, err := nl.ParseRouteAttr(b[nhmsgLen:])
	if err != nil {
		return err
	}
	var id uint32
	var hop via
	var members []uint32
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.NHA_ID:
			id = number(a.Value)
		case unix.NHA_OIF:
			hop.ifindex = int(number(a.Value))
		case unix.NHA_GATEWAY:
			hop.gateway, _ = netip.AddrFromSlice(a.Value)
		case unix.NHA_GROUP:
			for m := range slices.Chunk(a.Value, unix.SizeofNexthopGrp) {
				members = append(members, number(m))
			}
		}
	}
	n.taken[id] = true
	switch ours := b[2] == Protocol; {
	case ours && len(members) > 0:
		slices.Sort(members)
		n.groups[id] = members
	case ours && hop.gateway.IsValid():
		n.hops[hop] = id
	}
	return nil
}

// number reads an attribute of four bytes; 0 from a shorter one.
func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// free gives a number that nobody has.
func (n *nexthops) free() uint32 {
	id := uint32(firstID)
	for n.taken[id] {
		id++
	}
	n.taken[id] = true
	return id
}

// group makes a resilient group of these next hops, or has the one with that id consist of them from now on. Its buckets
// stay where they can.
func (n *nexthops) group(id uint32, hops []via) (uint32, error) {
	var members []uint32
	for _, h := range hops {
		m, err := n.hop(h)
		if err != nil {
			return 0, err
		}
		members = append(members, m)
	}
	slices.Sort(members)
	have, known := n.groups[id]
	if known && slices.Equal(have, members) {
		return id, nil
	}
	if !known {
		id = n.free()
	}
	group := make([]byte, 0, len(members)*unix.SizeofNexthopGrp)
	for _, m := range members {
		group = append(binary.NativeEndian.AppendUint32(group, m), 0, 0, 0, 0) // of weight 1
	}
	res := nl.NewRtAttr(unix.NLA_F_NESTED|nhaResGroup, nil)
	if !known { // a bucket table cannot be resized, and its times stay what they are
		res.AddRtAttr(nhaResBuckets, nl.Uint16Attr(buckets))
		res.AddRtAttr(nhaResIdleTimer, nl.Uint32Attr(idleTicks))
		res.AddRtAttr(nhaResUnbalancedTimer, nl.Uint32Attr(unbalancedTicks))
	}
	err := n.set(unix.AF_UNSPEC, id, nl.NewRtAttr(unix.NHA_GROUP, group), nl.NewRtAttr(unix.NHA_GROUP_TYPE, nl.Uint16Attr(nexthopGroupResilient)), res)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return 0, errors.Join(errNoGroups, err)
	}
	if err != nil {
		return 0, fmt.Errorf("set nexthop group %d: %w", id, err)
	}
	n.groups[id] = members
	return id, nil
}

// hop gives the id of a next hop, which it makes if there is none.
func (n *nexthops) hop(h via) (uint32, error) {
	h.gateway = h.gateway.WithZone("") // the kernel has ifindex instead
	if id, ok := n.hops[h]; ok {
		return id, nil
	}
	id := n.free()
	err := n.set(familyOf(h.gateway), id, nl.NewRtAttr(unix.NHA_OIF, nl.Uint32Attr(uint32(h.ifindex))), nl.NewRtAttr(unix.NHA_GATEWAY, h.gateway.AsSlice()))
	if errors.Is(err, unix.EOPNOTSUPP) {
		return 0, errors.Join(errNoGroups, err)
	}
	if err != nil {
		return 0, fmt.Errorf("set nexthop %v: %w", h.gateway, err)
	}
	n.hops[h] = id
	return id, nil
}

func (n *nexthops) set(family uint8, id uint32, attrs ...*nl.RtAttr) error {
	data := []nl.NetlinkRequestData{nhmsg{family: family, protocol: Protocol}, nl.NewRtAttr(unix.NHA_ID, nl.Uint32Attr(id))}
	for _, a := range attrs {
		data = append(data, a)
	}
	_, err := n.ask(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK, 0, data...)
	return err
}

// clean removes groups that no route goes by, and next hops that are in no group. The kernel would remove routes with them.
func (n *nexthops) clean(used map[uint32]bool) error {
	var errs []error
	needed := map[uint32]bool{}
	for id, members := range n.groups {
		if !used[id] {
			errs = append(errs, n.remove(id))
			delete(n.groups, id)
			continue
		}
		for _, m := range members {
			needed[m] = true
		}
	}
	for h, id := range n.hops {
		if !needed[id] {
			errs = append(errs, n.remove(id))
			delete(n.hops, h)
		}
	}
	return errors.Join(errs...)
}

func (n *nexthops) remove(id uint32) error {
	delete(n.taken, id)
	_, err := n.ask(unix.RTM_DELNEXTHOP, unix.NLM_F_ACK, 0, nhmsg{family: unix.AF_UNSPEC}, nl.NewRtAttr(unix.NHA_ID, nl.Uint32Attr(id)))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove nexthop %d: %w", id, err)
	}
	return nil
}

// groupsOfRoutes gives the nexthop group of each of our routes that has one.
func (k routeSocket) groupsOfRoutes() (map[netip.Prefix]uint32, error) {
	groups := map[netip.Prefix]uint32{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		msgs, err := k.ask(unix.RTM_GETROUTE, unix.NLM_F_DUMP, unix.RTM_NEWROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: family}})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, b := range msgs {
			msg := nl.DeserializeRtMsg(b)
			if msg.Protocol != Protocol || msg.Table != unix.RT_TABLE_MAIN {
				continue
			}
			attrs, err := nl.ParseRouteAttr(b[msg.Len():])
			if err != nil {
				return nil, fmt.Errorf("list routes: %w", err)
			}
			dst, id := netip.IPv4Unspecified(), uint32(0)
			if family == unix.AF_INET6 {
				dst = netip.IPv6Unspecified()
			}
			for _, a := range attrs {
				switch a.Attr.Type {
				case unix.RTA_DST:
					dst, _ = netip.AddrFromSlice(a.Value)
				case rtaNhID:
					id = number(a.Value)
				}
			}
			if id != 0 {
				groups[netip.PrefixFrom(dst, int(msg.Dst_len))] = id
			}
		}
	}
	return groups, nil
}

// setRouteByGroup installs or changes a route in one step. The zero from leaves the source of own packets to the kernel.
func (k routeSocket) setRouteByGroup(p netip.Prefix, id uint32, from netip.Addr) error {
	msg := nl.NewRtMsg()
	msg.Family, msg.Dst_len, msg.Protocol = familyOf(p.Addr()), uint8(p.Bits()), Protocol
	parts := []nl.NetlinkRequestData{
		msg, nl.NewRtAttr(unix.RTA_DST, p.Addr().AsSlice()), nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(Metric)),
		nl.NewRtAttr(rtaNhID, nl.Uint32Attr(id)),
	}
	if from.IsValid() {
		parts = append(parts, nl.NewRtAttr(unix.RTA_PREFSRC, from.AsSlice()))
	}
	_, err := k.ask(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK, 0, parts...)
	if err != nil {
		return fmt.Errorf("by nexthop group %d: %w", id, err)
	}
	return nil
}
