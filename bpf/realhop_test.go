package bpf

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"anycastle/internal/netnstest"
	"anycastle/internal/pkttest"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// offer is how a balancer offers a packet to one agent, and names another that may have its flow.
type offer struct {
	name string
	tun  pkttest.Tunnel
	next target
}

var offersOf = []offer{
	{"by v4", pkttest.Tunnel{Src: lbAddr, Dst: own4, GUE: true, Hash: 0x1234_5678_9abc, Second: gue4b.addr}, gue4b},
	{"by v6", pkttest.Tunnel{Src: lbAddr6, Dst: own6, GUE: true, Hash: 0x1234_5678_9abc, Second: gue6b.addr}, gue6b},
}

// goesOn is what the next agent gets: it is offered to that one alone, a hop later, and goes back the way it came.
func (o offer) goesOn(f made) made {
	tun := o.tun
	tun.Dst, tun.Second = o.next.addr, netip.Addr{}
	return func() *pkttest.Frame {
		g := f()
		return turned(with(inside(func() *pkttest.Frame { return g }, tun), outerTTL(g.TTL()-1))(), f())
	}
}

// wants has the way to the next agent be asked for.
func (o offer) wants(m *realMoved) { m.Wanted = []string{o.next.addr.String()} }

// newHopRig gives a host of its own, with the VIPs and the clients' addresses, so that a connection may have both ends there.
func newHopRig(t *testing.T) *realRig {
	t.Helper()
	r := newRealRig(t)
	r.ns = netnstest.New(t)
	for _, addr := range []string{"203.0.113.10/32", "192.0.2.7/32", "2001:db8:1::10/128", "2001:db8::7/128"} {
		addAddr(t, r.ns, "lo", addr)
	}
	for _, addr := range []string{"2001:db8:1::10", "2001:db8::7"} { // the kernel puts these into its routes a little later
		eventually(t, addr+" is local", func() bool {
			routes, err := r.ns.Link.RouteGet(net.ParseIP(addr))
			return err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL
		})
	}
	return r
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(dialTime)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", dialTime, what)
		case <-tick.C:
		}
	}
}

// taken has packets be taken off, whoever is named second.
func (r *realRig) takes(t *testing.T, name string, f made, moves ...func(m *realMoved)) {
	t.Helper()
	for _, o := range offersOf {
		t.Run(name+" "+o.name, func(t *testing.T) {
			r.run(t, realCase{frame: inside(f, o.tun), verdict: xdpPass, want: f, moves: all(moves)})
		})
	}
}

// passesOn has them go to the second.
func (r *realRig) passesOn(t *testing.T, name string, f made, moves ...func(m *realMoved)) {
	t.Helper()
	for _, o := range offersOf {
		t.Run(name+" "+o.name, func(t *testing.T) {
			r.run(t, realCase{frame: inside(f, o.tun), verdict: xdpTX, want: o.goesOn(f), moves: all(append(moves, o.wants))})
		})
	}
}

func all(moves []func(m *realMoved)) func(m *realMoved) {
	return func(m *realMoved) {
		for _, move := range moves {
			move(m)
		}
	}
}

