package decide

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"anycastle/internal/strict"
)

// State is what is to be remembered from one decision to the next. The zero State knows nothing. It may be kept on disk.
type State struct {
	Generation uint64                 `json:"generation"`
	Digest     string                 `json:"digest,omitempty"` // of the config that the generation is of
	Answers    map[string]AnswerState `json:"answers"`
	Rules      map[string]RuleState   `json:"rules"`
}

// AnswerState is what is remembered of an answer.
type AnswerState struct {
	Agreed   View      `json:"agreed"`             // what was agreed last
	AgreedAt time.Time `json:"agreed_at,omitzero"` // when enough vantages were heard last
	Place    Place     `json:"place"`
	Since    time.Time `json:"since,omitzero"`     // of the place
	OutSince time.Time `json:"out_since,omitzero"` // the last time that it went out
	Back     time.Time `json:"back,omitzero"`      // since when it is healthy, while it waits
	Hot      bool      `json:"hot,omitempty"`

	Given     time.Time     `json:"given,omitzero"`      // when a rule gave it so that resolvers hold it the longest
	GivenTTL  time.Duration `json:"given_ttl,omitempty"` // that it was given with then
	DrainOf   time.Time     `json:"drain_of,omitzero"`   // when the order to drain was given that stands
	DrainFrom time.Time     `json:"drain_from,omitzero"` // when it takes effect
}

// held is until when a resolver may hold it; zero: nobody was given it.
func (s *AnswerState) held() time.Time { return s.Given.Add(s.GivenTTL) }

// until has no time in it be later than now: those that are, are of a clock that was set back since.
func (s AnswerState) until(now time.Time) AnswerState {
	for _, t := range []*time.Time{&s.AgreedAt, &s.Since, &s.OutSince, &s.Back, &s.Given} {
		*t = earlier(*t, now)
	}
	return s
}

// keptFor is how long a kept State is worth as much as one that differs by the time alone.
const keptFor = 10 * time.Second

// KeptBy says whether after a restart a State that was kept before is worth as much as s. When enough vantages were heard last,
// which moves with each decision, may differ by a while: what was agreed holds for less than that. When an answer was given last
// does not count while a rule gives it: after a restart it counts as given until then.
func (s State) KeptBy(kept State) bool {
	given := map[string]bool{}
	for _, r := range s.Rules {
		for _, c := range r.Choices {
			for _, share := range c.Shares {
				given[share.Answer] = true
			}
		}
	}
	for name, is := range s.Answers {
		was, has := kept.Answers[name]
		if passed := is.AgreedAt.Sub(was.AgreedAt); passed > 0 && passed < keptFor {
			was.AgreedAt = is.AgreedAt
		}
		if given[name] {
			was.Given, was.GivenTTL = is.Given, is.GivenTTL
		}
		if !has || is != was {
			return false
		}
	}
	return s.Generation == kept.Generation && s.Digest == kept.Digest && len(s.Answers) == len(kept.Answers) &&
		reflect.DeepEqual(s.Rules, kept.Rules)
}

// RuleState is what is remembered of a rule.
type RuleState struct {
	LastGood []string           `json:"last_good"`           // what it was answered with at place 0 when something last worked
	LastNear [][]string         `json:"last_near,omitempty"` // the same at the others, from place 1 on
	Shares   map[string]float64 `json:"shares,omitempty"`
	SharesAt time.Time          `json:"shares_at,omitzero"` // when they last moved
	Choices  []Choice           `json:"choices"`
	TTL      time.Duration      `json:"ttl"`
	Since    time.Time          `json:"since,omitzero"` // of the choices
}

// until is as of an answer.
func (r RuleState) until(now time.Time) RuleState {
	r.SharesAt, r.Since = earlier(r.SharesAt, now), earlier(r.Since, now)
	return r
}

// lastGood is what clients of a place were answered with when something last worked; those of a new one as those of place 0.
func (r *RuleState) lastGood(place int) []string {
	if place > 0 && place <= len(r.LastNear) {
		return r.LastNear[place-1]
	}
	return r.LastGood
}

// Decision is what is answered now.
type Decision struct {
	Generation uint64                   `json:"generation"`
	Answers    map[string]AnswerVerdict `json:"answers"`
	Rules      map[string]RuleDecision  `json:"rules"`
	Drains     map[string]Drain         `json:"drains"` // by answer
	wake       []time.Time
}

// Wake is when to decide again though nothing is heard until then; zero: never.
func (d Decision) Wake(now time.Time) time.Time {
	var soonest time.Time
	for _, t := range d.wake {
		if t.After(now) && (soonest.IsZero() || t.Before(soonest)) {
			soonest = t
		}
	}
	return soonest
}

// AnswerVerdict is where an answer stands.
type AnswerVerdict struct {
	Place    Place     `json:"place"`
	Why      string    `json:"why"`
	Since    time.Time `json:"since,omitzero"`
	Votes    Votes     `json:"votes"`
	Headroom float64   `json:"headroom"` // of its capacity, 0 to 1; 1 when no balancer says
	Loaded   bool      `json:"loaded"`   // a balancer says
}

// RuleDecision is what a rule is answered with.
type RuleDecision struct {
	Choices []Choice      `json:"choices"` // by place of the client; at least one
	TTL     time.Duration `json:"ttl"`     // whole seconds, at least one
	Since   time.Time     `json:"since,omitzero"`
}

// Choice is what clients of one place are answered with.
type Choice struct {
	Clause int     `json:"clause"` // from 0, by which it was chosen
	Basis  Basis   `json:"basis"`
	Method Method  `json:"method"`
	Count  int     `json:"count"`  // how many of Shares a client is given
	Shares []Share `json:"shares"` // in order; at least one
	Why    string  `json:"why"`
}

// Share is an answer and the share of clients that it is for, in thousandths of all. With ordered and nearest the first has all.
type Share struct {
	Answer string `json:"answer"`
	Of1000 int    `json:"of_1000"`
}

// same says whether clients are given the same.
func (c Choice) same(o Choice) bool {
	return c.Basis == o.Basis && c.Method == o.Method && c.Count == o.Count && slices.Equal(c.Shares, o.Shares)
}

// Names gives the answers of the choice, in order.
func (c Choice) Names() []string {
	names := make([]string, len(c.Shares))
	for i, s := range c.Shares {
		names[i] = s.Answer
	}
	return names
}

// Basis is what a choice rests on.
type Basis string

// The bases of a choice, from the best on.
const (
	ByHealth   Basis = "health"      // answers that serve
	ByHot      Basis = "hot"         // none serves that is not nearly full
	ByWaiting  Basis = "waiting"     // none serves, but some wait to fail back
	ByDraining Basis = "draining"    // none works but those that are to drain
	LastGood   Basis = "last-good"   // none works; what was given when one last did
	WholeGroup Basis = "whole-group" // none works and none is known to have
)

// Works says whether the answers are believed to work.
func (b Basis) Works() bool { return b != LastGood && b != WholeGroup }

// Drain is how far an answer's drain is. One that is suspended drains too, of what was given before.
type Drain struct {
	Order time.Time `json:"order"`          // when it was given
	From  time.Time `json:"from"`           // the answer is given until then
	Given bool      `json:"given"`          // a rule gives it at this moment
	Clear time.Time `json:"clear,omitzero"` // no resolver that honours TTLs holds it after that
	Only  []string  `json:"only,omitempty"` // rules that have nothing else that works, and so keep giving it
	Why   string    `json:"why"`
}

// Done says whether no resolver can hold the answer any more.
func (d Drain) Done(now time.Time) bool { return !d.Given && !now.Before(d.Clear) }

// DecodeState reads a State that was written as JSON. What does not look like one is refused.
func DecodeState(text []byte) (State, error) {
	var s State
	if err := strict.Unmarshal(text, &s); err != nil {
		return State{}, err
	}
	for name, r := range s.Rules {
		for _, c := range r.Choices {
			if len(c.Shares) == 0 || c.Count < 1 || c.Count > len(c.Shares) || c.Clause < 0 || c.Clause >= MaxClauses {
				return State{}, fmt.Errorf("rule %q has a choice of nothing", name)
			}
		}
		for answer, share := range r.Shares {
			if !(share >= 0 && share <= 1) {
				return State{}, fmt.Errorf("rule %q has a share of %v for %q", name, share, answer)
			}
		}
	}
	return s, nil
}
