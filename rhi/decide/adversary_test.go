package decide

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// TestNeverAllWithdrawnWhateverIsHeard lets an adversary choose: at each step one site decides, and hears of each other as
// news any report that the other ever made, and any state of its BGP tables. Restarts find no state, or any that was.
// Everything that damps moves is taken away. What the argument of the package comment promises must hold all the same.
func TestNeverAllWithdrawnWhateverIsHeard(t *testing.T) {
	for cast, roles := range casts {
		t.Run(cast, func(t *testing.T) {
			t.Parallel()
			withdrawn := 0
			for seed := range uint64(16) {
				withdrawn += adversary(t, seed, roles)
			}
			if withdrawn < 500 {
				t.Errorf("in %d steps only a site was withdrawn: nothing was put to the test", withdrawn)
			}
		})
	}
}

// player is a site in the adversary's hand.
type player struct {
	name   string
	boot   time.Time
	states []State  // all that were
	said   []Report // all that were
	out    bool     // withdrawn under a promise
	place  Place
}

// adversary runs one game, and gives in how many steps some site was withdrawn for health or by order.
func adversary(t *testing.T, seed uint64, roles []Role) (steps int) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	cfg := Defaults(DefaultGroup("isp", 3))
	cfg.Learn, cfg.HoldDown, cfg.HoldDownMax, cfg.Failback, cfg.Settle = time.Nanosecond, 1, 1, 0, 0
	if seed%2 == 1 {
		cfg.Failback = 10 * time.Minute
	}
	cfg.Damping.Park, cfg.Cap = 1e12, 1000
	var all []*player
	for i := range roles {
		all = append(all, &player{name: string(rune('a' + i)), boot: epoch, states: []State{{}}})
	}
	now := epoch
	var trail []string
	for range 600 {
		now = now.Add(time.Duration(1 + rnd.Int64N(int64(90*time.Second))))
		i := rnd.IntN(len(all))
		p := all[i]
		state := p.states[len(p.states)-1]
		if rnd.IntN(60) == 0 {
			p.boot, state = now, p.states[rnd.IntN(len(p.states))]
		}
		v := chosen(rnd, all, roles, i, now)
		state, ds := Next(state, Inputs{Site: p.name, Boot: p.boot, Config: cfg, VIPs: map[netip.Prefix]VIP{vipA: v}}, now)
		d := ds.VIPs[vipA]
		p.states, p.said, p.place = append(p.states, state), append(p.said, d.Report), d.Place
		p.out = d.Place == PlaceWithdrawn && (d.Cause == CauseHealth || d.Cause == CauseOrder)
		trail = append(trail, fmt.Sprintf("%v %s: %s %s want %d holds %v: %s", now.Sub(epoch), p.name, d.Place, d.Cause, d.Report.Want, d.Report.Holds, d.Why))
		gone := 0
		for _, o := range all {
			if o.out {
				gone++
			}
		}
		if gone > 0 {
			steps++
		}
		if gone == len(all) {
			for _, line := range trail[max(0, len(trail)-40):] {
				t.Log(line)
			}
			t.Fatalf("seed %d, after %v: withdrawn at all sites", seed, now.Sub(epoch))
		}
	}
	return steps
}

// chosen is what the adversary lets a site know.
func chosen(rnd *rand.Rand, all []*player, roles []Role, i int, now time.Time) VIP {
	p := all[i]
	h := []Health{good, good, bad, bad, unknown, half}[rnd.IntN(6)]
	h.Lease = now
	v := VIP{Role: roles[i], Health: h, Sent: Sent{Known: true}, Sites: map[string]Site{}}
	if p.place != PlaceWithdrawn {
		v.Sent.Peers = 1
	}
	if rnd.IntN(20) == 0 {
		v.Order = &Order{Kind: []Kind{KindWithdraw, KindDrain, KindAnnounce}[rnd.IntN(3)], Since: now}
	}
	for j, o := range all {
		if j == i {
			continue
		}
		s := Site{Role: roles[j], Table: Table{Known: rnd.IntN(2) == 0, Seen: rnd.IntN(4) != 0, At: now}}
		if n := len(o.said); n > 0 {
			back := min(rnd.IntN(1+rnd.IntN(12)), n-1) // mostly one of the last
			s.Report, s.Heard = &o.said[n-1-back], now.Add(-time.Duration(rnd.Int64N(int64(6*time.Second))))
		}
		v.Sites[o.name] = s
	}
	return v
}
