package netconf

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"anycastle/internal/netnstest"
)

// state describes what Apply is to have brought about, as text.
func state(t *testing.T, ns *netnstest.NS) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, name := range []string{"lo", "eth1", "eth2"} {
		link, err := ns.Link.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		addrs, err := ns.Link.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		list := []string{link.Attrs().Flags.String()[:2]}
		for _, a := range addrs {
			list = append(list, a.IPNet.String())
		}
		got[name] = strings.Join(list, " ")
	}
	routes, err := ns.Link.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: 4}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		hops := []string{r.Gw.String()}
		for _, h := range r.MultiPath {
			hops = append(hops, h.Gw.String())
		}
		got["route "+r.Dst.String()] = strings.Join(slices.DeleteFunc(hops, func(h string) bool { return h == "<nil>" }), " ") + " src " + r.Src.String()
	}
	ns.Do(func() error {
		for _, name := range []string{"ip_forward", "fib_multipath_hash_policy", "conf/all/rp_filter", "conf/eth1/rp_filter", "conf/eth2/rp_filter",
			"conf/all/ignore_routes_with_linkdown", "conf/eth1/ignore_routes_with_linkdown"} {
			b, err := os.ReadFile(sysctlRoot + name)
			if err != nil {
				return err
			}
			got[name] = strings.TrimSpace(string(b))
		}
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		features, err := tool.Features("eth1")
		if err != nil {
			return err
		}
		got["offloads"] = map[bool]string{true: "fit for XDP", false: "not fit"}[!features["tx-checksum-ip-generic"] && features["rx-gro"]]
		return nil
	})
	return got
}

func TestApplyTwice(t *testing.T) {
	t.Parallel()
	a, b := netnstest.New(t), netnstest.New(t)
	cfg, err := decode(goodNode)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"eth1", "eth2"} { // links as containerlab leaves them: down, without addresses, offloads on
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(b.FD())}
		if err := a.Link.LinkAdd(pair); err != nil {
			t.Fatal(err)
		}
	}
	a.Do(func() error { // as on a host whose settings come down to new namespaces
		for _, scope := range []string{"all", "default", "eth1", "eth2"} {
			if err := sysctl("conf/"+scope+"/rp_filter", "1"); err != nil {
				return err
			}
		}
		return nil
	})
	want := map[string]string{
		"lo": "up 127.0.0.1/8 192.0.2.1/32", "eth1": "up 198.51.100.3/31", "eth2": "up 198.51.100.5/31",
		"route 0.0.0.0/0":      "198.51.100.2 198.51.100.4 src 192.0.2.1",
		"route 203.0.113.0/24": "198.51.100.2 src <nil>",
		"ip_forward":           "1", "fib_multipath_hash_policy": "1",
		"conf/all/rp_filter": "0", "conf/eth1/rp_filter": "0", "conf/eth2/rp_filter": "0",
		"conf/all/ignore_routes_with_linkdown": "1", "conf/eth1/ignore_routes_with_linkdown": "1",
		"offloads": "fit for XDP",
	}
	changes := make(chan netlink.LinkUpdate, 100)
	for _, turn := range []string{"first", "second"} {
		if turn == "second" { // which must not touch a link: packets on their way through it would be lost
			if err := netlink.LinkSubscribeAt(netns.NsHandle(a.FD()), changes, t.Context().Done()); err != nil {
				t.Fatal(err)
			}
		}
		a.Do(func() error { return Apply(t.Context(), cfg, slog.New(slog.DiscardHandler)) })
		if diff := cmp.Diff(want, state(t, a)); diff != "" {
			t.Errorf("%s time: -want +got\n%s", turn, diff)
		}
	}
	select {
	case c := <-changes:
		t.Errorf("the second time changes %s", c.Attrs().Name)
	case <-time.After(100 * time.Millisecond):
	}
	if link, err := a.Link.LinkByName("eth1"); err != nil || link.Attrs().MTU != 1600 {
		t.Errorf("MTU of eth1: %v, %v; want 1600", link.Attrs().MTU, err)
	}
}

// A next hop whose cable is out is passed over, and taken again with the cable back in.
func TestSeveralNextHopsPassOverDeadLinks(t *testing.T) {
	t.Parallel()
	a, b := netnstest.New(t), netnstest.New(t)
	var cfg Config // a host; what forwards does the same
	to := netip.MustParsePrefix("203.0.113.0/24")
	var hops []netip.Addr
	for i, name := range []string{"eth1", "eth2"} {
		hop := netip.AddrFrom4([4]byte{192, 0, 2, byte(2*i + 1)})
		netnstest.Veth(t, a, name, netip.Prefix{}, b, name, netip.PrefixFrom(hop, 31))
		cfg.Interfaces = append(cfg.Interfaces, Interface{Name: name, Addresses: []netip.Prefix{netip.PrefixFrom(hop.Prev(), 31)}})
		hops = append(hops, hop)
	}
	cfg.Routes = []Route{{To: Destination{to}, Via: hops}}
	a.Do(func() error { return Apply(t.Context(), cfg, slog.New(slog.DiscardHandler)) })
	used := func() string { // by the flows to 64 addresses
		t.Helper()
		seen := map[string]bool{}
		dst := to.Addr()
		for range 64 {
			dst = dst.Next()
			routes, err := a.Link.RouteGet(dst.AsSlice())
			if err != nil || len(routes) != 1 {
				t.Fatalf("route of a flow: %v, %v", routes, err)
			}
			seen[routes[0].Gw.String()] = true
		}
		return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
	}
	if got := used(); got != "192.0.2.1 192.0.2.3" {
		t.Fatalf("flows go by %s, want both", got)
	}
	far, err := b.Link.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		set  func(netlink.Link) error
		want string
	}{{b.Link.LinkSetDown, "192.0.2.3"}, {b.Link.LinkSetUp, "192.0.2.1 192.0.2.3"}} {
		if err := c.set(far); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); used() != c.want; runtime.Gosched() { // the kernel notes carriers a moment later
			if time.Now().After(end) {
				t.Fatalf("flows go by %s, want %s", used(), c.want)
			}
		}
	}
}

// The link appears after Apply has begun to wait for it.
func TestApplyWaits(t *testing.T) {
	t.Parallel()
	a, b := netnstest.New(t), netnstest.New(t)
	cfg := Config{Interfaces: []Interface{{Name: "eth1", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/31")}}}}
	began := make(chan struct{})
	done := make(chan error, 1)
	go a.Do(func() error {
		close(began)
		done <- Apply(t.Context(), cfg, slog.New(slog.DiscardHandler))
		return nil
	})
	<-began
	netnstest.Veth(t, b, "eth1", netip.MustParsePrefix("192.0.2.3/31"), a, "eth1", netip.Prefix{})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	link, err := a.Link.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	if addrs, err := a.Link.AddrList(link, netlink.FAMILY_V4); err != nil || len(addrs) != 1 {
		t.Errorf("addresses: %v, %v", addrs, err)
	}
}

func TestApplyErrors(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	ns.Do(func() error {
		err := Apply(ctx, Config{Interfaces: []Interface{{Name: "eth7"}}}, slog.New(slog.DiscardHandler))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "interface eth7: it did not appear") {
			t.Errorf("missing interface: %v", err)
		}
		err = Apply(t.Context(), Config{Routes: []Route{{
			To: Destination{netip.MustParsePrefix("203.0.113.0/24")}, Via: []netip.Addr{netip.MustParseAddr("192.0.2.9")},
		}}}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "set route to 203.0.113.0/24 via [192.0.2.9]") {
			t.Errorf("next hop on no link: %v", err)
		}
		return nil
	})
}
