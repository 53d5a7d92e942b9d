package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"anycastle/internal/mesh"
	"anycastle/internal/strict"
	"anycastle/rhi/decide"
)

const (
	orderPrefix = "order/"
	everyVIP    = "*"
	maxWords    = 200 // bytes of who gave an order, and of why
	maxDrain    = 30 * 24 * time.Hour
)

// Order is an operator's will about the VIPs of a site.
type Order struct {
	Site     string       `json:"site"`              // empty in an order that is given: the balancer's own
	VIP      netip.Prefix `json:"vip,omitzero"`      // zero: all of the site
	Kind     decide.Kind  `json:"kind"`              // announce, drain, withdraw or activate
	Since    time.Time    `json:"since"`             // when it was given; set by the balancer
	Deadline time.Time    `json:"deadline,omitzero"` // of a drain; zero: rhi.gates.drain after Since
	Force    bool         `json:"force,omitempty"`   // do not ask whether another balancer announces
	By       string       `json:"by,omitempty"`
	Why      string       `json:"why,omitempty"`
}

func (o Order) check() error {
	kinds := []decide.Kind{decide.KindAnnounce, decide.KindDrain, decide.KindWithdraw, decide.KindActivate}
	switch {
	case !mesh.ValidName(o.Site):
		return fmt.Errorf("%q is no name of a site", o.Site)
	case o.VIP.IsValid() && o.VIP != o.VIP.Masked():
		return fmt.Errorf("%v is no prefix of a VIP", o.VIP)
	case !slices.Contains(kinds, o.Kind):
		return fmt.Errorf("%q is no order; use one of %q", o.Kind, kinds)
	case o.Since.IsZero() || o.Since.Year() > 9000:
		return fmt.Errorf("given at %v, which is no time of this era", o.Since)
	case !o.Deadline.IsZero() && o.Kind != decide.KindDrain:
		return errors.New("only a drain has a deadline")
	case !o.Deadline.IsZero() && (o.Deadline.Before(o.Since) || o.Deadline.Sub(o.Since) > maxDrain):
		return fmt.Errorf("a deadline at %v; use one within %v of the order", o.Deadline, maxDrain)
	case o.Force && o.Kind != decide.KindDrain && o.Kind != decide.KindWithdraw:
		return errors.New("only a drain or withdraw can be forced")
	}
	for _, text := range []string{o.By, o.Why} {
		if len(text) > maxWords || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("%.20q...: who gave it and why are one line of at most %d bytes each", text, maxWords)
		}
	}
	return nil
}

func (o Order) key() string {
	vip := everyVIP
	if o.VIP.IsValid() {
		vip = o.VIP.String()
	}
	return orderPrefix + o.Site + "/" + vip
}

// Order takes an order and tells the other balancers. The last one about a VIP counts. It gives it as it is kept.
func (i *Injector) Order(o Order) (Order, error) {
	if o.Site == "" {
		o.Site = i.site
	}
	o.Since, o.Deadline = time.Now().UTC().Round(0), o.Deadline.UTC().Round(0)
	if err := o.check(); err != nil {
		return Order{}, err
	}
	if !i.knowsSite(o.Site) {
		return Order{}, fmt.Errorf("no balancer of site %q was heard; there are %q", o.Site, i.siteNames())
	}
	if o.VIP.IsValid() && !i.knowsVIP(o.VIP) {
		return Order{}, fmt.Errorf("no balancer announces %v; `anycastle show announcement` lists what there is", o.VIP)
	}
	text, err := json.Marshal(o)
	if err != nil {
		return Order{}, err
	}
	if err := i.data.Set(o.key(), text); err != nil {
		return Order{}, fmt.Errorf("keep the order: %w", err)
	}
	if !o.VIP.IsValid() { // it is about those VIPs too that had orders of their own
		for key, old := range i.orders() {
			if old.Site == o.Site && old.VIP.IsValid() {
				i.data.Delete(key)
			}
		}
	}
	i.log.Info("order taken", "site", o.Site, "vip", o.VIP, "kind", o.Kind, "force", o.Force, "by", o.By, "why", o.Why)
	return o, nil
}

// orderList are the orders that stand, by key.
type orderList map[string]Order

// Orders gives the orders that stand, by site and VIP.
func (i *Injector) Orders() []Order {
	list := []Order{}
	for _, o := range i.orders() {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b Order) int { return strings.Compare(a.key(), b.key()) })
	return list
}

func (i *Injector) orders() orderList {
	list := orderList{}
	for _, item := range i.data.Snapshot() {
		if !strings.HasPrefix(item.Key, orderPrefix) {
			continue
		}
		o, err := decodeOrder(item.Key, item.Value)
		if err != nil {
			i.log.Debug("an order is not understood, and left alone", "key", item.Key, "by", item.By, "err", err)
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

// of gives the order about a VIP at a site: its own, or the site's if that is newer.
func (l orderList) of(site string, prefix netip.Prefix) *decide.Order {
	own, has := l[Order{Site: site, VIP: prefix}.key()]
	all, hasAll := l[Order{Site: site}.key()]
	if hasAll && (!has || all.Since.After(own.Since)) {
		own, has = all, true
	}
	if !has {
		return nil
	}
	return &decide.Order{Kind: own.Kind, Since: own.Since, Deadline: own.Deadline, Force: own.Force, By: own.By, Why: own.Why}
}
