package rhi

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// middle is a node between b and c that hears of b's routes; router is its `router` section, or nothing.
func middle(t *testing.T, router string) (m, c *node) {
	t.Helper()
	b := newNode(t, "b")
	m, c = newNode(t, "m"), newNode(t, "c")
	link(t, b, m, 1)
	link(t, c, m, 2)
	b.start(`
rhi:
  asn: 65002
  router_id: 198.51.100.2
  neighbors: [{name: m, address: 192.0.2.3, asn: 65001, passive: true}]
  announce: [203.0.113.0/24, 203.0.113.192/26, 198.51.100.0/25]
`)
	c.start(`
rhi:
  asn: 65003
  router_id: 198.51.100.3
  neighbors: [{name: m, address: 192.0.2.5, asn: 65001, passive: true}]
`)
	m.start(`
rhi:
  asn: 65001
  router_id: 198.51.100.1
  neighbors:
    - {name: b, address: 192.0.2.2, asn: 65002}
    - {name: c, address: 192.0.2.4, asn: 65003}
` + router)
	eventually(t, "sessions and b's routes at m", soon, func() bool { return m.up("c") && len(m.status().Routes) == 3 })
	m.set(vip) // goes the same way after b's routes: once c has it, c would have them too
	eventually(t, "m's own route at c", soon, func() bool { _, ok := c.route(vip); return ok })
	return m, c
}

func (n *node) prefixes() string {
	var list []string
	for _, r := range n.status().Routes {
		list = append(list, r.Prefix.String())
	}
	return strings.Join(list, " ")
}

func TestNoTransit(t *testing.T) {
	t.Parallel()
	m, c := middle(t, "")
	if got := c.prefixes(); got != vip {
		t.Errorf("c has %s, want %s only: a node without a router section must not pass routes on", got, vip)
	}
	for _, r := range m.status().Routes {
		if r.Source == Learned && (r.PassedOn || r.InKernel || !strings.Contains(r.Why, "no router")) {
			t.Errorf("show route on m: %+v", r)
		}
	}
}

// A neighbor's own list counts instead of the router's.
func TestPassToOneNeighbor(t *testing.T) {
	t.Parallel()
	b, m, c := newNode(t, "b"), newNode(t, "m"), newNode(t, "c")
	link(t, b, m, 1)
	link(t, c, m, 2)
	b.start(`
rhi:
  asn: 65002
  router_id: 198.51.100.2
  neighbors: [{name: m, address: 192.0.2.3, asn: 65001, passive: true}]
  announce: [203.0.113.0/24, 203.0.113.192/26, 198.51.100.0/25]
`)
	c.start(`
rhi:
  asn: 65003
  router_id: 198.51.100.3
  neighbors: [{name: m, address: 192.0.2.5, asn: 65001, passive: true}]
`)
	m.start(`
rhi:
  asn: 65001
  router_id: 198.51.100.1
  neighbors:
    - {name: b, address: 192.0.2.2, asn: 65002}
    - name: c
      address: 192.0.2.4
      asn: 65003
      pass:
        - {prefixes: [203.0.113.128/25], prepend: 2}
        - {prefixes: [198.51.100.0/24]}
  router: {pass: [203.0.113.0/24]}
`)
	eventually(t, "what c's own list covers at c", soon, func() bool { return c.prefixes() == "198.51.100.0/25 203.0.113.192/26" })
	why := map[string]string{}
	for _, r := range m.status().Routes {
		why[r.Prefix.String()] = r.Why
	}
	if got := why["203.0.113.192/26"]; got != "inside 203.0.113.0/24 of router.pass; inside pass of c" {
		t.Errorf("m says of it: %q", got)
	}
}

