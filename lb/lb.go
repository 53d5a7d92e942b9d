package lb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"anycastle/bpf"
	"anycastle/internal/nexthop"
	"anycastle/internal/probe"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

const (
	// retryAfter is the pause before a change that did not succeed is tried again.
	retryAfter = time.Second
	// withdrawTime bounds the last withdrawal of a process that is ending.
	withdrawTime = 5 * time.Second
)

// Announcer tells routers which prefixes this LB takes packets for.
type Announcer interface {
	// Set makes prefixes all that is announced. It is called for each change, by one goroutine.
	Set(ctx context.Context, prefixes []netip.Prefix) error
}

// Options are what an LB needs besides its config.
type Options struct {
	Announcer Announcer             // nil: nothing is announced
	Log       *slog.Logger          // nil: nothing is logged
	PinDir    string                // empty: bpf.DefaultLBDir
	Registry  prometheus.Registerer // nil: no metrics
}

// Hop is the way to a real.
type Hop = nexthop.Hop

// LB is one load balancer. Its Status methods are safe for concurrent use, also while Run runs.
type LB struct {
	cfg  *Config
	opts Options
	log  *slog.Logger

	mu   sync.Mutex
	view view // what Status shows
}

// New makes an LB of a config that Validate found nothing wrong with.
func New(cfg Config, opts Options) (*LB, error) {
	l := &LB{cfg: &cfg, opts: opts, log: opts.Log}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.opts.PinDir == "" {
		l.opts.PinDir = bpf.DefaultLBDir
	}
	l.view = newView(l.cfg)
	if opts.Registry != nil {
		if err := opts.Registry.Register(collector{l}); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return l, nil
}

// Run balances until ctx is done. Then it withdraws every address and returns nil, and leaves the program attached:
// packets that routers still send find their reals. It may be called once.
func (l *LB) Run(ctx context.Context) (err error) {
	plane, uplinks, err := openXDP(l.cfg, l.opts.PinDir)
	if err != nil {
		return err
	}
	defer func() {
		l.showPlane(nil, nil)
		err = errors.Join(err, plane.Close())
	}()
	for _, u := range uplinks {
		l.log.Info("program attached", "uplink", u.Name, "mode", u.Mode)
	}
	have, err := plane.Read()
	if err != nil {
		return err
	}
	l.showPlane(plane, uplinks)

	results := make(chan probe.Result)
	hops := make(chan map[netip.Addr]Hop)
	loop := &loop{
		LB: l, plane: plane, have: have,
		in: newInputs(l.cfg),
	}
	native := make([]nexthop.Uplink, 0, len(uplinks))
	for _, u := range uplinks {
		native = append(native, nexthop.Uplink{Name: u.Name, Native: u.Mode == bpf.Native})
	}
	r := nexthop.New(l.cfg.realAddresses(), nexthop.Options{
		Known: have.hops(), Uplinks: native, Log: l.log,
		Report: func(ctx context.Context, h map[netip.Addr]Hop) { send(ctx, hops, h) },
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return loop.run(ctx, results, hops) })
	g.Go(func() error { return r.Run(ctx) })
	g.Go(func() error {
		err := probe.Run(ctx, l.cfg.targets(), nil, func(r probe.Result) { send(ctx, results, r) })
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
	return g.Wait()
}

func send[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}

func (c *Config) realAddresses() []netip.Addr {
	seen := map[netip.Addr]bool{}
	var addrs []netip.Addr
	for _, key := range c.realKeys() {
		if !seen[key.addr] {
			seen[key.addr] = true
			addrs = append(addrs, key.addr)
		}
	}
	return addrs
}
