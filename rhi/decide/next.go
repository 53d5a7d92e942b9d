package decide

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Decisions are what a site does now.
type Decisions struct {
	VIPs map[netip.Prefix]Decision
	wake []time.Time // when something ends by itself
	now  time.Time
}

// Decision is what is done with one VIP.
type Decision struct {
	Rungs  map[string]Rung // by group
	Place  Place
	Cause  Cause  // if it is withdrawn
	Why    string // in one line
	Gates  []Gate
	Alarms []string // what somebody should look at
	Report Report   // to be told to the other sites once the rungs stand
}

// Deadline is when to look again though nothing is heard until then; zero: never.
func (ds Decisions) Deadline(now time.Time) time.Time {
	var soonest time.Time
	for _, t := range ds.wake {
		if t.After(now) && (soonest.IsZero() || t.Before(soonest)) {
			soonest = t
		}
	}
	return soonest
}

// decider makes the decisions of one moment.
type decider struct {
	in   *Inputs
	now  time.Time
	room int // withdrawals for health that the cap leaves
	wake []time.Time
}

// pending says whether a time has not come, and if so, has the decider look again when it does.
func (d *decider) pending(t time.Time) bool {
	if !d.now.Before(t) {
		return false
	}
	d.wake = append(d.wake, t)
	return true
}

// Next decides. It is a function of its arguments, and applied again at the same time to what it gave it changes nothing.
// VIPs that are not in the inputs any more are forgotten; to stop announcing them is the caller's.
func Next(was State, in Inputs, now time.Time) (State, Decisions) {
	now = now.Round(0).UTC()
	d := &decider{in: &in, now: now, room: in.Config.Cap}
	turns := []*turn{}
	prefixes := map[*turn]netip.Prefix{}
	for prefix, v := range in.VIPs {
		old, had := was[prefix]
		t := &turn{decider: d, vip: v, order: cmp.Or(v.Order, in.Order), rec: old.clone()}
		t.begin(had)
		t.judge()
		turns, prefixes[t] = append(turns, t), prefix
	}
	for _, rec := range was {
		if d.pending(rec.withdrewUntil()) {
			d.room--
		}
	}
	// who has waited longest for the cap's room gets it first
	slices.SortFunc(turns, func(a, b *turn) int {
		p, q := prefixes[a], prefixes[b]
		return cmp.Or(a.rec.AimSince.Compare(b.rec.AimSince), p.Addr().Compare(q.Addr()), p.Bits()-q.Bits())
	})
	next, ds := State{}, Decisions{VIPs: map[netip.Prefix]Decision{}, now: now}
	for _, t := range turns {
		ds.VIPs[prefixes[t]] = t.decide()
		next[prefixes[t]] = t.rec
	}
	ds.wake = d.wake
	return next, ds
}

// withdrewUntil is until when the last withdrawal for health counts against the cap.
func (r Record) withdrewUntil() time.Time {
	if r.Withdrew.IsZero() {
		return time.Time{}
	}
	return r.Withdrew.Add(capWindow)
}

// turn is one VIP in the decisions of one moment.
type turn struct {
	*decider
	vip    VIP
	order  *Order
	rec    Record // of before, until the turn is done
	goal   goal
	lets   string // the other site that lets this one be withdrawn; empty: none
	alarms []string
}

// goal is where a VIP is to go, if nothing keeps it.
type goal struct {
	place  Place
	cause  Cause
	why    string
	pinned bool // by an order to announce: up at once
}

func (t *turn) alarm(text string) { t.alarms = append(t.alarms, text) }

// begin makes the record one of this process. What an earlier one announced fell with its sessions, and what it was
// granted is void: so a state that is lost, or older than it should be, is never worse than a late one.
func (t *turn) begin(had bool) {
	rec, boot := &t.rec, t.in.Boot.Round(0).UTC()
	if had && rec.Boot.Equal(boot) {
		return
	}
	if had && rec.Place != PlaceWithdrawn {
		rec.penalise(t.in.Config.Damping, t.in.Config.Damping.Withdraw, t.now)
	}
	rec.Place, rec.Cause, rec.Since, rec.Why = PlaceWithdrawn, CauseStart, t.now, "it was not announced yet"
	rec.Rungs, rec.Boot, rec.Learn = nil, boot, t.now.Add(t.in.Config.Learn)
	rec.Aim, rec.AimSince, rec.AimWhy, rec.Fell = "", t.now, "", t.now
	rec.Drained, rec.By = time.Time{}, ""
	rec.Said.Want, rec.Said.Needs, rec.Said.Holds = 0, false, nil
}

