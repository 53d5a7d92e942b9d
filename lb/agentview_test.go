package lb

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/internal/probe"
	"anycastle/lb/agent"

	"github.com/google/go-cmp/cmp"
)

// withAgent is the valid file with agents on the reals.
func withAgent(t *testing.T, keys string) string {
	t.Helper()
	return withTLS(t, strings.Replace(valid, "    - name: smtp\n", "    - name: smtp\n      agent: {}\n"+keys, 1))
}

var vipPort = agent.Key{VIP: addrPort("203.0.113.10:25"), Protocol: agent.TCP}

// agentSays hands over a report of mx1.
func (r *running) agentSays(load float64, flows int, verdicts ...agentVerdict) {
	r.agentSaysOf("198.51.100.9", load, flows, verdicts...)
}

func (r *running) agentSaysOf(real string, load float64, flows int, verdicts ...agentVerdict) {
	now := time.Now()
	r.lb.events <- agentEvent(agentUpdate{
		Target: netip.AddrPortFrom(addr(real), 6087), At: now, Verdicts: verdicts,
		Report: agent.Report{At: now, Since: epoch, Load: load, Counted: now, VIPs: []agent.Port{
			{Address: vipPort.VIP.Addr(), Protocol: agent.TCP, Port: 25, Flows: flows, Listening: true},
			{Address: vipPort.VIP.Addr(), Protocol: agent.TCP, Port: 26, Flows: 1000}, // no VIP of ours
		}},
	})
	<-time.After(time.Second)
}

func TestAgentEndsDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, withAgent(t, ""), newFakePlane(), nil)
		r.start()
		r.agentSays(0, 0)
		r.agentSays(0, 0) // before the drain they say nothing
		r.order("mx1", KindDrain, time.Hour)
		r.expect("forget flows", "table 0 of [2] before [1 2]")
		r.agentSays(0, 100)
		r.agentSays(0, 75)
		r.expect()
		d := r.lb.Drains()[0]
		if d.FlowsLeft == nil || *d.FlowsLeft != 75 || d.Safe {
			t.Errorf("drain %+v, want 75 flows left", d)
		}
		if eta := time.Until(d.ETA); eta != 2*time.Second { // 25 in the second until a second ago
			t.Errorf("eta in %v, want 2s", eta)
		}
		r.agentSays(0, 0)
		r.expect()
		r.agentSays(0, 1)
		r.agentSays(0, 0)
		r.expect()
		r.agentSays(0, 0)
		r.expect("table 0 of [2]")
		if d := r.lb.Drains()[0]; !d.Safe || d.Why != "drained: no flow is left" {
			t.Errorf("drain %+v, want it safe", d)
		}
		r.end()
	})
}

// TestEndOfDrainIsExpectedFromItsBeginning has flows end before the first report after that.
func TestEndOfDrainIsExpectedFromItsBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, withAgent(t, ""), newFakePlane(), nil)
		r.start()
		r.agentSays(0, 100)
		r.order("mx1", KindDrain, time.Hour)
		r.expect("forget flows", "table 0 of [2] before [1 2]")
		r.agentSays(0, 75)
		d := r.lb.Drains()[0]
		if eta := time.Until(d.ETA); eta != 2*time.Second { // 25 in the second until a second ago
			t.Errorf("eta in %v, want 2s", eta)
		}
		r.end()
	})
}

// A count of before the drain may lack flows that came meanwhile; they count once they are seen.
func TestEndOfDrainIsExpectedFromAllFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, withAgent(t, ""), newFakePlane(), nil)
		r.start()
		r.order("mx1", KindDrain, time.Hour)
		r.expect("forget flows", "table 0 of [2] before [1 2]")
		for _, flows := range []int{10, 100, 75} {
			r.agentSays(0, flows)
		}
		if eta := time.Until(r.lb.Drains()[0].ETA); eta != 2*time.Second { // 25 in the second until a second ago
			t.Errorf("eta in %v, want 2s", eta)
		}
		r.end()
	})
}

func TestLostAgentKnowsNoFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, withAgent(t, ""), newFakePlane(), nil)
		r.start()
		r.order("mx1", KindDrain, time.Hour)
		r.expect("forget flows", "table 0 of [2] before [1 2]")
		r.agentSays(0, 0)
		r.lb.events <- agentEvent(agentUpdate{Target: addrPort("198.51.100.9:6087"), Err: errors.New("no answer")})
		synctest.Wait()
		if d := r.lb.Drains()[0]; d.FlowsLeft != nil {
			t.Errorf("drain %+v, want flows unknown", d)
		}
		r.agentSays(0, 0) // one in a row
		r.expect()
		r.end()
	})
}

