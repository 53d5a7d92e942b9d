package rhi

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// dualLink joins a node to another router by a link as of joinBoth, where the node has the first addresses.
func dualLink(t testing.TB, n *node, other *netnstest.NS, i int) (four, six [2]string) {
	t.Helper()
	return joinBoth(t, n.ns, other, i)
}

// joinBoth joins two namespaces by a link with addresses of both families: 192.0.2.x and 2001:db8:i::x.
func joinBoth(t testing.TB, a, b *netnstest.NS, i int) (four, six [2]string) {
	t.Helper()
	four = [2]string{fmt.Sprintf("192.0.2.%d", 2*i), fmt.Sprintf("192.0.2.%d", 2*i+1)}
	six = [2]string{fmt.Sprintf("2001:db8:%d::1", i), fmt.Sprintf("2001:db8:%d::2", i)}
	name := fmt.Sprintf("eth%d", i)
	netnstest.Veth(t, a, name, netip.MustParsePrefix(four[0]+"/31"), b, name, netip.MustParsePrefix(four[1]+"/31"))
	for j, ns := range []*netnstest.NS{a, b} {
		eth, err := ns.Link.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		addr, err := netlink.ParseAddr(six[j] + "/64")
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := ns.Link.AddrAdd(eth, addr); err != nil {
			t.Fatal(err)
		}
		// FRR advertises itself as a router, and who believes it gets another address, and may dial from there.
		ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_ra", []byte("0"), 0) })
	}
	return four, six
}

// frrConfig is an FRR of AS 65001 that lets the node dial it. It asks for TTL security and a password.
func frrConfig(node, password string, more ...string) string {
	return fmt.Sprintf(`
router bgp 65001
 bgp router-id 198.51.100.1
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 neighbor %[1]s remote-as 65011
 neighbor %[1]s timers 1 3
 neighbor %[1]s timers connect 2
 neighbor %[1]s passive
 neighbor %[1]s password %[2]s
 neighbor %[1]s ttl-security hops 1
 neighbor %[1]s capability extended-nexthop
 address-family ipv4 unicast
  neighbor %[1]s activate
%[3]s
 exit-address-family
 address-family ipv6 unicast
  neighbor %[1]s activate
 exit-address-family
`, node, password, strings.Join(more, "\n"))
}

// birdConfig is a BIRD of AS 65002 that lets the node dial it. It asks for TTL security and a password.
func birdConfig(node, password string) string {
	extended := ""
	if strings.Contains(node, ":") {
		extended = "extended next hop; "
	}
	return fmt.Sprintf(`
router id 198.51.100.2;
protocol device { scan time 1; }
protocol kernel { ipv4 { export all; }; }
protocol kernel { ipv6 { export all; }; }
protocol bgp node {
	local as 65002;
	neighbor %s as 65011;
	passive on;
	password "%s";
	ttl security on;
	hold time 3;
	ipv4 { %simport all; export none; };
	ipv6 { import all; export none; };
}
`, node, password, extended)
}

// Over one session of either family go the routes of both, up and down the ladder of each group, and neither FRR nor BIRD
// is without a route while it goes from rung to rung.
func TestLadderAtFRRAndBIRD(t *testing.T) {
	t.Parallel()
	for _, family := range []Family{IPv4, IPv6} {
		t.Run("over "+string(family), func(t *testing.T) {
			t.Parallel()
			testLadder(t, family)
		})
	}
}

