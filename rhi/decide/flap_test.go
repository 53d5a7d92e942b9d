package decide

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestHoldDown doubles with each flap, has a ceiling, and is halved by calm.
func TestHoldDown(t *testing.T) {
	w := newWorld(t, 1, Primary) // alone: it goes to the end of the ladder and back
	w.sites[0].cfg.Damping.Park = 1e9
	w.run(15 * time.Second)
	rises := func() time.Duration {
		w.setHealth(0, bad)
		w.run(time.Second)
		w.expect(0, PlaceLast, "")
		w.setHealth(0, good)
		w.tick()
		began := w.now
		for w.place(0, vipA) != PlaceFull {
			w.step(100 * time.Millisecond)
		}
		return w.now.Sub(began).Round(time.Second)
	}
	for i, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		if got := rises(); got != want*time.Second {
			t.Errorf("flap %d: held down for %v, want %v", i, got, want*time.Second)
		}
	}
	w.run(5 * time.Minute)
	if got := rises(); got != 150*time.Second { // halved twice, as it was calm while it was held down too, and doubled
		t.Errorf("after some calm: held down for %v", got)
	}
	for end := w.now.Add(time.Hour); w.now.Before(end); {
		w.step(time.Second)
	}
	if got := rises(); got != 10*time.Second {
		t.Errorf("after an hour of calm: held down for %v", got)
	}
}

// maxChanges is how many changes of a VIP peers may see in an hour. Each costs 500 at least, a return after a withdraw
// nothing but the 1000 of that; an account below 2000 forgets less than 5,600 an hour. Parking keeps it well below.
const maxChanges = 12

// TestFlaps has health come and go, fast and slowly, at one site or at both, and counts what peers see.
func TestFlaps(t *testing.T) {
	for _, c := range []struct {
		name string
		good time.Duration // at most
		bad  time.Duration
		both bool
	}{
		{"fast", 6 * time.Second, 6 * time.Second, false},
		{"some seconds", 30 * time.Second, 10 * time.Second, false},
		{"as the hold-down ends", 14 * time.Second, 2 * time.Second, false},
		{"minutes", 3 * time.Minute, 3 * time.Minute, false},
		{"many minutes", 20 * time.Minute, 2 * time.Minute, false},
		{"both", time.Minute, 20 * time.Second, true},
		{"both slowly", 10 * time.Minute, 3 * time.Minute, true},
	} {
		for _, first := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, %d", c.name, first), func(t *testing.T) {
				t.Parallel()
				testFlaps(t, c.good, c.bad, first, c.both)
			})
		}
	}
}

func testFlaps(t *testing.T, goodFor, badFor time.Duration, first int, both bool) {
	w := pair(t)
	w.vips = w.vips[:1]
	next := []time.Time{w.now, w.now}
	seen := []map[time.Time]int{{}, {}}
	for end := w.now.Add(2 * time.Hour); w.now.Before(end); {
		for i := range w.sites {
			if (i == first || both) && !w.now.Before(next[i]) {
				h, most := good, goodFor
				if w.sites[i].health[vipA] == good {
					h, most = bad, badFor
				}
				w.setHealth(i, h)
				next[i] = w.now.Add(w.random(most))
			}
		}
		before := []int{w.sites[0].changes[vipA], w.sites[1].changes[vipA]}
		w.step(2 * time.Second)
		for i, s := range w.sites {
			if n := s.changes[vipA] - before[i]; n > 0 {
				seen[i][w.now] = n
			}
			count := 0
			for at, n := range seen[i] {
				if w.now.Sub(at) < time.Hour {
					count += n
				} else {
					delete(seen[i], at)
				}
			}
			if count > maxChanges {
				w.fatalf("peers of %s saw %d changes within an hour", s.name, count)
			}
			if p := s.state[vipA].Penalty; p >= 2000 {
				w.fatalf("%s has a penalty of %v, at which an upstream may damp it", s.name, p)
			}
		}
		if w.announced(vipA) == 0 {
			w.fatalf("nobody announces it")
		}
	}
}

