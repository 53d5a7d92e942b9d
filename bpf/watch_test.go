package bpf

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
)

var (
	watchVIP6    = netip.MustParseAddrPort("[2001:db8:0:25::10]:25")
	watchClient6 = netip.MustParseAddrPort("[2001:db8::7]:40000")
)

// newWatch watches the two VIPs, port 25 of both by itself.
func newWatch(t testing.TB) *Watch {
	t.Helper()
	w, err := LoadWatch(pinDir(t))
	put(t, err)
	t.Cleanup(func() { w.Close() })
	put(t, w.SetVIPs([]netip.Addr{vipTCP.Addr(), watchVIP6.Addr()}))
	return w
}

// segment gives a TCP segment with nothing but flags; R means RST with the sequence number of an open connection.
func segment(from, to netip.AddrPort, flags string) *pkttest.Frame {
	f := pkttest.New(from, to)
	f.Payload = nil
	tcp := &layers.TCP{SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), Window: 512}
	for _, c := range flags {
		switch c {
		case 'S':
			tcp.SYN, tcp.Seq = true, 1000
		case 'A':
			tcp.ACK, tcp.Ack = true, 2000
		case 'R':
			tcp.RST, tcp.Seq = true, 3000
		case '0':
			tcp.Seq = 0
		}
	}
	f.L4 = tcp
	return f
}

// answer is a segment of the server; question is one of a client.
func answer(flags string) *pkttest.Frame    { return segment(vipTCP, client, flags) }
func answer6(flags string) *pkttest.Frame   { return segment(watchVIP6, watchClient6, flags) }
func question(flags string) *pkttest.Frame  { return segment(client, vipTCP, flags) }
func question6(flags string) *pkttest.Frame { return segment(watchClient6, watchVIP6, flags) }

func tagged(f *pkttest.Frame, tags int) *pkttest.Frame {
	for range tags {
		f.Tags = append(f.Tags, pkttest.Tag{Proto: pkttest.DotQ, TCI: 7})
	}
	return f
}

func extended(f *pkttest.Frame, ext ...pkttest.Ext) *pkttest.Frame {
	f.Ext = ext
	return f
}

func optioned(f *pkttest.Frame) *pkttest.Frame {
	f.IP.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}}
	return f
}

// unreachable is what the server's kernel answers to a datagram for a port that nobody has open.
func unreachable(t *testing.T, refused *pkttest.Frame, code uint8) *pkttest.Frame {
	if refused.IP6 != nil {
		return pkttest.NewICMPError(watchVIP6.Addr(), watchClient6.Addr(), pkttest.Unreachable6, code, 0, refused.Packet(t))
	}
	return pkttest.NewICMPError(vipTCP.Addr(), client.Addr(), pkttest.Unreachable, code, 0, refused.Packet(t))
}

// destinations gives so many extension headers.
func destinations(n int) []pkttest.Ext {
	var list []pkttest.Ext
	for range n {
		list = append(list, pkttest.Destination(0))
	}
	return list
}

type watchCase struct {
	name    string
	leaving bool
	frame   *pkttest.Frame
	mangle  func([]byte) []byte
	at      string // whose tally moves, without the address; empty: none
	want    Tally
}

