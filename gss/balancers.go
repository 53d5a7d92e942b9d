package gss

import (
	"context"
	"crypto/tls"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"anycastle/gss/balancer"
	"anycastle/gss/decide"
	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/internal/probe"
)

// maxBalancers bounds how many connections are held.
const maxBalancers = 64

func (c *Config) checkBalancers(at config.Cursor) {
	if len(c.Balancers) > maxBalancers {
		at.Errorf("%d balancers; %d are the most", len(c.Balancers), maxBalancers)
	}
	if len(c.Balancers) > 0 && c.TLS == nil {
		at.Errorf("balancers are called over TLS with a certificate; give tls: {cert: FILE, key: FILE, ca: FILE}")
	}
	names, addresses, sites := map[string]bool{}, map[netip.AddrPort]bool{}, c.sites()
	for i := range c.Balancers {
		b, at := &c.Balancers[i], at.Index(i)
		checkName(at, "balancer", b.Name, names)
		switch a := b.Address; {
		case !a.IsValid():
			at.Key("address").Errorf("missing; give its lb.report.listen, such as 198.51.100.1:6088")
		case a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast():
			at.Key("address").Errorf("%v is no address and port of a balancer; give its lb.report.listen, such as 198.51.100.1:6088", a)
		case addresses[a]:
			at.Key("address").Errorf("%v is listed twice; keep one", a)
		}
		addresses[b.Address] = true
		if b.Site == "" {
			continue
		}
		find(at.Key("site"), "site of an answer", sites, func(s *string) string { return *s }, b.Site)
	}
}

// checkTellers reports what is wrong with who else tells of an answer.
func (c *Config) checkTellers(a *Answer, at config.Cursor) {
	if a.VIP != "" && len(c.Balancers) == 0 {
		at.Key("vip").Errorf("no balancer is there to tell of it; list them in gss.balancers, or remove this")
	}
	if a.Agent == nil {
		return
	}
	at = at.Key("agent")
	if where := a.Agent.Address; !where.IsValid() {
		at.Key("address").Errorf("missing; give one such as 198.51.100.1:5025")
	} else if where.Port() == 0 || where.Addr().IsUnspecified() || where.Addr().IsMulticast() {
		at.Key("address").Errorf("%v is no address and port of an agent; give one such as 198.51.100.1:5025", where)
	}
	if every := a.Agent.Interval; every < 100*time.Millisecond || every > c.Load.Fresh/2 {
		at.Key("interval").Errorf("%v is not from 100ms to half of load.fresh, which is %v; 1s suits most", every, c.Load.Fresh)
	}
}

// tellers are those who tell of answers beside the probes.
type tellers struct {
	balancers *balancer.Set
	agents    *balancer.Agents
	out       map[string]bool // answers that all who are heard call out; the engine's mu guards it
}

func newTellers(e *engine, f probe.Func, o balancer.Options) *tellers {
	o.Log, o.Changed = e.log, e.kick
	return &tellers{balancers: balancer.New(o), agents: balancer.NewAgents(f, e.kick)}
}

// run hears all until ctx is done.
func (t *tellers) run(ctx context.Context) error {
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return t.balancers.Run(inner) })
	g.Go(func() error { return t.agents.Run(inner) })
	return g.Wait()
}

// serve has those of the plan in force count, and those that the newest brings be heard already. On an error nothing has changed.
func (t *tellers) serve(inForce, newest *plan) error {
	var agents []balancer.Agent
	had := map[string]bool{}
	for _, p := range []*plan{inForce, newest} {
		for i := range p.next.config.Answers {
			a := &p.next.config.Answers[i]
			if a.Agent != nil && !had[a.Name] {
				agents = append(agents, balancer.Agent{Answer: a.Name, Address: a.Agent.Address, Config: a.Agent.probe()})
			}
			had[a.Name] = true
		}
	}
	if err := t.agents.SetAgents(agents); err != nil {
		return err
	}
	t.balancers.SetBalancers(inForce.next.config.Balancers, newest.next.config.Balancers...)
	return nil
}

// subject is what balancers may tell of an answer by.
func (a *Answer) subject() balancer.Subject {
	return balancer.Subject{Answer: a.Name, Site: a.site(), VIP: a.VIP, Addresses: a.Addresses}
}

// probe is how the agent is asked.
func (a *Agent) probe() *probe.Config {
	p := &probe.Config{}
	p.SetDefaults()
	p.Type, p.Port, p.Interval, p.Timeout = "agent-check", a.Address.Port(), a.Interval, min(p.Timeout, a.Interval/2)
	return p
}

