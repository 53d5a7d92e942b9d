package gss

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"anycastle/internal/config"
	"anycastle/internal/probe"
)

// ErrNotReady says that the first round of probes has not ended, so nothing is answered yet.
var ErrNotReady = errors.New("the first round of probes has not ended")

// Options are what a GSS is given beside its config.
type Options struct {
	Log      *slog.Logger          // nil: silent
	Registry prometheus.Registerer // nil: metrics are kept but not shown
	Probe    probe.Func            // nil: what the configs ask for
}

// GSS serves one zone. Its methods are safe for concurrent use.
type GSS struct {
	config    Config
	zone      *zone
	log       *slog.Logger
	metrics   *metrics
	probe     probe.Func
	health    *health
	answering atomic.Pointer[[]netip.AddrPort] // nil until the sockets are open
	faultOnce sync.Once
}

// New checks the config and prepares the zone. It opens and starts nothing.
func New(cfg Config, o Options) (*GSS, error) {
	if err := config.Check("gss", cfg.Validate); err != nil {
		return nil, fmt.Errorf("gss config: %w", err)
	}
	g := &GSS{config: cfg, log: o.Log, metrics: newMetrics(o.Registry), probe: o.Probe}
	g.zone = g.config.compile(config.Cursor{})
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.health = newHealth(&g.config, g.log, g.metrics)
	return g, nil
}

// Run probes and answers until ctx is done, which is no error. It may be called once.
//
// The sockets are opened after the first round of probes: until then a resolver finds this server silent and asks
// another, which is better than an address that may be dead.
func (g *GSS) Run(ctx context.Context) error {
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return probe.Run(inner, g.health.targets(), g.probe, g.health.report) })
	group.Go(func() error { return g.serve(inner) })
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// serve waits for the first round of probes and answers from then on.
func (g *GSS) serve(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-g.health.ready:
	}
	eps, err := bind(ctx, g.config.Listen)
	if err != nil {
		return err
	}
	var addrs []netip.AddrPort
	for _, e := range eps {
		addrs = append(addrs, e.addr())
	}
	g.answering.Store(&addrs)
	g.log.Info("answering", "zone", g.config.Zone.Name, "listen", addrs)
	s := &server{log: g.log, metrics: g.metrics, respond: g.respond}
	return s.serve(ctx, eps)
}

// Healthy is nil while queries are answered, ErrNotReady before.
func (g *GSS) Healthy() error {
	if g.answering.Load() == nil {
		return ErrNotReady
	}
	return nil
}

// respond answers one message by the decision of this moment. Whatever goes wrong costs this one query only.
func (g *GSS) respond(wire []byte, via transport) (reply []byte) {
	var rcode int
	defer func() {
		if p := recover(); p != nil {
			reply = nil
			g.fault(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
		g.metrics.count(via, reply, rcode)
	}()
	reply, rcode, err := g.zone.respond(wire, via, g.health.current.Load())
	if err != nil {
		g.fault(err)
		return nil
	}
	return reply
}

// fault counts a query that was lost to a bug. Only the first is logged: whoever found it may send it at line rate.
func (g *GSS) fault(err error) {
	g.metrics.faults.Inc()
	g.faultOnce.Do(func() { g.log.Error("query lost to a fault; further ones are only counted", "err", err) })
}