// TestActivateForgives ends the parking of a VIP that flapped.
func TestActivateForgives(t *testing.T) {
	w := pair(t)
	for range 3 {
		w.setHealth(0, bad)
		w.run(5 * time.Second)
		w.setHealth(0, good)
		w.run(2 * time.Minute)
	}
	w.expect(0, PlaceParked, "parked until its penalty has fallen")
	w.rung(0, "isp", 3)
	w.alarmed(0, "parked: it flaps")
	w.give(0, Order{Kind: KindActivate})
	w.run(5 * time.Second)
	w.expect(0, PlaceFull, "")
}

// TestParkedVIPMovesAgain comes up by itself when the account has fallen.
func TestParkedVIPMovesAgain(t *testing.T) {
	w := pair(t)
	for range 3 {
		w.setHealth(0, bad)
		w.run(5 * time.Second)
		w.setHealth(0, good)
		w.run(2 * time.Minute)
	}
	w.expect(0, PlaceParked, "")
	parked := w.now
	for w.place(0, vipA) != PlaceFull {
		w.step(2 * time.Second)
		if w.now.Sub(parked) > time.Hour {
			w.fatalf("still parked")
		}
	}
	if wait := w.now.Sub(parked); wait < 10*time.Minute {
		t.Errorf("parked for %v only", wait)
	}
}

// TestRestartsCount has a process that keeps dying parked too.
func TestRestartsCount(t *testing.T) {
	w := pair(t)
	for range 3 {
		w.crash(0, time.Second)
		w.run(time.Second)
		w.start(w.sites[0], w.sites[0].state)
		w.run(50 * time.Second)
	}
	if !w.sites[0].state[vipA].Parked {
		w.fatalf("not parked, with a penalty of %v", w.sites[0].state[vipA].Penalty)
	}
}

// many is a primary and a backup with that many VIPs.
func many(t *testing.T, n int) *world {
	w := newWorld(t, 1, Primary, Backup)
	w.net = networks["good"]
	w.vips = nil
	for i := range n {
		w.vips = append(w.vips, netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 32))
	}
	for _, s := range w.sites {
		for _, p := range w.vips {
			s.health[p] = good
		}
		w.start(s, State{})
	}
	w.run(20 * time.Second)
	return w
}

// TestCap has every VIP of a site fail at once: four are withdrawn each minute, those first that failed first.
func TestCap(t *testing.T) {
	w := many(t, 14)
	for i, p := range w.vips {
		if i%2 == 1 {
			w.sites[0].health[p] = bad
		}
	}
	w.run(2 * time.Second)
	for i, p := range w.vips {
		if i%2 == 0 {
			w.sites[0].health[p] = bad
		}
	}
	gone := map[netip.Prefix]time.Time{}
	w.run(5*time.Minute, func() {
		within := 0
		for _, p := range w.vips {
			d := w.sites[0].last.VIPs[p]
			switch {
			case d.Place == PlaceWithdrawn && gone[p].IsZero():
				gone[p] = w.sites[0].state[p].Withdrew
			case d.Place != PlaceWithdrawn && (d.Place != PlaceDegraded || len(d.Alarms) == 0 || d.Rungs["isp"] != 2):
				w.fatalf("%v is at %s, with alarms %q", p, d.Place, d.Alarms)
			}
			if at := gone[p]; !at.IsZero() && w.now.Sub(at) < time.Minute {
				within++
			}
		}
		if within > 4 {
			w.fatalf("%d VIPs were withdrawn within a minute", within)
		}
	})
	if len(gone) != len(w.vips) {
		t.Errorf("%d of %d VIPs are withdrawn", len(gone), len(w.vips))
	}
	for i, p := range w.vips {
		for j, q := range w.vips {
			if i%2 == 1 && j%2 == 0 && gone[q].Before(gone[p]) {
				t.Errorf("%v failed first and was withdrawn after %v", p, q)
			}
		}
	}
}

// TestCapOfNone never withdraws for health, and does so by order.
func TestCapOfNone(t *testing.T) {
	w := pair(t)
	w.sites[0].cfg.Cap = 0
	w.setHealth(0, bad)
	w.run(time.Minute)
	w.expect(0, PlaceDegraded, "the cap on withdrawals is reached")
	w.alarmed(0, "held as degraded: the cap of 0 VIPs")
	w.give(0, Order{Kind: KindWithdraw})
	w.run(5 * time.Second)
	w.expect(0, PlaceWithdrawn, "order withdraw; b holds")
}
