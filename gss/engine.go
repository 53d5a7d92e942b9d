package gss

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anycastle/gss/balancer"
	"anycastle/gss/decide"
	"anycastle/internal/mesh"
	"anycastle/internal/probe"
)

// beat is how often a GSS tells the others all that it sees though nothing has changed.
const beat = 500 * time.Millisecond

// engine turns what is known into decisions. Its methods are safe for concurrent use; replies read current, which no lock guards.
type engine struct {
	log     *slog.Logger
	metrics *metrics
	name    string // of this GSS
	boot    time.Time
	data    *mesh.Map                // orders
	current atomic.Pointer[snapshot] // nil until every answer has been probed once, or that was awaited in vain
	ready   chan struct{}            // closed when current is first set
	kicked  chan struct{}            // something has happened; holds one
	mesh    *mesh.Mesh               // nil: there are no other GSSes
	others  *vantages
	prober  *probe.Runner
	tellers *tellers
	publish func(*serving) // is told what the first of its decisions makes current
	build   func(context.Context, *serving, decide.Decision) (*snapshot, error)

	mu      sync.Mutex
	plan          // the newest
	former  *plan // is decided by until every answer of the newest has been probed; nil: the newest is
	number  int64 // of the last telling
	state   decide.State
	last    decide.Decision
	decided bool                // at all
	came    map[string]sighting // orders, by key
	obeyed  orderList           // orders that the last decision has taken
}

func newEngine(name string, cfg *mesh.Config, o Options, links balancer.Options, log *slog.Logger, m *metrics) (*engine, error) {
	e := &engine{
		log: log, metrics: m, name: name, data: mesh.NewMap(name, log), ready: make(chan struct{}), kicked: make(chan struct{}, 1),
		boot: time.Now(), others: newVantages(name), publish: func(*serving) {}, build: newSnapshot, came: map[string]sighting{},
	}
	e.prober = probe.NewRunner(o.Probe, e.report)
	e.tellers = newTellers(e, o.Probe, links)
	if cfg == nil {
		return e, nil
	}
	named := *cfg
	named.Name = name
	var err error
	e.mesh, err = mesh.New(named, mesh.Options{Map: e.data, Group: "gss", Told: e.told, Log: log, Registry: o.Registry})
	return e, err
}

// serve has another config be decided about, once all of its answers have been probed. What is probed as before goes on
// undisturbed, and so does the former config until then, with its balancers.
func (e *engine) serve(next *serving) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	newest, former := newPlan(next, e.plans()...), e.former
	if former == nil && e.decided {
		was := e.plan
		former = &was
	}
	inForce := &newest
	if former != nil {
		inForce = former
	}
	if err := e.prober.SetTargets(targets(&newest, inForce)); err != nil {
		return err
	}
	if err := e.tellers.serve(inForce, &newest); err != nil {
		return err
	}
	e.plan, e.former = newest, former
	e.kick()
	return nil
}

// replace puts what was packed anew in the place of what it was made from, and says whether that still counts.
func (e *engine) replace(was, next *serving) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.next != was {
		return false
	}
	e.next = next
	e.kick()
	return true
}

// serving is what the config makes.
func (e *engine) serving() *serving {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.next
}

// report takes one probe result.
func (e *engine) report(r probe.Result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	said := false
	for _, p := range e.plans() {
		w := p.watched[p.owner[r.Target.Name]]
		if w == nil {
			continue // this config does not have it
		}
		if r.Changed && !said {
			said = true
			e.logProbe(w, r)
		}
		if w.take(r) {
			if w == e.counts(w.answer.Name) {
				e.tell(map[string]view{w.answer.Name: w.tells()}, nil)
			}
			e.kick()
		}
	}
}

func (e *engine) logProbe(w *watched, r probe.Result) {
	cause := "it passed"
	if r.Err != nil {
		cause = r.Err.Error()
	}
	e.log.Info("probe state changed", "answer", w.answer.Name, "probe", r.Target.Config.Type, "address", r.Target.Addr,
		"new", r.State, "cause", cause)
}

// told takes what another GSS sees.
func (e *engine) told(from, text string) {
	news, err := e.others.take(from, []byte(text), time.Now())
	if err != nil {
		e.metrics.refused.Inc()
		e.log.Debug("a telling of another GSS is not taken", "from", from, "err", err)
	}
	if news {
		e.kick()
	}
}

// tell tells the other GSSes what this one sees. It does not wait. The caller holds mu.
func (e *engine) tell(views map[string]view, drains []drained) {
	if e.mesh == nil {
		return
	}
	texts, err := encodeTellings(e.boot.UnixNano(), &e.number, views, drains)
	for _, text := range texts {
		err = errors.Join(err, e.mesh.Tell(text))
	}
	if err != nil {
		e.log.Debug("tell the other GSSes", "err", err)
	}
}

// tellAll is the sign of life.
func (e *engine) tellAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	views := map[string]view{}
	for _, p := range e.plans() { // of an answer in two, what is decided by
		for name, w := range p.watched {
			views[name] = w.tells()
		}
	}
	now := time.Now()
	e.tell(views, tellDrains(e.drains(now), now))
}

