package lb

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"anycastle/bpf"
)

// Diff is what another config would move.
type Diff struct {
	Refused string      `json:"refused,omitempty"` // why a reload would not take it; the rest is what a restart with it would do
	Behind  string      `json:"behind,omitempty"`  // why what is installed is not what should be
	Farms   []FarmDiff  `json:"farms"`             // that it changes, in the order of the old config, then the new ones
	VIPs    []VIPDiff   `json:"vips"`              // that it changes, or whose flows would break
	Flows   *FlowMotion `json:"flows"`             // null: two files were compared
}

// FarmDiff is what would become of a farm.
type FarmDiff struct {
	Name            string     `json:"name"`
	Changes         []string   `json:"changes"` // of what the config says of it
	Method          string     `json:"method"`  // that keeps established flows where they are meanwhile
	Until           time.Time  `json:"until,omitzero"`
	Slots           int        `json:"slots"`
	Moved           int        `json:"moved"` // slots whose new flows would go to another real in the end
	MovedShare      float64    `json:"moved_share"`
	MovedNow        int        `json:"moved_now"`  // at once, or as soon as new reals pass their probes
	Transition      int        `json:"transition"` // slots that would pass through a transition; such as do so already are among them
	TransitionShare float64    `json:"transition_share"`
	Reals           []RealDiff `json:"reals"`
}

// RealDiff is what would become of a real of a farm.
type RealDiff struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	Changes []string   `json:"changes"`
	Slots   int        `json:"slots"`     // for new flows, now
	After   int        `json:"slots_new"` // in the end
}

// VIPDiff is what would become of a VIP.
type VIPDiff struct {
	Name     string     `json:"name"`
	Address  netip.Addr `json:"address"`
	Protocol string     `json:"protocol"`
	Port     Ports      `json:"port"`
	Changes  []string   `json:"changes"`
	Withheld string     `json:"withheld,omitempty"` // why its address would not be announced any more
	Breaks   float64    `json:"breaks_share"`       // of its established flows, whose next packet would go to a real that does not know them
}

// errNotReady says that there is nothing yet to compare with.
var errNotReady = fmt.Errorf("%w: the first probes have not finished, so there is nothing yet to compare with; ask again", ErrQuery)

// Diff says what a config, which Validate found nothing wrong with, would move if a reload took it now. It changes nothing.
// It is worked out by the same functions as what is then installed. limit bounds the list of flows. An error is ErrQuery,
// ErrNotRunning or the kernel's.
func (l *LB) Diff(ctx context.Context, cfg *Config, limit int) (Diff, error) {
	if !l.comparing.TryLock() {
		return Diff{}, fmt.Errorf("%w: another config is being compared; ask again", ErrQuery)
	}
	defer l.comparing.Unlock()
	s, err := l.snapshot(ctx)
	if err != nil {
		return Diff{}, err
	}
	if !s.ready {
		return Diff{}, errNotReady
	}
	c := s.compare(cfg)
	d := c.diff()
	d.Behind, d.Refused = s.behind, s.in.cfg.refuses(cfg)
	d.Flows, err = l.motion(ctx, s, c, limit)
	return d, err
}

// Compare says what would move from one config to another, both valid, if all reals pass and no transition runs.
func Compare(old, next *Config) Diff {
	d := atRest(old).compare(next).diff()
	d.Refused = old.refuses(next)
	return d
}

// atRest is a snapshot of a balancer all of whose reals are active.
func atRest(cfg *Config) *snapshot {
	s := &snapshot{in: newInputs(cfg), at: now(), ready: true}
	s.in.assume()
	s.in.evolve(s.at)
	s.have = s.in.desired(newTables(), s.at)
	return s
}

// refuses says why a reload would not take a config; empty: it would.
func (c *Config) refuses(cfg *Config) string {
	if err := c.mayBecome(cfg); err != nil {
		return err.Error()
	}
	return ""
}

// comparison is of what is installed with what would be.
type comparison struct {
	old, next *Config
	now       *phase
	then      []*phase // in order; at least two, of which the first two come at once
}

func (s *snapshot) compare(cfg *Config) *comparison {
	return &comparison{old: s.in.cfg, next: cfg, now: s.now(), then: s.predict(cfg)}
}

// soon is what is installed when new reals have passed their probes, and end when every transition has ended.
func (c *comparison) soon() *phase { return c.then[1] }
func (c *comparison) end() *phase  { return c.then[len(c.then)-1] }

func (c *comparison) diff() Diff {
	d := Diff{Farms: []FarmDiff{}, VIPs: c.vips()}
	var names []string
	for _, cfg := range []*Config{c.old, c.next} {
		for _, f := range cfg.Farms {
			if !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		}
	}
	for _, name := range names {
		// the table of a farm that stays as it is, is none of the config's business
		if f := c.farm(name); len(f.Changes) > 0 || f.realsChange() {
			d.Farms = append(d.Farms, f)
		}
	}
	return d
}

