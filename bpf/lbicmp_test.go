package bpf

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"anycastle/internal/pkttest"
)

func echo4() *pkttest.Frame { return pkttest.NewEcho(client.Addr(), vipTCP.Addr()) }
func echo6() *pkttest.Frame { return pkttest.NewEcho(client6.Addr(), vipTCP6.Addr()) }

// echoReply is what comes back for an echo request.
func echoReply(f made) made {
	return func() *pkttest.Frame {
		request, reply := f(), f()
		m := reply.L4.(*pkttest.ICMP)
		if m.Type = pkttest.EchoReply; reply.IP6 != nil {
			m.Type = pkttest.EchoReply6
			reply.IP6.SrcIP, reply.IP6.DstIP = request.IP6.DstIP, request.IP6.SrcIP
		} else {
			reply.IP.SrcIP, reply.IP.DstIP = request.IP.DstIP, request.IP.SrcIP
		}
		return turned(reply.SetTTL(64), request)
	}
}

// outOfService has no VIP in service.
func outOfService(t *testing.T, r *rig) {
	t.Helper()
	for _, addr := range []netip.Addr{vipTCP.Addr(), vipTCP6.Addr()} {
		put(t, r.Addresses.Put(AddressKey(addr), Address{}))
	}
}

// message changes an ICMP message.
func message(change func(m *pkttest.ICMP)) func(*pkttest.Frame) {
	return func(f *pkttest.Frame) { change(f.L4.(*pkttest.ICMP)) }
}

func TestLBEcho(t *testing.T) {
	var cases []lbCase
	for name, f := range map[string]made{
		"v4":                   echo4,
		"v6":                   echo6,
		"v4 without payload":   with(echo4, payload(0)),
		"v6 without payload":   with(echo6, payload(0)),
		"v4 of odd length":     with(echo4, payload(21)),
		"v6 of odd length":     with(echo6, payload(21)),
		"large v4":             with(echo4, payload(1472)),
		"large v6":             with(echo6, payload(1452)),
		"v4 with a tag":        with(echo4, vlans(oneTag...)),
		"v4 with two tags":     with(echo4, vlans(twoTags...)),
		"v6 with two tags":     with(echo6, vlans(twoTags...)),
		"v4 with padding":      with(echo4, trailer(18)),
		"v6 with padding":      with(echo6, trailer(3)),
		"v4 with a class":      with(echo4, tos(0xb9)),
		"v6 with a class":      with(echo6, tos(0xb9)),
		"v4 on its last hop":   with(echo4, ttl(1)),
		"v6 on its last hop":   with(echo6, ttl(1)),
		"v4 from far away":     with(echo4, ttl(255)),
		"v4 without flags":     with(echo4, func(f *pkttest.Frame) { f.IP.Flags, f.IP.Id = 0, 0 }),
		"v4 with another id":   with(echo4, message(func(m *pkttest.ICMP) { m.Rest = 0xfffe0001 })),
		"v6 with another id":   with(echo6, message(func(m *pkttest.ICMP) { m.Rest = 0xfffe0001 })),
		"v6 of nothing but 0":  with(echo6, payload(20), message(func(m *pkttest.ICMP) { m.Rest = 0 })),
		"v4 that sums to much": with(echo4, payload(20), message(func(m *pkttest.ICMP) { m.Rest = 0xf7ff })),
	} {
		cases = append(cases,
			lbCase{name: name, frame: f, verdict: xdpTX, want: echoReply(f), moves: answered(Replies{Echo: 1})},
			lbCase{name: name + " by redirect", frame: f, prepare: throughRedirect, verdict: xdpRedirect, want: echoReply(f), moves: answered(Replies{Echo: 1})},
			lbCase{name: name + " by an interface without flags", frame: f, verdict: xdpTX, want: echoReply(f), moves: answered(Replies{Echo: 1}),
				prepare: func(t *testing.T, r *rig) {
					put(t, r.SetUplinkFlags(ingress, 0))
					put(t, r.SetUplinkFlags(otherLink, RealRedirect))
				}},
			lbCase{name: name + " out of service", frame: f, prepare: outOfService, verdict: xdpDrop, reason: "out_of_service"})
	}
	runLB(t, cases)
}

// TestEchoChecksums verifies replies. A checksum that is mended may be either of the two zeros: which is right depends on
// whether all the rest is 0, as a reply in IPv4 may be, or only sums to it (RFC 1624 section 3).
func TestEchoChecksums(t *testing.T) {
	r := newRig(t)
	rests := []uint32{0, 0xffff, 0xffff0000, 0x8000_7fff}
	for rest := uint32(0); rest < 0x10000; rest += 0xff {
		rests = append(rests, rest)
	}
	for _, rest := range rests {
		for _, f := range []made{echo4, echo6} {
			in := with(f, payload(20), message(func(m *pkttest.ICMP) { m.Rest = rest }))().Bytes(t)
			verdict, out, err := r.prog.Test(in)
			put(t, err)
			if verdict != xdpTX {
				t.Fatalf("verdict %v", Verdict(verdict))
			}
			checkSums(t, out[ipAt:])
		}
	}
}

