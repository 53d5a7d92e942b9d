package rhi

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

func prefixes(list ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func addrs(list ...string) []netip.Addr {
	var a []netip.Addr
	for _, s := range list {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

var byValue = cmp.Options{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()}

func TestLearnedRoutes(t *testing.T) {
	t.Parallel()
	hops := addrs("192.0.2.5", "192.0.2.3", "192.0.2.5")
	got := learnedRoutes([]path{
		{prefix: netip.MustParsePrefix(vip), nextHops: hops},
		{prefix: netip.MustParsePrefix("0.0.0.0/0"), nextHops: hops[:1]},
		{prefix: netip.MustParsePrefix("203.0.113.1/32"), nextHops: hops, own: true},
		{prefix: netip.MustParsePrefix("203.0.113.2/32"), nextHops: hops},
		{prefix: netip.MustParsePrefix("127.0.0.0/8"), nextHops: hops},
		{prefix: netip.MustParsePrefix("203.0.113.3/32")},
		{prefix: netip.MustParsePrefix("203.0.113.4/32"), nextHops: addrs("2001:db8::5", "192.0.2.3")},
		{prefix: netip.MustParsePrefix("2001:db8:4::/48"), nextHops: addrs("192.0.2.3", "fe80::5%eth1")},
		{prefix: netip.MustParsePrefix("2001:db8:5::/48"), nextHops: hops},
	}, newPrefixSet(prefixes("203.0.113.2/32")))
	want := routeTable{
		netip.MustParsePrefix(vip):         addrs("192.0.2.3", "192.0.2.5"),
		netip.MustParsePrefix("0.0.0.0/0"): addrs("192.0.2.5"),

		netip.MustParsePrefix("203.0.113.4/32"):  addrs("192.0.2.3", "2001:db8::5"),
		netip.MustParsePrefix("2001:db8:4::/48"): addrs("fe80::5%eth1"),
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// fibNode is a namespace with a link on which 192.0.2.0/24 is reached.
func fibNode(t *testing.T) *fib {
	t.Helper()
	a, b := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, a, "eth1", netip.MustParsePrefix("192.0.2.1/24"), b, "eth1", netip.MustParsePrefix("192.0.2.2/24"))
	return openFIBIn(t, a)
}

func openFIBIn(t *testing.T, ns *netnstest.NS) *fib {
	t.Helper()
	var f *fib
	ns.Do(func() (err error) {
		f, err = openFIB()
		return err
	})
	t.Cleanup(f.close)
	return f
}

// What a node sends by learned routes comes from the address that it is given for that, by one next hop or several.
func TestSourceOfOwnPackets(t *testing.T) {
	t.Parallel()
	a, b := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, a, "eth1", netip.MustParsePrefix("192.0.2.1/24"), b, "eth1", netip.MustParsePrefix("192.0.2.2/24"))
	lo, err := a.Link.LinkByName("lo")
	if err == nil {
		err = a.Link.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.IP{198, 51, 100, 1}, Mask: net.CIDRMask(32, 32)}})
	}
	if err != nil {
		t.Fatal(err)
	}
	f := openFIBIn(t, a)
	f.from = netip.MustParseAddr("198.51.100.1")
	for _, hops := range [][]netip.Addr{addrs("192.0.2.3"), addrs("192.0.2.3", "192.0.2.5")} {
		if _, err := f.apply(routeTable{netip.MustParsePrefix(vip): hops}, nil); err != nil {
			t.Fatal(err)
		}
		routes, err := a.Link.RouteGet(netip.MustParsePrefix(vip).Addr().AsSlice())
		if err != nil || len(routes) != 1 || routes[0].Src.String() != "198.51.100.1" {
			t.Errorf("by %v: %v, %v", hops, routes, err)
		}
	}
}

func TestApplyKernelRoutes(t *testing.T) {
	t.Parallel()
	f := fibNode(t)
	one, two := netip.MustParsePrefix(vip), netip.MustParsePrefix("0.0.0.0/0")
	for _, step := range []struct {
		name   string
		want   routeTable
		spared prefixSet
		stands routeTable // nil: as wanted
	}{
		{name: "none"},
		{name: "two routes", want: routeTable{one: addrs("192.0.2.3", "192.0.2.5"), two: addrs("192.0.2.3")}},
		{name: "other next hops", want: routeTable{one: addrs("192.0.2.5"), two: addrs("192.0.2.3", "192.0.2.5")}},
		{name: "one spared", want: routeTable{one: addrs("192.0.2.5")}, spared: prefixSet{two: {}},
			stands: routeTable{one: addrs("192.0.2.5"), two: addrs("192.0.2.3", "192.0.2.5")}},
		{name: "one left", want: routeTable{one: addrs("192.0.2.5")}},
		{name: "none again"},
	} {
		want := step.stands
		if want == nil {
			want = step.want
		}
		for _, turn := range []string{"first", "second"} {
			got, err := f.apply(step.want, step.spared)
			if err != nil {
				t.Fatalf("%s, %s time: %v", step.name, turn, err)
			}
			listed, _, err := f.list()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]routeTable{want, want}, []routeTable{got, listed}, byValue); diff != "" {
				t.Errorf("%s, %s time: -want +returned, listed\n%s", step.name, turn, diff)
			}
		}
	}
}

