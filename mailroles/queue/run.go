package queue

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"anycastle/mailroles/queue/remote"
)

const (
	// grace is how long attempts may go on after the end has been asked for, unless Options say otherwise.
	grace = 5 * time.Second
	// tidyEvery is how often what was remembered is forgotten.
	tidyEvery = time.Minute
)

// Run sends what is due until ctx is done, and lets attempts that are under way go on for Options.Grace, unless somebody else
// has the queue by then. What an attempt that is
// cut off came to is not counted. It may be called again after it has returned.
func (q *Queue) Run(ctx context.Context) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var open sync.WaitGroup
	if q.cache != nil {
		open.Go(func() { q.cache.Run(ctx) })
	}
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	q.tidy(time.Now())
	for ctx.Err() == nil {
		next := q.start(working, &open)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-timer.C:
		case now := <-tidy.C:
			q.tidy(now)
		}
		timer.Stop()
	}
	grace := q.opt.Grace
	if q.keep.Serving() != nil { // another process may send the same by now
		grace = 0
	}
	defer time.AfterFunc(grace, stop).Stop()
	open.Wait()
	return nil
}

const (
	// idle is how long Run sleeps when nothing is planned.
	idle = time.Hour
	// passive is how long Run sleeps while it may not send.
	passive = 100 * time.Millisecond
)

// start starts what is due and may be, and says how long nothing else is.
func (q *Queue) start(ctx context.Context, open *sync.WaitGroup) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.holds > 0 {
			return idle
		}
		if q.keep.Serving() != nil {
			return passive
		}
		l, at := q.schedule.next(time.Now())
		switch {
		case l != nil:
			open.Go(func() { q.work(ctx, l) })
		case at.IsZero():
			return idle
		default:
			return max(time.Until(at), 0)
		}
	}
}

