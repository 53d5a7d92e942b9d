package bpf

import (
	"net/netip"
	"path/filepath"
	"testing"

	"anycastle/internal/netnstest"
	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpTX       = 3
	xdpRedirect = 4
)

var (
	client  = netip.MustParseAddrPort("192.0.2.7:40000")
	vipTCP  = netip.MustParseAddrPort("203.0.113.10:25")
	vipUDP  = netip.MustParseAddrPort("203.0.113.10:53")
	client6 = netip.MustParseAddrPort("[2001:db8::7]:40000")
	vipTCP6 = netip.MustParseAddrPort("[2001:db8:1::10]:25")
	vipUDP6 = netip.MustParseAddrPort("[2001:db8:1::10]:53")
	lbAddr6 = netip.MustParseAddr("2001:db8:2::1")
	lbAddr  = netip.MustParseAddr("198.51.100.1")
	mx1     = netip.MustParseAddr("198.51.100.9")
	mx2     = netip.MustParseAddr("198.51.100.10")
	hashKey = [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
)

// pinDir gives a directory in a bpf file system of the test's own.
func pinDir(t testing.TB) string {
	t.Helper()
	netnstest.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	return filepath.Join(dir, "anycastle", "lb")
}

const (
	ingress   = 1 // the interface that BPF_PROG_TEST_RUN pretends a packet comes from
	otherLink = 7
	farm      = 3
	vipIndex  = 5
	vip6Index = 6 // of the IPv6 VIPs of a rig
	mx1Index  = 1
	mx2Index  = 2
	mtu       = 1500
)

// newLB gives a loaded balancer with maps of the product's size, and a TCP VIP and a UDP VIP on one farm, all slots of
// which hold mx1. mx1 is reached through the ingress, mx2 through another link.
func newLB(t testing.TB) *LB {
	t.Helper()
	lb, err := LoadLB(pinDir(t), hashKey)
	put(t, err)
	t.Cleanup(func() { lb.Close() })
	put(t, lb.Reals.Put(uint32(mx1Index), newReal(mx1, ingress)))
	put(t, lb.Reals.Put(uint32(mx2Index), newReal(mx2, otherLink)))
	setTable(t, lb, allSlots(mx1Index))
	addr := Addr4(vipTCP.Addr())
	put(t, lb.Addresses.Put(AddressKey(vipTCP.Addr()), Address{Flags: AddressInService}))
	put(t, lb.VIPs4.Put(VIPKey4{Addr: addr, Port: Port(25), Proto: 6}, VIP{Farm: farm, Index: vipIndex}))
	put(t, lb.VIPs4.Put(VIPKey4{Addr: addr, Port: Port(53), Proto: 17}, VIP{Farm: farm, Index: vipIndex}))
	return lb
}

func clearMap(t testing.TB, m *ebpf.Map) {
	t.Helper()
	key := make([]byte, m.KeySize())
	for m.NextKey(nil, &key) == nil {
		put(t, m.Delete(key))
	}
}

func newReal(addr netip.Addr, ifindex uint32) Real {
	return Real{
		Addr: Addr(addr), Source: Addr(lbAddr), Ifindex: ifindex, Mtu: mtu, Sum: OuterSum(lbAddr, addr),
		DstMac: [6]byte(pkttest.MAC(9)), SrcMac: [6]byte(pkttest.MAC(2)),
	}
}

func allSlots(real uint16) []Slot {
	slots := make([]Slot, Slots)
	for i := range slots {
		slots[i] = Slot{Primary: real, Secondary: real}
	}
	return slots
}

// setTable has the VIPs' farm of newLB hold these slots.
func setTable(t testing.TB, lb *LB, slots []Slot) {
	t.Helper()
	setFarm(t, lb, farm, slots)
}

func setFarm(t testing.TB, lb *LB, farm uint32, slots []Slot) {
	t.Helper()
	table, err := lb.NewTable(slots)
	put(t, err)
	put(t, lb.Farms.Put(farm, table))
	put(t, table.Close())
}

func put(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func nonZero(t testing.TB, p *program) map[string]uint64 {
	t.Helper()
	all, err := p.Drops()
	put(t, err)
	drops := map[string]uint64{}
	for reason, n := range all {
		if n != 0 {
			drops[reason] = n
		}
	}
	return drops
}

var noPrefix netip.Prefix

var (
	options   = with(tcp, func(f *pkttest.Frame) { f.IP.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}} })
	largest   = with(tcp, payload(mtu-3*20))
	elsewhere = func() *pkttest.Frame { return pkttest.New(client, netip.MustParseAddrPort("203.0.113.11:25")) }
	otherPort = func() *pkttest.Frame { return pkttest.New(client, vipUDP) }
)