// TestHopWithoutSocket is on a host that nobody is connected to.
func TestHopWithoutSocket(t *testing.T) {
	r := newHopRig(t)
	for _, all := range allOffers(t) {
		for _, o := range all {
			if o.opens || !o.tcp {
				r.takes(t, o.name, o.frame)
			} else {
				r.passesOn(t, o.name, o.frame)
			}
		}
	}
	r.takes(t, "echo", echo4)
	r.takes(t, "echo in v6", echo6)
	r.takes(t, "sctp", with(tcp, func(f *pkttest.Frame) { f.IP.Protocol, f.L4 = 132, nil }))
	r.takes(t, "tcp cut off", with(tcp, func(f *pkttest.Frame) { f.L4, f.Payload = nil, make([]byte, 15) }))
	r.takes(t, "no more than ip", with(tcp6, func(f *pkttest.Frame) { f.L4, f.Payload = nil, nil }))
	r.takes(t, "no more than ip of v4", with(tcp, func(f *pkttest.Frame) { f.L4, f.Payload = nil, nil }))
	r.takes(t, "icmp cut off", with(echo4, func(f *pkttest.Frame) { f.L4, f.Payload = nil, []byte{3, 0, 0, 0, 0, 0, 0} }))
	r.takes(t, "error about nothing", errorAbout(t, 3, response, 0))
	r.takes(t, "error about ip alone", errorAbout(t, 3, response, 20))
	r.takes(t, "error about half the ports", errorAbout(t, 3, response, 23))
	r.takes(t, "error about a later fragment", errorAbout(t, 3, with(response, func(f *pkttest.Frame) { f.IP.FragOffset = 8 }), -1))
	r.takes(t, "error in v6 about nothing", errorAbout(t, 1, response6, 0))
	r.takes(t, "error in v6 about ip alone", errorAbout(t, 1, response6, 40))
	r.takes(t, "nine headers", with(tcp6, headers(nHeaders(9)...)))
	r.passesOn(t, "error about no more than ports", errorAbout(t, 3, response, 24))
	r.passesOn(t, "options", options)
	r.passesOn(t, "options of an error", with(errorAbout(t, 3, with(response, someOptions), -1), someOptions))
	r.passesOn(t, "headers", with(tcp6, headers(nHeaders(8)...)))
	r.passesOn(t, "headers of an error", with(errorAbout(t, 1, with(response6, headers(nHeaders(4)...)), -1), headers(nHeaders(8)...)))
	r.passesOn(t, "a tag", with(tcp, vlans(oneTag...)))
	r.passesOn(t, "two tags", with(tcp6, vlans(twoTags...)))
	r.passesOn(t, "bytes behind", with(tcp, trailer(5)))
	r.passesOn(t, "a large packet", with(tcp6, payload(1400)))
	r.passesOn(t, "classes", with(tcp, tos(0xb9)))
	r.passesOn(t, "few hops", with(tcp, ttl(2)))
	r.passesOn(t, "many hops", with(tcp6, ttl(255)))
}

// TestHopCutOff has the inner packet end before its flow is known, and the frame go on behind it as the packet would.
func TestHopCutOff(t *testing.T) {
	r := newHopRig(t)
	for _, p := range []struct {
		name  string
		frame made
		need  int // bytes behind the IP header
	}{
		{"tcp", tcp, 20},
		{"tcp in v6", tcp6, 20},
		{"tcp behind headers", with(tcp6, headers(pkttest.Destination(1), pkttest.FragmentAt(0, false, 7))), 16 + 8 + 20},
		{"error", errorAbout(t, 3, response, -1), 8 + 20 + 4},
		{"error in v6", errorAbout(t, 1, response6, -1), 8 + 40 + 4},
		{"error about headers", errorAbout(t, 1, with(response6, headers(pkttest.HopByHop(0))), -1), 8 + 40 + 8 + 4},
	} {
		for n := range p.need {
			r.takes(t, fmt.Sprintf("%s of %d bytes", p.name, n), cutOff(t, p.frame, n))
		}
		r.passesOn(t, p.name+" that is long enough", cutOff(t, p.frame, p.need))
	}
}

// cutOff has a packet end n bytes behind its IP header, and what follows lie behind the packet.
func cutOff(t testing.TB, f made, n int) made {
	return func() *pkttest.Frame {
		g := f()
		packet := g.Packet(t)
		if g.IP6 != nil {
			g.IP6.NextHeader, g.Ext, packet = layers.IPProtocol(packet[6]), nil, packet[40:]
		} else {
			packet = packet[20:]
		}
		g.L4, g.Payload, g.Trailer = nil, packet[:n], packet[n:]
		return g
	}
}

