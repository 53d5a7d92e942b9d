package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// situation is what is known of one real of a farm: everything that decides its state but the record of what it was.
type situation struct {
	name    string
	forward Forward
	base    uint32 // as weigh has it for the config
	percent int    // of base that is asked for, 1 to maxPercent
	gone    bool   // it is not in the config any more
	known   bool   // its first probes are finished
	fails   string // why it cannot take flows; empty: it can
	order   *Order // drain or suspend; nil: none
	flows   flowCount
}

// maxPercent bounds what an agent-check can make of a weight.
const maxPercent = 1000

// flowCount is what the agent of a draining real says.
type flowCount struct {
	known bool
	left  int
	zeros int // reports in a row of 0 flows
}

// zerosToFinish is how many reports of no flow finish a drain: the first may miss a handshake that is on its way.
const zerosToFinish = 2

func (s *situation) weight() uint32 {
	return max(1, uint32(uint64(s.base)*uint64(s.percent)/100))
}

// notProbed is the reason of a real of which nothing is known.
const notProbed = "first probe not finished"

// rules are what a farm's config says about states.
type rules struct {
	time         time.Duration // of a transition
	secondChance bool
}

// next gives the states of a farm's reals after what has happened. It is a function of its arguments, and applied again at
// the same time it changes nothing. peers are the states that other LBs of the site have now.
func (r rules) next(was farmState, is map[netip.Addr]situation, peers []farmState, now time.Time) farmState {
	next := farmState{}
	for addr, s := range is {
		old, had := was[addr]
		if s.gone && !had {
			continue
		}
		rec, arrives := r.step(old, s, now)
		rec.Name, rec.Forward, rec.Base = s.name, s.forward, s.base
		if !arrives {
			next[addr] = rec
			continue
		}
		next[addr] = r.arrive(rec, s, peers, addr, now)
	}
	next.promote(was)
	next.agree(peers, now)
	r.weigh(was, next, is, peers, now)
	r.follow(was, next, now)
	for addr, rec := range next {
		if is[addr].gone && rec.State != StateDraining && rec.Follow.IsZero() {
			delete(next, addr)
		}
	}
	return next
}

// arrive gives the state of a real that comes into service: that which a peer has it in, or joining.
func (r rules) arrive(rec record, s situation, peers []farmState, addr netip.Addr, now time.Time) record {
	rec = rec.enter(StateJoining, "it came into service", now)
	rec.Weight, rec.Until = s.weight(), now.Add(r.time)
	p, ok := furthest(peers, addr, now)
	if !ok {
		return rec
	}
	rec.State, rec.Since, rec.Until, rec.Follow = p.State, p.Since, p.Until, p.Follow
	switch {
	case p.Base == rec.Base:
		rec.Weight, rec.Held, rec.HeldUntil = p.Weight, p.Held, p.HeldUntil
	case p.State == StateActive:
		rec.Held = rec.Weight
	}
	return rec
}

// step gives the state of one real. If it says that the real arrives, that is left to the caller.
func (r rules) step(old record, s situation, now time.Time) (rec record, arrives bool) {
	if s.gone && s.order == nil {
		s.order = &Order{Kind: KindDrain, Why: "it was removed from the config"}
	}
	old = old.at(now)
	if old.State == "" {
		old.Weight = s.weight()
	}
	switch {
	case s.order != nil && s.order.Kind == KindSuspend:
		return old.enter(StateSuspended, s.order.String(), now), false
	case s.order != nil:
		return r.drain(old, s, now), false
	case s.fails != "":
		return old.enter(StateFailed, s.fails, now), false
	case !s.known && !old.State.inService() && old.State != StateDraining:
		return old.enter(StateFailed, notProbed, now), false
	}
	switch old.State {
	case StateActive, StateJoining:
		return old, false
	case StateDraining:
		return r.takeBack(old, now), false
	}
	return old, true
}

