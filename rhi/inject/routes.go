package inject

import (
	"maps"
	"net/netip"

	"anycastle/rhi/decide"
)

// Route is how the route of a VIP stands with peers.
type Route struct {
	Announced bool // at least one established peer has it from here
	Draining  bool // it is to take no new clients, by order
	Why       string
}

// Routes gives how the route of each VIP stands that was decided about.
func (i *Injector) Routes() map[netip.Prefix]Route {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.routes)
}

// noteRoutes brings the routes up to date, and tells if they are others. The caller holds mu.
func (i *Injector) noteRoutes() {
	routes := map[netip.Prefix]Route{}
	orders := i.orders()
	for prefix := range i.services {
		if why := i.speaker.Refuse(prefix); why != "" {
			routes[prefix] = Route{Why: why}
			continue
		}
		d, ok := i.last.VIPs[prefix]
		if !ok {
			continue
		}
		r := Route{Announced: d.Place != decide.PlaceWithdrawn && i.standing[prefix] > 0, Why: d.Why}
		if o := orders.of(i.site, prefix); o != nil {
			r.Draining = o.Kind == decide.KindDrain || o.Kind == decide.KindWithdraw
		}
		if d.Place != decide.PlaceWithdrawn && i.standing[prefix] == 0 {
			r.Why = "no established peer takes it"
		}
		routes[prefix] = r
	}
	if !maps.Equal(routes, i.routes) {
		i.routes = routes
		i.moved()
	}
}
