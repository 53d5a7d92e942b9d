package bpf

import (
	"fmt"
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/gopacket/gopacket/layers"
)

// kinds are all ways to a real, with what each adds to a packet.
var kinds = []struct {
	name string
	to   target
	adds int
}{
	{"ipip by v4", ipip4, 20},
	{"ipip by v6", ipip6, 40},
	{"gue by v4", gue4, 20 + 8 + 4},
	{"gue by v6", gue6, 40 + 8 + 4},
	{"l2 of a v4 real", l2, 0},
	{"l2 of a v6 real", l2v6, 0},
}

// packets are the valid ones.
var packets = []struct {
	name   string
	frame  made
	header int // bytes before the payload
}{
	{"v4 tcp", tcp, 40},
	{"v4 udp", udp, 28},
	{"v6 tcp", tcp6, 60},
	{"v6 udp", udp6, 48},
}

var (
	noTags  []pkttest.Tag
	oneTag  = []pkttest.Tag{{Proto: pkttest.DotQ, TCI: 100}}
	twoTags = []pkttest.Tag{{Proto: pkttest.DotAD, TCI: 0xe0c8}, {Proto: pkttest.DotQ, TCI: 0x7fff}}
	outTags = [][]pkttest.Tag{nil, {{Proto: pkttest.DotAD, TCI: 7}}, {{Proto: pkttest.DotQ, TCI: 0xffff}, {Proto: pkttest.DotAD, TCI: 1}}}
)

// as gives the real with some of it changed, and a function that puts it into the map.
func (x target) as(change func(x *target)) (target, func(t *testing.T, r *rig)) {
	change(&x)
	return x, func(t *testing.T, r *rig) { x.put(t, r) }
}

func TestLBForward(t *testing.T) {
	var cases []lbCase
	for _, k := range kinds {
		for _, p := range packets {
			for _, in := range [][]pkttest.Tag{noTags, oneTag, twoTags} {
				for _, out := range outTags {
					to, prepare := k.to.as(func(x *target) { x.tags = out })
					f := with(p.frame, vlans(in...))
					cases = append(cases, lbCase{name: fmt.Sprintf("%s, %s, %d tags in, %d out", k.name, p.name, len(in), len(out)),
						slot: steady(to), prepare: prepare, frame: f, verdict: xdpTX, want: to.gets(f)})
				}
			}
			padded := with(p.frame, trailer(7))
			far, prepare := k.to.as(func(x *target) { x.ifindex = otherLink })
			cases = append(cases,
				lbCase{name: k.name + ", bytes behind " + p.name, slot: steady(k.to), frame: padded, verdict: xdpTX, want: k.to.gets(padded)},
				lbCase{name: k.name + ", another link for " + p.name, slot: steady(far), prepare: prepare, frame: p.frame,
					verdict: xdpRedirect, want: far.gets(p.frame)},
				lbCase{name: k.name + ", redirect of " + p.name, slot: steady(k.to), frame: p.frame, verdict: xdpRedirect, want: k.to.gets(p.frame),
					prepare: func(t *testing.T, r *rig) {
						v := k.to.real()
						v.Flags |= RealRedirect
						put(t, r.Reals.Put(uint32(k.to.index), v))
					}})
		}
	}
	runLB(t, cases)
}

// TestLBHeaderFields has DSCP, ECN and TTL copied out.
func TestLBHeaderFields(t *testing.T) {
	var cases []lbCase
	for _, k := range kinds {
		for _, p := range packets {
			for _, class := range []uint8{0, 1, 2, 3, 0x28, 0x2b, 0xb8, 0xff} {
				f := with(p.frame, tos(class))
				cases = append(cases, lbCase{name: fmt.Sprintf("%s, %s, class %#x", k.name, p.name, class),
					slot: steady(k.to), frame: f, verdict: xdpTX, want: k.to.gets(f)})
			}
			for _, hops := range []uint8{2, 3, 64, 128, 255} {
				f := with(p.frame, ttl(hops))
				cases = append(cases, lbCase{name: fmt.Sprintf("%s, %s, ttl %d", k.name, p.name, hops),
					slot: steady(k.to), frame: f, verdict: xdpTX, want: k.to.gets(f)})
			}
			for _, hops := range []uint8{0, 1} {
				cases = append(cases, lbCase{name: fmt.Sprintf("%s, %s, ttl %d", k.name, p.name, hops),
					slot: steady(k.to), frame: with(p.frame, ttl(hops)), verdict: xdpDrop, reason: "ttl_expired"})
			}
		}
	}
	runLB(t, cases)
}

// TestLBLargest sends the largest packet that a link takes, and one that is a byte larger. Tags are no part of an MTU.
func TestLBLargest(t *testing.T) {
	var cases []lbCase
	for _, k := range kinds {
		for _, p := range packets {
			for _, limit := range []uint16{1500, 1400, 1492, 2000} {
				to, prepare := k.to.as(func(x *target) { x.mtu, x.tags = limit, twoTags })
				fits := int(limit) - k.adds
				largest := with(p.frame, payload(fits-p.header))
				more := with(p.frame, payload(fits-p.header+1))
				cases = append(cases,
					lbCase{name: fmt.Sprintf("%s, %s, %d bytes of %d", k.name, p.name, fits, limit), slot: steady(to), prepare: prepare,
						frame: largest, verdict: xdpTX, want: to.gets(largest)},
					lbCase{name: fmt.Sprintf("%s, %s, %d bytes of %d", k.name, p.name, fits+1, limit), slot: steady(to), prepare: prepare,
						frame: more, verdict: xdpTX, want: tooBigAnswer(t, more, uint32(fits)), moves: answered(Replies{TooBig: 1})})
			}
		}
	}
	runLB(t, cases)
}