// reports gives what all said last of the answers of a plan, by answer.
func (t *tellers) reports(p *plan) map[string][]decide.Report {
	all := t.balancers.Reports(p.subjects, p.config.Load.Fresh)
	for answer, list := range t.agents.Reports() {
		for _, r := range list {
			all[answer] = append(all[answer], size(r, all[answer]))
		}
	}
	return all
}

// size gives the report of an agent, which knows no more than a percentage, the capacity of the other balancers of its answer: so
// half of what clients find there is the agent's.
func size(r decide.Report, others []decide.Report) decide.Report {
	whole := 0.0
	for _, o := range others {
		whole += o.Capacity
	}
	if whole > 0 && r.Capacity > 0 {
		r.Used, r.Capacity = r.Used/r.Capacity*whole, whole
	}
	return r
}

// accused gives the answers that have come to be called out by all who are heard, since the last time.
func (t *tellers) accused(reports map[string][]decide.Report, fresh time.Duration, now time.Time) (news []string) {
	out := map[string]bool{}
	for answer, list := range reports {
		heard, outs := 0, 0
		for _, r := range list {
			if now.Before(r.At.Add(fresh)) {
				heard++
				if r.Out {
					outs++
				}
			}
		}
		if out[answer] = heard > 0 && heard == outs; out[answer] && !t.out[answer] {
			news = append(news, answer)
		}
	}
	t.out = out
	return news
}

// hear gives what balancers and agents say. The path to an answer that they come to call out is probed at once: its balancers'
// word and one probe that agrees take it out. The caller holds mu.
func (e *engine) hear(now time.Time) map[string][]decide.Report {
	p := e.inForce()
	reports := e.tellers.reports(p)
	var names []string
	for _, answer := range e.tellers.accused(reports, p.config.Load.Fresh, now) {
		if w := p.watched[answer]; w != nil {
			for i := range w.targets {
				names = append(names, w.targets[i].Name)
			}
		}
	}
	if len(names) > 0 {
		e.prober.ProbeNow(names)
	}
	return reports
}

// linkTLS gives the settings of calls to balancers, with certificates as they are then.
func (g *GSS) linkTLS(cfg *Config) (func() *tls.Config, error) {
	if cfg.TLS == nil {
		return func() *tls.Config { return &tls.Config{} }, nil // there are no balancers, nor may a reload bring any
	}
	material, err := mtls.Load(*cfg.TLS, g.log)
	if err != nil {
		return nil, err
	}
	return material.Client, nil
}

// ReportStatus is what a balancer, or an agent, says of an answer.
type ReportStatus struct {
	From      string    `json:"from"`
	At        time.Time `json:"at"`    // when it was heard
	Fresh     bool      `json:"fresh"` // it counts still
	State     string    `json:"state"` // in service, draining or out
	Why       string    `json:"why,omitempty"`
	Route     string    `json:"route,omitempty"` // announced or withdrawn; missing: it cannot say
	InService int       `json:"in_service"`      // reals
	Reals     int       `json:"reals"`           // 0: it does not say
	Used      *float64  `json:"used"`            // of the capacity; null: it does not say
	Capacity  *float64  `json:"capacity"`
}

func reportStatus(r decide.Report, fresh time.Duration, now time.Time) ReportStatus {
	s := ReportStatus{
		From: r.From, At: r.At, Fresh: now.Before(r.At.Add(fresh)), State: "in service", Why: r.Why, Route: r.Route,
		InService: r.InService, Reals: r.Reals,
	}
	switch {
	case r.Out:
		s.State = "out"
	case r.Draining:
		s.State = "draining"
	}
	if r.Capacity > 0 {
		s.Used, s.Capacity = &r.Used, &r.Capacity
	}
	return s
}

// BalancerStatus is who tells of answers, for `show balancer`: one of our balancers, or an agent.
type BalancerStatus struct {
	Name       string         `json:"name"`
	Site       string         `json:"site,omitempty"` // that it tells of; missing: of any
	Address    netip.AddrPort `json:"address"`
	Heard      bool           `json:"heard"`
	Since      time.Time      `json:"since"` // of that
	Last       time.Time      `json:"last,omitzero"`
	VIPs       int            `json:"vips"`
	Generation uint64         `json:"generation"`
	Err        string         `json:"err,omitempty"` // why it is not heard
}

// Balancers gives how our balancers are heard, in the order of the config.
func (g *GSS) Balancers() []BalancerStatus {
	list := []BalancerStatus{}
	for _, s := range g.engine.tellers.balancers.Status() {
		list = append(list, BalancerStatus{
			Name: s.Name, Site: s.Site, Address: s.Address, Heard: s.Connected, Since: s.Since, Last: s.Heard, VIPs: s.VIPs,
			Generation: s.Generation, Err: text(s.Err),
		})
	}
	return list
}
