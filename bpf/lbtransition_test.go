package bpf

import (
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/gopacket/gopacket/layers"
)

// about is an ICMP error of a router about a response of the server.
func about(t testing.TB, response made) made {
	return func() *pkttest.Frame {
		f := response()
		if f.IP6 != nil {
			src, _ := netip.AddrFromSlice(f.IP6.SrcIP)
			return pkttest.NewICMPError(router6, src, pkttest.TimeExceeded6, 0, 0, f.Packet(t))
		}
		src, _ := netip.AddrFromSlice(f.IP.SrcIP)
		return pkttest.NewICMPError(router, src, pkttest.TimeExceeded, 0, 0, f.Packet(t))
	}
}

// flags sets the flags of a segment, and no others.
func flags(set func(tcp *layers.TCP)) func(*pkttest.Frame) {
	return func(f *pkttest.Frame) {
		tcp := f.L4.(*layers.TCP)
		tcp.ACK = false
		set(tcp)
	}
}

// offered is a packet that comes in for a slot in transition, of a kind that such a slot tells from others.
type offered struct {
	name  string
	frame made
	flow  made // of the client, by which it is hashed
	opens bool // SYN without ACK
	tcp   bool // of a flow that a socket may know
}

// offers are the packets of one family.
func offers(t testing.TB, seg, datagram, back, backUDP made) []offered {
	syn := with(seg, opening)
	return []offered{
		{"syn", syn, seg, true, true},
		{"syn with other flags", with(seg, flags(func(tcp *layers.TCP) { tcp.SYN, tcp.ECE, tcp.CWR, tcp.PSH = true, true, true, true })), seg, true, true},
		{"ack", seg, seg, false, true},
		{"syn and ack", with(seg, flags(func(tcp *layers.TCP) { tcp.SYN, tcp.ACK = true, true })), seg, false, true},
		{"fin", with(seg, flags(func(tcp *layers.TCP) { tcp.FIN, tcp.ACK = true, true })), seg, false, true},
		{"rst", with(seg, flags(func(tcp *layers.TCP) { tcp.RST = true })), seg, false, true},
		{"no flags", with(seg, flags(func(tcp *layers.TCP) {})), seg, false, true},
		{"datagram", datagram, datagram, false, false},
		{"error about a segment", about(t, back), seg, false, true},
		{"error about a datagram", about(t, backUDP), datagram, false, false},
	}
}

func responseUDP() *pkttest.Frame  { return pkttest.NewUDP(vipUDP, client) }
func responseUDP6() *pkttest.Frame { return pkttest.NewUDP(vipUDP6, client6) }

func allOffers(t testing.TB) map[string][]offered {
	return map[string][]offered{
		"v4": offers(t, tcp, udp, response, responseUDP),
		"v6": offers(t, tcp6, udp6, response6, responseUDP6),
	}
}

func secondChance(v *VIP) { v.Flags |= VIPSecondChance }

// TestLBSecondChance has agents on both reals.
func TestLBSecondChance(t *testing.T) {
	none := target{}
	var cases []lbCase
	for family, all := range allOffers(t) {
		for _, o := range all {
			for _, slot := range [][2]target{{gue4, gue4b}, {gue4b, gue4}, {gue6, gue6b}, {gue4, none}, {none, gue4}, {gue6, none}, {none, gue6b}} {
				primary, secondary := slot[0], slot[1]
				c := lbCase{
					name: fmt.Sprintf("%s %s from %v to %v", family, o.name, secondary.addr, primary.addr),
					slot: moving(primary, secondary), vip: secondChance, frame: o.frame, verdict: xdpTX,
				}
				switch hash := hashOfFrame(o.flow()); {
				case o.opens && primary.index == 0:
					c.verdict, c.reason = xdpDrop, "no_real"
				case primary.index == 0:
					c.want = secondary.getsBy(o.frame, hash)
				case o.opens || !o.tcp:
					c.want = primary.getsBy(o.frame, hash)
				default:
					c.want = primary.getsWith(o.frame, hash, secondary.addr)
				}
				cases = append(cases, c)
			}
		}
	}
	runLB(t, cases)
}

// TestLBTracked has reals of which one at least is no agent, or which cannot pass packets on to each other, or a farm
// that tracks.
func TestLBTracked(t *testing.T) {
	none := target{}
	var cases []lbCase
	for family, all := range allOffers(t) {
		for _, o := range all {
			for _, pair := range []struct {
				primary, secondary target
				second             bool // the farm asks for second chance
			}{
				{ipip4, ipip6, false}, {ipip6, l2, false}, {gue4, gue4b, false}, {gue6, gue6b, false}, {l2, gue6, false},
				{ipip4, none, false}, {none, ipip6, false}, {gue4, none, false}, {none, l2v6, false},
				{gue4, gue6, true}, {gue6, gue4, true}, {gue4, ipip4, true}, {ipip4, gue4, true}, {l2, gue6, true}, {ipip6, none, true}, {none, ipip6, true},
			} {
				cases = append(cases, trackedCases(family, o, pair.primary, pair.secondary, pair.second)...)
			}
		}
	}
	runLB(t, cases)
}

