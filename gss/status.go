package gss

import (
	"fmt"
	"net/netip"
	"time"

	"anycastle/internal/probe"
)

// Status is what the GSS knows at one moment.
type Status struct {
	Zone       string           `json:"zone"`
	Serial     uint32           `json:"serial"`
	Listen     []netip.AddrPort `json:"listen"`     // empty until the first round of probes has ended
	Generation uint64           `json:"generation"` // of the decision that replies follow; grows with every change; 0: none yet
	Answers    []AnswerStatus   `json:"answers"`
	Groups     []GroupStatus    `json:"groups"`
	Rules      []RuleStatus     `json:"rules"`
}

// AnswerStatus is one answer, for `show answer`.
type AnswerStatus struct {
	Name      string      `json:"name"`
	Address   netip.Addr  `json:"address"`
	Probe     string      `json:"probe"` // "tcp 203.0.113.110:25"
	State     probe.State `json:"state"`
	Why       string      `json:"why,omitempty"` // the error of the last probe; empty when it passed
	Since     time.Time   `json:"since,omitzero"`
	LastProbe time.Time   `json:"last_probe,omitzero"`
}

// GroupStatus is one answer group.
type GroupStatus struct {
	Name    string    `json:"name"`
	Balance string    `json:"balance"`
	Answers []string  `json:"answers"` // all, in their order
	Chosen  []string  `json:"chosen"`  // answered now
	Basis   Basis     `json:"basis"`   // empty until the first round of probes has ended
	Why     string    `json:"why"`
	Since   time.Time `json:"since,omitzero"` // of this choice
}

// RuleStatus is one DNS rule, for `show rule`.
type RuleStatus struct {
	Name      string       `json:"name"`
	Group     string       `json:"group"`
	Balance   string       `json:"balance"`
	Addresses []netip.Addr `json:"addresses"` // what an A query gets now
	Basis     Basis        `json:"basis"`
	Why       string       `json:"why"`
	Since     time.Time    `json:"since,omitzero"`
}

// Status gives the present state, all of it of one moment.
func (g *GSS) Status() Status {
	s := Status{Zone: g.config.Zone.Name, Serial: g.config.Zone.Serial, Listen: []netip.AddrPort{}}
	if addrs := g.answering.Load(); addrs != nil {
		s.Listen = *addrs
	}
	g.health.status(&s)
	return s
}

func (h *health) status(s *Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.config.Answers {
		st := h.answers[a.Name]
		s.Answers = append(s.Answers, AnswerStatus{
			Name: a.Name, Address: a.Address, State: st.state, Why: text(st.err), Since: st.since, LastProbe: st.lastProbe,
			Probe: fmt.Sprintf("%s %v", a.Probe.Type, netip.AddrPortFrom(a.Address, a.Probe.Port)),
		})
	}
	now := h.current.Load()
	if now != nil {
		s.Generation = now.generation
	}
	for _, g := range h.config.Groups {
		st := h.groups[g.Name]
		gs := GroupStatus{Name: g.Name, Balance: g.Balance, Answers: g.Answers, Chosen: []string{}, Why: ErrNotReady.Error()}
		if now != nil {
			gs.Chosen, gs.Basis, gs.Since = st.choice.answers, st.choice.basis, st.since
			gs.Why = st.choice.reason(g.Answers, h.failing)
		}
		s.Groups = append(s.Groups, gs)
		for _, r := range h.config.Rules {
			if r.Group == g.Name {
				s.Rules = append(s.Rules, RuleStatus{
					Name: r.Name, Group: g.Name, Balance: g.Balance, Addresses: h.addresses(gs.Chosen), Basis: gs.Basis,
					Why: gs.Why, Since: gs.Since,
				})
			}
		}
	}
}

// failing says what is wrong with an answer that is out. A probe of it may have passed without bringing it back yet.
func (h *health) failing(name string) string {
	a := h.answers[name]
	if a.err == nil {
		return "passed its last probe, but not enough in a row yet"
	}
	return a.err.Error()
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
