package lb

import (
	"net/netip"

	"anycastle/bpf"
	"anycastle/internal/flowhash"
	"anycastle/lb/agent"
)

// flow is what a packet's choice of a real depends on.
type flow struct {
	client, vip netip.AddrPort // of one IP version
	proto       uint8
}

func flowOf(f agent.Flow) flow {
	proto := uint8(protoTCP)
	if f.Protocol == agent.UDP {
		proto = protoUDP
	}
	return flow{f.Client, f.VIP, proto}
}

func (f flow) protocol() string {
	if f.proto == protoUDP {
		return agent.UDP
	}
	return agent.TCP
}

// hash is that by which the flow is stored.
func (f flow) hash(key flowhash.Key) uint64 { return flowhash.Of(key, f.client, f.vip, f.proto) }

// chooser chooses reals for packets by tables as the program does by its maps.
type chooser struct {
	tables
	key flowhash.Key
}

// choice is what the tables say of a flow.
type choice struct {
	vip   vipKey
	entry vipEntry
	slot  uint32
	pair  slotPair
	known bool // pair is: the farm's table is known
}

// find gives the choice for a flow, if there is a VIP for it.
func (c *chooser) find(f flow) (choice, bool) {
	vip := vipKey{f.vip.Addr(), f.proto, OnePort(f.vip.Port())}
	e, ok := c.vips[vip]
	if !ok {
		for _, r := range c.addresses[f.vip.Addr()].ranges {
			if r.key.proto == f.proto && r.key.ports.overlaps(vip.ports) {
				vip, e, ok = r.key, r.vipEntry, true
				break
			}
		}
	}
	if !ok {
		return choice{}, false
	}
	found := choice{vip: vip, entry: e, slot: c.slot(f, e)}
	if slots := c.slots[e.farm]; slots != nil {
		found.pair, found.known = slots[found.slot], true
	}
	return found, true
}

func (c *chooser) slot(f flow, e vipEntry) uint32 {
	if e.sourceBits > 0 {
		return flowhash.Slot(flowhash.OfSource(c.key, netip.PrefixFrom(f.client.Addr(), int(e.sourceBits))))
	}
	return flowhash.Slot(flowhash.Of(c.key, f.client, f.vip, f.proto))
}

// addr gives the address of a real by its index; the zero Addr: there is none.
func (c *chooser) addr(index uint16) netip.Addr {
	if index == none {
		return netip.Addr{}
	}
	return c.reals[uint32(index)].addr
}

// goesTo gives the real that a packet of an established flow gets to in the end: with a second chance by way of the first.
// at is where the flow's socket is, stored the real that the flow is stored with.
func (c *chooser) goesTo(ch choice, proto uint8, at netip.Addr, stored uint16) netip.Addr {
	primary, secondary := c.addr(ch.pair.primary), c.addr(ch.pair.secondary)
	moving := ch.pair.moving()
	switch {
	case !moving && !ch.entry.followAll:
		return primary
	case moving && c.offersBoth(ch):
		if ch.pair.primary == none || proto == protoTCP && ch.pair.secondary != none && at != primary {
			return secondary
		}
		return primary
	case stored != none:
		return c.addr(stored)
	case ch.pair.secondary != none:
		return secondary
	}
	return primary
}

// offersBoth says whether a packet carries both reals of its slot in transition.
func (c *chooser) offersBoth(ch choice) bool {
	return c.method(ch.entry, bpf.Trace{Primary: ch.pair.primary, Secondary: ch.pair.secondary}) == SecondChance
}