var lbCases = []lbCase{
	{name: "tcp", verdict: xdpTX, want: ipip4.gets(tcp)},
	{name: "udp", frame: udp, verdict: xdpTX, want: ipip4.gets(udp)},
	{name: "ethernet padding", frame: with(tcp, trailer(6)), verdict: xdpTX, want: ipip4.gets(with(tcp, trailer(6)))},
	{name: "options travel inside", frame: options, verdict: xdpTX, want: ipip4.gets(options)},
	{name: "largest that fits", frame: largest, verdict: xdpTX, want: ipip4.gets(largest)},
	{name: "last but one hop", frame: with(tcp, ttl(2)), verdict: xdpTX, want: ipip4.gets(with(tcp, ttl(2)))},
	{name: "another link", slot: steady(ipip4b), verdict: xdpRedirect, want: ipip4b.gets(tcp)},
	{name: "redirect where tx does not do", verdict: xdpRedirect, want: ipip4.gets(tcp),
		prepare: func(t *testing.T, r *rig) {
			v := ipip4.real()
			v.Flags |= RealRedirect
			put(t, r.Reals.Put(uint32(mx1Index), v))
		}},

	{name: "not a vip", frame: elsewhere, verdict: xdpPass},
	{name: "vip of another port", frame: otherPort, verdict: xdpPass},
	{name: "vip of another protocol", frame: func() *pkttest.Frame { return pkttest.NewUDP(client, vipTCP) }, verdict: xdpPass},
	{name: "sctp", mangle: set(ipAt+9, 132), verdict: xdpPass},
	{name: "icmpv6 in ipv4", mangle: set(ipAt+9, 58), verdict: xdpPass},
	{name: "arp", mangle: set(12, 0x08, 0x06), verdict: xdpPass},
	{name: "ieee 802.3", mangle: set(12, 0, 60), verdict: xdpPass},
	{name: "fragment to elsewhere", frame: elsewhere, mangle: set(ipAt+6, 0x20, 0), verdict: xdpPass},
	{name: "bad header to elsewhere", frame: elsewhere, mangle: set(ipAt, 0x44), verdict: xdpPass},
	{name: "truncated to elsewhere", frame: elsewhere, mangle: cut(l4At), verdict: xdpPass},
	{name: "ethernet alone, not ipv4", mangle: func(b []byte) []byte { return set(12, 0x08, 0x06)(b)[:14] }, verdict: xdpPass},

	{name: "truncated after ethernet", mangle: cut(ipAt), verdict: xdpDrop, reason: "truncated"},
	{name: "truncated in ip", mangle: cut(l4At - 1), verdict: xdpDrop, reason: "truncated"},
	{name: "truncated after ip", mangle: cut(l4At), verdict: xdpDrop, reason: "truncated"},
	{name: "truncated in options", frame: options, mangle: cut(l4At + 3), verdict: xdpDrop, reason: "truncated"},
	{name: "truncated in tcp", mangle: cut(l4At + 19), verdict: xdpDrop, reason: "truncated"},
	{name: "truncated in payload", mangle: cut(l4At + 29), verdict: xdpDrop, reason: "truncated"},
	{name: "packet ends in tcp", mangle: set(ipAt+2, 0, 39), verdict: xdpDrop, reason: "truncated"},
	{name: "packet ends in udp", frame: udp, mangle: set(ipAt+2, 0, 27), verdict: xdpDrop, reason: "truncated"},
	{name: "packet ends in tcp behind options", frame: options, mangle: set(ipAt+2, 0, 43), verdict: xdpDrop, reason: "truncated"},
	{name: "options leave no room for tcp", mangle: set(ipAt, 0x4f), verdict: xdpDrop, reason: "bad_header"},
	{name: "version 5", mangle: set(ipAt, 0x55), verdict: xdpDrop, reason: "bad_header"},
	{name: "header of 16 bytes", mangle: set(ipAt, 0x44), verdict: xdpDrop, reason: "bad_header"},
	{name: "total length in the header", mangle: set(ipAt+2, 0, 19), verdict: xdpDrop, reason: "bad_header"},
	{name: "bad header of a protocol that no vip has", mangle: func(b []byte) []byte { return set(ipAt+9, 132)(set(ipAt, 0x44)(b)) },
		verdict: xdpDrop, reason: "bad_header"},
	{name: "ttl 1", frame: with(tcp, ttl(1)), verdict: xdpDrop, reason: "ttl_expired"},
	{name: "ttl 0", frame: with(tcp, ttl(0)), verdict: xdpDrop, reason: "ttl_expired"},
	{name: "no table", verdict: xdpDrop, reason: "no_table", vip: func(v *VIP) { v.Farm = rigFarms - 1 }},
	{name: "farm out of range", verdict: xdpDrop, reason: "no_table", vip: func(v *VIP) { v.Farm = MaxFarms }},
	{name: "nobody in service", verdict: xdpDrop, reason: "no_real",
		prepare: func(t *testing.T, r *rig) { r.setVIPs(t, Slot{}, func(*VIP) {}) }},
	{name: "real out of range", slot: Slot{Primary: MaxReals, Secondary: MaxReals}, verdict: xdpDrop, reason: "no_real"},
	{name: "real without entry", slot: Slot{Primary: noReal, Secondary: noReal}, verdict: xdpDrop, reason: "no_real"},
	{name: "next hop unresolved", verdict: xdpDrop, reason: "no_next_hop",
		prepare: func(t *testing.T, r *rig) { put(t, r.Reals.Put(uint32(mx1Index), newReal(mx1, 0))) }},
}

func TestLB(t *testing.T) { runLB(t, lbCases) }
