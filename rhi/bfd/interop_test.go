package bfd

import (
	"slices"
	"testing"
	"time"
)

// other is a BFD speaker of somebody else at the far end of a rig.
type other struct {
	name string
	// start has a session on all ways, with the figures of way.config.
	start func(t testing.TB, r *rig) (o control)
}

// control is what the tests have another speaker do.
type control struct {
	slower  func() // send and hear every 500 ms
	hold    func() // AdminDown on all ways
	silent  bool   // it does not say so
	release func()
}

var others = []other{{"frr", withFRR}, {"bird", withBIRD}, {"anycastle", withOurs}}

func withFRR(t testing.TB, r *rig) control {
	f := startFRR(t, r.theirs)
	each := func(lines ...string) func() {
		return func() {
			for _, w := range ways {
				f.peer(w, lines...)
			}
		}
	}
	each("transmit-interval 200", "receive-interval 200", "detect-multiplier 10", "no shutdown")()
	return control{slower: each("transmit-interval 500", "receive-interval 500"), hold: each("shutdown"), release: each("no shutdown")}
}

const birdLines = "multiplier 10; min rx interval 200 ms; min tx interval 200 ms; "

func withBIRD(t testing.TB, r *rig) control {
	b := startBIRD(t, r.theirs, birdConfig(birdLines))
	return control{
		slower:  func() { b.configure(birdConfig("multiplier 10; interval 500 ms; ")) },
		hold:    func() { b.birdc("disable", "peers") },
		silent:  true, // which nobody can tell from a fault
		release: func() { b.birdc("enable", "peers") },
	}
}

func withOurs(t testing.TB, r *rig) control {
	n := startNode(t, r.theirs, "theirs")
	set := func(change func(*Config)) func() {
		return func() {
			var list []Config
			for _, w := range ways {
				c := w.reversed().config()
				change(&c)
				list = append(list, c)
			}
			n.set(list...)
		}
	}
	same := set(func(*Config) {})
	same()
	return control{
		slower:  set(func(c *Config) { c.Transmit, c.Receive = 500*ms, 500*ms }),
		hold:    set(func(c *Config) { c.AdminDown = true }),
		release: same,
	}
}

// against runs a test with a node on all ways of a rig, against each of the others.
func against(t *testing.T, test func(t *testing.T, r *rig, n *node, c control)) {
	for _, o := range others {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := o.start(t, r)
			n := startNode(t, r.ours, "ours")
			n.set(configs(nil)...)
			n.awaitAll(Up)
			test(t, r, n, c)
		})
	}
}

// configs are the sessions of all ways, each changed.
func configs(change func(*Config)) (list []Config) {
	for _, w := range ways {
		c := w.config()
		if change != nil {
			change(&c)
		}
		list = append(list, c)
	}
	return list
}

func (n *node) awaitAll(want State) {
	n.t.Helper()
	for _, w := range ways {
		n.awaitState(w.name, want)
	}
}

// fall gives the change by which a session that was up first went down, once it was told.
func (n *node) fall(peer string) (fell Change) {
	n.t.Helper()
	eventually(n.t, peer+": told", func() bool {
		list := n.changes(peer)
		i := slices.IndexFunc(list, func(c Change) bool { return c.Old == Up })
		if i >= 0 {
			fell = list[i]
		}
		return i >= 0
	}, func() string { return "" })
	return fell
}

// downs gives how often the sessions went down, all together.
func (n *node) downs() (sum uint64) {
	n.t.Helper()
	for _, st := range n.ask(request{}).Status {
		sum += st.Downs
	}
	return sum
}

// All ways are up within three seconds of the order; a machine that is busy may need another try.
func TestUpWithinThreeSeconds(t *testing.T) {
	t.Parallel()
	against(t, func(t *testing.T, r *rig, n *node, c control) {
		const most, tries = 3 * time.Second, 3
		for try := 1; ; try++ {
			n.set()
			time.Sleep(3 * time.Second) // AdminDown has been said, and the other is down
			began, slowest := time.Now(), time.Duration(0)
			n.set(configs(nil)...)
			n.awaitAll(Up)
			for _, w := range ways {
				slowest = max(slowest, n.status(w.name).Since.Sub(began))
			}
			t.Logf("the slowest was up after %v", slowest)
			if slowest < most {
				return
			}
			if try == tries {
				t.Fatalf("the slowest was up after %v, want less than %v", slowest, most)
			}
		}
	})
}

