package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"anycastle/internal/pkttest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket/layers"
)

// cutFlow is a packet in three fragments.
type cutFlow struct {
	name  string
	whole made
	hash  uint64
	index uint32 // of the VIP's counter
	key   FragmentKey
}

// cutSize is the payload of all fragments but the last.
const cutSize = 64

// cutFlows are packets of both families and protocols.
func cutFlows() []cutFlow {
	var all []cutFlow
	for _, p := range packets {
		whole := with(p.frame, payload(150))
		src, dst, proto := flowOfFrame(whole())
		f := cutFlow{name: p.name, whole: whole, hash: hashOfFrame(whole()), index: vipIndex}
		f.key = FragmentKey{Src: Addr(src.Addr()), Dst: Addr(dst.Addr()), Id: uint32(Port(fragmentID & 0xffff)), Proto: proto, Family: 4}
		if src.Addr().Is6() {
			f.index, f.key.Family = vip6Index, 6
			f.key.Id = binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, fragmentID))
		}
		all = append(all, f)
	}
	return all
}

// piece gives the first, second or third fragment.
func (f cutFlow) piece(t testing.TB, i int) made {
	return func() *pkttest.Frame { return f.whole().Fragments(t, cutSize, fragmentID)[i] }
}

// kept is what is kept of the flow after its first fragment.
func (f cutFlow) kept(to, second target) func(m *moved) {
	return func(m *moved) {
		m.Fragments = map[FragmentKey]Fragment{f.key: {Vip: f.index + 1, Real: to.index, Second: second.index, Hash: uint32(f.hash)}}
	}
}

// begun sends the first fragment.
func (f cutFlow) begun(t *testing.T, r *rig) {
	t.Helper()
	_, _, err := r.prog.Test(f.piece(t, 0)().Bytes(t))
	put(t, err)
}

func TestLBFragments(t *testing.T) {
	none := target{}
	var cases []lbCase
	for _, f := range cutFlows() {
		first, second, last := f.piece(t, 0), f.piece(t, 1), f.piece(t, 2)
		for _, k := range kinds {
			name := f.name + " by " + k.name
			cases = append(cases,
				lbCase{name: name + ", first", slot: steady(k.to), frame: first, verdict: xdpTX, want: k.to.getsBy(first, f.hash), moves: f.kept(k.to, none)},
				lbCase{name: name + ", second", slot: steady(k.to), prepare: f.begun, frame: second, verdict: xdpTX,
					want: k.to.getsBy(second, f.hash), moves: f.kept(k.to, none)},
				lbCase{name: name + ", last", slot: steady(k.to), prepare: f.begun, frame: last, verdict: xdpTX,
					want: k.to.getsBy(last, f.hash), moves: f.kept(k.to, none)})
		}
		cases = append(cases,
			lbCase{name: f.name + ", another link", slot: steady(ipip4b), prepare: f.begun, frame: second, verdict: xdpRedirect,
				want: ipip4b.getsBy(second, f.hash), moves: f.kept(ipip4b, none)},
			lbCase{name: f.name + ", tags", prepare: f.begun, frame: with(second, vlans(twoTags...)), verdict: xdpTX,
				want: ipip4.getsBy(second, f.hash), moves: f.kept(ipip4, none)},
			lbCase{name: f.name + ", last of a byte", prepare: f.begun, frame: tiny(last), verdict: xdpTX, want: ipip4.getsBy(tiny(last), f.hash),
				moves: f.kept(ipip4, none)},
			lbCase{name: f.name + ", second before the first", frame: second, verdict: xdpDrop, reason: "fragment_early", held: 1},
			lbCase{name: f.name + ", last before the first", frame: last, verdict: xdpDrop, reason: "fragment_early", held: 1},
			lbCase{name: f.name + ", second on its last hop", prepare: f.begun, frame: with(second, ttl(1)), verdict: xdpDrop, reason: "ttl_expired",
				moves: f.kept(ipip4, none)},
			lbCase{name: f.name + ", first of another packet with the same id", frame: first, verdict: xdpTX, want: ipip4.getsBy(first, f.hash),
				prepare: func(t *testing.T, r *rig) {
					r.setVIPs(t, steady(gue6), func(*VIP) {})
					f.begun(t, r)
					r.setVIPs(t, steady(ipip4), func(*VIP) {})
				}, moves: f.kept(ipip4, none)},
			lbCase{name: f.name + ", first for nobody", frame: first, verdict: xdpDrop, reason: "no_real",
				prepare: func(t *testing.T, r *rig) { r.setVIPs(t, Slot{}, func(*VIP) {}) }},
			lbCase{name: f.name + ", second for a real that is gone", frame: second, verdict: xdpDrop, reason: "no_real",
				prepare: func(t *testing.T, r *rig) { f.begun(t, r); put(t, r.Reals.Put(uint32(mx1Index), Real{})) }, moves: f.kept(ipip4, none)},
			lbCase{name: f.name + ", first for a real that is not resolved", frame: first, verdict: xdpDrop, reason: "no_next_hop",
				prepare: func(t *testing.T, r *rig) { put(t, r.Reals.Put(uint32(mx1Index), newReal(mx1, 0))) }, moves: f.kept(ipip4, none)},
			lbCase{name: f.name + ", second when the table has changed", frame: second, verdict: xdpTX, want: ipip4.getsBy(second, f.hash),
				prepare: func(t *testing.T, r *rig) { f.begun(t, r); r.setVIPs(t, steady(gue6), func(*VIP) {}) }, moves: f.kept(ipip4, none)},
		)
	}
	runLB(t, cases)
}

