package replica

import (
	"context"
	"fmt"
	"slices"
	"time"

	"anycastle/internal/phase"
	"anycastle/mailroles/replica/bodies"
	"anycastle/mailroles/replica/group"
	"anycastle/mailroles/store"
)

const (
	stewardTick  = 100 * time.Millisecond // while there is something to do, or nobody leads
	stewardCalm  = 500 * time.Millisecond // while this replica leads and all is well
	stewardRest  = time.Second            // while another leads: it is told when that changes
	fellowLag    = 1000                   // operations behind which a replica may be and be given its vote, or the LUN
	handoverTime = 3 * time.Second        // for a replica that is unfit to hand over
	handoverWait = 500 * time.Millisecond // between two tries of it
	strangerLook = 2 * time.Second        // how often members are asked for a newer era while nobody leads
)

// betterment is a more preferred replica that could be active. It is the steward's own.
type betterment struct {
	name  string
	since time.Time
}

// steward looks after the group while this replica leads it: it gives votes, hands over, and gives back.
func (r *Replica) steward(ctx context.Context, g *group.Group) error {
	timer := time.NewTimer(stewardTick)
	defer timer.Stop()
	var looked, tried time.Time
	for {
		_, changed := r.fitness()
		moved := g.Moved()
		if r.epoch.Load() != nil {
			moved = nil // it is closed at each operation
		}
		timer.Reset(phase.Wait(r.opt.Node.Made(), r.stewardPause(g)))
		select {
		case <-ctx.Done():
			return nil
		case <-changed: // also when it begins to lead, and when it no longer does
		case <-moved:
		case <-timer.C:
		}
		e := r.epoch.Load()
		switch {
		case e == nil && r.leader() == "" && time.Since(looked) > strangerLook:
			looked = time.Now()
			if err := r.lookForEra(ctx); err != nil {
				return err
			}
		case r.self.Witness: // it never leads for long
		case e == nil:
			r.better = betterment{}
			r.cover() // else it would say so until it leads again
		case time.Since(tried) > handoverWait && r.mustGo(ctx, g):
			tried = time.Now()
		default:
			r.giveVotes(ctx, g)
			r.cover()
			r.giveBack(ctx, g)
			r.giveUp()
		}
	}
}

// stewardPause gives how long the steward may sleep when it is not woken.
func (r *Replica) stewardPause(g *group.Group) time.Duration {
	if r.epoch.Load() == nil {
		if r.leader() == "" {
			return stewardTick
		}
		return stewardRest
	}
	r.mu.Lock()
	busy := len(r.unfit) > 0 || !r.exposed.since.IsZero() || r.better.name != ""
	r.mu.Unlock()
	if busy || slices.ContainsFunc(g.Status().Peers, func(p group.Peer) bool { return !p.Voter }) {
		return stewardTick
	}
	return stewardCalm
}

// mustGo hands over if this replica is unfit, and reports whether it is.
func (r *Replica) mustGo(ctx context.Context, g *group.Group) bool {
	why, _ := r.fitness()
	if why == "" {
		return false
	}
	to, none := r.successor(g)
	if to == "" {
		r.log.Warn("unfit, and nobody to hand over to", "why", why, "others", none)
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, handoverTime)
	defer cancel()
	r.noteMove(to, "unfit: "+why, r.handOver(ctx, g, to))
	return true
}

// successor gives the most preferred replica that could be active, or else one that lacks bodies but is fit. none says why there
// is none of the first kind.
func (r *Replica) successor(g *group.Group) (name, none string) {
	partly := ""
	for _, m := range r.others() {
		why := r.unable(g, m.Name)
		if why == "" {
			return m.Name, ""
		}
		if v := r.view(m.Name); partly == "" && r.alive(m.Name) && v.State.Fit && votes(g, m.Name) {
			partly = m.Name
		}
		none += fmt.Sprintf(" %s: %s;", m.Name, why)
	}
	return partly, none
}

// unable says why a replica cannot be the active one now; empty: it can.
func (r *Replica) unable(g *group.Group, member string) string {
	v := r.view(member)
	applied := g.Status().Applied.Index
	switch {
	case !v.Known || !r.alive(member):
		return "nothing is heard of it"
	case v.State.Blank:
		return "it is blank"
	case !v.State.Fit:
		return "it is unfit: " + v.State.Why
	case !votes(g, member):
		return "it has no vote yet"
	case min(v.State.Applied, v.State.Complete)+fellowLag < applied:
		return fmt.Sprintf("it is at operation %d of %d", min(v.State.Applied, v.State.Complete), applied)
	case v.State.Missing > 0 && v.State.Complete+fellowLag < applied:
		return fmt.Sprintf("it waits for %d bodies", v.State.Missing)
	}
	return ""
}

func votes(g *group.Group, member string) bool {
	for _, p := range g.Status().Peers {
		if p.Name == member {
			return p.Voter
		}
	}
	return false
}