func TestLBICMPRefused(t *testing.T) {
	var cases []lbCase
	add := func(name string, f made, mangle func([]byte) []byte, verdict uint32, reason string) {
		cases = append(cases, lbCase{name: name, frame: f, mangle: mangle, verdict: verdict, reason: reason})
	}
	for n := range 8 {
		add(fmt.Sprintf("v4 with %d bytes of icmp", n), echo4, set(ipAt+2, 0, byte(20+n)), xdpDrop, "truncated")
		add(fmt.Sprintf("v6 with %d bytes of icmp", n), echo6, ends(n), xdpDrop, "truncated")
	}
	add("v6 behind a header with 7 bytes of icmp", with(echo6, headers(pkttest.HopByHop(0))), ends(8+7), xdpDrop, "truncated")
	add("frame of v4 ends in icmp", echo4, cut(l4At+7), xdpDrop, "truncated")
	add("v4 with options", with(echo4, someOptions), nil, xdpDrop, "icmp_unhandled")
	add("v6 with a header", with(echo6, headers(pkttest.Destination(0))), nil, xdpDrop, "icmp_unhandled")
	add("v4 echo of a code", with(echo4, message(func(m *pkttest.ICMP) { m.Code = 1 })), nil, xdpDrop, "icmp_unhandled")
	add("v6 echo of a code", with(echo6, message(func(m *pkttest.ICMP) { m.Code = 1 })), nil, xdpDrop, "icmp_unhandled")
	add("v4 to elsewhere", func() *pkttest.Frame { return pkttest.NewEcho(client.Addr(), netip.MustParseAddr("203.0.113.11")) }, nil, xdpPass, "")
	add("v6 to elsewhere", func() *pkttest.Frame { return pkttest.NewEcho(client6.Addr(), elsewhereAddr6) }, nil, xdpPass, "")
	add("icmpv6 in v4", echo4, set(ipAt+9, 58), xdpPass, "")
	add("icmp in v6", echo6, set(ipAt+6, 1), xdpPass, "")
	for _, src := range noHosts {
		add("echo from "+src, with(echoOf(src), from(src)), nil, xdpDrop, "icmp_unhandled")
	}
	errors4, errors6 := []int{3, 11, 12}, []int{1, 2, 3, 4}
	for typ := range 256 {
		ofType := message(func(m *pkttest.ICMP) { m.Type = uint8(typ) })
		switch {
		case typ == pkttest.EchoRequest:
		case slices.Contains(errors4, typ):
			add(fmt.Sprintf("type %d about no packet", typ), with(echo4, ofType), nil, xdpDrop, "bad_inner")
		default:
			add(fmt.Sprintf("type %d", typ), with(echo4, ofType), nil, xdpDrop, "icmp_unhandled")
		}
		switch {
		case typ == pkttest.EchoRequest6:
		case slices.Contains(errors6, typ):
			add(fmt.Sprintf("v6 type %d about no packet", typ), with(echo6, ofType), nil, xdpDrop, "bad_inner")
		case typ >= 133 && typ <= 137: // neighbour discovery
			add(fmt.Sprintf("v6 type %d", typ), with(echo6, ofType), nil, xdpPass, "")
		default:
			add(fmt.Sprintf("v6 type %d", typ), with(echo6, ofType), nil, xdpDrop, "icmp_unhandled")
		}
	}
	runLB(t, cases)
}

// noHosts are sources that stand for no single host, to which nothing is to be said (RFC 1122 section 3.2.2, RFC 4443
// section 2.4 e).
var noHosts = []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255",
	"::", "::1", "ff02::1", "ff0e::1:2"}

// echoOf gives the echo request of the family of an address.
func echoOf(addr string) made {
	if netip.MustParseAddr(addr).Is4() {
		return echo4
	}
	return echo6
}

// from has a packet come from another address.
func from(addr string) func(*pkttest.Frame) {
	return func(f *pkttest.Frame) {
		if f.IP6 != nil {
			f.IP6.SrcIP = netip.MustParseAddr(addr).AsSlice()
		} else {
			f.IP.SrcIP = netip.MustParseAddr(addr).AsSlice()
		}
	}
}

// TestLBSingleHosts answers those that are nearly no single host.
func TestLBSingleHosts(t *testing.T) {
	var cases []lbCase
	for _, src := range []string{"1.0.0.0", "126.255.255.255", "128.0.0.1", "223.255.255.255", "::2", "1::", "::1:0:1", "fe80::1", "fe00::1"} {
		f := with(echoOf(src), from(src))
		cases = append(cases, lbCase{name: "echo from " + src, frame: f, verdict: xdpTX, want: echoReply(f), moves: answered(Replies{Echo: 1})})
	}
	runLB(t, cases)
}
