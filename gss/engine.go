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
	current atomic.Pointer[snapshot] // nil until every answer has been probed once
	ready   chan struct{}            // closed when current is first set
	kicked  chan struct{}            // something has happened; holds one
	mesh    *mesh.Mesh               // nil: there are no other GSSes
	others  *vantages
	prober  *probe.Runner
	tellers *tellers
	publish func(*serving) // is told what the first of its decisions makes current

	mu      sync.Mutex
	next    *serving // what the config makes; current follows once every answer has been probed
	config  decide.Config
	watched map[string]*watched // by answer
	owner   map[string]string   // answer by name of the target
	number  int64               // of the last telling
	state   decide.State
	last    decide.Decision
}

func newEngine(name string, cfg *mesh.Config, o Options, links balancer.Options, log *slog.Logger, m *metrics) (*engine, error) {
	e := &engine{
		log: log, metrics: m, name: name, data: mesh.NewMap(name, log), ready: make(chan struct{}), kicked: make(chan struct{}, 1),
		boot: time.Now(), others: newVantages(name), publish: func(*serving) {},
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

// serve has the next decisions be about another config. What is probed as before goes on undisturbed.
func (e *engine) serve(next *serving) error {
	watched, owner := map[string]*watched{}, map[string]string{}
	var targets []probe.Target
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range next.config.Answers {
		w := watch(&next.config.Answers[i])
		if was := e.watched[w.answer.Name]; was != nil {
			w.keep(was)
		}
		watched[w.answer.Name] = w
		for _, t := range w.targets {
			owner[t.Name] = w.answer.Name
			targets = append(targets, t.Target)
		}
	}
	if err := e.prober.SetTargets(targets); err != nil {
		return err
	}
	if err := e.tellers.serve(&next.config); err != nil {
		return err
	}
	e.next, e.config, e.watched, e.owner = next, next.config.decide(), watched, owner
	e.config.Digest = next.digest()
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
	w := e.watched[e.owner[r.Target.Name]]
	if w == nil {
		return // the config has it no more
	}
	if r.Changed {
		cause := "it passed"
		if r.Err != nil {
			cause = r.Err.Error()
		}
		e.log.Info("probe state changed", "answer", w.answer.Name, "probe", r.Target.Config.Type, "address", r.Target.Addr,
			"new", r.State, "cause", cause)
	}
	if w.take(r) {
		e.tell(map[string]decide.Seen{w.answer.Name: w.seen()})
		e.kick()
	}
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
func (e *engine) tell(views map[string]decide.Seen) {
	if e.mesh == nil {
		return
	}
	texts, err := encodeTellings(e.boot.UnixNano(), &e.number, views)
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
	views := map[string]decide.Seen{}
	for name, w := range e.watched {
		views[name] = w.seen()
	}
	e.tell(views)
}

func (e *engine) kick() {
	select {
	case e.kicked <- struct{}{}:
	default: // it will look already
	}
}

// run decides whenever something happens, until ctx is done.
func (e *engine) run(ctx context.Context) {
	orders, unwatch := e.data.Watch()
	defer unwatch()
	due := time.NewTimer(0)
	defer due.Stop()
	beats := time.NewTicker(beat)
	defer beats.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beats.C:
			e.tellAll()
			continue
		case <-due.C:
		case <-orders:
		case <-e.kicked:
		}
		if wake := e.decide(ctx, time.Now()); !wake.IsZero() {
			due.Reset(max(time.Until(wake), time.Millisecond))
		}
	}
}

// decide decides by what is known now, makes it current, and gives when to do so again though nothing happens.
func (e *engine) decide(ctx context.Context, now time.Time) (wake time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.watched {
		if !w.known() {
			return time.Time{} // nothing is answered before every answer has been probed once
		}
	}
	was := e.state
	e.state, e.last = decide.Next(e.state, e.inputs(now), now)
	e.note(was)
	old := e.current.Load()
	if old == nil || old.generation != e.last.Generation || old.serving != e.next {
		now, err := newSnapshot(ctx, e.next, e.last)
		if err != nil && ctx.Err() == nil { // the config was checked for it
			e.log.Error("some replies cannot be signed or packed beforehand", "err", err)
		}
		e.current.Store(now)
		if old == nil || old.serving != e.next {
			e.publish(e.next)
		}
	}
	e.metrics.show(e.last)
	if old == nil {
		close(e.ready)
	}
	return e.last.Wake(now)
}

// inputs is all that is known. The caller holds mu.
func (e *engine) inputs(now time.Time) decide.Inputs {
	in := decide.Inputs{
		Config: e.config, Self: e.name, Orders: map[string]decide.Order{}, Reports: e.hear(now),
	}
	var members []mesh.Member
	if e.mesh != nil {
		members = e.mesh.Members()
	}
	in.Vantages = e.others.of(members, now)
	in.Vantages[e.name] = decide.Vantage{Heard: now, Answers: map[string]decide.Seen{}}
	orders := e.orders()
	for name, w := range e.watched {
		in.Vantages[e.name].Answers[name] = w.seen()
		if o, ok := orders.of(w.answer); ok {
			in.Orders[name] = o
		}
	}
	return in
}

// note logs what moves. The caller holds mu.
func (e *engine) note(was decide.State) {
	for i := range e.config.Answers {
		name := e.config.Answers[i].Name
		if old, now := was.Answers[name].Place, e.last.Answers[name]; old != now.Place {
			e.log.Info("answer moved", "answer", name, "old", old, "new", now.Place, "cause", now.Why)
		}
	}
	for i := range e.config.Rules {
		name := e.config.Rules[i].Name
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
				attrs = append(attrs, "near", e.next.config.ruleOf(name).Near[place-1].Sources)
			}
			if c.Basis.Works() {
				e.log.Info("rule changed its answer", attrs...)
			} else {
				e.log.Warn("rule has no answer that works", attrs...)
			}
		}
	}
}