func TestLBTags(t *testing.T) {
	three := []pkttest.Tag{twoTags[0], twoTags[1], oneTag[0]}
	cases := []lbCase{
		{name: "three tags", frame: with(tcp, vlans(three...)), verdict: xdpPass},
		{name: "three tags before v6", frame: with(tcp6, vlans(three...)), verdict: xdpPass},
		{name: "tag of a kind that is not known", frame: with(tcp, vlans(pkttest.Tag{Proto: 0x9100, TCI: 5})), verdict: xdpPass},
		{name: "arp behind a tag", frame: with(tcp, vlans(oneTag...)), mangle: set(16, 0x08, 0x06), verdict: xdpPass},
		{name: "elsewhere behind a tag", frame: with(elsewhere, vlans(oneTag...)), verdict: xdpPass},
		{name: "same tag twice", frame: with(tcp, vlans(oneTag[0], oneTag[0])), verdict: xdpTX, want: ipip4.gets(tcp)},
		{name: "bad header behind tags", frame: with(tcp, vlans(twoTags...)), mangle: set(22, 0x55), verdict: xdpDrop, reason: "bad_header"},
		{name: "truncated behind tags", frame: with(tcp6, vlans(twoTags...)), mangle: cut(22 + 40 + 19), verdict: xdpDrop, reason: "truncated"},
	}
	for n := 14; n < 22; n++ {
		cases = append(cases, lbCase{name: fmt.Sprintf("frame of two tags ends after %d bytes", n), frame: with(tcp, vlans(twoTags...)),
			mangle: cut(n), verdict: xdpDrop, reason: "truncated"})
	}
	cases = append(cases, lbCase{name: "frame ends after one tag", frame: with(tcp, vlans(oneTag...)), mangle: cut(18), verdict: xdpDrop, reason: "truncated"})
	runLB(t, cases)
}

// TestLBChecksum sends packets whose IPv4 checksum is special: those where a mended one may become another zero than a
// computed one (RFC 1624 section 3), and one that is wrong and has to stay so.
func TestLBChecksum(t *testing.T) {
	var cases []lbCase
	special := map[uint16]bool{0x0000: true, 0x0001: true, 0x0100: true, 0x00ff: true, 0xfeff: true, 0xff00: true, 0xfffe: true, 0xffff: true}
	probe := tcp()
	for id := range 1 << 16 {
		probe.IP.Id = uint16(id)
		before, after := headerSum(probe, probe.IP.TTL), headerSum(probe, probe.IP.TTL-1)
		if special[before] || special[after] {
			f := with(tcp, func(f *pkttest.Frame) { f.IP.Id = uint16(id) })
			cases = append(cases, lbCase{name: fmt.Sprintf("checksum %#04x, then %#04x", before, after), frame: f, verdict: xdpTX, want: ipip4.gets(f)})
		}
	}
	if len(cases) < 10 {
		t.Fatalf("%d packets have a special checksum", len(cases))
	}
	runLB(t, cases)

	r := newRig(t)
	in := tcp().Bytes(t)
	in[ipAt+10] ^= 0x40
	_, out, err := r.prog.Test(in)
	put(t, err)
	want := ipip4.gets(tcp)().Bytes(t)
	want[ipAt+20+10] ^= 0x40 // no carry: the TTL is in the same byte's neighbour
	if diff := pkttest.Diff(want, out); diff != "" {
		t.Errorf("a checksum that was wrong: %s", diff)
	}
}

// TestLBOuterChecksum has the words of an outer header sum up such that what is carried over makes another carry.
func TestLBOuterChecksum(t *testing.T) {
	var cases []lbCase
	f := with(tcp, payload(255-60), tos(0xff), ttl(0xff)) // 255 bytes with the outer header: large in the order of the machine
	for last := range 1 << 16 {
		to := ipip4
		to.addr = netip.AddrFrom4([4]byte{198, 51, byte(last >> 8), byte(last)})
		sum := uint32(OuterSum(lbAddr, to.addr)) + 0xff00 + uint32(Port(255)) + (0xfe | 4<<8)
		if low := sum&0xffff + sum>>16; low > 0xffff {
			cases = append(cases, lbCase{name: fmt.Sprintf("to %v", to.addr), prepare: func(t *testing.T, r *rig) { to.put(t, r) }, frame: f, verdict: xdpTX,
				want: to.gets(f)})
		}
	}
	if len(cases) == 0 {
		t.Fatal("no address makes two carries")
	}
	runLB(t, cases[:min(len(cases), 8)])
}

// headerSum computes the checksum of the IPv4 header with another TTL.
func headerSum(f *pkttest.Frame, ttl uint8) uint16 {
	words := []uint32{
		0x4500 | uint32(f.IP.TOS), uint32(pkttest.IPLen + pkttest.TCPLen + len(f.Payload)), uint32(f.IP.Id), uint32(f.IP.Flags) << 13,
		uint32(ttl)<<8 | uint32(layers.IPProtocolTCP),
	}
	for _, addr := range [][]byte{f.IP.SrcIP, f.IP.DstIP} {
		words = append(words, uint32(addr[0])<<8|uint32(addr[1]), uint32(addr[2])<<8|uint32(addr[3]))
	}
	sum := uint32(0)
	for _, w := range words {
		sum += w
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