// TestAgentTakesRealOut until its probes have passed twice after that.
func TestAgentTakesRealOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, withAgent(t, ""), newFakePlane(), nil)
		r.start()
		r.agentSays(0, 3, agentVerdict{Port: vipPort, Kind: verdictUnanswered, Why: "agent: silence", Conclusive: false},
			agentVerdict{Port: agent.Key{VIP: addrPort("203.0.113.10:26"), Protocol: agent.TCP}, Why: "agent: another port", Conclusive: true})
		r.expect()
		if diff := cmp.Diff([]string{"smtp/mx1/0/203.0.113.10"}, r.watch.probedNow()); diff != "" {
			t.Errorf("probed at once (-want +got):\n%s", diff)
		}
		r.agentSays(0, 3, agentVerdict{Port: vipPort, Kind: verdictRefused, Why: "agent: refused 3 connections", Conclusive: true})
		r.expect("table 0 of [2]")
		if s := r.state("mx1"); s.State != StateFailed || s.Why != "agent: refused 3 connections" {
			t.Errorf("status %+v", s)
		}
		result := func(err error, at time.Time) {
			state := probe.Passing // two failures in a row have not come
			r.lb.events <- resultEvent(probe.Result{Target: r.watch.targets[0], State: state, Err: err, At: at, Advice: probe.Advice{Weight: 100}})
		}
		began := time.Now()
		result(nil, began.Add(-time.Hour)) // it began before
		result(nil, began)
		result(errors.New("refused"), began)
		result(nil, began)
		r.expect()
		result(nil, began)
		r.expect("forget flows", "table 0 of [1 2] before [2]")
		r.end()
	})
}

// TestAgentsLeaveHalf has both agents speak against their reals: the second is left to its probes.
func TestAgentsLeaveHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, withAgent(t, ""), newFakePlane(), nil)
		r.start()
		refused := agentVerdict{Port: vipPort, Kind: verdictRefused, Why: "agent: refused 3 connections", Conclusive: true}
		r.agentSays(0, 3, refused)
		r.expect("table 0 of [2]")
		if names := r.watch.probedNow(); len(names) > 0 {
			t.Errorf("%q are probed at once, though the agent was believed", names)
		}
		r.agentSaysOf("198.51.100.10", 0, 3, refused)
		r.expect()
		if diff := cmp.Diff([]string{"smtp/mx2/0/203.0.113.10"}, r.watch.probedNow()); diff != "" {
			t.Errorf("probed at once (-want +got):\n%s", diff)
		}
		s := r.state("mx2")
		if s.State != StateActive || !strings.HasPrefix(s.Why, "agent: refused 3 connections; in service until a probe fails") {
			t.Errorf("status %+v", s)
		}
		if !r.logged("speaks against", "mx2", "out=false") {
			t.Error("it is not in the log")
		}
		r.agentSays(0, 3, refused) // still
		r.expect()
		if s := r.state("mx1"); s.State != StateFailed {
			t.Errorf("status %+v", s)
		}
		r.probe("mx2", probe.Failing)
		r.expect("announce []", "table 0 of [0]", "address 203.0.113.10, out of service")
		r.end()
	})
}

// TestSpare counts the reals that agents must leave alone.
func TestSpare(t *testing.T) {
	for _, tc := range []struct {
		reals, out int
		want       bool
	}{{1, 0, false}, {2, 0, true}, {2, 1, false}, {3, 0, true}, {3, 1, false}, {4, 1, true}, {4, 2, false}} {
		cfg := mustParse(t, valid)
		f := &cfg.Farms[0]
		f.Reals = nil
		for i := range tc.reals {
			f.Reals = append(f.Reals, Real{Name: string(rune('a' + i)), Address: testAddr(i), Weight: 1})
		}
		in := newInputs(cfg)
		for i := range f.Reals {
			in.hops[f.Reals[i].Address] = testHop
			for _, target := range in.farms[f.Name].targets[f.Reals[i].Name] {
				in.probes[target.id] = probed{state: probe.Passing}
				if i > 0 && i <= tc.out {
					in.probes[target.id] = probed{state: probe.Failing, why: "refused"}
				}
			}
		}
		if got := in.spare(f, "a"); got != tc.want {
			t.Errorf("%d reals of which %d others are out: %v, want %v", tc.reals, tc.out, got, tc.want)
		}
	}
}

func TestLoadMovesWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, withAgent(t, "      weights: agent\n"), newFakePlane(), nil)
		r.start()
		r.agentSays(0.1, 0)
		r.expect("forget flows", "table 0 of [1 2]")
		s := r.state("mx1")
		if s.PrimaryWeight != 0.9 || s.SecondaryWeight != 1 || time.Until(s.Until) != time.Hour-time.Second {
			t.Errorf("status %+v, want nine tenths of the weight", s)
		}
		if !r.logged("weight changed", "old=1", "new=0.9", "cause=agent") {
			t.Error("the change is not in the log")
		}
		r.agentSays(0.8, 0) // gathered until the first change ends
		r.expect()
		<-time.After(time.Hour)
		r.expect("table 0 of [1 2]")
		if s := r.state("mx1"); s.PrimaryWeight != 0.2 || s.SecondaryWeight != 0.9 {
			t.Errorf("status %+v, want a fifth of the weight", s)
		}
		r.end()
	})
}

func TestLoadPercent(t *testing.T) {
	for _, tc := range []struct {
		load      float64
		was, want int
	}{
		{0, 0, 100}, {0.04, 0, 100}, {0.06, 0, 90}, {0.42, 0, 60}, {1, 0, 10}, {3, 0, 10},
		{0.56, 50, 50}, {0.57, 50, 50}, {0.59, 50, 40}, {0.43, 50, 50}, {0.41, 50, 60}, {0, 50, 100},
	} {
		if got := loadPercent(tc.load, tc.was); got != tc.want {
			t.Errorf("load %v after %d %%: %d %%, want %d", tc.load, tc.was, got, tc.want)
		}
	}
}

func TestAgentCheckAdvises(t *testing.T) {
	for _, tc := range []struct {
		advice  probe.Advice
		weights bool
		percent int
		order   string
	}{
		{probe.Advice{Weight: 100}, true, 100, ""},
		{probe.Advice{Weight: 40}, true, 40, ""},
		{probe.Advice{Weight: 40}, false, 100, ""},
		{probe.Advice{Weight: 5000}, true, maxPercent, ""},
		{probe.Advice{Weight: 0}, true, 100, "order drain by agent-check"},
		{probe.Advice{Weight: 0}, false, 100, ""},
		{probe.Advice{Weight: 50, Admin: probe.AdminDrain}, true, 50, "order drain by agent-check"},
		{probe.Advice{Weight: 100, Admin: probe.AdminMaint}, false, 100, "order suspend by agent-check"},
		{probe.Advice{Weight: 100, Admin: probe.AdminReady}, true, 100, ""},
	} {
		s := situation{percent: 100}
		s.advise(tc.advice, tc.weights)
		order := ""
		if s.order != nil {
			order = s.order.String()
		}
		if s.percent != tc.percent || order != tc.order {
			t.Errorf("%+v, weights %v: %d %%, %q; want %d %%, %q", tc.advice, tc.weights, s.percent, order, tc.percent, tc.order)
		}
	}
}

// TestAgentCheckInTheLoop has the word of an agent-check follow its probe's state, an operator's order before it.
func TestAgentCheckInTheLoop(t *testing.T) {
	text := strings.Replace(valid, "150ms}]", "150ms}, {type: agent-check, port: 8080}]\n      weights: agent-check", 1)
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, text, newFakePlane(), nil)
		r.start()
		if names := r.watch.names(); len(names) != 4 || names[1] != "smtp/mx1/1" {
			t.Fatalf("%q are probed", names)
		}
		check := r.watch.targets[1]
		if check.Mark != 0 || check.Addr != addrPort("198.51.100.9:8080") || r.watch.targets[0].Mark == 0 {
			t.Errorf("targets %+v", r.watch.targets[:2])
		}
		say := func(a probe.Advice) {
			r.lb.events <- resultEvent(probe.Result{Target: check, State: probe.Passing, At: time.Now(), Advice: a})
		}
		say(probe.Advice{Weight: 100, Admin: probe.AdminDrain})
		r.expect("forget flows", "table 0 of [2] before [1 2]")
		if s := r.state("mx1"); s.State != StateDraining || s.Why != "order drain by agent-check" || time.Until(s.Until) != time.Hour {
			t.Errorf("status %+v", s)
		}
		r.order("mx1", KindSuspend, 0)
		r.expect("table 0 of [2]")
		say(probe.Advice{Weight: 100, Admin: probe.AdminReady})
		r.expect()
		r.order("mx1", KindActivate, 0)
		r.expect("forget flows", "table 0 of [1 2] before [2]")
		r.end()
	})
}

func TestClip(t *testing.T) {
	for text, want := range map[string]string{"abc": "abc", "a\nb\x1b": "a b ", "abcdefgh": "abcdef", "abcdeé": "abcde", "\xffa": "?a"} {
		if got := clipTo(text, 6); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
