package decide

import (
	"strings"
	"testing"
	"time"
)

// pair is a primary a and a backup b, up and in service.
func pair(t *testing.T) *world {
	w := newWorld(t, 1, Primary, Backup)
	w.net = networks["good"]
	w.run(15 * time.Second)
	w.expect(0, PlaceFull, "4 of 4 reals in service")
	w.expect(1, PlaceFull, "4 of 4 reals in service")
	return w
}

// expect is of vipA.
func (w *world) expect(i int, place Place, why string) {
	w.t.Helper()
	if d := w.sites[i].last.VIPs[vipA]; d.Place != place || !strings.Contains(d.Why, why) {
		w.fatalf("%s is at %s because %q; want %s because %q", w.sites[i].name, d.Place, d.Why, place, why)
	}
}

func (w *world) rung(i int, group string, want Rung) {
	w.t.Helper()
	if got := w.sites[i].last.VIPs[vipA].Rungs[group]; got != want {
		w.fatalf("%s is at %v of %s, want %v", w.sites[i].name, got, group, want)
	}
}

func (w *world) alarmed(i int, text string) {
	w.t.Helper()
	if all := strings.Join(w.sites[i].last.VIPs[vipA].Alarms, "; "); (text == "") != (all == "") || !strings.Contains(all, text) {
		w.fatalf("%s has alarms %q, want %q", w.sites[i].name, all, text)
	}
}

func (w *world) setHealth(i int, h Health) { w.sites[i].health[vipA] = h }

func (w *world) give(i int, o Order) {
	o.Since = w.now
	if o.Kind == KindDrain && !o.Deadline.IsZero() {
		o.Deadline = w.now.Add(o.Deadline.Sub(time.Time{}))
	}
	w.sites[i].order = &o
}

// tick has the sites decide at once: nothing that was asked for now can be answered.
func (w *world) tick() { w.step(time.Millisecond) }

func TestLearnsBeforeItAnnounces(t *testing.T) {
	w := newWorld(t, 1, Primary, Backup)
	w.run(10 * time.Second)
	w.expect(0, PlaceWithdrawn, "it learns what is in service until 12:00:10Z")
	w.run(time.Second)
	w.expect(0, PlaceFull, "")
	w.rung(0, "isp", 0)
	w.rung(1, "isp", 1)
	w.rung(1, "core", 1)
}

// TestPrimaryLeavesAtOnce has its request granted before it needs it.
func TestPrimaryLeavesAtOnce(t *testing.T) {
	w := pair(t)
	w.setHealth(0, bad)
	w.tick()
	w.expect(0, PlaceWithdrawn, "0 of 4 reals in service, 0% of the capacity; wanted: 1; b holds")
	if c := w.sites[0].last.VIPs[vipA].Cause; c != CauseHealth {
		t.Errorf("cause %q", c)
	}
	w.alarmed(0, "")
	w.setHealth(0, good)
	w.tick()
	w.expect(0, PlaceWithdrawn, "health is back; held down until")
}

// TestBackupAsksFirst stays at the end of the ladder until the primary holds.
func TestBackupAsksFirst(t *testing.T) {
	w := pair(t)
	w.setHealth(1, bad)
	w.tick()
	w.expect(1, PlaceLast, "held: a wants to be let go itself")
	w.alarmed(1, "held at the end of the ladder")
	w.run(3 * time.Second)
	w.expect(1, PlaceWithdrawn, "a holds")
	w.expect(0, PlaceFull, "")
	w.setHealth(0, bad) // and nobody is left
	w.tick()
	w.expect(0, PlaceLast, "held: b does not announce it (withdrawn)")
	w.run(3 * time.Second)
	w.expect(1, PlaceLast, "held: a is not healthy")
}

func TestBothFailAtOnce(t *testing.T) {
	w := pair(t)
	w.setHealth(0, bad)
	w.setHealth(1, bad)
	w.run(time.Minute)
	w.expect(0, PlaceLast, "held: b is not healthy")
	w.expect(1, PlaceLast, "held: a is not healthy")
	w.setHealth(1, good)
	w.run(15 * time.Second) // its hold-down; nobody else is healthy, so it does not wait to fail back
	w.expect(1, PlaceFull, "")
}

func TestAlone(t *testing.T) {
	w := newWorld(t, 1, Primary)
	w.run(15 * time.Second)
	w.setHealth(0, bad)
	w.run(time.Hour)
	w.expect(0, PlaceLast, "held: no other balancer announces it")
	w.rung(0, "isp", 3)
}

// TestStaysOutWhileTheRouteIsSeen has the mesh fail while a is withdrawn: its BGP tables tell it that b is there.
func TestStaysOutWhileTheRouteIsSeen(t *testing.T) {
	w := pair(t)
	w.setHealth(0, bad)
	w.run(5 * time.Second)
	w.cut[[2]int{1, 0}] = true
	w.run(time.Minute)
	w.expect(0, PlaceWithdrawn, "b holds")
	w.net.blind = 1
	w.run(10 * time.Second)
	w.expect(0, PlaceLast, "held: b was not heard since")
}

