package lb

import (
	"context"
	"maps"
	"net/netip"
	"sync"
	"time"

	"anycastle/internal/vipreport"
)

// reporter knows how the VIPs stand, for those who are told. Its methods are safe for concurrent use.
type reporter struct {
	lb     *LB
	since  time.Time
	kicked chan struct{} // there may be something to tell; holds one

	mu         sync.Mutex
	loops      []vipreport.VIP // as the loop has them; nil: it does not know yet
	renewed    time.Time       // when the loop last said so; zero: it does not know yet
	said       []vipreport.VIP // with their routes
	generation uint64
	changed    chan struct{} // closed when said changes by more than load
	rates      map[string]rate
	selectors  map[*selector]bool // who listens
	slow       uint64             // streams that ended since their reader was too slow
	refused    uint64             // connections that were turned away
	checked    map[string]uint64  // answers to agent-checks, by VIP
}

// rate is what a VIP forwards a second.
type rate struct{ packets, bytes float64 }

func newReporter(l *LB) *reporter {
	return &reporter{
		lb: l, since: now(), kicked: make(chan struct{}, 1), changed: make(chan struct{}), rates: map[string]rate{},
		selectors: map[*selector]bool{}, checked: map[string]uint64{},
	}
}

// set takes how the VIPs stand. It does not wait.
func (r *reporter) set(vips []vipreport.VIP) {
	r.mu.Lock()
	r.loops, r.renewed = vips, time.Now()
	r.mu.Unlock()
	r.kick()
}

// renew says that the VIPs stand as they did: neither the loop nor its probes hang.
func (r *reporter) renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewed = time.Now()
}

// hangs says whether the loop has renewed nothing for so long that what it said is no longer to be told. The caller holds mu.
func (r *reporter) hangs() bool { return !r.renewed.IsZero() && time.Since(r.renewed) > reportExpires }

func (r *reporter) kick() {
	select {
	case r.kicked <- struct{}{}:
	default: // it will look already
	}
}

// run brings what is told up to date until ctx is done.
func (r *reporter) run(ctx context.Context) {
	router, _ := r.lb.opts.Announcer.(Router)
	if router != nil {
		defer router.Watch(r.kick)()
	}
	beats := time.NewTicker(vipreport.Beat)
	defer beats.Stop()
	var last map[string]passed
	for {
		r.update(router)
		select {
		case <-ctx.Done():
			return
		case <-r.kicked:
		case <-beats.C:
			last = r.measure(last)
		}
	}
}

