package bpf

import (
	"fmt"
	"slices"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/gopacket/gopacket/layers"
)

// tunnels are all kinds of encapsulation without a second hop.
var tunnels = []struct {
	name string
	tun  pkttest.Tunnel
}{
	{"ipip by v4", pkttest.Tunnel{Src: lbAddr, Dst: own4}},
	{"ipip by v6", pkttest.Tunnel{Src: lbAddr6, Dst: own6, Hash: 0x1234_5678_9abc}},
	{"gue by v4", pkttest.Tunnel{Src: lbAddr, Dst: own4, GUE: true, Hash: 0x1234_5678_9abc}},
	{"gue by v6", pkttest.Tunnel{Src: lbAddr6, Dst: own6, GUE: true, Hash: 0x1234_5678_9abc}},
}

// inside gives the frame within a tunnel.
func inside(f made, tun pkttest.Tunnel) made { return func() *pkttest.Frame { return f().Wrap(tun) } }

// outerLen is what a tunnel puts in front of the packet.
func outerLen(tun pkttest.Tunnel) int {
	n := pkttest.IPLen
	if tun.Dst.Is6() {
		n = pkttest.IP6Len
	}
	if tun.GUE {
		n += pkttest.UDPLen + pkttest.GUELen
	}
	return n
}

// TestRealTunnels takes off every kind of header from every kind of packet.
func TestRealTunnels(t *testing.T) {
	var cases []realCase
	for _, tun := range tunnels {
		add := func(name string, f made, changes ...func(f *pkttest.Frame)) {
			cases = append(cases, realCase{name: tun.name + ", " + name, frame: with(inside(f, tun.tun), changes...), verdict: xdpPass, want: f})
		}
		for _, p := range packets {
			for _, tags := range [][]pkttest.Tag{noTags, oneTag, twoTags} {
				add(fmt.Sprintf("%s, %d tags", p.name, len(tags)), with(p.frame, vlans(tags...)))
			}
			add(p.name+", bytes behind", with(p.frame, trailer(5)))
			add(p.name+", large", with(p.frame, payload(1400)))
		}
		add("options", options)
		add("headers", with(tcp6, headers(nHeaders(8)...)))
		add("more headers than the balancer takes", with(tcp6, headers(nHeaders(9)...)))
		add("echo", echo6)
		add("error", about(t, response))
		add("fragment", cutFlows()[0].piece(t, 1))
		add("fragment in v6", cutFlows()[2].piece(t, 1))
		add("without a transport header in v4", with(tcp, func(f *pkttest.Frame) { f.L4, f.Payload = nil, nil }))
		add("without a transport header", with(tcp6, func(f *pkttest.Frame) { f.L4, f.Payload = nil, nil }))
	}
	runReal(t, cases)
}

// TestRealRefused has each kind of tunnel lead to another host, to no VIP of this one, or carry what is no packet.
func TestRealRefused(t *testing.T) {
	var cases []realCase
	for _, tun := range tunnels {
		for _, p := range packets {
			f := inside(p.frame, tun.tun)
			add := func(name string, f made, mangle func([]byte) []byte, verdict uint32, reason string) {
				cases = append(cases, realCase{name: tun.name + ", " + p.name + ", " + name, frame: f, mangle: mangle, verdict: verdict, reason: reason})
			}
			refused := func(name string, mangle func([]byte) []byte, reason string) { add(name, f, mangle, xdpDrop, reason) }
			at, header := ipAt+outerLen(tun.tun), p.frame().Packet(t)[:20]
			if header[0]>>4 == 6 {
				header = p.frame().Packet(t)[:40]
			}
			other := tun.tun
			if other.Dst = mx2; tun.tun.Dst.Is6() {
				other.Dst = gue6.addr
			}
			if tun.tun.GUE {
				add("another host", inside(p.frame, other), nil, xdpPass, "")
			} else {
				add("another host", inside(p.frame, other), nil, xdpDrop, "not_own")
			}
			refused("no vip", flip(at+len(header)-1), "not_vip")
			refused("no vip by the first byte", flip(at+len(header)-[]int{4, 16}[len(header)/40]), "not_vip")
			refused("another version", set(at, header[0]^0x20), "bad_inner")
			for n := range len(header) {
				refused(fmt.Sprintf("ends after %d bytes", n), outerEnds(tun.tun, n), "bad_inner")
			}
			refused("ends before its last byte", outerEnds(tun.tun, len(p.frame().Packet(t))-1), "bad_inner")
			if len(header) == 20 {
				refused("header of 16 bytes", set(at, 0x44), "bad_inner")
				refused("total length in the header", set(at+2, 0, 19), "bad_inner")
				refused("longer than the outer packet", set(at+2, 0, byte(len(p.frame().Packet(t))+1)), "bad_inner")
			} else {
				refused("longer than the outer packet", set(at+4, 0, byte(len(p.frame().Packet(t))-40+1)), "bad_inner")
			}
		}
	}
	runReal(t, cases)
}

