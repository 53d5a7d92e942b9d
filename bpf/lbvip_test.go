package bpf

import (
	"fmt"
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"
)

// portRange is a VIP of several ports.
type portRange struct {
	low, high uint16
	proto     uint8
	index     uint32 // of the counter
}

// setRanges gives the address of a VIP these ranges, in this order, all on one farm.
func (r *rig) setRanges(t testing.TB, addr netip.Addr, ranges ...portRange) {
	t.Helper()
	a := Address{Flags: AddressInService, Ranges: uint32(len(ranges))}
	for i, p := range ranges {
		v := &a.Range[i]
		v.Low, v.High, v.Proto, v.Vip = p.low, p.high, p.proto, VIP{Farm: r.farm(t, steady(ipip4)), Index: p.index}
	}
	put(t, r.Addresses.Put(AddressKey(addr), a))
}

// The counters of VIPs of several ports, which a rig has besides those of one port.
const (
	narrowIndex = 7
	wideIndex   = 8
	anyIndex    = 9
	udpIndex    = 10
)

// nested are ranges as the control plane writes them: narrowest first.
var nested = []portRange{
	{1500, 1501, 6, narrowIndex},
	{1000, 2000, 6, wideIndex},
	{3000, 3010, 17, udpIndex},
	{0, 65535, 6, anyIndex},
}

func TestLBRanges(t *testing.T) {
	var cases []lbCase
	for _, family := range []struct {
		name        string
		client, vip netip.AddrPort
	}{{"v4", client, vipTCP}, {"v6", client6, vipTCP6}} {
		addr := family.vip.Addr()
		prepare := func(t *testing.T, r *rig) { r.setRanges(t, addr, nested...) }
		tcpTo := func(port uint16) made {
			return func() *pkttest.Frame { return pkttest.New(family.client, netip.AddrPortFrom(addr, port)) }
		}
		udpTo := func(port uint16) made {
			return func() *pkttest.Frame { return pkttest.NewUDP(family.client, netip.AddrPortFrom(addr, port)) }
		}
		for port, index := range map[uint16]uint32{
			1500: narrowIndex, 1501: narrowIndex,
			1000: wideIndex, 1499: wideIndex, 1502: wideIndex, 2000: wideIndex,
			999: anyIndex, 2001: anyIndex, 0: anyIndex, 65535: anyIndex, 24: anyIndex, 26: anyIndex, 53: anyIndex, 3005: anyIndex,
		} {
			cases = append(cases, lbCase{name: fmt.Sprintf("%s tcp port %d", family.name, port), prepare: prepare,
				frame: tcpTo(port), verdict: xdpTX, want: ipip4.gets(tcpTo(port)), moves: counted(index)})
		}
		for _, port := range []uint16{3000, 3005, 3010} {
			cases = append(cases, lbCase{name: fmt.Sprintf("%s udp port %d", family.name, port), prepare: prepare,
				frame: udpTo(port), verdict: xdpTX, want: ipip4.gets(udpTo(port)), moves: counted(udpIndex)})
		}
		for _, port := range []uint16{2999, 3011, 25, 1500} {
			cases = append(cases, lbCase{name: fmt.Sprintf("%s udp port %d", family.name, port), prepare: prepare, frame: udpTo(port), verdict: xdpPass})
		}
		cases = append(cases,
			lbCase{name: family.name + " exact port before every range", prepare: prepare, frame: tcpTo(25), verdict: xdpTX, want: ipip4.gets(tcpTo(25))},
			lbCase{name: family.name + " the last of 32 ranges", frame: tcpTo(32000), verdict: xdpTX, want: ipip4.gets(tcpTo(32000)),
				prepare: func(t *testing.T, r *rig) { r.setRanges(t, addr, manyRanges(MaxRanges)...) }, moves: counted(narrowIndex)},
			lbCase{name: family.name + " behind the last range", frame: tcpTo(32000), verdict: xdpPass,
				prepare: func(t *testing.T, r *rig) { r.setRanges(t, addr, manyRanges(MaxRanges-1)...) }},
			lbCase{name: family.name + " ranges that are not in use", frame: tcpTo(32000), verdict: xdpPass, prepare: func(t *testing.T, r *rig) {
				r.setRanges(t, addr, manyRanges(MaxRanges)...)
				var a Address
				put(t, r.Addresses.Lookup(AddressKey(addr), &a))
				a.Ranges--
				put(t, r.Addresses.Put(AddressKey(addr), a))
			}},
		)
	}
	runLB(t, cases)
}

// manyRanges gives ranges of one port each, 1000, 2000 and so on.
func manyRanges(n int) []portRange {
	var all []portRange
	for i := range n {
		port := uint16(1000 * (i + 1))
		all = append(all, portRange{port, port, 6, narrowIndex})
	}
	return all
}

// mask gives the mask of a source prefix as maps hold it.
func mask(bits int, v6 bool) [4]uint32 {
	all := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if v6 {
		all = netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	}
	prefix, err := all.Prefix(bits)
	if err != nil {
		panic(err)
	}
	return Addr(prefix.Addr())
}

