package lb

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"anycastle/lb/real"

	"github.com/vishvananda/netlink"
)

// TestPath takes a VIP through the life of its reals and of its load balancer with real packets.
func TestPath(t *testing.T) {
	n := newNetwork(t)
	serve(t, n.mx2, "mx2")
	mx1 := serve(t, n.mx1, "mx1")
	host1 := n.start(n.mx1, "real", nodeReal, "mx1")
	host2 := n.start(n.mx2, "real", nodeReal, "mx2")
	balancer := n.start(n.lb, "lb", nodeLB, "lb")
	for _, h := range []*node{host1, host2} {
		eventually(t, "decapsulator attached", func() bool {
			var s []real.Status
			return h.get("/v1/host", &s) && len(s[0].Uplinks) == 1
		})
	}
	bothActive := func() bool {
		return balancer.inService("mx1") && balancer.inService("mx2")
	}
	eventually(t, "both reals active", bothActive)
	eventually(t, "VIP announced", func() bool { return balancer.announced() == `["203.0.113.10/32"]` })

	if by := n.taken(40); by["mx1"] == 0 || by["mx2"] == 0 {
		t.Errorf("40 connections went to %v, want both reals", by)
	}
	conn, _, err := n.connect()
	check(t, err)
	echo(t, conn, 1<<20) // full segments: 1500 bytes before encapsulation
	conn.Close()
	n.checkStatus(balancer, host1, host2)

	// a real's service dies
	var held net.Conn
	for held == nil {
		c, name, err := n.connect()
		check(t, err)
		if name == "mx2" {
			held = c
			defer held.Close()
		} else {
			c.Close()
		}
	}
	died := time.Now()
	mx1.ln.Close()
	eventually(t, "mx1 failed", func() bool { return balancer.realState("mx1") == StateFailed })
	took := time.Since(died)
	if took > failTime+500*time.Millisecond { // for scheduling and for asking on a busy machine
		t.Errorf("mx1 went out of service after %v, want within %v", took, failTime)
	}
	if by := n.taken(40); by["mx2"] != 40 {
		t.Errorf("with mx1 failed, 40 connections went to %v", by)
	}
	echo(t, held, 4096)

	// the load balancer's process dies: packets flow on, by the pinned program and maps
	balancer.stop(syscall.SIGKILL)
	echo(t, held, 4096)
	if by := n.taken(20); by["mx2"] != 20 {
		t.Errorf("without an LB process, 20 connections went to %v", by)
	}

	// another takes over, and mx1 comes back
	serve(t, n.mx1, "mx1")
	balancer = n.start(n.lb, "lb", nodeLB, "lb")
	eventually(t, "both reals active again", bothActive)
	echo(t, held, 4096)
	eventually(t, "mx1 takes connections again", func() bool { return n.taken(10)["mx1"] > 0 })

	// a clean stop withdraws, and leaves the packets flowing that routers still send
	balancer.stop(syscall.SIGTERM)
	if got := balancer.announced(); got != "null" {
		t.Errorf("after a clean stop %s is announced", got)
	}
	echo(t, held, 4096)
	n.checkRealStops(host1)
}

func (n *network) checkStatus(balancer, host1, host2 *node) {
	t := n.t
	t.Helper()
	var vips []VIPStatus
	var drops []DropStatus
	if !balancer.get("/v1/vip", &vips) || !balancer.get("/v1/drops", &drops) {
		t.Fatal("LB does not answer")
	}
	if v := vips[0]; !v.Announced || v.ActiveReals != 2 || v.Packets < 700 || v.Bytes < 1<<20 {
		t.Errorf("vip status %+v, want announced, 2 reals, and the packets of a megabyte", v)
	}
	for _, d := range drops {
		if d.Packets != 0 {
			t.Errorf("%d packets dropped for %s", d.Packets, d.Reason)
		}
	}
	var sum uint64
	for _, h := range []*node{host1, host2} {
		var s []real.Status
		if !h.get("/v1/host", &s) {
			t.Fatal("real does not answer")
		}
		sum += s[0].Decapsulated
	}
	if sum < vips[0].Packets { // and probes come in the same way
		t.Errorf("reals decapsulated %d packets, LB sent %d", sum, vips[0].Packets)
	}
}

// checkRealStops ends a real cleanly and looks for what it leaves.
func (n *network) checkRealStops(host *node) {
	t := n.t
	t.Helper()
	host.stop(syscall.SIGTERM)
	lo, err := n.mx1.Link.LinkByName("lo")
	check(t, err)
	addrs, err := n.mx1.Link.AddrList(lo, netlink.FAMILY_V4)
	check(t, err)
	for _, a := range addrs {
		if !a.IP.IsLoopback() {
			t.Errorf("%v is still on lo", a.IPNet)
		}
	}
	eth, err := n.mx1.Link.LinkByName("eth1")
	check(t, err)
	if x := eth.Attrs().Xdp; x != nil && x.Attached {
		t.Errorf("XDP program %d is still attached", x.ProgId)
	}
	if _, err := os.Stat(filepath.Join(n.pins, "mx1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pin directory: %v", err)
	}
}
