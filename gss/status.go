package gss

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/decide"
	"anycastle/gss/sign"
	"anycastle/internal/daemon"
	"anycastle/internal/mesh"
	"anycastle/internal/probe"
)

// AnswerStatus is one answer, for `show answer`.
type AnswerStatus struct {
	Name      string         `json:"name"`
	Site      string         `json:"site"`
	Addresses []netip.Addr   `json:"addresses"`
	Place     decide.Place   `json:"place"` // empty until the first round of probes has ended
	Why       string         `json:"why"`
	Since     time.Time      `json:"since,omitzero"` // of the place
	Weight    int            `json:"weight"`
	Headroom  *float64       `json:"headroom,omitempty"` // of its capacity, 0 to 1; missing when no balancer says
	Votes     decide.Votes   `json:"votes"`
	Differ    []string       `json:"differ,omitempty"` // GSSes with other addresses or probes of it, whose views do not count
	Probes    []ProbeStatus  `json:"probes"`
	Reports   []ReportStatus `json:"reports"`         // of balancers and agents
	Agent     string         `json:"agent,omitempty"` // why its agent is not heard
}

// ProbeStatus is one probe of an answer, by this GSS.
type ProbeStatus struct {
	Probe     string      `json:"probe"` // "tcp 203.0.113.110:25"
	State     probe.State `json:"state"`
	Why       string      `json:"why,omitempty"` // the error of the last; empty when it passed
	LastProbe time.Time   `json:"last_probe,omitzero"`
}

// RuleStatus is what the clients of one place are answered with by a DNS rule, for `show rule`.
type RuleStatus struct {
	Name    string         `json:"name"`
	Domains []string       `json:"domains"`
	Sources []string       `json:"sources"`        // lists of the clients that it is for; none: any
	Type    string         `json:"type,omitempty"` // of the records that this is for; missing: all that have no other
	Near    string         `json:"near,omitempty"` // list of the clients that this is for, within them
	Clause  int            `json:"clause"`         // by which it is answered, from 1; 0 until the first round of probes has ended
	Basis   decide.Basis   `json:"basis"`
	Balance decide.Method  `json:"balance"`
	Count   int            `json:"count"` // of answers that a client gets
	Answers []decide.Share `json:"answers"`
	TTL     int            `json:"ttl_seconds"`
	Why     string         `json:"why"`
	Since   time.Time      `json:"since,omitzero"`
}

// SiteStatus is one site, for `show site`.
type SiteStatus struct {
	Site    string       `json:"site"`
	Serving []string     `json:"serving"` // answers that do
	Others  []SiteAnswer `json:"others"`
	Order   *Order       `json:"order,omitempty"` // to drain or suspend it, that stands
}

// SiteAnswer is an answer of a site that does not serve.
type SiteAnswer struct {
	Answer string       `json:"answer"`
	Place  decide.Place `json:"place"`
}

// String gives it in words, such as "smtp-east out".
func (a SiteAnswer) String() string { return a.Answer + " " + string(a.Place) }

// ZoneStatus is one zone, for `show zone`.
type ZoneStatus struct {
	Zone    string `json:"zone"`
	File    string `json:"file,omitempty"`
	Serial  uint32 `json:"serial"`
	Records int    `json:"records"` // in the file
	Dynamic int    `json:"dynamic"` // names that rules answer for

	Role      string    `json:"role"`               // primary or secondary; the rest is of a secondary
	Absent    bool      `json:"absent,omitempty"`   // nothing has been transferred yet, or it has expired: names that are no rule's get SERVFAIL
	Former    bool      `json:"former,omitempty"`   // nothing has been transferred yet: it is served as before it had primaries
	Refreshed time.Time `json:"refreshed,omitzero"` // last known to be like the primaries' version
	Next      time.Time `json:"next,omitzero"`      // when they are asked again
	Expires   time.Time `json:"expires,omitzero"`
	Why       string    `json:"why,omitempty"` // the last attempt failed; empty when it did not
}

// VantageStatus is one GSS whose views count, for `show vantage`.
type VantageStatus struct {
	Name    string    `json:"name"`
	Self    bool      `json:"self"`
	Heard   time.Time `json:"heard,omitzero"`
	Lost    time.Time `json:"lost,omitzero"` // since when the mesh misses it
	Counts  bool      `json:"counts"`        // it was heard lately
	Passing int       `json:"passing"`       // answers
	Failing []string  `json:"failing"`       // answers, and why
	Differ  []string  `json:"differ"`        // answers with other addresses or probes there: what it sees of them does not count
}

