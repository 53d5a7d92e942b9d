package bpf

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/gopacket/gopacket/layers"
)

// errorAbout is an ICMP error about the first bytes of a packet of a server; -1 stands for all of them.
func errorAbout(t testing.TB, typ uint8, about made, bytes int) made {
	return func() *pkttest.Frame {
		f := about()
		packet := f.Packet(t)
		if bytes >= 0 {
			packet = packet[:bytes]
		}
		if f.IP6 != nil {
			return pkttest.NewICMPError(router6, vipTCP6.Addr(), typ, 1, 1400, packet)
		}
		return pkttest.NewICMPError(router, vipTCP.Addr(), typ, 1, 1400, packet)
	}
}

// The hashes of the valid packets' flows.
func hash4() uint64    { return hashOfFrame(tcp()) }
func hash4UDP() uint64 { return hashOfFrame(udp()) }
func hash6() uint64    { return hashOfFrame(tcp6()) }
func hash6UDP() uint64 { return hashOfFrame(udp6()) }

// TestLBErrors has errors of every type reach the real of the flow that they are about, however they come.
func TestLBErrors(t *testing.T) {
	var cases []lbCase
	for _, k := range kinds {
		add := func(name string, f made, hash uint64) {
			cases = append(cases, lbCase{name: name + " by " + k.name, slot: steady(k.to), frame: f, verdict: xdpTX, want: k.to.getsBy(f, hash)})
		}
		for _, typ := range []uint8{3, 11, 12} {
			add(fmt.Sprintf("type %d about tcp", typ), errorAbout(t, typ, response, 28), hash4())
			add(fmt.Sprintf("type %d about udp", typ), errorAbout(t, typ, responseUDP, -1), hash4UDP())
		}
		for _, typ := range []uint8{1, 2, 3, 4} {
			add(fmt.Sprintf("v6 type %d about tcp", typ), errorAbout(t, typ, response6, -1), hash6())
			add(fmt.Sprintf("v6 type %d about udp", typ), errorAbout(t, typ, responseUDP6, -1), hash6UDP())
		}
		unreachable, unreachable6 := errorAbout(t, 3, response, -1), errorAbout(t, 1, response6, -1)
		add("options", with(unreachable, someOptions), hash4())
		add("headers", with(unreachable6, headers(nHeaders(8)...)), hash6())
		add("tags", with(unreachable, vlans(twoTags...)), hash4())
		add("tags in v6", with(unreachable6, vlans(oneTag...)), hash6())
		add("padding", with(unreachable, trailer(6)), hash4())
		add("options inside", errorAbout(t, 3, with(response, someOptions), 24+8), hash4())
		add("first fragment inside", errorAbout(t, 3, with(response, func(f *pkttest.Frame) { f.IP.Flags = layers.IPv4MoreFragments }), 28), hash4())
		add("no more than ports inside", errorAbout(t, 3, response, 24), hash4())
		add("no more than ports inside v6", errorAbout(t, 1, response6, 44), hash6())
		add("first fragment inside v6", errorAbout(t, 1, with(response6, headers(pkttest.FragmentAt(0, true, 7))), -1), hash6())
		for _, e := range extKinds {
			add(e.name+" inside", errorAbout(t, 2, with(response6, headers(e.short)), -1), hash6())
			add("long "+e.name+" inside", errorAbout(t, 2, with(responseUDP6, headers(e.long)), -1), hash6UDP())
		}
		add("eight headers inside", errorAbout(t, 2, with(response6, headers(nHeaders(8)...)), -1), hash6())
		add("eight headers inside eight", with(errorAbout(t, 2, with(response6, headers(nHeaders(8)...)), -1), headers(nHeaders(8)...)), hash6())
	}
	last := with(errorAbout(t, 3, response, -1), ttl(1))
	plainError := errorAbout(t, 3, response, -1)
	cases = append(cases,
		lbCase{name: "last hop", frame: last, verdict: xdpDrop, reason: "ttl_expired"},
		lbCase{name: "no table", frame: plainError, vip: func(v *VIP) { v.Farm = rigFarms - 1 }, verdict: xdpDrop, reason: "no_table"},
		lbCase{name: "nobody in service", frame: plainError, verdict: xdpDrop, reason: "no_real",
			prepare: func(t *testing.T, r *rig) { r.setVIPs(t, Slot{}, func(*VIP) {}) }},
		lbCase{name: "out of service, but not for open flows", frame: plainError, prepare: outOfService, verdict: xdpTX, want: ipip4.getsBy(plainError, hash4())},
		lbCase{name: "by source", slot: steady(gue6), frame: plainError, vip: bySource(24, 56), verdict: xdpTX,
			want: gue6.getsBy(plainError, hashOfSource(netip.MustParsePrefix("192.0.2.0/24")))},
		lbCase{name: "v6 by source", slot: steady(gue6), frame: errorAbout(t, 1, response6, -1), vip: bySource(24, 56), verdict: xdpTX,
			want: gue6.getsBy(errorAbout(t, 1, response6, -1), hashOfSource(netip.MustParsePrefix("2001:db8::/56")))},
		lbCase{name: "about a vip of many ports", frame: errorAbout(t, 3, fromPort(1500), -1), verdict: xdpTX,
			prepare: func(t *testing.T, r *rig) { r.setRanges(t, vipTCP.Addr(), nested...) }, moves: counted(narrowIndex),
			want: ipip4.getsBy(errorAbout(t, 3, fromPort(1500), -1), hashOf(client, netip.AddrPortFrom(vipTCP.Addr(), 1500), 6))},
	)
	runLB(t, cases)
}

