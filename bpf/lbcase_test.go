package bpf

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket/layers"
)

// target is a real as the cases know it.
type target struct {
	index   uint16
	addr    netip.Addr
	kind    uint8
	ifindex uint32 // 0: the ingress
	mtu     uint16 // 0: mtu
	tags    []pkttest.Tag
}

var (
	ipip4  = target{index: mx1Index, addr: mx1}
	ipip4b = target{index: mx2Index, addr: mx2, ifindex: otherLink}
	ipip6  = target{index: 3, addr: netip.MustParseAddr("2001:db8:2::9")}
	gue4   = target{index: 4, addr: netip.MustParseAddr("198.51.100.11"), kind: KindGUE}
	gue4b  = target{index: 5, addr: netip.MustParseAddr("198.51.100.12"), kind: KindGUE}
	gue6   = target{index: 6, addr: netip.MustParseAddr("2001:db8:2::11"), kind: KindGUE}
	gue6b  = target{index: 7, addr: netip.MustParseAddr("2001:db8:2::12"), kind: KindGUE}
	l2     = target{index: 8, addr: netip.MustParseAddr("198.51.100.13"), kind: KindL2}
	l2v6   = target{index: 9, addr: netip.MustParseAddr("2001:db8:2::13"), kind: KindL2}

	targets = []target{ipip4, ipip4b, ipip6, gue4, gue4b, gue6, gue6b, l2, l2v6}
)

// noReal is an index without an entry.
const noReal = 12

// real gives the entry in the map.
func (x target) real() Real {
	r := Real{
		Addr: Addr(x.addr), Source: Addr(lbAddr), Ifindex: ingress, Mtu: mtu, Sum: OuterSum(lbAddr, x.addr),
		DstMac: [6]byte(pkttest.MAC(9)), SrcMac: [6]byte(pkttest.MAC(2)), Kind: x.kind, Tags: uint8(len(x.tags)),
	}
	if x.addr.Is6() {
		r.Source, r.Flags = Addr(lbAddr6), RealIPv6
	}
	if x.ifindex != 0 {
		r.Ifindex = x.ifindex
	}
	if x.mtu != 0 {
		r.Mtu = x.mtu
	}
	for i, tag := range x.tags {
		r.Tag[i].Proto, r.Tag[i].Tci = Port(tag.Proto), Port(tag.TCI)
	}
	return r
}

// put writes the real into the map.
func (x target) put(t testing.TB, r *rig) {
	t.Helper()
	put(t, r.Reals.Put(uint32(x.index), x.real()))
}

// source is the balancer's own address on the way to the real.
func (x target) source() netip.Addr {
	if x.addr.Is4() {
		return lbAddr
	}
	return lbAddr6
}

// made gives a frame, new each time.
type made func() *pkttest.Frame

// gets is what leaves for the real when the frame comes in.
func (x target) gets(f made) made {
	return func() *pkttest.Frame { return x.getsBy(f, hashOfFrame(f()))() }
}

// getsBy is the same where the hash is not that of the frame's own ports.
func (x target) getsBy(f made, hash uint64) made {
	return x.getsWith(f, hash, netip.Addr{})
}

// getsWith is the same with the address of a second hop.
func (x target) getsWith(f made, hash uint64, second netip.Addr) made {
	return func() *pkttest.Frame {
		g := f()
		g.SetTTL(g.TTL() - 1)
		g.Eth.SrcMAC, g.Eth.DstMAC, g.Tags = pkttest.MAC(2), pkttest.MAC(9), x.tags
		if x.kind == KindL2 {
			return g
		}
		return g.Wrap(pkttest.Tunnel{Src: x.source(), Dst: x.addr, Hash: hash, GUE: x.kind == KindGUE, Second: second})
	}
}

func steady(x target) Slot { return Slot{Primary: x.index, Secondary: x.index} }
func moving(primary, secondary target) Slot {
	return Slot{Primary: primary.index, Secondary: secondary.index}
}

