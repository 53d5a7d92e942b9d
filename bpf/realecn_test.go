package bpf

import (
	"fmt"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/gopacket/gopacket/layers"
)

const (
	notECT = 0
	ect1   = 1
	ect0   = 2
	ce     = 3
)

// ecnTable is figure 4 of RFC 6040: the inner mark, then what comes out by the outer one; -1 is a drop.
var ecnTable = [4][4]int{
	notECT: {notECT: notECT, ect0: notECT, ect1: notECT, ce: -1},
	ect0:   {notECT: ect0, ect0: ect0, ect1: ect1, ce: ce},
	ect1:   {notECT: ect1, ect0: ect1, ect1: ect1, ce: ce},
	ce:     {notECT: ce, ect0: ce, ect1: ce, ce: ce},
}

// outerClass and outerTTL change the header of the tunnel.
func outerClass(class uint8) func(*pkttest.Frame) {
	return func(f *pkttest.Frame) {
		if f.Outer6 != nil {
			f.Outer6.TrafficClass = class
		} else {
			f.Outer.TOS = class
		}
	}
}

func outerTTL(hops uint8) func(*pkttest.Frame) {
	return func(f *pkttest.Frame) {
		if f.Outer6 != nil {
			f.Outer6.HopLimit = hops
		} else {
			f.Outer.TTL = hops
		}
	}
}

// TestRealECN has every mark inside every other, with the same DSCP and with another, which is the outer one's to say.
func TestRealECN(t *testing.T) {
	var cases []realCase
	for _, tun := range tunnels {
		for _, p := range packets {
			for inner := range uint8(4) {
				for outer := range uint8(4) {
					for _, dscp := range [][2]uint8{{0, 0}, {10 << 2, 10 << 2}, {46 << 2, 10 << 2}, {0, 63 << 2}, {63 << 2, 0}} {
						out := ecnTable[inner][outer]
						c := realCase{
							name:  fmt.Sprintf("%s, %s, %#02x in %#02x", tun.name, p.name, inner|dscp[0], outer|dscp[1]),
							frame: with(inside(with(p.frame, tos(inner|dscp[0])), tun.tun), outerClass(outer|dscp[1])), verdict: xdpPass,
							want: with(p.frame, tos(uint8(out)|dscp[1])),
						}
						if out < 0 {
							c.verdict, c.reason, c.want = xdpDrop, "ecn", nil
						}
						cases = append(cases, c)
					}
				}
			}
		}
	}
	runReal(t, cases)
}

// TestRealTTL has the inner packet be as old as the older of the two.
func TestRealTTL(t *testing.T) {
	alert := with(tcp, tos(ect0), func(f *pkttest.Frame) {
		f.IP.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0xab, 0xcd}}}
	})
	cases := []realCase{{name: "options under the checksum", frame: with(inside(alert, tunnels[0].tun), outerTTL(3), outerClass(ce|4)), verdict: xdpPass,
		want: with(alert, tos(ce|4), ttl(3))}}
	for _, tun := range tunnels {
		for _, p := range packets {
			for _, hops := range [][2]uint8{{64, 64}, {64, 63}, {63, 64}, {255, 1}, {1, 255}, {255, 0}, {0, 255}, {128, 127}, {2, 1}} {
				cases = append(cases, realCase{
					name:  fmt.Sprintf("%s, %s, %d hops in %d", tun.name, p.name, hops[0], hops[1]),
					frame: with(inside(with(p.frame, ttl(hops[0])), tun.tun), outerTTL(hops[1])), verdict: xdpPass,
					want: with(p.frame, ttl(min(hops[0], hops[1]))),
				})
			}
		}
	}
	runReal(t, cases)
}

// TestRealChecksum verifies the inner header after both of its words have changed, for packets of many checksums.
func TestRealChecksum(t *testing.T) {
	r := newRealRig(t)
	for id := 0; id < 1<<16; id += 97 {
		f := with(tcp, tos(ect0), func(f *pkttest.Frame) { f.IP.Id = uint16(id) })
		in := with(inside(f, tunnels[id%4].tun), outerClass(46<<2|ce), outerTTL(uint8(1+id%60)))().Bytes(t)
		verdict, out := r.test(t, in)
		want := with(f, tos(46<<2|ce), ttl(uint8(1+id%60)))().Bytes(t)
		if diff := pkttest.Diff(want, out); verdict != xdpPass || diff != "" {
			t.Fatalf("id %d: verdict %v; %s", id, Verdict(verdict), diff)
		}
		if sum := internetSum(out[ipAt:l4At]); sum != 0xffff {
			t.Errorf("id %d: the header sums to %#x", id, sum)
		}
	}
	// one that was wrong has to stay so
	in := inside(tcp, tunnels[0].tun)().Bytes(t)
	in[innerAt+10] ^= 0x40
	if _, out := r.test(t, in); internetSum(out[ipAt:l4At]) == 0xffff {
		t.Error("a wrong checksum was put right")
	}
}
