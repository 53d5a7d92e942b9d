package main

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"anycastle/lb"
	"anycastle/rhi"
	"anycastle/rhi/decide"
	"anycastle/rhi/inject"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// announcer joins a balancer to the speaker that announces its VIPs, and to what decides about that.
type announcer struct {
	speaker  *rhi.Role
	injector *inject.Injector

	mu      sync.Mutex
	changed func() // of Watch; nil: nobody watches
}

func newAnnouncer(cfg rhi.Config, log *slog.Logger, reg *prometheus.Registry) (*announcer, error) {
	a := &announcer{}
	a.speaker = rhi.New(cfg, rhi.Options{Log: log, Registry: reg, Changed: func() { a.injector.Kick() }})
	var err error
	a.injector, err = inject.New(cfg, a.speaker, inject.Options{Log: log, Registry: reg, Moved: a.moved})
	return a, err
}

// Run speaks and decides until ctx is done or either cannot go on.
func (a *announcer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.speaker.Run(ctx) })
	g.Go(func() error { return a.injector.Run(ctx) })
	return g.Wait()
}

// Standing implements lb.Announcer.
func (a *announcer) Standing(p netip.Prefix) (announced bool, why string) {
	return a.injector.Standing(p)
}

// Routes implements lb.Router.
func (a *announcer) Routes() map[netip.Prefix]lb.Route {
	routes := map[netip.Prefix]lb.Route{}
	for prefix, r := range a.injector.Routes() {
		routes[prefix] = lb.Route(r)
	}
	return routes
}

// Watch implements lb.Router.
func (a *announcer) Watch(changed func()) (stop func()) {
	a.watch(changed)
	return func() { a.watch(nil) }
}

func (a *announcer) watch(changed func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed = changed
}

// moved is called by the injector when a route stands otherwise.
func (a *announcer) moved() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed != nil {
		a.changed()
	}
}

// Set implements lb.Announcer.
func (a *announcer) Set(ctx context.Context, health []lb.Health) error {
	services := make([]inject.Service, 0, len(health))
	for _, h := range health {
		s := inject.Service{
			Prefix: h.Prefix, At: h.At, Min: minimum(h.Min), Full: minimum(h.Full),
			Health: decide.Health{Of: "vip " + h.VIP, Known: h.Known, InService: h.InService, Reals: h.Reals, Share: float64(h.Share) / 100},
		}
		if h.Flows != nil {
			s.Flows = decide.Flows{Known: true, Left: *h.Flows}
		}
		services = append(services, s)
	}
	return a.injector.Set(ctx, services)
}

func minimum(m lb.Minimum) decide.Minimum {
	return decide.Minimum{Count: m.Reals, Share: float64(m.Share) / 100}
}
