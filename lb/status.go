package lb

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"anycastle/bpf"
	"anycastle/internal/mesh"
	"anycastle/internal/probe"
)

// VIPStatus is one row of `show vip`.
type VIPStatus struct {
	Name        string     `json:"name"`
	Address     netip.Addr `json:"address"`
	Protocol    string     `json:"protocol"`
	Port        Ports      `json:"port"`
	Farm        string     `json:"farm"`
	Announced   bool       `json:"announced"`
	Reason      string     `json:"reason"` // why it is announced or not
	ActiveReals int        `json:"active_reals"`
	MinReals    int        `json:"min_reals"`
	Packets     uint64     `json:"packets"` // sent to reals
	Bytes       uint64     `json:"bytes"`   // of these, without outer headers
}

// RealStatus is one row of `show real`: one real in one farm.
type RealStatus struct {
	Farm            string     `json:"farm"`
	Name            string     `json:"name"`
	Address         netip.Addr `json:"address"`
	Forward         Forward    `json:"forward"`
	Weight          int        `json:"weight"` // in the config; 0: it is not there any more
	State           State      `json:"state"`
	Why             string     `json:"why"` // why it is in that state
	Since           time.Time  `json:"since"`
	Until           time.Time  `json:"until,omitzero"`   // when the state, or a change of weight, ends by itself
	PrimaryWeight   float64    `json:"primary_weight"`   // for new flows: the config's, times what agents say, made even
	SecondaryWeight float64    `json:"secondary_weight"` // for established flows
	Flows           *int       `json:"flows"`            // established, by the agent's count; null: no agent says
	Slots           int        `json:"slots"`            // of bpf.Slots, for new flows
	Share           float64    `json:"share"`            // of the farm's new flows, 0 to 1
	NextHop         string     `json:"next_hop"`
}

// DrainStatus is one row of `show drain`: a real that is ordered to drain, until it is activated.
type DrainStatus struct {
	Farm      string    `json:"farm"`
	Real      string    `json:"real"`
	State     State     `json:"state"`
	Why       string    `json:"why"`
	Since     time.Time `json:"since"`
	Ordered   time.Time `json:"ordered,omitzero"` // when the order was given that this is about; zero: nobody gave one
	Deadline  time.Time `json:"deadline"`
	FlowsLeft *int      `json:"flows_left"`   // null: no agent says
	ETA       time.Time `json:"eta,omitzero"` // when none will be left if flows go on ending as they have; zero: unknown
	Safe      bool      `json:"safe"`         // no LB of the site that is there sends it anything any more
	WaitsFor  []string  `json:"waits_for"`    // LBs that still do
}

// FarmStatus is one row of `show farm`.
type FarmStatus struct {
	Name        string   `json:"name"`
	VIPs        []string `json:"vips"`
	Reals       int      `json:"reals"`
	ActiveReals int      `json:"active_reals"`        // that take new flows
	Moving      int      `json:"slots_in_transition"` // whose new and established flows are at different reals
}

// ProbeStatus is one row of `show probe`.
type ProbeStatus struct {
	Farm   string         `json:"farm"`
	Real   string         `json:"real"`
	Type   string         `json:"type"`
	Target netip.AddrPort `json:"target"`
	State  probe.State    `json:"state"`
	Last   string         `json:"last"` // result of the last probe: ok, or what went wrong; empty before the first
	At     time.Time      `json:"at"`
	TookMS float64        `json:"took_ms"`
}

// DropStatus is one row of `show drops`.
type DropStatus struct {
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

// ReplyStatus is one row of `show replies`: what the program answered itself.
type ReplyStatus struct {
	Kind    string `json:"kind"` // echo, too_big
	Packets uint64 `json:"packets"`
}

// UplinkStatus is one row of `show uplink`.
type UplinkStatus = bpf.Uplink

// counters is what a running data plane counts.
type counters interface {
	Forwarded(e vipEntry) (packets, bytes uint64, err error)
	Drops() (map[string]uint64, error)
	Replies() (bpf.Replies, error)
	Displaced() (uint64, error)
}

// view is the state that Status shows. LB.mu guards it.
type view struct {
	counters counters // nil while no data plane is open
	uplinks  []bpf.Uplink
	vips     map[vipKey]vipEntry // installed
	withheld map[netip.Addr]string
	reals    []RealStatus
	drains   []DrainStatus
	moving   map[string]int // by farm
	results  map[targetID]probe.Result
}

func newView(cfg *Config) view {
	v := view{results: map[targetID]probe.Result{}}
	now := time.Now()
	for i := range cfg.Farms {
		f := &cfg.Farms[i]
		for j := range f.Reals {
			r := &f.Reals[j]
			v.reals = append(v.reals, RealStatus{Farm: f.Name, Name: r.Name, Address: r.Address, Forward: f.forward(r), Weight: r.Weight,
				State: StateFailed, Why: notProbed, Since: now})
		}
	}
	return v
}

func (l *LB) showPlane(c *xdp, uplinks []bpf.Uplink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view.uplinks = uplinks
	l.view.counters = nil
	if c != nil {
		l.view.counters = c
	}
}

func (l *LB) showResult(id targetID, r probe.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view.results[id] = r
}

func (l *LB) showWithheld(withheld map[netip.Addr]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view.withheld = withheld
}

// Status gives what the role's socket answers, by path.
func (l *LB) Status() map[string]func() any {
	return map[string]func() any{
		"/v1/vip":      func() any { return l.VIPs() },
		"/v1/real":     func() any { return l.Reals() },
		"/v1/farm":     func() any { return l.Farms() },
		"/v1/probe":    func() any { return l.Probes() },
		"/v1/drain":    func() any { return l.Drains() },
		"/v1/drops":    func() any { return l.Drops() },
		"/v1/replies":  func() any { return l.Replies() },
		"/v1/uplink":   func() any { return l.Uplinks() },
		"/v1/peer-lb":  func() any { return l.Peers() },
		"/v1/selector": func() any { return l.Selectors() },
	}
}

// VIPs gives the state of each VIP in the order of the config.
func (l *LB) VIPs() []VIPStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]VIPStatus, 0, len(l.cfg.VIPs))
	for _, v := range l.cfg.VIPs {
		s := VIPStatus{Name: v.Name, Address: v.Address, Protocol: v.Protocol, Port: v.Port, Farm: v.Farm,
			ActiveReals: l.activeReals(v.Farm), MinReals: v.MinReals}
		s.Announced, s.Reason = l.standing(netip.PrefixFrom(v.Address, v.Address.BitLen()))
		switch why := l.view.withheld[v.Address]; {
		case s.Announced:
		case why != "":
			s.Reason = why
		case s.Reason == "":
			s.Reason = "first probes not finished"
		}
		if e, ok := l.view.vips[v.key()]; ok && l.view.counters != nil {
			// a counter that cannot be read is shown as 0: the map is there as long as counters is
			s.Packets, s.Bytes, _ = l.view.counters.Forwarded(e)
		}
		list = append(list, s)
	}
	return list
}

