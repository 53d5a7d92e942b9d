package replica

import (
	"time"
)

// exposure is what only one site has. It is guarded by the replica's mu.
type exposure struct {
	since      time.Time // zero: nothing
	operations uint64
	last       uint64 // index of the last one
}

// expose counts an operation that was acknowledged and is at one site only.
func (r *Replica) expose(index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &r.exposed
	if x.since.IsZero() {
		x.since = time.Now()
		r.log.Error("exposed: what is acknowledged from now on is at one site only", "index", index)
	}
	x.operations++
	x.last = max(x.last, index)
}

// exposeFrom takes over what a predecessor at this site may have acknowledged while the other was gone: what is committed and
// was not heard to be there.
func (r *Replica) exposeFrom(e *epoch) {
	g := r.group.Load()
	if g == nil || r.policy() != Expose {
		return
	}
	heard := false
	for _, m := range r.others() {
		heard = heard || m.Site != r.self.Site && r.alive(m.Name)
	}
	applied, there := r.store.get().Applied().Index, r.thereUpTo()
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.exposed
	r.exposed = exposure{}
	switch {
	case was.last > there: // it led before, and the other site has not got all that it took then
		r.exposed = exposure{since: was.since, operations: was.operations, last: max(was.last, applied)}
	case there < applied && !heard:
		r.exposed = exposure{since: e.since, operations: applied - there, last: applied}
	}
}

// thereUpTo gives the index up to which a replica of another site has all.
func (r *Replica) thereUpTo() uint64 {
	there := uint64(0)
	for _, m := range r.others() {
		if v := r.view(m.Name); m.Site != r.self.Site && v.Known {
			there = max(there, min(v.State.Applied, v.State.Complete))
		}
	}
	return there
}

// cover ends an exposure when the other site has it all.
func (r *Replica) cover() {
	there := r.thereUpTo()
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &r.exposed
	if !x.since.IsZero() && there >= x.last {
		r.log.Warn("no longer exposed: the other site has all", "since", x.since, "operations", x.operations)
		*x = exposure{}
	}
}

// policy is that of the config, but for a group that an operator made anew without the other site: who accepted that loss wants
// the LUN to go on, until a replica of another site is in the group.
func (r *Replica) policy() Policy {
	g := r.group.Load()
	if g == nil {
		return r.opt.TwoSite
	}
	s := g.Status()
	if s.Era <= firstEra {
		return r.opt.TwoSite
	}
	for _, p := range s.Peers {
		if m := r.member(p.Name); p.In && !m.Witness && m.Site != r.self.Site {
			return r.opt.TwoSite
		}
	}
	return Expose
}
