package netconf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// appearTime bounds the wait for interfaces: containerlab makes the links after it has started the node.
	appearTime = 30 * time.Second
	appearPoll = 50 * time.Millisecond

	sysctlRoot = "/proc/sys/net/ipv4/"
)

// Apply brings the calling thread's network namespace to what cfg asks for, and may be repeated. It returns the first
// error; what was done before it stays. It needs CAP_NET_ADMIN and a writable /proc/sys/net.
func Apply(ctx context.Context, cfg Config, log *slog.Logger) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer nl.Close()
	if err := setUp(nl, "lo", cfg.Loopback); err != nil {
		return err
	}
	if err := applyFirewall(cfg.Firewall, log); err != nil { // before anything is passed on
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, appearTime)
	defer cancel()
	if cfg.Forward {
		if err := sysctl("ip_forward", "1"); err != nil {
			return err
		}
	}
	several := cfg.multipath()
	if several {
		if err := multipath("all", "default"); err != nil {
			return err
		}
	}
	for _, ifc := range cfg.Interfaces {
		if err := applyInterface(ctx, nl, ifc, several); err != nil {
			return err
		}
		log.Info("interface set up", "interface", ifc.Name, "addresses", ifc.Addresses)
	}
	for _, r := range cfg.Routes { // after all interfaces: the kernel refuses a next hop that is on no link
		if err := nl.RouteReplace(kernelRoute(r)); err != nil {
			return fmt.Errorf("set route to %v via %v: %w", r.To.Prefix, r.Via, err)
		}
		log.Info("route set", "to", r.To.Prefix, "via", r.Via)
	}
	return nil
}

func applyInterface(ctx context.Context, nl *netlink.Handle, ifc Interface, several bool) error {
	link, err := await(ctx, nl, ifc.Name)
	if err != nil {
		return err
	}
	if ifc.MTU != 0 && ifc.MTU != link.Attrs().MTU {
		if err := nl.LinkSetMTU(link, ifc.MTU); err != nil {
			return fmt.Errorf("set MTU %d on %s: %w", ifc.MTU, ifc.Name, err)
		}
	}
	if several {
		if err := multipath(ifc.Name); err != nil {
			return err
		}
	}
	if err := setUp(nl, ifc.Name, ifc.Addresses); err != nil {
		return err
	}
	if link.Type() == "veth" {
		return offloads(ifc.Name, link.Attrs().RawFlags&unix.IFF_UP != 0)
	}
	return nil
}

// await waits for the interface to appear.
func await(ctx context.Context, nl *netlink.Handle, name string) (netlink.Link, error) {
	tick := time.NewTicker(appearPoll)
	defer tick.Stop()
	for {
		link, err := nl.LinkByName(name)
		var missing netlink.LinkNotFoundError
		if err == nil || !errors.As(err, &missing) {
			return link, wrap(err, "find interface %s", name)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for interface %s: it did not appear: %w", name, ctx.Err())
		}
	}
}

// setUp gives an interface its addresses and brings it up.
func setUp(nl *netlink.Handle, name string, addresses []netip.Prefix) error {
	link, err := nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	for _, a := range addresses {
		if err := nl.AddrReplace(link, &netlink.Addr{IPNet: ipNet(a)}); err != nil {
			return fmt.Errorf("add %v to %s: %w", a, name, err)
		}
	}
	return wrap(nl.LinkSetUp(link), "bring up %s", name)
}

// offloads makes a veth pair fit for XDP. The sender leaves checksums for hardware that a veth does not have, so an XDP
// program at the far end would encapsulate packets with unfinished ones that nobody finishes later. And the far end may
// redirect frames into the pair only when this end polls (NAPI), which GRO makes it do. The kernel tells the far end so
// only at the moment when GRO goes on while this end is up: hence after setUp, and off first in case it was on before.
//
// What is on its way through the link at that moment is lost, which a router that begins again under load must not do. A link
// that was up with its checksums off, which is done last, was made fit already.
func offloads(name string, wasUp bool) error {
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("open ethtool: %w", err)
	}
	defer tool.Close()
	const checksums, gro = "tx-checksum-ip-generic", "rx-gro"
	have, err := tool.Features(name)
	if err != nil {
		return fmt.Errorf("read offloads of %s: %w", name, err)
	}
	if wasUp && have[gro] && !have[checksums] {
		return nil
	}
	for _, step := range []map[string]bool{{gro: false}, {gro: true}, {checksums: false}} {
		if err := tool.Change(name, step); err != nil {
			return fmt.Errorf("set offloads of %s: %w", name, err)
		}
	}
	return nil
}

// multipath says whether packets may come and go by several links.
func (c *Config) multipath() bool {
	return c.Forward || slices.ContainsFunc(c.Routes, func(r Route) bool { return len(r.Via) > 1 })
}

// multipath has each interface or scope named be one of several ways. Replies may come in by another link than the
// one they would leave by (two sites, two ISPs), so the reverse path filter goes off: the kernel takes the stricter of
// the interface's setting and that of `all`. A route by a link without carrier is passed over, so that a dead cable
// moves its flows to the other next hops at once, without waiting for a routing protocol.
func multipath(scopes ...string) error {
	settings := [][2]string{
		{"fib_multipath_hash_policy", "1"}, // addresses and ports: a flow keeps its path, flows of one client spread
	}
	for _, s := range scopes {
		settings = append(settings, [2]string{"conf/" + s + "/rp_filter", "0"},
			[2]string{"conf/" + s + "/ignore_routes_with_linkdown", "1"})
	}
	for _, s := range settings {
		if err := sysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// sysctl writes a value only when it differs: many containers have a read-only /proc/sys with the right values in it.
func sysctl(name, value string) error {
	old, err := os.ReadFile(sysctlRoot + name)
	if err != nil {
		return fmt.Errorf("read sysctl %s: %w", name, err)
	}
	if strings.TrimSpace(string(old)) == value {
		return nil
	}
	if err := os.WriteFile(sysctlRoot+name, []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl %s to %s (a container must set it for the node, or be privileged): %w", name, value, err)
	}
	return nil
}

func kernelRoute(r Route) *netlink.Route {
	route := &netlink.Route{Dst: ipNet(r.To.Prefix), Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC, Src: r.Source.AsSlice()}
	if len(r.Via) == 1 {
		route.Gw = r.Via[0].AsSlice()
		return route
	}
	for _, via := range r.Via {
		route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{Gw: via.AsSlice()})
	}
	return route
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// wrap adds the action to an error, and leaves nil alone.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
