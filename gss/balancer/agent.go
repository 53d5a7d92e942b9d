package balancer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"anycastle/gss/decide"
	"anycastle/internal/probe"
)

// Agent is where another balancer tells how an answer stands, by the agent-check protocol of HAProxy.
type Agent struct {
	Answer  string
	Address netip.AddrPort
	Config  *probe.Config // of type agent-check
}

// Agents asks agents. Its methods are safe for concurrent use.
type Agents struct {
	runner  *probe.Runner
	changed func()

	mu   sync.Mutex
	said map[string]said // by answer
}

// said is what an agent has said.
type said struct {
	agent  Agent
	advice probe.Advice
	at     time.Time // when it last spoke; zero: never
	err    error     // of the last time that it was asked
}

// NewAgents makes Agents that ask nobody yet. f nil is the probe itself. changed is called when one says something else than
// before; it is not to wait.
func NewAgents(f probe.Func, changed func()) *Agents {
	a := &Agents{changed: changed, said: map[string]said{}}
	a.runner = probe.NewRunner(f, a.take)
	return a
}

// SetAgents makes the list all that are asked, at most one for an answer. On an error nothing has changed.
func (a *Agents) SetAgents(list []Agent) error {
	var targets []probe.Target
	next := map[string]said{}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range list {
		targets = append(targets, probe.Target{Name: g.Answer, Addr: g.Address, Config: g.Config})
		s := a.said[g.Answer]
		if s.agent.Address != g.Address {
			s = said{}
		}
		s.agent = g
		next[g.Answer] = s
	}
	if err := a.runner.SetTargets(targets); err != nil {
		return err
	}
	a.said = next
	return nil
}

// Run asks until ctx is done, and gives ctx's error. It may be called once.
func (a *Agents) Run(ctx context.Context) error { return a.runner.Run(ctx) }

// take takes what an agent said. One that does not answer has said nothing.
func (a *Agents) take(r probe.Result) {
	a.mu.Lock()
	s, ok := a.said[r.Target.Name]
	if !ok || s.agent.Address != r.Target.Addr {
		a.mu.Unlock()
		return // the config has it no more
	}
	was := s
	if s.err = r.Err; r.Err == nil || errors.Is(r.Err, probe.ErrAgentDown) {
		s.advice, s.at = r.Advice, r.At.Add(r.Took)
	}
	a.said[r.Target.Name] = s
	a.mu.Unlock()
	if was.advice != s.advice || was.at.IsZero() != s.at.IsZero() {
		a.changed()
	}
}

// Reports gives what the agents said last, by answer. Those that never spoke are left out.
func (a *Agents) Reports() map[string][]decide.Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[string][]decide.Report{}
	for answer, s := range a.said {
		if !s.at.IsZero() {
			all[answer] = []decide.Report{s.report()}
		}
	}
	return all
}

// Silent gives why the agents that did not answer the last time did not, by answer.
func (a *Agents) Silent() map[string]error {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[string]error{}
	for answer, s := range a.said {
		if s.err != nil && !errors.Is(s.err, probe.ErrAgentDown) {
			all[answer] = s.err
		}
	}
	return all
}

// report puts an agent's words into a report. A weight is what is left of the capacity; none left is a drain, as HAProxy has it.
func (s *said) report() decide.Report {
	d := decide.Report{From: fmt.Sprintf("agent %v", s.agent.Address), At: s.at, Capacity: 100}
	d.Used = d.Capacity - float64(min(s.advice.Weight, 100))
	switch {
	case s.advice.Down != "":
		d.Out, d.Why = true, s.advice.Down
	case s.advice.Admin == probe.AdminMaint:
		d.Out, d.Why = true, string(probe.AdminMaint)
	}
	d.Draining = s.advice.Admin == probe.AdminDrain || s.advice.Admin == probe.AdminMaint || s.advice.Weight == 0
	return d
}
