package lb

import (
	"testing"

	"anycastle/internal/probe"
)

// TestReachable changes the way to mx1 of one farm, and looks at what becomes of the real.
func TestReachable(t *testing.T) {
	for _, c := range []struct {
		name    string
		forward Forward
		gateway string
		probes  probe.State
		fails   string
	}{
		{"l2 on the link", ForwardL2, "", probe.Passing, ""},
		{"l2 behind a gateway", ForwardL2, "198.51.100.1", probe.Passing,
			"l2 needs the real on the uplink's own network, it is behind 198.51.100.1"},
		{"l2 behind a gateway, probes failing for it", ForwardL2, "198.51.100.1", probe.Failing,
			"l2 needs the real on the uplink's own network, it is behind 198.51.100.1"},
		{"ipip behind a gateway", ForwardIPIP, "198.51.100.1", probe.Passing, ""},
		{"gue behind a gateway", ForwardGUE, "198.51.100.1", probe.Passing, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := mustParse(t, valid)
			cfg.Farms[0].Reals[0].Forward = c.forward
			in := allPassing(cfg)
			hop := testHop
			if c.gateway != "" {
				hop.Gateway = addr(c.gateway)
			}
			in.hops[addr("198.51.100.9")] = hop
			in.probe("smtp", "mx1", c.probes)
			in.expectFailing(t, c.fails)
		})
	}
}

// expectFailing checks the state of mx1, and that it stays the same while the real leaves the config.
func (in *inputs) expectFailing(t *testing.T, why string) {
	t.Helper()
	mx1 := addr("198.51.100.9")
	want, rec := StateActive, in.states["smtp"][mx1]
	if why != "" {
		want = StateFailed
	}
	if rec.State != want || why != "" && rec.Why != why {
		t.Errorf("mx1 is %s: %s; want %s: %s", rec.State, rec.Why, want, why)
	}
	gone := *in.cfg
	gone.Farms = append([]Farm(nil), gone.Farms...)
	gone.Farms[0].Reals = gone.Farms[0].Reals[1:]
	in.setConfig(&gone)
	if fails := in.situations(&gone.Farms[0])[mx1].fails; fails != why {
		t.Errorf("out of the config, it fails for %q, want %q", fails, why)
	}
}
