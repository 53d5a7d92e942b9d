package modeltest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"anycastle/internal/flowhash"
)

// NewLB gives a balancer that knows nothing.
func NewLB(key flowhash.Key) *LB {
	m := &LB{
		Key: key, VIPs: map[VIPKey]VIP{}, Addresses: map[[16]byte]Address{}, Farms: map[uint32]Table{}, Reals: map[uint16]Real{},
		Counts: map[uint32]Count{}, Drops: map[string]uint64{},
	}
	m.Forget()
	return m
}

// Forget empties what the program keeps about flows and fragments.
func (m *LB) Forget() { m.Flows, m.Fragments = map[Flow]uint16{}, map[FragmentKey]Choice{} }

// Ingress and Other are the interfaces that reals are behind; packets come in by Ingress.
const Ingress, Other = 1, 7

// The farms of a world, by what is in their tables.
const (
	steady uint32 = iota + 1
	trackedFarm
	secondChance
	secondChanceMixed // some of its reals do not know GUE
	missing
	hollow // no real that is there
	farms  // one more than the last
)

// World is a content of the maps, and what a source of packets has to know of it.
type World struct {
	LB *LB

	vips      []VIPKey // one for each VIP; of a range, one port in it
	addresses []netip.Addr
	sizes     []int // of IP packets that just fit one real or another
}

// NewWorld makes a world, the same for the same numbers.
func NewWorld(rnd *rand.Rand) *World {
	var key flowhash.Key
	for i := range key {
		key[i] = byte(rnd.Uint32())
	}
	w := &World{LB: NewLB(key)}
	w.addReals()
	for farm := steady; farm < farms; farm++ {
		if farm != missing {
			w.LB.Farms[farm] = w.table(rnd, farm)
		}
	}
	w.addVIPs(rnd)
	return w
}

// addReals makes reals of each kind and family in each of some variants.
func (w *World) addReals() {
	mac := func(n byte) [6]byte { return [6]byte{0, 0, 0x5e, 0, 0x53, n} }
	index := uint16(0)
	for _, kind := range []Kind{IPIP, GUE, L2} {
		for _, v6 := range []bool{false, true} {
			for _, r := range []Real{
				{Ifindex: Ingress, MTU: 1500},
				{Ifindex: Ingress, MTU: 1280, Redirect: true},
				{Ifindex: Other, MTU: 1500, Tags: []Tag{{0x8100, 0x0064}}},
				{Ifindex: Ingress, MTU: 1400, Tags: []Tag{{0x88a8, 0xa00c}, {0x8100, 0x0fff}}},
				{Ifindex: 0, MTU: 1500},
				{Ifindex: Other, MTU: 700},
			} {
				index++
				r.Kind, r.DstMAC, r.SrcMAC = kind, mac(byte(100+index)), mac(2)
				r.Addr, r.Source = netip.AddrFrom4([4]byte{198, 51, 100, byte(100 + index)}), netip.MustParseAddr("198.51.100.1")
				if v6 {
					r.Addr, r.Source = netip.MustParseAddr(fmt.Sprintf("2001:db8:2::%x", 100+index)), netip.MustParseAddr("2001:db8:2::1")
				}
				w.LB.Reals[index] = r
			}
		}
	}
	for _, mtu := range []int{700, 1280, 1400, 1500} {
		for _, over := range []int{0, 20, 40, 32, 52, 40, 60, 52, 72} { // L2; IPIP; GUE alone, with IPv4 and IPv6 as second hop
			w.sizes = append(w.sizes, mtu-over)
		}
	}
}

// table fills the slots of a farm. Where the farm moves, nearly half of them are in transition.
func (w *World) table(rnd *rand.Rand, farm uint32) Table {
	real := func() uint16 {
		switch n := rnd.IntN(100); {
		case farm == hollow || n < 2:
			return []uint16{0, 0, MaxReals - 1, MaxReals, 5000, 0xffff}[rnd.IntN(6)]
		case n < 8:
			return 0
		case farm == secondChance:
			return uint16(13 + rnd.IntN(12)) // the GUE ones
		}
		return uint16(1 + rnd.IntN(len(w.LB.Reals)))
	}
	slots := make(Table, flowhash.Slots)
	for i := range slots {
		primary := real()
		slots[i] = Slot{primary, primary}
		if farm != steady && rnd.IntN(100) < 45 {
			slots[i].Secondary = real()
		}
	}
	return slots
}

// addVIPs makes addresses with VIPs of one port, of ranges that overlap, and of any port.
func (w *World) addVIPs(rnd *rand.Rand) {
	index := uint32(0)
	vip := func(v6 bool) VIP {
		index++
		v := VIP{Farm: steady + index%4, Index: index} // the first four
		if rnd.IntN(12) == 0 {
			v.Farm = missing + uint32(rnd.IntN(2))
		}
		v.FollowAll = rnd.IntN(4) == 0
		v.SecondChance = v.Farm == secondChance || v.Farm == secondChanceMixed || v.Farm >= missing && rnd.IntN(2) == 0
		if v.Source = rnd.IntN(3) == 0; v.Source {
			v.Prefix = []int{0, 8, 24, 30, 32}[rnd.IntN(5)]
			if v6 {
				v.Prefix = []int{0, 32, 56, 63, 64, 65, 128}[rnd.IntN(7)]
			}
		}
		return v
	}
	for n := range 12 {
		addr := netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + n)})
		if n%2 == 1 {
			addr = netip.MustParseAddr(fmt.Sprintf("2001:db8:1::%x", 10+n))
		}
		for _, k := range []VIPKey{{addr, 25, protoTCP}, {addr, 443, protoTCP}, {addr, 443, protoUDP}, {addr, 1500, protoTCP}} {
			w.LB.VIPs[k] = vip(addr.Is6())
			w.vips = append(w.vips, k)
		}
		a := Address{InService: n%4 < 3}
		if n%3 > 0 {
			for _, r := range []Range{{Lo: 5000, Hi: 5001, Proto: protoUDP}, {Lo: 1000, Hi: 2000, Proto: protoTCP}, {Lo: 900, Hi: 3000, Proto: protoTCP}} {
				r.VIP = vip(addr.Is6())
				a.Ranges = append(a.Ranges, r)
				w.vips = append(w.vips, VIPKey{addr, r.Lo + uint16(rnd.IntN(int(r.Hi-r.Lo)+1)), r.Proto})
			}
		}
		if n%3 == 2 {
			for _, proto := range []uint8{protoTCP, protoUDP} {
				a.Ranges = append(a.Ranges, Range{0, 0xffff, proto, vip(addr.Is6())})
				w.vips = append(w.vips, VIPKey{addr, uint16(rnd.Uint32()), proto})
			}
		}
		w.LB.Addresses[addr.As16()] = a
		w.addresses = append(w.addresses, addr)
	}
}
