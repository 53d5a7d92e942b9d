package lb

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"anycastle/bpf"
	"anycastle/internal/nexthop"
	"anycastle/internal/probe"
)

// realID names a real of the config.
type realID struct{ farm, name string }

// inputs is all that decides what is desired, and the states that follow from it.
type inputs struct {
	cfg    *Config
	probes map[targetID]probed
	hops   map[netip.Addr]nexthop.Hop
	orders map[realID]Order
	agents map[realID]agentView
	peers  map[string]map[string]farmState // of the other LBs of the site that are there, by name and farm

	states map[string]farmState // by farm
	farms  map[string]*farmBuilder
	logs   *logTable
}

// probed is what one probe of a real says.
type probed struct {
	state  probe.State
	why    string // of the last result that changed the state
	advice probe.Advice
}

// farmBuilder is what is computed from the config for a farm once, and its slot table.
type farmBuilder struct {
	rules   rules
	source  string                // where weights come from
	bases   map[netip.Addr]uint32 // what weigh gives
	targets map[string][]target   // probes of each real, by its name
	vip6    netip.Addr            // the first IPv6 address of its VIPs; the zero Addr: there is none
	table   tableBuilder
}

func newInputs(cfg *Config) inputs {
	in := inputs{
		probes: map[targetID]probed{}, hops: map[netip.Addr]nexthop.Hop{}, orders: map[realID]Order{},
		agents: map[realID]agentView{}, states: map[string]farmState{}, logs: newLogTable(),
	}
	in.setConfig(cfg)
	return in
}

// setConfig takes another config, and keeps what is known of what is in it.
func (in *inputs) setConfig(cfg *Config) {
	old := in.farms
	in.cfg, in.farms = cfg, map[string]*farmBuilder{}
	for i := range cfg.Farms {
		f := &cfg.Farms[i]
		b := &farmBuilder{source: f.Weights, table: tableBuilder{logs: in.logs}, bases: map[netip.Addr]uint32{}, targets: map[string][]target{},
			rules: rules{time: f.Transition.Time, secondChance: f.Transition.Method == SecondChance}}
		if o := old[f.Name]; o != nil {
			b.table = o.table
		}
		reals := make([]weighed, len(f.Reals))
		for j, r := range f.Reals {
			reals[j] = weighed{r.Address, r.Weight}
		}
		addrs := cfg.addressesOf(f)
		if j := slices.IndexFunc(addrs, netip.Addr.Is6); j >= 0 {
			b.vip6 = addrs[j]
		}
		for j, weight := range weigh(in.logs, reals) {
			r := &f.Reals[j]
			b.bases[r.Address] = weight
			b.targets[r.Name] = cfg.targetsOf(f, r, addrs)
		}
		in.farms[f.Name] = b
	}
}

// forget drops what is known of what is no longer in the config.
func (in *inputs) forget() {
	targets, reals := map[targetID]bool{}, map[realID]bool{}
	for i := range in.cfg.Farms {
		f := &in.cfg.Farms[i]
		for j := range f.Reals {
			reals[realID{f.Name, f.Reals[j].Name}] = true
			for _, t := range in.farms[f.Name].targets[f.Reals[j].Name] {
				targets[t.id] = true
			}
		}
	}
	maps.DeleteFunc(in.probes, func(id targetID, _ probed) bool { return !targets[id] })
	maps.DeleteFunc(in.agents, func(id realID, _ agentView) bool { return !reals[id] && in.farms[id.farm] == nil })
	maps.DeleteFunc(in.states, func(farm string, _ farmState) bool { return in.farms[farm] == nil }) // no VIP leads to it
}

// evolve brings the states to what follows from everything else now.
func (in *inputs) evolve(now time.Time) {
	for i := range in.cfg.Farms {
		f := &in.cfg.Farms[i]
		var peers []farmState
		for _, node := range slices.Sorted(maps.Keys(in.peers)) {
			peers = append(peers, in.peers[node][f.Name])
		}
		in.states[f.Name] = in.farms[f.Name].rules.next(in.states[f.Name], in.situations(f), peers, now)
	}
}

// targets are the probes of those reals that are to be probed, as a probe.Runner takes them.
func (in *inputs) targets(index map[realKey]uint32, probing map[realID]bool) []probe.Target {
	var list []probe.Target
	for i := range in.cfg.Farms {
		f := &in.cfg.Farms[i]
		for j := range f.Reals {
			r := &f.Reals[j]
			if !probing[realID{f.Name, r.Name}] {
				continue
			}
			for _, t := range in.farms[f.Name].targets[r.Name] {
				p := probe.Target{Name: t.id.String(), Addr: t.addr, Config: t.config}
				if p.VIP = t.id.vip; p.VIP.IsValid() {
					p.Mark = bpf.Mark(index[f.realKey(r)])
				}
				list = append(list, p)
			}
		}
	}
	return list
}

// deadline is when to evolve again though nothing happens; zero: never.
func (in *inputs) deadline(now time.Time) (soonest time.Time) {
	for _, state := range in.states {
		if d := state.deadline(now); !d.IsZero() && (soonest.IsZero() || d.Before(soonest)) {
			soonest = d
		}
	}
	return soonest
}

