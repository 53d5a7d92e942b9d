package rhi

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// A node with several addresses speaks from the one that it is told to, and routes lead there.
func TestLocalAddress(t *testing.T) {
	t.Parallel()
	const own = "198.51.100.50"
	router, lb := newNode(t, "router"), newNode(t, "lb")
	routerEnd, lbEnd := link(t, router, lb, 1)
	for _, step := range []struct {
		n  *node
		do func(eth netlink.Link) error
	}{
		{lb, func(eth netlink.Link) error {
			a, err := netlink.ParseAddr(own + "/32")
			if err != nil {
				return err
			}
			return lb.ns.Link.AddrAdd(eth, a)
		}},
		{router, func(eth netlink.Link) error {
			to := &net.IPNet{IP: net.ParseIP(own).To4(), Mask: net.CIDRMask(32, 32)}
			return router.ns.Link.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: to, Gw: net.ParseIP(lbEnd)})
		}},
	} {
		eth, err := step.n.ns.Link.LinkByName("eth1")
		if err != nil {
			t.Fatal(err)
		}
		if err := step.do(eth); err != nil {
			t.Fatal(err)
		}
	}
	router.start(`
rhi:
  asn: 65001
  router_id: 198.51.100.1
  neighbors: [{name: lb, address: ` + own + `, asn: 65011, passive: true}]
`)
	lb.start(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  neighbors: [{name: router, address: ` + routerEnd + `, asn: 65001, local: ` + own + `}]
`)
	eventually(t, "session up", soon, func() bool { return lb.up("router") && router.up("lb") })
	lb.set(vip)
	eventually(t, "the route leads to the own address", soon, func() bool {
		r, ok := router.route(vip)
		return ok && slices.Equal(r.NextHops, addrs(own))
	})
}

func TestLocalAddressComplaints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ local, complaint string }{
		{`"2001:db8::1"`, "rhi.neighbors[0].local: 2001:db8::1 and the neighbor's 192.0.2.1 are not of one IP version"},
		{"127.0.0.1", "127.0.0.1 is no address of this node that others reach"},
		{"192.0.2.1", "192.0.2.1 is the neighbor's own; give this node's"},
	} {
		text := "rhi:\n  asn: 65011\n  router_id: 198.51.100.3\n  neighbors: [{name: a, address: 192.0.2.1, asn: 65001, local: " + c.local + "}]\n"
		if _, err := decode("node.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: got %v, want %q in it", c.local, err, c.complaint)
		}
	}
}