// fromPort is a response from another port of the VIP's address.
func fromPort(port uint16) made {
	return func() *pkttest.Frame { return pkttest.New(netip.AddrPortFrom(vipTCP.Addr(), port), client) }
}

// TestLBBadErrors has errors be about what cannot be one of our flows.
func TestLBBadErrors(t *testing.T) {
	const inner, inner6 = ipAt + 20 + 8, ipAt + 40 + 8
	var cases []lbCase
	add := func(name string, f made, mangle func([]byte) []byte, reason string) {
		cases = append(cases, lbCase{name: name, frame: f, mangle: mangle, verdict: xdpDrop, reason: reason})
	}
	whole, whole6 := errorAbout(t, 3, response, -1), errorAbout(t, 1, response6, -1)
	add("from another address", errorAbout(t, 3, with(response, func(f *pkttest.Frame) { f.IP.SrcIP = mx1.AsSlice() }), -1), nil, "bad_inner")
	add("from another address in v6", errorAbout(t, 1, with(response6, func(f *pkttest.Frame) { f.IP6.SrcIP = ipip6.addr.AsSlice() }), -1), nil, "bad_inner")
	for i := range 16 {
		add(fmt.Sprintf("byte %d of the address in v6 is another", i), whole6, flip(inner6+8+i), "bad_inner")
	}
	for i := range 4 {
		add(fmt.Sprintf("byte %d of the address is another", i), whole, flip(inner+12+i), "bad_inner")
	}
	add("to the vip, not from it", errorAbout(t, 3, tcp, -1), nil, "bad_inner")
	add("to the vip, not from it, in v6", errorAbout(t, 1, tcp6, -1), nil, "bad_inner")
	add("from a port of no vip", errorAbout(t, 3, fromPort(26), -1), nil, "icmp_unhandled")
	add("of a protocol of no vip", errorAbout(t, 3, func() *pkttest.Frame { return pkttest.NewUDP(vipTCP, client) }, -1), nil, "icmp_unhandled")
	add("from a port of no vip in v6", whole6, set(inner6+40, 0, 26), "icmp_unhandled")
	add("version 6 in v4", whole, set(inner, 0x65), "bad_inner")
	add("version 4 in v6", whole6, set(inner6, 0x45), "bad_inner")
	add("header of 16 bytes", whole, set(inner, 0x44), "bad_inner")
	add("echo reply of ours", errorAbout(t, 3, echoReply(echo4), -1), nil, "bad_inner")
	add("echo reply of ours in v6", errorAbout(t, 1, echoReply(echo6), -1), nil, "bad_inner")
	add("sctp", whole, set(inner+9, 132), "bad_inner")
	add("sctp in v6", whole6, set(inner6+6, 132), "bad_inner")
	add("no next header in v6", whole6, set(inner6+6, 59), "bad_inner")
	add("later fragment", whole, set(inner+6, 0x20, 0x01), "bad_inner")
	add("last fragment", whole, set(inner+6, 0x1f, 0xff), "bad_inner")
	add("later fragment in v6", errorAbout(t, 1, with(response6, headers(pkttest.FragmentAt(8, true, 7))), -1), nil, "bad_inner")
	add("nine headers in v6", errorAbout(t, 1, with(response6, headers(nHeaders(9)...)), -1), nil, "bad_inner")
	add("on its way through elsewhere in v6", errorAbout(t, 1, with(response6, headers(pkttest.Routing(1))), -1), nil, "bad_inner")
	runLB(t, cases)
}

// flip changes a byte.
func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] ^= 0x10
		return b
	}
}

// TestLBShortErrors has the packet inside end at every byte before it is known. What lies behind the error in the frame is
// no part of it, even if it goes on with the packet inside.
func TestLBShortErrors(t *testing.T) {
	var cases []lbCase
	for _, p := range []struct {
		name  string
		typ   uint8
		about made
		need  int
	}{
		{"v4", 3, response, 24},
		{"v4 with options", 3, with(response, someOptions), 28},
		{"v6", 1, response6, 44},
		{"v6 with headers", 1, with(response6, headers(pkttest.HopByHop(0), pkttest.Auth(2), pkttest.FragmentAt(0, true, 7))), 40 + 8 + 16 + 8 + 4},
	} {
		rest := p.about().Packet(t)
		for n := range p.need {
			short := errorAbout(t, p.typ, p.about, n)
			more := with(short, func(f *pkttest.Frame) { f.Trailer = slices.Clone(rest[n:]) })
			cases = append(cases,
				lbCase{name: fmt.Sprintf("%s, %d bytes", p.name, n), frame: short, verdict: xdpDrop, reason: "bad_inner"},
				lbCase{name: fmt.Sprintf("%s, %d bytes, the rest behind", p.name, n), frame: more, verdict: xdpDrop, reason: "bad_inner"})
		}
	}
	runLB(t, cases)
}
