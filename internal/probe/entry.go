package probe

import (
	"context"
	"math"
	"time"
)

const (
	// settleIn is how many of a target's first gaps are longer than its interval by up to a tenth. The first probes of
	// all targets start within a tenth of the interval; after these gaps their places are spread over all of it.
	settleIn = 9
	// steady is how many passes in a row make a target fit for its slow interval.
	steady = 20
)

// entry is a target in a Runner, whose mutex guards it.
type entry struct {
	target  Target
	probe   Func
	counter Counter
	advice  Advice
	due     time.Duration      // of the next probe, or of the one that runs; since the Runner's start
	cancel  context.CancelFunc // ends the probe that runs; nil while none does
	index   int                // in the queue; -1 while its probe runs
	phase   float64            // 0 to 1: its group's place among those that came with it
	settled uint8              // gaps since then, up to settleIn
	passed  uint8              // passes in a row while passing, up to steady; then one more for the first slow gap
	urgent  int                // probes that follow soon unless one passes; see ProbeNow
	calm    time.Duration      // until when no other doubt counts
	turn    time.Duration      // when it would be due if nothing were urgent; 0: when it is due
	gone    bool               // removed while its probe ran
}

// newEntry makes the entry of a target that takes the place of old, if that is not nil.
func newEntry(t Target, old *entry) *entry {
	c := t.Config
	e := &entry{counter: *NewCounter(c.Fail, c.Pass, c.Window), advice: Advice{Weight: 100}}
	if old == nil || old.target.Addr != t.Addr {
		return e
	}
	e.counter.state = old.counter.state
	if old.target.Config.Type == c.Type {
		e.advice = old.advice
	}
	return e
}

// same says whether the entry's target and t are probed alike.
func (e *entry) same(t Target) bool {
	u := e.target
	if u.Config.equal(t.Config) {
		u.Config = t.Config
	}
	return u == t
}

// place makes the entry due for the first time.
func (e *entry) place(now time.Duration, phase float64) {
	e.phase = phase
	e.due = now + e.part(e.target.Config.Interval/10)
}

// part is the entry's part of d, by its phase.
func (e *entry) part(d time.Duration) time.Duration {
	return time.Duration(math.Round(e.phase * float64(d)))
}

// took notes a result for the choice between the interval and the slow one.
func (e *entry) took(err error) {
	if err == nil {
		e.urgent = 0
	}
	switch {
	case err != nil || e.counter.state != Passing:
		e.passed = 0
	case e.passed <= steady:
		e.passed++
	}
}

// gap is the time from the probe that has just ended to the next.
func (e *entry) gap() time.Duration {
	c := e.target.Config
	switch {
	case c.SlowInterval > 0 && e.passed > steady:
		return c.SlowInterval
	case c.SlowInterval > 0 && e.passed == steady:
		// targets that become steady together do not stay together
		return c.Interval + e.part(c.SlowInterval-c.Interval)
	case e.settled < settleIn:
		e.settled++
		return c.Interval + e.part(c.Interval/10)
	}
	return c.Interval
}

// queue is a heap of entries by when they are due.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	e.index = -1
	*q = old[:len(old)-1]
	return e
}
