package real

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"anycastle/bpf"
	"anycastle/internal/nexthop"

	"github.com/vishvananda/netlink"
)

const (
	// hopIdle is how long the way to another real is kept fresh after the last packet that asked for it. One that is
	// known is not asked for any more, so it is dropped now and then, and asked for again if it is needed.
	hopIdle = 10 * time.Minute
	// hopMost bounds how many are kept: a balancer names only reals of its farms.
	hopMost = 1024
)

// hopSetter is where ways to other reals are installed.
type hopSetter interface {
	SetHop(to netip.Addr, h bpf.Hop) error
	ClearHop(to netip.Addr) error
}

// hopKeeper keeps the ways to the reals that packets are passed on to.
type hopKeeper struct {
	host  hopSetter
	log   *slog.Logger
	asked map[netip.Addr]time.Time
	have  map[netip.Addr]bpf.Hop
}

// run resolves each address that comes from wanted, and keeps it fresh, until ctx is done.
func (k *hopKeeper) run(ctx context.Context, uplinks []bpf.Uplink, wanted <-chan netip.Addr) error {
	ctx, cancel := context.WithCancel(ctx)
	reports := make(chan map[netip.Addr]nexthop.Hop)
	opts := nexthop.Options{Log: k.log, Report: func(ctx context.Context, hops map[netip.Addr]nexthop.Hop) {
		select {
		case reports <- hops:
		case <-ctx.Done():
		}
	}}
	for _, u := range uplinks {
		opts.Uplinks = append(opts.Uplinks, nexthop.Uplink{Name: u.Name, Native: u.Mode == bpf.Native})
	}
	resolver := nexthop.New(nil, opts)
	done := make(chan error, 1)
	go func() { done <- resolver.Run(ctx) }()
	defer func() { cancel(); <-done }()
	tick := time.NewTicker(hopIdle / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-done:
			done <- nil // for the one who waits
			return err
		case to := <-wanted:
			if _, known := k.asked[to]; !known && len(k.asked) < hopMost {
				k.asked[to] = time.Now()
				resolver.SetAddrs(k.addrs())
			}
		case now := <-tick.C:
			k.forget(now)
			resolver.SetAddrs(k.addrs())
		case hops := <-reports:
			if err := k.install(hops); err != nil {
				return err
			}
		}
	}
}

func (k *hopKeeper) addrs() []netip.Addr {
	addrs := make([]netip.Addr, 0, len(k.asked))
	for a := range k.asked {
		addrs = append(addrs, a)
	}
	return addrs
}

func (k *hopKeeper) forget(now time.Time) {
	for a, at := range k.asked {
		if now.Sub(at) > hopIdle {
			delete(k.asked, a)
		}
	}
}

// install brings the ways to what the kernel says. One that is not resolved is removed: then packets go back the way
// that they came, to a router that may know better.
func (k *hopKeeper) install(hops map[netip.Addr]nexthop.Hop) error {
	for to := range k.have {
		if !hops[to].Resolved() {
			if err := k.host.ClearHop(to); err != nil {
				return err
			}
			delete(k.have, to)
		}
	}
	for to, h := range hops {
		want := bpf.Hop{Ifindex: h.Ifindex, DstMAC: h.DstMAC, SrcMAC: h.SrcMAC}
		if !h.Resolved() || h.Tags[0] != (nexthop.Tag{}) || k.have[to] == want {
			continue // through a VLAN, the way back to the router is the better one
		}
		if err := k.host.SetHop(to, want); err != nil {
			return err
		}
		k.have[to] = want
	}
	return nil
}

// setUplinkFlags has what is passed on leave a veth by redirect.
func setUplinkFlags(host *bpf.RealHost, uplinks []bpf.Uplink) error {
	for _, u := range uplinks {
		link, err := netlink.LinkByName(u.Name)
		if err != nil {
			return fmt.Errorf("look at uplink %s: %w", u.Name, err)
		}
		flags := uint32(0)
		if link.Type() == "veth" {
			flags = bpf.RealRedirect
		}
		if err := host.SetUplinkFlags(link.Attrs().Index, flags); err != nil {
			return err
		}
	}
	return nil
}
