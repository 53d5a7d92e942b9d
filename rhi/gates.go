package rhi

import (
	"slices"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/mesh"
	"anycastle/rhi/decide"
)

// Gates says when VIPs are announced, and how fast that may change. What the figures mean is told in package decide.
type Gates struct {
	Learn       time.Duration `yaml:"learn"`         // after a start nothing is announced for so long; default 10s
	Lease       time.Duration `yaml:"lease"`         // a balancer that says nothing for so long is taken to hang, and its VIPs are withdrawn; at least 2s; default 3s
	HoldDown    time.Duration `yaml:"hold_down"`     // how long health must last after a fall before a VIP rises; doubles with each fall; default 10s
	HoldDownMax time.Duration `yaml:"hold_down_max"` // what it doubles to; default 5m
	Calm        time.Duration `yaml:"calm"`          // without a fall halves it; default 5m
	FailBack    time.Duration `yaml:"fail_back"`     // a VIP that comes back stays at the end of the ladder so long while another balancer has the traffic; default 30s
	Manual      bool          `yaml:"manual"`        // at a primary it stays there until `anycastle activate site`; default false
	Drain       time.Duration `yaml:"drain"`         // deadline of a drain whose order has none; default 10m
	Settle      time.Duration `yaml:"settle"`        // a drain lasts at least so long: routers need time; default 10s
	Withdrawals int           `yaml:"withdrawals"`   // VIPs that may be withdrawn for health within a minute, the rest is announced as degraded; default 4
	Damping     Damping       `yaml:"damping"`       // the account of flaps; give it what the upstreams use, if they say
	Alone       bool          `yaml:"alone"`         // no other balancer announces these VIPs: they are withdrawn for health without asking; needs that there is no mesh; default false
}

// SetDefaults implements config.Defaulter.
func (g *Gates) SetDefaults() {
	d := decide.Defaults()
	*g = Gates{Learn: d.Learn, Lease: d.Lease, HoldDown: d.HoldDown, HoldDownMax: d.HoldDownMax, Calm: d.Calm,
		FailBack: d.Failback, Drain: d.Drain, Settle: d.Settle, Withdrawals: d.Cap}
	g.Damping.SetDefaults()
}

// Damping is an account of what an upstream that damps routes (RFC 2439) thinks of a VIP's flaps.
type Damping struct {
	Withdraw int           `yaml:"withdraw"`  // penalty of a withdraw; default 1000
	Change   int           `yaml:"change"`    // penalty of a change of attributes; default 500
	Park     int           `yaml:"park"`      // a change for health that would bring it here parks the VIP instead; default 1500
	Reuse    int           `yaml:"reuse"`     // at or below it a parked VIP moves again; default 750
	HalfLife time.Duration `yaml:"half_life"` // in which half of it is forgotten; default 15m
}

// SetDefaults implements config.Defaulter.
func (d *Damping) SetDefaults() {
	is := decide.Defaults().Damping
	*d = Damping{int(is.Withdraw), int(is.Change), int(is.Park), int(is.Reuse), is.HalfLife}
}

// minLease is more than the second in which a balancer renews it.
const minLease = 2 * time.Second

// Decide is what package decide is to go by.
func (c *Config) Decide() decide.Config {
	var groups []decide.Group
	for _, name := range c.groupNames() {
		g, rungs := c.Groups[name], len(c.Ladder(name))-2 // without the first and the last
		d := decide.DefaultGroup(name, rungs)
		for _, set := range []struct {
			to    *int
			given *int
		}{{&d.Backup, g.Backup}, {&d.Degraded, g.Degraded}, {&d.Draining, g.Draining}, {&d.Parked, g.Parked}} {
			if set.given != nil {
				*set.to = *set.given
			}
		}
		groups = append(groups, d)
	}
	d := decide.Defaults(groups...)
	g := c.Gates
	d.Learn, d.Lease, d.HoldDown, d.HoldDownMax, d.Calm = g.Learn, g.Lease, g.HoldDown, g.HoldDownMax, g.Calm
	d.Failback, d.ManualFailback, d.Drain, d.Settle = g.FailBack, g.Manual, g.Drain, g.Settle
	d.Cap, d.Alone = g.Withdrawals, g.Alone
	d.Damping = decide.Damping{Withdraw: float64(g.Damping.Withdraw), Change: float64(g.Damping.Change), Park: float64(g.Damping.Park),
		Reuse: float64(g.Damping.Reuse), HalfLife: g.Damping.HalfLife}
	return d
}

func (c *Config) validateGates(at config.Cursor) {
	if !slices.Contains([]decide.Role{decide.Primary, decide.Backup}, c.Role) {
		at.Key("role").Errorf("%q is no role of a site; use %s or %s", c.Role, decide.Primary, decide.Backup)
	}
	if c.Site != "" && !mesh.ValidName(c.Site) {
		at.Key("site").Errorf("%q is no name of a site; use 1 to 64 letters, digits, dots, dashes and underscores", c.Site)
	}
	if c.Mesh != nil {
		c.Mesh.Validate(at.Key("mesh"))
	}
	gates := at.Key("gates")
	if c.Gates.Lease < minLease {
		gates.Key("lease").Errorf("%v is less than %v; the balancer renews it every second", c.Gates.Lease, minLease)
	}
	if c.Gates.Alone && c.Mesh != nil {
		gates.Key("alone").Errorf("there is a mesh, so there are others to ask; remove one of the two")
	}
	for name, g := range c.Groups {
		for _, r := range []struct {
			key  string
			rung *int
		}{{"backup", g.Backup}, {"degraded", g.Degraded}, {"draining", g.Draining}, {"parked", g.Parked}} {
			if last := len(c.Ladder(name)) - 2; r.rung != nil && (*r.rung < 0 || *r.rung > last) {
				at.Key("groups").Key(name).Key(r.key).Errorf("there is no rung %d; its ladder has rungs 0 (announced) to %d", *r.rung, last)
			}
		}
	}
	if err := c.Decide().Check(); err != nil {
		gates.Errorf("%v", err)
	}
}