// KeyStatus is one key of a signed zone, for `show key`.
type KeyStatus struct {
	Zone string `json:"zone"`
	sign.KeyStatus
	DS    string `json:"ds,omitempty"`    // the record for the parent, while it is asked for
	Alarm string `json:"alarm,omitempty"` // what somebody should do about the zone
	Error string `json:"error,omitempty"` // of the last step with the keys of the zone
}

// ServerStatus is the server as a whole, for `show server`.
type ServerStatus struct {
	Name       string           `json:"name"`
	Listen     []netip.AddrPort `json:"listen"` // empty until the first round of probes has ended
	ListenTLS  []netip.AddrPort `json:"listen_tls,omitempty"`
	Generation uint64           `json:"generation"`       // of the decision that replies follow; grows with every change; 0: none yet
	Reload     *daemon.Reload   `json:"reload,omitempty"` // the last one; missing before the first
}

// Server gives the server as a whole.
func (g *GSS) Server() ServerStatus {
	s := ServerStatus{Name: g.engine.name, Listen: []netip.AddrPort{}, Reload: g.reload.Load()}
	if on := g.answering.Load(); on != nil {
		s.Listen, s.ListenTLS = on.plain, on.tls
	}
	if now := g.engine.current.Load(); now != nil {
		s.Generation = now.generation
	}
	return s
}

// Reloaded takes how a reload ended, also one whose node file cannot be read.
func (g *GSS) Reloaded(r daemon.Reload) { g.reload.Store(&r) }

// Answers gives all answers in the order of the config.
func (g *GSS) Answers() []AnswerStatus {
	e := g.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []AnswerStatus{}
	p, now := e.inForce(), time.Now()
	fresh, differ := p.config.Load.Fresh, e.others.differ(p.digests(), now)
	reports, silent := e.tellers.reports(p), e.tellers.agents.Silent()
	for i := range e.next.config.Answers {
		a := &e.next.config.Answers[i]
		v, w := e.last.Answers[a.Name], e.watched[a.Name]
		s := AnswerStatus{
			Name: a.Name, Site: a.site(), Addresses: a.Addresses, Place: v.Place, Why: v.Why, Since: v.Since, Weight: a.Weight, Votes: v.Votes,
			Reports: []ReportStatus{}, Agent: text(silent[a.Name]), Differ: differ[a.Name],
		}
		for _, r := range reports[a.Name] {
			s.Reports = append(s.Reports, reportStatus(r, fresh, now))
		}
		if why := e.waits(w, v.Place); why != "" {
			s.Why = why
		}
		if v.Loaded {
			s.Headroom = &v.Headroom
		}
		for i := range w.targets {
			t := &w.targets[i]
			s.Probes = append(s.Probes, ProbeStatus{t.String(), t.state, text(cmp.Or(t.lack, t.err)), t.last})
		}
		list = append(list, s)
	}
	return list
}

// Rules gives all rules in the order of the config, by place of clients, each with the parts of it for families of addresses.
func (g *GSS) Rules() []RuleStatus {
	e := g.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []RuleStatus{}
	rules := e.inForce().next.rules.rules
	for i := range rules {
		r := &rules[i]
		s := RuleStatus{
			Name: r.Name, Domains: r.Domains, Sources: append([]string{}, r.Sources...), Why: ErrNotReady.Error(), Answers: []decide.Share{},
		}
		if _, ok := e.last.Rules[r.Name]; !ok {
			list = append(list, s)
			continue
		}
		list = append(list, s.places(r.Rule, e.last.Rules[r.Name])...)
		for _, f := range families() {
			s.Type = dns.TypeToString[f]
			list = append(list, s.places(r.Rule, e.last.Rules[partName(r.Name, f)])...)
		}
	}
	return list
}

// places gives a decision by place of clients, beside what is the same for all.
func (s RuleStatus) places(r *Rule, d decide.RuleDecision) (list []RuleStatus) {
	for place, c := range d.Choices {
		s.Clause, s.Basis, s.Balance, s.Count, s.Answers = c.Clause+1, c.Basis, c.Method, c.Count, c.Shares
		s.TTL, s.Why, s.Since = int(d.TTL/time.Second), c.Why, d.Since
		if place > 0 {
			s.Near = r.Near[place-1].Sources
		}
		list = append(list, s)
	}
	return list
}

