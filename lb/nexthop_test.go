package lb

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"anycastle/bpf"
	"anycastle/internal/netnstest"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
)

const nearReal, farReal = "198.51.100.9", "198.51.100.129" // farReal is behind nearReal as its gateway

// resolving is a resolver that runs in a namespace with eth1 and eth2 to two others.
type resolving struct {
	t        *testing.T
	lb, a, b *netnstest.NS
	reports  chan map[netip.Addr]Hop
	log      journal
	hops     map[netip.Addr]Hop
}

func newResolving(t *testing.T) *resolving {
	t.Helper()
	r := &resolving{t: t, lb: netnstest.New(t), a: netnstest.New(t), b: netnstest.New(t), reports: make(chan map[netip.Addr]Hop)}
	netnstest.Veth(t, r.lb, "eth1", netip.MustParsePrefix("198.51.100.1/28"), r.a, "eth0", netip.MustParsePrefix(nearReal+"/28"))
	netnstest.Veth(t, r.lb, "eth2", netip.MustParsePrefix("198.51.100.17/28"), r.b, "eth0", netip.MustParsePrefix("198.51.100.18/28"))
	check(t, r.lb.Link.RouteReplace(&netlink.Route{Dst: prefix("198.51.100.128/28"), Gw: net.ParseIP(nearReal)}))
	return r
}

func (r *resolving) start(hops map[netip.Addr]Hop) {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error)
	res := resolver{
		reals: []netip.Addr{addr(nearReal), addr(farReal)}, hops: hops, uplinks: []bpf.Uplink{{Name: "eth1", Mode: bpf.Native}},
		log:    slog.New(slog.NewTextHandler(&r.log, nil)),
		report: func(ctx context.Context, h map[netip.Addr]Hop) { send(ctx, r.reports, h) },
	}
	go r.lb.Do(func() error {
		done <- res.run(ctx)
		return nil
	})
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("resolver: %v", err)
		}
	})
}

// eventually waits for a report that satisfies cond.
func (r *resolving) eventually(what string, cond func(near, far Hop) bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for {
		select {
		case r.hops = <-r.reports:
		case <-ctx.Done():
			r.t.Fatalf("not within %v: %s; hops are %v", patience, what, r.hops)
		}
		if cond(r.hops[addr(nearReal)], r.hops[addr(farReal)]) {
			return
		}
	}
}

func link(t *testing.T, ns *netnstest.NS, name string) netlink.Link {
	t.Helper()
	l, err := ns.Link.LinkByName(name)
	check(t, err)
	return l
}

func TestNextHopFollowsTheKernel(t *testing.T) {
	r := newResolving(t)
	r.start(map[netip.Addr]Hop{})
	eth1, eth2 := link(t, r.lb, "eth1"), link(t, r.lb, "eth2")
	mac := [6]byte(link(t, r.a, "eth0").Attrs().HardwareAddr)
	want := Hop{Source: addr("198.51.100.1"), Ifindex: eth1.Attrs().Index, MTU: 1500, DstMAC: mac,
		SrcMAC: [6]byte(eth1.Attrs().HardwareAddr), Veth: true}
	r.eventually("both resolved", func(near, far Hop) bool { return near == want && far == want })

	// the gateway gets another MAC address; the kernel notices by asking, or by being told
	other := net.HardwareAddr{0x02, 0, 0x5e, 0, 0x53, 9}
	check(t, r.a.Link.LinkSetHardwareAddr(link(t, r.a, "eth0"), other))
	check(t, r.lb.Link.NeighSet(&netlink.Neigh{LinkIndex: eth1.Attrs().Index, IP: net.ParseIP(nearReal), HardwareAddr: other,
		State: netlink.NUD_REACHABLE}))
	want.DstMAC = [6]byte(other)
	r.eventually("another MAC address", func(near, far Hop) bool { return near == want && far == want })

	check(t, r.lb.Link.LinkSetDown(eth1))
	r.eventually("no route over a link that is down", func(near, far Hop) bool {
		return !near.resolved() && !far.resolved() && strings.Contains(near.Why, "no route to "+nearReal)
	})
	check(t, r.lb.Link.LinkSetUp(eth1))
	r.eventually("the near one again", func(near, _ Hop) bool { return near == want })

	// the far one moves to another link
	check(t, r.lb.Link.RouteReplace(&netlink.Route{Dst: prefix(farReal + "/32"), Gw: net.ParseIP("198.51.100.18")}))
	r.eventually("the far one over eth2", func(near, far Hop) bool {
		return near == want && far.Ifindex == eth2.Attrs().Index && far.Source == addr("198.51.100.17")
	})
}

