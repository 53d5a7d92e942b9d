package rhi

import (
	"net/netip"
	"slices"
	"testing"

	"anycastle/internal/netnstest"
)

const vip6 = "2001:db8:10::10/128"

// dualStack is a router with a balancer behind it, over two links: an IPv4 one and an IPv6 one.
func dualStack(t *testing.T, balancer string) (router, lb *node) {
	t.Helper()
	router, lb = newNode(t, "router"), newNode(t, "lb")
	link(t, router, lb, 1)
	netnstest.Veth(t, router.ns, "six", netip.MustParsePrefix("2001:db8:1::1/64"), lb.ns, "six", netip.MustParsePrefix("2001:db8:1::2/64"))
	router.start(`
rhi:
  asn: 65001
  router_id: 198.51.100.1
  hold: 3s
  neighbors:
    - {name: lb, address: 192.0.2.3, asn: 65011, passive: true}
    - {name: lb six, address: "2001:db8:1::2", asn: 65011, passive: true}
  router:
    pass: [203.0.113.0/24]
`)
	lb.start(balancer)
	return router, lb
}

func TestIPv6PrefixOverIPv6Session(t *testing.T) {
	t.Parallel()
	router, lb := dualStack(t, `
rhi:
  asn: 65011
  router_id: 198.51.100.11
  hold: 3s
  neighbors:
    - {name: router, address: 192.0.2.2, asn: 65001}
    - {name: router six, address: "2001:db8:1::1", asn: 65001, prepend: 2}
  announce: ["2001:db8:11::/48"]
`)
	eventually(t, "sessions up", soon, func() bool { return router.up("lb") && router.up("lb six") })
	lb.set(vip, vip6)
	eventually(t, "IPv4 VIP in the kernel", soon, func() bool { return router.kernel(vip) == "192.0.2.3" })
	for _, prefix := range []string{vip6, "2001:db8:11::/48"} {
		eventually(t, prefix+" at the router", soon, func() bool {
			r, _ := router.route(prefix)
			return slices.Equal(r.NextHops, addrs("2001:db8:1::2"))
		})
	}
	r, _ := router.route(vip6)
	if r.Source != Learned || !r.InKernel || r.PassedOn || r.Why != "outside all of router.pass" {
		t.Errorf("show route on the router: %+v", r)
	}
	if hops := router.kernel(vip6); hops != "2001:db8:1::2" {
		t.Errorf("the IPv6 VIP is via %q in the kernel", hops)
	}
	r, _ = lb.route(vip6)
	if r.Source != Health || !r.PassedOn {
		t.Errorf("show route on lb: %+v", r)
	}
	if p := lb.peer("router six"); p.Sent != 2 {
		t.Errorf("%d prefixes stand sent over the IPv6 session, want 2: %+v", p.Sent, p)
	}

	lb.set(vip)
	eventually(t, "IPv6 VIP withdrawn", soon, func() bool { _, ok := router.route(vip6); return !ok && router.kernel(vip6) == "" })
	if hops := router.kernel(vip); hops != "192.0.2.3" {
		t.Errorf("the IPv4 VIP is via %q after the IPv6 one was withdrawn", hops)
	}
}

// A prefix that no peer can be told of says why, and keeps no other from being announced.
func TestIPv6PrefixWithoutIPv6Neighbor(t *testing.T) {
	t.Parallel()
	router, lb := dualStack(t, balancer(1, "192.0.2.2"))
	eventually(t, "session up", soon, func() bool { return router.up("lb") })
	lb.set(vip6, vip)
	eventually(t, "IPv4 VIP in the kernel", soon, func() bool { return router.kernel(vip) == "192.0.2.3" })
	r, ok := lb.route(vip6)
	if want := "no rhi neighbor takes ipv6 routes; add the family to one's families, or a neighbor"; !ok || r.PassedOn || r.Source != Health || r.Why != want {
		t.Errorf("show route on lb: %+v, want %q", r, want)
	}
	lb.set(vip)
	if r, ok := lb.route(vip6); ok {
		t.Errorf("still shown after it was taken back: %+v", r)
	}
}

// IPv4 routes over an IPv6 session (RFC 8950) go into the kernel, beside those over an IPv4 session, and flows stay where
// they are when one of either kind leaves.
func TestIPv4PrefixOverIPv6Session(t *testing.T) {
	t.Parallel()
	router, four, six := newNode(t, "router"), newNode(t, "four"), newNode(t, "six")
	link(t, router, four, 1)
	netnstest.Veth(t, router.ns, "six", netip.MustParsePrefix("2001:db8:1::1/64"), six.ns, "six", netip.MustParsePrefix("2001:db8:1::2/64"))
	router.start(`
rhi:
  asn: 65001
  router_id: 198.51.100.1
  hold: 3s
  neighbors:
    - {name: four, address: 192.0.2.3, asn: 65011, passive: true}
    - {name: six, address: "2001:db8:1::2", asn: 65012, passive: true, families: [ipv4, ipv6]}
  router: {pass: [203.0.113.0/24]}
`)
	four.start(balancer(1, "192.0.2.2"))
	six.start(`
rhi:
  asn: 65012
  router_id: 198.51.100.12
  hold: 3s
  neighbors: [{name: router, address: "2001:db8:1::1", asn: 65001, families: [ipv4, ipv6]}]
`)
	eventually(t, "sessions up", soon, func() bool { return router.up("four") && router.up("six") })
	six.set(vip, vip6)
	eventually(t, "by the IPv6 next hop", soon, func() bool { return router.kernel(vip) == "2001:db8:1::2" && router.kernel(vip6) == "2001:db8:1::2" })
	four.set(vip)
	eventually(t, "by both", soon, func() bool { return router.kernel(vip) == "192.0.2.3 2001:db8:1::2" })
	if r, _ := router.route(vip); !r.InKernel || r.NotSet != "" {
		t.Errorf("show route: %+v", r)
	}
	before, stays := router.bucketsOf(vip), addrs("2001:db8:1::2")[0]
	if !slices.Contains(before, stays) {
		t.Fatalf("buckets lead to %v", before)
	}
	four.set()
	eventually(t, "by the one that stays", soon, func() bool { return router.kernel(vip) == "2001:db8:1::2" })
	for i, a := range router.bucketsOf(vip) {
		if a != stays {
			t.Errorf("bucket %d leads to %v", i, a)
		}
	}
	six.set(vip6)
	eventually(t, "no route", soon, func() bool { return router.kernel(vip) == "" })
}
