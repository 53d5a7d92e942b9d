package bpf

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"path/filepath"
	"testing"

	"anycastle/internal/netnstest"
	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
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
	mx1Index  = 1
	mx2Index  = 2
	mtu       = 1500
)

// newLB gives a loaded balancer with a TCP VIP and a UDP VIP on one farm, all slots of which hold mx1. mx1 is reached
// through the ingress, mx2 through another link.
func newLB(t testing.TB) *LB {
	t.Helper()
	lb, err := LoadLB(pinDir(t), hashKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lb.Close() })
	fill(t, lb)
	return lb
}

// fill brings the maps to where every case begins.
func fill(t testing.TB, lb *LB) {
	t.Helper()
	empty(t, lb)
	put(t, lb.Reals.Put(uint32(mx1Index), newReal(mx1, ingress)))
	put(t, lb.Reals.Put(uint32(mx2Index), newReal(mx2, otherLink)))
	setTable(t, lb, allSlots(mx1Index))
	addr := Addr4(vipTCP.Addr())
	put(t, lb.Addresses.Put(AddressKey(vipTCP.Addr()), Address{Flags: AddressInService}))
	put(t, lb.VIPs4.Put(VIPKey4{Addr: addr, Port: Port(25), Proto: 6}, VIP{Farm: farm, Index: vipIndex}))
	put(t, lb.VIPs4.Put(VIPKey4{Addr: addr, Port: Port(53), Proto: 17}, VIP{Farm: farm, Index: vipIndex}))
}

// empty clears every map, and every counter.
func empty(t testing.TB, lb *LB) {
	t.Helper()
	for _, m := range []*ebpf.Map{lb.VIPs4, lb.VIPs6, lb.Addresses, lb.Flows, lb.Fragments, lb.objs.Uplinks} {
		clearMap(t, m)
	}
	for farm := range uint32(MaxFarms) {
		if err := lb.Farms.Delete(farm); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Fatal(err)
		}
	}
	for index := range uint32(16) { // no case uses more
		put(t, lb.Reals.Put(index, Real{}))
	}
	cpus, err := ebpf.PossibleCPU()
	put(t, err)
	for index := range uint32(lbReasonREASON_MAX) {
		put(t, lb.drops.Put(index, make([]uint64, cpus)))
	}
	for index := range uint32(lbReplyREPLY_MAX) {
		put(t, lb.objs.Replies.Put(index, make([]uint64, cpus)))
	}
	for index := range uint32(MaxVIPs) {
		put(t, lb.Counts.Put(index, make([]Count, cpus)))
	}
	put(t, lb.objs.Buckets.Put(uint32(0), make([]lbBucket, cpus)))
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

func setTable(t testing.TB, lb *LB, slots []Slot) {
	t.Helper()
	table, err := lb.NewTable(slots)
	put(t, err)
	put(t, lb.Farms.Put(uint32(farm), table))
	put(t, table.Close())
}

func put(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// moved is every counter that is not 0.
type moved struct {
	Drops map[string]uint64
	VIPs  map[uint32]Count
}

func counters(t testing.TB, lb *LB) moved {
	t.Helper()
	m := moved{Drops: nonZero(t, &lb.program), VIPs: map[uint32]Count{}}
	for i := range uint32(MaxVIPs) {
		c, err := SumCount(lb.Counts, i)
		put(t, err)
		if c != (Count{}) {
			m.VIPs[i] = c
		}
	}
	return m
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

// sent is the counter of one packet on its way to a real.
func sent(frame []byte) moved {
	n := binary.BigEndian.Uint16(frame[pkttest.IPStart+2:])
	return moved{Drops: map[string]uint64{}, VIPs: map[uint32]Count{vipIndex: {Packets: 1, Bytes: uint64(n)}}}
}

func dropped(reason string) moved {
	return moved{Drops: map[string]uint64{reason: 1}, VIPs: map[uint32]Count{}}
}

var noPrefix netip.Prefix

var nothing = moved{Drops: map[string]uint64{}, VIPs: map[uint32]Count{}}

type lbCase struct {
	name    string
	prepare func(t *testing.T, lb *LB)
	frame   func() *pkttest.Frame // nil: the valid packet
	mangle  func(b []byte) []byte // of the bytes that go in
	verdict uint32                //
	reason  string                // of a drop
	trailer []byte                // padding of the Ethernet frame, in and out
	want    func() *pkttest.Frame // nil: the packet is as it came in
}

// tcp and udp are the valid packets.
func tcp() *pkttest.Frame { return pkttest.New(client, vipTCP) }
func udp() *pkttest.Frame { return pkttest.NewUDP(client, vipUDP) }

// wrapped is what leaves for a packet that came in: one hop older and inside another.
func wrapped(f *pkttest.Frame, real netip.Addr) *pkttest.Frame {
	f.IP.TTL--
	f.Encapsulate(lbAddr, real)
	f.Outer.TTL = f.IP.TTL
	f.Eth.SrcMAC, f.Eth.DstMAC = pkttest.MAC(2), pkttest.MAC(9)
	return f
}

func toMX1(f func() *pkttest.Frame) func() *pkttest.Frame {
	return func() *pkttest.Frame { return wrapped(f(), mx1) }
}

func with(change func(f *pkttest.Frame)) func() *pkttest.Frame {
	return func() *pkttest.Frame {
		f := tcp()
		change(f)
		return f
	}
}

func cut(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }

func set(offset int, value ...byte) func([]byte) []byte {
	return func(b []byte) []byte {
		copy(b[offset:], value)
		return b
	}
}

const ipAt, l4At = pkttest.IPStart, pkttest.L4Start

var (
	options   = with(func(f *pkttest.Frame) { f.IP.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}} })
	payload   = func(n int) func() *pkttest.Frame { return with(func(f *pkttest.Frame) { f.Payload = make([]byte, n) }) }
	ttl       = func(n uint8) func() *pkttest.Frame { return with(func(f *pkttest.Frame) { f.IP.TTL = n }) }
	largest   = payload(mtu - 3*20)
	tooLarge  = payload(mtu - 3*20 + 1)
	vlan      = with(func(f *pkttest.Frame) { f.Eth.EthernetType = layers.EthernetTypeDot1Q })
	elsewhere = func() *pkttest.Frame {
		return pkttest.New(client, netip.MustParseAddrPort("203.0.113.11:25"))
	}
	otherPort = func() *pkttest.Frame { return pkttest.New(client, vipUDP) }
)