// outerEnds has the outer packet end n bytes into the inner one, and nothing of the frame cut.
func outerEnds(tun pkttest.Tunnel, n int) func([]byte) []byte {
	total := outerLen(tun) + n
	if tun.Dst.Is6() {
		return set(ipAt+4, byte((total-40)>>8), byte(total-40))
	}
	return set(ipAt+2, byte(total>>8), byte(total))
}

// TestRealLongOuter has the outer packet go on behind the inner one: those bytes stay behind it.
func TestRealLongOuter(t *testing.T) {
	var cases []realCase
	for _, tun := range tunnels {
		for _, p := range packets {
			f := with(p.frame, trailer(8))
			cases = append(cases, realCase{name: tun.name + ", " + p.name, frame: inside(f, tun.tun), mangle: outerEnds(tun.tun, len(p.frame().Packet(t))+8),
				verdict: xdpPass, want: f})
		}
	}
	runReal(t, cases)
}

// TestRealOuter6 has an IPv6 tunnel be none.
func TestRealOuter6(t *testing.T) {
	ipip, gue := inside(tcp6, tunnels[1].tun), inside(tcp, tunnels[3].tun)
	var cases []realCase
	add := func(name string, f made, mangle func([]byte) []byte, verdict uint32, reason string) {
		cases = append(cases, realCase{name: name, frame: f, mangle: mangle, verdict: verdict, reason: reason})
	}
	for _, header := range []byte{0, 43, 44, 50, 51, 60, 6, 58, 59, 1, 47, 132} {
		add(fmt.Sprintf("next header %d", header), ipip, set(ipAt+6, header), xdpPass, "")
	}
	add("in a frame of arp", ipip, set(12, 0x08, 0x06), xdpPass, "")
	add("in a frame of ipv4", ipip, set(12, 0x08, 0x00), xdpPass, "")
	add("version 4", ipip, set(ipAt, 0x42), xdpDrop, "bad_header")
	add("truncated after the outer header", ipip, cut(ipAt+40), xdpDrop, "truncated")
	add("truncated in the payload", ipip, func(b []byte) []byte { return b[:len(b)-1] }, xdpDrop, "truncated")
	add("truncated in the outer header", ipip, cut(ipAt+39), xdpPass, "")
	add("gue of version 4", gue, set(ipAt, 0x42), xdpPass, "")
	add("gue truncated in the payload", gue, func(b []byte) []byte { return b[:len(b)-1] }, xdpPass, "")
	for n := range 12 {
		add(fmt.Sprintf("gue ends after %d bytes", n), gue, set(ipAt+4, 0, byte(n)), xdpPass, "")
		add(fmt.Sprintf("gue cut after %d bytes", n), gue, func(b []byte) []byte { return set(ipAt+4, 0, byte(n))(b)[:ipAt+40+n] }, xdpPass, "")
	}
	tagged := with(ipip, vlans(twoTags[0], twoTags[1], oneTag[0]))
	add("three tags", tagged, nil, xdpPass, "")
	for n := 14; n < 22; n++ {
		add(fmt.Sprintf("tags cut after %d bytes", n), with(ipip, vlans(twoTags...)), cut(n), xdpPass, "")
	}
	add("bad header behind tags", with(ipip, vlans(twoTags...)), set(22, 0x42), xdpDrop, "bad_header")
	runReal(t, cases)
}

