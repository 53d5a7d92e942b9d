package lb

import (
	"net/netip"
	"time"

	"anycastle/internal/nexthop"
	"anycastle/internal/probe"
)

// event is something that has happened. It says whether it may change anything.
type event func(l *loop) bool

// hopsEvent tells of next hops.
func hopsEvent(hops map[netip.Addr]nexthop.Hop) event {
	return func(l *loop) bool {
		l.in.hops, l.looked, l.changed = hops, true, true
		return true
	}
}

// resultEvent tells of a finished probe.
func resultEvent(r probe.Result) event {
	return func(l *loop) bool {
		l.heard = now()
		id := parseTargetID(r.Target.Name)
		l.showResult(id, r)
		changed := l.clearAccusation(id, r)
		old := l.in.probes[id]
		is := probed{state: r.State, why: old.why, advice: r.Advice}
		if r.Changed {
			is.why = "answers"
			if r.Err != nil {
				is.why = r.Err.Error()
			}
			l.log.Info("probe state changed", "farm", id.farm, "real", id.name, "probe", r.Target.Config.Type, "old", old.state,
				"new", r.State, "cause", is.why)
		}
		l.in.probes[id] = is
		return changed || is != old
	}
}

func (l *loop) clearAccusation(id targetID, r probe.Result) bool {
	v := l.in.agents[id.realID]
	farm := l.in.farms[id.farm]
	if farm == nil || !v.accused.clear(id, r, farm.targets[id.name]) {
		return false
	}
	l.in.agents[id.realID] = v
	l.log.Info("agent's word has no more weight", "farm", id.farm, "real", id.name, "cause", "probes pass again")
	return true
}

// probeNow has a real probed before its turn.
func (l *loop) probeNow(id realID) {
	var names []string
	for _, t := range l.in.farms[id.farm].targets[id.name] {
		names = append(names, t.id.String())
	}
	l.watch.probes.ProbeNow(names)
}

// agentEvent tells what an agent says.
func agentEvent(u agentUpdate) event {
	return func(l *loop) bool {
		changed := false
		for i := range l.in.cfg.Farms {
			f := &l.in.cfg.Farms[i]
			rec := l.in.states[f.Name][u.Target.Addr()]
			if f.Agent == nil || f.Agent.Port != u.Target.Port() || rec.Name == "" {
				continue
			}
			id := realID{f.Name, rec.Name}
			old := l.in.agents[id]
			is := old
			since := time.Time{}
			if rec.State == StateDraining {
				since = rec.Since
			}
			if is.takeAgent(l.in.cfg, f, u, since, len(u.Verdicts) > 0 && l.in.spare(f, rec.Name)) {
				l.probeNow(id)
			}
			accused := is.accused.why != old.accused.why || is.accused.held != old.accused.held
			if accused {
				l.log.Warn("agent speaks against the real", "farm", f.Name, "real", rec.Name, "cause", is.accused.why, "out", !is.accused.held)
			}
			l.in.agents[id] = is
			changed = changed || is.percent != old.percent || is.flows != old.flows || accused
		}
		return changed
	}
}
