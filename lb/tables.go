package lb

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// vipKey is what a packet's destination must be.
type vipKey struct {
	addr  netip.Addr
	proto uint8
	ports Ports
}

func (v *VIP) key() vipKey {
	proto := uint8(6)
	if v.Protocol == "udp" {
		proto = 17
	}
	return vipKey{addr: v.Address, proto: proto, ports: v.Port}
}

// compare sorts by address, and on one address the narrower before the wider: the order in which a packet is offered to
// them.
func (k vipKey) compare(o vipKey) int {
	return cmp.Or(k.addr.Compare(o.addr), cmp.Compare(k.ports.width(), o.ports.width()),
		cmp.Compare(k.proto, o.proto), cmp.Compare(k.ports.Low, o.ports.Low))
}

// vipEntry is where a VIP's packets go.
type vipEntry struct {
	farm         uint32
	index        uint32 // of its counters
	secondChance bool   // how established flows are treated in slots in transition; else they are tracked
	// followAll: stored flows are followed in every slot, also where primary and secondary are the same real; see
	// rules.follow. Only for tracked farms.
	followAll  bool
	sourceBits uint8 // of the source address, which alone decides the slot; 0: the whole flow does
}

// mustFollow says whether the VIP stays with its farm and is to begin to follow stored flows everywhere.
func (e vipEntry) mustFollow(want vipEntry) bool {
	return want.followAll && !e.followAll && e.farm == want.farm
}

// addressEntry is what is known of an address of VIPs: it takes packets without ports, and echo requests.
type addressEntry struct {
	inService bool         // echo requests are answered
	ranges    []rangeEntry // its VIPs of many ports, in the order in which a packet is offered to them
}

// mustFollow gives the entry with those of its VIPs following that are to begin to, if there is one.
func (a addressEntry) mustFollow(want addressEntry) (addressEntry, bool) {
	some := false
	a.ranges = slices.Clone(a.ranges)
	for i, r := range a.ranges {
		for _, w := range want.ranges {
			if w.key == r.key && r.mustFollow(w.vipEntry) {
				a.ranges[i].followAll, some = true, true
			}
		}
	}
	return a, some
}

type rangeEntry struct {
	key vipKey
	vipEntry
}

func (a addressEntry) equal(b addressEntry) bool {
	return a.inService == b.inService && slices.Equal(a.ranges, b.ranges)
}

// realKey tells reals of the data path apart: one address may be reached in two ways, by two farms.
type realKey struct {
	addr netip.Addr
	kind uint8 // bpf.KindIPIP and so on
}

func (f *Farm) realKey(r *Real) realKey { return realKey{r.Address, f.forward(r).kind()} }

type realEntry struct {
	realKey
	hop Hop
}

// tables is the whole content of the data path's maps, wanted or installed.
type tables struct {
	reals     map[uint32]realEntry // by real index, never none
	vips      map[vipKey]vipEntry  // of one port each
	addresses map[netip.Addr]addressEntry
	slots     map[uint32][]slotPair // by farm index; nil if there is a table whose content is not known
}

func newTables() tables {
	return tables{reals: map[uint32]realEntry{}, vips: map[vipKey]vipEntry{}, addresses: map[netip.Addr]addressEntry{},
		slots: map[uint32][]slotPair{}}
}

// hops are those of the reals that have one.
func (t tables) hops() map[netip.Addr]Hop {
	hops := map[netip.Addr]Hop{}
	for _, r := range t.reals {
		if r.hop.Resolved() {
			hops[r.addr] = r.hop
		}
	}
	return hops
}

// allVIPs gives the VIPs of one port and those of many.
func (t tables) allVIPs() map[vipKey]vipEntry {
	all := maps.Clone(t.vips)
	for _, a := range t.addresses {
		for _, r := range a.ranges {
			all[r.key] = r.vipEntry
		}
	}
	return all
}

func (t tables) clone() tables {
	return tables{maps.Clone(t.reals), maps.Clone(t.vips), maps.Clone(t.addresses), maps.Clone(t.slots)}
}

// tracks says whether flows may be stored or followed: in a slot in transition, or everywhere. A table whose content is not
// known may have such slots.
func (t tables) tracks() bool {
	for _, slots := range t.slots {
		if slots == nil || slices.ContainsFunc(slots, slotPair.moving) {
			return true
		}
	}
	for _, e := range t.vips {
		if e.followAll {
			return true
		}
	}
	for _, a := range t.addresses {
		if slices.ContainsFunc(a.ranges, func(r rangeEntry) bool { return r.followAll }) {
			return true
		}
	}
	return false
}
