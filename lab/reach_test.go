package lab

import (
	"os"
	"slices"
	"testing"
	"time"

	"anycastle/internal/netnstest"
	"anycastle/lab/look"
	"anycastle/lab/reach"
	"anycastle/lab/runner"
)

// What design.md promises of the lab of two sites, on a machine of 2 cores.
const (
	upWithin = 30 * time.Second
	mostRAM  = 1500 << 20
)

// Exactly what the matrix allows answers: from the Internet, from each layer, from the other site, from the other pod. In the same
// labs, as each takes a while to build, it is seen what they cost.
func TestReachability(t *testing.T) {
	netnstest.Root(t)
	for _, name := range []string{"two-site", "two-pod"} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("reach/" + name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			m, err := reach.Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			s := bringUp(t, name)
			took := time.Since(began)
			lab := s.settled()
			for _, place := range m.Places {
				if _, ok := lab.Topology.Node(place); !ok {
					t.Fatalf("the topology has no node %s, and the matrix asks from it", place)
				}
			}
			wrong, err := reach.Run(t.Context(), lab.Lab, m)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(wrong)
			for _, line := range wrong {
				t.Error(line)
			}
			status, err := lab.Status()
			if err != nil {
				t.Fatal(err)
			}
			if err := status.MeasureMemory(); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d nodes up in %.1f s, %d MB of memory", len(status.Nodes), took.Seconds(), status.Memory>>20)
			if name == "two-site" && (took > upWithin || status.Memory > mostRAM) {
				t.Errorf("at most %v and %d MB are promised", upWithin, mostRAM>>20)
			}
		})
	}
}

// settled waits until the lab is as it should be: every session up, every VIP announced, every LUN at home.
func (s *small) settled() *look.Lab {
	s.t.Helper()
	open, err := runner.Open(s.name, s.root)
	if err != nil {
		s.t.Fatal(err)
	}
	lab, err := look.New(open)
	if err != nil {
		s.t.Fatal(err)
	}
	began := time.Now()
	if err := lab.Settle(s.t.Context(), 2*time.Minute, func(what string) { s.t.Log(what) }); err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("settled after %.1f s", time.Since(began).Seconds())
	return lab
}
