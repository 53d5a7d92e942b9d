package bpf

import (
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/gopacket/gopacket/layers"
)

// encapsulated is what the balancer makes of the valid packet: the outer header is as old as the inner one.
func encapsulated() *pkttest.Frame {
	f := tcp().Encapsulate(lbAddr, mx1)
	f.Outer.TTL = f.IP.TTL
	return f
}

const innerAt = ipAt + pkttest.IPLen

var (
	innerOptions = with(encapsulated, someOptions)
	outerOptions = with(encapsulated, func(f *pkttest.Frame) {
		f.Outer.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}}
	})
	toOther  = with(encapsulated, func(f *pkttest.Frame) { f.Outer.DstIP = mx2.AsSlice() })
	otherVIP = with(encapsulated, func(f *pkttest.Frame) { f.IP.DstIP = netip.MustParseAddr("203.0.113.11").AsSlice() })
)

func TestReal(t *testing.T) {
	runReal(t, []realCase{
		{name: "decapsulated", verdict: xdpPass, want: tcp},
		{name: "inner options", frame: innerOptions, verdict: xdpPass, want: options},

		{name: "not encapsulated", frame: tcp, verdict: xdpPass},
		{name: "arp", mangle: set(12, 0x08, 0x06), verdict: xdpPass},
		{name: "ethernet alone", mangle: cut(ipAt), verdict: xdpPass},
		{name: "truncated in outer", mangle: cut(innerAt - 1), verdict: xdpPass},

		{name: "truncated after outer", mangle: cut(innerAt), verdict: xdpDrop, reason: "truncated"},
		{name: "truncated in payload", mangle: cut(innerAt + 49), verdict: xdpDrop, reason: "truncated"},
		{name: "outer version 6", mangle: set(ipAt, 0x65), verdict: xdpDrop, reason: "bad_header"},
		{name: "outer options", frame: outerOptions, verdict: xdpDrop, reason: "bad_header"},
		{name: "outer fragment", mangle: set(ipAt+6, 0x20, 0), verdict: xdpDrop, reason: "fragment"},
		{name: "outer to another host", frame: toOther, verdict: xdpDrop, reason: "not_own"},
		{name: "inner to no vip", frame: otherVIP, verdict: xdpDrop, reason: "not_vip"},
		{name: "outer ends in inner header", mangle: func(b []byte) []byte { return set(ipAt+2, 0, 39)(b)[:innerAt+19] },
			verdict: xdpDrop, reason: "bad_inner"},
		{name: "inner longer than outer", mangle: set(ipAt+2, 0, 69), verdict: xdpDrop, reason: "bad_inner"},
		{name: "inner longer than the frame", mangle: set(innerAt+2, 0, 51), verdict: xdpDrop, reason: "bad_inner"},
		{name: "inner version 6", mangle: set(innerAt, 0x65), verdict: xdpDrop, reason: "bad_inner"},
		{name: "inner header of 16 bytes", mangle: set(innerAt, 0x44), verdict: xdpDrop, reason: "bad_inner"},
	})
}

func TestSetAddressesReplaces(t *testing.T) {
	host := newRealRig(t)
	for range 2 { // the second time changes nothing
		put(t, host.SetAddresses([]netip.Addr{mx2}, []netip.Addr{vipTCP.Addr()}))
		verdict, _, err := host.prog.Test(encapsulated().Bytes(t))
		put(t, err)
		if verdict != xdpDrop {
			t.Errorf("packet to an address that was removed: verdict %d, want %d", verdict, xdpDrop)
		}
		verdict, _, err = host.prog.Test(toOther().Bytes(t))
		put(t, err)
		if verdict != xdpPass {
			t.Errorf("packet to an address that was added: verdict %d, want %d", verdict, xdpPass)
		}
	}
}
