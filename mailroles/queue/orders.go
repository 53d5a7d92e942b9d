package queue

import (
	"container/heap"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Order is what an operator wants of an entry, or of all.
type Order struct {
	Order string `json:"order"` // flush, hold, release or delete
	ID    string `json:"id"`    // of an entry, or all
	By    string `json:"by,omitempty"`
}

// Ordered is what came of an order.
type Ordered struct {
	Entries int `json:"entries"`        // that were changed
	Left    int `json:"left,omitempty"` // that it did not come to in its time; the same order again goes on with them
}

// ordersAtATime is how many entries are changed at a time, so that one wait for the disk serves many.
const ordersAtATime = 32

// orderTime is how long an order may take. Who gave it waits for no longer than some seconds.
const orderTime = 2 * time.Second

// heldByOrder is why an entry is held that no filter wanted held.
const heldByOrder = "ordered"

// Give carries an order out. What it changes is on disk when it returns.
func (q *Queue) Give(o Order) (Ordered, error) {
	acts := map[string]func(*entry) (bool, error){"flush": q.flush, "hold": q.hold(o.By), "release": q.release, "delete": q.remover}
	act, ok := acts[o.Order]
	if !ok {
		return Ordered{}, fmt.Errorf("no order is called %q; there are flush, hold, release and delete", o.Order)
	}
	until := time.Now().Add(q.orderTime)
	q.mu.Lock()
	var about []*entry
	for id, e := range q.entries {
		if o.ID == "all" || o.ID == id {
			about = append(about, e)
		}
	}
	if o.Order == "flush" && o.ID == "all" {
		q.schedule.forgetDown()
	}
	q.mu.Unlock()
	if o.ID != "all" && len(about) == 0 {
		return Ordered{}, fmt.Errorf("the queue has no entry %q; `anycastle show queue` lists all", o.ID)
	}
	var changed atomic.Int64
	var g errgroup.Group // goes on after an error
	g.SetLimit(ordersAtATime)
	left := 0
	for i, e := range about {
		if time.Now().After(until) {
			left = len(about) - i
			break
		}
		g.Go(func() error {
			did, err := act(e)
			if did && err == nil {
				changed.Add(1)
			}
			return err
		})
	}
	err := g.Wait()
	did := Ordered{Entries: int(changed.Load()), Left: left}
	q.opt.Log.Info("order to the queue", "order", o.Order, "about", o.ID, "by", o.By, "entries", did.Entries, "left", left, "err", err)
	return did, err
}

// flush has an entry be tried now. One that is held is not.
func (q *Queue) flush(e *entry) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	changed := false
	for _, l := range e.Legs {
		ending := l.busy && l.Next.After(now) // its attempt has been counted
		if l.index < 0 && !ending {
			continue
		}
		q.schedule.to(l.Destination).down = time.Time{}
		l.Next, changed = now, true
		if l.index >= 0 {
			heap.Fix(&q.schedule.table, l.index)
		}
	}
	q.poke()
	return changed, nil
}

// hold has nobody try an entry until it is released. An attempt under way goes on.
func (q *Queue) hold(by string) func(*entry) (bool, error) {
	return func(e *entry) (bool, error) {
		q.mu.Lock()
		if e.Held != "" || e.Deleted || q.entries[e.ID] == nil {
			q.mu.Unlock()
			return false, nil
		}
		e.Held = heldByOrder
		if by != "" {
			e.Held += " by " + printable(by)
		}
		q.unplan(e)
		q.mu.Unlock()
		return true, q.save(e)
	}
}

// release undoes hold, also what a filter wanted held. The entry is tried at once.
func (q *Queue) release(e *entry) (bool, error) {
	q.mu.Lock()
	if e.Held == "" || e.Deleted || q.entries[e.ID] == nil {
		q.mu.Unlock()
		return false, nil
	}
	e.Held = ""
	now := time.Now()
	for _, l := range e.Legs {
		if !l.busy {
			l.Next = now
		}
		q.plan(l)
	}
	q.mu.Unlock()
	return true, q.save(e)
}

// remover deletes an entry: at once, or when the attempt that is under way has ended. Its sender is not told.
func (q *Queue) remover(e *entry) (bool, error) {
	e.saving.Lock()
	defer e.saving.Unlock()
	q.mu.Lock()
	gone := q.entries[e.ID] == nil || e.Deleted
	busy := slices.ContainsFunc(e.Legs, func(l *leg) bool { return l.busy })
	if !gone {
		e.Deleted = true
		q.unplan(e)
	}
	q.mu.Unlock()
	switch {
	case gone:
		return false, nil
	case busy: // who is busy ends it; if nobody comes to that, the next start does
		return true, q.write(e)
	}
	err := q.keep.Finish(e.ID, e.Tx != "")
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil { // Run tries again
		l := e.Legs[0]
		l.Next = time.Now().Add(q.backoff(1))
		q.plan(l)
		return true, err
	}
	q.remove(e)
	return true, q.keep.Sync()
}
