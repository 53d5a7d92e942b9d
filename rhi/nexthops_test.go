package rhi

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// inKernel gives a socket of the node's namespace.
func (n *node) inKernel() routeSocket {
	n.t.Helper()
	var k routeSocket
	n.ns.Do(func() (err error) {
		k, err = openRouteSocket()
		return err
	})
	n.t.Cleanup(k.close)
	return k
}

// nexthopState gives what the namespace holds of our nexthop objects.
func (n *node) nexthopState() *nexthops {
	n.t.Helper()
	state, err := n.inKernel().nexthops()
	if err != nil {
		n.t.Fatal(err)
	}
	return state
}

// bucketsOf gives which gateway each bucket of a prefix's group leads to.
func (n *node) bucketsOf(prefix string) []netip.Addr {
	n.t.Helper()
	state := n.nexthopState()
	gateways := map[uint32]netip.Addr{}
	for h, id := range state.hops {
		gateways[id] = h.gateway
	}
	k := n.inKernel()
	groups, err := k.groupsOfRoutes()
	if err != nil {
		n.t.Fatal(err)
	}
	msgs, err := k.ask(unix.RTM_GETNEXTHOPBUCKET, unix.NLM_F_DUMP, unix.RTM_NEWNEXTHOPBUCKET, nhmsg{},
		nl.NewRtAttr(unix.NHA_ID, nl.Uint32Attr(groups[netip.MustParsePrefix(prefix)])))
	if err != nil {
		n.t.Fatal(err)
	}
	list := make([]netip.Addr, buckets)
	for _, b := range msgs {
		index, id, err := parseBucket(b)
		if err != nil {
			n.t.Fatal(err)
		}
		list[index] = gateways[id]
	}
	return list
}

func parseBucket(b []byte) (index uint16, id uint32, err error) {
	attrs, err := nl.ParseRouteAttr(b[nhmsgLen:])
	if err != nil {
		return 0, 0, err
	}
	for _, a := range attrs {
		if a.Attr.Type&^unix.NLA_F_NESTED != 13 { // NHA_RES_BUCKET
			continue
		}
		parts, err := nl.ParseRouteAttr(a.Value)
		if err != nil {
			return 0, 0, err
		}
		for _, p := range parts {
			switch p.Attr.Type {
			case 1: // NHA_RES_BUCKET_INDEX
				index = binary.NativeEndian.Uint16(p.Value)
			case 3: // NHA_RES_BUCKET_NH_ID
				id = number(p.Value)
			}
		}
	}
	return index, id, nil
}

// TestFlowsStayWhenANextHopLeaves looks at the buckets that flows are hashed to.
func TestFlowsStayWhenANextHopLeaves(t *testing.T) {
	t.Parallel()
	router, lb1, lb2 := twoBalancers(t)
	lb1.set(vip)
	lb2.set(vip)
	eventually(t, "ECMP", soon, func() bool { return router.kernel(vip) == "192.0.2.3 192.0.2.5" })
	before := router.bucketsOf(vip)
	one, two := netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.5")
	shares := map[netip.Addr]int{}
	for _, a := range before {
		shares[a]++
	}
	if shares[one]+shares[two] != buckets || shares[two] == 0 {
		t.Fatalf("buckets %v", shares)
	}

	lb2.end(syscall.SIGKILL)
	eventually(t, "one next hop", soon, func() bool { return router.kernel(vip) == "192.0.2.3" })
	for i, a := range router.bucketsOf(vip) {
		if a != one {
			t.Errorf("bucket %d leads to %v, which is gone", i, a)
		}
		if before[i] == one && a != one {
			t.Errorf("bucket %d has moved from the next hop that stays", i)
		}
	}
	lb2.start(balancer(2, "192.0.2.4"))
	eventually(t, "session back", soon, func() bool { return router.up("lb2") })
	lb2.set(vip)
	eventually(t, "ECMP again", soon, func() bool { return router.kernel(vip) == "192.0.2.3 192.0.2.5" })
	// no packet was sent, so that all buckets are idle, and those that are too many move
	eventually(t, "buckets for the one that came", soon, func() bool { return slices.Contains(router.bucketsOf(vip), two) })

	lb1.set()
	lb2.set()
	eventually(t, "no route", soon, func() bool { return router.kernel(vip) == "" })
	eventually(t, "no nexthop left", soon, func() bool { s := router.nexthopState(); return len(s.groups)+len(s.hops) == 0 })
}

// TestNexthopsOfOthersAreLeftAlone has others' objects where ours would be, and restarts a router that was killed.
func TestNexthopsOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	router, lb1, lb2 := twoBalancers(t)
	foreign := []uint32{firstID, firstID + 1}
	k := router.inKernel()
	for _, id := range foreign {
		_, err := k.ask(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, 0, nhmsg{unix.AF_INET, unix.RTPROT_STATIC},
			nl.NewRtAttr(unix.NHA_ID, nl.Uint32Attr(id)), nl.NewRtAttr(unix.NHA_BLACKHOLE, nil))
		if err != nil {
			t.Fatalf("nexthop %d: %v", id, err)
		}
	}
	lb1.set(vip)
	lb2.set(vip)
	eventually(t, "ECMP", soon, func() bool { return router.kernel(vip) == "192.0.2.3 192.0.2.5" })
	groups := maps.Clone(router.nexthopState().groups)

	router.end(syscall.SIGKILL)
	if hops := router.kernel(vip); hops != "192.0.2.3 192.0.2.5" {
		t.Fatalf("routes of a killed router: %q", hops)
	}
	router.start(routerOfTwo)
	eventually(t, "sessions back", soon, func() bool { return router.up("lb1") && router.up("lb2") })
	eventually(t, "ECMP still", soon, func() bool { r, _ := router.route(vip); return r.InKernel })
	if now := router.nexthopState().groups; !maps.EqualFunc(now, groups, slices.Equal) {
		t.Errorf("groups %v after the restart, %v before", now, groups)
	}
	router.end(syscall.SIGTERM)
	s := router.nexthopState()
	if hops := router.kernel(vip); hops != "" || len(s.groups)+len(s.hops) > 0 {
		t.Errorf("left behind: route via %q, nexthops %v, groups %v", hops, s.hops, s.groups)
	}
	for _, id := range foreign {
		if !s.taken[id] {
			t.Errorf("nexthop %d of somebody else is gone", id)
		}
	}
}

// FuzzNexthopMessage: the kernel sends these, and a newer one may send others.
func FuzzNexthopMessage(f *testing.F) {
	f.Add([]byte{2, 0, Protocol, 0, 0, 0, 0, 0, 8, 0, unix.NHA_ID, 0, 1, 0, 0, 0, 8, 0, unix.NHA_GATEWAY, 0, 192, 0, 2, 1})
	f.Add([]byte{0, 0, Protocol, 0, 0, 0, 0, 0, 12, 0, unix.NHA_GROUP, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := &nexthops{hops: map[via]uint32{}, groups: map[uint32][]uint32{}, taken: map[uint32]bool{}}
		_ = n.add(b)
	})
}