// ladderRig is a balancer with a session to FRR and one to BIRD; hops are the next hops that FRR and BIRD must see.
func ladderRig(t *testing.T, family Family) (lb *node, frr, bird *foreign, hops map[string][2]string) {
	t.Helper()
	lb = newNode(t, "lb")
	frrNS, birdNS := netnstest.New(t), netnstest.New(t)
	frr4, frr6 := dualLink(t, lb, frrNS, 1)
	bird4, bird6 := dualLink(t, lb, birdNS, 2)
	frrEnds, birdEnds, frrHop, birdHop := frr4, bird4, "next_hop: \""+frr6[0]+"\", ", "next_hop: \""+bird6[0]+"\", "
	hops = map[string][2]string{vip: {frr4[0], bird4[0]}, vip6: {frr6[0], bird6[0]}}
	if family == IPv6 {
		frrEnds, birdEnds, frrHop, birdHop = frr6, bird6, "", ""
		hops[vip] = hops[vip6] // RFC 8950
	}
	frr = newFRR(t, frrNS, "frr", frrConfig(frrEnds[0], "of-frr"))
	bird = newBIRD(t, birdNS, "bird", birdConfig(birdEnds[0], "of-bird"))
	lb.start(fmt.Sprintf(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  hold: 3s
  groups:
    isp: {ladder: [{med: 100, communities: ["65011:7", "65011:1:2"]}, {prepend: 3}, {gshut: true}]}
    core: {ladder: [{med: 0, gshut: true}]}
  neighbors:
    - {name: frr, address: "%s", asn: 65001, group: isp, families: [ipv4, ipv6], %spassword: of-frr}
    - {name: bird, address: "%s", asn: 65002, group: core, families: [ipv6, ipv4], %spassword: of-bird, prepend: 1}
`, frrEnds[1], frrHop, birdEnds[1], birdHop))
	eventually(t, "sessions up", soon, func() bool { return lb.up("frr") && lb.up("bird") })
	return lb, frr, bird, hops
}

func testLadder(t *testing.T, family Family) {
	lb, frr, bird, hops := ladderRig(t, family)
	const absent = "absent"
	lost := map[string]func() int{}
	for _, s := range []struct {
		isp, core   int
		atFRR, atBR seen
	}{
		{0, 0, seen{ASPath: "65011"}, seen{ASPath: "65011 65011"}},
		{1, 0, seen{ASPath: "65011", MED: "100", Communities: "65011:7", Large: "65011:1:2"}, seen{ASPath: "65011 65011"}},
		{2, 1, seen{ASPath: "65011 65011 65011 65011"}, seen{ASPath: "65011 65011", MED: "0", Communities: "65535:0"}},
		{3, 1, seen{ASPath: "65011", Communities: "65535:0"}, seen{ASPath: "65011 65011", MED: "0", Communities: "65535:0"}},
		{3, 0, seen{ASPath: "65011", Communities: "65535:0"}, seen{ASPath: "65011 65011"}},
		{4, 0, seen{ASPath: absent}, seen{ASPath: "65011 65011"}},
		{1, 2, seen{ASPath: "65011", MED: "100", Communities: "65011:7", Large: "65011:1:2"}, seen{ASPath: absent}},
		{4, 2, seen{ASPath: absent}, seen{ASPath: absent}},
		{2, 0, seen{ASPath: "65011 65011 65011 65011"}, seen{ASPath: "65011 65011"}},
	} {
		at := fmt.Sprintf("@isp=%d,core=%d", s.isp, s.core)
		lb.set(vip+at, vip6+at)
		if s.isp == 4 && s.core == 0 { // the first that takes a route away
			for where, count := range lost {
				if n := count(); n > 0 {
					t.Errorf("%s was gone %d times on the way to other rungs", where, n)
				}
			}
		}
		for _, prefix := range []string{vip, vip6} {
			for i, r := range []*foreign{frr, bird} {
				want := []seen{s.atFRR, s.atBR}[i]
				if want.ASPath == absent {
					r.hasNot(prefix)
					continue
				}
				want.NextHop = hops[prefix][i]
				r.has(prefix, want)
				eventually(t, "kernel route of "+r.name, soon, func() bool { return r.kernelHop(prefix) != "" })
				where := prefix + " at " + r.name
				if r == frr { // zebra replaces IPv6 routes, and on a busy machine others, by taking them away first
					continue
				}
				if lost[where] == nil {
					lost[where] = r.removals(prefix)
				}
			}
		}
	}
	r, _ := lb.route(vip)
	if r.Sent["isp"] != "prepend 3" || r.Sent["core"] != "announced" {
		t.Errorf("show route: %+v", r)
	}
	lb.set()
	for _, prefix := range []string{vip, vip6} {
		frr.hasNot(prefix)
		bird.hasNot(prefix)
	}
}

// tcpCounter reads one of the TCP counters of a namespace.
func tcpCounter(t *testing.T, ns *netnstest.NS, name string) string {
	t.Helper()
	value := ""
	ns.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/netstat")
		if err != nil {
			return err
		}
		lines := strings.Split(string(text), "\n")
		names, values := strings.Fields(lines[0]), strings.Fields(lines[1])
		for i, n := range names {
			if n == name {
				value = values[i]
			}
		}
		return nil
	})
	if value == "" {
		t.Fatalf("the kernel counts no %s", name)
	}
	return value
}

// eachPassword runs a test with a node, and FRR and BIRD that want the password "right", over either family. text is the node's
// file without the password, change what becomes of the router's.
func eachPassword(t *testing.T, change func(string) string, test func(t *testing.T, lb *node, router *netnstest.NS, text string)) {
	for i, name := range []string{"frr", "bird"} {
		for _, family := range []Family{IPv4, IPv6} {
			t.Run(name+" over "+string(family), func(t *testing.T) {
				t.Parallel()
				lb, ns := newNode(t, "lb"), netnstest.New(t)
				ends, six := dualLink(t, lb, ns, 1)
				if family == IPv6 {
					ends = six
				}
				if name == "frr" {
					newFRR(t, ns, name, change(frrConfig(ends[0], "right")))
				} else {
					newBIRD(t, ns, name, change(birdConfig(ends[0], "right")))
				}
				test(t, lb, ns, fmt.Sprintf(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  neighbors: [{name: router, address: %q, asn: %d, password: }]
`, ends[1], 65001+i))
			})
		}
	}
}

