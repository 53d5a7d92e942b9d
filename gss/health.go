package gss

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anycastle/internal/probe"
)

// health turns probe results into decisions. report and status may be called concurrently; replies read current,
// which no lock guards.
type health struct {
	log     *slog.Logger
	metrics *metrics
	config  *Config
	current atomic.Pointer[decision] // nil until every answer has been probed once
	ready   chan struct{}            // closed when current is first set

	mu      sync.Mutex
	answers map[string]*answerState
	groups  map[string]*groupState
	unknown int // answers without a result yet
}

type answerState struct {
	state     probe.State
	err       error     // of the last probe
	since     time.Time // of state
	lastProbe time.Time
}

type groupState struct {
	choice   choice
	lastGood []string
	since    time.Time // of choice
}

func newHealth(c *Config, log *slog.Logger, m *metrics) *health {
	h := &health{
		log: log, metrics: m, config: c, ready: make(chan struct{}), unknown: len(c.Answers),
		answers: map[string]*answerState{}, groups: map[string]*groupState{},
	}
	for _, a := range c.Answers {
		h.answers[a.Name] = &answerState{}
	}
	for _, g := range c.Groups {
		h.groups[g.Name] = &groupState{}
	}
	return h
}

// targets are what the config has probed.
func (h *health) targets() []probe.Target {
	var ts []probe.Target
	for i := range h.config.Answers {
		a := &h.config.Answers[i]
		ts = append(ts, probe.Target{Name: a.Name, Addr: netip.AddrPortFrom(a.Address, a.Probe.Port), Config: &a.Probe})
	}
	return ts
}

// report takes one probe result. It logs with the lock held, so that the log has changes in their order.
func (h *health) report(r probe.Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.answers[r.Target.Name]
	a.err, a.lastProbe = r.Err, r.At
	if !r.Changed {
		return
	}
	old := a.state
	a.state, a.since = r.State, r.At.Add(r.Took)
	cause := "probe passed"
	if r.Err != nil {
		cause = r.Err.Error()
	}
	h.log.Info("answer changed state", "answer", r.Target.Name, "probe", r.Target.Addr, "old", old, "new", a.state, "cause", cause)
	h.metrics.setAnswer(r.Target.Name, a.state)
	if old == probe.Unknown {
		h.unknown--
	}
	if h.unknown == 0 {
		h.decide(a.since, fmt.Sprintf("answer %s is %v: %s", r.Target.Name, a.state, cause))
	}
}

// decide chooses anew for every group and, if any choice is another than before, makes the next decision current.
func (h *health) decide(now time.Time, cause string) {
	next := decision{generation: 1, addresses: map[string][]netip.Addr{}}
	last := h.current.Load()
	if last != nil {
		next.generation = last.generation + 1
		maps.Copy(next.addresses, last.addresses)
	}
	changed := last == nil
	for _, g := range h.config.Groups {
		s := h.groups[g.Name]
		c := ordered(g.Answers, h.passing, s.lastGood)
		if c.basis == ByHealth {
			s.lastGood = c.answers
		}
		if c.equal(s.choice) {
			continue
		}
		changed = true
		addrs := h.addresses(c.answers)
		h.logChange(g.Name, c, next.addresses[g.Name], addrs, cause)
		s.choice, s.since = c, now
		next.addresses[g.Name] = addrs
	}
	if !changed {
		return
	}
	h.current.Store(&next)
	h.metrics.generation.Set(float64(next.generation))
	if last == nil {
		close(h.ready)
	}
}

// logChange says what every rule of the group answers from now on.
func (h *health) logChange(group string, to choice, old, addrs []netip.Addr, cause string) {
	for _, r := range h.config.Rules {
		if r.Group != group {
			continue
		}
		attrs := []any{"rule", r.Name, "group", group, "old", old, "new", addrs, "basis", to.basis, "cause", cause}
		switch {
		case to.basis != ByHealth:
			h.log.Warn("rule has no passing answer", attrs...)
		case slices.Equal(old, addrs):
			h.log.Info("rule answers by health again", attrs...)
		default:
			h.log.Info("rule changed its answer", attrs...)
		}
	}
}

func (h *health) passing(name string) bool { return h.answers[name].state == probe.Passing }

func (h *health) addresses(names []string) []netip.Addr {
	var addrs []netip.Addr
	for _, name := range names {
		addrs = append(addrs, h.config.answer(name).Address)
	}
	return addrs
}
