package probe

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"
)

// maxInFlight is how many probes of a Runner run at once: with timeouts of half a second it is reached when 8,000 a
// second get no answer. What is due then waits its turn; its timeout counts from its start.
const maxInFlight = 4096

// together is how many of the targets that come together are probed at the same moments. To be woken up for a probe costs about as
// much as the probe, and so does each of its answers that comes alone; more at once would be a burst.
const together = 16

// Runner probes a set of targets that its owner may change at any time.
type Runner struct {
	probe  Func // nil: what each target's config asks for
	report func(Result)
	start  time.Time
	limit  int           // of probes at once
	group  int           // of targets that share their moments
	wake   chan struct{} // tells Run that what is due next has changed

	mu       sync.Mutex
	entries  map[string]*entry
	queue    queue
	inFlight int
	next     time.Duration // when Run wakes by itself
}

// NewRunner makes a Runner without targets. probe nil stands for the types of the configs. Each finished probe is
// handed to report, one call at a time per target but concurrently for different ones; report may call SetTargets.
func NewRunner(probe Func, report func(Result)) *Runner {
	return &Runner{probe: probe, report: report, start: time.Now(), limit: maxInFlight, group: together, wake: make(chan struct{}, 1), entries: map[string]*entry{}}
}

// Run is a Runner for targets that do not change.
func Run(ctx context.Context, targets []Target, probe Func, report func(Result)) error {
	r := NewRunner(probe, report)
	if err := r.SetTargets(targets); err != nil {
		return err
	}
	return r.Run(ctx)
}

// SetTargets makes targets all that is probed, and reads the files that their configs name. On an error nothing has
// changed.
//
// A target that was there before goes on undisturbed. One whose config, mark or source is another goes on with the
// state and the advice that it had, so that a reload takes nothing out; one with another address begins anew. What is
// new or another is probed within the first tenth of its interval. A result that is on its way to report meanwhile
// still arrives, with the target as it was.
func (r *Runner) SetTargets(targets []Target) error {
	probes, err := r.compile(targets)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Since(r.start)
	entries := make(map[string]*entry, len(targets))
	var fresh []*entry
	for i, t := range targets {
		e := r.entries[t.Name]
		if e == nil || !e.same(t) {
			e = newEntry(t, e)
			fresh = append(fresh, e)
		}
		e.target, e.probe = t, probes[i]
		entries[t.Name] = e
	}
	for name, e := range r.entries {
		if entries[name] != e {
			r.remove(e)
		}
	}
	r.entries = entries
	groups := (len(fresh) + r.group - 1) / r.group
	for i, e := range fresh {
		e.place(now, float64(i*groups/len(fresh))/float64(groups))
		heap.Push(&r.queue, e)
	}
	r.hurry()
	return nil
}

// Assume gives targets without a result the state that they had before, by name: their next results are counted against it, and
// the first does not decide alone. Names that are no target are left out.
func (r *Runner) Assume(states map[string]State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, s := range states {
		if e := r.entries[name]; e != nil && e.counter.state == Unknown {
			e.counter.state = s
		}
	}
}

// compile gives the probe of each target.
func (r *Runner) compile(targets []Target) ([]Func, error) {
	names := make(map[string]bool, len(targets))
	byConfig := map[*Config]Func{}
	probes := make([]Func, len(targets))
	for i, t := range targets {
		if names[t.Name] {
			return nil, fmt.Errorf("probe: two targets are called %q", t.Name)
		}
		names[t.Name] = true
		f := r.probe
		if f == nil {
			f = byConfig[t.Config]
		}
		if f == nil {
			var err error
			if f, err = compile(t.Config); err != nil {
				return nil, fmt.Errorf("%s probe of %v: %w", t.Config.Type, t.Addr, err)
			}
			byConfig[t.Config] = f
		}
		probes[i] = f
	}
	return probes, nil
}

// Run probes until ctx is done, also when there is no target, and gives ctx's error. When it returns no probe runs and
// none is reported any more. It may be called once.
func (r *Runner) Run(ctx context.Context) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-r.wake:
		}
		due, wait := r.takeDue()
		for _, e := range due {
			probes.Go(func() { r.run(ctx, e) })
		}
		timer.Reset(wait)
	}
}

// takeDue takes what is due out of the queue, and says how long nothing else is due.
func (r *Runner) takeDue() ([]*entry, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Since(r.start)
	var due []*entry
	for len(r.queue) > 0 && r.queue[0].due <= now && r.inFlight < r.limit {
		due = append(due, heap.Pop(&r.queue).(*entry))
		r.inFlight++
	}
	r.next = now + time.Hour
	if len(r.queue) > 0 && r.inFlight < r.limit {
		r.next = r.queue[0].due
	}
	return due, r.next - now
}

// hurry wakes Run if it would wake too late. r.mu is held.
func (r *Runner) hurry() {
	if len(r.queue) == 0 || r.queue[0].due >= r.next || r.inFlight >= r.limit {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run probes a target once and reports.
func (r *Runner) run(ctx context.Context, e *entry) {
	defer r.requeue(e)
	r.mu.Lock()
	if e.gone {
		r.mu.Unlock()
		return
	}
	target, probe, said := e.target, e.probe, e.advice
	start := time.Now() // not when it was due: the target is not to blame for our delay
	once, cancel := context.WithDeadline(ctx, start.Add(target.Config.Timeout))
	e.cancel = cancel
	r.mu.Unlock()
	defer cancel()
	err := failed(probe(once, target, &said))
	res := Result{Target: target, Err: err, Advice: said, At: start, Took: time.Since(start)}
	if ctx.Err() == nil && r.count(e, &res) {
		r.report(res)
	}
}

// count lets a result count and fills in the state after it. It gives false when the target has gone.
func (r *Runner) count(e *entry, res *Result) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.gone {
		return false
	}
	e.advice = res.Advice
	if ours(res.Err) {
		// a target is not taken out for what this machine lacks; that it lacks something is shown
		res.State, res.Ours = e.counter.state, true
		return true
	}
	res.State, res.Changed = e.counter.Add(res.Err)
	e.took(res.Err)
	return true
}

// requeue puts an entry whose probe is done back into the queue.
func (r *Runner) requeue(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.cancel = nil
	r.inFlight--
	if !e.gone {
		e.advance(time.Since(r.start))
		heap.Push(&r.queue, e)
	}
	r.hurry()
}

// remove takes an entry out, and ends its probe if one runs. r.mu is held.
func (r *Runner) remove(e *entry) {
	e.gone = true
	switch {
	case e.index >= 0:
		heap.Remove(&r.queue, e.index)
	case e.cancel != nil:
		e.cancel()
	}
}
