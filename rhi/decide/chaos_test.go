package decide

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// chaos does something to the world now and then.
func (w *world) chaos(crashes, orders bool) {
	if w.rnd.IntN(8) != 0 {
		return
	}
	i := w.rnd.IntN(len(w.sites))
	s := w.sites[i]
	p := w.vips[w.rnd.IntN(len(w.vips))]
	switch w.rnd.IntN(9) {
	case 0, 1:
		s.health[p] = bad
	case 2:
		s.health[p] = good
	case 3:
		s.health[p] = []Health{half, unknown}[w.rnd.IntN(2)]
	case 4:
		s.hung = w.rnd.IntN(3) == 0
	case 5: // a shared cause: every check fails at once
		for _, s := range w.sites {
			s.health[p] = bad
		}
		w.note("all checks of %v fail", p)
	case 6:
		j := w.rnd.IntN(len(w.sites))
		w.cut[[2]int{i, j}] = w.rnd.IntN(2) == 0 && i != j
	case 7:
		if crashes && s.up && w.rnd.IntN(4) == 0 {
			w.crash(i, w.random(20*time.Second))
		}
	case 8:
		s.order = nil
		if orders && w.rnd.IntN(2) == 0 {
			kind := []Kind{KindDrain, KindWithdraw, KindActivate, KindAnnounce}[w.rnd.IntN(4)]
			s.order = &Order{Kind: kind, Since: w.now}
			s.flows = Flows{Known: w.rnd.IntN(2) == 0, Left: w.rnd.IntN(2)}
			w.note("%s: %v", s.name, s.order)
		}
	}
}

// restart brings up sites whose time has come, with what they kept, with what they kept long ago, or with nothing.
func (w *world) restart() {
	for i, s := range w.sites {
		if s.up || w.now.Before(s.wake) {
			continue
		}
		w.start(s, []State{s.state, s.old, {}}[w.rnd.IntN(3)])
		w.note("%s starts", s.name)
		for j, o := range w.sites {
			for _, p := range w.vips {
				if j != i {
					w.tellOne(j, i, p, o.announces(p))
				}
			}
		}
	}
}

var casts = map[string][]Role{
	"primary and backup": {Primary, Backup},
	"two primaries":      {Primary, Primary},
	"backup first":       {Backup, Primary},
	"three primaries":    {Primary, Primary, Primary},
	"primary two backup": {Primary, Backup, Backup},
}

var networks = map[string]network{
	"good":      {delay: 100 * time.Millisecond, lag: time.Second},
	"bad":       {delay: 3 * time.Second, loss: 0.3, lag: 10 * time.Second, blind: 0.5},
	"unordered": {delay: 20 * time.Second, loss: 0.2, lag: 20 * time.Second, blind: 0.2, unordered: true},
}

// eachWorld runs a test in worlds of every kind and some seeds.
func eachWorld(t *testing.T, seeds uint64, test func(t *testing.T, w *world)) {
	for cast, roles := range casts {
		for kind, net := range networks {
			t.Run(cast+"/"+kind, func(t *testing.T) {
				t.Parallel()
				for seed := range seeds {
					t.Run(fmt.Sprint(seed), func(t *testing.T) {
						w := newWorld(t, seed, roles...)
						w.net = net
						test(t, w)
					})
				}
			})
		}
	}
}

// seeds is how many worlds of a kind are tried: some hundred steps each.
const seeds = 2

// TestNeverAllWithdrawn has checks fail, engines hang, orders come and messages go astray, but no process die: then one
// site announces each VIP at every moment.
func TestNeverAllWithdrawn(t *testing.T) {
	var withdrew atomic.Int64
	t.Run("worlds", func(t *testing.T) {
		eachWorld(t, seeds, func(t *testing.T, w *world) {
			w.run(30 * time.Second)
			w.run(5*time.Minute, func() {
				w.chaos(false, true)
				for _, p := range w.vips {
					switch n := w.announced(p); {
					case n == 0:
						w.fatalf("nobody announces %v", p)
					case n < len(w.sites):
						withdrew.Add(1)
					}
				}
			})
		})
	})
	if withdrew.Load() == 0 {
		t.Error("nothing was ever withdrawn: nothing was put to the test")
	}
}

// TestNeverAllWithdrawnAcrossRestarts has processes die too, and come back with their state, an old one or none. Who is
// withdrawn when the other dies cannot know it at once; it announces when nothing is heard of the other.
func TestNeverAllWithdrawnAcrossRestarts(t *testing.T) {
	eachWorld(t, seeds, func(t *testing.T, w *world) {
		cfg := w.sites[0].cfg
		bound := cfg.Fresh + cfg.Learn + w.net.delay + w.net.lag + time.Second
		since, sane := map[string]time.Time{}, map[string]time.Time{}
		w.run(30 * time.Second)
		w.run(5*time.Minute, func() {
			w.chaos(true, true)
			w.restart()
			for _, s := range w.sites {
				if !s.up {
					sane[s.name] = w.now
				}
			}
			for _, p := range w.vips {
				if w.announced(p) > 0 {
					since[p.String()] = w.now
				}
				for _, s := range w.sites {
					// a site that has been up for all that time should have announced it
					if s.up && w.now.Sub(since[p.String()]) > bound && w.now.Sub(sane[s.name]) > bound {
						w.fatalf("nobody announces %v since %v, and %s is up", p, since[p.String()].Sub(epoch), s.name)
					}
				}
			}
		})
	})
}

// calm ends every fault.
func (w *world) calm() {
	clear(w.cut)
	for _, s := range w.sites {
		s.hung, s.order = false, nil
		for _, p := range w.vips {
			s.health[p] = good
		}
	}
	w.note("calm")
}

// TestSettles has a chaos end with one site without reals: it is withdrawn, or at the end of the ladder if it flapped too
// much, in bounded time. When its reals are back, everything is as it was.
func TestSettles(t *testing.T) {
	eachWorld(t, 1, func(t *testing.T, w *world) {
		w.run(4*time.Minute, func() { w.chaos(true, true); w.restart() })
		w.net = networks["good"]
		w.calm()
		w.run(30*time.Second, w.restart)
		w.sites[0].health[vipA] = bad
		w.run(capWindow + 20*time.Second)
		for _, g := range w.sites[0].cfg.Groups {
			if r := w.sites[0].last.VIPs[vipA].Rungs[g.Name]; r != Withdrawn && r != Rung(g.Rungs) {
				w.fatalf("a has no reals and is at %v of %s: %s", r, g.Name, w.sites[0].last.VIPs[vipA].Why)
			}
		}
		if w.announced(vipA) == 0 {
			w.fatalf("nobody announces it")
		}
		w.calm()
		for end := w.now.Add(75 * time.Minute); w.now.Before(end) && w.unsettled() != ""; {
			w.step(3 * time.Second)
		}
		w.run(20 * time.Second)
		if why := w.unsettled(); why != "" {
			w.fatalf("%s", why)
		}
	})
}

// unsettled says what is not at the top of the ladder; empty: nothing.
func (w *world) unsettled() string {
	for i, s := range w.sites {
		for _, p := range w.vips {
			if w.place(i, p) != PlaceFull {
				return fmt.Sprintf("%s: %v is at %s: %s", s.name, p, w.place(i, p), s.last.VIPs[p].Why)
			}
		}
	}
	return ""
}
