package modeltest

import (
	"maps"
	"net/netip"
	"testing"

	"anycastle/internal/flowhash"
	"anycastle/internal/pkttest"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
)

var (
	client4 = netip.MustParseAddrPort("192.0.2.7:40000")
	client6 = netip.MustParseAddrPort("[2001:db8::7]:40000")
	smtp4   = netip.MustParseAddrPort("203.0.113.10:25")
	smtp6   = netip.MustParseAddrPort("[2001:db8:1::10]:25")
	range4  = netip.MustParseAddrPort("203.0.113.10:1500")
	lb4     = netip.MustParseAddr("198.51.100.1")
	lb6     = netip.MustParseAddr("2001:db8:2::1")
	real4   = netip.MustParseAddr("198.51.100.9")
	other4  = netip.MustParseAddr("198.51.100.10")
	real6   = netip.MustParseAddr("2001:db8:2::9")
)

// The reals of a small balancer.
const (
	ipip4 uint16 = iota + 1
	ipip6
	gue4
	gue6
	gueOther
	l2
	tagged
)

// small gives a balancer with one farm, all slots of which are as given.
func small(slot Slot, second bool) *LB {
	m := NewLB(flowhash.Key{1, 2, 3})
	table := make(Table, flowhash.Slots)
	for i := range table {
		table[i] = slot
	}
	m.Farms[7] = table
	for _, vip := range []netip.AddrPort{smtp4, smtp6} {
		m.VIPs[VIPKey{vip.Addr(), 25, 6}] = VIP{Farm: 7, Index: 1, SecondChance: second}
		m.VIPs[VIPKey{vip.Addr(), 25, 17}] = VIP{Farm: 7, Index: 2}
		m.Addresses[vip.Addr().As16()] = Address{InService: true, Ranges: []Range{
			{Lo: 1500, Hi: 1501, Proto: 6, VIP: VIP{Farm: 7, Index: 3, Source: true, Prefix: 24}},
			{Lo: 1000, Hi: 2000, Proto: 6, VIP: VIP{Farm: 7, Index: 4}},
		}}
	}
	real := func(addr netip.Addr, kind Kind) Real {
		r := Real{Addr: addr, Source: lb4, Ifindex: Ingress, MTU: 1500, Kind: kind, DstMAC: [6]byte(pkttest.MAC(9)), SrcMAC: [6]byte(pkttest.MAC(2))}
		if addr.Is6() {
			r.Source = lb6
		}
		return r
	}
	m.Reals[ipip4], m.Reals[ipip6], m.Reals[l2] = real(real4, IPIP), real(real6, IPIP), real(real4, L2)
	m.Reals[gue4], m.Reals[gue6] = real(other4, GUE), real(real6, GUE)
	m.Reals[gueOther] = real(real4, GUE)
	r := real(real4, IPIP)
	r.Ifindex, r.Tags = Other, []Tag{{0x88a8, 5}, {0x8100, 6}}
	m.Reals[tagged] = r
	return m
}

func both(real uint16) Slot { return Slot{real, real} }

func with(f *pkttest.Frame, change func(f *pkttest.Frame)) *pkttest.Frame {
	change(f)
	return f
}

// on gives the frame that leaves for a real: one hop older, with the MACs that lead there.
func on(f *pkttest.Frame) *pkttest.Frame {
	f.Eth.SrcMAC, f.Eth.DstMAC = pkttest.MAC(2), pkttest.MAC(9)
	return f.SetTTL(f.TTL() - 1)
}

func hashOf(src, dst netip.AddrPort, proto uint8) uint64 {
	return flowhash.Of(flowhash.Key{1, 2, 3}, src, dst, proto)
}

// opening makes the segment a SYN.
func opening(f *pkttest.Frame) *pkttest.Frame {
	f.L4.(*layers.TCP).SYN, f.L4.(*layers.TCP).ACK = true, false
	return f
}

var headers = []pkttest.Ext{pkttest.HopByHop(0), pkttest.Destination(2), pkttest.Auth(4), pkttest.FragmentAt(0, false, 3), pkttest.Routing(0)}

// made gives a frame, new each time.
type made func(t testing.TB) *pkttest.Frame

type lbCase struct {
	name    string
	slot    Slot
	second  bool
	frame   made
	mangle  func([]byte) []byte
	verdict Verdict
	reason  string
	want    made // nil: as it came in
	flows   map[Flow]uint16
}