// drain gives the state of a real that is ordered to drain.
func (r rules) drain(old record, s situation, now time.Time) record {
	deadline := s.order.Deadline
	if deadline.IsZero() {
		deadline = now.Add(r.time)
		if old.State == StateDraining {
			deadline = old.Until
		}
	}
	switch {
	case old.State == StateSuspended:
		return old
	case old.State == "" && !s.known:
		return old.enter(StateSuspended, "drained: it had no flows", now)
	case old.State == StateFailed || s.fails != "":
		return old.enter(StateSuspended, "drained: it could take no flows: "+cmp.Or(s.fails, old.Why), now)
	case !now.Before(deadline):
		why := "drained: the deadline has passed"
		if s.flows.known && s.flows.left > 0 {
			why = fmt.Sprintf("%s with %d flows left", why, s.flows.left)
		}
		return old.enter(StateSuspended, why, now)
	case old.State == StateDraining && s.flows.known && s.flows.zeros >= zerosToFinish:
		return old.enter(StateSuspended, "drained: no flow is left", now)
	}
	switch {
	case old.State == "":
		// nothing is known of its flows: it may have all that it had
		old.Held = old.Weight
	case r.secondChance:
		// what began here since it joined or got more weight is found as a second chance; with tracking it is found in the
		// store of flows, and what is not stored is not here
		old.Held = max(old.Held, old.Weight)
	}
	if old.State != StateDraining {
		old.State, old.Since = StateDraining, now
	}
	old.Why, old.Until = s.order.String(), deadline
	if !old.Follow.IsZero() {
		old.Follow = latest(old.Follow, deadline)
	}
	return old
}

// takeBack gives the state of a draining real whose order was withdrawn. Flows of its slots that began meanwhile are
// elsewhere, and flows from before are still here. A second chance finds both if it looks here first. Tracking has stored
// only those that began meanwhile; the others are found here if the real is the secondary as before.
func (r rules) takeBack(old record, now time.Time) record {
	old.Why, old.Since, old.Until = "the drain was taken back", now, time.Time{}
	switch {
	case r.secondChance:
		old.State, old.Weight, old.Held, old.HeldUntil, old.Until = StateJoining, old.Held, 0, time.Time{}, now.Add(r.time)
	case old.Held == 0:
		old.State, old.Until = StateJoining, now.Add(r.time)
	default:
		old.State = StateActive
		if old.Held != old.Weight && old.HeldUntil.IsZero() {
			old.HeldUntil = now.Add(r.time) // the drain kept it from what more weight had brought it
		}
	}
	return old
}

// promote makes reals active that join a farm in which no real has established flows of its own: the last such real has
// left, and what flows there are, are with those that were joining; or nobody was in service, and there are none.
func (f farmState) promote(was farmState) {
	for _, rec := range f {
		if rec.Held > 0 {
			return
		}
	}
	joined := func(addr netip.Addr) bool { return was[addr].State == StateJoining }
	some := false
	for addr, rec := range f {
		some = some || rec.State == StateJoining && joined(addr)
	}
	for addr, rec := range f {
		if rec.State == StateJoining && (joined(addr) || !some) {
			f[addr] = rec.settle(rec.Since)
		}
	}
}

// furthest gives the record of a peer that has the real in service, of several the one that is furthest in it: where its
// flows are is not ours alone to say.
func furthest(peers []farmState, addr netip.Addr, now time.Time) (best record, ok bool) {
	for _, p := range peers {
		rec := p[addr].at(now)
		if !rec.State.inService() || latest(rec.Until, rec.HeldUntil, rec.Follow).After(now.Add(maxTransition)) {
			continue
		}
		if !ok || rec.State == StateActive && best.State == StateJoining ||
			rec.State == best.State && (rec.Since.Before(best.Since) || rec.Since.Equal(best.Since) && rec.Until.Before(best.Until)) {
			best, ok = rec, true
		}
	}
	return best, ok
}

// agree has reals that join do so as long as they do at the peer that saw them come first.
func (f farmState) agree(peers []farmState, now time.Time) {
	for addr, rec := range f {
		for _, p := range peers {
			if o := p[addr]; rec.State == StateJoining && o.State == StateJoining && pending(o.Until, now) && o.Until.Before(rec.Until) {
				rec.Since, rec.Until = o.Since, o.Until
				f[addr] = rec
			}
		}
	}
}