// One next hop that cannot be used keeps the others in, and never lets a withdrawn one stay.
func TestApplyWithUnreachableNextHops(t *testing.T) {
	t.Parallel()
	f := fibNode(t)
	p := netip.MustParsePrefix(vip)
	const good, other, farOff, own = "192.0.2.3", "192.0.2.5", "198.51.100.1", "192.0.2.1"
	for _, step := range []struct {
		name         string
		want, stands []netip.Addr
	}{
		{"far away", addrs(farOff), nil},
		{"beside one far away", addrs(good, farOff), addrs(good)},
		{"beside our own address", addrs(own, good, other), addrs(good, other)},
		{"one fewer", addrs(own, other), addrs(other)},
		{"again", addrs(own, other), addrs(other)},
		{"only one far away", addrs(farOff), nil},
	} {
		got, err := f.apply(routeTable{p: step.want}, nil)
		if !errors.Is(err, errUnreachable) && !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("%s: err = %v, want it to name the next hop", step.name, err)
		}
		listed, _, err := f.list()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([][]netip.Addr{step.stands, step.stands}, [][]netip.Addr{got[p], listed[p]}, byValue); diff != "" {
			t.Errorf("%s: -want +returned, listed\n%s", step.name, diff)
		}
		if why := f.unset[p]; why == nil || !strings.Contains(why.Error(), "next hop ") {
			t.Errorf("%s: it does not stand by all next hops because of %v", step.name, why)
		}
	}
}

// An IPv4 route goes by IPv6 next hops and link-local ones, beside IPv4 ones, in a group or without.
func TestApplyIPv4RoutesByIPv6NextHops(t *testing.T) {
	t.Parallel()
	for name, plain := range map[string]error{"in groups": nil, "plain": errNoGroups} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := netnstest.New(t), netnstest.New(t)
			netnstest.Veth(t, a, "eth1", netip.MustParsePrefix("192.0.2.1/24"), b, "eth1", netip.MustParsePrefix("192.0.2.2/24"))
			addAddress(t, a, "eth1", "2001:db8:1::1/64")
			f := openFIBIn(t, a)
			f.plain = plain
			p := netip.MustParsePrefix(vip)
			for _, hops := range [][]netip.Addr{
				addrs("2001:db8:1::2"), addrs("192.0.2.3", "2001:db8:1::2"), addrs("fe80::2%eth1"),
				addrs("192.0.2.5", "2001:db8:1::3", "fe80::2%eth1"), addrs("192.0.2.5"), nil,
			} {
				want := routeTable{}
				if hops != nil {
					want[p] = hops
				}
				for range 2 {
					got, err := f.apply(want, nil)
					if err != nil {
						t.Fatalf("%v: %v", hops, err)
					}
					listed, _, err := f.list()
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff([]routeTable{want, want}, []routeTable{got, listed}, byValue); diff != "" {
						t.Errorf("%v: -want +returned, listed\n%s", hops, diff)
					}
				}
			}
		})
	}
}

func TestWhyNotInKernel(t *testing.T) {
	t.Parallel()
	cfg, err := decode("node.yml", []byte(goodNode))
	if err != nil {
		t.Fatal(err)
	}
	r := New(*cfg, Options{})
	four, six := addrs("192.0.2.3"), addrs("2001:db8::3")
	r.unset = map[netip.Prefix]error{netip.MustParsePrefix("203.0.113.2/32"): errTaken}
	r.kernel = routeTable{netip.MustParsePrefix("203.0.113.5/32"): four}
	for _, c := range []struct {
		prefix string
		hops   []netip.Addr
		want   string
	}{
		{"203.0.113.1/32", six, "not yet"},
		{"203.0.113.2/32", four, errTaken.Error()},
		{"2001:db8:1::/48", four, "an IPv6 route cannot go by an IPv4 next hop"},
		{"203.0.113.4/32", nil, "no next hop that is an address on a known link"},
		{"203.0.113.5/32", four, ""},
		{"127.0.0.0/8", four, "not a prefix that is routed between hosts"},
		{"198.51.100.0/25", four, "the prefix is the node's own"},
	} {
		rt := r.route(path{prefix: netip.MustParsePrefix(c.prefix), nextHops: c.hops})
		if rt.NotSet != c.want || rt.InKernel != (c.want == "") {
			t.Errorf("%s: %+v, want %q", c.prefix, rt, c.want)
		}
	}
	r.cfg.Router = nil
	if rt := r.route(path{prefix: netip.MustParsePrefix(vip), nextHops: four}); !strings.Contains(rt.NotSet, "no router") {
		t.Errorf("without a router section: %+v", rt)
	}
}

func TestApplyGoesOnAfterAnError(t *testing.T) {
	t.Parallel()
	f := fibNode(t)
	foreign := kernelRoute(netip.MustParsePrefix("203.0.113.1/32"))
	foreign.Protocol, foreign.Gw = 4, addrs("192.0.2.9")[0].AsSlice()
	if err := f.nl.RouteAdd(foreign); err != nil {
		t.Fatal(err)
	}
	want := routeTable{
		netip.MustParsePrefix("203.0.113.1/32"): addrs("192.0.2.3"),    // taken by another program
		netip.MustParsePrefix("203.0.113.2/32"): addrs("198.51.100.1"), // a next hop that is on no link
		netip.MustParsePrefix("203.0.113.3/32"): addrs("192.0.2.3"),
	}
	got, err := f.apply(want, nil)
	if !errors.Is(err, errTaken) {
		t.Errorf("err = %v, want %v in it", err, errTaken)
	}
	stands := routeTable{netip.MustParsePrefix("203.0.113.3/32"): addrs("192.0.2.3")}
	if diff := cmp.Diff(stands, got, byValue); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