// activeReals counts the reals of a farm that take new flows. The caller holds mu.
func (l *LB) activeReals(farm string) int {
	n := 0
	for _, r := range l.view.reals {
		if r.Farm == farm && r.State.inService() {
			n++
		}
	}
	return n
}

// Reals gives the state of each real of each farm in the order of the config, and of those that have left it and still
// have flows.
func (l *LB) Reals() []RealStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]RealStatus{}, l.view.reals...)
}

// Drains gives the reals that are ordered to drain.
func (l *LB) Drains() []DrainStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]DrainStatus{}, l.view.drains...)
}

// Peers gives the LBs of the site as the mesh sees them, this one among them; none if there is no mesh.
func (l *LB) Peers() []mesh.Member {
	if l.mesh == nil {
		return []mesh.Member{}
	}
	return l.mesh.Members()
}

// Farms gives the state of each farm in the order of the config.
func (l *LB) Farms() []FarmStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]FarmStatus, 0, len(l.cfg.Farms))
	for _, f := range l.cfg.Farms {
		s := FarmStatus{Name: f.Name, Reals: len(f.Reals), ActiveReals: l.activeReals(f.Name), Moving: l.view.moving[f.Name]}
		for _, v := range l.cfg.VIPs {
			if v.Farm == f.Name {
				s.VIPs = append(s.VIPs, v.Name)
			}
		}
		list = append(list, s)
	}
	return list
}

// Probes gives the last result of each probe in the order of the config.
func (l *LB) Probes() []ProbeStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []ProbeStatus
	for i := range l.cfg.Farms {
		f := &l.cfg.Farms[i]
		vips := l.cfg.addressesOf(f)
		for j := range f.Reals {
			r := &f.Reals[j]
			for _, t := range l.cfg.targetsOf(f, r, vips) {
				s := ProbeStatus{Farm: f.Name, Real: r.Name, Type: t.config.Type, Target: t.addr}
				if res, ok := l.view.results[t.id]; ok {
					s.State, s.At, s.Last = res.State, res.At, "ok"
					s.TookMS = float64(res.Took.Microseconds()) / 1000
					if res.Err != nil {
						s.Last = res.Err.Error()
					}
				}
				list = append(list, s)
			}
		}
	}
	return list
}

// Drops gives the reasons for which packets were dropped, sorted by name, those that never occurred with 0. It is empty
// while Run does not run.
func (l *LB) Drops() []DropStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.view.counters == nil {
		return []DropStatus{}
	}
	drops, err := l.view.counters.Drops()
	if err != nil {
		l.log.Warn("read drop counters", "err", err)
	}
	list := make([]DropStatus, 0, len(drops))
	for _, reason := range slices.Sorted(maps.Keys(drops)) {
		list = append(list, DropStatus{Reason: reason, Packets: drops[reason]})
	}
	return list
}

// Replies gives what the program answered itself, by kind. It is empty while Run does not run.
func (l *LB) Replies() []ReplyStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.view.counters == nil {
		return []ReplyStatus{}
	}
	r, err := l.view.counters.Replies()
	if err != nil {
		l.log.Warn("read counters of replies", "err", err)
	}
	return []ReplyStatus{{"echo", r.Echo}, {"too_big", r.TooBig}}
}

// displaced gives how many stored flows had to make room for others since the maps were made. It is 0 while Run does not
// run.
func (l *LB) displaced() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.view.counters == nil {
		return 0
	}
	n, err := l.view.counters.Displaced()
	if err != nil {
		l.log.Warn("read the counter of displaced flows", "err", err)
	}
	return n
}

// Uplinks gives the interfaces that the program is on. It is empty while Run does not run.
func (l *LB) Uplinks() []UplinkStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]UplinkStatus{}, l.view.uplinks...)
}