// FRR and BIRD turn down a node that has another password, and the node says what it may be.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	same := func(config string) string { return config }
	eachPassword(t, same, func(t *testing.T, lb *node, router *netnstest.NS, text string) {
		lb.start(strings.Replace(text, "password: ", "password: wrong", 1))
		eventually(t, "segments with another password", soon, func() bool { return tcpCounter(t, router, "TCPMD5Failure") != "0" })
		if p := lb.peer("router"); p.State == established || !strings.Contains(p.LastError, "password at odds") {
			t.Errorf("show peer: %+v", p)
		}
		lb.end(unix.SIGTERM)
		lb.start(strings.Replace(text, "password: ", "password: right", 1))
		eventually(t, "session with the right one", soon, func() bool { return lb.up("router") })
	})
}

// A node that FRR or BIRD dials does not hear it unless its TTL shows that it is on the link (GTSM), though it is.
func TestRouterWithoutGTSM(t *testing.T) {
	t.Parallel()
	lines := regexp.MustCompile(`.*(ttl.security|passive).*\n`)
	dials := func(config string) string { return lines.ReplaceAllString(config, "") }
	eachPassword(t, dials, func(t *testing.T, lb *node, router *netnstest.NS, text string) {
		lb.start(strings.Replace(text, "password: ", "passive: true, password: right", 1))
		eventually(t, "packets dropped for their TTL", soon, func() bool { return tcpCounter(t, lb.ns, "TCPMinTTLDrop") != "0" })
		if p := lb.peer("router"); p.State == established || p.LastError == "" {
			t.Errorf("show peer: %+v", p)
		}
	})
}

func TestPrefixLimitOfFRR(t *testing.T) {
	t.Parallel()
	lb, frrNS := newNode(t, "lb"), netnstest.New(t)
	four, _ := dualLink(t, lb, frrNS, 1)
	frr := newFRR(t, frrNS, "frr", frrConfig(four[0], "secret", "  network 203.0.113.0/26", "  network 203.0.113.64/26", "  network 203.0.113.128/26"))
	text := fmt.Sprintf(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  hold: 3s
  neighbors: [{name: frr, address: %s, asn: 65001, password: secret, max_prefixes: 3}]
`, four[1])
	lb.start(text)
	eventually(t, "as many prefixes as there may be", soon, func() bool { return lb.peer("frr").Received == 3 })
	if !lb.up("frr") {
		t.Errorf("show peer: %+v", lb.peer("frr"))
	}
	lb.end(unix.SIGTERM)
	lb.start(strings.Replace(text, "max_prefixes: 3", "max_prefixes: 2", 1))
	eventually(t, "limit in show peer", soon, func() bool { return strings.Contains(lb.peer("frr").LastError, "more than 2 prefixes") })
	eventually(t, "limit at FRR", soon, func() bool {
		return strings.Contains(frr.vtysh("show bgp neighbors "+four[0]+" json"), "Maximum Number of Prefixes Reached")
	})
	if p := lb.peer("frr"); p.State != "idle" || p.Received != 0 {
		t.Errorf("show peer: %+v", p)
	}
}

// A router that dials from the range is a peer, with the range's password; so is a second one, and no third.
func TestDynamicPeers(t *testing.T) {
	t.Parallel()
	lb, frrNS := newNode(t, "lb"), netnstest.New(t)
	four, _ := dualLink(t, lb, frrNS, 1)
	lb.start(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  hold: 3s
  announce: [203.0.113.10/32]
  dynamic: [{name: routers, prefix: 192.0.2.0/24, asn: 65001, password: secret, max_peers: 1}]
`)
	dials := strings.ReplaceAll(frrConfig(four[0], "secret"), " neighbor "+four[0]+" passive\n", "")
	frr := newFRR(t, frrNS, "frr", dials)
	frr.has(vip, seen{NextHop: four[0], ASPath: "65011"})
	eventually(t, "in show peer", soon, func() bool { // which may come after the route
		p := lb.peer("routers")
		return p.State == established && p.Address.String() == four[1] && p.Sent == 1
	})
}