var lbCases = []lbCase{
	{name: "tcp", verdict: xdpTX, want: toMX1(tcp)},
	{name: "udp", frame: udp, verdict: xdpTX, want: toMX1(udp)},
	{name: "ethernet padding", verdict: xdpTX, want: toMX1(tcp), trailer: make([]byte, 6)},
	{name: "options travel inside", frame: options, verdict: xdpTX, want: toMX1(options)},
	{name: "largest that fits", frame: largest, verdict: xdpTX, want: toMX1(largest)},
	{name: "last but one hop", frame: ttl(2), verdict: xdpTX, want: toMX1(ttl(2))},
	{name: "another link", verdict: xdpRedirect,
		prepare: func(t *testing.T, lb *LB) { setTable(t, lb, allSlots(mx2Index)) },
		want:    func() *pkttest.Frame { return wrapped(tcp(), mx2) }},
	{name: "redirect where tx does not do", verdict: xdpRedirect, want: toMX1(tcp),
		prepare: func(t *testing.T, lb *LB) {
			r := newReal(mx1, ingress)
			r.Flags = RealRedirect
			put(t, lb.Reals.Put(uint32(mx1Index), r))
		}},

	{name: "not a vip", frame: elsewhere, verdict: xdpPass},
	{name: "vip of another port", frame: otherPort, verdict: xdpPass},
	{name: "arp", mangle: set(12, 0x08, 0x06), verdict: xdpPass},
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
	{name: "version 5", mangle: set(ipAt, 0x55), verdict: xdpDrop, reason: "bad_header"},
	{name: "header of 16 bytes", mangle: set(ipAt, 0x44), verdict: xdpDrop, reason: "bad_header"},
	{name: "total length in the header", mangle: set(ipAt+2, 0, 19), verdict: xdpDrop, reason: "bad_header"},
	{name: "ttl 1", frame: ttl(1), verdict: xdpDrop, reason: "ttl_expired"},
	{name: "ttl 0", frame: ttl(0), verdict: xdpDrop, reason: "ttl_expired"},
	{name: "no table", verdict: xdpDrop, reason: "no_table",
		prepare: func(t *testing.T, lb *LB) { put(t, lb.Farms.Delete(uint32(farm))) }},
	{name: "nobody in service", verdict: xdpDrop, reason: "no_real",
		prepare: func(t *testing.T, lb *LB) { setTable(t, lb, allSlots(0)) }},
	{name: "real out of range", verdict: xdpDrop, reason: "no_real",
		prepare: func(t *testing.T, lb *LB) { setTable(t, lb, allSlots(MaxReals)) }},
	{name: "next hop unresolved", verdict: xdpDrop, reason: "no_next_hop",
		prepare: func(t *testing.T, lb *LB) { put(t, lb.Reals.Put(uint32(mx1Index), newReal(mx1, 0))) }},
}

func TestLB(t *testing.T) {
	lb := newLB(t)
	for _, tc := range lbCases {
		t.Run(tc.name, func(t *testing.T) {
			fill(t, lb)
			if tc.prepare != nil {
				tc.prepare(t, lb)
			}
			frame := tc.frame
			if frame == nil {
				frame = tcp
			}
			in := frame().Bytes(t)
			if tc.mangle != nil {
				in = tc.mangle(in)
			}
			in = append(in, tc.trailer...)
			verdict, out, err := lb.prog.Test(in)
			put(t, err)
			if verdict != tc.verdict {
				t.Errorf("verdict %d, want %d", verdict, tc.verdict)
			}
			want, moves := in, nothing
			switch {
			case tc.reason != "":
				moves = dropped(tc.reason)
			case tc.want != nil:
				want, moves = append(tc.want().Bytes(t), tc.trailer...), sent(in)
			}
			if diff := pkttest.Diff(want, out); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(moves, counters(t, lb)); diff != "" {
				t.Errorf("counters (-want +got):\n%s", diff)
			}
		})
	}
}