func tcp4(_ testing.TB) *pkttest.Frame { return pkttest.New(client4, smtp4) }
func tcp6(_ testing.TB) *pkttest.Frame { return pkttest.New(client6, smtp6) }
func syn4(t testing.TB) *pkttest.Frame { return opening(tcp4(t)) }
func ext6(t testing.TB) *pkttest.Frame {
	return with(tcp6(t), func(f *pkttest.Frame) { f.Ext = headers })
}

func wrap(f made, tun pkttest.Tunnel) made {
	return func(t testing.TB) *pkttest.Frame { return on(f(t)).Wrap(tun) }
}

func double(f made) made {
	return func(t testing.TB) *pkttest.Frame {
		return with(f(t), func(f *pkttest.Frame) { f.Tags = []pkttest.Tag{{Proto: 0x88a8, TCI: 5}, {Proto: 0x8100, TCI: 6}} })
	}
}

func thrice(t testing.TB) *pkttest.Frame {
	return with(double(tcp4)(t), func(f *pkttest.Frame) { f.Tags = append(f.Tags, f.Tags[0]) })
}

func error4(t testing.TB) *pkttest.Frame {
	return pkttest.NewICMPError(netip.MustParseAddr("192.0.2.1"), smtp4.Addr(), 3, 4, 1400, pkttest.New(smtp4, client4).Packet(t)[:28])
}

func error6(t testing.TB) *pkttest.Frame {
	inner := with(pkttest.New(smtp6, client6), func(f *pkttest.Frame) { f.Ext = headers[:2] })
	return pkttest.NewICMPError(client6.Addr(), smtp6.Addr(), 2, 0, 1400, inner.Packet(t))
}

var (
	hash4, hash6 = hashOf(client4, smtp4, 6), hashOf(client6, smtp6, 6)
	in4, in6     = pkttest.Tunnel{Src: lb4, Dst: real4, Hash: hash4}, pkttest.Tunnel{Src: lb6, Dst: real6, Hash: hash4}
	flow4        = Flow{client4, smtp4, 6}
)

var lbCases = []lbCase{
	{name: "4 in 4", slot: both(ipip4), frame: tcp4, verdict: TX, want: wrap(tcp4, in4)},
	{name: "4 in 6", slot: both(ipip6), frame: tcp4, verdict: TX, want: wrap(tcp4, in6)},
	{name: "6 in 4", slot: both(ipip4), frame: tcp6, verdict: TX, want: wrap(tcp6, in4)},
	{name: "6 in 6", slot: both(ipip6), frame: ext6, verdict: TX, want: wrap(ext6, pkttest.Tunnel{Src: lb6, Dst: real6, Hash: hash6})},
	{name: "gue", slot: both(gue4), frame: tcp4, verdict: TX, want: wrap(tcp4, pkttest.Tunnel{Src: lb4, Dst: other4, Hash: hash4, GUE: true})},
	{name: "l2", slot: both(l2), frame: tcp6, verdict: TX, want: func(t testing.TB) *pkttest.Frame { return on(tcp6(t)) }},
	{name: "tags come off", slot: both(l2), frame: double(tcp4), verdict: TX, want: func(t testing.TB) *pkttest.Frame { return on(tcp4(t)) }},
	{name: "tags go on", slot: both(tagged), frame: tcp4, verdict: Redirect, want: double(wrap(tcp4, in4))},
	{name: "three tags", slot: both(tagged), frame: thrice, verdict: Pass},
	{name: "by source", slot: both(gue4), frame: func(t testing.TB) *pkttest.Frame { return pkttest.New(client4, range4) }, verdict: TX,
		want: func(t testing.TB) *pkttest.Frame {
			hash := flowhash.OfSource(flowhash.Key{1, 2, 3}, netip.MustParsePrefix("192.0.2.0/24"))
			return on(pkttest.New(client4, range4)).Wrap(pkttest.Tunnel{Src: lb4, Dst: other4, Hash: hash, GUE: true})
		}},

	{name: "tracked syn", slot: Slot{ipip4, ipip6}, frame: syn4, verdict: TX, want: wrap(syn4, in4), flows: map[Flow]uint16{flow4: ipip4}},
	{name: "tracked ack", slot: Slot{ipip4, ipip6}, frame: tcp4, verdict: TX, want: wrap(tcp4, in6)},
	{name: "tracked with no secondary", slot: Slot{ipip4, 0}, frame: tcp4, verdict: TX, want: wrap(tcp4, in4)},
	{name: "tracked syn with no primary", slot: Slot{0, ipip4}, frame: syn4, verdict: Drop, reason: "no_real"},
	{name: "second chance syn", slot: Slot{gue4, gueOther}, second: true, frame: syn4, verdict: TX,
		want: wrap(syn4, pkttest.Tunnel{Src: lb4, Dst: other4, Hash: hash4, GUE: true})},
	{name: "second chance ack", slot: Slot{gue4, gueOther}, second: true, frame: tcp4, verdict: TX,
		want: wrap(tcp4, pkttest.Tunnel{Src: lb4, Dst: other4, Hash: hash4, GUE: true, Second: real4})},
	{name: "second chance between families", slot: Slot{gue4, gue6}, second: true, frame: tcp4, verdict: TX,
		want: wrap(tcp4, pkttest.Tunnel{Src: lb6, Dst: real6, Hash: hash4, GUE: true})},
	{name: "second chance with no primary", slot: Slot{0, gue6}, second: true, frame: tcp4, verdict: TX,
		want: wrap(tcp4, pkttest.Tunnel{Src: lb6, Dst: real6, Hash: hash4, GUE: true})},
	{name: "second chance with a real that has none", slot: Slot{gue4, ipip4}, second: true, frame: tcp4, verdict: TX, want: wrap(tcp4, in4)},

	{name: "error to the flow's real", slot: both(ipip4), frame: error4, verdict: TX, want: wrap(error4, in4)},
	{name: "error in ipv6", slot: both(gue6), frame: error6, verdict: TX,
		want: wrap(error6, pkttest.Tunnel{Src: lb6, Dst: real6, Hash: hash6, GUE: true})},
	{name: "error about another's packet", frame: error4, mangle: set(pkttest.L4Start+8+15, 9), verdict: Drop, reason: "bad_inner"},

	{name: "nine headers", frame: func(t testing.TB) *pkttest.Frame {
		return with(tcp6(t), func(f *pkttest.Frame) { f.Ext = append(append([]pkttest.Ext{}, headers...), headers[:4]...) })
	}, verdict: Drop, reason: "ext_header"},
	{name: "segments left", frame: func(t testing.TB) *pkttest.Frame {
		return with(tcp6(t), func(f *pkttest.Frame) { f.Ext = []pkttest.Ext{pkttest.Routing(1)} })
	}, verdict: Drop, reason: "ext_header"},
	{name: "cut in a tag", frame: double(tcp4), mangle: func(b []byte) []byte { return b[:21] }, verdict: Drop, reason: "truncated"},
	{name: "last hop", slot: both(l2), frame: func(t testing.TB) *pkttest.Frame { return tcp6(t).SetTTL(1) }, verdict: Drop, reason: "ttl_expired"},
	{name: "nobody", frame: tcp4, verdict: Drop, reason: "no_real"},
}

