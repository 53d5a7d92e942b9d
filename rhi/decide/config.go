package decide

import (
	"fmt"
	"time"
)

// Config are the times, caps and ladders of a site. Defaults gives sane ones.
type Config struct {
	Groups []Group // of peers

	Learn time.Duration // after the start of the process, or of a VIP, in which nothing is announced; default 10s
	Lease time.Duration // how long what the health engine said counts; default 3s
	Fresh time.Duration // how long what was heard of another site, or read in a BGP table, counts; default 5s

	HoldDown    time.Duration // how long health must last after a flap before the VIP rises; doubles with each flap; default 10s
	HoldDownMax time.Duration // what it doubles to at most; default 5m
	Calm        time.Duration // without a flap halves it; default 5m

	Failback       time.Duration // how long a VIP that comes back stays at the end of the ladder while another site has the traffic; default 30s
	ManualFailback bool          // a primary stays there until it is ordered to activate

	Drain  time.Duration // deadline of a drain whose order has none; default 10m
	Settle time.Duration // how long a drain lasts at least: routers need time to send new flows elsewhere; default 10s

	Cap     int  // VIPs that may be withdrawn for health within a minute; 0: none; default 4
	Alone   bool // nobody else is asked: a VIP of which no other site is known may be withdrawn
	Damping Damping
}

// capWindow is what Config.Cap counts over.
const capWindow = time.Minute

// Damping is a local account of what RFC 2439 makes an upstream think of us.
type Damping struct {
	Withdraw float64       // penalty of a withdraw; default 1000
	Change   float64       // penalty of a change of attributes; default 500
	Park     float64       // a change for health that would bring it here parks the VIP instead; default 1500
	Reuse    float64       // a parked VIP moves again at or below it; default 750
	HalfLife time.Duration // default 15m
}

// maxPark is how long a VIP is parked at most, in half-lives (RFC 2439 4.2: the ceiling of the penalty).
const maxPark = 4

// Defaults is the config of a site with the given groups.
func Defaults(groups ...Group) Config {
	return Config{
		Groups: groups,
		Learn:  10 * time.Second, Lease: 3 * time.Second, Fresh: 5 * time.Second,
		HoldDown: 10 * time.Second, HoldDownMax: 5 * time.Minute, Calm: 5 * time.Minute,
		Failback: 30 * time.Second, Drain: 10 * time.Minute, Settle: 10 * time.Second,
		Cap:     4,
		Damping: Damping{Withdraw: 1000, Change: 500, Park: 1500, Reuse: 750, HalfLife: 15 * time.Minute},
	}
}

// Rung is a step of a group's ladder: 0 is announced plainly, each higher number is less preferred, up to the group's
// Rungs; then comes Withdrawn.
type Rung int

// Withdrawn is below every rung of any ladder.
const Withdrawn Rung = 255

// MaxRungs bounds a ladder.
const MaxRungs = 16

// String says the rung in words.
func (r Rung) String() string {
	switch r {
	case 0:
		return "announced plainly"
	case Withdrawn:
		return "withdrawn"
	}
	return fmt.Sprintf("rung %d", int(r))
}

// Group is the ladder of a group of peers: how many rungs it has between announced plainly and withdrawn, and which of
// them a place stands for. What a rung sends (MED, prepends, communities, at the end GSHUT, RFC 8326) is the speaker's.
type Group struct {
	Name     string
	Rungs    int // 0: it knows announced and withdrawn alone
	Backup   int // of a backup site, at its best
	Degraded int
	Draining int
	Parked   int // choose a low one: a parked VIP stays there whatever health says
}

// DefaultGroup is a ladder of that many rungs: a backup site is at the first, a degraded one at the second, and drains
// and parked VIPs at the last.
func DefaultGroup(name string, rungs int) Group {
	return Group{Name: name, Rungs: rungs, Backup: min(1, rungs), Degraded: min(2, rungs), Draining: rungs, Parked: rungs}
}

// rung is the group's rung of a place. A backup site is never above its own.
func (g Group) rung(p Place, r Role) Rung {
	best := 0
	if r == Backup {
		best = g.Backup
	}
	switch p {
	case PlaceWithdrawn:
		return Withdrawn
	case PlaceDegraded:
		best = max(best, g.Degraded)
	case PlaceDraining:
		best = max(best, g.Draining)
	case PlaceParked:
		best = max(best, g.Parked)
	case PlaceLast:
		best = g.Rungs
	}
	return Rung(max(0, min(best, g.Rungs, MaxRungs)))
}

// Check says what is wrong with a config, and what to do about it.
func (c Config) Check() error {
	names := map[string]bool{}
	for _, g := range c.Groups {
		if names[g.Name] {
			return fmt.Errorf("two groups are called %q; give each its own name", g.Name)
		}
		names[g.Name] = true
		if g.Rungs < 0 || g.Rungs > MaxRungs {
			return fmt.Errorf("group %q has %d rungs; use 0 to %d", g.Name, g.Rungs, MaxRungs)
		}
		for _, r := range []struct {
			name string
			rung int
		}{{"backup", g.Backup}, {"degraded", g.Degraded}, {"draining", g.Draining}, {"parked", g.Parked}} {
			if r.rung < 0 || r.rung > g.Rungs {
				return fmt.Errorf("group %q: %s is rung %d; use 0 to %d, the last one", g.Name, r.name, r.rung, g.Rungs)
			}
		}
	}
	for _, d := range []struct {
		name string
		time time.Duration
	}{
		{"learn", c.Learn}, {"lease", c.Lease}, {"fresh", c.Fresh}, {"hold-down", c.HoldDown}, {"calm", c.Calm},
		{"drain", c.Drain}, {"half-life", c.Damping.HalfLife},
	} {
		if d.time <= 0 {
			return fmt.Errorf("%s is %v; use more than 0", d.name, d.time)
		}
	}
	d := c.Damping
	switch {
	case c.HoldDownMax < c.HoldDown:
		return fmt.Errorf("hold-down ends at %v, which is less than the %v it begins with; raise it", c.HoldDownMax, c.HoldDown)
	case c.Failback < 0 || c.Settle < 0:
		return fmt.Errorf("fail-back %v and settle %v; neither can be negative", c.Failback, c.Settle)
	case c.Cap < 0:
		return fmt.Errorf("cap is %d; use 0 for no withdrawals for health, or more", c.Cap)
	case !(d.Change > 0 && d.Withdraw >= d.Change):
		return fmt.Errorf("penalties of %g for a change and %g for a withdraw; use more than 0, and no less for the withdraw", d.Change, d.Withdraw)
	case !(d.Reuse > 0 && d.Reuse+d.Change < d.Park && d.Withdraw < d.Park):
		return fmt.Errorf("parks at %g, moves again at %g: one withdraw, and one change after it moves again, must stay below the first; raise it", d.Park, d.Reuse)
	}
	return nil
}
