package transfer

import (
	"errors"
	"fmt"
	"iter"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
)

// ErrMismatch says that increments do not fit the version that they are to be applied to.
var ErrMismatch = errors.New("the increments do not fit what we have")

// change is what becomes of one record.
type change struct {
	gone  bool   // is deleted from what there was
	found bool   // and was there
	added dns.RR // is in the new version, of what there was not; nil: it is not
}

// changes are what becomes of records, by recordKey.
type changes struct {
	of     map[string]*change
	owners map[string]bool // of them, canonical
	order  []*change
}

// apply gives the records of the version that deltas make of a zone. It fails if they delete what is not there or add what is.
func apply(z *zone.Zone, deltas []Delta) (iter.Seq[dns.RR], error) {
	c := changes{of: map[string]*change{}, owners: map[string]bool{}}
	serial := z.Serial()
	for _, d := range deltas {
		if d.From.Serial != serial {
			return nil, fmt.Errorf("%w: they begin with serial %d, and we have %d", ErrMismatch, d.From.Serial, serial)
		}
		serial = d.To.Serial
		if err := c.add(d); err != nil {
			return nil, err
		}
	}
	for rr := range z.All(nil) {
		if err := c.meet(rr); err != nil {
			return nil, err
		}
	}
	for _, one := range c.order {
		if one.gone && !one.found {
			return nil, fmt.Errorf("%w: they delete a record that we have not", ErrMismatch)
		}
	}
	return func(yield func(dns.RR) bool) {
		if !yield(deltas[len(deltas)-1].To) {
			return
		}
		for rr := range z.All(nil) {
			if rr.Header().Rrtype != dns.TypeSOA && c.find(rr) == nil && !yield(rr) {
				return
			}
		}
		for _, one := range c.order {
			if one.added != nil && !yield(one.added) {
				return
			}
		}
	}, nil
}

// add takes in the next delta.
func (c *changes) add(d Delta) error {
	of := func(rr dns.RR) *change {
		owner, key := recordKey(rr)
		one := c.of[key]
		if one == nil {
			one = &change{}
			c.of[key], c.owners[owner] = one, true
			c.order = append(c.order, one)
		}
		return one
	}
	for _, rr := range d.Del {
		switch one := of(rr); {
		case one.added != nil:
			one.added = nil
		case one.gone:
			return fmt.Errorf("%w: they delete twice %s", ErrMismatch, rr)
		default:
			one.gone = true
		}
	}
	for _, rr := range d.Add {
		one := of(rr)
		if one.added != nil {
			return fmt.Errorf("%w: they add twice %s", ErrMismatch, rr)
		}
		one.added = rr
	}
	return nil
}

// find gives what becomes of a record that there was; nil: it stays. Most owners have no change, so that is looked at first.
func (c *changes) find(rr dns.RR) *change {
	if !c.owners[rr.Header().Name] {
		return nil
	}
	_, key := recordKey(rr)
	return c.of[key]
}

// meet takes note that there was a record.
func (c *changes) meet(rr dns.RR) error {
	if rr.Header().Rrtype == dns.TypeSOA {
		return nil
	}
	switch one := c.find(rr); {
	case one == nil:
	case one.gone:
		one.found = true
	default: // added, or added and deleted again
		return fmt.Errorf("%w: they add, and we have, %s", ErrMismatch, rr)
	}
	return nil
}

// recordKey gives the canonical owner of a record, and what is equal for two records that are the same but for their TTL.
func recordKey(rr dns.RR) (owner, key string) {
	h := rr.Header()
	spelt, ttl := h.Name, h.Ttl
	owner = dns.CanonicalName(spelt)
	h.Name, h.Ttl = ".", 0
	wire := make([]byte, dns.Len(rr)+1)
	n, err := dns.PackRR(rr, wire, 0, nil, false)
	h.Name, h.Ttl = spelt, ttl
	if err != nil {
		return owner, owner + " " + rr.String() // zone refuses it with a better word
	}
	return owner, owner + " " + string(wire[:n])
}
