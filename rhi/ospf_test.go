package rhi

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// ospfConfig is OSPF for IPv4 and IPv6 on a link, quick to see a neighbor. More lines go into both protocols.
func ospfConfig(link, id, more string) string {
	return fmt.Sprintf(`
interface %[1]s
 ip ospf area 0
 ip ospf network point-to-point
 ip ospf hello-interval 1
 ip ospf dead-interval 3
 ipv6 ospf6 area 0
 ipv6 ospf6 network point-to-point
 ipv6 ospf6 hello-interval 1
 ipv6 ospf6 dead-interval 3
router ospf
 ospf router-id %[2]s
 timers throttle lsa all 0
 timers lsa min-arrival 0
%[3]s
router ospf6
 ospf6 router-id %[2]s
 timers lsa min-arrival 0
%[3]s
`, link, id, more)
}

const banner = "here is the VIP"

// serve gives a banner to who connects to port 25 of a VIP at the node, and puts the VIP on its loopback.
func (n *node) serve(prefix string) {
	n.t.Helper()
	lo, err := n.ns.Link.LinkByName("lo")
	if err != nil {
		n.t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(prefix)
	if err != nil {
		n.t.Fatal(err)
	}
	addr.Flags = unix.IFA_F_NODAD
	if err := n.ns.Link.AddrAdd(lo, addr); err != nil {
		n.t.Fatal(err)
	}
	var ln net.Listener
	n.ns.Do(func() (err error) {
		ln, err = net.Listen("tcp", net.JoinHostPort(addr.IP.String(), "25"))
		return err
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, banner)
			c.Close()
		}
	}()
	n.t.Cleanup(func() { ln.Close(); <-ended })
}

// greeting gives what a client in the router's namespace reads from port 25 of a VIP.
func (f *foreign) greeting(prefix string) (text string, err error) {
	f.t.Helper()
	f.ns.Do(func() error {
		var c net.Conn
		c, err = net.DialTimeout("tcp", net.JoinHostPort(netip.MustParsePrefix(prefix).Addr().String(), "25"), soon)
		if err != nil {
			return nil
		}
		defer c.Close()
		var b []byte
		b, err = io.ReadAll(c)
		text = string(b)
		return nil
	})
	return text, err
}

// A router that has no BGP learns a VIP by OSPF from the router that the node announces it to, and its clients reach the
// node; until the node takes the VIP back.
func TestVIPReachesRoutersThatSpeakOSPF(t *testing.T) {
	t.Parallel()
	lb, oneNS, twoNS := newNode(t, "lb"), netnstest.New(t), netnstest.New(t)
	four, six := dualLink(t, lb, oneNS, 1)
	joinBoth(t, oneNS, twoNS, 2)
	for _, gateway := range []string{four[1], six[1]} {
		if err := lb.ns.Link.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)}); err != nil {
			t.Fatal(err)
		}
	}
	newFRR(t, oneNS, "one", "ip forwarding\nipv6 forwarding\n"+ospfConfig("eth2", "198.51.100.1", " redistribute bgp")+frrConfig(four[0], "secret"),
		"ospfd", "ospf6d")
	two := startFRR(t, twoNS, "two", ospfConfig("eth2", "198.51.100.2", ""), "ospfd", "ospf6d")
	lb.serve(vip)
	lb.serve(vip6)
	lb.start(fmt.Sprintf(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  neighbors: [{name: one, address: %s, asn: 65001, families: [ipv4, ipv6], next_hop: %q, password: secret}]
`, four[1], six[0]))
	eventually(t, "session up", soon, func() bool { return lb.up("one") })
	gone := func(prefix string) {
		t.Helper()
		eventually(t, "no route to "+prefix, soon, func() bool { return two.kernelHop(prefix) == "" })
		if text, err := two.greeting(prefix); err == nil {
			t.Errorf("%s answers %q without a route", prefix, text)
		}
	}
	for range 2 {
		for _, prefix := range []string{vip, vip6} {
			gone(prefix)
		}
		lb.set(vip, vip6)
		for _, prefix := range []string{vip, vip6} {
			eventually(t, "route to "+prefix, soon, func() bool { return two.kernelHop(prefix) != "" })
			if text, err := two.greeting(prefix); err != nil || text != banner {
				t.Errorf("%s answers %q, %v", prefix, text, err)
			}
		}
		lb.set()
	}
	for _, prefix := range []string{vip, vip6} {
		gone(prefix)
	}
}
