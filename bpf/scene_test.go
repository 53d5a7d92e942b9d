package bpf

import (
	"fmt"
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"
)

// packetKind is a way of a packet through the program, by a VIP of its own.
type packetKind struct {
	name  string
	frame made
	grow  int
	vip   uint32 // index of its counter

	wrappedByPeers bool
	begin          made        // sent once for each flow before, by a kind whose table stores flows
	steady         *packetKind // the same, not in transition
}

var (
	toIPIP    = vipTCP
	toIP6IP6  = netip.MustParseAddrPort("[2001:db8:1::25]:25")
	toGUE     = netip.MustParseAddrPort("203.0.113.12:25")
	toTracked = netip.MustParseAddrPort("203.0.113.13:25")
	toChance  = netip.MustParseAddrPort("203.0.113.14:25")
	toDrained = netip.MustParseAddrPort("203.0.113.15:25")
)

func ackTo(src, vip netip.AddrPort) made {
	return func() *pkttest.Frame { return pkttest.New(src, vip) }
}

func synTo(src, vip netip.AddrPort) made { return with(ackTo(src, vip), opening) }

const (
	ip4Len, ip6Len = 20, 40
	gueLen         = 8 + 4 // UDP and GUE
	secondLen      = 4 + 4 // private data with an IPv4 address
)

// packetKinds are those that setScene makes ready. In transition are all slots, but where one real of 100 leaves those of
// that real alone.
var packetKinds = func() []*packetKind {
	ipipACK := &packetKind{name: "ipip/ack", frame: ackTo(client, toIPIP), grow: ip4Len, vip: vipIndex, wrappedByPeers: true}
	ipipSYN := &packetKind{name: "ipip/syn", frame: synTo(client, toIPIP), grow: ip4Len, vip: vipIndex, wrappedByPeers: true}
	gueACK := &packetKind{name: "gue/ack", frame: ackTo(client, toGUE), grow: ip4Len + gueLen, vip: 7}
	return []*packetKind{
		ipipACK, ipipSYN, gueACK,
		{name: "ip6ip6/ack", frame: ackTo(client6, toIP6IP6), grow: ip6Len, vip: 6},
		{name: "tracked/ack", frame: ackTo(client, toTracked), grow: ip4Len, vip: 8, steady: ipipACK, begin: synTo(client, toTracked)},
		{name: "tracked/syn", frame: synTo(client, toTracked), grow: ip4Len, vip: 8, steady: ipipSYN},
		{name: "tracked/one-of-100/ack", frame: ackTo(client, toDrained), grow: ip4Len, vip: 10, steady: ipipACK, begin: synTo(client, toDrained)},
		{name: "second-chance/ack", frame: ackTo(client, toChance), grow: ip4Len + gueLen + secondLen, vip: 9, steady: gueACK},
	}
}()

func (k *packetKind) at(flows int) string { return fmt.Sprintf("%s/flows=%d", k.name, flows) }

func (k *packetKind) traffic(t testing.TB, flows int) traffic {
	t.Helper()
	return traffic{frame: k.frame().Bytes(t), flows: flows, stride: scrambled, grow: k.grow, verdict: xdpTX}
}

const manyReals = 100

// realAddrs gives the addresses of many reals, from the first on.
func realAddrs(first netip.Addr) []netip.Addr {
	addrs := make([]netip.Addr, manyReals)
	for i := range addrs {
		addrs[i], first = first, first.Next()
	}
	return addrs
}

// setScene gives each kind a VIP and a farm of many reals, all behind the ingress.
func setScene(t testing.TB, lb *LB) {
	t.Helper()
	const ipip, gue, ip6ip6 = 1, 1 + manyReals, 1 + 2*manyReals // index of the first real
	for i, addr := range realAddrs(mx1) {
		r := newReal(addr, ingress)
		put(t, lb.Reals.Put(uint32(ipip+i), r))
		r.Kind = KindGUE
		put(t, lb.Reals.Put(uint32(gue+i), r))
	}
	for i, addr := range realAddrs(netip.MustParseAddr("2001:db8:2::9")) {
		r := newReal(addr, ingress)
		r.Source, r.Sum, r.Flags = Addr(netip.MustParseAddr("2001:db8:2::1")), 0, RealIPv6
		put(t, lb.Reals.Put(uint32(ip6ip6+i), r))
	}
	put(t, lb.VIPs6.Put(VIPKey6{Addr: Addr(toIP6IP6.Addr()), Port: Port(25), Proto: 6}, VIP{Farm: 6, Index: 6}))
	for _, v := range []struct {
		addr netip.AddrPort
		vip  VIP
	}{
		{toGUE, VIP{Farm: 7, Index: 7}},
		{toTracked, VIP{Farm: 8, Index: 8}},
		{toDrained, VIP{Farm: 10, Index: 10}},
		{toChance, VIP{Farm: 9, Index: 9, Flags: VIPSecondChance}},
	} {
		put(t, lb.VIPs4.Put(VIPKey4{Addr: Addr4(v.addr.Addr()), Port: Port(25), Proto: 6}, v.vip))
	}
	for farm, table := range map[uint32][]Slot{
		farm: spread(ipip, 0), 6: spread(ip6ip6, 0), 7: spread(gue, 0), 8: spread(ipip, 1), 9: spread(gue, 1), 10: drained(ipip),
	} {
		setFarm(t, lb, farm, table)
	}
}

// spread gives a table of many reals, whose secondary is so many further than the primary.
func spread(first uint16, apart int) []Slot {
	slots := make([]Slot, Slots)
	for i := range slots {
		slots[i] = Slot{Primary: first + uint16(i%manyReals), Secondary: first + uint16((i+apart)%manyReals)}
	}
	return slots
}

// drained gives a table that one of many reals is leaving.
func drained(first uint16) []Slot {
	slots := spread(first, 0)
	for i := range slots {
		if slots[i].Primary == first {
			slots[i].Primary++
		}
	}
	return slots
}
