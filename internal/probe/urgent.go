package probe

import (
	"container/heap"
	"time"
)

// ProbeNow has targets probed at once, beside their turns, since something else than a probe has cast doubt on them. One that
// fails is probed again a tenth of its interval later, until its fail count decides; one that passes waits for its turn, and
// is not doubted again within an interval: whoever doubts all the time does no more than double the probes. Names that are no
// target are left out.
func (r *Runner) ProbeNow(names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Since(r.start)
	for _, name := range names {
		e := r.entries[name]
		if e == nil || e.calm > now {
			continue
		}
		e.urgent, e.calm = e.target.Config.Fail, now+e.target.Config.Interval
		if e.index < 0 {
			continue // the probe that runs is as good as one that begins now
		}
		if e.due > now {
			e.turn, e.due = e.due, now
			heap.Fix(&r.queue, e.index)
		}
	}
	r.hurry()
}

// advance makes the entry due after a probe. It keeps its place however long that took; of the probes that were missed
// one is made up for.
func (e *entry) advance(now time.Duration) {
	if e.turn == 0 { // it was one of its turn
		gap := e.gap()
		e.turn = e.due + gap
		if late := now - e.turn; late > 0 {
			e.turn += late / gap * gap
		}
	}
	e.urgent = max(0, e.urgent-1)
	if soon := now + e.target.Config.Interval/10; e.urgent > 0 && soon < e.turn {
		e.due = soon
		return
	}
	e.due, e.turn = e.turn, 0
}