// TestNextHopIsKeptAcrossRestart starts with what is installed while the kernel does not know the neighbour and gets no
// answer.
func TestNextHopIsKeptAcrossRestart(t *testing.T) {
	r := newResolving(t)
	eth1 := link(t, r.lb, "eth1")
	installed := Hop{Source: addr("198.51.100.1"), Ifindex: eth1.Attrs().Index, MTU: 1500, DstMAC: [6]byte{2, 0, 0x5e, 0, 0x53, 9},
		SrcMAC: [6]byte(eth1.Attrs().HardwareAddr), Veth: true}
	check(t, r.a.Link.LinkSetARPOff(link(t, r.a, "eth0")))
	r.start(map[netip.Addr]Hop{addr(nearReal): installed})
	r.eventually("first report", func(near, far Hop) bool {
		if near != installed {
			t.Errorf("the installed hop became %v", near)
		}
		if far.resolved() || !strings.Contains(far.Why, "does not answer") {
			t.Errorf("the other hop is %v, want unresolved", far)
		}
		return true
	})
}

// TestRedirectThatTheKernelWouldDrop switches the far end's GRO off and on.
func TestRedirectThatTheKernelWouldDrop(t *testing.T) {
	r := newResolving(t)
	gro := func(on bool) {
		r.a.Do(func() error {
			tool, err := ethtool.NewEthtool()
			if err != nil {
				return err
			}
			defer tool.Close()
			return tool.Change("eth0", map[string]bool{"rx-gro": on})
		})
	}
	gro(false)
	if err := takesRedirectsIn(r.lb, "eth2"); err != nil {
		t.Error(err)
	}
	r.start(map[netip.Addr]Hop{})
	r.eventually("unresolved", func(near, _ Hop) bool {
		return !near.resolved() && strings.Contains(near.Why, "switch GRO on")
	})
	if log := strings.Join(r.log.take(), ""); !strings.Contains(log, "level=WARN") {
		t.Errorf("no warning in the log:\n%s", log)
	}
	gro(true)
	r.eventually("resolved", func(near, far Hop) bool { return near.resolved() && far.resolved() })
}

func takesRedirectsIn(ns *netnstest.NS, name string) (err error) {
	ns.Do(func() error {
		l, e := netlink.LinkByName(name)
		if e == nil && !takesRedirects(l.Attrs().Index) {
			err = fmt.Errorf("%s takes no redirects, though its far end has GRO on", name)
		}
		return e
	})
	return err
}

// TestResolverOutlivesAnOverrun makes more changes than the kernel keeps for a reader that is busy.
func TestResolverOutlivesAnOverrun(t *testing.T) {
	r := newResolving(t)
	r.start(map[netip.Addr]Hop{})
	eth2 := link(t, r.lb, "eth2")
	// nobody takes the first report meanwhile
	for i := range 4000 {
		ip := net.IPv4(192, 0, 2, byte(i)).To4()
		route := &netlink.Route{Dst: &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)}, LinkIndex: eth2.Attrs().Index, Priority: 1 + i/256}
		check(t, r.lb.Link.RouteAdd(route))
	}
	r.eventually("resolved", func(near, far Hop) bool { return near.resolved() && far.resolved() })
	check(t, r.lb.Link.RouteReplace(&netlink.Route{Dst: prefix(farReal + "/32"), LinkIndex: eth2.Attrs().Index, Gw: net.ParseIP("198.51.100.18")}))
	r.eventually("the far one over eth2", func(_, far Hop) bool { return far.Ifindex == eth2.Attrs().Index })
	if !strings.Contains(strings.Join(r.log.take(), ""), "subscribing again") {
		t.Error("there was no overrun: the test shows nothing")
	}
}
