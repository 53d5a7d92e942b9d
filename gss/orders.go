package gss

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"anycastle/gss/decide"
	"anycastle/internal/strict"
)

const (
	orderPrefix = "order/"
	maxWords    = 256  // bytes of who gave an order, and of why
	maxYear     = 2261 // of a time in an order; after it nanoseconds since 1970, as in tellings, do not fit
)

// Order is an operator's will about an answer, or about all answers of a site.
type Order struct {
	Kind   decide.Kind `json:"kind"`
	Answer string      `json:"answer,omitempty"` // or
	Site   string      `json:"site,omitempty"`
	Since  time.Time   `json:"since"`
	Start  time.Time   `json:"start,omitzero"` // of a drain: not before; zero: as soon as it can be
	By     string      `json:"by,omitempty"`
	Why    string      `json:"why,omitempty"`
}

func (o Order) key() string {
	if o.Answer != "" {
		return orderPrefix + "answer/" + o.Answer
	}
	return orderPrefix + "site/" + o.Site
}

func (o Order) check() error {
	switch {
	case !slices.Contains([]decide.Kind{decide.KindSuspend, decide.KindDrain, decide.KindActivate}, o.Kind):
		return fmt.Errorf("no order is called %q; there are suspend, drain and activate", o.Kind)
	case (o.Answer == "") == (o.Site == ""):
		return errors.New("an order is about an answer or about a site")
	case !objectName.MatchString(o.Answer + o.Site):
		return fmt.Errorf("%q is no name", o.Answer+o.Site)
	case o.Since.Unix() <= 0 || o.Since.Year() > maxYear:
		return fmt.Errorf("given at %v, which is no time of this era", o.Since)
	case o.Kind != decide.KindDrain && !o.Start.IsZero():
		return errors.New("only a drain may begin later")
	case o.Start.Year() > maxYear:
		return fmt.Errorf("it begins at %v, which is no time of this era", o.Start)
	}
	for _, text := range []string{o.By, o.Why} {
		if len(text) > maxWords || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("%.20q...: who gave it and why are one line of at most %d bytes each", text, maxWords)
		}
	}
	return nil
}

// Taken is an order as it is kept.
type Taken struct {
	Order
	Stood      bool     `json:"stood,omitempty"`        // it was given before, and keeps its times
	NotInForce []string `json:"not_in_force,omitempty"` // for which answers, and why
	Alone      []string `json:"alone,omitempty"`        // rules for which nothing works but what is taken away
}

// order takes an order. Of those about an answer the last one counts, and of those about a site. It gives it as it is kept; but
// where an order stands about what the config has no more, one to activate removes it.
func (e *engine) order(o Order) (Taken, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now, orders, config := time.Now().UTC().Round(0), e.orders(), &e.next.config
	o.Since, o.Start = now, o.Start.UTC().Round(0)
	for _, other := range orders {
		if !o.Since.After(other.Since) { // a fast clock has stamped it
			o.Since = other.Since.Add(1)
		}
	}
	if err := o.check(); err != nil {
		return Taken{}, err
	}
	old, stands := orders[o.key()]
	if err := config.knows(o); err != nil {
		if o.Kind != decide.KindActivate || !stands {
			return Taken{}, err
		}
		e.data.Delete(o.key())
		e.log.Info("order about nothing removed", o.attrs()...)
		return Taken{Order: o}, nil
	}
	taken := Taken{Order: o}
	if stands && old.covers(o, config.longest(o)) {
		taken.Order, taken.Stood = old.again(o), true
	}
	text, err := json.Marshal(taken.Order)
	if err != nil {
		return Taken{}, err
	}
	if err := e.data.Set(o.key(), text); err != nil {
		return Taken{}, fmt.Errorf("keep the order: %w", err)
	}
	if !taken.Stood {
		e.came[o.key()] = sighting{o.Since, now}
	}
	e.log.Info("order taken", o.attrs()...)
	all := e.orders()
	taken.NotInForce, taken.Alone = config.notInForce(taken.Order, all), e.alone(taken.Order, all)
	return taken, nil
}

// attrs are what there is to log of the order.
func (o Order) attrs() []any {
	attrs := []any{"kind", o.Kind}
	if !o.Start.IsZero() {
		attrs = append(attrs, "start", o.Start)
	}
	for _, a := range [][2]string{{"answer", o.Answer}, {"site", o.Site}, {"by", o.By}, {"why", o.Why}} {
		if a[1] != "" {
			attrs = append(attrs, a[0], a[1])
		}
	}
	return attrs
}

// covers says whether a new order asks for nothing that the order does not: it is the same, or a drain that takes effect no sooner.
// longest is the longest TTL of the answers.
func (o Order) covers(again Order, longest time.Duration) bool {
	return o.Kind == again.Kind && o.Kind != decide.KindActivate && !again.begins(longest).Before(o.begins(longest))
}