// hashOfFrame is the hash of the flow of a TCP segment or a datagram.
func hashOfFrame(f *pkttest.Frame) uint64 {
	src, dst, proto := flowOfFrame(f)
	return hashOf(src, dst, proto)
}

func flowOfFrame(f *pkttest.Frame) (src, dst netip.AddrPort, proto uint8) {
	from, to := f.IP.SrcIP, f.IP.DstIP
	if f.IP6 != nil {
		from, to = f.IP6.SrcIP, f.IP6.DstIP
	}
	s, _ := netip.AddrFromSlice(from)
	d, _ := netip.AddrFromSlice(to)
	if udp, ok := f.L4.(*layers.UDP); ok {
		return netip.AddrPortFrom(s, uint16(udp.SrcPort)), netip.AddrPortFrom(d, uint16(udp.DstPort)), 17
	}
	tcp := f.L4.(*layers.TCP)
	return netip.AddrPortFrom(s, uint16(tcp.SrcPort)), netip.AddrPortFrom(d, uint16(tcp.DstPort)), 6
}

// flowID is what a rig stores of a frame's flow.
func flowID(f *pkttest.Frame) FlowID {
	bucket, tag := flowPlace(trackID(hashOfFrame(f)), rigFlows)
	return FlowID{bucket / 2, tag}
}

// tcp, udp, tcp6 and udp6 are the valid packets; syn and syn6 open a connection.
func tcp() *pkttest.Frame  { return pkttest.New(client, vipTCP) }
func udp() *pkttest.Frame  { return pkttest.NewUDP(client, vipUDP) }
func tcp6() *pkttest.Frame { return pkttest.New(client6, vipTCP6) }
func udp6() *pkttest.Frame { return pkttest.NewUDP(client6, vipUDP6) }

var (
	syn  = with(tcp, opening)
	syn6 = with(tcp6, opening)
)

func opening(f *pkttest.Frame) { f.L4.(*layers.TCP).SYN, f.L4.(*layers.TCP).ACK = true, false }

// with gives the frame after some changes.
func with(f made, changes ...func(f *pkttest.Frame)) made {
	return func() *pkttest.Frame {
		g := f()
		for _, change := range changes {
			change(g)
		}
		return g
	}
}

func payload(n int) func(*pkttest.Frame) {
	return func(f *pkttest.Frame) { f.Payload = make([]byte, n) }
}
func ttl(n uint8) func(*pkttest.Frame) { return func(f *pkttest.Frame) { f.SetTTL(n) } }
func tos(n uint8) func(*pkttest.Frame) { return func(f *pkttest.Frame) { f.SetTOS(n) } }
func vlans(tags ...pkttest.Tag) func(*pkttest.Frame) {
	return func(f *pkttest.Frame) { f.Tags = tags }
}
func trailer(n int) func(*pkttest.Frame) {
	return func(f *pkttest.Frame) { f.Trailer = slices.Repeat([]byte{0xee}, n) }
}
func headers(ext ...pkttest.Ext) func(*pkttest.Frame) {
	return func(f *pkttest.Frame) { f.Ext = ext }
}

func cut(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }

func set(offset int, value ...byte) func([]byte) []byte {
	return func(b []byte) []byte {
		copy(b[offset:], value)
		return b
	}
}

const ipAt, l4At = pkttest.IPStart, pkttest.L4Start

type lbCase struct {
	name    string
	slot    Slot         // of every flow; the zero value stands for ipip4
	vip     func(v *VIP) // changes the VIPs
	prepare func(t *testing.T, r *rig)
	frame   made                  // nil: the valid packet
	mangle  func(b []byte) []byte // of the bytes that go in
	verdict uint32                //
	reason  string                // of a drop
	want    made                  // nil: the packet is as it came in
	moves   func(m *moved)        // what else moves than a drop, or a packet on its way to a real
	held    int                   // frames that user space gets
	limited bool                  // a dry run is not
}

// answered has a packet be answered, not sent on.
func answered(which Replies) func(m *moved) {
	return func(m *moved) { m.VIPs, m.Replies = nil, which }
}