func (f FarmDiff) realsChange() bool {
	return slices.ContainsFunc(f.Reals, func(r RealDiff) bool { return len(r.Changes) > 0 })
}

func (c *comparison) farm(name string) FarmDiff {
	d := FarmDiff{Name: name, Changes: c.farmChanges(name), Slots: bpf.Slots}
	if f := find(c.next.Farms, name, func(f *Farm) string { return f.Name }); f != nil {
		d.Method = f.Transition.Method
	}
	d.Reals = c.reals(name)
	before, after := c.now.slotsOf(name), c.end().slotsOf(name)
	if before == nil || after == nil {
		return d
	}
	var moved, movedNow, moving [bpf.Slots]bool
	c.now.differs(before, c.end(), after, &moved)
	c.now.differs(before, c.soon(), c.soon().slotsOf(name), &movedNow)
	last := before
	for _, p := range c.then {
		slots := p.slotsOf(name)
		if !sameTable(last, slots) || p == c.then[0] {
			for i, s := range slots {
				moving[i] = moving[i] || s.moving()
			}
		}
		last = slots
	}
	d.Moved, d.MovedNow, d.Transition = count(&moved), count(&movedNow), count(&moving)
	d.MovedShare, d.TransitionShare = float64(d.Moved)/bpf.Slots, float64(d.Transition)/bpf.Slots
	d.Until = c.rests(name)
	return d
}

// rests is when the last slot of a farm leaves its transition; zero: none is in one.
func (c *comparison) rests(name string) (at time.Time) {
	for i, p := range c.then[:len(c.then)-1] {
		if slices.ContainsFunc(p.slotsOf(name), slotPair.moving) {
			at = c.then[i+1].at
		}
	}
	return at
}

// slotsOf is the table of a farm by name; nil: there is none.
func (p *phase) slotsOf(name string) []slotPair {
	i, ok := p.farms[name]
	if !ok {
		return nil
	}
	return p.slots[i]
}

// sameTable says whether two tables are one.
func sameTable(a, b []slotPair) bool { return len(a) > 0 && len(b) > 0 && &a[0] == &b[0] }

// differs marks the slots whose new flows go to other reals in another phase.
func (p *phase) differs(slots []slotPair, o *phase, others []slotPair, marks *[bpf.Slots]bool) {
	for i := range min(len(slots), len(others)) {
		marks[i] = p.addrs[slots[i].primary] != o.addrs[others[i].primary]
	}
}

func count(marks *[bpf.Slots]bool) int {
	n := 0
	for _, m := range marks {
		if m {
			n++
		}
	}
	return n
}

// reals tells of every real of a farm, by name.
func (c *comparison) reals(farm string) []RealDiff {
	was, is := realsOf(c.old, farm), realsOf(c.next, farm)
	before, after := c.now.held(farm), c.end().held(farm)
	list := []RealDiff{}
	all := maps.Clone(was)
	maps.Copy(all, is)
	for addr := range before {
		if _, ok := all[addr]; !ok && addr.IsValid() {
			all[addr] = &Real{Name: c.now.who.nameOf(farm, addr), Address: addr}
		}
	}
	for addr, r := range all {
		list = append(list, RealDiff{Name: r.Name, Address: addr, Changes: realChanges(c, farm, was[addr], is[addr]), Slots: before[addr], After: after[addr]})
	}
	slices.SortFunc(list, func(a, b RealDiff) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address)) })
	return list
}

func realsOf(cfg *Config, farm string) map[netip.Addr]*Real {
	reals := map[netip.Addr]*Real{}
	if f := find(cfg.Farms, farm, func(f *Farm) string { return f.Name }); f != nil {
		for i := range f.Reals {
			reals[f.Reals[i].Address] = &f.Reals[i]
		}
	}
	return reals
}

// held counts the slots of each real for new flows.
func (p *phase) held(farm string) map[netip.Addr]int {
	n := map[netip.Addr]int{}
	for _, s := range p.slotsOf(farm) {
		n[p.addrs[s.primary]]++
	}
	return n
}

// find gives the item of a name, or nil.
func find[T any](list []T, name string, of func(*T) string) *T {
	for i := range list {
		if of(&list[i]) == name {
			return &list[i]
		}
	}
	return nil
}

// Harms says whether a reload would refuse the config, break established flows or withdraw an address.
func (d *Diff) Harms() bool {
	return d.Refused != "" || d.Flows != nil && d.Flows.Break > 0 ||
		slices.ContainsFunc(d.VIPs, func(v VIPDiff) bool { return v.Breaks > 0 || v.Withheld != "" })
}