// Sites gives all sites of answers.
func (g *GSS) Sites() []SiteStatus {
	e := g.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	list, orders := []SiteStatus{}, e.orders()
	for _, site := range e.next.config.sites() {
		s := SiteStatus{Site: site, Serving: []string{}, Others: []SiteAnswer{}}
		for i := range e.next.config.Answers {
			a := &e.next.config.Answers[i]
			switch p := e.last.Answers[a.Name].Place; {
			case a.site() != site:
			case p == decide.Serving:
				s.Serving = append(s.Serving, a.Name)
			default:
				s.Others = append(s.Others, SiteAnswer{a.Name, cmp.Or(p, decide.Unknown)})
			}
		}
		if o, ok := orders[Order{Site: site}.key()]; ok && o.Kind != decide.KindActivate {
			s.Order = &o
		}
		list = append(list, s)
	}
	return list
}

// Zones gives all zones in the order of the config.
func (g *GSS) Zones() []ZoneStatus {
	list := []ZoneStatus{}
	now := g.engine.serving()
	for i, z := range now.zones.Zones() {
		s := ZoneStatus{
			Zone: bare(z.Origin()), File: now.config.Zones[i].File, Serial: z.Serial(), Records: z.Len(),
			Dynamic: len(now.shared[z.Origin()].dynamic), Role: "primary",
		}
		if f, ok := now.moves.follower.Status(z.Origin()); ok {
			s.Role, s.Absent, s.Why = "secondary", now.absent[z.Origin()], text(f.Err)
			s.Former = now.contents[z.Origin()].Former
			s.Refreshed, s.Next, s.Expires = f.Refreshed, f.Next, f.Expires
		}
		if now.contents[z.Origin()].Zone == nil && s.Role == "secondary" {
			s.Records = 0
		}
		list = append(list, s)
	}
	return list
}

// Keys gives the keys of all signed zones.
func (g *GSS) Keys() []KeyStatus {
	list := []KeyStatus{}
	signed := g.engine.serving().signed
	for _, origin := range slices.Sorted(maps.Keys(signed)) {
		list = append(list, signed[origin].status()...)
	}
	return list
}

func (s *signing) status() (list []KeyStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.decision.Keys) == 0 && s.err != nil {
		return []KeyStatus{{Zone: bare(s.origin), Error: text(s.err)}}
	}
	for _, k := range s.decision.Keys {
		is := KeyStatus{Zone: bare(s.origin), KeyStatus: k, Alarm: s.decision.Alarm, Error: text(s.err)}
		for _, key := range s.ring.Parent {
			if key.ID() == k.ID {
				is.DS = strings.Join(strings.Fields(key.DS().String()), " ")
			}
		}
		list = append(list, is)
	}
	return list
}

// OrderKeys takes an order about the keys of a zone, and gives them as they are then.
func (g *GSS) OrderKeys(o KeyOrder) ([]KeyStatus, error) {
	is := g.engine.serving().signed[dns.CanonicalName(o.Zone)]
	if is == nil {
		return nil, fmt.Errorf("no zone %q is signed here", o.Zone)
	}
	ctx, cancel := context.WithTimeout(context.Background(), orderTime)
	defer cancel()
	if err := is.order(ctx, o); err != nil {
		return nil, err
	}
	return is.status(), nil
}

// orderTime bounds what an order about keys may take.
const orderTime = 3 * time.Second

// Vantages gives the GSSes whose views count, by name.
func (g *GSS) Vantages() []VantageStatus {
	e, now := g.engine, time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	all, fresh := e.vantages(now), e.inForce().config.Vote.Fresh
	list, differ := []VantageStatus{}, e.others.differ(e.inForce().digests(), now)
	lost := map[string]time.Time{}
	for _, m := range e.members(now) {
		if m.State == mesh.Lost {
			lost[m.Name] = m.Since
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v := all[name]
		s := VantageStatus{Name: name, Self: name == e.name, Heard: v.Heard, Lost: lost[name], Failing: []string{}, Differ: []string{}}
		s.Counts = s.Self || now.Sub(v.Heard) < fresh
		for _, answer := range slices.Sorted(maps.Keys(v.Answers)) {
			switch seen := v.Answers[answer]; seen.View {
			case decide.Passing:
				s.Passing++
			case decide.Failing:
				s.Failing = append(s.Failing, answer+": "+seen.Why)
			}
		}
		for _, answer := range slices.Sorted(maps.Keys(differ)) {
			if slices.Contains(differ[answer], name) {
				s.Differ = append(s.Differ, answer)
			}
		}
		list = append(list, s)
	}
	return list
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
