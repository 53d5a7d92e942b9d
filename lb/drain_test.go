package lb

import (
	"testing"
	"time"
)

func TestDrainToDeadline(t *testing.T) {
	eachMethod(t, func(t *testing.T, method string) {
		f := newFarmTest(t, method, "a", "b")
		f.step()
		f.drain("a", 10*time.Minute)
		f.expect("a draining 0/1 10m0s", "b active 1/1")
		f.why("a", "order drain")
		f.flows("a", 3, 0)
		f.after(9 * time.Minute)
		f.expect("a draining 0/1 1m0s", "b active 1/1")
		f.after(time.Minute)
		f.expect("a suspended 0/0", "b active 1/1")
		f.why("a", "drained: the deadline has passed with 3 flows left")
		f.after(time.Hour)
		f.expect("a suspended 0/0", "b active 1/1")
		f.activate("a")
		f.expect("a joining 1/0 1h0m0s", "b active 1/1")
	})
}

func TestDrainToNoFlow(t *testing.T) {
	f := newFarmTest(t, Tracked, "a", "b")
	f.step()
	f.drain("a", time.Hour)
	f.step()
	f.flows("a", 0, 1)
	f.expect("a draining 0/1 1h0m0s", "b active 1/1")
	f.flows("a", 0, 2)
	f.expect("a suspended 0/0", "b active 1/1")
	f.why("a", "drained: no flow is left")
}

func TestDrainWithAnotherDeadline(t *testing.T) {
	f := newFarmTest(t, Tracked, "a", "b")
	f.step()
	f.drain("a", time.Hour)
	f.after(10 * time.Minute)
	f.drain("a", 5*time.Minute)
	f.expect("a draining 0/1 5m0s", "b active 1/1")
}

// TestDrainWithoutDeadline is what an agent orders; it ends with the farm's transition time.
func TestDrainWithoutDeadline(t *testing.T) {
	f := newFarmTest(t, Tracked, "a", "b")
	f.step()
	f.change("a", func(s *situation) { s.order = &Order{Kind: KindDrain, Since: f.now, Why: "its agent says so"} })
	f.expect("a draining 0/1 1h0m0s", "b active 1/1")
	f.why("a", "order drain: its agent says so")
	f.after(40 * time.Minute)
	f.expect("a draining 0/1 20m0s", "b active 1/1")
	f.after(20 * time.Minute)
	f.expect("a suspended 0/0", "b active 1/1")
}

func TestFailureDuringDrainEndsIt(t *testing.T) {
	f := newFarmTest(t, Tracked, "a", "b")
	f.step()
	f.drain("a", time.Hour)
	f.step()
	f.fail("a")
	f.expect("a suspended 0/0", "b active 1/1")
	f.why("a", "drained: it could take no flows: connection refused")
	f.pass("a")
	f.expect("a suspended 0/0", "b active 1/1")
}

func TestDrainOfFailedReal(t *testing.T) {
	f := newFarmTest(t, Tracked, "a", "b")
	f.fail("a")
	f.step()
	f.drain("a", time.Hour)
	f.expect("a suspended 0/0", "b active 1/1")
	f.why("a", "drained: it could take no flows: connection refused")
}

// TestDrainOrderFromBefore is found at a start without any record of the real: it may have flows.
func TestDrainOrderFromBefore(t *testing.T) {
	f := newFarmTest(t, Tracked, "a", "b")
	f.drain("a", time.Minute)
	f.expect("a draining 0/1 1m0s", "b joining 1/0 1h0m0s")
	f.after(time.Minute)
	f.expect("a suspended 0/0 follow 59m0s", "b active 1/1")
}

func TestDrainTakenBack(t *testing.T) {
	t.Run(Tracked, func(t *testing.T) {
		f := newFarmTest(t, Tracked, "a", "b")
		f.step()
		f.drain("a", time.Hour)
		f.after(time.Minute)
		f.activate("a")
		f.expect("a active 1/1 follow 1h0m0s", "b active 1/1")
		if !f.state.follows(f.now) {
			t.Error("flows that began elsewhere meanwhile are not followed")
		}
		f.after(time.Hour)
		f.expect("a active 1/1", "b active 1/1")
		if f.state.follows(f.now) {
			t.Error("flows are followed for ever")
		}
	})
	t.Run(SecondChance, func(t *testing.T) {
		f := newFarmTest(t, SecondChance, "a", "b")
		f.step()
		f.drain("a", time.Hour)
		f.after(time.Minute)
		f.activate("a")
		f.expect("a joining 1/0 1h0m0s", "b active 1/1")
	})
}

func TestDrainOfJoiningReal(t *testing.T) {
	start := func(t *testing.T, method string) *farmTest {
		f := newFarmTest(t, method, "a", "b")
		f.step()
		f.add("c")
		f.step()
		f.drain("c", time.Minute)
		f.step()
		return f
	}
	t.Run(Tracked, func(t *testing.T) {
		f := start(t, Tracked)
		f.expect("a active 1/1", "b active 1/1", "c draining 0/0 1m0s follow 1m0s")
		if !f.state.follows(f.now) {
			t.Error("its flows, which are stored, are not followed")
		}
		f.activate("c")
		f.expect("a active 1/1", "b active 1/1", "c joining 1/0 1h0m0s follow 1m0s")
	})
	t.Run(SecondChance, func(t *testing.T) {
		f := start(t, SecondChance)
		f.expect("a active 1/1", "b active 1/1", "c draining 0/1 1m0s")
	})
}

func TestRemovedRealDrains(t *testing.T) {
	f := newFarmTest(t, Tracked, "a", "b", "c")
	f.fail("c")
	f.step()
	f.remove("a")
	f.remove("c") // has nothing to drain
	f.expect("a draining 0/1 1h0m0s", "b active 1/1")
	f.why("a", "order drain: it was removed from the config")
	f.after(30 * time.Minute)
	f.expect("a draining 0/1 30m0s", "b active 1/1")
	f.after(30 * time.Minute)
	f.expect("b active 1/1")
}

func TestRemovedWhileDraining(t *testing.T) {
	f := newFarmTest(t, Tracked, "a", "b")
	f.step()
	f.drain("a", 10*time.Minute)
	f.step()
	f.remove("a")
	f.expect("a draining 0/1 10m0s", "b active 1/1")
	f.after(10 * time.Minute)
	f.expect("b active 1/1")
	f.add("a") // and its order is kept
	f.drain("a", -time.Second)
	f.expect("a suspended 0/0", "b active 1/1")
}
