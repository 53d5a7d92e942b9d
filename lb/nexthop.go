package lb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strings"
	"time"

	"anycastle/bpf"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// settle gathers the kernel's changes that come together, such as those of a routing table, into one look.
	settle = 20 * time.Millisecond
	// relook bounds how long a change that was not told of can go unseen, and how often a missing neighbour is asked for.
	relook = time.Second
)

// Hop is the way to a real: all that a frame towards it needs. The zero Hop is an unresolved one.
type Hop struct {
	Source  netip.Addr // our address on that way
	Ifindex int
	MTU     int
	DstMAC  [6]byte
	SrcMAC  [6]byte
	Veth    bool // XDP_TX does not wake its far end, so packets leave by redirect

	Why string // why it is not resolved
}

func (h Hop) resolved() bool { return h.Ifindex != 0 }

// toInstall leaves out what the data path has no place for.
func (h Hop) toInstall() Hop {
	h.Why = ""
	return h
}

func (h Hop) String() string {
	if !h.resolved() {
		return strings.TrimSuffix("unresolved: "+h.Why, ": ")
	}
	return fmt.Sprintf("%s on interface %d, mtu %d", net.HardwareAddr(h.DstMAC[:]), h.Ifindex, h.MTU)
}

// resolver keeps the next hops of reals fresh.
type resolver struct {
	reals   []netip.Addr
	hops    map[netip.Addr]Hop // what is known; at first, what an earlier process has installed
	uplinks []bpf.Uplink       // that packets come in by
	log     *slog.Logger
	report  func(context.Context, map[netip.Addr]Hop) // called with all hops, at first and after each change

	reported bool
}

// feed is one subscription to changes in the kernel.
type feed[T any] struct {
	subscribe func(chan<- T, <-chan struct{}) error
	updates   chan T
	done      chan struct{}
}

// open also opens anew what the kernel has ended, as it does when changes come faster than they are read.
func (f *feed[T]) open() error {
	f.close()
	f.updates, f.done = make(chan T, 64), make(chan struct{})
	if err := f.subscribe(f.updates, f.done); err != nil {
		return fmt.Errorf("follow neighbours, routes and links: %w", err)
	}
	return nil
}

func (f *feed[T]) close() {
	if f.done != nil {
		close(f.done)
	}
}

// run follows the kernel's neighbours, routes and links until ctx is done.
func (r *resolver) run(ctx context.Context) error {
	neighs := feed[netlink.NeighUpdate]{subscribe: netlink.NeighSubscribe}
	routes := feed[netlink.RouteUpdate]{subscribe: netlink.RouteSubscribe}
	links := feed[netlink.LinkUpdate]{subscribe: netlink.LinkSubscribe}
	defer func() { neighs.close(); routes.close(); links.close() }()
	// subscriptions come before the first look, so that no change falls between the two
	if err := errors.Join(neighs.open(), routes.open(), links.open()); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	soon := false
	for {
		open, reopen := true, neighs.open
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			soon = false
			r.look(ctx)
			timer.Reset(relook)
			continue
		case _, open = <-neighs.updates:
		case _, open = <-routes.updates:
			reopen = routes.open
		case _, open = <-links.updates:
			reopen = links.open
		}
		if !open {
			r.log.Warn("kernel ended a subscription; subscribing again", "cause", "changes came faster than they were read")
			if err := reopen(); err != nil {
				return err
			}
		}
		if !soon {
			soon = true
			timer.Reset(settle)
		}
	}
}

// look resolves every real anew and reports if anything changed.
func (r *resolver) look(ctx context.Context) {
	changed := !r.reported
	for _, addr := range r.reals {
		old := r.hops[addr]
		hop, err := r.resolve(addr, old)
		if err != nil {
			hop = Hop{Why: err.Error()}
		}
		if old == hop {
			continue
		}
		level := slog.LevelInfo
		if errors.Is(err, errNoRedirect) {
			level = slog.LevelWarn
		}
		r.log.Log(ctx, level, "next hop changed", "real", addr, "old", old, "new", hop, "cause", cause(err))
		r.hops[addr] = hop
		changed = true
	}
	if changed {
		r.report(ctx, maps.Clone(r.hops))
		r.reported = true
	}
}

func cause(err error) string {
	if err == nil {
		return "resolved"
	}
	return err.Error()
}

// resolve asks the kernel for the way to addr. A neighbour that is being asked again keeps its old MAC address as long
// as the way is the same: probes decide whether a real answers, and ARP's pauses must not flap a slot table.
func (r *resolver) resolve(addr netip.Addr, old Hop) (Hop, error) {
	routes, err := netlink.RouteGet(addr.AsSlice())
	if err != nil {
		return Hop{}, fmt.Errorf("no route to %v: %w", addr, err)
	}
	if len(routes) == 0 || routes[0].Type != unix.RTN_UNICAST {
		return Hop{}, fmt.Errorf("no route to %v on a network", addr)
	}
	route := routes[0]
	link, err := netlink.LinkByIndex(route.LinkIndex)
	if err != nil {
		return Hop{}, fmt.Errorf("find the link to %v: %w", addr, err)
	}
	source, ok := netip.AddrFromSlice(route.Src.To4())
	if !ok || len(link.Attrs().HardwareAddr) != len(Hop{}.SrcMAC) {
		return Hop{}, fmt.Errorf("link %s to %v has no Ethernet or no address", link.Attrs().Name, addr)
	}
	hop := Hop{
		Source: source, Ifindex: route.LinkIndex, MTU: link.Attrs().MTU,
		SrcMAC: [6]byte(link.Attrs().HardwareAddr), Veth: link.Type() == "veth",
	}
	if route.MTU != 0 {
		hop.MTU = min(hop.MTU, route.MTU)
	}
	if r.redirectsTo(link) && !takesRedirects(link.Attrs().Index) {
		return Hop{}, fmt.Errorf("link %s to %v: %w", link.Attrs().Name, addr, errNoRedirect)
	}
	gateway := route.Gw
	if gateway == nil {
		gateway = addr.AsSlice()
	}
	mac, ok, err := neighbour(route.LinkIndex, gateway)
	switch {
	case err != nil:
		return Hop{}, err
	case ok:
		hop.DstMAC = mac
		return hop, nil
	}
	hop.DstMAC = old.DstMAC
	if hop == old {
		return old, nil
	}
	return Hop{}, fmt.Errorf("neighbour %v does not answer", gateway)
}

// neighbour looks the MAC address up, and has the kernel ask for it when it is not known.
func neighbour(ifindex int, ip net.IP) (mac [6]byte, ok bool, err error) {
	list, err := netlink.NeighList(ifindex, netlink.FAMILY_V4)
	if err != nil {
		return mac, false, fmt.Errorf("list neighbours: %w", err)
	}
	const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT
	for _, n := range list {
		if n.IP.Equal(ip) && n.State&usable != 0 && len(n.HardwareAddr) == len(mac) {
			return [6]byte(n.HardwareAddr), true, nil
		}
	}
	ask := netlink.Neigh{LinkIndex: ifindex, Family: netlink.FAMILY_V4, IP: ip, Flags: netlink.NTF_USE, State: netlink.NUD_NONE}
	if err := netlink.NeighSet(&ask); err != nil {
		return mac, false, fmt.Errorf("ask for neighbour %v: %w", ip, err)
	}
	return mac, false, nil
}
