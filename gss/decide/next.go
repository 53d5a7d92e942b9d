package decide

import (
	"slices"
	"time"
)

// decider makes the decisions of one moment.
type decider struct {
	in       *Inputs
	moment   time.Time // by the clock that is never set if the caller has one; to compare with
	now      time.Time // the same to be written down
	was      State
	state    State // the next
	verdicts map[string]AnswerVerdict
	wake     []time.Time
}

// Next decides. It is a function of its arguments, and applied again at the same time to what it gave it changes nothing.
// What is no longer in the config is forgotten.
func Next(was State, in Inputs, now time.Time) (State, Decision) {
	d := &decider{
		in: &in, moment: now, now: now.Round(0).UTC(), was: was, verdicts: map[string]AnswerVerdict{},
		state: State{was.Generation, in.Config.Digest, map[string]AnswerState{}, map[string]RuleState{}},
	}
	for i := range in.Config.Answers {
		a := &in.Config.Answers[i]
		d.state.Answers[a.Name] = was.Answers[a.Name].until(d.now)
		d.judge(a)
	}
	out := Decision{Answers: d.verdicts, Rules: map[string]RuleDecision{}, Drains: map[string]Drain{}}
	changed := len(was.Rules) != len(in.Config.Rules) || was.Digest != in.Config.Digest
	for i := range in.Config.Rules {
		r := &in.Config.Rules[i]
		old, had := was.Rules[r.Name]
		next := d.decide(r, old.until(d.now))
		changed = changed || !had || next.TTL != old.TTL || !slices.EqualFunc(next.Choices, old.Choices, Choice.same)
		d.state.Rules[r.Name] = next
		out.Rules[r.Name] = RuleDecision{next.Choices, next.TTL, next.Since}
	}
	if changed {
		d.state.Generation++
	}
	d.hold(was.Rules)
	d.hold(d.state.Rules)
	for name := range d.verdicts {
		if o := in.Orders[name]; o.Kind == KindDrain || o.Kind == KindSuspend {
			out.Drains[name] = d.drain(name, o)
		}
	}
	out.Generation, out.wake = d.state.Generation, d.wake
	return d.state, out
}

// decide makes the choices of a rule.
func (d *decider) decide(r *Rule, old RuleState) RuleState {
	next := RuleState{Since: old.Since}
	ttl := time.Duration(0)
	for place := range r.places() {
		c, good := d.choose(r, place, old, &next), old.lastGood(place)
		if c.Basis.Works() {
			good = c.Names()
		}
		if place == 0 {
			next.LastGood = good
		} else {
			next.LastNear = append(next.LastNear, good)
		}
		c = d.part(r, place, c)
		next.Choices = append(next.Choices, c)
		if t := r.Clauses[c.Clause].TTL; ttl == 0 || t < ttl {
			ttl = t
		}
	}
	next.TTL = d.ttl(r, ttl)
	if whole, ok := d.state.Rules[r.PartOf]; ok { // what happens to its answers may bring some for this one, or take them
		next.TTL = min(next.TTL, whole.TTL)
	}
	if !slices.EqualFunc(next.Choices, old.Choices, Choice.same) {
		next.Since = d.now
	}
	return next
}

// ttl gives the TTL of a rule's records: short while something is not well, and at the end of a drain such that all that is
// given before it expires with it.
func (d *decider) ttl(r *Rule, ttl time.Duration) time.Duration {
	for i := range r.Clauses {
		c := &r.Clauses[i]
		for _, name := range d.in.Config.group(c.Group).Answers {
			switch v := d.verdicts[name]; v.Place {
			case Out, Waiting, Draining, Hot, Unknown:
				ttl = min(ttl, c.ShortTTL)
			case Serving:
				if len(v.Votes.Doubt) > 0 { // what is given now may be wrong in a moment
					ttl = min(ttl, c.ShortTTL)
				}
			}
			ttl = d.untilDrain(d.state.Answers[name].DrainFrom, ttl)
		}
	}
	return max(time.Second, ttl.Truncate(time.Second))
}

// untilDrain shrinks a TTL as a drain comes near, if one does, such that what is given until the next decision expires by then; but
// for the last second, since no TTL is less than one.
func (d *decider) untilDrain(from time.Time, ttl time.Duration) time.Duration {
	left := from.Sub(d.now)
	if left <= 0 {
		return ttl
	}
	whole := (left - 1).Truncate(time.Second) // at the end of this second of the way there
	if whole >= ttl {
		d.wake = append(d.wake, from.Add(-ttl))
		return ttl
	}
	d.wake = append(d.wake, from.Add(-whole))
	return whole
}

// hold remembers how long resolvers may hold what rules give until or from this moment.
func (d *decider) hold(rules map[string]RuleState) {
	for _, r := range rules {
		hold(d.state.Answers, r.Choices, r.TTL, d.now)
	}
}

// drain says how far the drain of an answer is, by an order to drain or to suspend it.
func (d *decider) drain(answer string, o Order) Drain {
	s := d.state.Answers[answer]
	drain := Drain{Order: o.Since, From: s.DrainFrom, Clear: s.held(), Why: o.String()}
	if o.Kind == KindSuspend {
		drain.From = earlier(o.Since, d.now)
	}
	var rules []string
	for i := range d.in.Config.Rules {
		name := d.in.Config.Rules[i].Name
		if slices.ContainsFunc(d.state.Rules[name].Choices, func(c Choice) bool { return slices.Contains(c.Names(), answer) }) {
			rules = append(rules, name)
		}
	}
	drain.Given = len(rules) > 0
	switch {
	case d.now.Before(drain.From): // what is given in the last moment before it has a TTL of a second
		drain.Clear = later(drain.Clear, drain.From.Add(time.Second))
	case drain.Given: // and has no end
		drain.Only, drain.Clear = rules, time.Time{}
	}
	return drain
}

// each calls f with each clause that may give an answer.
func (d *decider) each(answer string, f func(*Rule, *Clause)) {
	cfg := &d.in.Config
	for i := range cfg.Rules {
		for j := range cfg.Rules[i].Clauses {
			c := &cfg.Rules[i].Clauses[j]
			if slices.Contains(cfg.group(c.Group).Answers, answer) {
				f(&cfg.Rules[i], c)
			}
		}
	}
}
