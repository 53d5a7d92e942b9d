package bpf

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"
)

// What of a packet that is too big goes back.
const embed4, embed6 = 512, 1024

// tooBigAnswer is what comes back when a packet is larger than mtu.
func tooBigAnswer(t testing.TB, f made, mtu uint32) made {
	return func() *pkttest.Frame {
		g := f()
		packet := g.Packet(t)
		var a *pkttest.Frame
		if g.IP6 != nil {
			src, _ := netip.AddrFromSlice(g.IP6.SrcIP)
			dst, _ := netip.AddrFromSlice(g.IP6.DstIP)
			a = pkttest.NewICMPError(dst, src, pkttest.PacketTooBig6, 0, mtu, packet[:embed6])
			a.IP6.FlowLabel = 0
		} else {
			src, _ := netip.AddrFromSlice(g.IP.SrcIP)
			dst, _ := netip.AddrFromSlice(g.IP.DstIP)
			a = pkttest.NewICMPError(dst, src, pkttest.Unreachable, pkttest.FragmentationNeeded, mtu, packet[:embed4])
			a.IP.Id, a.IP.Flags = 0, layers.IPv4DontFragment
		}
		a.SetTTL(64).SetTOS(0)
		return turned(a, g)
	}
}

// turned has an answer leave the way that the request came.
func turned(answer, request *pkttest.Frame) *pkttest.Frame {
	answer.Eth.SrcMAC, answer.Eth.DstMAC, answer.Tags = request.Eth.DstMAC, request.Eth.SrcMAC, request.Tags
	return answer
}

// limitedTo has a real's link take so much.
func limitedTo(x target, limit uint16) func(t *testing.T, r *rig) {
	_, prepare := x.as(func(x *target) { x.mtu = limit })
	return prepare
}

// throughRedirect has the ingress send answers by redirect.
func throughRedirect(t *testing.T, r *rig) { put(t, r.SetUplinkFlags(ingress, RealRedirect)) }

// fragmentID is what fragments carry; IPv4 has room for the lower half.
const fragmentID = 0x12344711

func TestLBTooBig(t *testing.T) {
	large, large6 := with(tcp, payload(1461)), with(tcp6, payload(1441))
	noDF := with(large, func(f *pkttest.Frame) { f.IP.Flags = 0 })
	ext6 := with(large6, headers(pkttest.HopByHop(0), pkttest.Auth(2)))
	answer := func(name string, f made, mtu uint32) lbCase {
		return lbCase{name: name, frame: f, verdict: xdpTX, want: tooBigAnswer(t, f, mtu), moves: answered(Replies{TooBig: 1})}
	}
	in := func(slot Slot, second bool, c lbCase) lbCase {
		c.slot = slot
		if second {
			c.vip = func(v *VIP) { v.Flags = VIPSecondChance }
		}
		return c
	}
	prepared := func(prepare func(t *testing.T, r *rig), c lbCase) lbCase {
		c.prepare = prepare
		return c
	}
	byRedirect := prepared(throughRedirect, answer("by redirect", large, 1480))
	byRedirect.verdict = xdpRedirect
	var silent []lbCase
	for _, src := range noHosts {
		f := large
		if netip.MustParseAddr(src).Is6() {
			f = large6
		}
		silent = append(silent, lbCase{name: "from " + src, frame: with(f, from(src)), verdict: xdpDrop, reason: "too_big"})
	}
	runLB(t, append(silent, []lbCase{
		answer("v4", large, 1480),
		answer("v6", large6, 1480),
		answer("v4 that may be fragmented", noDF, 1480),
		answer("v4 with options", with(large, someOptions), 1480),
		answer("v6 with extension headers", ext6, 1480),
		answer("v4 with a tag", with(large, vlans(oneTag...)), 1480),
		answer("v4 with two tags", with(large, vlans(twoTags...)), 1480),
		answer("v6 with two tags", with(large6, vlans(twoTags...)), 1480),
		answer("v4 with bytes behind", with(large, trailer(9)), 1480),
		answer("v6 with bytes behind", with(large6, trailer(9)), 1480),
		byRedirect,
		in(moving(gue4, gue4b), true, answer("with a second hop of v4", large, 1500-20-8-4-8)),
		in(moving(gue6, gue6b), true, answer("with a second hop of v6", large6, 1500-40-8-4-20)),
		in(moving(gue4, gue4b), true, answer("syn, which has no second hop", with(large, opening), 1500-20-8-4)),
		prepared(limitedTo(ipip4, 531), answer("smallest v4 that can be answered", with(tcp, payload(512-40)), 511)),
		prepared(limitedTo(ipip4, 1043), answer("smallest v6 that can be answered", with(tcp6, payload(1024-60)), 1023)),
		{name: "v4 too short to be answered", frame: with(tcp, payload(511-40)), prepare: limitedTo(ipip4, 530), verdict: xdpDrop, reason: "too_big"},
		{name: "v6 too short to be answered", frame: with(tcp6, payload(1023-60)), prepare: limitedTo(ipip4, 1042), verdict: xdpDrop, reason: "too_big"},
		{name: "last hop", frame: with(large, ttl(1)), verdict: xdpDrop, reason: "ttl_expired"},
		{name: "last hop of v6", frame: with(large6, ttl(1)), verdict: xdpDrop, reason: "ttl_expired"},
		{name: "error about a flow", frame: func() *pkttest.Frame {
			return pkttest.NewICMPError(router, vipTCP.Addr(), pkttest.Unreachable, 1, 0, with(response, payload(1440))().Packet(t))
		}, verdict: xdpDrop, reason: "too_big"},
		{name: "v6 error about a flow", frame: func() *pkttest.Frame {
			return pkttest.NewICMPError(router6, vipTCP6.Addr(), pkttest.Unreachable6, 1, 0, with(response6, payload(1400))().Packet(t))
		}, verdict: xdpDrop, reason: "too_big"},
	}...))
}