// weigh takes over what weights are asked for. Changes are gathered: they come into force together, and the next ones when
// the flows of every transition in the farm have had their time, since data paths look for a flow at two reals and not at
// three. What is asked for together with a real that comes, as weigh does for the others of its farm, comes into force with
// it. A real that joins keeps the weight that it came with.
func (r rules) weigh(was, next farmState, is map[netip.Addr]situation, peers []farmState, now time.Time) {
	for addr, rec := range next {
		before := was[addr].at(now)
		if rec.moving(now) && before.moving(now) || rec.State == StateFailed && !is[addr].known && is[addr].fails == "" {
			return
		}
	}
	theirs, end := next.theirs(peers, now), now.Add(r.time)
	if theirs != nil {
		end = theirs.change()
	}
	for addr, rec := range next {
		s := is[addr]
		wanted := s.weight()
		if theirs != nil {
			wanted = theirs[addr].Weight
		}
		if rec.State == StateActive && rec.Weight != wanted {
			rec.Weight, rec.HeldUntil = wanted, end
			next[addr] = rec
		}
	}
}

// theirs gives the records of a peer that is in a change of weights for the same config: what it has asked its agents, we
// need not ask ours.
func (f farmState) theirs(peers []farmState, now time.Time) farmState {
	for _, p := range slices.SortedFunc(slices.Values(peers), func(a, b farmState) int { return a.change().Compare(b.change()) }) {
		same := pending(p.change(), now) && p.change().Before(now.Add(maxTransition))
		for addr, rec := range f {
			if o := p[addr]; rec.State.inService() && o.Base != rec.Base {
				same = false
			}
		}
		if same {
			return p
		}
	}
	return nil
}

// change is when the farm's change of weights ends; zero if there is none.
func (f farmState) change() (end time.Time) {
	for _, rec := range f {
		end = latest(end, rec.HeldUntil)
	}
	return end
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// deadline is when to look again though nothing happens; zero: never.
func (f farmState) deadline(now time.Time) time.Time {
	var soonest time.Time
	for _, rec := range f {
		for _, t := range []time.Time{rec.Until, rec.HeldUntil, rec.Follow} {
			if pending(t, now) && (soonest.IsZero() || t.Before(soonest)) {
				soonest = t
			}
		}
	}
	return soonest
}

// follow marks changes that come while flows of the farm are at two reals of a slot already, or that take such a change
// back. With tracking, the data path has stored flows then that may be at a third real, or in a slot in which primary and
// secondary have become one. They are to be followed in every slot, for as long as what they began in goes on.
//
// A real that joins needs no such mark: it is nobody's secondary, so its slots are in transition.
func (r rules) follow(was, next farmState, now time.Time) {
	if r.secondChance {
		return
	}
	for addr, old := range was {
		old, rec := old.at(now), next[addr]
		if old.State == rec.State {
			continue
		}
		took := old.State.inService() || old.State == StateDraining // flows
		takes := rec.State.inService() || rec.State == StateDraining
		moving, end := next.others(was, addr, now)
		switch {
		case took && !takes && moving: // its slots fall to others
		case old.State.inService() && rec.State == StateDraining && (moving || old.moving(now)):
		case old.State == StateDraining && rec.State == StateActive:
			end = latest(end, now.Add(r.time)) // nothing else says how long
		default:
			continue
		}
		rec.Follow = latest(rec.Follow, end, rec.Until)
		next[addr] = rec
	}
}

// others says whether a real other than that at addr was in transition already, and until when such transitions and those that
// have begun now may go on.
func (f farmState) others(was farmState, addr netip.Addr, now time.Time) (moving bool, end time.Time) {
	for a, rec := range f {
		if a == addr || !rec.State.inService() && rec.State != StateDraining {
			continue
		}
		if old := was[a].at(now); old.moving(now) {
			moving, end = true, latest(end, old.Until, old.HeldUntil)
		}
		end = latest(end, rec.Until, rec.HeldUntil)
	}
	return moving, end
}

// follows says whether stored flows are to be followed in every slot.
func (f farmState) follows(now time.Time) bool {
	for _, rec := range f {
		if pending(rec.Follow, now) {
			return true
		}
	}
	return false
}