// TestHopWays leaves for the second hop by ways that are known.
func TestHopWays(t *testing.T) {
	mac := func(n byte) [6]byte { return [6]byte(pkttest.MAC(n)) }
	var cases []realCase
	for _, o := range offersOf {
		for _, p := range packets[:3:3] {
			if p.name == "v4 udp" {
				continue
			}
			leaves := with(o.goesOn(p.frame), func(f *pkttest.Frame) { f.Eth.DstMAC, f.Eth.SrcMAC = pkttest.MAC(77), pkttest.MAC(78) })
			way := func(ifindex int) func(t *testing.T, r *realRig) {
				return func(t *testing.T, r *realRig) {
					put(t, r.SetHop(o.next.addr, Hop{Ifindex: ifindex, DstMAC: mac(77), SrcMAC: mac(78)}))
				}
			}
			redirect := func(t *testing.T, r *realRig) { put(t, r.SetUplinkFlags(ingress, RealRedirect)) }
			name := p.name + " " + o.name
			cases = append(cases,
				realCase{name: name + ", same link", frame: inside(p.frame, o.tun), prepare: way(ingress), verdict: xdpTX, want: leaves},
				realCase{name: name + ", another link", frame: inside(p.frame, o.tun), prepare: way(otherLink), verdict: xdpRedirect, want: leaves},
				realCase{name: name + ", same link by redirect", frame: inside(p.frame, o.tun), verdict: xdpRedirect, want: leaves,
					prepare: func(t *testing.T, r *realRig) { way(ingress)(t, r); redirect(t, r) }},
				realCase{name: name + ", back by redirect", frame: inside(p.frame, o.tun), verdict: xdpRedirect, want: o.goesOn(p.frame), prepare: redirect,
					moves: o.wants},
				realCase{name: name + ", back by an interface without flags", frame: inside(p.frame, o.tun), verdict: xdpTX, want: o.goesOn(p.frame),
					prepare: func(t *testing.T, r *realRig) { put(t, r.SetUplinkFlags(ingress, 0)) }, moves: o.wants},
				realCase{name: name + ", back when another is by redirect", frame: inside(p.frame, o.tun), verdict: xdpTX, want: o.goesOn(p.frame),
					prepare: func(t *testing.T, r *realRig) { put(t, r.SetUplinkFlags(otherLink, RealRedirect)) }, moves: o.wants},
				realCase{name: name + ", way to another", frame: inside(p.frame, o.tun), verdict: xdpTX, want: o.goesOn(p.frame), moves: o.wants,
					prepare: func(t *testing.T, r *realRig) { put(t, r.SetHop(mx2, Hop{Ifindex: otherLink, DstMAC: mac(77)})) }},
				realCase{name: name + ", last hop", frame: with(inside(p.frame, o.tun), outerTTL(1)), verdict: xdpDrop, reason: "ttl_expired"},
				realCase{name: name + ", no hop", frame: with(inside(p.frame, o.tun), outerTTL(0)), verdict: xdpDrop, reason: "ttl_expired"},
				realCase{name: name + ", last but one", frame: with(inside(p.frame, o.tun), outerTTL(2)), verdict: xdpTX,
					want: with(o.goesOn(p.frame), outerTTL(1)), moves: o.wants},
			)
		}
	}
	for i, o := range offersOf {
		o.tun.Second = offersOf[1-i].next.addr
		cases = append(cases, realCase{name: "second of another family " + o.name, frame: inside(tcp, o.tun), verdict: xdpDrop, reason: "no_route"})
	}
	runReal(t, cases)
}

// decided has a fragment's packet be remembered as the host's, or as another's.
func (f cutFlow) decided(here uint8) func(m *realMoved) {
	return func(m *realMoved) { m.Decisions = map[FragmentKey]uint8{f.key: here} }
}

// TestHopFragments has later fragments follow the first, which no socket wants, and be taken when there was none.
func TestHopFragments(t *testing.T) {
	r := newHopRig(t)
	for _, f := range cutFlows() {
		first, later := f.piece(t, 0), []made{f.piece(t, 1), f.piece(t, 2)}
		if f.key.Proto == 17 {
			r.takes(t, f.name+", first", first, f.decided(1))
		} else {
			r.passesOn(t, f.name+", first", first, f.decided(0))
		}
		opens := with(f.whole, func(f *pkttest.Frame) {
			if tcp, ok := f.L4.(*layers.TCP); ok {
				tcp.SYN, tcp.ACK = true, false
			}
		})
		r.takes(t, f.name+", first of what opens a flow", func() *pkttest.Frame { return opens().Fragments(t, cutSize, fragmentID)[0] }, f.decided(1))
		for i, piece := range later {
			r.takes(t, fmt.Sprintf("%s, piece %d of nothing", f.name, i+1), piece)
			for _, o := range offersOf {
				followed := realCase{name: fmt.Sprintf("%s, piece %d %s", f.name, i+1, o.name), frame: inside(piece, o.tun), moves: f.decided(1),
					prepare: func(t *testing.T, r *realRig) { r.test(t, inside(first, o.tun)().Bytes(t)) }, verdict: xdpPass, want: piece}
				if f.key.Proto == 6 {
					followed.verdict, followed.want = xdpTX, o.goesOn(piece)
					followed.moves = all([]func(m *realMoved){f.decided(0), o.wants})
				}
				t.Run(followed.name, func(t *testing.T) { r.run(t, followed) })
			}
		}
	}
}
