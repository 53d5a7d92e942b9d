package lb

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"anycastle/bpf"
)

// counted is what was counted of an installed table, which is looked through once.
type counted struct {
	slots  []slotPair
	held   map[netip.Addr]int // of primaries
	moving int
}

// show publishes the loop's state.
func (l *loop) show() {
	var reals []RealStatus
	var drains []DrainStatus
	moving := map[string]int{}
	installed := l.have.allVIPs()
	for i := range l.in.cfg.Farms {
		f := &l.in.cfg.Farms[i]
		table := l.count(f, installed)
		moving[f.Name] = table.moving
		reals = append(reals, l.showReals(f, table)...)
		drains = append(drains, l.showDrains(f)...)
	}
	l.mu.Lock()
	l.view.vips = installed
	l.view.reals, l.view.drains, l.view.moving = reals, drains, moving
	l.mu.Unlock()
	if l.reporter != nil && l.ready {
		l.reporter.set(l.in.reportVIPs())
	}
}

// count looks through the installed table of a farm.
func (l *loop) count(f *Farm, installed map[vipKey]vipEntry) counted {
	var slots []slotPair
	for _, v := range l.in.cfg.VIPs {
		if e, ok := installed[v.key()]; ok && v.Farm == f.Name {
			slots = l.have.slots[e.farm]
			break
		}
	}
	if c := l.counts[f.Name]; len(slots) > 0 && len(c.slots) > 0 && &c.slots[0] == &slots[0] {
		return c
	}
	c := counted{slots: slots, held: map[netip.Addr]int{}}
	byIndex := map[uint16]int{}
	for _, s := range slots {
		byIndex[s.primary]++
		if s.primary != s.secondary {
			c.moving++
		}
	}
	for index, n := range byIndex {
		if index != none {
			c.held[l.have.reals[uint32(index)].addr] = n
		}
	}
	l.counts[f.Name] = c
	return c
}

func (l *loop) showReals(f *Farm, table counted) []RealStatus {
	var list []RealStatus
	state := l.in.states[f.Name]
	is := l.in.situations(f)
	add := func(name string, addr netip.Addr, forward Forward, weight int) {
		rec, ok := state[addr]
		if !ok {
			rec = record{State: StateFailed, Why: notProbed, Since: l.started}
		}
		s := RealStatus{
			Farm: f.Name, Name: name, Address: addr, Forward: forward, Weight: weight, State: rec.State, Why: rec.Why, Since: rec.Since,
			Until: sooner(rec.Until, rec.HeldUntil), PrimaryWeight: rec.units(rec.primary()), SecondaryWeight: rec.units(rec.Held),
			Flows: l.flows(realID{f.Name, name}), Slots: table.held[addr], NextHop: l.in.hops[addr].String(),
		}
		s.Share = float64(s.Slots) / bpf.Slots
		if fails := is[addr].fails; rec.State == StateFailed && fails != "" {
			s.Why = fails // as it is now, and not as it was when it failed
		}
		if accused := l.in.agents[realID{f.Name, name}].accused; rec.State.inService() && accused.held {
			s.Why = accused.shown()
		}
		list = append(list, s)
	}
	for i := range f.Reals {
		r := &f.Reals[i]
		add(r.Name, r.Address, f.forward(r), r.Weight)
	}
	for _, addr := range slices.SortedFunc(maps.Keys(state), netip.Addr.Compare) {
		if is[addr].gone {
			add(state[addr].Name, addr, state[addr].Forward, 0)
		}
	}
	return list
}

// flows gives the flows of a real by its agent's count, or nil.
func (l *loop) flows(id realID) *int {
	count := l.in.agents[id].flows
	if !count.known {
		return nil
	}
	return &count.left
}

func (l *loop) showDrains(f *Farm) []DrainStatus {
	var list []DrainStatus
	for addr, s := range l.in.situations(f) {
		rec := l.in.states[f.Name][addr]
		ordered := s.order != nil && s.order.Kind == KindDrain
		if rec.State != StateDraining && (!ordered || rec.State != StateSuspended) {
			continue
		}
		id := realID{f.Name, s.name}
		d := DrainStatus{Farm: f.Name, Real: s.name, State: rec.State, Why: rec.Why, Since: rec.Since, Deadline: rec.Until,
			FlowsLeft: l.flows(id), WaitsFor: []string{}}
		if ordered {
			d.Ordered = s.order.Since
		}
		if ordered && d.Deadline.IsZero() {
			d.Deadline = s.order.Deadline
		}
		if rec.State == StateDraining {
			view := l.in.agents[id]
			d.ETA = view.eta()
			d.WaitsFor = append(d.WaitsFor, l.node)
		}
		for node, p := range l.in.peers {
			if other := p[f.Name][addr]; other.State.inService() || other.State == StateDraining {
				d.WaitsFor = append(d.WaitsFor, node)
			}
		}
		slices.Sort(d.WaitsFor)
		d.Safe = len(d.WaitsFor) == 0
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b DrainStatus) int { return strings.Compare(a.Real, b.Real) })
	return list
}