// tiny has a fragment be shorter than any header.
func tiny(f made) made { return with(f, func(f *pkttest.Frame) { f.Payload = f.Payload[:1] }) }

// TestLBStrangeFragments has the first fragment of another packet be known, as near as can be.
func TestLBStrangeFragments(t *testing.T) {
	none := target{}
	var cases []lbCase
	for _, f := range cutFlows() {
		early := func(name string, change func(f *pkttest.Frame)) {
			cases = append(cases, lbCase{name: f.name + ", " + name, prepare: f.begun, frame: with(f.piece(t, 1), change), verdict: xdpDrop,
				reason: "fragment_early", moves: f.kept(ipip4, none), held: 1})
		}
		other := layers.IPProtocolTCP
		if f.key.Proto == 6 {
			other = layers.IPProtocolUDP
		}
		if f.key.Family == 4 {
			early("another id", func(f *pkttest.Frame) { f.IP.Id++ })
			early("another protocol", func(f *pkttest.Frame) { f.IP.Protocol = other })
			early("another source", func(f *pkttest.Frame) { f.IP.SrcIP = netip.MustParseAddr("192.0.2.8").AsSlice() })
			continue
		}
		early("another id", func(g *pkttest.Frame) { g.Ext = []pkttest.Ext{pkttest.FragmentAt(cutSize, true, fragmentID+1<<31)} })
		early("another protocol", func(f *pkttest.Frame) { f.IP6.NextHeader = other })
		early("another source", func(f *pkttest.Frame) { f.IP6.SrcIP = netip.MustParseAddr("2001:db8::8").AsSlice() })
	}
	runLB(t, cases)
}

// TestLBFragmentsOfAgents keeps the second hop, too.
func TestLBFragmentsOfAgents(t *testing.T) {
	var cases []lbCase
	for _, f := range cutFlows() {
		for _, pair := range [][2]target{{gue4, gue4b}, {gue6, gue6b}} {
			to, second, hop := pair[0], pair[1], pair[1].addr
			if f.key.Proto == 17 {
				second, hop = target{}, netip.Addr{}
			}
			for i := range 3 {
				c := lbCase{name: fmt.Sprintf("%s to %v, piece %d", f.name, to.addr, i), slot: moving(to, pair[1]), vip: secondChance, frame: f.piece(t, i),
					verdict: xdpTX, want: to.getsWith(f.piece(t, i), f.hash, hop), moves: f.kept(to, second)}
				if i > 0 {
					c.prepare = f.begun
				}
				cases = append(cases, c)
			}
		}
	}
	runLB(t, cases)
}

