package lb

import "time"

// orderDelay is how long after it was given an order comes into force at a site with several LBs: by then all have heard of
// it. A flow that began at an LB that knew of a drain, and goes on at one that does not, would be sent to the wrong real.
const orderDelay = time.Second

// heldOrder is an order that other LBs may not have heard of yet.
type heldOrder struct {
	order Order
	due   time.Time // when it comes into force
}

// holdBack gives the orders that are in force now, of those that are stored, and those that will be. was is what was in
// force, held what was held back. A suspend is not held back: it breaks flows in any case. The clocks of LBs are taken to be
// right to a fraction of orderDelay; one that is ahead has an order wait from when it is heard of, and no longer.
func holdBack(was, stored map[realID]Order, held map[realID]heldOrder, others bool, now time.Time) (map[realID]Order, map[realID]heldOrder) {
	orders, still := map[realID]Order{}, map[realID]heldOrder{}
	for id, o := range stored {
		old, had := was[id]
		h, heard := held[id]
		if !heard || h.order != o {
			h = heldOrder{o, sooner(o.Since, now).Add(orderDelay)}
		}
		if !others || o.Kind == KindSuspend || had && old == o || over(h.due, now) {
			orders[id] = o
			continue
		}
		still[id] = h
		if had {
			orders[id] = old
		}
	}
	return orders, still
}

// nextDue gives when the next of the orders comes into force, or the zero time.
func nextDue(held map[realID]heldOrder) (due time.Time) {
	for _, h := range held {
		due = sooner(due, h.due)
	}
	return due
}