// trackedCases are a packet of a flow that is not stored, and of one that is.
func trackedCases(family string, o offered, primary, secondary target, second bool) []lbCase {
	hash, key := hashOfFrame(o.flow()), flowID(o.flow())
	name := fmt.Sprintf("%s %s from %v (kind %d) to %v (kind %d)", family, o.name, secondary.addr, secondary.kind, primary.addr, primary.kind)
	c := lbCase{name: name, slot: moving(primary, secondary), frame: o.frame, verdict: xdpTX}
	if second {
		c.vip = secondChance
	}
	stored := c
	stored.name += ", stored"
	stored.prepare = func(t *testing.T, r *rig) { put(t, r.StoreFlow(hash, l2.index)) }
	stored.want, stored.moves = l2.getsBy(o.frame, hash), tracked(key, l2)
	switch {
	case o.opens && primary.index == 0:
		c.verdict, c.reason = xdpDrop, "no_real"
		stored.verdict, stored.reason = xdpDrop, "no_real"
	case o.opens:
		c.want, c.moves = primary.getsBy(o.frame, hash), tracked(key, primary)
		stored.want, stored.moves = c.want, c.moves
	case secondary.index == 0:
		c.want = primary.getsBy(o.frame, hash)
	default:
		c.want = secondary.getsBy(o.frame, hash)
	}
	return []lbCase{c, stored}
}

// tracked has a flow be in the map.
func tracked(key FlowID, to target) func(m *moved) {
	return func(m *moved) { m.Flows = map[FlowID]uint16{key: to.index} }
}

// TestLBTransitionGaps has slots and stored flows name reals that are not there.
func TestLBTransitionGaps(t *testing.T) {
	gone := target{index: noReal}
	beyond := target{index: MaxReals}
	unresolved := func(x target) func(t *testing.T, r *rig) {
		return func(t *testing.T, r *rig) {
			v := x.real()
			v.Ifindex = 0
			put(t, r.Reals.Put(uint32(x.index), v))
		}
	}
	store := func(real uint16) func(t *testing.T, r *rig) {
		return func(t *testing.T, r *rig) { put(t, r.StoreFlow(hashOfFrame(tcp()), real)) }
	}
	stored := func(real uint16) func(m *moved) {
		return func(m *moved) { m.Flows = map[FlowID]uint16{flowID(tcp()): real} }
	}
	runLB(t, []lbCase{
		{name: "agent whose secondary is gone", slot: moving(gue4, gone), vip: secondChance, verdict: xdpTX, want: gue4.gets(tcp)},
		{name: "agent whose secondary is out of range", slot: moving(gue4, beyond), vip: secondChance, verdict: xdpTX, want: gue4.gets(tcp)},
		{name: "agent whose secondary is not resolved", slot: moving(gue4, gue4b), vip: secondChance, prepare: unresolved(gue4b),
			verdict: xdpTX, want: gue4.getsWith(tcp, hashOfFrame(tcp()), gue4b.addr)},
		{name: "agent that is not resolved", slot: moving(gue4, gue4b), vip: secondChance, prepare: unresolved(gue4), verdict: xdpDrop, reason: "no_next_hop"},
		{name: "agent that is gone", slot: moving(gone, gue4), vip: secondChance, verdict: xdpDrop, reason: "no_real"},
		{name: "syn to an agent that is gone", slot: moving(gone, gue4), vip: secondChance, frame: syn, verdict: xdpDrop, reason: "no_real"},
		{name: "no agent, and the secondary is gone", slot: moving(ipip4, gone), verdict: xdpDrop, reason: "no_real"},
		{name: "not resolved", slot: moving(ipip4, ipip6), prepare: unresolved(ipip6), verdict: xdpDrop, reason: "no_next_hop"},
		{name: "syn to what is not resolved", slot: moving(ipip4, ipip6), frame: syn, prepare: unresolved(ipip4), verdict: xdpDrop, reason: "no_next_hop",
			moves: stored(mx1Index)},
		{name: "stored with a real that is gone", slot: moving(ipip4, ipip6), prepare: store(noReal), verdict: xdpDrop, reason: "no_real", moves: stored(noReal)},
		{name: "syn to what is out of range", slot: moving(beyond, ipip6), frame: syn, verdict: xdpDrop, reason: "no_real"},
	})
}

