package decide

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Votes is what the vantages say of an answer.
type Votes struct {
	Known   int      `json:"known"`   // vantages that there should be
	Heard   int      `json:"heard"`   // of them, lately
	Passing []string `json:"passing"` // vantages that see it pass
	Failing []string `json:"failing"`
	Doubt   []string `json:"doubt"` // those whose last probe failed
	Why     string   `json:"why"`   // what one of the failing says
	Own     View     `json:"own"`
	Quorum  bool     `json:"quorum"` // more than half are heard
}

// count takes the votes about an answer.
func (d *decider) count(answer string) Votes {
	in := d.in
	v := Votes{Known: len(in.Vantages), Passing: []string{}, Failing: []string{}, Doubt: []string{}}
	for _, name := range slices.Sorted(maps.Keys(in.Vantages)) {
		vantage := in.Vantages[name]
		if name != in.Self && !d.fresh(vantage.Heard, in.Config.Vote.Fresh) {
			continue
		}
		v.Heard++
		seen := vantage.Answers[answer]
		switch seen.View {
		case Passing:
			v.Passing = append(v.Passing, name)
		case Failing:
			v.Failing = append(v.Failing, name)
		}
		if seen.Failed && seen.View != NoView {
			v.Doubt = append(v.Doubt, name)
		}
		if seen.View == Failing && (v.Why == "" || name == in.Self) {
			v.Why = seen.Why
		}
		if name == in.Self {
			v.Own = seen.View
		}
	}
	v.Quorum = 2*v.Heard > v.Known
	return v
}

// agree gives what the vantages agree on, from what they agreed on before.
func (d *decider) agree(a *AnswerState, v Votes) (view View, why string) {
	voters := len(v.Passing) + len(v.Failing)
	if v.Quorum {
		switch {
		case 2*len(v.Failing) > voters:
			a.Agreed = Failing
		case 2*len(v.Passing) > voters:
			a.Agreed = Passing
		case a.Agreed == NoView && voters > 0: // a tie, and nothing before it
			a.Agreed = Passing
		}
		if voters > 0 {
			a.AgreedAt = d.now
		}
		return a.Agreed, v.say(a.Agreed)
	}
	if !a.AgreedAt.IsZero() && d.pending(later(a.AgreedAt, d.lost()).Add(d.in.Config.Vote.Hold)) {
		return a.Agreed, fmt.Sprintf("only %d of %d vantages are heard; what was agreed last holds for a moment: %s",
			v.Heard, v.Known, a.Agreed)
	}
	if v.Own != NoView {
		a.Agreed = v.Own
	}
	return a.Agreed, fmt.Sprintf("only %d of %d vantages are heard; by the own probes: %s", v.Heard, v.Known, v.own())
}

// lost is since when too few vantages are heard: when the last of those that a majority takes fell silent.
func (d *decider) lost() time.Time {
	var until []time.Time
	for name, v := range d.in.Vantages {
		if name != d.in.Self && !d.ahead(v.Heard) {
			until = append(until, v.Heard.Add(d.in.Config.Vote.Fresh))
		}
	}
	slices.SortFunc(until, func(a, b time.Time) int { return b.Compare(a) })
	if others := len(d.in.Vantages) / 2; others <= len(until) { // that make a majority with this one
		return until[others-1]
	}
	return time.Time{}
}

func (v Votes) own() string {
	if v.Own == Failing && v.Why != "" {
		return "failing, " + v.Why
	}
	if v.Own == NoView {
		return "not probed yet"
	}
	return string(v.Own)
}

// say puts the votes into words.
func (v Votes) say(view View) string {
	switch {
	case len(v.Passing)+len(v.Failing) == 0:
		return "not probed yet"
	case len(v.Failing) == 0:
		return fmt.Sprintf("passes from %s", strings.Join(v.Passing, ", "))
	}
	text := fmt.Sprintf("fails from %s (%s)", strings.Join(v.Failing, ", "), v.Why)
	if len(v.Passing) == 0 {
		return text
	}
	text += fmt.Sprintf(", passes from %s", strings.Join(v.Passing, ", "))
	if len(v.Passing) == len(v.Failing) {
		text += fmt.Sprintf("; a tie changes nothing: %s", view)
	}
	return text
}

// balancers is what the balancers of an answer say together.
type balancers struct {
	heard    int
	out      bool // all that are heard say so
	draining bool // all that are heard say so
	used     float64
	capacity float64
	why      string
}

// reports sums up the reports about an answer that still count.
func (d *decider) reports(answer string) balancers {
	b := balancers{out: true, draining: true}
	for _, r := range d.in.Reports[answer] {
		if !d.fresh(r.At, d.in.Config.Load.Fresh) {
			continue
		}
		b.heard++
		b.out = b.out && r.Out
		b.draining = b.draining && r.Draining
		if r.Out && b.why == "" {
			b.why = r.From + " says " + r.Why
		}
		if r.Capacity > 0 && !r.Out {
			b.used, b.capacity = b.used+r.Used, b.capacity+r.Capacity
		}
	}
	if b.heard == 0 {
		b.out, b.draining = false, false
	}
	return b
}

// skew is how far ahead of now something may be heard: while a decision is made, the others talk on.
const skew = time.Second

// ahead says whether a time is later than now: the clock was set back since.
func (d *decider) ahead(t time.Time) bool { return t.After(d.moment.Add(skew)) }

// fresh says whether what was heard at a time counts, as it does for a while.
func (d *decider) fresh(heard time.Time, while time.Duration) bool {
	return !d.ahead(heard) && d.pending(heard.Add(while))
}

// pending says whether a time has not come, and if so, has the decider look again when it does.
func (d *decider) pending(t time.Time) bool {
	if !d.moment.Before(t) {
		return false
	}
	d.wake = append(d.wake, t)
	return true
}