// TestHashSource has several VIPs of one farm hash by source: whatever a client's ports, and whatever it asks for, it is
// in the slot that the oracle names for its prefix.
func TestHashSource(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct {
		sources    []string
		bits4      int
		bits6      int
		wantPrefix string
	}{
		{[]string{"192.0.2.7"}, 32, 128, "192.0.2.7/32"},
		{[]string{"192.0.2.0", "192.0.2.7", "192.0.2.255"}, 24, 56, "192.0.2.0/24"},
		{[]string{"192.0.2.0", "192.0.2.127"}, 25, 56, "192.0.2.0/25"},
		{[]string{"192.0.2.128", "192.0.2.255"}, 25, 56, "192.0.2.128/25"},
		{[]string{"192.0.2.8", "192.0.2.15"}, 29, 56, "192.0.2.8/29"},
		{[]string{"192.0.2.1", "198.51.100.77"}, 0, 0, "0.0.0.0/0"},
		{[]string{"2001:db8::7"}, 32, 128, "2001:db8::7/128"},
		{[]string{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"}, 32, 64, "2001:db8::/64"},
		{[]string{"2001:db8:0:100::1", "2001:db8:0:1ff:ffff::"}, 24, 56, "2001:db8:0:100::/56"},
		{[]string{"2001:db8:0:1fe::1", "2001:db8:0:1ff:1::"}, 24, 63, "2001:db8:0:1fe::/63"},
		{[]string{"2001:db8::1", "2001:db8:ffff::1"}, 24, 33, ""},
		{[]string{"2001:db8::1", "2001:db8:ffff::1"}, 24, 32, "2001:db8::/32"},
		{[]string{"2001:db8::1", "2001:db8:ffff::1"}, 24, 0, "::/0"},
	} {
		r.hashBySource(t, tc.bits4, tc.bits6)
		slots := map[uint32]bool{}
		for _, source := range tc.sources {
			for _, frame := range framesFrom(netip.MustParseAddr(source)) {
				slots[r.slot(t, frame)] = true
			}
		}
		if tc.wantPrefix == "" {
			if len(slots) != len(tc.sources) {
				t.Errorf("%v, which have no prefix of %d in common, are in slots %v", tc.sources, tc.bits6, slots)
			}
			continue
		}
		want := uint32(hashOfSource(netip.MustParsePrefix(tc.wantPrefix)) % Slots)
		if len(slots) != 1 || !slots[want] {
			t.Errorf("%v are in slots %v, want %d alone", tc.sources, slots, want)
		}
	}
}

// framesFrom gives packets of one client for several VIPs on several addresses.
func framesFrom(source netip.Addr) []*pkttest.Frame {
	tcp, udp, ranged := vipTCP, vipUDP, netip.MustParseAddrPort("203.0.113.12:993")
	if source.Is6() {
		tcp, udp, ranged = vipTCP6, vipUDP6, netip.MustParseAddrPort("[2001:db8:1::12]:993")
	}
	var all []*pkttest.Frame
	for _, port := range []uint16{1024, 40000, 65535} {
		from := netip.AddrPortFrom(source, port)
		all = append(all, pkttest.New(from, tcp), with(func() *pkttest.Frame { return pkttest.New(from, tcp) }, opening)(), pkttest.NewUDP(from, udp),
			pkttest.New(from, ranged), pkttest.NewUDP(from, ranged))
	}
	return all
}

// bySource has a VIP hash by a prefix of the source.
func bySource(bits4, bits6 int) func(v *VIP) {
	return func(v *VIP) {
		v.Flags = VIPHashSource
		if v.Mask = mask(bits4, false); v.Index == vip6Index {
			v.Mask = mask(bits6, true)
		}
	}
}

// hashBySource has the VIPs hash by source, and those of any port of two more addresses.
func (r *rig) hashBySource(t *testing.T, bits4, bits6 int) {
	t.Helper()
	r.setVIPs(t, steady(ipip4), bySource(bits4, bits6))
	for addr, m := range map[string][4]uint32{"203.0.113.12": mask(bits4, false), "2001:db8:1::12": mask(bits6, true)} {
		a := Address{Ranges: 2}
		for i, proto := range []uint8{6, 17} {
			v := &a.Range[i]
			v.High, v.Proto, v.Vip = 65535, proto, VIP{Farm: r.farm(t, steady(ipip4)), Index: anyIndex, Flags: VIPHashSource, Mask: m}
		}
		put(t, r.Addresses.Put(AddressKey(netip.MustParseAddr(addr)), a))
	}
}

// slot gives the slot that a packet is in.
func (r *rig) slot(t *testing.T, f *pkttest.Frame) uint32 {
	t.Helper()
	trace, _, err := r.Explain(f.Bytes(t), ingress)
	put(t, err)
	if trace.Verdict != xdpTX {
		t.Fatalf("verdict %v\n%s", Verdict(trace.Verdict), pkttest.Decode(f.Bytes(t)))
	}
	return trace.Slot
}

// TestHashSourceLeaves has the packets leave: the hash goes into the outer header, too.
func TestHashSourceLeaves(t *testing.T) {
	hash4 := hashOfSource(netip.MustParsePrefix("192.0.2.0/24"))
	hash6 := hashOfSource(netip.MustParsePrefix("2001:db8::/56"))
	runLB(t, []lbCase{
		{name: "v4 in gue", slot: steady(gue4), vip: bySource(24, 56), verdict: xdpTX, want: gue4.getsBy(tcp, hash4)},
		{name: "v4 in v6", slot: steady(ipip6), vip: bySource(24, 56), frame: udp, verdict: xdpTX, want: ipip6.getsBy(udp, hash4)},
		{name: "v6 in gue", slot: steady(gue6), vip: bySource(24, 56), frame: tcp6, verdict: xdpTX, want: gue6.getsBy(tcp6, hash6)},
		{name: "v6 in v6", slot: steady(ipip6), vip: bySource(24, 56), frame: udp6, verdict: xdpTX, want: ipip6.getsBy(udp6, hash6)},
	})
}
