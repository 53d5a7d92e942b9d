package nexthop

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/netnstest"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const nearReal, farReal = "198.51.100.9", "198.51.100.129" // farReal is behind nearReal as its gateway

// resolving is a resolver that runs in a namespace with eth1 and eth2 to two others.
type resolving struct {
	t        *testing.T
	lb, a, b *netnstest.NS
	reports  chan map[netip.Addr]Hop
	log      journal
	hops     map[netip.Addr]Hop
	resolver *Resolver
}

// patience bounds every wait; the machine may be busy.
const patience = 20 * time.Second

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefix(s string) *net.IPNet {
	_, p, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return p
}

// journal is a log that a test reads while it is written.
type journal struct {
	mu   sync.Mutex
	text []byte
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = append(j.text, p...)
	return len(p), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return string(j.text)
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
	r.resolver = New([]netip.Addr{addr(nearReal), addr(farReal)}, Options{
		Known: hops, Uplinks: []Uplink{{Name: "eth1", Native: true}},
		Log: slog.New(slog.NewTextHandler(&r.log, nil)),
		Report: func(ctx context.Context, h map[netip.Addr]Hop) {
			select {
			case r.reports <- h:
			case <-ctx.Done():
			}
		},
	})
	go r.lb.Do(func() error {
		done <- r.resolver.Run(ctx)
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
	behind := want
	behind.Gateway = addr(nearReal)
	r.eventually("both resolved", func(near, far Hop) bool { return near == want && far == behind })
	if text := behind.String(); !strings.Contains(text, " by gateway "+nearReal+" on interface") {
		t.Errorf("hop reads %q", text)
	}

	// the gateway gets another MAC address; the kernel notices by asking, or by being told
	other := net.HardwareAddr{0x02, 0, 0x5e, 0, 0x53, 9}
	check(t, r.a.Link.LinkSetHardwareAddr(link(t, r.a, "eth0"), other))
	check(t, r.lb.Link.NeighSet(&netlink.Neigh{LinkIndex: eth1.Attrs().Index, IP: net.ParseIP(nearReal), HardwareAddr: other,
		State: netlink.NUD_REACHABLE}))
	want.DstMAC, behind.DstMAC = [6]byte(other), [6]byte(other)
	r.eventually("another MAC address", func(near, far Hop) bool { return near == want && far == behind })

	check(t, r.lb.Link.LinkSetDown(eth1))
	r.eventually("no route over a link that is down", func(near, far Hop) bool {
		return !near.Resolved() && !far.Resolved() && strings.Contains(near.Why, "no route to "+nearReal)
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
	r.start(map[netip.Addr]Hop{addr(farReal): installed})
	r.eventually("first report", func(near, far Hop) bool {
		if far.ToInstall() != installed || far.Gateway != addr(nearReal) {
			t.Errorf("the installed hop became %v", far)
		}
		if near.Resolved() || !strings.Contains(near.Why, "does not answer") {
			t.Errorf("the other hop is %v, want unresolved", near)
		}
		return true
	})
	if log := r.log.String(); strings.Contains(log, farReal) {
		t.Errorf("a hop that stays is said to change: %s", log)
	}
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
	if _, err := netlink.GenlFamilyGet("netdev"); err != nil {
		// a kernel before 6.3 does not tell, and is taken for one that can
		r.eventually("resolved all the same", func(near, far Hop) bool { return near.Resolved() && far.Resolved() })
		return
	}
	r.eventually("unresolved", func(near, _ Hop) bool {
		return !near.Resolved() && strings.Contains(near.Why, "switch GRO on")
	})
	if log := r.log.String(); !strings.Contains(log, "level=WARN") {
		t.Errorf("no warning in the log:\n%s", log)
	}
	gro(true)
	r.eventually("resolved", func(near, far Hop) bool { return near.Resolved() && far.Resolved() })
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
	r.eventually("resolved", func(near, far Hop) bool { return near.Resolved() && far.Resolved() })
	check(t, r.lb.Link.RouteReplace(&netlink.Route{Dst: prefix(farReal + "/32"), LinkIndex: eth2.Attrs().Index, Gw: net.ParseIP("198.51.100.18")}))
	r.eventually("the far one over eth2", func(_, far Hop) bool { return far.Ifindex == eth2.Attrs().Index })
	if !strings.Contains(r.log.String(), "subscribing again") {
		t.Error("there was no overrun: the test shows nothing")
	}
}

// TestIPv6 resolves an address on the link and one behind a link-local gateway, and follows a new list of addresses.
func TestIPv6(t *testing.T) {
	r := newResolving(t)
	for ns, text := range map[*netnstest.NS]string{r.lb: "2001:db8::1/64", r.a: "2001:db8::9/64"} {
		name := map[*netnstest.NS]string{r.lb: "eth1", r.a: "eth0"}[ns]
		a, err := netlink.ParseAddr(text)
		check(t, err)
		a.Flags = unix.IFA_F_NODAD
		check(t, ns.Link.AddrAdd(link(t, ns, name), a))
	}
	eth1 := link(t, r.lb, "eth1")
	check(t, r.a.Link.AddrAdd(link(t, r.a, "eth0"), &netlink.Addr{
		IPNet: &net.IPNet{IP: net.ParseIP("fe80::9"), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD,
	}))
	check(t, r.lb.Link.RouteReplace(&netlink.Route{Dst: prefix("2001:db8:1::/48"), Gw: net.ParseIP("fe80::9"), LinkIndex: eth1.Attrs().Index}))
	r.start(nil)
	r.eventually("IPv4", func(near, far Hop) bool { return near.Resolved() })
	r.resolver.SetAddrs([]netip.Addr{addr("2001:db8::9"), addr("2001:db8:1::25")})
	want := Hop{Source: addr("2001:db8::1"), Ifindex: eth1.Attrs().Index, MTU: 1500, Veth: true,
		DstMAC: [6]byte(link(t, r.a, "eth0").Attrs().HardwareAddr), SrcMAC: [6]byte(eth1.Attrs().HardwareAddr)}
	behind := want
	behind.Gateway = addr("fe80::9")
	r.eventually("IPv6", func(Hop, Hop) bool {
		return len(r.hops) == 2 && r.hops[addr("2001:db8::9")] == want && r.hops[addr("2001:db8:1::25")] == behind
	})
	check(t, r.lb.Link.LinkSetMTU(eth1, 1200))
	r.eventually("an MTU that is too small", func(Hop, Hop) bool { return !r.hops[addr("2001:db8:1::25")].Resolved() })
}

// TestTags goes down through two VLANs. The kernel here may have no VLAN devices, so they are made up.
func TestTags(t *testing.T) {
	eth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth1", Index: 2}}
	outer := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "eth1.7", Index: 3, ParentIndex: 2}, VlanId: 7, VlanProtocol: netlink.VLAN_PROTOCOL_8021AD}
	inner := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "eth1.7.9", Index: 4, ParentIndex: 3}, VlanId: 9, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	third := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "eth1.7.9.1", Index: 5, ParentIndex: 4}, VlanId: 1}
	k := kernel{links: map[int]netlink.Link{2: eth, 3: outer, 4: inner}}
	var hop Hop
	below, err := k.untag(inner, &hop)
	if err != nil || below != eth {
		t.Fatalf("below the VLANs is %v, %v", below, err)
	}
	if want := [2]Tag{{0x88a8, 7}, {0x8100, 9}}; hop.Tags != want {
		t.Errorf("tags %v, want %v", hop.Tags, want)
	}
	if text := (Hop{Ifindex: 2, Tags: hop.Tags}).String(); !strings.Contains(text, "vlan 7 vlan 9") {
		t.Errorf("hop reads %q", text)
	}
	if _, err := k.untag(third, &Hop{}); err == nil {
		t.Error("three tags were taken")
	}
}

