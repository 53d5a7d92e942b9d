package decide

import (
	"fmt"
	"time"
)

// Place is where an answer stands.
type Place string

// The places; see the package comment.
const (
	Serving   Place = "serving"
	Hot       Place = "hot"
	Waiting   Place = "waiting"
	Draining  Place = "draining"
	Out       Place = "out"
	Suspended Place = "suspended"
	Unknown   Place = "unknown"
)

// Places are all places.
func Places() []Place { return []Place{Serving, Hot, Waiting, Draining, Out, Suspended, Unknown} }

// judge says where an answer stands.
func (d *decider) judge(a *Answer) {
	s := d.state.Answers[a.Name]
	votes, said := d.count(a.Name), d.reports(a.Name)
	v := AnswerVerdict{Votes: votes, Headroom: 1}
	view, why := d.agree(&s, votes)
	v.Place, v.Why = Serving, why
	switch {
	case said.out && len(votes.Doubt) > 0:
		v.Place = Out
		witness := votes.Doubt[0]
		v.Why = fmt.Sprintf("%s, and the probe from %s agrees: %s", said.why, witness, d.in.Vantages[witness].Answers[a.Name].Why)
	case view == Failing:
		v.Place = Out
	case view == NoView:
		v.Place = Unknown
	}
	d.comeBack(a, &s, &v)
	if said.capacity > 0 {
		v.Loaded, v.Headroom = true, max(0, 1-said.used/said.capacity)
	}
	d.heat(&s, &v)
	d.obey(a, said, &s, &v)
	if s.Place != v.Place {
		s.Place, s.Since = v.Place, d.now
	}
	v.Since = s.Since
	d.state.Answers[a.Name], d.verdicts[a.Name] = s, v
}

// comeBack has an answer that was out wait before it serves again.
func (d *decider) comeBack(a *Answer, s *AnswerState, v *AnswerVerdict) {
	if v.Place == Out {
		if s.OutSince.IsZero() || !s.Back.IsZero() {
			s.OutSince = d.now
		}
		s.Back = time.Time{}
		return
	}
	if v.Place != Serving || s.OutSince.IsZero() {
		return
	}
	if s.Back.IsZero() {
		s.Back = d.now
	}
	activated := d.in.Orders[a.Name].Kind == KindActivate && d.in.Orders[a.Name].Since.After(s.OutSince)
	switch ends := s.Back.Add(a.FailBack); {
	case activated:
	case d.pending(ends):
		v.Place = Waiting
		v.Why = fmt.Sprintf("healthy since %s; serves again at %s", clock(s.Back), clock(ends))
		return
	case a.Manual:
		v.Place = Waiting
		v.Why = fmt.Sprintf("healthy since %s; fails back by hand: `anycastle activate answer %s`", clock(s.Back), a.Name)
		return
	}
	s.OutSince, s.Back = time.Time{}, time.Time{}
}

// heat says whether an answer that serves is nearly full. What it was counts on until the load is below the lower threshold.
func (d *decider) heat(s *AnswerState, v *AnswerVerdict) {
	load, used := d.in.Config.Load, 1-v.Headroom
	switch {
	case !v.Loaded:
		s.Hot = false
	case used >= load.Enter:
		s.Hot = true
	case used < load.Leave:
		s.Hot = false
	}
	if s.Hot && v.Place == Serving {
		v.Place = Hot
		v.Why = fmt.Sprintf("%.0f %% of its capacity is in use; hot from %.0f %% until below %.0f %%",
			100*used, 100*load.Enter, 100*load.Leave)
	}
}

// obey has orders and drains of balancers count.
func (d *decider) obey(a *Answer, said balancers, s *AnswerState, v *AnswerVerdict) {
	order, pending := d.in.Orders[a.Name], false
	if order.Kind == KindDrain {
		s.DrainFrom = d.drainFrom(a.Name, order, s, v.Place)
		s.DrainOf, pending = order.Since, d.pending(s.DrainFrom)
	} else {
		s.DrainOf, s.DrainFrom = time.Time{}, time.Time{}
	}
	switch {
	case order.Kind == KindSuspend:
		v.Place, v.Why = Suspended, order.String()
	case v.Place == Out || v.Place == Unknown:
	case order.Kind == KindDrain && !pending:
		v.Place, v.Why = Draining, order.String()
	case order.Kind != KindDrain && said.draining:
		v.Place, v.Why = Draining, "its balancers drain"
	}
}

// drainFrom is when an answer is no longer given: when the answers that were given before the order, or before it went out, have
// expired everywhere. What was said once stands unless it can be sooner, so that nobody is given it anew.
func (d *decider) drainFrom(answer string, o Order, s *AnswerState, p Place) time.Time {
	last := earlier(o.Since, d.now)
	if p == Out {
		last = earlier(last, s.OutSince)
	}
	from := later(o.Start, last.Add(d.longest(answer)))
	if !s.DrainFrom.IsZero() && (s.DrainOf.Equal(o.Since) || o.Start.IsZero()) {
		from = earlier(from, s.DrainFrom)
	}
	return from
}

// longest is the longest TTL that any rule gives an answer.
func (d *decider) longest(answer string) (ttl time.Duration) {
	d.each(answer, func(_ *Rule, c *Clause) { ttl = max(ttl, c.TTL) })
	return ttl
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05") }
