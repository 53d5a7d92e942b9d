package gss

import (
	"fmt"
	"net/netip"
	"time"

	"anycastle/gss/decide"
	"anycastle/internal/probe"
)

// watched is what the probes of this GSS say of an answer.
type watched struct {
	answer  *Answer
	targets []target // by address and probe
	since   time.Time
}

// target is one probe of one address of an answer.
type target struct {
	probe.Target
	state probe.State
	err   error // of the last probe
	last  time.Time
}

// watch makes what is to be probed for an answer.
func watch(a *Answer) *watched {
	w := &watched{answer: a}
	for _, addr := range a.Addresses {
		for i := range a.Probes {
			p := &a.Probes[i]
			name := fmt.Sprintf("%s/%v/%d", a.Name, addr, i)
			w.targets = append(w.targets, target{Target: probe.Target{Name: name, Addr: netip.AddrPortFrom(addr, p.Port), Config: p}})
		}
	}
	return w
}

// keep takes over what another, of the same answer in an older config, knows of probes that are the same.
func (w *watched) keep(was *watched) {
	w.since = was.since
	for i := range w.targets {
		t := &w.targets[i]
		for _, old := range was.targets {
			if old.Name == t.Name {
				t.state, t.err, t.last = old.state, old.err, old.last
			}
		}
	}
}

// take takes a result, and says whether it says something new of the answer.
func (w *watched) take(r probe.Result) (news bool) {
	before := w.seen()
	for i := range w.targets {
		if t := &w.targets[i]; t.Name == r.Target.Name {
			t.state, t.err, t.last = r.State, r.Err, r.At
		}
	}
	after := w.seen()
	if before.View != after.View {
		w.since = r.At.Add(r.Took)
	}
	return before.View != after.View || before.Failed != after.Failed
}

// seen is what the probes say together: all must pass.
func (w *watched) seen() decide.Seen {
	s := decide.Seen{View: decide.Passing}
	for i := range w.targets {
		t := &w.targets[i]
		switch {
		case t.state == probe.Failing && s.View != decide.Failing:
			s.View, s.Why = decide.Failing, t.why()
		case t.state == probe.Unknown && s.View == decide.Passing:
			s.View = decide.NoView
		}
		if t.err != nil {
			s.Failed = true
			if s.Why == "" {
				s.Why = t.why()
			}
		}
	}
	return s
}

// known says whether each of its probes has ended once.
func (w *watched) known() bool {
	for i := range w.targets {
		if w.targets[i].state == probe.Unknown {
			return false
		}
	}
	return true
}

func (t *target) String() string { return fmt.Sprintf("%s %v", t.Config.Type, t.Addr) }

func (t *target) why() string {
	if t.err == nil {
		return t.String() + " passed its last probe, but not enough in a row yet"
	}
	return fmt.Sprintf("%v: %v", t, t.err)
}