// situations gives what is known of the reals of a farm, and of those that have left it.
func (in *inputs) situations(f *Farm) map[netip.Addr]situation {
	is := map[netip.Addr]situation{}
	names := map[string]bool{}
	for i := range f.Reals {
		r := &f.Reals[i]
		is[r.Address] = in.situation(f, r)
		names[r.Name] = true
	}
	for addr, rec := range in.states[f.Name] {
		if _, ok := is[addr]; ok {
			continue
		}
		s := situation{name: rec.Name, forward: rec.Forward, base: rec.Base, percent: 100, gone: true, known: true}
		if hop, looked := in.hops[addr]; looked && !hop.Resolved() {
			s.fails = clip("next hop " + hop.String())
		} else {
			s.fails = in.farms[f.Name].wayTo(addr, rec.Forward).unfit(hop)
		}
		if o, ok := in.orders[realID{f.Name, rec.Name}]; ok && !names[rec.Name] && o.Kind != KindActivate {
			s.order = &o
		}
		is[addr] = s
	}
	return is
}

func (in *inputs) situation(f *Farm, r *Real) situation {
	id := realID{f.Name, r.Name}
	agent := in.agents[id]
	s := situation{name: r.Name, forward: f.forward(r), base: in.farms[f.Name].bases[r.Address], percent: 100, known: true, flows: agent.flows}
	if f.Weights == weightsAgent && agent.percent > 0 {
		s.percent = agent.percent
	}
	s.fails = in.farms[f.Name].wayTo(r.Address, s.forward).unfit(in.hops[r.Address]) // before what probes say of it, which is that they get no answer
	for _, t := range in.farms[f.Name].targets[r.Name] {
		p := in.probes[t.id]
		switch {
		case p.state == probe.Unknown:
			s.known = false
		case p.state == probe.Failing && s.fails == "":
			s.fails = clip(p.why)
		}
		if t.config.Type == agentCheck && p.state != probe.Unknown {
			s.advise(p.advice, f.Weights == weightsAgentCheck)
		}
	}
	if s.fails == "" {
		s.fails = clip(agent.accused.fails())
	}
	if hop := in.hops[r.Address]; s.fails == "" && !hop.Resolved() {
		s.fails = clip("next hop " + hop.String())
	}
	if o, ok := in.orders[id]; ok && o.Kind != KindActivate {
		s.order = &o
	}
	return s
}

// advise takes over what an agent-check says. An operator's order goes before it.
func (s *situation) advise(a probe.Advice, weights bool) {
	if weights && a.Weight > 0 {
		s.percent = min(a.Weight, maxPercent)
	}
	switch {
	case a.Admin == probe.AdminMaint:
		s.order = &Order{Kind: KindSuspend, By: agentCheck}
	case a.Admin == probe.AdminDrain, weights && a.Weight == 0:
		s.order = &Order{Kind: KindDrain, By: agentCheck}
	}
}

// clip makes text fit a record: what others say may be anything.
func clip(text string) string {
	return clipTo(text, maxReason-100)
}

// complete says whether every real has been probed and its next hop looked for. Before that, nothing is known that is
// worth installing: what an earlier process installed is better.
func (in *inputs) complete() bool {
	for i := range in.cfg.Farms {
		f := &in.cfg.Farms[i]
		for j := range f.Reals {
			if _, looked := in.hops[f.Reals[j].Address]; !looked || !in.situation(f, &f.Reals[j]).known {
				return false
			}
		}
	}
	return true
}

// told says whether there are other LBs, and all have told the states of all reals. They come one by one; who takes up only
// some of them has another table than the LB that they are of, and for as long as a transition takes.
func (in *inputs) told() bool {
	for _, states := range in.peers {
		for i := range in.cfg.Farms {
			f := &in.cfg.Farms[i]
			for j := range f.Reals {
				if _, ok := states[f.Name][f.Reals[j].Address]; !ok {
					return false
				}
			}
		}
	}
	return len(in.peers) > 0
}

// catchUp takes over, at a start, what other LBs know of the reals: ours is as old as our last life.
func (in *inputs) catchUp() {
	for farm, state := range in.states {
		for addr, rec := range state {
			for _, p := range in.peers {
				if _, known := p[farm][addr]; known && rec.State.inService() {
					delete(state, addr) // it arrives as at that LB
				}
			}
		}
	}
}

// agentTargets are the agents that can be asked, of reals that drain after they have left the config too.
func (in *inputs) agentTargets() []netip.AddrPort {
	var targets []netip.AddrPort
	for i := range in.cfg.Farms {
		f := &in.cfg.Farms[i]
		if f.Agent == nil {
			continue
		}
		for addr := range in.situations(f) {
			targets = append(targets, netip.AddrPortFrom(addr, f.Agent.Port))
		}
	}
	slices.SortFunc(targets, netip.AddrPort.Compare)
	return slices.Compact(targets)
}

// inService counts the reals of a farm that take new flows.
func (in *inputs) inService(farm string) int {
	n := 0
	for _, rec := range in.states[farm] {
		if rec.State.inService() {
			n++
		}
	}
	return n
}

// spare says whether agents may take a real out: at least half of the farm's other reals could still take flows then. What
// all agents say at once is rather a mistake, or too many clients for all of them, than the death of a whole farm; probes
// find that out, and they may take out all.
func (in *inputs) spare(f *Farm, name string) bool {
	fit := 0
	for i := range f.Reals {
		if f.Reals[i].Name == name {
			continue
		}
		if s := in.situation(f, &f.Reals[i]); s.known && s.fails == "" && s.order == nil {
			fit++
		}
	}
	return 2*fit >= len(f.Reals)
}