func (e *engine) kick() {
	select {
	case e.kicked <- struct{}{}:
	default: // it will look already
	}
}

// run decides and gives signs of life until ctx is done.
func (e *engine) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { e.live(ctx) })
	e.goOn(ctx)
}

// goOn decides whenever something happens, until ctx is done.
func (e *engine) goOn(ctx context.Context) {
	orders, unwatch := e.data.Watch()
	defer unwatch()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		case <-orders:
		case <-e.kicked:
		}
		if wake := e.decide(ctx, time.Now()); !wake.IsZero() {
			due.Reset(max(time.Until(wake), time.Millisecond))
		}
	}
}

// live gives signs of life until ctx is done. No decision holds it up, or the others would take this GSS for dead.
func (e *engine) live(ctx context.Context) {
	beats := time.NewTicker(beat)
	defer beats.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beats.C:
			e.tellAll()
		}
	}
}

// decide decides by what is known now, makes it current, and gives when to do so again though nothing happens. One call at a
// time: no older decision may take the place of a newer.
func (e *engine) decide(ctx context.Context, now time.Time) (wake time.Time) {
	from, d, wake := e.rule(now)
	if from == nil {
		return wake
	}
	old := e.current.Load()
	if old == nil || old.generation != d.Generation || old.serving != from {
		now, err := e.build(ctx, from, d)
		if err != nil && ctx.Err() == nil { // the config was checked for it
			e.log.Error("some replies cannot be signed or packed beforehand", "err", err)
		}
		e.answer(now)
		if old == nil || old.serving != from {
			e.publish(from)
		}
	} else {
		same := *old // but for the reasons
		same.decision = d
		e.current.Store(&same)
	}
	e.metrics.show(d)
	if old == nil {
		close(e.ready)
	}
	return wake
}

// answer has queries be answered by a snapshot of the last decision. What the one before gives was given until now.
func (e *engine) answer(next *snapshot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.current.Swap(next)
	if was != nil {
		e.state, e.last = decide.Late(e.state, e.last, was.decision, time.Now())
	}
}

// rule decides, and gives what the replies are to be made of, which takes too long to be done with mu held; nil: nothing is
// answered yet.
func (e *engine) rule(now time.Time) (from *serving, d decide.Decision, wake time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	waits := e.await(now)
	if !e.decided && !waits.IsZero() {
		return nil, d, waits // nothing is answered before every answer has been probed once
	}
	was := e.state
	e.decided = true
	orders := e.orders()
	e.state, e.last = decide.Next(e.state, e.inputs(orders, now), now)
	e.obeyed = orders
	e.note(was)
	if wake = e.last.Wake(now); wake.IsZero() || !waits.IsZero() && waits.Before(wake) {
		wake = waits
	}
	return e.inForce().next, e.last, wake
}

// inputs is all that is known. The caller holds mu.
func (e *engine) inputs(orders orderList, now time.Time) decide.Inputs {
	p := e.inForce()
	in := decide.Inputs{
		Config: p.config, Self: e.name, Orders: map[string]decide.Order{}, Reports: e.hear(now), Vantages: e.vantages(now),
	}
	for name, w := range p.watched {
		if o, ok := orders.of(&p.next.config, w.answer); ok {
			in.Orders[name] = e.heed(o, now)
		}
	}
	return in
}

// vantages are all GSSes that there should be, and what they see. The caller holds mu.
func (e *engine) vantages(now time.Time) map[string]decide.Vantage {
	p := e.inForce()
	all := e.others.of(e.members(now), p.digests(), now)
	all[e.name] = decide.Vantage{Heard: now, Answers: map[string]decide.Seen{}}
	for name, w := range p.watched {
		all[e.name].Answers[name] = w.seen()
	}
	return all
}

// note logs what moves. The caller holds mu.
func (e *engine) note(was decide.State) {
	p := e.inForce()
	for i := range p.config.Answers {
		name := p.config.Answers[i].Name
		if old, now := was.Answers[name].Place, e.last.Answers[name]; old != now.Place {
			e.log.Info("answer moved", "answer", name, "old", old, "new", now.Place, "cause", now.Why)
		}
	}
	for i := range p.config.Rules {
		name := p.config.Rules[i].Name
		old, now := was.Rules[name].Choices, e.last.Rules[name].Choices
		for place, c := range now {
			if place < len(old) && old[place].Basis == c.Basis && slices.Equal(old[place].Names(), c.Names()) {
				continue // shares and TTLs are not worth a line
			}
			var before []string
			if place < len(old) {
				before = old[place].Names()
			}
			attrs := []any{"rule", name, "old", before, "new", c.Names(), "basis", c.Basis, "generation", e.last.Generation, "cause", c.Why}
			if place > 0 {
				attrs = append(attrs, "near", p.next.config.ruleOf(name).Near[place-1].Sources)
			}
			if c.Basis.Works() {
				e.log.Info("rule changed its answer", attrs...)
			} else {
				e.log.Warn("rule has no answer that works", attrs...)
			}
		}
	}
}