func someOptions(f *pkttest.Frame) {
	f.IP.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}}
}

// response and response6 are what the server says: errors are about these.
func response() *pkttest.Frame  { return pkttest.New(vipTCP, client) }
func response6() *pkttest.Frame { return pkttest.New(vipTCP6, client6) }

// Routers on the way to the client, that have something to say.
var (
	router  = netip.MustParseAddr("192.0.2.254")
	router6 = netip.MustParseAddr("2001:db8:3::254")
)

// internetSum sums words of two bytes, as RFC 1071 has it: over a part with its checksum in it, it is 0xffff.
func internetSum(parts ...[]byte) uint16 {
	sum := uint64(0)
	for _, b := range parts {
		for ; len(b) > 1; b = b[2:] {
			sum += uint64(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint64(b[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// checkSums verifies the checksums of an IPv4 header, or of an ICMP message in a packet without options.
func checkSums(t *testing.T, packet []byte) {
	t.Helper()
	if packet[0]>>4 == 6 {
		pseudo := append(packet[8:40:40], 0, 0, packet[4], packet[5], 0, 0, 0, packet[6])
		if sum := internetSum(pseudo, packet[40:]); sum != 0xffff {
			t.Errorf("an ICMPv6 message sums to %#x\n%x", sum, packet)
		}
		return
	}
	if header, message := internetSum(packet[:20]), internetSum(packet[20:]); header != 0xffff || message != 0xffff {
		t.Errorf("an IPv4 header sums to %#x, its ICMP message to %#x\n%x", header, message, packet)
	}
}

// TestTooBigChecksums has all sorts of bytes go back.
func TestTooBigChecksums(t *testing.T) {
	r := newRig(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 200 {
		f := []made{tcp, udp, tcp6, udp6}[i%4]()
		f.Payload = make([]byte, 1473+rnd.IntN(500))
		for j := range f.Payload {
			f.Payload[j] = []byte{0, 0xff, byte(rnd.Uint32())}[min(i/8, 2)]
		}
		verdict, out, err := r.prog.Test(f.Bytes(t))
		put(t, err)
		if verdict != xdpTX {
			t.Fatalf("verdict %v", Verdict(verdict))
		}
		checkSums(t, out[ipAt:])
	}
}

// setTokens gives every CPU so many answers.
func (r *rig) setTokens(t testing.TB, n uint64) {
	t.Helper()
	buckets := make([]lbBucket, ebpf.MustPossibleCPU())
	for i := range buckets {
		buckets[i] = lbBucket{At: uint64(monotonic()), Tokens: n}
	}
	put(t, r.objs.Buckets.Put(uint32(0), buckets))
}

// tokens is how many answers all CPUs may give.
func (r *rig) tokens(t testing.TB) (n uint64) {
	t.Helper()
	for _, b := range r.buckets(t) {
		n += b.Tokens
	}
	return n
}

// buckets gives that of each CPU.
func (r *rig) buckets(t testing.TB) (all []lbBucket) {
	t.Helper()
	put(t, r.objs.Buckets.Lookup(uint32(0), &all))
	return all
}

// TestTooBigLimit empties the bucket, of which the program fills up one token in each millisecond: it is tried again as
// long as that has happened between the two.
func TestTooBigLimit(t *testing.T) {
	for name, f := range map[string]made{"v4": with(tcp, payload(1461)), "v6": with(tcp6, payload(1441))} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			in := f().Bytes(t)
			for range 1000 {
				r.forget(t)
				r.setTokens(t, 0)
				verdict, out, err := r.prog.Test(in)
				put(t, err)
				if verdict == xdpTX {
					continue
				}
				if diff := pkttest.Diff(in, out); verdict != xdpDrop || diff != "" {
					t.Errorf("verdict %v; %s", Verdict(verdict), diff)
				}
				r.check(t, dropped("icmp_limited"), 0)
				return
			}
			t.Error("an empty bucket limits nothing")
		})
	}
}

// TestTooBigTokens has each answer take a token, and the bucket fill up with time, but no further than to the brim.
func TestTooBigTokens(t *testing.T) {
	r := newRig(t)
	cpus := uint64(ebpf.MustPossibleCPU())
	in := with(tcp, payload(1461))().Bytes(t)
	answer := func() {
		t.Helper()
		if verdict, _, err := r.prog.Test(in); err != nil || verdict != xdpTX {
			t.Fatalf("verdict %v, %v", Verdict(verdict), err)
		}
	}
	const brim = 1000
	r.setTokens(t, brim)
	answer()
	if got := r.tokens(t); got != cpus*brim-1 {
		t.Errorf("after an answer of full buckets %d tokens are left, want %d", got, cpus*brim-1)
	}
	for _, tc := range []struct{ ago, before, after uint64 }{
		{0, 0, brim - 1},           // the first packet ever finds the bucket full
		{uint64(1e9), 7, brim - 1}, // a second fills it
		{uint64(5e8), 700, brim - 1},
	} {
		buckets := make([]lbBucket, cpus)
		for i := range buckets {
			buckets[i].Tokens = tc.before
			if tc.ago != 0 {
				buckets[i].At = uint64(monotonic()) - tc.ago
			}
		}
		put(t, r.objs.Buckets.Put(uint32(0), buckets))
		begin := uint64(monotonic())
		answer()
		if got, want := r.tokens(t), tc.after+(cpus-1)*tc.before; got != want {
			t.Errorf("%d ns after there were %d in each, %d tokens are left, want %d", tc.ago, tc.before, got, want)
		}
		for _, b := range r.buckets(t) {
			if b.Tokens == tc.after && b.At < begin {
				t.Errorf("%d ns after there were %d in each, a bucket was filled and not marked with the time", tc.ago, tc.before)
			}
		}
	}
	// half a second gives 500 and no more; how much more time has passed, the clock says
	r.setTokens(t, 0)
	buckets := make([]lbBucket, cpus)
	begin := uint64(monotonic())
	for i := range buckets {
		buckets[i].At = begin - 5e8
	}
	put(t, r.objs.Buckets.Put(uint32(0), buckets))
	answer()
	most := (uint64(monotonic()) - begin + 5e8) / 1e6
	if got := r.tokens(t); got < 499 || got > most {
		t.Errorf("half a second gives %d tokens, want 499 to %d", got, most)
	}
}

// TestTooBigTokensAddUp has answers come so close together that none of them fills the bucket: the time between them must
// not be lost. It is tried again as long as a millisecond has passed.
func TestTooBigTokensAddUp(t *testing.T) {
	r := newRig(t)
	in := with(tcp, payload(1461))().Bytes(t)
	for range 1000 {
		r.setTokens(t, 5)
		before := make(map[uint64]bool)
		for _, b := range r.buckets(t) {
			before[b.At] = true
		}
		if _, _, err := r.prog.Test(in); err != nil {
			t.Fatal(err)
		}
		taken := 0
		for _, b := range r.buckets(t) {
			if b.Tokens == 4 {
				taken++
				if !before[b.At] {
					t.Errorf("the bucket is as if filled at %d, when nothing was filled in", b.At)
				}
			}
		}
		if taken == 1 {
			return
		}
	}
	t.Error("no answer took a token within a millisecond")
}