// TestRealOuter4 does the same for GUE in IPv4; real_test.go has the rest.
func TestRealOuter4(t *testing.T) {
	gue := inside(tcp, tunnels[2].tun)
	var cases []realCase
	add := func(name string, f made, mangle func([]byte) []byte) {
		cases = append(cases, realCase{name: name, frame: f, mangle: mangle, verdict: xdpPass})
	}
	for n := range 12 {
		add(fmt.Sprintf("gue ends after %d bytes", n), gue, set(ipAt+2, 0, byte(20+n)))
		add(fmt.Sprintf("gue cut after %d bytes", n), gue, func(b []byte) []byte { return set(ipAt+2, 0, byte(20+n))(b)[:ipAt+20+n] })
	}
	add("gue of version 6", gue, set(ipAt, 0x65))
	add("gue truncated in the payload", gue, func(b []byte) []byte { return b[:len(b)-1] })
	add("gue behind options", with(gue, func(f *pkttest.Frame) { f.Outer.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}} }), nil)
	add("first fragment of gue", gue, set(ipAt+6, 0x20, 0))
	add("later fragment of gue", gue, set(ipAt+6, 0, 1))
	runReal(t, cases)
}

// TestRealGUE has the header be of another kind, which is the kernel's, or carry private data of another.
func TestRealGUE(t *testing.T) {
	var cases []realCase
	for _, tun := range tunnels[2:] {
		udpAt := ipAt + outerLen(tun.tun) - 12
		for _, p := range []struct {
			name  string
			frame made
		}{{"v4", tcp}, {"v6", tcp6}} {
			f := inside(p.frame, tun.tun)
			add := func(name string, mangle func([]byte) []byte) {
				cases = append(cases, realCase{name: tun.name + ", " + p.name + ", " + name, frame: f, mangle: mangle, verdict: xdpPass})
			}
			add("another port", set(udpAt+2, 0x17, 0xc1))
			add("port 0", set(udpAt+2, 0, 0))
			add("variant 1", set(udpAt+8, 0x40))
			add("control message", set(udpAt+8, 0x20))
			add("flags", set(udpAt+10, 0x80))
			add("more flags", set(udpAt+11, 1))
			for _, proto := range []byte{0, 6, 17, 47, 59} {
				add(fmt.Sprintf("protocol %d", proto), set(udpAt+9, proto))
			}
			private := func(name string, data []byte) {
				cases = append(cases, realCase{name: tun.name + ", " + p.name + ", private data " + name, verdict: xdpPass, want: p.frame,
					frame: with(f, func(f *pkttest.Frame) { f.GUE.Private = data })})
			}
			private("of one word", []byte{9, 9, 9, 9})
			private("of one word that begins as ours", []byte{1, 1, 4, 0})
			private("of 31 words", slices.Repeat([]byte{1, 1, 6, 0}, 31))
			private("of another type", []byte{2, 1, 4, 0, 192, 0, 2, 1})
			private("with two hops", []byte{1, 2, 4, 0, 192, 0, 2, 1})
			private("of another family", []byte{1, 1, 5, 0, 192, 0, 2, 1})
			private("of family 4 that is too long", []byte{1, 1, 4, 0, 192, 0, 2, 1, 0, 0, 0, 0})
			private("of family 6 that is too short", []byte{1, 1, 6, 0, 192, 0, 2, 1})
			private("of family 4 with the length of 6", slices.Concat([]byte{1, 1, 4, 0}, own6.AsSlice()))
			cases = append(cases, realCase{name: tun.name + ", " + p.name + ", private data longer than the packet", frame: f, mangle: set(udpAt+8, 31),
				verdict: xdpDrop, reason: "bad_inner"})
			for _, family := range []byte{4, 6} {
				cases = append(cases, realCase{name: fmt.Sprintf("%s, %s, second hop of family %d cut off", tun.name, p.name, family),
					frame: f, mangle: hopCutOff(udpAt, family), verdict: xdpDrop, reason: "bad_inner"})
			}
			cases = append(cases, realCase{name: tun.name + ", " + p.name + ", with a checksum", frame: f, mangle: set(udpAt+6, 0x12, 0x34),
				verdict: xdpPass, want: p.frame})
		}
	}
	runReal(t, cases)
}

// hopCutOff has the frame and the outer packet end within the address of a second hop.
func hopCutOff(udpAt int, family byte) func([]byte) []byte {
	return func(b []byte) []byte {
		const hopsAt = pkttest.UDPLen + pkttest.GUELen
		words := map[byte]byte{4: 2, 6: 5}[family]
		b = append(b[:udpAt+hopsAt], 1, 1, family, 0, 198, 51)
		b[udpAt+8] = words
		length := len(b) - ipAt
		if b[ipAt]>>4 == 4 {
			b[ipAt+2], b[ipAt+3] = 0, byte(length)
		} else {
			b[ipAt+4], b[ipAt+5] = 0, byte(length-pkttest.IP6Len)
		}
		return b
	}
}
