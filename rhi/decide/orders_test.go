package decide

import (
	"net/netip"
	"testing"
	"time"
)

func vips(v VIP) map[netip.Prefix]VIP { return map[netip.Prefix]VIP{vipA: v} }

// TestDrain goes down the ladder, waits for flows, and withdraws.
func TestDrain(t *testing.T) {
	w := pair(t)
	w.sites[0].flows = Flows{Known: true, Left: 5}
	w.give(0, Order{Kind: KindDrain, By: "root", Why: "new kernel"})
	w.tick()
	w.expect(0, PlaceDraining, "order drain by root: new kernel")
	w.rung(0, "isp", 3)
	w.rung(0, "core", 1)
	w.run(5 * time.Minute)
	w.expect(0, PlaceDraining, "")
	w.sites[0].flows.Left = 0
	w.tick()
	w.expect(0, PlaceWithdrawn, "drained; b holds")
	w.sites[0].flows.Left = 3 // some that nobody counted: it was drained
	w.setHealth(0, bad)
	w.run(time.Minute)
	w.expect(0, PlaceWithdrawn, "drained; b holds")
	w.setHealth(0, good)
	w.give(0, Order{Kind: KindActivate})
	w.run(time.Minute)
	w.expect(0, PlaceFull, "")
}

func TestDrainWaitsForRouters(t *testing.T) {
	w := pair(t)
	w.sites[0].flows = Flows{Known: true}
	w.give(0, Order{Kind: KindDrain})
	w.run(9 * time.Second)
	w.expect(0, PlaceDraining, "")
	w.run(2 * time.Second)
	w.expect(0, PlaceWithdrawn, "")
}

func TestDrainDeadline(t *testing.T) {
	w := pair(t)
	w.give(0, Order{Kind: KindDrain}) // nobody knows its flows
	w.run(10*time.Minute - time.Second)
	w.expect(0, PlaceDraining, "")
	w.run(2 * time.Second)
	w.expect(0, PlaceWithdrawn, "")
}

func TestDrainIsTakenBack(t *testing.T) {
	w := pair(t)
	w.give(0, Order{Kind: KindDrain})
	w.run(time.Minute)
	w.sites[0].order = nil
	w.tick()
	w.expect(0, PlaceFull, "")
}

// TestDrainOfTheLastSite says that it cannot, and of the other it is told so too.
func TestDrainOfTheLastSite(t *testing.T) {
	w := pair(t)
	w.setHealth(1, bad)
	w.run(5 * time.Second)
	w.give(0, Order{Kind: KindDrain, Deadline: time.Time{}.Add(20 * time.Second)})
	w.run(10 * time.Second)
	w.expect(0, PlaceDraining, "")
	w.expect(1, PlaceWithdrawn, "a holds")
	w.run(time.Hour)
	w.expect(0, PlaceLast, "order drain: drained; held: b does not announce it")
	w.alarmed(0, "held at the end of the ladder")
	w.give(0, Order{Kind: KindWithdraw})
	w.run(time.Minute)
	w.expect(0, PlaceLast, "order withdraw; held: b does not announce it")
	w.give(0, Order{Kind: KindWithdraw, Force: true})
	w.tick()
	w.expect(0, PlaceWithdrawn, "order withdraw by force")
	w.alarmed(0, "withdrawn by force")
	w.run(5 * time.Second)
	w.expect(1, PlaceLast, "held: a does not announce it (withdrawn)")
}

func TestBothAreOrderedAway(t *testing.T) {
	w := pair(t)
	w.give(0, Order{Kind: KindWithdraw})
	w.give(1, Order{Kind: KindWithdraw})
	w.run(time.Hour, func() {
		if w.announced(vipA) == 0 {
			w.fatalf("nobody announces it")
		}
	})
}

func TestAnnounceAgainstHealth(t *testing.T) {
	w := pair(t)
	w.give(0, Order{Kind: KindAnnounce, By: "root"})
	w.setHealth(0, bad)
	w.run(time.Minute)
	w.expect(0, PlaceFull, "order announce by root")
	w.setHealth(1, bad) // it does not hold for others, though: it is not healthy
	w.run(time.Minute)
	w.expect(1, PlaceLast, "held: a is not healthy")
}

// TestOrderOfOneVIP has an order for one VIP go before that for the site.
func TestOrderOfOneVIP(t *testing.T) {
	h := Health{Known: true, InService: 1, Reals: 1, Share: 1, Lease: epoch.Add(time.Minute)}
	in := Inputs{Site: "a", Boot: epoch, Config: Defaults(DefaultGroup("isp", 3)), VIPs: vips(VIP{Role: Primary, Health: h})}
	in.VIPs[vipB] = in.VIPs[vipA]
	state, _ := Next(State{}, in, epoch)
	in.Order = &Order{Kind: KindWithdraw, Force: true}
	one := in.VIPs[vipA]
	one.Order = &Order{Kind: KindAnnounce}
	in.VIPs[vipA] = one
	_, ds := Next(state, in, epoch.Add(time.Minute))
	if a, b := ds.VIPs[vipA].Rungs["isp"], ds.VIPs[vipB].Rungs["isp"]; a != 0 || b != Withdrawn {
		t.Errorf("rungs %v and %v, want announced plainly and withdrawn", a, b)
	}
}