// begins is when a drain takes effect: when what was given before the order has expired everywhere.
func (o Order) begins(longest time.Duration) time.Time {
	if from := o.Since.Add(longest); o.Start.Before(from) {
		return from
	}
	return o.Start
}

// again gives the order with who gave it again, and why, if that is told.
func (o Order) again(again Order) Order {
	if again.Why != "" {
		o.By, o.Why = again.By, again.Why
	}
	return o
}

// isAbout says whether the order is about an answer, or its site.
func (o Order) isAbout(a *Answer) bool {
	return o.Answer == a.Name || o.Site != "" && o.Site == a.site()
}

// longest is the longest TTL that any rule gives an answer that the order is about.
func (c *Config) longest(o Order) (ttl time.Duration) {
	for i := range c.Rules {
		for _, cl := range c.Rules[i].Clauses {
			one := Rule{Clauses: []Clause{cl}}
			if slices.ContainsFunc(c.answersOf(&one), o.isAbout) {
				ttl = max(ttl, cl.TTL)
			}
		}
	}
	return ttl
}

// knows is nil if there is what an order is about.
func (c *Config) knows(o Order) error {
	var answers []string
	for i := range c.Answers {
		answers = append(answers, c.Answers[i].Name)
	}
	switch sites := c.sites(); {
	case o.Answer != "" && !slices.Contains(answers, o.Answer):
		return fmt.Errorf("no answer is called %q%s", o.Answer, suggest(o.Answer, answers))
	case o.Site != "" && !slices.Contains(sites, o.Site):
		return fmt.Errorf("no answer is at a site %q%s", o.Site, suggest(o.Site, sites))
	}
	return nil
}

// sighting is when an order was seen first, by the clock here.
type sighting struct {
	Since time.Time `json:"since"` // the stamp of the order
	At    time.Time `json:"at"`
}

// sight gives when an order of a stamp was seen first, and whether that is now. The caller holds mu.
func (e *engine) sight(key string, since, now time.Time) (at time.Time, first bool) {
	came, known := e.came[key]
	if first = !known || !came.Since.Equal(since); first {
		came = sighting{since, now.UTC().Round(0)}
		e.came[key] = came
	}
	return came.At, first
}

// maxFast is how far ahead of the clock here the one that stamps an order may be.
const maxFast = 5 * time.Second

// heed gives an order as it is obeyed: one that a fast clock has stamped, from when it came on. The caller holds mu.
func (e *engine) heed(o Order, now time.Time) decide.Order {
	since := o.Since
	at, first := e.sight(o.key(), since, now)
	ahead := since.Sub(at)
	if first && ahead > maxFast {
		e.log.Warn("an order comes from the future: set the clock of that site selector, or of this one",
			"answer", o.Answer, "site", o.Site, "by", o.By, "ahead", ahead.Round(time.Second))
	}
	if ahead > maxFast {
		since = at
	}
	return decide.Order{Kind: o.Kind, Since: since, Start: o.Start, By: o.By, Why: o.Why}
}

// orderList are the orders that stand, by key.
type orderList map[string]Order

func (e *engine) orders() orderList {
	list := orderList{}
	for _, item := range e.data.Snapshot() {
		if !strings.HasPrefix(item.Key, orderPrefix) {
			continue
		}
		o, err := decodeOrder(item.Key, item.Value)
		if err != nil {
			e.log.Debug("an order is not understood, and left alone", "key", item.Key, "by", item.By, "err", err)
			continue
		}
		list[item.Key] = o
	}
	return list
}

func decodeOrder(key string, text []byte) (Order, error) {
	var o Order
	if err := strict.Unmarshal(text, &o); err != nil {
		return Order{}, err
	}
	if err := o.check(); err != nil {
		return Order{}, err
	}
	if o.key() != key {
		return Order{}, fmt.Errorf("it stands under %q", key)
	}
	return o, nil
}

// of gives the order about an answer: of its own and its site's the one that asks for more, so that nobody gives an answer again by an
// order about the other. Of two drains that is the one that takes effect first, and of two other orders of a kind the newer.
func (l orderList) of(c *Config, a *Answer) (Order, bool) {
	own, has := l[Order{Answer: a.Name}.key()]
	site, siteHas := l[Order{Site: a.site()}.key()]
	kinds := []decide.Kind{decide.KindActivate, decide.KindDrain, decide.KindSuspend} // each asks for more than that before it
	less := cmp.Compare(slices.Index(kinds, own.Kind), slices.Index(kinds, site.Kind))
	if own.Kind == decide.KindDrain && less == 0 {
		longest := c.longest(own)
		less = site.begins(longest).Compare(own.begins(longest))
	}
	if siteHas && cmp.Or(less, own.Since.Compare(site.Since)) < 0 {
		return site, true
	}
	return own, has
}
