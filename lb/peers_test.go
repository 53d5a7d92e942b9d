package lb

import (
	"maps"
	"testing"
	"time"
)

func TestWeightChangesAreGathered(t *testing.T) {
	eachMethod(t, func(t *testing.T, method string) {
		f := newFarmTest(t, method, "a", "b")
		f.step()
		f.percent("a", 50)
		f.expect("a active 0.5/1 weight 1h0m0s", "b active 1/1")
		f.after(10 * time.Minute)
		f.percent("a", 20)
		f.percent("b", 80)
		f.expect("a active 0.5/1 weight 50m0s", "b active 1/1")
		f.after(50 * time.Minute)
		f.expect("a active 0.2/0.5 weight 1h0m0s", "b active 0.8/1 weight 1h0m0s")
		f.after(time.Hour)
		f.expect("a active 0.2/0.2", "b active 0.8/0.8")
	})
}

func TestWeightChangeMeetsOthers(t *testing.T) {
	t.Run("less weight, then a drain", func(t *testing.T) {
		f := newFarmTest(t, Tracked, "a", "b")
		f.step()
		f.percent("a", 50)
		f.step()
		f.drain("a", 2*time.Hour) // keeps what it held, until that change ends
		f.expect("a draining 0/1 2h0m0s weight 1h0m0s follow 2h0m0s", "b active 1/1")
		f.after(time.Hour)
		f.expect("a draining 0/0.5 1h0m0s follow 1h0m0s", "b active 1/1")
	})
	t.Run("more weight, then a drain", func(t *testing.T) {
		f := newFarmTest(t, Tracked, "a", "b")
		f.step()
		f.percent("a", 200)
		f.step()
		f.drain("a", 2*time.Hour) // what it has gained is stored; it does not take over what it has not
		f.expect("a draining 0/1 2h0m0s weight 1h0m0s follow 2h0m0s", "b active 1/1")
		f.after(time.Hour)
		f.expect("a draining 0/1 1h0m0s follow 1h0m0s", "b active 1/1")
		f.activate("a")
		f.expect("a active 2/1 weight 1h0m0s follow 1h0m0s", "b active 1/1")
	})
	t.Run("the same with second chances", func(t *testing.T) {
		f := newFarmTest(t, SecondChance, "a", "b")
		f.step()
		f.percent("a", 200)
		f.step()
		f.drain("a", 2*time.Hour)
		f.expect("a draining 0/2 2h0m0s weight 1h0m0s", "b active 1/1")
		f.activate("a")
		f.expect("a joining 2/0 1h0m0s", "b active 1/1")
	})
	t.Run("of a real that is out", func(t *testing.T) {
		f := newFarmTest(t, Tracked, "a", "b")
		f.fail("b")
		f.step()
		f.percent("b", 30)
		f.expect("a active 1/1", "b failed 0/0")
		f.pass("b") // with the weight of now
		f.expect("a active 1/1", "b joining 0.3/0 1h0m0s")
		f.percent("b", 60)
		f.expect("a active 1/1", "b joining 0.3/0 1h0m0s")
		f.after(time.Hour)
		f.expect("a active 1/1", "b active 0.6/0.3 weight 1h0m0s")
	})
}

// TestWeightsWaitForOtherTransitions, but not for the real that they come with.
func TestWeightsWaitForOtherTransitions(t *testing.T) {
	eachMethod(t, func(t *testing.T, method string) {
		f := newFarmTest(t, method, "a", "b")
		f.step()
		f.add("c")
		f.change("c", func(s *situation) { s.known = false })
		f.percent("a", 101) // as calibration does when a real is added
		f.expect("a active 1/1", "b active 1/1", "c failed 0/0")
		f.change("c", func(s *situation) { s.known = true })
		f.expect("a active 1.01/1 weight 1h0m0s", "b active 1/1", "c joining 1/0 1h0m0s")
		f.after(time.Hour)
		f.drain("b", 3*time.Hour)
		f.step()
		f.percent("a", 50)
		f.expect("a active 1.01/1.01", "b draining 0/1 3h0m0s", "c active 1/1")
		f.flows("b", 0, 2)
		f.expect("a active 0.5/1.01 weight 1h0m0s", "b suspended 0/0", "c active 1/1")
	})
}

// TestPeersAgree has a second LB follow the first.
func TestPeersAgree(t *testing.T) {
	first := newFarmTest(t, Tracked, "a", "b", "c")
	first.fail("c")
	first.step()
	first.drain("a", 30*time.Minute)
	first.pass("c")
	first.after(10 * time.Minute)

	t.Run("joins as the first saw it", func(t *testing.T) {
		f := newFarmTest(t, Tracked, "a", "b", "c")
		f.fail("c")
		f.step()
		f.after(time.Second)
		f.pass("c")
		f.peers = []farmState{first.state}
		f.expect("a active 1/1", "b active 1/1", "c joining 1/0 59m59s")
	})
	t.Run("was told later", func(t *testing.T) {
		f := newFarmTest(t, Tracked, "a", "b", "c")
		f.fail("c")
		f.step()
		f.after(time.Second)
		f.pass("c")
		f.expect("a active 1/1", "b active 1/1", "c joining 1/0 1h0m0s")
		f.peers = []farmState{first.state}
		f.expect("a active 1/1", "b active 1/1", "c joining 1/0 59m59s")
	})
	t.Run("failed here alone", func(t *testing.T) {
		f := newFarmTest(t, Tracked, "a", "b", "c")
		f.fail("b")
		f.step()
		f.after(20 * time.Minute)
		f.peers = []farmState{first.state}
		f.pass("b")
		f.expect("a active 1/1", "b active 1/1", "c active 1/1")
	})
	t.Run("a peer of another config", func(t *testing.T) {
		f := newFarmTest(t, Tracked, "a", "b", "c")
		f.fail("b")
		f.step()
		other := maps.Clone(first.state)
		for addr, rec := range other {
			rec.Base, rec.Weight, rec.Held = 2*rec.Base, 2*rec.Weight, 2*rec.Held
			other[addr] = rec
		}
		f.peers = []farmState{other}
		f.pass("b")
		f.expect("a active 1/1", "b active 1/1", "c active 1/1")
	})
	t.Run("weights", func(t *testing.T) {
		peer := newFarmTest(t, Tracked, "a", "b")
		peer.step()
		peer.percent("a", 40)
		peer.step()
		f := newFarmTest(t, Tracked, "a", "b")
		f.step()
		f.after(time.Second)
		f.percent("a", 50)
		f.peers = []farmState{peer.state}
		f.expect("a active 0.4/1 weight 59m59s", "b active 1/1")
		f.after(time.Hour - time.Second)
		f.peers = nil
		f.expect("a active 0.5/0.4 weight 1h0m0s", "b active 1/1")
	})
	t.Run("from the future", func(t *testing.T) {
		f := newFarmTest(t, Tracked, "a", "b", "c")
		f.fail("c")
		f.step()
		future := maps.Clone(first.state)
		rec := future[realAddr("c")]
		rec.Until = f.now.Add(2 * maxTransition)
		future[realAddr("c")] = rec
		f.peers = []farmState{future}
		f.pass("c")
		f.expect("a active 1/1", "b active 1/1", "c joining 1/0 1h0m0s")
	})
}
