package decide

import "fmt"

// place says where on the ladder the VIP goes now: to its goal, or as near to it as it may.
func (t *turn) place() (Place, Cause, string) {
	switch t.goal.place {
	case PlaceWithdrawn:
		return t.leave()
	case PlaceDraining:
		return lower(t.rec.Place, PlaceDraining), CauseNone, t.goal.why
	}
	return t.rise()
}

// leave withdraws the VIP if another site lets it go. If not, it stays announced where the fewest come.
func (t *turn) leave() (Place, Cause, string) {
	g, cur := t.goal, t.rec.Place
	switch {
	case g.cause == CauseForce:
		t.alarm("withdrawn by force: whether another balancer announces it was not asked")
		return PlaceWithdrawn, g.cause, g.why
	case g.cause == CauseStart:
		return PlaceWithdrawn, g.cause, g.why
	case t.lets == "":
		t.alarm("held at the end of the ladder, no other balancer lets it go: " + t.whyHeld())
		place := PlaceLast
		if g.cause == CauseHealth && t.rec.Parked && cur.level() <= PlaceParked.level() {
			place = PlaceParked
		}
		return place, CauseNone, g.why + "; held: " + t.whyHeld()
	case cur == PlaceWithdrawn || g.cause == CauseOrder:
		return PlaceWithdrawn, g.cause, fmt.Sprintf("%s; %s holds", g.why, t.lets)
	case t.rec.Parked:
		return t.park(g.why)
	case t.room <= 0 || t.pending(t.rec.withdrewUntil()):
		t.alarm(fmt.Sprintf("held as degraded: the cap of %d VIPs withdrawn for health within %v is reached", t.in.Config.Cap, capWindow))
		if cur.level() < PlaceDegraded.level() && !t.mayChange(t.in.Config.Damping.Change) {
			return t.park(g.why)
		}
		return lower(cur, PlaceDegraded), CauseNone, g.why + "; held: the cap on withdrawals is reached"
	case !t.mayChange(t.in.Config.Damping.Withdraw):
		return t.park(g.why)
	}
	t.room--
	t.rec.Withdrew = t.now
	return PlaceWithdrawn, g.cause, fmt.Sprintf("%s; %s holds", g.why, t.lets)
}

// rise brings the VIP to an upper place: down to degraded at once, up when nothing speaks against it.
func (t *turn) rise() (Place, Cause, string) {
	g, cur, change := t.goal, t.rec.Place, t.in.Config.Damping.Change
	switch {
	case g.pinned || cur == g.place:
		return g.place, CauseNone, g.why
	case cur.level() < g.place.level():
		if !t.mayChange(change) {
			return t.park(g.why)
		}
		return g.place, CauseNone, g.why
	}
	if t.rec.Parked && cur != PlaceWithdrawn {
		return t.park(g.why)
	}
	if why := t.holdsDown(); why != "" {
		return t.wait(why)
	}
	if t.rec.Parked {
		return t.park(g.why)
	}
	if why := t.failsBack(); why != "" && cur.level() >= PlaceParked.level() {
		if cur == PlaceWithdrawn && !t.viaLast() {
			return t.wait(why)
		}
		if cur == PlaceWithdrawn {
			cur = PlaceLast // made, before the other's is broken
		}
		return cur, CauseNone, why
	}
	if cur != PlaceWithdrawn && !t.mayChange(change) {
		return t.park(g.why)
	}
	return g.place, CauseNone, g.why
}

// park keeps the VIP low, where it moves no more until its penalty has fallen.
func (t *turn) park(why string) (Place, Cause, string) {
	cur := t.rec.Place
	if cur == PlaceWithdrawn {
		cur = PlaceParked
	}
	t.rec.Parked = true
	t.alarm("parked: it flaps, and an upstream could damp it if it went on")
	return lower(cur, PlaceParked), CauseNone, why + "; parked until its penalty has fallen"
}

// wait keeps the VIP where it is. Withdrawn, it may be so only while another site lets it go.
func (t *turn) wait(why string) (Place, Cause, string) {
	switch {
	case t.rec.Place != PlaceWithdrawn:
		return t.rec.Place, CauseNone, why
	case t.lets == "":
		t.alarm("announced at the end of the ladder, no other balancer lets it stay withdrawn: " + t.whyHeld())
		if t.rec.Parked {
			_, _, why = t.park(t.goal.why)
		}
		return PlaceLast, CauseNone, why
	case t.rec.Cause == CauseForce || t.rec.Cause == CauseStart:
		return PlaceWithdrawn, CauseHealth, why
	}
	return PlaceWithdrawn, t.rec.Cause, why
}

// holdsDown says why health does not let the VIP rise yet; empty: it does.
func (t *turn) holdsDown() string {
	switch at := t.risesAt(); {
	case !t.checked():
		return "it rises when health can be checked again"
	case t.pending(at):
		return fmt.Sprintf("health is back; held down until %s after %d flaps", clock(at), t.rec.Flaps)
	}
	return ""
}

// viaLast says whether a withdrawn VIP that comes back is announced at the end of the ladder first: if it may not stay
// withdrawn, and else unless the change to its place after that would be one too many for an upstream. Then it waits where
// it is.
func (t *turn) viaLast() bool {
	d := t.in.Config.Damping
	return t.lets == "" || !t.pending(t.rec.falls(d, d.Park-d.Change))
}

// failsBack says what a VIP that comes back waits for while another site has the traffic; empty: nothing.
func (t *turn) failsBack() string {
	out := t.rec.Place == PlaceWithdrawn
	other, unseen := "", ""
	for _, name := range t.names() {
		if !t.healthy(name) {
			continue
		}
		other = name
		if sees, known := t.vip.Sites[name].Report.Sees[t.in.Site]; known && !sees && !(out && !t.viaLast()) {
			unseen = name
		}
	}
	ready := latest(t.rec.Since, t.risesAt())
	if out && t.viaLast() {
		ready = t.now
	}
	forgiven := !t.rec.Again.IsZero() && !t.rec.Again.Before(t.rec.Fell)
	switch at := ready.Add(t.in.Config.Failback); {
	case other == "":
		return ""
	case unseen != "":
		return fmt.Sprintf("comes back: waits until %s sees its route", unseen)
	case t.in.Config.ManualFailback && t.vip.Role == Primary && !forgiven:
		return fmt.Sprintf("comes back when it is ordered to activate; %s has the traffic", other)
	case !forgiven && t.pending(at):
		return fmt.Sprintf("comes back at %s; %s has the traffic until then", clock(at), other)
	}
	return ""
}