func set(at int, value ...byte) func([]byte) []byte {
	return func(b []byte) []byte {
		copy(b[at:], value)
		return b
	}
}

func TestLB(t *testing.T) {
	for _, tc := range lbCases {
		t.Run(tc.name, func(t *testing.T) {
			m := small(tc.slot, tc.second)
			in := tc.frame(t).Bytes(t)
			if tc.mangle != nil {
				in = tc.mangle(in)
			}
			r := m.Run(in, Ingress)
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
			if tc.flows == nil {
				tc.flows = map[Flow]uint16{}
			}
			if diff := cmp.Diff(tc.flows, m.Flows, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("flows (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTrackedFlowKeepsItsReal has a flow that began with the primary go on there, its ICMP errors too, and no other.
func TestTrackedFlowKeepsItsReal(t *testing.T) {
	m := small(Slot{ipip4, ipip6}, false)
	m.Run(syn4(t).Bytes(t), Ingress)
	for _, tc := range []struct {
		frame made
		want  pkttest.Tunnel
	}{
		{tcp4, in4},
		{error4, in4},
		{func(testing.TB) *pkttest.Frame { return pkttest.NewUDP(client4, smtp4) },
			pkttest.Tunnel{Src: lb6, Dst: real6, Hash: hashOf(client4, smtp4, 17)}},
	} {
		if diff := pkttest.Diff(on(tc.frame(t)).Wrap(tc.want).Bytes(t), m.Run(tc.frame(t).Bytes(t), Ingress).Out); diff != "" {
			t.Error(diff)
		}
	}
	if want := (map[uint32]Count{1: {3, 50 + 50 + 56}, 2: {1, 48}}); !maps.Equal(want, m.Counts) {
		t.Errorf("counted %v, want %v", m.Counts, want)
	}
}

// TestFragmentsFollowTheFirst has later fragments come before the first and after it.
func TestFragmentsFollowTheFirst(t *testing.T) {
	for _, whole := range []*pkttest.Frame{pkttest.NewUDP(client4, smtp4), pkttest.NewUDP(client6, smtp6)} {
		m := small(both(gue6), false)
		whole.Payload = make([]byte, 60)
		pieces := whole.Fragments(t, 24, 5)
		if r := m.Run(pieces[2].Bytes(t), Ingress); r.Verdict != Drop || r.Reason != "fragment_early" || !r.Held {
			t.Errorf("a later fragment before the first: %+v", r)
		}
		hash := hashOf(client4, smtp4, 17)
		if whole.IP6 != nil {
			hash = hashOf(client6, smtp6, 17)
		}
		tun := pkttest.Tunnel{Src: lb6, Dst: real6, Hash: hash, GUE: true}
		for i, piece := range pieces {
			in := piece.Bytes(t)
			if diff := pkttest.Diff(on(piece).Wrap(tun).Bytes(t), m.Run(in, Ingress).Out); diff != "" {
				t.Errorf("fragment %d: %s", i, diff)
			}
		}
	}
}

func TestEcho(t *testing.T) {
	for _, pair := range [][2]netip.AddrPort{{client4, smtp4}, {client6, smtp6}} {
		m := small(both(ipip4), false)
		request := with(pkttest.NewEcho(pair[0].Addr(), pair[1].Addr()), func(f *pkttest.Frame) { f.Trailer, f.Tags = []byte{1, 2, 3}, []pkttest.Tag{{Proto: 0x8100, TCI: 9}} })
		in := request.Bytes(t)
		answer := with(pkttest.NewEcho(pair[1].Addr(), pair[0].Addr()).SetTTL(64), func(f *pkttest.Frame) {
			f.Trailer, f.Tags = request.Trailer, request.Tags
			f.Eth.SrcMAC, f.Eth.DstMAC = request.Eth.DstMAC, request.Eth.SrcMAC
			f.L4.(*pkttest.ICMP).Type = map[bool]uint8{true: pkttest.EchoReply6, false: pkttest.EchoReply}[f.IP6 != nil]
		})
		r := m.Run(in, Ingress)
		if diff := pkttest.Diff(answer.Bytes(t), r.Out); diff != "" || r.Verdict != TX || m.Replies != 1 || len(m.Counts) != 0 {
			t.Errorf("verdict %d, %d replies, %v counted\n%s", r.Verdict, m.Replies, m.Counts, diff)
		}
		m.ReplyByRedirect = true
		if r := m.Run(in, Ingress); r.Verdict != Redirect || r.To != Ingress {
			t.Errorf("where TX does not do: %d to %d", r.Verdict, r.To)
		}
		key := pair[1].Addr().As16()
		m.Addresses[key] = Address{}
		if r := m.Run(in, Ingress); r.Reason != "out_of_service" {
			t.Errorf("out of service: %+v", r)
		}
		delete(m.Addresses, key)
		if r := m.Run(in, Ingress); r.Verdict != Pass {
			t.Errorf("to another's address: %+v", r)
		}
	}
}

func TestTooBig(t *testing.T) {
	for _, tc := range []struct {
		src, dst  netip.AddrPort
		typ, code uint8
		rest      uint32
		embed     int
	}{
		{client4, smtp4, 3, 4, 1500 - 40 - 12, 512},
		{client6, smtp6, 2, 0, 1500 - 40 - 12, 1024},
	} {
		m := small(both(gue6), false)
		fits := with(pkttest.New(tc.src, tc.dst), func(f *pkttest.Frame) { f.Payload = make([]byte, 1500-40-12-20-ipLen) })
		if fits.IP6 != nil {
			fits.Payload = fits.Payload[ip6Len-ipLen:]
		}
		if r := m.Run(fits.Bytes(t), Ingress); len(r.Out) != ethLen+1500 {
			t.Errorf("what just fits: verdict %d, %d bytes", r.Verdict, len(r.Out))
		}
		fits.Payload = append(fits.Payload, 1)
		answer := pkttest.NewICMPError(tc.dst.Addr(), tc.src.Addr(), tc.typ, tc.code, tc.rest, fits.Packet(t)[:tc.embed]).SetTTL(64).SetTOS(0)
		answer.Eth.SrcMAC, answer.Eth.DstMAC = fits.Eth.DstMAC, fits.Eth.SrcMAC
		if answer.IP.Id = 0; answer.IP6 != nil {
			answer.IP6.FlowLabel = 0
		}
		r := m.Run(fits.Bytes(t), Ingress)
		if diff := pkttest.Diff(answer.Bytes(t), r.Out); diff != "" || !r.TooBig {
			t.Error(diff)
		}
		m.Limited()
		if m.Replies != 0 || m.Drops["icmp_limited"] != 1 {
			t.Errorf("without a token: %d replies, drops %v", m.Replies, m.Drops)
		}
	}
}
