package lb

import (
	"testing"
	"time"
)

func TestFirstStartIsActiveAtOnce(t *testing.T) {
	eachMethod(t, func(t *testing.T, method string) {
		f := newFarmTest(t, method, "a", "b", "c")
		f.fail("c")
		f.expect("a active 1/1", "b active 1/1", "c failed 0/0")
		f.why("c", "connection refused")
	})
}

func TestJoinAndFail(t *testing.T) {
	eachMethod(t, func(t *testing.T, method string) {
		f := newFarmTest(t, method, "a", "b")
		f.fail("b")
		f.step()
		f.after(time.Minute)
		f.pass("b")
		f.expect("a active 1/1", "b joining 1/0 1h0m0s")
		f.after(59 * time.Minute)
		f.expect("a active 1/1", "b joining 1/0 1m0s")
		f.after(time.Minute)
		f.expect("a active 1/1", "b active 1/1")
		if since := f.state[realAddr("b")].Since; !since.Equal(f.now) {
			t.Errorf("b is active since %v, want %v", since, f.now)
		}
		f.fail("b")
		f.expect("a active 1/1", "b failed 0/0")
		f.pass("b")
		f.expect("a active 1/1", "b joining 1/0 1h0m0s")
		f.fail("b") // while it joins
		f.expect("a active 1/1", "b failed 0/0")
	})
}

func TestNewRealJoins(t *testing.T) {
	f := newFarmTest(t, Tracked, "a")
	f.expect("a active 1/1")
	f.add("b")
	f.change("b", func(s *situation) { s.known = false })
	f.expect("a active 1/1", "b failed 0/0")
	f.why("b", "first probe not finished")
	f.change("b", func(s *situation) { s.known = true })
	f.expect("a active 1/1", "b joining 1/0 1h0m0s")
}

// TestReloadWithNewProbes must not take out what passed the old ones.
func TestReloadWithNewProbes(t *testing.T) {
	f := newFarmTest(t, Tracked, "a")
	f.step()
	f.change("a", func(s *situation) { s.known = false })
	f.expect("a active 1/1")
}

// TestLastHolderLeaves has the flows of a farm at a real that joins: nobody else has any.
func TestLastHolderLeaves(t *testing.T) {
	eachMethod(t, func(t *testing.T, method string) {
		f := newFarmTest(t, method, "a", "b")
		f.fail("b")
		f.step()
		f.pass("b")
		f.expect("a active 1/1", "b joining 1/0 1h0m0s")
		f.fail("a")
		want := []string{"a failed 0/0", "b active 1/1"}
		if method == Tracked {
			want[0] += " follow 1h0m0s" // as if there were a third
		}
		f.expect(want...)
		f.after(time.Hour)
		f.pass("a")
		f.expect("a joining 1/0 1h0m0s", "b active 1/1")
	})
}

func TestFarmComesBackFromNothing(t *testing.T) {
	f := newFarmTest(t, Tracked, "a", "b")
	f.step()
	f.fail("a")
	f.fail("b")
	f.expect("a failed 0/0", "b failed 0/0")
	f.pass("a")
	f.expect("a active 1/1", "b failed 0/0")
	f.pass("b")
	f.expect("a active 1/1", "b joining 1/0 1h0m0s")
}

// TestActivateBeforeTheFirstProbe is of a real that was suspended when the process started.
func TestActivateBeforeTheFirstProbe(t *testing.T) {
	f := newFarmTest(t, Tracked, "a", "b")
	f.suspend("a")
	f.step()
	f.change("a", func(s *situation) { s.known = false })
	f.activate("a")
	f.expect("a failed 0/0", "b active 1/1")
	f.why("a", "first probe not finished")
}

func TestSuspend(t *testing.T) {
	f := newFarmTest(t, Tracked, "a", "b")
	f.step()
	f.suspend("a")
	f.expect("a suspended 0/0", "b active 1/1")
	f.fail("a")
	f.expect("a suspended 0/0", "b active 1/1")
	f.why("a", "order suspend")
	f.activate("a")
	f.expect("a failed 0/0", "b active 1/1")
	f.pass("a")
	f.expect("a joining 1/0 1h0m0s", "b active 1/1")
	f.after(time.Hour)
	f.drain("a", time.Hour)
	f.step()
	f.suspend("a") // in the middle of a drain
	f.expect("a suspended 0/0", "b active 1/1")
}