func watchCases(t *testing.T) []watchCase {
	udp6 := netip.AddrPortFrom(watchVIP6.Addr(), 53)
	elsewhere := netip.MustParseAddrPort("203.0.113.11:25")
	// a first fragment and another one
	pieces := func(f *pkttest.Frame) []*pkttest.Frame {
		f.Payload = make([]byte, 64)
		return f.Fragments(t, 24, 9)
	}
	four, six := pieces(question("S")), pieces(question6("S"))
	return []watchCase{
		{name: "syn", frame: question("S"), at: "6 25", want: Tally{Syns: 1}},
		{name: "syn to ipv6", frame: question6("S"), at: "6 25", want: Tally{Syns: 1}},
		{name: "syn that leaves", leaving: true, frame: question("S")},
		{name: "syn behind a tag", frame: tagged(question("S"), 1), at: "6 25", want: Tally{Syns: 1}},
		{name: "syn behind two tags", frame: tagged(question6("S"), 2), at: "6 25", want: Tally{Syns: 1}},
		{name: "syn behind three tags", frame: tagged(question("S"), 3)},
		{name: "syn behind options", frame: optioned(question("S")), at: "6 25", want: Tally{Syns: 1}},
		{name: "syn behind extension headers", at: "6 25", want: Tally{Syns: 1},
			frame: extended(question6("S"), pkttest.HopByHop(0), pkttest.Destination(1), pkttest.Routing(0), pkttest.Auth(1), pkttest.FragmentAt(0, false, 1))},
		{name: "syn behind as many as are looked at", frame: extended(question6("S"), destinations(8)...), at: "6 25", want: Tally{Syns: 1}},
		{name: "syn behind one more", frame: extended(question6("S"), destinations(9)...)},
		{name: "syn in a first fragment", frame: four[0], at: "6 25", want: Tally{Syns: 1}},
		{name: "later fragment", frame: four[1]},
		{name: "syn in a first ipv6 fragment", frame: six[0], at: "6 25", want: Tally{Syns: 1}},
		{name: "later ipv6 fragment", frame: six[1]},
		{name: "syn to another port", frame: segment(client, netip.AddrPortFrom(vipTCP.Addr(), 26), "S"), at: "6 0", want: Tally{Syns: 1}},
		{name: "syn to another address", frame: segment(client, elsewhere, "S")},
		{name: "syn ack that comes in", frame: question("SA")},
		{name: "ack", frame: question("A")},
		{name: "syn rst", frame: question("SR")},

		{name: "syn ack", leaving: true, frame: answer("SA"), at: "6 25", want: Tally{SynAcks: 1}},
		{name: "syn ack from ipv6", leaving: true, frame: answer6("SA"), at: "6 25", want: Tally{SynAcks: 1}},
		{name: "syn ack of a new port", leaving: true, frame: segment(netip.AddrPortFrom(vipTCP.Addr(), 143), client, "SA"), at: "6 143", want: Tally{Syns: 1, SynAcks: 1}},
		{name: "syn ack from another address", leaving: true, frame: segment(elsewhere, client, "SA")},
		{name: "refused", leaving: true, frame: answer("RA0"), at: "6 25", want: Tally{Refused: 1}},
		{name: "refused by ipv6", leaving: true, frame: answer6("RA0"), at: "6 25", want: Tally{Refused: 1}},
		{name: "refused at another port", leaving: true, frame: segment(netip.AddrPortFrom(vipTCP.Addr(), 26), client, "RA0"), at: "6 0", want: Tally{Refused: 1}},
		{name: "a spoofed refusal that comes in", frame: answer("RA0")},
		{name: "reset", leaving: true, frame: answer("R"), at: "6 25", want: Tally{Resets: 1}},
		{name: "reset with ack", leaving: true, frame: answer("RA"), at: "6 25", want: Tally{Resets: 1}},
		{name: "reset with number 0", leaving: true, frame: answer("R0"), at: "6 25", want: Tally{Resets: 1}},
		{name: "data", leaving: true, frame: pkttest.New(vipTCP, client)},
		{name: "datagram", leaving: true, frame: pkttest.NewUDP(vipUDP, client)},

		{name: "datagram refused", leaving: true, frame: unreachable(t, pkttest.NewUDP(client, vipUDP), 3), at: "17 0", want: Tally{Refused: 1}},
		{name: "datagram refused by ipv6", leaving: true, frame: unreachable(t, pkttest.NewUDP(watchClient6, udp6), 4), at: "17 0", want: Tally{Refused: 1}},
		{name: "connection refused by a firewall", leaving: true, frame: unreachable(t, question("S"), 3), at: "6 25", want: Tally{Refused: 1}},
		{name: "host unreachable", leaving: true, frame: unreachable(t, pkttest.NewUDP(client, vipUDP), 1)},
		{name: "ipv6 no route", leaving: true, frame: unreachable(t, pkttest.NewUDP(watchClient6, udp6), 0)},
		{name: "unreachable that comes in", frame: unreachable(t, pkttest.NewUDP(client, vipUDP), 3)},
		{name: "echo", leaving: true, frame: pkttest.NewEcho(vipTCP.Addr(), client.Addr())},
		{name: "unreachable about another address", leaving: true, frame: unreachable(t, pkttest.NewUDP(client, elsewhere), 3)},

		{name: "arp", frame: question("S"), mangle: set(12, 0x08, 0x06)},
		{name: "version 6 in ipv4", frame: question("S"), mangle: set(ipAt, 0x65)},
		{name: "version 4 in ipv6", frame: question6("S"), mangle: set(ipAt, 0x45)},
		// the kernel runs no test of a shorter packet unless there is a tag in front of it
		{name: "ethernet alone", frame: tagged(question("S"), 1), mangle: cut(ipAt)},
		{name: "cut in the tag", frame: tagged(question("S"), 1), mangle: cut(ipAt + 2)},
		{name: "cut in ipv4", frame: tagged(question("S"), 1), mangle: cut(l4At + pkttest.TagLen - 1)},
		{name: "cut in ipv6", frame: tagged(question6("S"), 1), mangle: cut(pkttest.L4Start6 + pkttest.TagLen - 1)},
		{name: "cut in an extension header", frame: extended(question6("S"), pkttest.Destination(0)), mangle: cut(pkttest.L4Start6 + 3)},
		{name: "cut in tcp", frame: question("S"), mangle: cut(l4At + 13)},
		{name: "cut behind the flags", frame: question("S"), mangle: cut(l4At + 14), at: "6 25", want: Tally{Syns: 1}},
		{name: "cut in icmp", leaving: true, frame: unreachable(t, pkttest.NewUDP(client, vipUDP), 3), mangle: cut(l4At + 7)},
		{name: "cut in what was refused", leaving: true, frame: unreachable(t, pkttest.NewUDP(client, vipUDP), 3), mangle: cut(l4At + 8 + 19)},
		{name: "cut in its ports", leaving: true, frame: unreachable(t, pkttest.NewUDP(client, vipUDP), 3), mangle: cut(l4At + 8 + 20 + 3)},
	}
}