func TestDoesNotLeaveUnlessTheRouteIsSeen(t *testing.T) {
	w := pair(t)
	table := w.sites[0].views[vipA]["b"]
	table.Table.Seen = false
	w.sites[0].views[vipA]["b"] = table
	w.setHealth(0, bad)
	w.tick()
	w.expect(0, PlaceLast, "b says it announces it, and our BGP tables do not have it")
}

func TestCannotCheckIsNotDown(t *testing.T) {
	w := pair(t)
	w.setHealth(0, unknown)
	w.run(time.Hour)
	w.expect(0, PlaceFull, "health cannot be checked now")
	w.setHealth(0, bad)
	w.run(5 * time.Second)
	w.expect(0, PlaceWithdrawn, "")
	w.setHealth(0, unknown)
	w.run(10 * time.Minute)
	w.expect(0, PlaceWithdrawn, "")
	w.setHealth(1, unknown) // what is not checked is not promised for
	w.run(5 * time.Second)
	w.expect(0, PlaceLast, "held: b is not healthy")
	w.expect(1, PlaceFull, "")
}

func TestHungEngineWithdraws(t *testing.T) {
	w := pair(t)
	w.sites[0].hung = true
	w.tick()
	w.expect(0, PlaceWithdrawn, "the health engine hangs")
}

func TestDegraded(t *testing.T) {
	w := pair(t)
	w.setHealth(0, half)
	w.tick()
	w.expect(0, PlaceDegraded, "2 of 4 reals in service, 50% of the capacity; wanted: 75%")
	w.rung(0, "isp", 2)
	w.rung(0, "core", 1)
	w.setHealth(0, good)
	w.run(9 * time.Second)
	w.expect(0, PlaceDegraded, "held down")
	w.run(2 * time.Second)
	w.expect(0, PlaceFull, "")
}

func TestMinimum(t *testing.T) {
	for _, c := range []struct {
		name string
		min  Minimum
		h    Health
		met  bool
	}{
		{"one at least", Minimum{}, Health{Reals: 4, Share: 1}, false},
		{"one is enough", Minimum{}, Health{InService: 1, Reals: 4}, true},
		{"count", Minimum{Count: 2}, Health{InService: 1, Reals: 4, Share: 1}, false},
		{"count met", Minimum{Count: 2}, Health{InService: 2, Reals: 4}, true},
		{"share", Minimum{Share: 0.5}, Health{InService: 3, Reals: 4, Share: 0.49}, false},
		{"share met", Minimum{Share: 0.5}, Health{InService: 1, Reals: 4, Share: 0.5}, true},
		{"both", Minimum{Count: 2, Share: 0.5}, Health{InService: 2, Reals: 4, Share: 0.3}, false},
	} {
		c.h.Known, c.h.Lease = true, epoch.Add(time.Hour)
		in := Inputs{Site: "a", Boot: epoch, Config: Defaults(), VIPs: vips(VIP{Role: Primary, Min: c.min, Health: c.h})}
		state, _ := Next(State{}, in, epoch)
		_, ds := Next(state, in, epoch.Add(time.Hour))
		if got := ds.VIPs[vipA].Place == PlaceFull; got != c.met {
			t.Errorf("%s: met is %v: %s", c.name, got, ds.VIPs[vipA].Why)
		}
	}
}

// TestFailBack is make before break: at the end of the ladder until the other sees it, and for a while.
func TestFailBack(t *testing.T) {
	w := pair(t)
	w.setHealth(0, bad)
	w.run(10 * time.Second)
	w.net.lag = 40 * time.Second
	w.setHealth(0, good)
	w.run(11 * time.Second)
	w.expect(0, PlaceLast, "comes back: waits until b sees its route")
	made := w.now
	for w.place(0, vipA) == PlaceLast {
		if w.place(1, vipA) != PlaceFull || w.sites[1].last.VIPs[vipA].Report.Holds["a"] == 0 {
			w.fatalf("b left, or let its promise go, before a was back")
		}
		w.tick()
		w.run(time.Second)
	}
	w.expect(0, PlaceFull, "")
	seen := w.sites[1].last.VIPs[vipA].Report.Sees["a"]
	if wait := w.now.Sub(made); !seen || wait < 28*time.Second || wait > 45*time.Second {
		t.Errorf("back after %v, seen by b: %v", wait, seen)
	}
}

func TestManualFailBack(t *testing.T) {
	w := newWorld(t, 1, Primary, Backup)
	for _, s := range w.sites {
		s.cfg.ManualFailback = true
	}
	w.run(15 * time.Second)
	w.give(0, Order{Kind: KindActivate})
	w.run(time.Minute)
	w.setHealth(0, bad)
	w.run(10 * time.Second)
	w.setHealth(0, good)
	w.run(time.Hour)
	w.expect(0, PlaceLast, "comes back when it is ordered to activate; b has the traffic")
	w.give(0, Order{Kind: KindActivate})
	w.run(5 * time.Second)
	w.expect(0, PlaceFull, "")
	w.setHealth(1, bad)
	w.run(5 * time.Second)
	w.setHealth(1, good)
	w.run(2 * time.Minute)
	w.expect(1, PlaceFull, "") // a backup waits for no order
}
