package lb

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"anycastle/bpf"
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
	Farm    string     `json:"farm"`
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	Weight  int        `json:"weight"`
	State   string     `json:"state"` // active or failed
	Why     string     `json:"why"`   // why it is in that state
	Since   time.Time  `json:"since"`
	Slots   int        `json:"slots"` // of bpf.Slots
	Share   float64    `json:"share"` // of the farm's flows, 0 to 1
	NextHop string     `json:"next_hop"`
}

// FarmStatus is one row of `show farm`.
type FarmStatus struct {
	Name        string   `json:"name"`
	VIPs        []string `json:"vips"`
	Reals       int      `json:"reals"`
	ActiveReals int      `json:"active_reals"`
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

// UplinkStatus is one row of `show uplink`.
type UplinkStatus = bpf.Uplink

// counters is what a running data plane counts.
type counters interface {
	Forwarded(e vipEntry) (packets, bytes uint64, err error)
	Drops() (map[string]uint64, error)
}

// view is the state that Status shows. LB.mu guards it.
type view struct {
	counters  counters // nil while no data plane is open
	uplinks   []bpf.Uplink
	vips      map[vipKey]vipEntry // installed
	announced []netip.Prefix
	withheld  map[netip.Addr]string
	reals     map[realID]RealStatus
	results   map[targetID]probe.Result
}

func newView(cfg *Config) view {
	v := view{reals: map[realID]RealStatus{}, results: map[targetID]probe.Result{}}
	now := time.Now()
	for _, f := range cfg.Farms {
		for _, r := range f.Reals {
			v.reals[realID{f.Name, r.Name}] = RealStatus{Farm: f.Name, Name: r.Name, Address: r.Address, Weight: r.Weight,
				State: "failed", Why: "first probe not finished", Since: now}
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

// show publishes the loop's state, and logs the reals whose state is another than before.
func (l *loop) show() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view.vips = l.have.allVIPs()
	l.view.announced = l.announced
	for i := range l.cfg.Farms {
		f := &l.cfg.Farms[i]
		slots := l.slotsOf(f)
		for j := range f.Reals {
			r := &f.Reals[j]
			id := realID{f.Name, r.Name}
			s := l.view.reals[id]
			old := s.State
			s.State, s.Why = l.realState(f, r)
			if s.State != old {
				s.Since = time.Now()
				l.log.Info("real changed", "farm", f.Name, "real", r.Name, "old", old, "new", s.State, "cause", s.Why)
			}
			s.Slots = slots[r.Address]
			s.Share = float64(s.Slots) / bpf.Slots
			s.NextHop = l.in.hops[r.Address].String()
			l.view.reals[id] = s
		}
	}
}

// realState gives what Status says of a real. The caller holds mu.
func (l *loop) realState(f *Farm, r *Real) (state, why string) {
	ok, why := l.in.active(f, r)
	if ok {
		return "active", "probe passes"
	}
	for _, t := range l.cfg.targetsOf(f, r) {
		if res := l.view.results[t.id]; res.State == probe.Failing && res.Err != nil {
			return "failed", res.Err.Error()
		}
	}
	return "failed", why
}

// slotsOf counts the installed slots of each real of a farm.
func (l *loop) slotsOf(f *Farm) map[netip.Addr]int {
	n := map[netip.Addr]int{}
	installed := l.have.allVIPs()
	for _, v := range l.cfg.VIPs {
		e, ok := installed[v.key()]
		if v.Farm != f.Name || !ok {
			continue
		}
		for _, slot := range l.have.slots[e.farm] {
			if slot.primary != none {
				n[l.have.reals[uint32(slot.primary)].addr]++
			}
		}
		break
	}
	return n
}

// Status gives what the role's socket answers, by path.
func (l *LB) Status() map[string]func() any {
	return map[string]func() any{
		"/v1/vip":    func() any { return l.VIPs() },
		"/v1/real":   func() any { return l.Reals() },
		"/v1/farm":   func() any { return l.Farms() },
		"/v1/probe":  func() any { return l.Probes() },
		"/v1/drops":  func() any { return l.Drops() },
		"/v1/uplink": func() any { return l.Uplinks() },
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
		s.Announced = slices.Contains(l.view.announced, netip.PrefixFrom(v.Address, v.Address.BitLen()))
		switch {
		case s.Announced:
			s.Reason = "enough reals in service"
		case l.view.withheld[v.Address] != "":
			s.Reason = l.view.withheld[v.Address]
		case l.opts.Announcer == nil:
			s.Reason = "this process announces nothing"
		default:
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

// activeReals counts the active reals of a farm. The caller holds mu.
func (l *LB) activeReals(farm string) int {
	n := 0
	for id, r := range l.view.reals {
		if id.farm == farm && r.State == "active" {
			n++
		}
	}
	return n
}

// Reals gives the state of each real of each farm in the order of the config.
func (l *LB) Reals() []RealStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []RealStatus
	for _, f := range l.cfg.Farms {
		for _, r := range f.Reals {
			list = append(list, l.view.reals[realID{f.Name, r.Name}])
		}
	}
	return list
}

// Farms gives the state of each farm in the order of the config.
func (l *LB) Farms() []FarmStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]FarmStatus, 0, len(l.cfg.Farms))
	for _, f := range l.cfg.Farms {
		s := FarmStatus{Name: f.Name, Reals: len(f.Reals), ActiveReals: l.activeReals(f.Name)}
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
		for j := range f.Reals {
			r := &f.Reals[j]
			for _, t := range l.cfg.targetsOf(f, r) {
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

// Uplinks gives the interfaces that the program is on. It is empty while Run does not run.
func (l *LB) Uplinks() []UplinkStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]UplinkStatus{}, l.view.uplinks...)
}