// TestLBTrackedFlow follows one connection: each packet goes where the first went, whatever the slot says meanwhile.
func TestLBTrackedFlow(t *testing.T) {
	r := newRig(t)
	for _, family := range []struct {
		name             string
		syn, seg, errors made
	}{{"v4", syn, tcp, about(t, response)}, {"v6", syn6, tcp6, about(t, response6)}} {
		r.reset(t)
		hash := hashOfFrame(family.seg())
		expect := func(what string, f made, to target) {
			t.Helper()
			_, out, err := r.prog.Test(f().Bytes(t))
			put(t, err)
			if diff := pkttest.Diff(to.getsBy(f, hash)().Bytes(t), out); diff != "" {
				t.Errorf("%s %s: %s", family.name, what, diff)
			}
		}
		r.setVIPs(t, moving(ipip4, ipip6), func(*VIP) {})
		expect("an old flow", family.seg, ipip6)
		expect("a new flow", family.syn, ipip4)
		expect("the same flow", family.seg, ipip4)
		expect("an error about it", family.errors, ipip4)
		r.setVIPs(t, moving(gue4, gue6), func(*VIP) {})
		expect("the flow after another change", family.seg, ipip4)
		expect("the flow opened again", family.syn, gue4)
		expect("the flow after that", family.seg, gue4)
		r.setVIPs(t, steady(l2), func(*VIP) {})
		expect("the flow after the transition", family.seg, l2)
		r.setVIPs(t, steady(l2), func(v *VIP) { v.Flags = VIPFollowAll })
		expect("the flow where all are followed", family.seg, gue4)
		expect("an error about it there", family.errors, gue4)
		expect("the flow opened again there", family.syn, l2)
		r.setVIPs(t, moving(ipip4, ipip6), func(*VIP) {})
		expect("that flow in the next transition", family.seg, l2)
	}
}

// TestSteadyStateHasNoFlows sends packets of all kinds through slots that are not in transition. Not one is stored; and
// that none is looked for is seen by an entry that would lead elsewhere.
func TestSteadyStateHasNoFlows(t *testing.T) {
	r := newRig(t)
	for _, flags := range []uint32{0, VIPSecondChance} {
		for _, to := range []target{ipip4, ipip6, gue4, gue6, l2} {
			for family, all := range allOffers(t) {
				for _, o := range all {
					r.reset(t)
					r.setVIPs(t, steady(to), func(v *VIP) { v.Flags = flags })
					for _, poisoned := range []bool{false, true} {
						want := map[FlowID]uint16{}
						if poisoned {
							want[flowID(o.flow())] = ipip4b.index
							put(t, r.StoreFlow(hashOfFrame(o.flow()), ipip4b.index))
						}
						verdict, _, err := r.prog.Test(o.frame().Bytes(t))
						put(t, err)
						if verdict != xdpTX {
							t.Errorf("%s %s to %v: verdict %v; is the map of flows read?", family, o.name, to.addr, Verdict(verdict))
						}
						got, err := r.StoredFlows()
						put(t, err)
						if !maps.Equal(got, want) {
							t.Errorf("%s %s to %v: flows %v, want %v", family, o.name, to.addr, got, want)
						}
					}
				}
			}
		}
	}
}

// TestStoredFlows fills buckets beyond what they hold: what was seen last stays, and every flow that is there has its real.
func TestStoredFlows(t *testing.T) {
	r := newRig(t)
	r.reset(t)
	r.setVIPs(t, moving(ipip4, ipip6), func(*VIP) {})
	const most = rigFlows * flowsPerBucket
	open := func(n int) uint64 {
		f := tcp()
		opening(f)
		f.L4.(*layers.TCP).SrcPort = layers.TCPPort(n)
		verdict, _, err := r.prog.Test(f.Bytes(t))
		put(t, err)
		if verdict != xdpTX {
			t.Fatalf("verdict %v", Verdict(verdict))
		}
		return hashOfFrame(f)
	}
	for n := range 2 * most {
		hash := open(n + 1)
		if real, err := r.StoredFlow(hash); err != nil || real != ipip4.index {
			t.Fatalf("flow %d is stored with real %d, error %v", n, real, err)
		}
		if n%16 != 15 {
			continue // to look at all takes long, and sees as well who went before
		}
		stored, err := r.StoredFlows()
		put(t, err)
		// a quarter full, none has had to go
		if n < most/4 && len(stored) != n+1 || stored[r.FlowID(hash)] != ipip4.index {
			t.Fatalf("%d flows are stored after %d", len(stored), n+1)
		}
	}
	stored, err := r.StoredFlows()
	put(t, err)
	if displaced, err := r.Displaced(); err != nil || displaced != uint64(2*most-len(stored)) {
		t.Errorf("%d flows are counted as displaced, error %v, of %d of which %d are there", displaced, err, 2*most, len(stored))
	}
	for range 2 { // the second time there is none
		put(t, r.ForgetFlows())
		stored, err := r.StoredFlows()
		put(t, err)
		if len(stored) != 0 {
			t.Fatalf("%d flows are left", len(stored))
		}
	}
}

// TestForgetFlows has some in every part that is read at a time.
func TestForgetFlows(t *testing.T) {
	lb := newLB(t)
	const flows = 10_000
	for n := range uint64(flows) {
		put(t, lb.StoreFlow(bits.Reverse64(n)|n<<16, mx1Index))
	}
	stored, err := lb.StoredFlows()
	put(t, err)
	if len(stored) != flows {
		t.Fatalf("%d of %d flows are stored", len(stored), flows)
	}
	put(t, lb.ForgetFlows())
	stored, err = lb.StoredFlows()
	put(t, err)
	if len(stored) != 0 {
		t.Fatalf("%d flows are left", len(stored))
	}
}
