package bpf

import (
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
)

// newRealHost gives a loaded decapsulator of mx1 for the VIP.
func newRealHost(t testing.TB) *RealHost {
	t.Helper()
	host, err := LoadReal(pinDir(t))
	put(t, err)
	t.Cleanup(func() { host.Close() })
	put(t, host.SetAddresses([]netip.Addr{mx1}, []netip.Addr{vipTCP.Addr()}))
	return host
}

// encapsulated is what the balancer makes of the valid packet: the outer header is as old as the inner one.
func encapsulated() *pkttest.Frame {
	f := tcp().Encapsulate(lbAddr, mx1)
	f.Outer.TTL = f.IP.TTL
	return f
}

func plain(f func() *pkttest.Frame) func() *pkttest.Frame {
	return func() *pkttest.Frame {
		p := f()
		p.Outer = nil
		return p
	}
}

const innerAt = ipAt + pkttest.IPLen

var (
	innerOptions = with(encapsulated, func(f *pkttest.Frame) {
		f.IP.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}}
	})
	outerOptions = with(encapsulated, func(f *pkttest.Frame) {
		f.Outer.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}}
	})
	toOther  = with(encapsulated, func(f *pkttest.Frame) { f.Outer.DstIP = mx2.AsSlice() })
	otherVIP = with(encapsulated, func(f *pkttest.Frame) { f.IP.DstIP = netip.MustParseAddr("203.0.113.11").AsSlice() })
)

func TestReal(t *testing.T) {
	cases := []struct {
		name    string
		frame   func() *pkttest.Frame // nil: the valid packet
		mangle  func(b []byte) []byte
		verdict uint32
		reason  string
		want    func() *pkttest.Frame // nil: the packet is as it came in
	}{
		{name: "decapsulated", verdict: xdpPass, want: plain(encapsulated)},
		{name: "inner options", frame: innerOptions, verdict: xdpPass, want: plain(innerOptions)},

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
	}
	host := newRealHost(t)
	cpus, err := ebpf.PossibleCPU()
	put(t, err)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			for index := range uint32(realReasonREASON_MAX) {
				put(t, host.drops.Put(index, make([]uint64, cpus)))
			}
			put(t, host.objs.Taken.Put(uint32(takenHere), make([]Count, cpus)))
			frame := tc.frame
			if frame == nil {
				frame = encapsulated
			}
			in := frame().Bytes(t)
			if tc.mangle != nil {
				in = tc.mangle(in)
			}
			verdict, out, err := host.prog.Test(in)
			put(t, err)
			if verdict != tc.verdict {
				t.Errorf("verdict %d, want %d", verdict, tc.verdict)
			}
			want, drops, count := in, map[string]uint64{}, Count{}
			if tc.reason != "" {
				drops[tc.reason] = 1
			}
			if tc.want != nil {
				want = tc.want().Bytes(t)
				count = Count{Packets: 1, Bytes: uint64(len(want) - pkttest.EthLen)}
			}
			if diff := pkttest.Diff(want, out); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(drops, nonZero(t, &host.program)); diff != "" {
				t.Errorf("drops (-want +got):\n%s", diff)
			}
			got, err := host.Decapsulated()
			put(t, err)
			if got != count {
				t.Errorf("decapsulated %+v, want %+v", got, count)
			}
		})
	}
}

func TestSetAddressesReplaces(t *testing.T) {
	host := newRealHost(t)
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
