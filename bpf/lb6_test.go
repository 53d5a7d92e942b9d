package bpf

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"anycastle/internal/pkttest"
)

const l4At6 = pkttest.L4Start6

// ends has the packet end so many bytes behind its IPv6 header, whatever else the frame holds.
func ends(n int) func([]byte) []byte { return set(ipAt+4, byte(n>>8), byte(n)) }

func elsewhere6() *pkttest.Frame {
	return pkttest.New(client6, netip.MustParseAddrPort("[2001:db8:1::11]:25"))
}

// toMapped has an IPv6 packet go to the address of an IPv4 VIP.
func toMapped() func([]byte) []byte {
	vip := vipTCP.Addr().As16()
	return set(ipAt+24, vip[:]...)
}

// extKinds are the extension headers that are walked over, 8 and 16 bytes of each where it has a length; the
// authentication header counts in words of 4 bytes.
var extKinds = []struct {
	name        string
	short, long pkttest.Ext
}{
	{"hop-by-hop options", pkttest.HopByHop(0), pkttest.HopByHop(1)},
	{"destination options", pkttest.Destination(0), pkttest.Destination(1)},
	{"routing", pkttest.Routing(0), longRouting},
	{"authentication", pkttest.Auth(0), pkttest.Auth(2)},
}

// longRouting has one address in its list, which was visited.
var longRouting = pkttest.Ext{Proto: pkttest.RoutingHeader, Rest: append([]byte{2, 4, 0, 0, 0, 0, 0}, vipTCP6.Addr().AsSlice()...)}

var lb6Cases = []lbCase{
	{name: "tcp", frame: tcp6, verdict: xdpTX, want: ipip4.gets(tcp6)},
	{name: "udp", frame: udp6, verdict: xdpTX, want: ipip4.gets(udp6)},
	{name: "syn", frame: syn6, verdict: xdpTX, want: ipip4.gets(syn6)},
	{name: "behind the packet", frame: with(tcp6, trailer(5)), verdict: xdpTX, want: ipip4.gets(with(tcp6, trailer(5)))},
	{name: "last but one hop", frame: with(tcp6, ttl(2)), verdict: xdpTX, want: ipip4.gets(with(tcp6, ttl(2)))},
	{name: "smallest tcp", frame: with(tcp6, payload(0)), verdict: xdpTX, want: ipip4.gets(with(tcp6, payload(0)))},
	{name: "smallest udp", frame: with(udp6, payload(0)), verdict: xdpTX, want: ipip4.gets(with(udp6, payload(0)))},

	{name: "not a vip", frame: elsewhere6, verdict: xdpPass},
	{name: "vip of another port", frame: func() *pkttest.Frame { return pkttest.New(client6, vipUDP6) }, verdict: xdpPass},
	{name: "ipv4 vip", frame: tcp6, mangle: toMapped(), verdict: xdpPass},
	{name: "bad header to an ipv4 vip", frame: tcp6, mangle: func(b []byte) []byte { return set(ipAt, 0x40)(toMapped()(b)) }, verdict: xdpPass},
	{name: "echo to an ipv4 vip", frame: echo6, mangle: toMapped(), verdict: xdpPass},
	{name: "spent to an ipv4 vip", frame: with(tcp6, ttl(1)), mangle: toMapped(), verdict: xdpPass},
	{name: "vip of another protocol", frame: func() *pkttest.Frame { return pkttest.NewUDP(client6, vipTCP6) }, verdict: xdpPass},
	{name: "bad header to elsewhere", frame: elsewhere6, mangle: set(ipAt, 0x40), verdict: xdpPass},
	{name: "truncated to elsewhere", frame: elsewhere6, mangle: cut(l4At6), verdict: xdpPass},
	{name: "nine headers to elsewhere", frame: with(elsewhere6, headers(nHeaders(9)...)), verdict: xdpPass},
	{name: "on its way through elsewhere", frame: with(elsewhere6, headers(pkttest.Routing(1))), verdict: xdpPass},
	{name: "esp", mangle: set(ipAt+6, 50), frame: tcp6, verdict: xdpPass},
	{name: "sctp", mangle: set(ipAt+6, 132), frame: tcp6, verdict: xdpPass},
	{name: "icmp in ipv6", mangle: set(ipAt+6, 1), frame: tcp6, verdict: xdpPass},
	{name: "no next header", mangle: set(ipAt+6, 59), frame: tcp6, verdict: xdpPass},
	{name: "no next header behind another", mangle: set(l4At6, 59), frame: with(tcp6, headers(pkttest.HopByHop(0))), verdict: xdpPass},

	{name: "no next header, and nothing behind another", mangle: func(b []byte) []byte { return ends(8)(set(l4At6, 59)(b)) },
		frame: with(tcp6, headers(pkttest.HopByHop(0))), verdict: xdpPass},

	{name: "truncated after ethernet", frame: tcp6, mangle: cut(ipAt), verdict: xdpDrop, reason: "truncated"},
	{name: "truncated in ip", frame: tcp6, mangle: cut(l4At6 - 1), verdict: xdpDrop, reason: "truncated"},
	{name: "truncated after ip", frame: tcp6, mangle: cut(l4At6), verdict: xdpDrop, reason: "truncated"},
	{name: "truncated in tcp", frame: tcp6, mangle: cut(l4At6 + 19), verdict: xdpDrop, reason: "truncated"},
	{name: "truncated in payload", frame: tcp6, mangle: cut(l4At6 + 29), verdict: xdpDrop, reason: "truncated"},
	{name: "packet ends in tcp", frame: tcp6, mangle: ends(19), verdict: xdpDrop, reason: "truncated"},
	{name: "packet ends in udp", frame: udp6, mangle: ends(7), verdict: xdpDrop, reason: "truncated"},
	{name: "packet ends after ip, as that of a jumbogram", frame: tcp6, mangle: ends(0), verdict: xdpDrop, reason: "truncated"},
	{name: "version 4", frame: tcp6, mangle: set(ipAt, 0x42), verdict: xdpDrop, reason: "bad_header"},
	{name: "bad header of a protocol that no vip has", frame: tcp6, mangle: func(b []byte) []byte { return set(ipAt+6, 132)(set(ipAt, 0x42)(b)) },
		verdict: xdpDrop, reason: "bad_header"},
	{name: "hop limit 1", frame: with(tcp6, ttl(1)), verdict: xdpDrop, reason: "ttl_expired"},
	{name: "hop limit 0", frame: with(tcp6, ttl(0)), verdict: xdpDrop, reason: "ttl_expired"},
	{name: "nobody in service", frame: tcp6, verdict: xdpDrop, reason: "no_real",
		prepare: func(t *testing.T, r *rig) { r.setVIPs(t, Slot{}, func(*VIP) {}) }},
	{name: "no table", frame: tcp6, verdict: xdpDrop, reason: "no_table", vip: func(v *VIP) { v.Farm = rigFarms - 1 }},
}