// The first entry that covers a route says how far away it looks, beside what the peer's prepend adds.
func TestPassPrepends(t *testing.T) {
	t.Parallel()
	cfg, err := decode("node.yml", []byte(strings.Replace(goodNode, "prepend: 2}",
		"prepend: 2, pass: [{prefixes: [203.0.113.128/25], prepend: 3}, {prefixes: [0.0.0.0/0]}]}", 1)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range exportPolicy(cfg, routing) {
		if !s.own && !s.reject {
			got = append(got, fmt.Sprintf("%s: %s, %d more", s.to.name, s.pass, s.prepend))
		}
	}
	want := "core: pass 0 of core, 5 more; core: pass 1 of core, 2 more; spare: router.pass, 0 more"
	if all := strings.Join(got, "; "); all != want {
		t.Errorf("learned routes are told by\n%s, want\n%s", all, want)
	}
}

func TestPass(t *testing.T) {
	t.Parallel()
	m, c := middle(t, "  router: {pass: [203.0.113.128/25]}\n")
	want := vip + " 203.0.113.192/26"
	eventually(t, "what pass covers at c", soon, func() bool { return c.prefixes() == want })
	passed := map[string]bool{"198.51.100.0/25": false, vip: true, "203.0.113.0/24": false, "203.0.113.192/26": true}
	for _, r := range m.status().Routes {
		if r.PassedOn != passed[r.Prefix.String()] || r.Why == "" {
			t.Errorf("show route on m: %+v", r)
		}
	}
}

// core is a router between one balancer (10 + i) and the client.
func core(i, prepend int, balancer, client string) string {
	return fmt.Sprintf(`
rhi:
  asn: %d
  router_id: 198.51.100.%d
  hold: 3s
  neighbors:
    - {name: lb, address: %s, asn: 65011, passive: true}
    - {name: client, address: %s, asn: 65000, passive: true, prepend: %d}
  router: {pass: [203.0.113.0/24]}
`, 65000+i, i, balancer, client, prepend)
}

func TestPrependMakesBackup(t *testing.T) {
	t.Parallel()
	lb, core1, core2, client := newNode(t, "lb"), newNode(t, "core1"), newNode(t, "core2"), newNode(t, "client")
	link(t, lb, core1, 1)
	link(t, lb, core2, 2)
	link(t, client, core1, 3)
	link(t, client, core2, 4)
	core1.start(core(1, 0, "192.0.2.2", "192.0.2.6"))
	core2.start(core(2, 2, "192.0.2.4", "192.0.2.8"))
	lb.start(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  hold: 3s
  announce: [203.0.113.10/32]
  neighbors:
    - {name: core1, address: 192.0.2.3, asn: 65001}
    - {name: core2, address: 192.0.2.5, asn: 65002}
`)
	client.start(`
rhi:
  asn: 65000
  router_id: 198.51.100.9
  hold: 3s
  neighbors:
    - {name: core1, address: 192.0.2.7, asn: 65001}
    - {name: core2, address: 192.0.2.9, asn: 65002}
  router: {}
`)
	const viaCore1, viaCore2 = "192.0.2.7", "192.0.2.9"
	received := func() (n int) {
		for _, p := range client.status().Peers {
			n += p.Received
		}
		return n
	}
	eventually(t, "both ways known", soon, func() bool { return received() == 2 })
	eventually(t, "shorter way", soon, func() bool { return client.kernel(vip) == viaCore1 })
	core1.end(syscall.SIGKILL)
	eventually(t, "backup after kill -9", soon, func() bool { return client.kernel(vip) == viaCore2 })
	core1.start(core(1, 0, "192.0.2.2", "192.0.2.6"))
	eventually(t, "shorter way again", soon, func() bool { return client.kernel(vip) == viaCore1 })
	core2.end(syscall.SIGTERM)
	core2.start(core(2, 0, "192.0.2.4", "192.0.2.8"))
	eventually(t, "ECMP over two neighbour AS", soon, func() bool { return client.kernel(vip) == viaCore1+" "+viaCore2 })
}

func TestPredecessorsRoutes(t *testing.T) {
	t.Parallel()
	router, lb1 := newNode(t, "router"), newNode(t, "lb1")
	link(t, router, lb1, 1)
	old := openFIBIn(t, router.ns)
	hop, err := old.reachable(addrs("192.0.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{vip, "203.0.113.99/32"} {
		if err := old.replace(netip.MustParsePrefix(p), hop); err != nil {
			t.Fatal(err)
		}
	}
	foreign := kernelRoute(netip.MustParsePrefix("203.0.113.98/32"))
	foreign.Protocol, foreign.Gw = 4, hop[0].gateway.AsSlice()
	if err := router.ns.Link.RouteAdd(foreign); err != nil {
		t.Fatal(err)
	}
	lb1.start(balancer(1, "192.0.2.2"))
	lb1.set(vip, "203.0.113.98/32")
	router.start(`
rhi:
  asn: 65001
  router_id: 198.51.100.1
  hold: 3s
  neighbors: [{name: lb1, address: 192.0.2.3, asn: 65011, passive: true}]
  router: {}
`)
	eventually(t, "learned route in use", soon, func() bool { r, _ := router.route(vip); return r.InKernel })
	eventually(t, "stale route gone", soon, func() bool {
		if router.kernel(vip) == "" {
			t.Fatal("the route that is still announced went too")
		}
		return router.kernel("203.0.113.99/32") == ""
	})
	router.end(syscall.SIGTERM)
	found, err := router.ns.Link.RouteListFiltered(netlink.FAMILY_V4, foreign, netlink.RT_FILTER_DST|netlink.RT_FILTER_PROTOCOL)
	if err != nil || len(found) != 1 {
		t.Errorf("another program's route: %v, %v; want it untouched", found, err)
	}
}