// TestLBLargeFragments has fragments fill the link, and be a byte larger. Only a first fragment is answered: the sender's
// kernel finds no socket by a later one.
func TestLBLargeFragments(t *testing.T) {
	none := target{}
	var cases []lbCase
	for _, f := range cutFlows() {
		header := 20
		if f.key.Family == 6 {
			header = 48
		}
		f.whole = with(f.whole, payload(4000))
		cutAt := func(size, i int) made {
			return func() *pkttest.Frame { return f.whole().Fragments(t, size, fragmentID)[i] }
		}
		begun := func(limit int) func(t *testing.T, r *rig) {
			return func(t *testing.T, r *rig) { f.begun(t, r); limitedTo(ipip4, uint16(limit))(t, r) }
		}
		const size = 1200
		fits := size + header + 20
		cases = append(cases,
			lbCase{name: f.name + ", first fills the link", prepare: limitedTo(ipip4, uint16(fits)), frame: cutAt(size, 0), verdict: xdpTX,
				want: ipip4.getsBy(cutAt(size, 0), f.hash), moves: f.kept(ipip4, none)},
			lbCase{name: f.name + ", first too big", prepare: limitedTo(ipip4, uint16(fits-1)), frame: cutAt(size, 0), verdict: xdpTX,
				want: tooBigAnswer(t, cutAt(size, 0), uint32(fits-21)), moves: func(m *moved) { answered(Replies{TooBig: 1})(m); f.kept(ipip4, none)(m) }},
			lbCase{name: f.name + ", second fills the link", prepare: begun(fits), frame: cutAt(size, 1), verdict: xdpTX,
				want: ipip4.getsBy(cutAt(size, 1), f.hash), moves: f.kept(ipip4, none)},
			lbCase{name: f.name + ", second too big", prepare: begun(fits - 1), frame: cutAt(size, 1), verdict: xdpDrop, reason: "too_big",
				moves: f.kept(ipip4, none)})
	}
	runLB(t, cases)
}

