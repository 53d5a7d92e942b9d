package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
)

// small is a lab of one of the small topologies. Their clients run the monitor role, which tells what the READMEs promise.
type small struct {
	t          *testing.T
	root, name string
}

// bringUp builds a topology, and has it gone without a trace when the test ends. What its nodes run of others must be there.
func bringUp(t *testing.T, name string, programs ...string) *small {
	t.Helper()
	netnstest.Root(t)
	for _, p := range programs {
		if _, err := os.Stat(p); err != nil && os.Getenv("CI") == "" && os.Getenv("ANYCASTLE_TEST_ROOT") == "" {
			t.Skipf("needs %s", p)
		}
	}
	s := &small{t, t.TempDir(), name}
	before := leftovers(t, s.root)
	t.Cleanup(func() {
		out, err := ours(context.WithoutCancel(t.Context()), s.root, "lab", "down", name).CombinedOutput()
		if err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
		leavesNothing(t, before, s.root)
	})
	s.lab("up", name)
	return s
}

// lab runs a lab command.
func (s *small) lab(args ...string) string {
	s.t.Helper()
	out, err := exec.CommandContext(s.t.Context(), binary, append([]string{"lab", "--state", s.root}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("anycastle lab %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// on runs a command in a node.
func (s *small) on(node string, argv ...string) string {
	s.t.Helper()
	return s.lab(append([]string{"exec", s.name, node, "--"}, argv...)...)
}

func (s *small) kill(node string)  { s.t.Helper(); s.lab("kill", s.name, node) }
func (s *small) start(node string) { s.t.Helper(); s.lab("start", s.name, node) }

// show asks a node's role, which may not answer yet.
func show[T any](s *small, node, noun string) (list []T) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), binary, "lab", "--state", s.root, "exec", s.name, node, "--", "anycastle", "show", noun, "-o", "json")
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err != nil {
		s.t.Logf("%s does not tell of its %s: %v", node, noun, err)
	}
	return list
}

// watches waits until the client's monitor says of targets, by name, that they pass or fail: "vip passing, real2 failing".
func (s *small) watches(want string) {
	s.t.Helper()
	proctest.Eventually(s.t, "client watches "+want, func() bool {
		states := map[string]string{}
		for _, target := range show[struct{ Name, State string }](s, "client", "target") {
			states[target.Name] = target.State
		}
		for part := range strings.SplitSeq(want, ", ") {
			name, state, _ := strings.Cut(part, " ")
			if states[name] != state {
				return false
			}
		}
		return true
	})
}

// leads waits until a node's route to a prefix has exactly these next hops.
func (s *small) leads(node, prefix string, want ...string) {
	s.t.Helper()
	proctest.Eventually(s.t, fmt.Sprintf("%s: %s leads to %v", node, prefix, want), func() bool {
		for _, r := range show[struct {
			Prefix   string       `json:"prefix"`
			NextHops []netip.Addr `json:"next_hops"`
			InKernel bool         `json:"in_kernel"`
		}](s, node, "route") {
			if r.Prefix != prefix || !r.InKernel {
				continue
			}
			var hops []string
			for _, h := range r.NextHops {
				hops = append(hops, h.String())
			}
			slices.Sort(hops)
			return slices.Equal(hops, want)
		}
		return len(want) == 0
	})
}

// real waits until a balancer has a real in one of the states.
func (s *small) real(balancer, real string, want ...string) {
	s.t.Helper()
	proctest.Eventually(s.t, fmt.Sprintf("%s: %s is %s", balancer, real, strings.Join(want, " or ")), func() bool {
		return slices.ContainsFunc(show[struct{ Name, State string }](s, balancer, "real"), func(r struct{ Name, State string }) bool {
			return r.Name == real && slices.Contains(want, r.State)
		})
	})
}

const vip = "203.0.113.25/32"

func TestLBOnlyShowsWhatItsReadmeSays(t *testing.T) {
	s := bringUp(t, "lb-only")
	s.watches("vip passing, real1 passing, real2 passing, real3 passing")
	s.leads("router", vip, "198.51.100.3", "198.51.100.5")

	s.kill("real2")
	s.real("lb1", "real2", "failed")
	s.real("lb2", "real2", "failed")
	s.watches("vip passing, real2 failing")
	s.start("real2")
	s.real("lb1", "real2", "joining", "active")

	s.on("lb2", "anycastle", "suspend", "smtp/real1")
	s.real("lb1", "real1", "suspended")
	s.watches("vip passing, real1 passing")
	s.on("lb1", "anycastle", "activate", "smtp/real1")
	s.real("lb2", "real1", "joining", "active")

	s.kill("lb1")
	s.leads("router", vip, "198.51.100.5")
	s.watches("vip passing")
	s.start("lb1")
	s.leads("router", vip, "198.51.100.3", "198.51.100.5")

	for _, real := range []string{"real1", "real2", "real3"} {
		s.kill(real)
	}
	s.leads("router", vip)
	s.watches("vip failing")
}

func TestGSSOnlyShowsWhatItsReadmeSays(t *testing.T) {
	s := bringUp(t, "gss-only", "/usr/sbin/unbound")
	s.watches("resolver-says-east1 passing, east-gss-says-east1 passing, west-gss-says-east1 passing")

	s.kill("east1")
	s.watches("resolver-says-east1 failing, resolver-says-east2 passing, east-gss-says-east1 failing")
	s.kill("east2")
	s.watches("resolver-says-east2 failing, resolver-says-west1 passing")
	s.kill("east-gss")
	s.start("east1") // that it is back is for the other selector to see
	s.watches("resolver-says-west1 failing, resolver-says-east1 passing, west-gss-says-east1 passing")
	s.start("east-gss")
	s.watches("east-gss-says-east1 passing")
}

func TestRHIFRRShowsWhatItsReadmeSays(t *testing.T) {
	s := bringUp(t, "rhi-frr", "/usr/lib/frr/watchfrr")
	s.watches("vip passing, mx1 passing, mx2 passing")
	s.leads("client", vip, "198.51.100.1", "198.51.100.3")
	s.frr("core1", "198.51.100.7")

	s.kill("lb1")
	s.frr("core1", "198.51.100.5")
	s.watches("vip passing")
	s.start("lb1")
	s.frr("core1", "198.51.100.7")

	s.kill("core2")
	s.leads("client", vip, "198.51.100.1")
	s.watches("vip passing, mx2 failing")
	s.start("core2")
	s.leads("client", vip, "198.51.100.1", "198.51.100.3")
	s.watches("vip passing, mx2 passing")
}

// frr waits until a router of FRR sends the VIP to a next hop.
func (s *small) frr(router, hop string) {
	s.t.Helper()
	proctest.Eventually(s.t, fmt.Sprintf("%s: the VIP leads to %s", router, hop), func() bool {
		var routes map[string][]struct {
			Selected bool `json:"selected"`
			NextHops []struct {
				IP     string
				Active bool
			} `json:"nexthops"`
		}
		if err := json.Unmarshal([]byte(s.on(router, "vtysh", "-c", "show ip route "+vip+" json")), &routes); err != nil {
			s.t.Fatal(err)
		}
		for _, r := range routes[vip] {
			if r.Selected && len(r.NextHops) == 1 && r.NextHops[0].IP == hop {
				return true
			}
		}
		return false
	})
}