// giveVotes makes voters of those that follow and have caught up.
func (r *Replica) giveVotes(ctx context.Context, g *group.Group) {
	s := g.Status()
	for _, p := range s.Peers {
		if !p.In || p.Voter || p.Matched+fellowLag < s.Committed || p.Matched == 0 {
			continue
		}
		if m := r.member(p.Name); !m.Witness {
			v := r.view(p.Name)
			if !v.Known || v.State.Blank || v.State.Complete+fellowLag < s.Applied.Index {
				continue
			}
		}
		ctx, cancel := context.WithTimeout(ctx, helloTime)
		err := g.Promote(ctx, p.Name)
		cancel()
		r.log.Info("replica is given its vote", "member", p.Name, "err", err)
	}
}

func (r *Replica) member(name string) group.Member {
	for _, m := range r.opt.Members {
		if m.Name == name {
			return m
		}
	}
	return group.Member{}
}

// giveBack hands over to a more preferred replica that has been well for long enough.
func (r *Replica) giveBack(ctx context.Context, g *group.Group) {
	if e := r.epoch.Load(); e == nil || r.isPinned(e) {
		return
	}
	best := ""
	for _, m := range r.opt.Members {
		if m.Name == r.self.Name {
			break
		}
		if !m.Witness && r.unable(g, m.Name) == "" && r.view(m.Name).State.Missing == 0 {
			best = m.Name
			break
		}
	}
	switch {
	case best == "" || best != r.better.name:
		r.better = betterment{name: best, since: time.Now()}
	case time.Since(r.better.since) >= r.opt.SwitchBackAfter:
		r.better = betterment{}
		ctx, cancel := context.WithTimeout(ctx, moveTime)
		defer cancel()
		why := fmt.Sprintf("%s is preferred, and has been well for %v", best, r.opt.SwitchBackAfter)
		r.noteMove(best, why, r.move(ctx, g, best))
	}
}

// giveUp removes messages whose bodies no replica has: nobody was told that they were taken.
func (r *Replica) giveUp() {
	mail := r.store.get()
	if mail == nil || r.Serving() != nil {
		return
	}
	sites := r.mailSites()
	for _, a := range r.fetcher.Absent() {
		if len(a.Sites) < len(sites) {
			continue // a replica that has it may come back
		}
		err := mail.GiveUp(store.Body(a.Body))
		r.log.Warn("message without a body anywhere is given up", "mailbox", a.Body.Mailbox, "name", a.Body.Name, "err", err)
	}
}

// mailSites gives the sites that have mail.
func (r *Replica) mailSites() map[string]bool {
	sites := map[string]bool{}
	for _, m := range r.opt.Members {
		if !m.Witness {
			sites[m.Site] = true
		}
	}
	return sites
}

// lookForEra finds out whether the others have gone on without this one, in a new era: what it has counts for nothing then.
func (r *Replica) lookForEra(ctx context.Context) error {
	heard, _ := r.greet(ctx)
	for name, h := range heard {
		if h.Era > r.era.Load() {
			return fmt.Errorf("%w: %s is in era %d, this replica in %d", group.ErrBlank, name, h.Era, r.era.Load())
		}
	}
	return nil
}

// watchEra is lookForEra while this replica leads. Whoever was cut off when an operator promoted another replica may have found
// a quorum since: as soon as they hear of each other only the one that was promoted goes on.
func (r *Replica) watchEra(ctx context.Context, g *group.Group) error {
	tick := phase.NewTicker(r.opt.Node.Made(), strangerLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			tick.Next()
		}
		away := func(p group.Peer) bool { return p.Name != r.self.Name && time.Since(p.Contact) > siteGone }
		if r.epoch.Load() == nil || !slices.ContainsFunc(g.Status().Peers, away) {
			continue
		}
		heard, _ := r.greet(ctx)
		for name, h := range heard {
			if h.Leading && r.yields(g.Status(), name, h) {
				return fmt.Errorf("%w: %s leads in era %d, term %d; this replica in era %d", group.ErrBlank, name, h.Era, h.Term, r.era.Load())
			}
		}
	}
}

// yields reports whether this replica, which leads, has to give way to another that does: that of the newer era goes on. Two that
// were promoted apart from each other are in the same one, and neither is in the other's group.
func (r *Replica) yields(s group.Status, name string, h Hello) bool {
	switch {
	case h.Era != s.Era:
		return h.Era > s.Era
	case s.Era == firstEra || peerOf(s, name).In:
		return false
	case h.Term != s.Term:
		return h.Term > s.Term
	}
	return name < r.self.Name
}

// local is the state that the other replicas are told.
func (r *Replica) local() bodies.State {
	mail, g := r.store.get(), r.group.Load()
	why, _ := r.fitness()
	s := bodies.State{Fit: why == "", Why: why, Free: r.free(), Era: r.era.Load()}
	if mail == nil || g == nil {
		s.Blank, s.Fit = true, false
		if why == "" {
			s.Why = "not open"
		}
		return s
	}
	at := mail.Applied()
	s.Applied, s.Chain, s.Complete = at.Index, at.Chain.String(), mail.Complete()
	_, s.Missing = mail.Missing(0)
	_, s.Term = g.Leader()
	s.Active = r.epoch.Load() != nil
	return s
}