// work does what is due for a leg: an attempt, reports, and the end of its entry.
func (q *Queue) work(ctx context.Context, l *leg) {
	e := l.entry
	err := q.advance(ctx, l)
	if err != nil {
		q.opt.Log.Error("queue entry does not go on", "id", e.ID, "err", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.schedule.ended(l, time.Now())
	l.busy, l.parked = false, true
	if err != nil {
		l.Next = time.Now().Add(q.backoff(max(l.Attempts, 1)))
	}
	switch _, there := q.entries[e.ID]; {
	case !there:
	case e.over():
		if err == nil {
			l.Next = time.Now()
		}
		q.planEnd(l)
	default:
		q.plan(l)
	}
	q.poke()
}

// planEnd plans a leg of an entry that is over, so that it is removed, unless another leg is under way, which then comes here
// itself. The caller holds the lock.
func (q *Queue) planEnd(l *leg) {
	if !slices.ContainsFunc(l.entry.Legs, func(l *leg) bool { return !l.parked }) {
		q.plan(l)
	}
}

// advance does the work of a leg. An error means that it is to be tried again.
func (q *Queue) advance(ctx context.Context, l *leg) error {
	e := l.entry
	q.mu.Lock()
	waiting, deleted, held, dirty := l.waiting(), e.Deleted, e.Held != "" && !e.over(), e.dirty
	q.mu.Unlock()
	if held {
		return nil // since it became due
	}
	if len(waiting) > 0 && !deleted {
		results := q.attemptUnlessDown(ctx, l, waiting)
		dirty = q.settle(ctx, l, waiting, results) || dirty
	}
	if dirty {
		if err := q.save(e); err != nil {
			return err
		}
	}
	if !deleted {
		if err := q.tell(ctx, l); err != nil {
			return err
		}
	}
	return q.finish(e, l)
}

// finish removes an entry that is over, once nobody else works on it.
func (q *Queue) finish(e *entry, mine *leg) error {
	e.saving.Lock()
	defer e.saving.Unlock()
	q.mu.Lock()
	others := slices.ContainsFunc(e.Legs, func(l *leg) bool { return l != mine && l.busy })
	finished := e.over() && !others && q.entries[e.ID] == e
	q.mu.Unlock()
	if !finished {
		return nil
	}
	if err := q.keep.Finish(e.ID, e.Tx != ""); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remove(e)
	return nil
}

// remove takes an entry out of the queue's memory. The caller holds the lock.
func (q *Queue) remove(e *entry) {
	q.unplan(e)
	delete(q.entries, e.ID)
	q.waiting -= e.count()
	if e.Tx != "" {
		q.memory.forget(e)
		q.memory.learn(e, true)
		q.records = append(q.records, record{entry: e, since: time.Now()})
	}
}

// unplan takes the legs of an entry out of the timetable. The caller holds the lock.
func (q *Queue) unplan(e *entry) {
	for _, l := range e.Legs {
		if l.index >= 0 {
			heap.Remove(&q.schedule.table, l.index)
			l.parked = true
		}
	}
}

// tidy forgets transactions that were done some hours ago, or are too many.
func (q *Queue) tidy(now time.Time) {
	if ids := q.forgotten(now); len(ids) > 0 {
		if err := q.keep.Forget(ids...); err != nil { // the next Load comes upon them
			q.opt.Log.Warn("forget transactions", "count", len(ids), "err", err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, d := range q.schedule.destinations {
		if d.active == 0 && len(d.due) == 0 && !d.down.After(now) {
			delete(q.schedule.destinations, name)
		}
	}
}

// forgotten takes out of the memory what is to be forgotten, and gives the ids of that.
func (q *Queue) forgotten(now time.Time) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ids []string
	for len(q.records) > 0 && (len(q.memory) > maxMemory+q.waiting || now.After(q.records[0].since.Add(doneTime))) {
		ids = append(ids, q.records[0].entry.ID)
		q.memory.forget(q.records[0].entry)
		q.records = q.records[1:]
	}
	return ids
}

// attemptUnlessDown tries a leg, unless its destination was found to be down a short time ago by another.
func (q *Queue) attemptUnlessDown(ctx context.Context, l *leg, to []*recipient) []*result {
	q.mu.Lock()
	d := q.schedule.to(l.Destination)
	down, why := d.down.After(time.Now()), d.why
	q.mu.Unlock()
	if down {
		results := make([]*result, len(to))
		for i := range results {
			results[i] = &why
		}
		return results
	}
	start := time.Now()
	results := q.attempt(ctx, l, to)
	q.stats.took(time.Since(start))
	if i := slices.IndexFunc(results, func(r *result) bool { return r.down && r.state == Waiting }); i >= 0 {
		q.mu.Lock()
		d.down, d.why = time.Now().Add(q.opt.Config.RetryMin/2), *results[i]
		d.why.down = false
		q.mu.Unlock()
	}
	return results
}

// settle writes results into a leg, and plans the next attempt. It is false when the attempt does not count: it was cut off by
// the end of the process, or of its right to send, before anybody gave an answer.
func (q *Queue) settle(ctx context.Context, l *leg, to []*recipient, results []*result) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if (ctx.Err() != nil || q.keep.Serving() != nil) && !slices.ContainsFunc(results, func(r *result) bool { return r.state != Waiting }) {
		return false
	}
	l.Attempts++
	end := l.entry.Arrived.Add(q.opt.Config.Life)
	l.Next = earlier(now.Add(q.backoff(l.Attempts)), end) // the last attempt is at the end
	for i, r := range to {
		res := results[i]
		r.State, r.At = res.state, now
		r.Code, r.Status, r.Last, r.Host, r.TLS = res.reply.Code, res.reply.Status, clip(res.reply.Text), clip(res.host), res.tls
		if r.State == Waiting && !now.Before(end) {
			r.State = Expired
		}
		r.Told = r.State != Waiting && !l.entry.owes(r)
		q.count(l.entry, r, res, now)
	}
	if len(l.waiting()) == 0 || wantsFewer(results) {
		l.Next = now // for what is left to do
	}
	return true
}

// wantsFewer says whether a host took the message for some recipients and wants the others in another transaction (RFC 5321
// section 4.5.3.1.10). Each such attempt leaves fewer, so that they end.
func wantsFewer(results []*result) bool {
	taken, fewer := false, false
	for _, r := range results {
		taken = taken || r.state == Delivered || r.state == Relayed
		fewer = fewer || r.state == Waiting && r.reply.Code == 452 && (r.reply.Status == "4.5.3" || r.reply.Status == "")
	}
	return taken && fewer
}

// clip makes a text fit for the envelope.
func clip(s string) string {
	const most = 500
	if len(s) > most {
		s = s[:most] + "..."
	}
	return printable(s)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// owes says whether the sender is to be told of the end of a recipient.
func (e *entry) owes(r *recipient) bool {
	switch {
	case e.From == "": // nobody is told what became of a report (RFC 5321 section 6.1)
		return false
	case r.State == Failed, r.State == Expired:
		return r.wants(notifyFailure)
	}
	return r.State == Relayed
}

// count counts and logs what became of a recipient.
func (q *Queue) count(e *entry, r *recipient, res *result, now time.Time) {
	log := q.opt.Log.With("id", e.ID, "to", r.Address, "host", res.host, "reply", r.reply().String())
	switch r.State {
	case Delivered, Relayed:
		q.stats.delivered(now.Sub(e.Arrived))
		log.Info("message delivered", "tls", r.TLS)
	case Waiting:
		q.stats.deferred(res.reason)
		log.Info("message waits")
	case Expired:
		q.stats.bounced("expired")
		log.Warn("message expired")
	default:
		q.stats.bounced(res.reason)
		log.Info("message refused")
	}
}

// reply gives the last reply about a recipient.
func (r *recipient) reply() remote.Reply {
	return remote.Reply{Code: r.Code, Status: r.Status, Text: r.Last}
}
