package modeltest

import (
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"
)

func newHost() *Host {
	return NewHost([]netip.Addr{real4, real6}, []netip.Addr{smtp4.Addr(), smtp6.Addr()})
}

func TestHost(t *testing.T) {
	second4 := netip.MustParseAddr("198.51.100.10")
	tunnel := func(f made, tun pkttest.Tunnel) made {
		return func(t testing.TB) *pkttest.Frame { return f(t).Wrap(tun) }
	}
	to4, to6 := pkttest.Tunnel{Src: lb4, Dst: real4}, pkttest.Tunnel{Src: lb6, Dst: real6}
	gue := func(tun pkttest.Tunnel, second netip.Addr) pkttest.Tunnel {
		tun.GUE, tun.Second = true, second
		return tun
	}
	none := netip.Addr{}
	for _, tc := range []struct {
		name    string
		frame   made
		mangle  func([]byte) []byte
		verdict Verdict
		reason  string
		want    made // nil: as it came in
	}{
		{name: "4 in 4", frame: tunnel(tcp4, to4), verdict: Pass, want: tcp4},
		{name: "6 in 4", frame: tunnel(tcp6, to4), verdict: Pass, want: tcp6},
		{name: "4 in 6", frame: tunnel(tcp4, to6), verdict: Pass, want: tcp4},
		{name: "6 in 6", frame: double(tunnel(ext6, to6)), verdict: Pass, want: double(ext6)},
		{name: "gue in 4", frame: tunnel(tcp6, gue(to4, none)), verdict: Pass, want: tcp6},
		{name: "gue in 6", frame: tunnel(tcp4, gue(to6, none)), verdict: Pass, want: tcp4},
		{name: "syn with a second hop", frame: tunnel(syn4, gue(to4, real6)), verdict: Pass, want: syn4},
		{name: "ack with a second hop", frame: tunnel(tcp4, gue(to4, second4)), verdict: TX,
			want: func(t testing.TB) *pkttest.Frame {
				f := tcp4(t).Wrap(gue(pkttest.Tunnel{Src: lb4, Dst: second4}, none))
				f.Outer.TTL--
				f.Eth.SrcMAC, f.Eth.DstMAC = f.Eth.DstMAC, f.Eth.SrcMAC
				return f
			}},
		{name: "plain", frame: tcp4, verdict: Pass},
		{name: "to another", frame: tunnel(tcp4, pkttest.Tunnel{Src: lb4, Dst: other4}), verdict: Drop, reason: "not_own"},
		{name: "gue to another", frame: tunnel(tcp4, gue(pkttest.Tunnel{Src: lb4, Dst: other4}, none)), verdict: Pass},
		{name: "no vip", frame: tunnel(func(testing.TB) *pkttest.Frame { return pkttest.New(client4, client4) }, to4), verdict: Drop, reason: "not_vip"},
		{name: "fragment", frame: tunnel(tcp4, to4), mangle: set(pkttest.IPStart+6, 0x20), verdict: Drop, reason: "fragment"},
		{name: "inner longer than outer", frame: tunnel(tcp6, to4), mangle: set(pkttest.IPStart+20+5, 31), verdict: Drop, reason: "bad_inner"},
		{name: "congestion and no ECN inside", frame: tunnel(tcp4, to4), mangle: set(pkttest.IPStart+1, 0x2b), verdict: Drop, reason: "ecn"},
		{name: "gue with a flag", frame: tunnel(tcp4, gue(to4, none)), mangle: set(pkttest.IPStart+20+8+3, 1), verdict: Pass},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := tc.frame(t).Bytes(t)
			if tc.mangle != nil {
				in = tc.mangle(in)
			}
			r := newHost().Run(in)
			if r.Verdict != tc.verdict || r.Reason != tc.reason {
				t.Errorf("verdict %d %s, want %d %s", r.Verdict, r.Reason, tc.verdict, tc.reason)
			}
			want := in
			switch {
			case tc.verdict == Drop:
				want = nil
			case tc.want != nil:
				want = tc.want(t).Bytes(t)
			}
			if diff := pkttest.Diff(want, r.Out); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestJoinTOS is figure 4 of RFC 6040, and the outer DSCP.
func TestJoinTOS(t *testing.T) {
	const bad = 0xff
	for inner, row := range map[uint8][4]uint8{ // by the outer field: Not-ECT, ECT(1), ECT(0), CE
		0: {0, 0, 0, bad},
		2: {2, 1, 2, 3},
		1: {1, 1, 1, 3},
		3: {3, 3, 3, 3},
	} {
		for outer, want := range row {
			got, ok := joinTOS(0xb8|uint8(outer), 0x28|inner)
			if !ok {
				got = bad
			} else {
				want |= 0xb8
			}
			if got != want {
				t.Errorf("outer %d, inner %d: %#x, want %#x", outer, inner, got, want)
			}
		}
	}
}

// TestHostTakesTheLowerTTL and the outer class, and mends the checksum.
func TestHostTakesTheLowerTTL(t *testing.T) {
	for outer, want := range map[uint8]uint8{9: 9, 64: 61} {
		f := tcp4(t).Wrap(pkttest.Tunnel{Src: lb4, Dst: real4})
		f.Outer.TTL, f.Outer.TOS = outer, 0x60
		got := newHost().Run(f.Bytes(t)).Out
		if diff := pkttest.Diff(f.Decapsulate().SetTTL(want).SetTOS(0x60).Bytes(t), got); diff != "" {
			t.Error(diff)
		}
	}
}