func TestWatch(t *testing.T) {
	w := newWatch(t)
	for _, tc := range watchCases(t) {
		t.Run(tc.name, func(t *testing.T) {
			clearMap(t, w.objs.Endpoints)
			put(t, w.SetVIPs([]netip.Addr{vipTCP.Addr(), watchVIP6.Addr()}))
			put(t, w.Add(Endpoint{vipTCP, 6}))
			put(t, w.Add(Endpoint{watchVIP6, 6}))
			before := tallies(t, w)
			in := tc.frame.Bytes(t)
			if tc.mangle != nil {
				in = tc.mangle(in)
			}
			prog := w.objs.Arriving
			if tc.leaving {
				prog = w.objs.Leaving
			}
			verdict, out, err := prog.Test(in)
			put(t, err)
			if int32(verdict) != -1 {
				t.Errorf("verdict %d, want that of a filter which is not there", int32(verdict))
			}
			if diff := pkttest.Diff(in, out); diff != "" {
				t.Error(diff)
			}
			if tc.at != "" {
				vip := vipTCP.Addr()
				if tc.frame.IP6 != nil {
					vip = watchVIP6.Addr()
				}
				before[tc.at+" "+vip.String()] = tc.want
			}
			if diff := cmp.Diff(before, tallies(t, w)); diff != "" {
				t.Errorf("tallies (-want +got):\n%s", diff)
			}
		})
	}
}

// tallies gives all counts by protocol, port and VIP.
func tallies(t testing.TB, w *Watch) map[string]Tally {
	t.Helper()
	all, err := w.Tallies()
	put(t, err)
	named := map[string]Tally{}
	for e, c := range all {
		named[fmt.Sprintf("%d %d %v", e.Protocol, e.VIP.Port(), e.VIP.Addr())] = c
	}
	return named
}

// TestWatchMapIsFilledByNobodyOutside asks for more ports than the map has room for, and then has as many answer.
func TestWatchMapIsFilledByNobodyOutside(t *testing.T) {
	w := newWatch(t)
	ask := func(prog *ebpf.Program, frame func(port uint16) *pkttest.Frame) {
		t.Helper()
		for port := uint16(1); port <= 5000; port++ {
			_, _, err := prog.Test(frame(port).Bytes(t))
			put(t, err)
		}
	}
	before := maps.Clone(tallies(t, w))
	ask(w.objs.Arriving, func(port uint16) *pkttest.Frame {
		return segment(client, netip.AddrPortFrom(vipTCP.Addr(), port), "S")
	})
	before["6 0 203.0.113.10"] = Tally{Syns: 5000}
	if diff := cmp.Diff(before, tallies(t, w)); diff != "" {
		t.Errorf("tallies after questions (-want +got):\n%s", diff)
	}
	ask(w.objs.Leaving, func(port uint16) *pkttest.Frame {
		return segment(netip.AddrPortFrom(vipTCP.Addr(), port), client, "SA")
	})
	got := tallies(t, w)
	if len(got) != int(w.objs.Endpoints.MaxEntries()) {
		t.Errorf("%d endpoints are counted by themselves, want %d", len(got), w.objs.Endpoints.MaxEntries())
	}
	var answered uint64
	for _, c := range got {
		answered += c.SynAcks
	}
	if answered != 5000 {
		t.Errorf("%d answers are counted, want 5000", answered)
	}
}

func TestWatchGoesOnCounting(t *testing.T) {
	dir := pinDir(t)
	other := netip.MustParseAddr("203.0.113.11")
	var after map[string]Tally
	for _, vips := range [][]netip.Addr{{vipTCP.Addr(), other}, {vipTCP.Addr()}} {
		w, err := LoadWatch(dir)
		put(t, err)
		put(t, w.SetVIPs(vips))
		_, _, err = w.objs.Leaving.Test(answer("SA").Bytes(t))
		put(t, err)
		_, _, err = w.objs.Leaving.Test(segment(netip.AddrPortFrom(other, 25), client, "SA").Bytes(t))
		put(t, err)
		after = tallies(t, w)
		put(t, w.Close())
	}
	want := map[string]Tally{"6 25 203.0.113.10": {Syns: 1, SynAcks: 2}, "6 0 203.0.113.10": {}, "17 0 203.0.113.10": {}}
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("tallies of a second process (-want +got):\n%s", diff)
	}
}

func BenchmarkWatch(b *testing.B) {
	w := newWatch(b)
	for name, f := range map[string]*pkttest.Frame{
		"data": pkttest.New(vipTCP, client), "data6": pkttest.New(watchVIP6, watchClient6), "synack": answer("SA"),
	} {
		b.Run(name, func(b *testing.B) {
			opts := ebpf.RunOptions{Data: f.Bytes(b), Repeat: uint32(b.N)}
			b.ResetTimer()
			_, err := w.objs.Leaving.Run(&opts)
			put(b, err)
		})
	}
}