func TestLBRefusedFragments(t *testing.T) {
	at6 := func(offset int, more bool, ext ...pkttest.Ext) func(f *pkttest.Frame) {
		return func(f *pkttest.Frame) {
			f.Ext = append(slices.Clone(ext), pkttest.FragmentAt(offset, more, 9))
		}
	}
	behind := func(f made, ext ...pkttest.Ext) made {
		return with(f, func(f *pkttest.Frame) { f.Ext = append(f.Ext, ext...) })
	}
	echo := func() *pkttest.Frame { return pkttest.NewEcho(client.Addr(), vipTCP.Addr()) }
	var cases []lbCase
	add := func(name string, f made, mangle func([]byte) []byte, verdict uint32, reason string) {
		cases = append(cases, lbCase{name: name, frame: f, mangle: mangle, verdict: verdict, reason: reason})
	}
	const first, later = 0x20, 0x01 // flags and offset: more to come; 256 units of 8 bytes
	add("first of icmp", echo, set(ipAt+6, first), xdpDrop, "fragment")
	add("later of icmp", echo, set(ipAt+6, later), xdpDrop, "fragment")
	add("first of icmpv6", with(echo6, at6(0, true)), nil, xdpDrop, "fragment")
	add("later of icmpv6", with(echo6, at6(64, false)), nil, xdpDrop, "fragment")
	add("first of tcp, which ends in the ports", tcp, func(b []byte) []byte { return set(ipAt+6, first)(set(ipAt+2, 0, 23)(b)) }, xdpDrop, "truncated")
	add("first of tcp, which ends behind the ports", tcp, func(b []byte) []byte { return set(ipAt+6, first)(set(ipAt+2, 0, 39)(b)) }, xdpDrop, "truncated")
	add("first of udp, which ends in its header", udp, func(b []byte) []byte { return set(ipAt+6, first)(set(ipAt+2, 0, 27)(b)) }, xdpDrop, "truncated")
	add("first of tcp in v6, which ends behind the ports", with(tcp6, at6(0, true)), ends(8+19), xdpDrop, "truncated")
	add("first of udp in v6, which ends in its header", with(udp6, at6(0, true)), ends(8+7), xdpDrop, "truncated")
	add("later of options in v6", behind(with(tcp6, at6(64, true)), pkttest.Destination(0)), nil, xdpDrop, "ext_header")
	add("later of a routing header in v6", behind(with(tcp6, at6(64, false)), pkttest.Routing(0)), nil, xdpDrop, "ext_header")
	add("first of nine headers", behind(with(tcp6, at6(0, true)), nHeaders(8)...), nil, xdpDrop, "ext_header")
	add("later behind nine headers", with(tcp6, at6(64, false, slices.Repeat([]pkttest.Ext{pkttest.Destination(0)}, 8)...)), nil, xdpDrop, "ext_header")

	add("first of sctp", tcp, func(b []byte) []byte { return set(ipAt+9, 132)(set(ipAt+6, first)(b)) }, xdpPass, "")
	add("later of sctp", tcp, func(b []byte) []byte { return set(ipAt+9, 132)(set(ipAt+6, later)(b)) }, xdpPass, "")
	add("first of sctp in v6", with(tcp6, at6(0, true), func(f *pkttest.Frame) { f.IP6.NextHeader = 132 }), nil, xdpPass, "")
	add("later of sctp in v6", with(tcp6, at6(64, true), func(f *pkttest.Frame) { f.IP6.NextHeader = 132 }), nil, xdpPass, "")
	add("later to elsewhere", elsewhere, set(ipAt+6, later), xdpPass, "")
	add("later to elsewhere in v6", with(elsewhere6, at6(64, true)), nil, xdpPass, "")
	add("first for another port", otherPort, set(ipAt+6, first), xdpPass, "")
	add("icmp to elsewhere", func() *pkttest.Frame { return pkttest.NewEcho(client.Addr(), netip.MustParseAddr("203.0.113.11")) }, set(ipAt+6, first), xdpPass, "")
	add("icmpv6 to elsewhere", with(func() *pkttest.Frame { return pkttest.NewEcho(client6.Addr(), elsewhereAddr6) }, at6(64, true)), nil, xdpPass, "")

	// the last of eight headers says that it is a fragment
	seven := slices.Repeat([]pkttest.Ext{pkttest.Destination(0)}, 7)
	cases = append(cases, lbCase{name: "later behind eight headers", frame: with(tcp6, at6(64, false, seven...)), verdict: xdpDrop, reason: "fragment_early", held: 1})
	runLB(t, cases)
}

var elsewhereAddr6 = netip.MustParseAddr("2001:db8:1::11")

// TestFragmentsBehindHeaders has extension headers in every fragment, and in the first alone.
func TestFragmentsBehindHeaders(t *testing.T) {
	f := cutFlows()[2] // TCP in IPv6
	none := target{}
	f.whole = with(f.whole, headers(pkttest.HopByHop(0), pkttest.Destination(1)))
	inside := with(f.piece(t, 0), func(f *pkttest.Frame) { f.Ext = append(f.Ext, pkttest.Destination(0)) })
	cases := []lbCase{{name: "options behind the fragment header", frame: inside, verdict: xdpTX, want: ipip4.getsBy(inside, f.hash), moves: f.kept(ipip4, none)}}
	for name, ext := range map[string]pkttest.Ext{"behind": pkttest.FragmentAt(0, false, 99), "of 0 behind": pkttest.FragmentAt(0, false, 0)} {
		f := with(f.piece(t, 0), func(f *pkttest.Frame) { f.Ext = append(f.Ext, ext) })
		cases = append(cases, lbCase{name: "atomic fragment's header " + name, frame: f, verdict: xdpTX, want: ipip4.getsBy(f, hash6()), moves: cutFlows()[2].kept(ipip4, none)})
	}
	for i := range 3 {
		c := lbCase{name: fmt.Sprintf("piece %d", i), frame: f.piece(t, i), verdict: xdpTX, want: ipip4.getsBy(f.piece(t, i), f.hash), moves: f.kept(ipip4, none)}
		if i > 0 {
			c.prepare = f.begun
		}
		cases = append(cases, c)
	}
	runLB(t, cases)
}