// counted has a packet be counted for another VIP.
func counted(index uint32) func(m *moved) {
	return func(m *moved) {
		for i, c := range m.VIPs {
			delete(m.VIPs, i)
			m.VIPs[index] = c
		}
	}
}

// sent is what moves with one packet on its way to a real.
func sent(frame []byte) moved {
	at := ipAt
	for binary.BigEndian.Uint16(frame[at-2:]) != 0x0800 && binary.BigEndian.Uint16(frame[at-2:]) != 0x86dd {
		at += pkttest.TagLen
	}
	index, n := uint32(vipIndex), binary.BigEndian.Uint16(frame[at+2:])
	if frame[at]>>4 == 6 {
		index, n = vip6Index, pkttest.IP6Len+binary.BigEndian.Uint16(frame[at+4:])
	}
	return moved{VIPs: map[uint32]Count{index: {Packets: 1, Bytes: uint64(n)}}}
}

func dropped(reason string) moved { return moved{Drops: map[string]uint64{reason: 1}} }

// runLB runs the cases on one balancer.
func runLB(t *testing.T, cases []lbCase) {
	r := newRig(t)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) { r.run(t, tc) })
	}
}

// run gives the frame that went in, and the one that had to come out.
func (r *rig) run(t *testing.T, tc lbCase) (in, want []byte) {
	t.Helper()
	r.begin(t, tc)
	if tc.frame == nil {
		tc.frame = tcp
	}
	in = tc.frame().Bytes(t)
	if tc.mangle != nil {
		in = tc.mangle(in)
	}
	want = in
	var moves moved
	switch {
	case tc.reason != "":
		moves = dropped(tc.reason)
	case tc.want != nil:
		want, moves = tc.want().Bytes(t), sent(in)
	}
	if tc.moves != nil {
		tc.moves(&moves)
	}
	if !tc.limited {
		r.runDry(t, tc, in, want)
	}
	verdict, out, err := r.prog.Test(in)
	put(t, err)
	if verdict != tc.verdict {
		t.Errorf("verdict %v, want %v", Verdict(verdict), Verdict(tc.verdict))
	}
	if diff := pkttest.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	r.check(t, moves, tc.held)
	return in, want
}

// begin brings the maps to where the case begins.
func (r *rig) begin(t *testing.T, tc lbCase) {
	t.Helper()
	if r.clean {
		r.forget(t)
	} else {
		r.reset(t)
	}
	// answers take tokens, and moves may be entries in maps
	r.clean = tc.prepare == nil && tc.vip == nil && tc.slot == (Slot{}) && tc.moves == nil
	if tc.slot == (Slot{}) {
		tc.slot = steady(ipip4)
	}
	if tc.vip == nil {
		tc.vip = func(*VIP) {}
	}
	if !r.clean {
		r.setVIPs(t, tc.slot, tc.vip)
	}
	if tc.prepare != nil {
		tc.prepare(t, r)
		r.forget(t)
	}
}

// runDry has the packet explained: the same must come out, and nothing may move.
func (r *rig) runDry(t *testing.T, tc lbCase, in, want []byte) {
	t.Helper()
	var before moved
	if tc.prepare != nil {
		before = r.moved(t)
	}
	trace, out, err := r.Explain(in, ingress)
	put(t, err)
	reason := tc.reason
	if reason == "" {
		reason = "none"
	}
	if trace.Verdict != tc.verdict || ReasonName(trace.Reason) != reason {
		t.Errorf("explained as %v, %s; want %v, %s", Verdict(trace.Verdict), ReasonName(trace.Reason), Verdict(tc.verdict), reason)
	}
	if diff := pkttest.Diff(want, out); diff != "" {
		t.Errorf("explained: %s", diff)
	}
	r.check(t, before, 0)
}

// check holds what has moved to what should have.
func (r *rig) check(t *testing.T, want moved, held int) {
	t.Helper()
	if diff := cmp.Diff(want, r.moved(t), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("moved (-want +got):\n%s", diff)
	}
	if got := r.takeHeld(t); len(got) != held {
		t.Errorf("%d frames are held, want %d", len(got), held)
	}
}