func TestLB6(t *testing.T) { runLB(t, lb6Cases) }

// nHeaders gives so many extension headers of all kinds.
func nHeaders(n int) []pkttest.Ext {
	all := []pkttest.Ext{pkttest.HopByHop(0), pkttest.Destination(1), pkttest.Routing(0), pkttest.Auth(1), pkttest.FragmentAt(0, false, 7)}
	return slices.Repeat(all, n/len(all)+1)[:n]
}

func TestLB6Headers(t *testing.T) {
	atomic := pkttest.FragmentAt(0, false, 7)
	reserved := pkttest.FragmentAt(0, false, 7)
	reserved.Rest[0], reserved.Rest[2] = 0xff, 6 // the bits that a receiver does not look at
	behind := func(n int) int { return 8 * n }
	cases := []lbCase{}
	pass := func(name string, f made) {
		cases = append(cases, lbCase{name: name, frame: f, verdict: xdpTX, want: ipip4.gets(f)})
	}
	refuse := func(name string, f made, mangle func([]byte) []byte, reason string) {
		cases = append(cases, lbCase{name: name, frame: f, mangle: mangle, verdict: xdpDrop, reason: reason})
	}
	for _, k := range extKinds {
		short, long := with(tcp6, headers(k.short)), with(tcp6, headers(k.long))
		pass(k.name, short)
		pass("long "+k.name, long)
		pass(k.name+" before udp", with(udp6, headers(k.short)))
		pass(k.name+" twice", with(tcp6, headers(k.long, k.long)))
		size := len(k.long.Rest) + 1
		refuse("packet ends before "+k.name, short, ends(0), "truncated")
		refuse("packet ends in the first byte of "+k.name, short, ends(1), "truncated")
		refuse("packet ends in "+k.name, short, ends(7), "truncated")
		refuse("packet ends in the rest of "+k.name, long, ends(size-1), "truncated")
		refuse("packet ends after "+k.name, long, ends(size), "truncated")
		refuse("packet ends in tcp behind "+k.name, long, ends(size+19), "truncated")
		refuse("packet ends in udp behind "+k.name, with(udp6, headers(k.long)), ends(size+7), "truncated")
		refuse("frame ends in "+k.name, short, cut(l4At6+7), "truncated")
	}
	pass("longest header", with(tcp6, headers(pkttest.Destination(155)), payload(0))) // 1248 bytes
	pass("atomic fragment", with(tcp6, headers(atomic)))
	pass("atomic fragment with reserved bits", with(tcp6, headers(reserved)))
	pass("atomic fragment between others", with(udp6, headers(pkttest.HopByHop(0), atomic, pkttest.Destination(2))))
	for n := range 7 {
		refuse(fmt.Sprintf("packet ends after %d bytes of an atomic fragment's header", n+1), with(tcp6, headers(atomic)), ends(n+1), "truncated")
	}
	pass("eight headers", with(tcp6, headers(nHeaders(8)...)))
	pass("eight headers before udp", with(udp6, headers(nHeaders(8)...)))
	eight := slices.Repeat([]pkttest.Ext{pkttest.Destination(0)}, 8)
	for n := range 8 {
		refuse(fmt.Sprintf("packet ends in header %d of eight", n+1), with(tcp6, headers(eight...)), ends(behind(n)+7), "truncated")
	}
	refuse("packet ends in tcp behind eight headers", with(tcp6, headers(eight...)), ends(behind(8)+19), "truncated")
	refuse("nine headers", with(tcp6, headers(nHeaders(9)...)), nil, "ext_header")
	refuse("nine headers before icmp", with(echo6, headers(nHeaders(9)...)), nil, "ext_header")
	for _, left := range []uint8{1, 2, 255} {
		refuse(fmt.Sprintf("routing with %d segments left", left), with(tcp6, headers(pkttest.Routing(left))), nil, "ext_header")
	}
	refuse("routing with a segment left behind others", with(tcp6, headers(pkttest.HopByHop(0), pkttest.Destination(0), pkttest.Routing(1))), nil, "ext_header")
	runLB(t, cases)
}
