package replica

import (
	"fmt"
	"slices"
	"time"

	"anycastle/mailroles/replica/bodies"
	"anycastle/mailroles/replica/group"
	"anycastle/mailroles/store"
)

const (
	proveTime = 10 * time.Second // in which an operation must be where it has to be
	proveTick = 50 * time.Millisecond
	newEpoch  = 300 * time.Millisecond // in which an active replica does not call itself alone yet
)

// Prove implements store.Journal.
func (j journal) Prove(index uint64, list []store.Body) error {
	r := j.r
	e, g := r.epoch.Load(), r.group.Load()
	if e == nil || g == nil {
		return store.ErrPassive
	}
	begun := time.Now()
	deadline := time.NewTimer(proveTime)
	defer deadline.Stop()
	tick := time.NewTicker(proveTick) // what else tells is heard at once; time passes without telling
	defer tick.Stop()
	for {
		moved, acked, heard := g.Moved(), r.sender.Changed(), r.exchange.Changed()
		done, exposed := r.proven(g, e, index, list, time.Since(begun))
		if done {
			r.settle(list)
			return r.acknowledge(e, index, exposed, begun)
		}
		if r.policy() == Wait && r.alone(e) {
			return fmt.Errorf("%w: the other site is gone, operation %d is not proven there", store.ErrAlone, index)
		}
		select {
		case <-moved:
		case <-acked:
		case <-heard:
		case <-tick.C:
		case <-e.done:
			return store.ErrPassive
		case <-deadline.C:
			return fmt.Errorf("%w: operation %d is not proven at the other site in %v", store.ErrAlone, index, proveTime)
		}
	}
}

// acknowledge is the last look before somebody is told that an operation is done.
func (r *Replica) acknowledge(e *epoch, index uint64, exposed bool, begun time.Time) error {
	if r.epoch.Load() != e {
		return store.ErrPassive
	}
	if err := r.Serving(); err != nil {
		return err
	}
	r.opt.Metrics.took("other site", time.Since(begun))
	if exposed {
		r.expose(index)
	}
	return nil
}

// settle has the sender forget bodies that nobody asks for any more.
func (r *Replica) settle(list []store.Body) {
	for _, b := range list {
		r.sender.Forget(b.Name)
	}
}

// proven reports whether an operation that is committed, and its bodies, are on the disks of enough mail replicas. exposed
// says that they are at one site only, which the policy allows while the other is gone.
func (r *Replica) proven(g *group.Group, e *epoch, index uint64, list []store.Body, waited time.Duration) (done, exposed bool) {
	var sites []string
	replicas := 0
	if mail := r.store.get(); mail != nil && mail.Applied().Index >= index && r.hasAll(mail, index, list) {
		replicas, sites = 1, []string{r.self.Site}
	}
	for _, m := range r.others() {
		view := r.view(m.Name)
		if g.Matched(m.Name) < index && (!view.Known || view.State.Applied < index) || !r.confirmed(m.Name, view, index, list) {
			continue
		}
		replicas++
		if !slices.Contains(sites, m.Site) {
			sites = append(sites, m.Site)
		}
	}
	if replicas >= 2 && len(sites) >= 2 {
		return true, false
	}
	if r.policy() != Expose || !r.alone(e) && (waited < siteGone || !r.unableElsewhere()) {
		return false, false
	}
	return replicas >= 2 || replicas == 1 && !r.companion(), true
}

// hasAll reports whether the bodies of an operation are on this disk.
func (r *Replica) hasAll(mail *store.Store, index uint64, list []store.Body) bool {
	missing := func(b store.Body) bool { return !mail.HasBody(b) }
	return !slices.ContainsFunc(list, missing) || mail.Complete() >= index
}

// confirmed reports whether a replica has said that the bodies of an operation are on its disk.
func (r *Replica) confirmed(member string, view bodies.View, index uint64, list []store.Body) bool {
	if len(list) == 0 || view.Known && view.State.Complete >= index {
		return true
	}
	lacks := func(b store.Body) bool { return !slices.Contains(r.sender.Acked(b.Name), member) }
	return !slices.ContainsFunc(list, lacks)
}

// alone reports whether nothing was heard of the mail replicas of other sites for a while. Replicas hear of each other
// also while they are not active; a process that has just begun has not had the time.
func (r *Replica) alone(e *epoch) bool {
	if time.Since(r.begun) < siteGone || time.Since(e.since) < newEpoch {
		return false
	}
	for _, m := range r.others() {
		if m.Site != r.self.Site && r.alive(m.Name) {
			return false
		}
	}
	return true
}

// unableElsewhere reports whether no mail replica of another site is able to confirm anything: it is gone, takes a state, or its
// disk fails.
func (r *Replica) unableElsewhere() bool {
	return !slices.ContainsFunc(r.others(), func(m group.Member) bool {
		v := r.view(m.Name)
		return m.Site != r.self.Site && r.alive(m.Name) && v.State.Fit && !v.State.Blank
	})
}

// companion reports whether another mail replica of this site is there.
func (r *Replica) companion() bool {
	return slices.ContainsFunc(r.others(), func(m group.Member) bool { return m.Site == r.self.Site && r.alive(m.Name) })
}

// alive reports whether a member of this era was heard of lately.
func (r *Replica) alive(member string) bool {
	return time.Since(r.view(member).Heard) < siteGone
}

// view gives what is known of a member in the era of this replica: after a promotion the operations of before it have other
// indexes, and what a member said of them proves nothing any more.
func (r *Replica) view(member string) bodies.View {
	return ofEra(r.exchange.View(member), r.era.Load())
}

func ofEra(v bodies.View, era uint64) bodies.View {
	if v.State.Era != era {
		return bodies.View{Peer: v.Peer, Connected: v.Connected}
	}
	return v
}

// firstEra is that of a group that has not been made anew by an operator.
const firstEra = 1

// unformed says why the group is not what the config says yet; empty: it is. Its first replica begins it alone, and could
// acknowledge alone.
func (r *Replica) unformed() string {
	g := r.group.Load()
	if g == nil {
		return "no group"
	}
	s := g.Status()
	if s.Era > firstEra {
		return "" // an operator has said which replicas are left
	}
	votes := 0
	for _, p := range s.Peers {
		if p.Voter {
			votes++
		}
	}
	if need := len(r.opt.Members)/2 + 1; votes < need {
		return fmt.Sprintf("%d of %d replicas have a vote, at least %d must", votes, len(r.opt.Members), need)
	}
	return ""
}