// update adds what routers have to what the loop says, and tells if that is something else than before.
func (r *reporter) update(router Router) {
	var routes map[netip.Prefix]Route
	if router != nil {
		routes = router.Routes() // not under mu: it may wait for others
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	same := len(r.said) == len(r.loops)
	next := make([]vipreport.VIP, len(r.loops))
	for i, v := range r.loops {
		if route, ok := routes[netip.PrefixFrom(v.Address, v.Address.BitLen())]; ok {
			if v.Route = vipreport.RouteAnnounced; !route.Announced {
				v.Route, v.RouteWhy = vipreport.RouteWithdrawn, clipTo(route.Why, vipreport.MaxWords)
			}
			v.Draining = v.Draining || route.Draining
		}
		same = same && r.said[i].Steady() == v.Steady()
		next[i] = v
	}
	r.said = next
	if !same {
		r.generation++
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// passed is what a VIP has forwarded by a time.
type passed struct {
	packets, bytes uint64
	at             time.Time
}

// measure gives what VIPs have forwarded, and notes what that is a second since the last time. While nobody listens it counts
// nothing.
func (r *reporter) measure(last map[string]passed) map[string]passed {
	r.mu.Lock()
	listened := len(r.selectors) > 0
	r.mu.Unlock()
	if !listened {
		return nil
	}
	is, rates := r.lb.forwarded(), map[string]rate{}
	for name, c := range is {
		old, ok := last[name]
		took := c.at.Sub(old.at).Seconds()
		if !ok || took <= 0 || c.packets < old.packets || c.bytes < old.bytes {
			continue // it was put in place anew
		}
		rates[name] = rate{float64(c.packets-old.packets) / took, float64(c.bytes-old.bytes) / took}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rates = rates
	return is
}

// forwarded gives what each VIP has forwarded.
func (l *LB) forwarded() map[string]passed {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]passed{}
	if l.view.counters == nil {
		return all
	}
	for i := range l.cfg.VIPs {
		v := &l.cfg.VIPs[i]
		if e, ok := l.view.vips[v.key()]; ok {
			if packets, bytes, err := l.view.counters.Forwarded(e); err == nil {
				all[v.Name] = passed{packets, bytes, time.Now()}
			}
		}
	}
	return all
}

// statement is how the VIPs stand at one moment.
type statement struct {
	generation uint64
	vips       []vipreport.VIP
	changed    <-chan struct{} // closed when there is another
	hangs      bool            // nobody stands by it
}

// statement gives the one of now, with rates.
func (r *reporter) statement() statement {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := statement{r.generation, make([]vipreport.VIP, len(r.said)), r.changed, r.hangs()}
	for i, v := range r.said {
		v.PacketsPerSecond, v.BytesPerSecond = r.rates[v.Name].packets, r.rates[v.Name].bytes
		s.vips[i] = v
	}
	return s
}

// find gives how a VIP stands; false: that is not known.
func (r *reporter) find(vip string) (vipreport.VIP, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.said {
		if v.Name == vip {
			return v, !r.hangs()
		}
	}
	return vipreport.VIP{}, false
}

// reportVIPs says how the VIPs stand, but for their routes.
func (in *inputs) reportVIPs() []vipreport.VIP {
	farms := map[string]farmReport{}
	for i := range in.cfg.Farms {
		farms[in.cfg.Farms[i].Name] = in.reportFarm(&in.cfg.Farms[i])
	}
	vips := make([]vipreport.VIP, 0, len(in.cfg.VIPs))
	for i := range in.cfg.VIPs {
		v := &in.cfg.VIPs[i]
		f := farms[v.Farm]
		f.health.VIP, f.health.Min = v.Name, Minimum{v.MinReals, v.MinShare}
		is := vipreport.VIP{
			Name: v.Name, Address: v.Address, Protocol: v.Protocol, Port: v.Port.String(), State: vipreport.Active,
			Draining: f.draining, InService: f.health.InService, Reals: f.health.Reals, Flows: vipreport.NotCounted, Capacity: f.capacity,
		}
		if f.health.Flows != nil {
			is.Flows = *f.health.Flows
		}
		if !f.health.Fit() {
			is.State, is.Why = vipreport.Failed, clipTo(f.health.why(), vipreport.MaxWords)
		}
		if f.suspended {
			is.State = vipreport.Suspended
		}
		vips = append(vips, is)
	}
	return vips
}

// farmReport is what the VIPs of a farm have in common.
type farmReport struct {
	health    Health
	capacity  int  // of the reals in service, in flows
	draining  bool // none takes new flows, and some drain
	suspended bool // all are, by order
}

func (in *inputs) reportFarm(f *Farm) farmReport {
	r := farmReport{health: in.farmHealth(f)}
	r.capacity = f.Capacity * r.health.Share / 100
	states := map[State]int{}
	for i := range f.Reals {
		states[in.states[f.Name][f.Reals[i].Address].State]++
	}
	r.suspended = states[StateSuspended] == len(f.Reals)
	r.draining = r.health.InService == 0 && states[StateDraining] > 0
	return r
}

// asked gives what became of those who asked, for metrics.
func (r *reporter) asked() (listening int, slow, refused uint64, checked map[string]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.selectors), r.slow, r.refused, maps.Clone(r.checked)
}
