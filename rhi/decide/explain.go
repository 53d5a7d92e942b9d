package decide

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Gate is one thing that an announcement depends on.
type Gate struct {
	Name   string
	Holds  bool // nothing in it speaks against the VIP's place at the top
	Detail string
}

// gates lists them in the order in which they are asked. The move is made already.
func (t *turn) gates() []Gate {
	rec, v, cfg := &t.rec, &t.vip, &t.in.Config
	none := Gate{"order", true, "none"}
	if t.order != nil {
		none = Gate{"order", t.order.Kind == KindAnnounce || t.order.Kind == KindActivate, t.order.String()}
	}
	penalty := rec.penaltyAt(cfg.Damping, t.now)
	gates := []Gate{
		none,
		{"lease", t.leased(), fmt.Sprintf("the health engine spoke at %s; %v is allowed", clock(v.Health.Lease), cfg.Lease)},
		{"checked", v.Health.Known, cmp.Or(map[bool]string{true: "health could be checked"}[v.Health.Known], "health cannot be checked, which is not to say that it fails")},
		{"reals", rec.Aim == AimFull, rec.AimWhy},
		{"learn", !t.pending(rec.Learn), "until " + clock(rec.Learn)},
		{"hold-down", !t.pending(t.risesAt()), fmt.Sprintf("until %s; %d flaps so far, each doubles it to %v at most, %v of calm halve it", clock(t.risesAt()), rec.Flaps, cfg.HoldDownMax, cfg.Calm)},
		{"damping", !rec.Parked, fmt.Sprintf("penalty %.0f; parks at %.0f, moves again at %.0f", penalty, cfg.Damping.Park, cfg.Damping.Reuse)},
	}
	back := ""
	if rec.Place.level() >= PlaceParked.level() && !t.needs() {
		back = t.failsBack()
	}
	gates = append(gates, Gate{"fail-back", back == "", cmp.Or(back, "nothing to wait for")})
	for _, name := range t.names() {
		gates = append(gates, Gate{"balancer " + name, t.refusal(name) == "", t.siteLine(name)})
	}
	leave := Gate{"let go", t.lets != "", ""}
	leave.Detail = cmp.Or(map[bool]string{true: t.lets + " holds: it may be withdrawn"}[leave.Holds], "it would stay at the end of the ladder: "+t.whyHeld())
	return append(gates, leave,
		Gate{"cap", t.room > 0, fmt.Sprintf("%d of %d withdrawals for health are left for this minute", max(0, t.room), cfg.Cap)},
		Gate{"sent", !v.Sent.Known || v.Sent.Peers > 0, t.sentText()})
}

func (t *turn) sentText() string {
	if !t.vip.Sent.Known {
		return "the speaker was not read back"
	}
	return fmt.Sprintf("stood announced at %d peers when it was last read back", t.vip.Sent.Peers)
}

// Row is one line of what `explain vip` says.
type Row struct {
	VIP    netip.Prefix
	What   string // a gate, a group, or "place", "alarm"
	Says   string // of a gate "yes" or "no", of a group its rung
	Detail string
}

// Explain says of each VIP where it stands and why, gate by gate. It decides and does nothing.
func Explain(state State, in Inputs, now time.Time) []Row {
	_, ds := Next(state, in, now)
	return ds.Rows()
}

// WhatIf gives what would be decided at once if something were different, such as if all reals of a VIP failed. change
// gets a copy of the inputs.
func WhatIf(state State, in Inputs, change func(*Inputs), now time.Time) Decisions {
	in = in.clone()
	change(&in)
	_, ds := Next(state, in, now)
	return ds
}

// Rows gives the decisions as text, VIP by VIP.
func (ds Decisions) Rows() []Row {
	var rows []Row
	byAddr := func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) }
	for _, prefix := range slices.SortedFunc(maps.Keys(ds.VIPs), byAddr) {
		d := ds.VIPs[prefix]
		rows = append(rows, Row{prefix, "place", string(d.Place), d.Why})
		for _, name := range slices.Sorted(maps.Keys(d.Rungs)) {
			rows = append(rows, Row{prefix, "group " + name, d.Rungs[name].String(), ""})
		}
		for _, g := range d.Gates {
			says := "no"
			if g.Holds {
				says = "yes"
			}
			rows = append(rows, Row{prefix, g.Name, says, g.Detail})
		}
		for _, a := range d.Alarms {
			rows = append(rows, Row{prefix, "alarm", "", a})
		}
	}
	return rows
}