// decide moves the VIP and gives what is to be done.
func (t *turn) decide() Decision {
	t.activate()
	t.unpark()
	t.goal = t.aimFor()
	t.lets = t.carrier()
	place, cause, why := t.place()
	t.move(place, cause, why)
	t.unpark()
	t.report()
	return Decision{
		Rungs: maps.Clone(t.rec.Rungs), Place: place, Cause: cause, Why: t.rec.Why,
		Gates: t.gates(), Alarms: t.alarms, Report: t.rec.Said.clone(),
	}
}

// activate carries out an order to do so, once.
func (t *turn) activate() {
	if t.order.is(KindActivate) && t.order.Since.After(t.rec.Again) {
		t.rec.Again = t.order.Since.Round(0).UTC()
		t.rec.Penalty, t.rec.PenaltyAt, t.rec.Parked = 0, time.Time{}, false
		t.rec.Hold, t.rec.HoldAt = 0, time.Time{}
	}
}

// aimFor says where the VIP is to go.
func (t *turn) aimFor() goal {
	switch o := t.order; {
	case o.is(KindAnnounce):
		return goal{place: PlaceFull, why: o.String(), pinned: true}
	case t.rec.Place == PlaceWithdrawn && o.is(KindDrain):
		t.rec.Drained = o.Since.Round(0).UTC() // there is nothing to drain
	}
	if t.rec.Place == PlaceWithdrawn && t.rec.Cause == CauseStart && t.pending(t.rec.Learn) {
		return goal{place: PlaceWithdrawn, cause: CauseStart, why: "it learns what is in service until " + clock(t.rec.Learn)}
	}
	switch o := t.order; {
	case o.is(KindWithdraw):
		return t.out(o, o.String())
	case o.is(KindDrain):
		return t.drain(o)
	case t.rec.Aim == AimOut:
		return goal{place: PlaceWithdrawn, cause: CauseHealth, why: t.rec.AimWhy}
	case t.rec.Aim == AimDegraded:
		return goal{place: PlaceDegraded, why: t.rec.AimWhy}
	}
	return goal{place: PlaceFull, why: t.rec.AimWhy}
}

// out is the goal of an order that ends with a withdraw.
func (t *turn) out(o *Order, why string) goal {
	cause := CauseOrder
	if o.Force {
		cause = CauseForce
	}
	return goal{place: PlaceWithdrawn, cause: cause, why: why}
}

// drain waits low on the ladder until no flow is left.
func (t *turn) drain(o *Order) goal {
	if t.rec.Drained.Equal(o.Since) {
		return t.out(o, o.String()+": drained")
	}
	deadline := o.Deadline
	if deadline.IsZero() {
		deadline = o.Since.Add(t.in.Config.Drain)
	}
	begun := latest(o.Since, t.rec.Since)
	if t.rec.Place.level() < PlaceDraining.level() {
		begun = t.now
	}
	late := !t.pending(deadline)
	empty := t.vip.Flows.Known && t.vip.Flows.Left == 0
	if late || empty && !t.pending(begun.Add(t.in.Config.Settle)) {
		t.rec.Drained = o.Since.Round(0).UTC()
		return t.out(o, o.String()+": drained")
	}
	return goal{place: PlaceDraining, why: o.String()}
}

// move puts the VIP at a place and keeps the account of what the peers see of that.
func (t *turn) move(place Place, cause Cause, why string) {
	rec, old := &t.rec, t.rec.Place
	rungs := map[string]Rung{}
	withdraws, changes := false, false
	for _, g := range t.in.Config.Groups {
		now := g.rung(place, t.vip.Role)
		was, had := rec.Rungs[g.Name]
		rungs[g.Name] = now
		if had && was != now && was != Withdrawn {
			changes = true
			withdraws = withdraws || now == Withdrawn
		}
	}
	damping := t.in.Config.Damping
	switch {
	case withdraws:
		rec.penalise(damping, damping.Withdraw, t.now)
	case changes:
		rec.penalise(damping, damping.Change, t.now)
	}
	if place != old {
		rec.Since = t.now
		if place.level() >= PlaceParked.level() && old.level() < PlaceParked.level() && cause != CauseOrder && cause != CauseForce {
			rec.Fell = t.now
		}
	}
	rec.Place, rec.Cause, rec.Why, rec.Rungs = place, cause, oneLine(why), rungs
	rec.By = ""
	if place == PlaceWithdrawn {
		rec.By = t.lets
	}
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }
