package gss

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"anycastle/gss/decide"
)

// OrderStatus is an order to drain or suspend that stands, and how far it is if it is one to drain.
type OrderStatus struct {
	Order
	Void       bool           `json:"void,omitempty"` // the config has nothing any more that it is about
	Answers    []AnswerDrain  `json:"answers,omitempty"`
	Others     []VantageDrain `json:"others,omitempty"`       // how far the other GSSes are
	NotInForce []string       `json:"not_in_force,omitempty"` // for which answers, and why
}

// AnswerDrain is how far the drain of an answer is.
type AnswerDrain struct {
	Answer string `json:"answer"`
	decide.Drain
	Done bool `json:"done"` // no resolver that honours TTLs holds it any more
}

// Orders gives the orders that stand, by what they are about. One to activate has undone others, and does not stand.
func (g *GSS) Orders() []OrderStatus {
	e := g.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	list, orders, config, now := []OrderStatus{}, e.orders(), &e.next.config, time.Now()
	vantages := e.vantages(now)
	for _, o := range orders {
		if o.Kind == decide.KindActivate {
			continue
		}
		s := OrderStatus{Order: o, Void: config.knows(o) != nil, NotInForce: config.notInForce(o, orders)}
		if o.Kind == decide.KindDrain {
			s.Answers, s.Others = e.answerDrains(o, orders, now), e.elsewhere(o, vantages, now)
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b OrderStatus) int { return cmp.Compare(a.key(), b.key()) })
	return list
}

// notInForce says for which of its answers another order counts instead of an order, and which.
func (c *Config) notInForce(o Order, all orderList) (list []string) {
	for i := range c.Answers {
		a := &c.Answers[i]
		if !o.isAbout(a) {
			continue
		}
		switch other, ok := all.of(c, a); {
		case !ok || other.key() == o.key() || other.Kind == decide.KindActivate:
		case o.Answer != "":
			list = append(list, fmt.Sprintf("%s of site %s counts; `anycastle activate site %[2]s` undoes it", other.Kind, other.Site))
		default:
			list = append(list, fmt.Sprintf("%s: %s of the answer counts; `anycastle activate answer %[1]s` undoes it", a.Name, other.Kind))
		}
	}
	return list
}

// answerDrains says how far an order to drain is with each of its answers, by the order about it that counts; nothing if the last
// decision has not taken all of them. The caller holds mu.
func (e *engine) answerDrains(o Order, orders orderList, now time.Time) (list []AnswerDrain) {
	config := &e.next.config
	for i := range config.Answers {
		a := &config.Answers[i]
		if !o.isAbout(a) {
			continue
		}
		by, _ := orders.of(config, a)
		d, ok := e.drain(a.Name, now)
		if !ok || !d.Order.Equal(e.heed(by, now).Since) {
			return nil
		}
		list = append(list, AnswerDrain{a.Name, d, d.Done(now)})
	}
	return list
}

// alone gives the rules for which nothing works but what an order takes away, or another did. The caller holds mu.
func (e *engine) alone(o Order, all orderList) (rules []string) {
	if o.Kind == decide.KindActivate || e.last.Generation == 0 {
		return nil
	}
	c := &e.next.config
	for i := range c.Rules {
		answers := c.answersOf(&c.Rules[i])
		others := slices.ContainsFunc(answers, func(a *Answer) bool {
			by, ok := all.of(c, a)
			held := ok && by.Kind != decide.KindActivate
			return !held && slices.Contains([]decide.Place{decide.Serving, decide.Hot, decide.Waiting}, e.last.Answers[a.Name].Place)
		})
		if !others && slices.ContainsFunc(answers, o.isAbout) {
			rules = append(rules, c.Rules[i].Name)
		}
	}
	return rules
}
