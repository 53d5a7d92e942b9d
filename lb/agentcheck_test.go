package lb

import (
	"strings"
	"testing"
	"testing/synctest"

	"anycastle/internal/vipreport"
)

func TestAgentLine(t *testing.T) {
	l := &LB{cfg: mustParse(t, valid)}
	for want, v := range map[string]vipreport.VIP{
		"ready up 100%":             {State: vipreport.Active, InService: 2, Reals: 2, Route: vipreport.RouteAnnounced},
		"ready up 50%":              {State: vipreport.Active, InService: 1, Reals: 2},
		"up drain":                  {State: vipreport.Active, InService: 2, Reals: 2, Draining: true},
		"maint":                     {State: vipreport.Suspended, Reals: 2},
		"down #vip smtp has 0 of 1": {State: vipreport.Failed, Why: "vip smtp has 0 of 1"},
		"down #its route is withdrawn: 1 of 3 sites, as the 2 said": {State: vipreport.Active, InService: 2, Reals: 2, Route: vipreport.RouteWithdrawn, RouteWhy: "1 of #3 sites, as the #2 said"},
	} {
		v.Name = "smtp"
		if got := l.agentLine(v); got != want {
			t.Errorf("%+v is said as %q, want %q", v, got, want)
		}
	}
}

// TestReloadKeepsListeners: where others ask is no part of what a running process takes over.
func TestReloadKeepsListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t, telling)
		defer l.end()
		l.next(true)
		l.start()
		l.next(false)
		err := l.lb.Reload(t.Context(), *mustParse(t, valid))
		if err == nil || !strings.Contains(err.Error(), "lb.vips[].agent_check has changed, which only a restart can take over") {
			t.Errorf("error %v", err)
		}
		more := strings.Replace(telling, "farm: smtp}", "farm: smtp}\n    - {name: imap, address: 203.0.113.11, port: 25, farm: smtp}", 1)
		check(t, l.lb.Reload(t.Context(), *mustParse(t, more)))
		if v := vipOf(t, l.next(false)); v.Name != "imap" {
			t.Errorf("a VIP that is new is told of as %+v", v)
		}
		check(t, l.lb.Reload(t.Context(), *mustParse(t, telling)))
		if v := vipOf(t, l.next(true)); v.Name != "smtp" {
			t.Errorf("a VIP that has gone leaves %+v", v)
		}
	})
}
