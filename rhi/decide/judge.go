package decide

import (
	"fmt"
	"math"
	"time"
)

// judge takes over what health says.
func (t *turn) judge() {
	aim, why := t.health()
	rec := &t.rec
	rec.AimWhy = oneLine(why)
	if aim == rec.Aim {
		return
	}
	if rec.Aim != "" && aim.level() > rec.Aim.level() {
		hold := t.holdDown(t.now)
		rec.Hold, rec.HoldAt = min(max(2*hold, t.in.Config.HoldDown), t.in.Config.HoldDownMax), t.now
		rec.Flaps++
	}
	if rec.Aim != "" || aim != AimOut {
		rec.AimSince = t.now
	}
	rec.Aim = aim
}

// health gives the place that health alone would give the VIP.
func (t *turn) health() (Aim, string) {
	h := t.vip.Health
	switch {
	case !t.leased():
		return AimOut, "the health engine hangs: its lease ended at " + clock(h.Lease.Add(t.in.Config.Lease))
	case !h.Known && (t.rec.Aim == "" || t.rec.Aim == AimOut):
		return AimOut, "health cannot be checked, and the VIP was not known to be fit before"
	case !h.Known:
		return t.rec.Aim, "health cannot be checked now; the last that was known counts"
	}
	some := fmt.Sprintf("%d of %d reals in service, %.0f%% of the capacity", h.InService, h.Reals, 100*h.Share)
	if h.Of != "" {
		some = h.Of + ": " + some
	}
	switch {
	case h.InService < 1 || !t.vip.Min.metBy(h):
		return AimOut, some + t.vip.Min.wanted()
	case !t.vip.Full.metBy(h):
		return AimDegraded, some + t.vip.Full.wanted()
	}
	return AimFull, some
}

// leased says whether the health engine has said lately that it is there. A lease from the future says nothing.
func (t *turn) leased() bool {
	lease := t.vip.Health.Lease
	return !lease.IsZero() && !lease.After(t.now.Add(t.in.Config.Lease)) && t.pending(lease.Add(t.in.Config.Lease))
}

// checked says whether health is known now and good enough to be announced.
func (t *turn) checked() bool { return t.leased() && t.vip.Health.Known && t.rec.Aim != AimOut }

func (m Minimum) metBy(h Health) bool { return h.InService >= m.Count && !(h.Share < m.Share) }

func (m Minimum) wanted() string {
	switch {
	case m.Share > 0 && m.Count > 0:
		return fmt.Sprintf("; wanted: %d, and %.0f%%", m.Count, 100*m.Share)
	case m.Share > 0:
		return fmt.Sprintf("; wanted: %.0f%%", 100*m.Share)
	}
	return fmt.Sprintf("; wanted: %d", max(1, m.Count))
}

// holdDown is the hold-down that is left of the last flap's at a time: calm halves it, and below what it begins with it is
// forgotten.
func (t *turn) holdDown(at time.Time) time.Duration {
	hold, calm := t.rec.Hold, t.in.Config.Calm
	if hold == 0 || calm <= 0 {
		return hold
	}
	for passed := at.Sub(t.rec.HoldAt); passed >= calm && hold > 0; passed -= calm {
		hold /= 2
	}
	if hold < t.in.Config.HoldDown {
		return 0
	}
	return min(hold, t.in.Config.HoldDownMax)
}

// risesAt is when health has lasted long enough for the VIP to rise.
func (t *turn) risesAt() time.Time { return t.rec.AimSince.Add(t.holdDown(t.rec.AimSince)) }

// penalise adds to the account of what an upstream thinks of us.
func (r *Record) penalise(d Damping, by float64, now time.Time) {
	r.Penalty, r.PenaltyAt = min(r.penaltyAt(d, now)+by, d.Reuse*math.Exp2(maxPark)), now
}

// penaltyAt is what is left of the penalty at a time.
func (r *Record) penaltyAt(d Damping, now time.Time) float64 {
	if passed := now.Sub(r.PenaltyAt); r.Penalty > 0 && passed > 0 && d.HalfLife > 0 {
		return r.Penalty * math.Exp2(-float64(passed)/float64(d.HalfLife))
	}
	return r.Penalty
}

// falls is when the penalty has fallen to a value.
func (r *Record) falls(d Damping, to float64) time.Time {
	if r.Penalty <= to {
		return r.PenaltyAt
	}
	halves := math.Log2(r.Penalty / to)
	return r.PenaltyAt.Add(time.Duration(math.Ceil(halves * float64(d.HalfLife))))
}

// mayChange says whether a change of that penalty keeps the account below the point at which the VIP is parked.
func (t *turn) mayChange(by float64) bool {
	d := t.in.Config.Damping
	return t.rec.penaltyAt(d, t.now)+by < d.Park
}

// unpark brings the mark of a parked VIP in line with its penalty.
func (t *turn) unpark() {
	d := t.in.Config.Damping
	switch {
	case t.rec.penaltyAt(d, t.now) >= d.Park:
		t.rec.Parked = true
	case t.rec.Parked:
		t.rec.Parked = t.pending(t.rec.falls(d, d.Reuse))
	}
}

// maxWhy bounds a reason, which an operator's words may be part of.
const maxWhy = 400

// oneLine keeps a reason to one line of a bounded length.
func oneLine(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if len(out) == maxWhy {
			break
		}
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		out = append(out, r)
	}
	return string(out)
}

// clock says a time of day as others can compare it.
func clock(t time.Time) string { return t.UTC().Format("15:04:05Z") }
