package nexthop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// settle gathers the kernel's changes that come together, such as those of a routing table, into one look.
	settle = 20 * time.Millisecond
	// relook bounds how long a change that was not told of can go unseen, and how often a missing neighbour is asked for.
	relook = time.Second
)

// Uplink is an interface that packets come in by.
type Uplink struct {
	Name   string
	Native bool // its driver runs the program, so what leaves elsewhere is redirected there as a frame
}

// Options say what a Resolver resolves for.
type Options struct {
	Known   map[netip.Addr]Hop // what an earlier process has installed; it stays as long as the kernel gives no better
	Uplinks []Uplink
	Log     *slog.Logger
	Report  func(context.Context, map[netip.Addr]Hop) // called with all hops, at first and after each change
}

// Resolver keeps next hops fresh.
type Resolver struct {
	opts     Options
	hops     map[netip.Addr]Hop
	reported bool
	again    chan struct{} // the addresses are others

	mu    sync.Mutex
	addrs []netip.Addr
}

// New makes a Resolver of these addresses.
func New(addrs []netip.Addr, opts Options) *Resolver {
	r := &Resolver{opts: opts, hops: maps.Clone(opts.Known), again: make(chan struct{}, 1), addrs: addrs}
	if r.hops == nil {
		r.hops = map[netip.Addr]Hop{}
	}
	if r.opts.Log == nil {
		r.opts.Log = slog.New(slog.DiscardHandler)
	}
	return r
}

// SetAddrs makes addrs all that is resolved. It may be called while Run runs.
func (r *Resolver) SetAddrs(addrs []netip.Addr) {
	r.mu.Lock()
	r.addrs = addrs
	r.mu.Unlock()
	select {
	case r.again <- struct{}{}:
	default: // it will look anyway
	}
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

// Run follows the kernel's neighbours, routes and links in the caller's namespace until ctx is done.
func (r *Resolver) Run(ctx context.Context) error {
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
		case <-r.again:
			r.reported = false // the owner waits for the new ones, changed or not
		case _, open = <-neighs.updates:
		case _, open = <-routes.updates:
			reopen = routes.open
		case _, open = <-links.updates:
			reopen = links.open
		}
		if !open {
			r.opts.Log.Warn("kernel ended a subscription; subscribing again", "cause", "changes came faster than they were read")
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

// look resolves every address anew and reports if anything changed.
func (r *Resolver) look(ctx context.Context) {
	r.mu.Lock()
	addrs := r.addrs
	r.mu.Unlock()
	changed := !r.reported
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE) // one for a look, and not one for each of its questions
	if err != nil {
		r.opts.Log.Error("look for next hops", "err", fmt.Errorf("open a netlink socket: %w", err))
		return // the next look is soon
	}
	defer nl.Close()
	kernel := kernel{uplinks: r.opts.Uplinks, nl: nl}
	hops := make(map[netip.Addr]Hop, len(addrs))
	for _, addr := range addrs {
		old := r.hops[addr]
		hop, err := kernel.resolve(addr, old)
		if err != nil {
			hop = Hop{Why: err.Error()}
		}
		hops[addr] = hop
		if old == hop {
			continue
		}
		changed = true
		if hop.Resolved() && old.ToInstall() == hop.ToInstall() {
			continue // what an earlier process has installed says no gateway
		}
		level := slog.LevelInfo
		if errors.Is(err, errNoRedirect) {
			level = slog.LevelWarn
		}
		r.opts.Log.Log(ctx, level, "next hop changed", "real", addr, "old", old, "new", hop, "cause", cause(err))
	}
	r.hops = hops
	if changed {
		r.opts.Report(ctx, maps.Clone(hops))
		r.reported = true
	}
}

func cause(err error) string {
	if err == nil {
		return "resolved"
	}
	return err.Error()
}
