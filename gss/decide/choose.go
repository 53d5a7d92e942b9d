package decide

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// tier is a sort of answers that a rule falls back on, and what a choice of them rests on.
type tier struct {
	place Place
	basis Basis
}

// tiers are in the order in which they are tried; each goes through all clauses before the next is tried.
func tiers() []tier {
	return []tier{{Serving, ByHealth}, {Hot, ByHot}, {Waiting, ByWaiting}, {Draining, ByDraining}}
}

// choose makes the choice of a rule for clients of a place.
func (d *decider) choose(r *Rule, place int, old RuleState, next *RuleState) Choice {
	for _, t := range tiers() {
		for i := range r.Clauses {
			names := d.at(r.Clauses[i].Group, t.place)
			if len(names) == 0 {
				continue
			}
			c := d.balance(&r.Clauses[i], place, names, old, next)
			c.Clause, c.Basis, c.Why = i, t.basis, d.why(r, i, t)
			return c
		}
	}
	return d.lastResort(r, old.lastGood(place))
}

// at gives the answers of a group that stand at one of some places.
func (d *decider) at(group string, places ...Place) (names []string) {
	for _, name := range d.in.Config.group(group).Answers {
		if slices.Contains(places, d.verdicts[name].Place) {
			names = append(names, name)
		}
	}
	return names
}

// lastResort is the choice when nothing works: what was given when something last did, as far as it is in the rule's groups
// still and not suspended; else the whole of the first group that has more than suspended ones.
func (d *decider) lastResort(r *Rule, lastGood []string) Choice {
	c := Choice{Method: Ordered, Basis: LastGood}
	names := slices.DeleteFunc(d.allowed(lastGood), func(name string) bool { return !d.gives(r, name) })
	c.Why = "nothing works; what was answered when something last did: "
	if len(names) == 0 {
		c.Basis, c.Why = WholeGroup, "nothing works, and nothing is known to have: "
		c.Clause, names = d.wholeGroup(r)
	}
	c.Count, c.Shares = len(names), even(names)
	c.Why += d.list(r)
	return c
}

// wholeGroup gives the first clause with answers that are not suspended, and those; if all are, the whole first group.
func (d *decider) wholeGroup(r *Rule) (clause int, names []string) {
	for i := range r.Clauses {
		if names = d.allowed(d.in.Config.group(r.Clauses[i].Group).Answers); len(names) > 0 {
			return i, names
		}
	}
	clause = slices.IndexFunc(r.Clauses, func(c Clause) bool { return len(d.in.Config.group(c.Group).Answers) > 0 })
	return clause, d.in.Config.group(r.Clauses[clause].Group).Answers
}

// part is the choice of a rule that may be part of another: its own, unless that does not work, or drains, and the other's does
// better. Then clients find none of these records: better than those of an answer that is dead or about to go, since the other
// records lead them to one that works.
func (d *decider) part(r *Rule, place int, own Choice) Choice {
	whole := d.state.Rules[r.PartOf].Choices
	if place >= len(whole) || own.Basis.Works() && own.Basis != ByDraining {
		return own
	}
	c := whole[place]
	if !c.Basis.Works() || c.Basis == own.Basis {
		return own
	}
	c.Why = fmt.Sprintf("%s, so there is none of this family: %s", d.list(r), c.Why)
	return c
}

// gives says whether a rule may be answered with an answer.
func (d *decider) gives(r *Rule, answer string) bool {
	return slices.ContainsFunc(r.Clauses, func(c Clause) bool { return slices.Contains(d.in.Config.group(c.Group).Answers, answer) })
}

// allowed are those of the answers that exist and are not suspended.
func (d *decider) allowed(names []string) (allowed []string) {
	for _, name := range names {
		if v, ok := d.verdicts[name]; ok && v.Place != Suspended {
			allowed = append(allowed, name)
		}
	}
	return allowed
}

// why says how a rule came to a clause and a tier.
func (d *decider) why(r *Rule, clause int, t tier) string {
	group := r.Clauses[clause].Group
	text := fmt.Sprintf("clause %d: %s of group %s", clause+1, r.Clauses[clause].Method, group)
	if t.place != Serving {
		text += fmt.Sprintf(", of those that are %s, as none serves", t.place)
	}
	var others []string
	for i := range r.Clauses[:clause+1] {
		for _, name := range d.in.Config.group(r.Clauses[i].Group).Answers {
			v := d.verdicts[name]
			if is := fmt.Sprintf("%s is %s (%s)", name, v.Place, v.Why); v.Place != t.place && !slices.Contains(others, is) {
				others = append(others, is)
			}
		}
	}
	if len(others) > 0 {
		text += "; " + strings.Join(others, "; ")
	}
	return text
}

// list says why none of a rule's answers works.
func (d *decider) list(r *Rule) string {
	var all []string
	for i := range r.Clauses {
		for _, name := range d.in.Config.group(r.Clauses[i].Group).Answers {
			text := fmt.Sprintf("%s is %s (%s)", name, d.verdicts[name].Place, d.verdicts[name].Why)
			if !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
	}
	return strings.Join(all, "; ")
}

// balance applies the balance method of a clause to answers, which are in the order of their group.
func (d *decider) balance(c *Clause, place int, names []string, old RuleState, next *RuleState) Choice {
	out := Choice{Method: c.Method, Count: min(c.count(), len(names))}
	switch c.Method {
	case Nearest:
		names = slices.Clone(names)
		slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(c.near(place, d.site(a)), c.near(place, d.site(b))) })
		out.Shares = first(names[:out.Count])
	case RoundRobin:
		out.Shares = even(names)
	case Weighted, Hashed:
		out.Shares = toShares(names, d.weights(names, false))
	case LeastLoaded:
		out.Shares = d.leastLoaded(c, names, old, next)
		out.Count = min(c.count(), len(out.Shares))
	default:
		out.Shares = first(names[:out.Count])
	}
	return out
}

func (d *decider) answer(name string) *Answer {
	answers := d.in.Config.Answers
	return &answers[slices.IndexFunc(answers, func(a Answer) bool { return a.Name == name })]
}

func (d *decider) site(name string) string { return d.answer(name).Site }
