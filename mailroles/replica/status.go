package replica

import (
	"time"

	"anycastle/mailroles/replica/bodies"
)

// MemberStatus is what a replica knows of a member of the group.
type MemberStatus struct {
	Name     string    `json:"name"`
	Site     string    `json:"site"`
	Addr     string    `json:"addr"`
	Witness  bool      `json:"witness,omitempty"`
	Self     bool      `json:"self,omitempty"`
	Voter    bool      `json:"voter"`
	In       bool      `json:"in"`                // the group has it
	Matched  uint64    `json:"matched,omitempty"` // operations up to here are on its disk for certain; the active one knows
	Applied  uint64    `json:"applied,omitempty"`
	Lag      uint64    `json:"lag"`     // operations that it is behind
	Missing  int       `json:"missing"` // bodies that it waits for
	Heard    time.Time `json:"heard,omitzero"`
	Fit      bool      `json:"fit"`
	Why      string    `json:"why,omitempty"` // it is not fit, or cannot be active
	Active   bool      `json:"active,omitempty"`
	Free     uint64    `json:"free,omitempty"`
	Complete uint64    `json:"complete,omitempty"`
}

// TwoSiteStatus is whether both sites have what is acknowledged.
type TwoSiteStatus struct {
	Policy     Policy    `json:"policy"`
	State      string    `json:"state"` // both sites, exposed, alone, or empty where this replica is not active
	Since      time.Time `json:"since,omitzero"`
	Operations uint64    `json:"operations,omitempty"` // that are exposed
}

// The states of TwoSiteStatus.
const (
	BothSites = "both sites"
	Exposed   = "exposed"
	Alone     = "alone: refusing"
)

// CatchUpStatus is how far a replica is with the bodies that it lacks.
type CatchUpStatus struct {
	Missing int           `json:"missing"`
	Got     int           `json:"got"`
	Octets  int64         `json:"octets"`
	Since   time.Time     `json:"since,omitzero"`
	ETA     time.Duration `json:"eta,omitempty"`
}

// Status is what a replica knows.
type Status struct {
	Self      string         `json:"self"`
	State     Phase          `json:"state"`
	Why       string         `json:"why"`
	Since     time.Time      `json:"since"`
	Unfit     string         `json:"unfit,omitempty"`
	Active    string         `json:"active,omitempty"` // the member that leads
	ActiveFor time.Time      `json:"active_since,omitzero"`
	Serving   bool           `json:"serving"` // this one, with its lease
	Refuses   string         `json:"refuses,omitempty"`
	Term      uint64         `json:"term"`
	Era       uint64         `json:"era"`
	First     uint64         `json:"first"` // of the log here
	Last      uint64         `json:"last"`
	Committed uint64         `json:"committed"`
	Applied   uint64         `json:"applied"`
	Chain     string         `json:"chain,omitempty"`
	TwoSite   TwoSiteStatus  `json:"two_site"`
	Members   []MemberStatus `json:"replicas"`
	CatchUp   CatchUpStatus  `json:"catch_up"`
	Scrub     ScrubStatus    `json:"scrub"`
	Moves     []Move         `json:"moves"` // that this replica had a part in, the last ones
}

// Status tells what this replica knows.
func (r *Replica) Status() Status {
	r.mu.Lock()
	s := Status{
		Self: r.self.Name, State: r.phase, Why: r.why, Since: r.since, Unfit: r.unfitWhy(), Era: r.era.Load(),
		TwoSite: TwoSiteStatus{Policy: r.policy(), Since: r.exposed.since, Operations: r.exposed.operations},
		Moves:   append([]Move{}, r.moves...), Scrub: r.scrub.status(),
	}
	r.mu.Unlock()
	if mail := r.store.get(); mail != nil {
		at := mail.Applied()
		s.Applied, s.Chain = at.Index, at.Chain.String()
	}
	if r.fetcher != nil {
		p := r.fetcher.Progress()
		s.CatchUp = CatchUpStatus{Missing: p.Missing, Got: p.Got, Octets: p.Octets, Since: p.Since, ETA: p.ETA}
	}
	r.addGroup(&s)
	r.addTwoSite(&s)
	return s
}

// addGroup adds what the group knows.
func (r *Replica) addGroup(s *Status) {
	known := map[string]int{}
	for _, m := range r.opt.Members {
		known[m.Name] = len(s.Members)
		s.Members = append(s.Members, MemberStatus{
			Name: m.Name, Site: m.Site, Addr: m.Addr, Witness: m.Witness, Self: m.Name == r.self.Name, Fit: m.Witness,
		})
	}
	g := r.group.Load()
	if g != nil {
		is := g.Status()
		s.Active, s.Term, s.Era, s.First, s.Last, s.Committed = r.leader(), is.Term, is.Era, is.First, is.Last, is.Committed
		if r.self.Witness {
			s.Applied, s.Chain = is.Applied.Index, is.Applied.Chain.String()
		}
		for _, p := range is.Peers {
			m := &s.Members[known[p.Name]]
			m.Voter, m.In, m.Matched, m.Heard = p.Voter, p.In, p.Matched, p.Contact
		}
	}
	for i := range s.Members {
		r.addView(s, &s.Members[i])
	}
}

// addView adds what a member says of itself.
func (r *Replica) addView(s *Status, m *MemberStatus) {
	switch {
	case m.Self:
		m.Applied, m.Fit, m.Why, m.Missing, m.Free, m.Active = s.Applied, s.Unfit == "", s.Unfit, s.CatchUp.Missing, r.free(), r.epoch.Load() != nil
		m.Matched, m.Heard = s.Last, time.Now()
		if mail := r.store.get(); mail != nil {
			m.Complete = mail.Complete()
		}
	case !m.Witness && r.exchange != nil:
		v := r.exchange.View(m.Name)
		if v.Heard.After(m.Heard) {
			m.Heard = v.Heard
		}
		if !v.Known {
			m.Why = "nothing was heard of it"
			break
		}
		m.apply(v.State)
		if !r.alive(m.Name) {
			m.Fit, m.Active, m.Why = false, false, "nothing is heard of it"
		}
	}
	switch {
	case m.Matched > 0:
		m.Lag = s.Committed - min(m.Matched, s.Committed)
	case m.Self || r.exchange != nil && r.exchange.View(m.Name).Known: // of a witness the active one knows, and a witness of nobody
		m.Lag = s.Applied - min(m.Applied, s.Applied)
	}
}

func (m *MemberStatus) apply(s bodies.State) {
	m.Applied, m.Complete, m.Missing, m.Fit, m.Why, m.Free, m.Active = s.Applied, s.Complete, s.Missing, s.Fit, s.Why, s.Free, s.Active
}

// addTwoSite adds whether what is acknowledged is at both sites, where this replica is active.
func (r *Replica) addTwoSite(s *Status) {
	e := r.epoch.Load()
	if e == nil {
		return
	}
	s.Serving, s.ActiveFor = r.Serving() == nil, e.since
	if err := (journal{r}).Admit(); err != nil {
		s.Refuses = err.Error()
	}
	switch {
	case !s.TwoSite.Since.IsZero():
		s.TwoSite.State = Exposed
	case !r.alone(e):
		s.TwoSite.State = BothSites
	case r.policy() == Wait:
		s.TwoSite.State = Alone
	default:
		s.TwoSite.State = Exposed
	}
}
