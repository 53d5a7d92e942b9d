package gss

import (
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
	maxYear     = 9000 // of a time in an order; JSON has none after 9999
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
	case o.Since.IsZero() || o.Since.Year() > maxYear:
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

// order takes an order. The last one about an answer, or about its site, counts. It gives it as it is kept; but where an order
// stands about what the config has no more, one to activate removes it.
func (e *engine) order(o Order) (Order, error) {
	o.Since, o.Start = time.Now().UTC().Round(0), o.Start.UTC().Round(0)
	if err := o.check(); err != nil {
		return Order{}, err
	}
	e.mu.Lock()
	config := &e.next.config
	e.mu.Unlock()
	var answers []string
	for i := range config.Answers {
		answers = append(answers, config.Answers[i].Name)
	}
	_, stands := e.orders()[o.key()]
	switch sites := config.sites(); {
	case slices.Contains(answers, o.Answer) || slices.Contains(sites, o.Site):
	case o.Kind == decide.KindActivate && stands:
		e.data.Delete(o.key())
		e.log.Info("order about nothing removed", "answer", o.Answer, "site", o.Site, "by", o.By, "why", o.Why)
		return o, nil
	case o.Answer != "":
		return Order{}, fmt.Errorf("no answer is called %q%s", o.Answer, suggest(o.Answer, answers))
	default:
		return Order{}, fmt.Errorf("no answer is at a site %q%s", o.Site, suggest(o.Site, sites))
	}
	text, err := json.Marshal(o)
	if err != nil {
		return Order{}, err
	}
	if err := e.data.Set(o.key(), text); err != nil {
		return Order{}, fmt.Errorf("keep the order: %w", err)
	}
	e.log.Info("order taken", "answer", o.Answer, "site", o.Site, "kind", o.Kind, "start", o.Start, "by", o.By, "why", o.Why)
	return o, nil
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

// of gives the order about an answer: its own, or its site's if that is newer.
func (l orderList) of(a *Answer) (decide.Order, bool) {
	own, has := l[Order{Answer: a.Name}.key()]
	site, siteHas := l[Order{Site: a.site()}.key()]
	if siteHas && (!has || site.Since.After(own.Since)) {
		own, has = site, true
	}
	return decide.Order{Kind: own.Kind, Since: own.Since, Start: own.Start, By: own.By, Why: own.Why}, has
}