// TestFragmentTime has the first fragment have come so long ago.
func TestFragmentTime(t *testing.T) {
	r := newRig(t)
	for _, f := range cutFlows() {
		for _, tc := range []struct {
			ago  time.Duration
			want uint32
		}{
			{0, xdpTX}, {20 * time.Second, xdpTX}, {30*time.Second + 1, xdpDrop}, {time.Hour, xdpDrop},
		} {
			r.reset(t)
			at := uint64(monotonic() - tc.ago) // if the machine is younger than that, the program's difference is right all the same
			put(t, r.Fragments.Put(f.key, Fragment{At: at, Vip: f.index + 1, Real: mx1Index, Hash: uint32(f.hash)}))
			verdict, _, err := r.prog.Test(f.piece(t, 1)().Bytes(t))
			put(t, err)
			if verdict != tc.want {
				t.Errorf("%s, %v after the first: verdict %v, want %v", f.name, tc.ago, Verdict(verdict), Verdict(tc.want))
			}
		}
	}
}

// TestHeldFragment looks at what user space gets: the whole frame, and where it came in. One that is larger than any
// link's that makes fragments for want of a larger MTU is not kept.
func TestHeldFragment(t *testing.T) {
	r := newRig(t)
	for _, f := range cutFlows() {
		for _, size := range []int{150, 1514, MaxCapLen, MaxCapLen + 1} { // of the frame, filled up behind the packet
			frame := with(f.piece(t, 1), vlans(twoTags...))()
			frame.Trailer = make([]byte, size-len(frame.Bytes(t)))
			in := frame.Bytes(t)
			verdict, _, err := r.prog.Test(in)
			put(t, err)
			if verdict != xdpDrop {
				t.Errorf("%s of %d bytes: verdict %v", f.name, len(in), Verdict(verdict))
			}
			held := r.takeHeld(t)
			if len(in) > MaxCapLen {
				if len(held) != 0 {
					t.Errorf("%s of %d bytes is held", f.name, len(in))
				}
				continue
			}
			if len(held) != 1 || !bytes.Equal(held[0].In, in) || len(held[0].Out) != 0 {
				t.Errorf("%s of %d bytes: %d held", f.name, len(in), len(held))
				continue
			}
			want := Trace{Verdict: xdpDrop, Reason: Reasons()["fragment_early"], Ifindex: ingress, InLen: uint32(len(in)), InCap: uint16(len(in))}
			if diff := cmp.Diff(want, held[0].Trace, cmpopts.IgnoreFields(Trace{}, "At")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", f.name, diff)
			}
		}
	}
	// in the order of things: the later one waits, the first passes, the later one is sent again and passes
	for _, f := range cutFlows() {
		r.reset(t)
		var verdicts []uint32
		for _, i := range []int{2, 1, 0, 2, 1} {
			verdict, _, err := r.prog.Test(f.piece(t, i)().Bytes(t))
			put(t, err)
			verdicts = append(verdicts, verdict)
		}
		if want := []uint32{xdpDrop, xdpDrop, xdpTX, xdpTX, xdpTX}; !slices.Equal(verdicts, want) {
			t.Errorf("%s: verdicts %v, want %v", f.name, verdicts, want)
		}
	}
}
