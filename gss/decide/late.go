package decide

import (
	"maps"
	"slices"
	"time"
)

// Late gives a state and the decision that came with it as they are where the replies of an earlier decision, was, are given
// until now, as making those of d takes a while. It is to be called when d's are given at last. It changes none of its arguments.
func Late(s State, d, was Decision, now time.Time) (State, Decision) {
	now = now.Round(0).UTC()
	s.Answers, d.Drains = maps.Clone(s.Answers), maps.Clone(d.Drains)
	for _, r := range was.Rules {
		hold(s.Answers, r.Choices, r.TTL, now)
	}
	for name, drain := range d.Drains {
		answer := s.Answers[name]
		d.Drains[name] = drain.until(answer.held())
	}
	return s, d
}

// hold remembers how long resolvers may hold what a rule gives until or from now.
func hold(answers map[string]AnswerState, choices []Choice, ttl time.Duration, now time.Time) {
	for _, c := range choices {
		for _, share := range c.Shares {
			s, ok := answers[share.Answer]
			if ok && !now.Add(ttl).Before(s.held()) {
				s.Given, s.GivenTTL = now, ttl
				answers[share.Answer] = s
			}
		}
	}
}

// Drain says how far the drain of an answer is while the replies of an earlier decision, was, are given still; false: it does not
// drain.
func (d Decision) Drain(answer string, was Decision, now time.Time) (drain Drain, ok bool) {
	drain, ok = d.Drains[answer]
	for _, r := range was.Rules {
		if ok && slices.ContainsFunc(r.Choices, func(c Choice) bool { return slices.Contains(c.Names(), answer) }) {
			drain = drain.until(now.Round(0).UTC().Add(r.TTL))
			drain.Given = true
		}
	}
	return drain, ok
}

// until gives a drain where resolvers may hold the answer until a time. One without end stays so.
func (d Drain) until(held time.Time) Drain {
	if len(d.Only) == 0 {
		d.Clear = later(d.Clear, held)
	}
	return d
}
