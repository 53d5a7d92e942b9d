package rhi

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/netnstest"
)

const (
	vip   = "203.0.113.10/32"
	soon  = time.Minute // bounds what should take a second or two, on a very busy machine
	hold3 = 3 * time.Second
)

// link joins two nodes by the i-th pair of 192.0.2.0/24: a gets the even address, b the odd one.
func link(t testing.TB, a, b *node, i int) (aAddr, bAddr string) {
	t.Helper()
	even, odd := fmt.Sprintf("192.0.2.%d", 2*i), fmt.Sprintf("192.0.2.%d", 2*i+1)
	netnstest.Veth(t, a.ns, fmt.Sprintf("eth%d", i), netip.MustParsePrefix(even+"/31"),
		b.ns, fmt.Sprintf("eth%d", i), netip.MustParsePrefix(odd+"/31"))
	return even, odd
}

const routerOfTwo = `
rhi:
  asn: 65001
  router_id: 198.51.100.1
  hold: 3s
  neighbors:
    - {name: lb1, address: 192.0.2.3, asn: 65011, passive: true}
    - {name: lb2, address: 192.0.2.5, asn: 65011, passive: true}
  router:
    pass: [203.0.113.0/24]
`

// twoBalancers is a router with two balancers behind it, all up.
func twoBalancers(t *testing.T) (router, lb1, lb2 *node) {
	t.Helper()
	router, lb1, lb2 = newNode(t, "router"), newNode(t, "lb1"), newNode(t, "lb2")
	link(t, router, lb1, 1)
	link(t, router, lb2, 2)
	router.start(routerOfTwo)
	lb1.start(balancer(1, "192.0.2.2"))
	lb2.start(balancer(2, "192.0.2.4"))
	eventually(t, "sessions up", soon, func() bool { return router.up("lb1") && router.up("lb2") })
	return router, lb1, lb2
}

func balancer(i int, router string) string {
	return fmt.Sprintf(`
rhi:
  asn: 65011
  router_id: 198.51.100.1%d
  hold: 3s
  neighbors:
    - {name: router, address: %s, asn: 65001}
`, i, router)
}

func TestAnnounceAndWithdraw(t *testing.T) {
	t.Parallel()
	router, lb1, lb2 := twoBalancers(t)
	lb1.set(vip)
	eventually(t, "announce to kernel route", soon, func() bool { return router.kernel(vip) == "192.0.2.3" })
	lb2.set(vip)
	eventually(t, "second announcer to ECMP", soon, func() bool { return router.kernel(vip) == "192.0.2.3 192.0.2.5" })
	lb1.set(vip, "203.0.113.11/32")
	eventually(t, "second prefix", soon, func() bool { return router.kernel("203.0.113.11/32") == "192.0.2.3" })

	r, _ := router.route(vip)
	if r.Source != Learned || !r.InKernel || len(r.NextHops) != 2 {
		t.Errorf("show route on the router: %+v", r)
	}
	eventually(t, "passed on", soon, func() bool { r, _ := router.route(vip); return r.PassedOn })
	r, _ = lb1.route(vip)
	if r.Source != Health || r.InKernel || !r.PassedOn {
		t.Errorf("show route on lb1: %+v", r)
	}

	lb1.set()
	eventually(t, "withdraw to one next hop", soon, func() bool { return router.kernel(vip) == "192.0.2.5" })
	lb2.set()
	eventually(t, "withdraw to no kernel route", soon, func() bool { return router.kernel(vip) == "" })
}

func TestKilledSpeaker(t *testing.T) {
	t.Parallel()
	router, lb1, lb2 := twoBalancers(t)
	lb1.set(vip)
	lb2.set(vip)
	eventually(t, "ECMP", soon, func() bool { return router.kernel(vip) == "192.0.2.3 192.0.2.5" })
	lb1.end(syscall.SIGKILL)
	took := eventually(t, "kill -9 to one next hop", soon, func() bool {
		hops := router.kernel(vip)
		if hops == "" {
			t.Fatal("passed through no route at all")
		}
		return hops == "192.0.2.5"
	})
	if took > hold3 {
		t.Errorf("took %v: the closed connection was not noticed before the hold time", took)
	}
	lb1.start(balancer(1, "192.0.2.2"))
	eventually(t, "session back after the restart", soon, func() bool { return router.up("lb1") })
	lb1.set(vip)
	eventually(t, "ECMP again", soon, func() bool { return router.kernel(vip) == "192.0.2.3 192.0.2.5" })
}

func TestSilentLoss(t *testing.T) {
	t.Parallel()
	router, lb1, lb2 := twoBalancers(t)
	lb1.set(vip)
	lb2.set(vip)
	eventually(t, "ECMP", soon, func() bool { return router.kernel(vip) == "192.0.2.3 192.0.2.5" })
	eth, err := lb1.ns.Link.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	if err := lb1.ns.Link.LinkSetDown(eth); err != nil { // the router's end loses its carrier, and nothing closes
		t.Fatal(err)
	}
	eventually(t, "silent loss to one next hop", soon, func() bool { return router.kernel(vip) == "192.0.2.5" })
	eventually(t, "reason shown", soon, func() bool { return strings.Contains(router.peer("lb1").LastError, "hold") })
	if err := lb1.ns.Link.LinkSetUp(eth); err != nil {
		t.Fatal(err)
	}
	eventually(t, "link back to ECMP", soon, func() bool { return router.kernel(vip) == "192.0.2.3 192.0.2.5" })
}

// The kernel drops a route without a word when its link goes down; no session notices a flap shorter than the hold time.
func TestLinkFlap(t *testing.T) {
	t.Parallel()
	router, lb1, _ := twoBalancers(t)
	lb1.set(vip)
	eventually(t, "route", soon, func() bool { return router.kernel(vip) == "192.0.2.3" })
	since := router.peer("lb1").Since
	eth, err := router.ns.Link.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	var took time.Duration
	for range 3 { // the resync might mend the first soon by chance, but then the next ones late
		if err := router.ns.Link.LinkSetDown(eth); err != nil {
			t.Fatal(err)
		}
		if hops := router.kernel(vip); hops != "" {
			t.Fatalf("the kernel keeps %s, so this tests nothing", hops)
		}
		if err := router.ns.Link.LinkSetUp(eth); err != nil {
			t.Fatal(err)
		}
		took += eventually(t, "route after the flap", soon, func() bool { return router.kernel(vip) == "192.0.2.3" })
	}
	if took >= resync {
		t.Errorf("took %v in all: the resync did it, and not the news of the link", took)
	}
	if now := router.peer("lb1").Since; !now.Equal(since) {
		t.Errorf("session is up since %v, was since %v: the flap was too long to test this", now, since)
	}
}

func TestCleanStop(t *testing.T) {
	t.Parallel()
	router, lb1, _ := twoBalancers(t)
	lb1.set(vip)
	eventually(t, "route", soon, func() bool { return router.kernel(vip) == "192.0.2.3" })
	router.end(syscall.SIGTERM)
	if hops := router.kernel(vip); hops != "" {
		t.Errorf("kernel route left behind: %s", hops)
	}
	eventually(t, "session down at lb1", soon, func() bool { return !lb1.up("router") })
}