func TestIntervalsChangeLive(t *testing.T) {
	t.Parallel()
	against(t, func(t *testing.T, r *rig, n *node, c control) {
		figures := func(what string, tx, rx time.Duration) {
			t.Helper()
			for _, w := range ways {
				n.await(w.name, what, func(st Status) bool {
					return st.Transmit == tx && st.Receive == rx && st.Detection == 10*rx && !st.Polling
				})
			}
		}
		figures("as configured", 200*ms, 200*ms)
		heard := sniff(t, r.ours)
		n.set(configs(func(c *Config) { c.Transmit = 300 * ms })...)
		figures("we send less often", 300*ms, 200*ms)
		n.set(configs(func(c *Config) { c.Transmit, c.Receive = 250*ms, 400*ms })...)
		figures("we hear less often", 250*ms, 400*ms)
		for _, w := range ways {
			heard.await(t, w.name+": our poll and its final", func(list []caught) bool {
				return slices.ContainsFunc(list, func(c caught) bool { return c.src == w.ours && c.poll }) &&
					slices.ContainsFunc(list, func(c caught) bool { return c.src == w.theirs && c.final })
			})
		}
		c.slower()
		figures("the other is slower", 500*ms, 500*ms)
		for _, w := range ways {
			heard.await(t, w.name+": its poll and our final", func(list []caught) bool {
				return slices.ContainsFunc(list, func(c caught) bool { return c.src == w.theirs && c.poll }) &&
					slices.ContainsFunc(list, func(c caught) bool { return c.src == w.ours && c.final && !c.poll })
			})
		}
		n.set(configs(func(c *Config) { c.Multiplier = 20 })...)
		figures("we want more than it gives", 500*ms, 500*ms)
		if d := n.downs(); d != 0 {
			t.Errorf("%d sessions went down: %+v", d, n.ask(request{}).Changes)
		}
	})
}

func TestLossTowardsUs(t *testing.T) {
	t.Parallel()
	against(t, func(t *testing.T, r *rig, n *node, c control) {
		heard := sniff(t, r.ours) // before the filter
		hear := deafen(t, r.ours)
		for _, w := range ways {
			n.await(w.name, "lost", func(st Status) bool { return st.State == Down && st.Downs == 1 })
			st := n.status(w.name)
			if st.LastLoss.Diag != DetectionExpired || st.RemoteDiscriminator != 0 {
				t.Errorf("%s: %+v", w.name, st.LastLoss)
			}
			if ch := n.fall(w.name); !ch.PeerLost() || !ch.At.Equal(st.LastHeard) {
				t.Errorf("%s: %+v, want the cause when the last packet was heard, %v", w.name, ch, st.LastHeard)
			}
		}
		for _, w := range ways {
			heard.await(t, w.name+": the other says why", func(list []caught) bool {
				return slices.ContainsFunc(list, func(c caught) bool {
					return c.src == w.theirs && c.state == Down && c.diag == NeighborSignalled
				})
			})
		}
		hear()
		n.awaitAll(Up)
	})
}

func TestLossTowardsPeer(t *testing.T) {
	t.Parallel()
	against(t, func(t *testing.T, r *rig, n *node, c control) {
		hear := deafen(t, r.theirs)
		for _, w := range ways {
			st := n.await(w.name, "lost", func(st Status) bool { return st.Downs == 1 })
			if l := st.LastLoss; l.Diag != NeighborSignalled || l.RemoteDiag != DetectionExpired {
				t.Errorf("%s: %+v", w.name, l)
			}
			if ch := n.fall(w.name); !ch.PeerLost() || ch.Diag != NeighborSignalled {
				t.Errorf("%s: %+v", w.name, ch)
			}
		}
		hear()
		n.awaitAll(Up)
	})
}

func TestAdminDownHere(t *testing.T) {
	t.Parallel()
	against(t, func(t *testing.T, r *rig, n *node, c control) {
		n.set(configs(func(c *Config) { c.AdminDown = true })...)
		for _, w := range ways {
			n.await(w.name, "the other is down by our order", func(st Status) bool {
				return st.State == AdminDown && st.RemoteState == Down && st.RemoteDiag == NeighborSignalled
			})
		}
		n.set(configs(nil)...)
		n.awaitAll(Up)
	})
}

func TestAdminDownThere(t *testing.T) {
	t.Parallel()
	against(t, func(t *testing.T, r *rig, n *node, c control) {
		c.hold()
		diag, remote := NeighborSignalled, AdminDown
		if c.silent {
			diag, remote = DetectionExpired, Down
		}
		for _, w := range ways {
			n.await(w.name, "down by order there", func(st Status) bool { return st.State == Down })
			if ch := n.fall(w.name); ch.PeerLost() != c.silent || ch.RemoteState != remote || ch.Diag != diag {
				t.Errorf("%s: %+v", w.name, ch)
			}
		}
		c.release()
		n.awaitAll(Up)
	})
}