// A router that does not answer, as one that has just been switched on, is not taken while another way of the route is known.
func TestDetour(t *testing.T) {
	r := newResolving(t)
	far := prefix("198.51.100.128/28")
	ways := func(gateways ...string) {
		route := netlink.Route{Dst: far}
		for i, g := range gateways {
			link, err := r.lb.Link.LinkByName(fmt.Sprintf("eth%d", i+1))
			check(t, err)
			if g != "" {
				route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(g)})
			}
		}
		check(t, r.lb.Link.RouteReplace(&route))
	}
	const silent, answers = "198.51.100.5", "198.51.100.18"
	ways(silent, answers)
	var addrs []netip.Addr // so many that the kernel chooses each way for some
	for i := range 14 {
		addrs = append(addrs, addr(fmt.Sprintf("198.51.100.%d", 129+i)))
	}
	r.start(nil)
	r.resolver.SetAddrs(addrs)
	r.eventually("all go by the gateway that answers", func(Hop, Hop) bool {
		for _, a := range addrs {
			if h := r.hops[a]; !h.Resolved() || h.Gateway != addr(answers) {
				return false
			}
		}
		return len(r.hops) == len(addrs)
	})
	ways(silent)
	r.eventually("without the other way none is resolved", func(Hop, Hop) bool {
		for _, a := range addrs {
			if h := r.hops[a]; h.Resolved() || !strings.Contains(h.Why, "does not answer") {
				return false
			}
		}
		return len(r.hops) == len(addrs)
	})
}
