package lbbench

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var bothLBs = []string{"lb1", "lb2"}

// farmFast is probed often, and its transitions are over before a test is.
const farmFast = "      transition: {time: 2s}\n" + farmIPIP

// TestOrdersReachEveryBalancer gives orders on either balancer's command line, and kills one and then both meanwhile.
func TestOrdersReachEveryBalancer(t *testing.T) {
	t.Parallel()
	c := newControl(t, 2, 2, farmIPIP)
	c.listen("mx1", "mx2")
	c.up(bothLBs...)
	c.expectPeers("alive", bothLBs...)
	c.expectStates(bothLBs, "mx1 active", "mx2 active")
	both := c.expectSameTables(bothLBs...)

	out := c.mustRun("lb1", "drain", "smtp/mx1", "--deadline", "10m", "--why", "a new disk")
	if !strings.Contains(out, "smtp/mx1: drain ordered, deadline") {
		t.Errorf("drain says %q", out)
	}
	// no client has connected, but reports of an agent only count after two
	done := func(d drainRow) bool {
		return d.Real == "mx1" && d.State == "suspended" && d.Safe && strings.Contains(d.Why, "no flow is left")
	}
	c.expectDrain(bothLBs, "done", done)
	without := c.expectSameTables(bothLBs...)
	if m := without.moved(both); m < 0.4 || m > 0.6 {
		t.Errorf("%.2f of the slots moved with one of two reals", m)
	}
	for _, lb := range bothLBs {
		if out := c.mustRun(lb, "show", "drain"); !strings.Contains(out, "mx1") || !strings.Contains(out, "drained: no flow is left") {
			t.Errorf("show drain on %s says\n%s", lb, out)
		}
	}

	c.running["lb1"].stop(syscall.SIGKILL)
	c.up("lb1")
	c.expectDrain(bothLBs, "done after one was killed", done)
	for _, lb := range bothLBs {
		c.running[lb].stop(syscall.SIGKILL)
	}
	c.up(bothLBs...)
	c.expectDrain(bothLBs, "done after both were killed", done)
	c.expectStates(bothLBs, "mx1 suspended", "mx2 active")
	if !slices.Equal(c.expectSameTables(bothLBs...), without) {
		t.Error("the table is another one after both were killed")
	}

	c.expectPeers("alive", bothLBs...)
	c.mustRun("lb2", "activate", "smtp/mx1")
	c.expectStates(bothLBs, "mx1 joining", "mx2 active")
	c.expectSameTables(bothLBs...)
	for _, lb := range bothLBs {
		if list := show[drainRow](c, lb, "drain"); len(list) > 0 {
			t.Errorf("drains on %s: %+v", lb, list)
		}
		c.running[lb].stop(syscall.SIGTERM)
	}
}

// TestStrangerIsKeptOut has two balancers with other keys.
func TestStrangerIsKeptOut(t *testing.T) {
	t.Parallel()
	c := newControl(t, 2, 1, farmIPIP)
	c.nodes["lb2"] = strings.Replace(c.nodes["lb2"], siteKey, strings.ToUpper(strings.Repeat("5e", 16)), 1)
	c.listen("mx1")
	c.up(bothLBs...)
	c.expectStates(bothLBs, "mx1 active")
	c.mustRun("lb1", "drain", "smtp/mx1")
	c.expectStates([]string{"lb1"}, "mx1 suspended")
	for _, lb := range bothLBs {
		eventually(t, "a stranger is counted on "+lb, func() bool {
			return c.metrics(lb)[`anycastle_mesh_messages_rejected_total{mesh="lb",reason="key"}`] > 0
		})
		for _, m := range show[member](c, lb, "peer-lb") {
			if !m.Self {
				t.Errorf("%s has %+v for a peer", lb, m)
			}
		}
	}
	if s := c.real("lb2", "mx1"); s.State != "active" {
		t.Errorf("mx1 is %s on lb2, because %s: an order came in from a stranger", s.State, s.Why)
	}
	for _, lb := range bothLBs {
		p := c.running[lb]
		p.stop(syscall.SIGTERM)
		if !strings.Contains(p.log.String(), "another mesh key") {
			t.Errorf("the log of %s does not tell of another mesh key:\n%s", lb, p.log.String())
		}
	}
}

// TestBalancersAgreeAfterAPartition gives orders on both sides of a cut: the last one counts.
func TestBalancersAgreeAfterAPartition(t *testing.T) {
	t.Parallel()
	c := newControl(t, 2, 3, farmFast)
	c.listen("mx1", "mx2", "mx3")
	c.up(bothLBs...)
	c.expectPeers("alive", bothLBs...)
	c.expectStates(bothLBs, "mx1 active", "mx2 active", "mx3 active")

	heal := c.cut("lb1", "lb2")
	c.mustRun("lb1", "drain", "smtp/mx1")
	c.mustRun("lb2", "suspend", "smtp/mx2")
	c.mustRun("lb1", "suspend", "smtp/mx3", "--why", "the first")
	c.mustRun("lb2", "drain", "smtp/mx3", "--why", "the last")
	c.expectStates([]string{"lb1"}, "mx1 suspended", "mx2 active", "mx3 suspended")
	c.expectStates([]string{"lb2"}, "mx1 active", "mx2 suspended", "mx3 suspended")
	c.expectPeers("lost", bothLBs...) // and each still balances
	heal()
	c.expectPeers("alive", bothLBs...)
	c.expectStates(bothLBs, "mx1 suspended", "mx2 suspended", "mx3 suspended")
	for _, lb := range bothLBs {
		eventually(t, "the last order about mx3 on "+lb, func() bool {
			_, ok := row(show[drainRow](c, lb, "drain"), func(d drainRow) bool { return d.Real == "mx3" })
			return ok
		})
	}
	c.mustRun("lb1", "activate", "smtp/mx2")
	c.expectStates(bothLBs, "mx2 active")
	c.expectSameTables(bothLBs...)
}

// cut has two hosts reach each other no more, and everything else as before, until heal is called.
func (c *control) cut(a, b string) (heal func()) {
	c.t.Helper()
	type hole struct {
		handle *netlink.Handle
		route  *netlink.Route
	}
	var holes []hole
	for from, to := range map[string]string{a: b, b: a} {
		h := hole{c.hosts[from].Link, &netlink.Route{Dst: prefix(c.addr[to].String() + "/32"), Type: unix.RTN_BLACKHOLE}}
		check(c.t, h.handle.RouteAdd(h.route))
		holes = append(holes, h)
	}
	return func() {
		for _, h := range holes {
			check(c.t, h.handle.RouteDel(h.route))
		}
	}
}
