package lb

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"anycastle/lb/agent"
)

// snapshot is what the loop knows and what is installed at one moment. It stays as it is while the loop goes on.
type snapshot struct {
	in     inputs
	have   tables
	at     time.Time
	ready  bool      // the first probes have finished
	behind string    // why what is installed is not what should be; empty: it is
	agents flowLists // nil: no farm has an agent
}

// flowLists is who can be asked for the flows of a real.
type flowLists interface {
	Flows(ctx context.Context, t netip.AddrPort, limit int, take func(agent.Flow) error) (int, error)
}

// snapshot has the loop make one.
func (l *LB) snapshot(ctx context.Context) (*snapshot, error) {
	var s *snapshot
	err := l.ask(ctx, func(l *loop) {
		s = &snapshot{in: l.in.clone(), have: l.have.clone(), at: now(), ready: l.ready, behind: l.behind(), agents: l.watch.agents}
	})
	return s, err
}

// clone gives inputs that go on by themselves. What it shares with these is never changed in place.
func (in *inputs) clone() inputs {
	c := *in
	c.probes, c.hops, c.orders, c.agents = maps.Clone(in.probes), maps.Clone(in.hops), maps.Clone(in.orders), maps.Clone(in.agents)
	c.states, c.farms = map[string]farmState{}, map[string]*farmBuilder{}
	for farm, state := range in.states {
		c.states[farm] = maps.Clone(state)
	}
	for farm, b := range in.farms {
		builder := *b
		c.farms[farm] = &builder
	}
	return c
}

// nameOf gives the name of a real by its address, whether it is in the config or has left it; empty: the farm has none there.
func (in *inputs) nameOf(farm string, addr netip.Addr) string {
	for i := range in.cfg.Farms {
		f := &in.cfg.Farms[i]
		for j := range f.Reals {
			if f.Name == farm && f.Reals[j].Address == addr {
				return f.Reals[j].Name
			}
		}
	}
	return in.states[farm][addr].Name
}

// vipsByKey gives the VIPs by what a packet's destination must be.
func (c *Config) vipsByKey() map[vipKey]*VIP {
	vips := map[vipKey]*VIP{}
	for i := range c.VIPs {
		vips[c.VIPs[i].key()] = &c.VIPs[i]
	}
	return vips
}
