package rhi

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
	"anycastle/rhi/bfd"
)

// localLink joins a node to another router by a link on which the node is fe80::1 and the other one fe80::2.
func localLink(t testing.TB, n *node, other *netnstest.NS, i int) {
	t.Helper()
	for _, ns := range []*netnstest.NS{n.ns, other} { // without an address from the MAC beside it, which the kernel might send from
		ns.Do(func() error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/default/addr_gen_mode", []byte("1"), 0)
		})
	}
	name := fmt.Sprintf("eth%d", i)
	netnstest.Veth(t, n.ns, name, netip.MustParsePrefix("fe80::1/64"), other, name, netip.MustParsePrefix("fe80::2/64"))
}

// addAddress gives an interface one more address, which is of use at once.
func addAddress(t testing.TB, ns *netnstest.NS, name, address string) {
	t.Helper()
	eth, err := ns.Link.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	addr.Flags = unix.IFA_F_NODAD
	if err := ns.Link.AddrAdd(eth, addr); err != nil {
		t.Fatal(err)
	}
}

// FRR, BIRD and one of ours all have the same link-local address, each on a link of its own. Routes of both families go
// out over the sessions, and those that come in go by the right links.
func TestLinkLocalNeighbors(t *testing.T) {
	t.Parallel()
	lb, core := newNode(t, "lb"), newNode(t, "core")
	frrNS, birdNS := netnstest.New(t), netnstest.New(t)
	localLink(t, lb, frrNS, 1)
	localLink(t, lb, birdNS, 2)
	const local, network4, network6 = "fe80::1", "203.0.113.64/26", "2001:db8:20::/48"
	frr := newFRR(t, frrNS, "frr", strings.NewReplacer(
		"remote-as 65011\n", "remote-as 65011\n neighbor fe80::1 interface eth1\n",
		"ipv6 unicast\n", "ipv6 unicast\n  network "+network6+"\n").Replace(frrConfig(local, "secret", "  network "+network4)))
	bird := newBIRD(t, birdNS, "bird", strings.NewReplacer(
		"as 65011;\n", "as 65011;\n\tinterface \"eth2\";\n",
		"ipv6 { import all; export none; }", "ipv6 { import all; export where source = RTS_STATIC; }").Replace(birdConfig(local, "secret"))+`
protocol static { ipv6; route `+network6+` unreachable; }
`)
	lb.start(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  hold: 3s
  neighbors:
    - {name: frr, address: "fe80::2%eth1", asn: 65001, families: [ipv4, ipv6], password: secret}
    - {name: bird, address: "fe80::2%eth2", asn: 65002, families: [ipv4, ipv6], password: secret}
    - {name: core, address: "fe80::2%eth3", asn: 65003, password: secret, bfd: {}}
  router: {}
`)
	eventually(t, "sessions up", soon, func() bool { return lb.up("frr") && lb.up("bird") })
	localLink(t, lb, core.ns, 3) // which was not there when lb began
	core.start(`
rhi:
  asn: 65003
  router_id: 198.51.100.3
  hold: 3s
  announce: ["2001:db8:30::/48"]
  neighbors: [{name: lb, address: "fe80::1%eth3", asn: 65011, passive: true, password: secret, bfd: {}}]
  router: {}
`)
	eventually(t, "session over the new link", soon, func() bool { return lb.up("core") })
	lb.set(vip, vip6)
	for _, prefix := range []string{vip, vip6} {
		for _, r := range []*foreign{frr, bird} {
			r.has(prefix, seen{NextHop: local, ASPath: "65011"})
			eventually(t, "kernel route of "+r.name, soon, func() bool { return r.kernelHop(prefix) == local })
		}
	}
	eventually(t, "kernel route of core", soon, func() bool { return core.kernel(vip6) == "fe80::1%eth3" })
	eventually(t, "ways over both links", soon, func() bool { return lb.kernel(network6) == "fe80::2%eth1 fe80::2%eth2" })
	eventually(t, "way of IPv4", soon, func() bool { return lb.kernel(network4) == "fe80::2%eth1" })
	eventually(t, "way to core", soon, func() bool { return lb.kernel("2001:db8:30::/48") == "fe80::2%eth3" })
	if r, _ := lb.route(network6); !r.InKernel {
		t.Errorf("show route: %+v", r)
	}
	eventually(t, "BFD", soon, func() bool { s := lb.bfd(); return len(s) == 1 && s[0].State == bfd.Up })

	eth, err := lb.ns.Link.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	if err := lb.ns.Link.LinkSetDown(eth); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other link after its loss", soon, func() bool { return lb.kernel(network6) == "fe80::2%eth2" })
	if err := lb.ns.Link.LinkSetUp(eth); err != nil {
		t.Fatal(err)
	}
	addAddress(t, lb.ns, "eth1", "fe80::1/64") // the kernel drops IPv6 addresses with the link
	eventually(t, "both links again", soon, func() bool { return lb.kernel(network6) == "fe80::2%eth1 fe80::2%eth2" })
}
