package lb

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/internal/probe"
)

// An address is as well as the VIP on it that is worst off.
func TestHealthOfAddress(t *testing.T) {
	three := func(vips string) string { return strings.Replace(threeReals, "VIPS", vips, 1) }
	for _, tc := range []struct {
		name, vips string
		failing    []string
		vip        string
		fit, full  bool
		share      int
		why        string
	}{
		{"all", "{name: a, address: 203.0.113.10, port: 25, farm: f}", nil, "a", true, true, 100, ""},
		{"share is by weight", "{name: a, address: 203.0.113.10, port: 25, farm: f, min_share: 60}", []string{"r3"}, "a", false, true, 50,
			"vip a has 50% of the 60% of its farm's weight that it needs"},
		{"degraded by share", "{name: a, address: 203.0.113.10, port: 25, farm: f, full_share: 60}", []string{"r3"}, "a", true, false, 50, ""},
		{"degraded by count", "{name: a, address: 203.0.113.10, port: 25, farm: f, full_reals: 3}", []string{"r1"}, "a", true, false, 75, ""},
		{"the VIP that needs more decides",
			"{name: a, address: 203.0.113.10, port: 25, farm: f}\n    - {name: b, address: 203.0.113.10, port: 26, farm: f, min_reals: 3}",
			[]string{"r1"}, "b", false, true, 75, "vip b has 2 of 3 reals that it needs"},
		{"none at all", "{name: a, address: 203.0.113.10, port: 25, farm: f}", []string{"r1", "r2", "r3"}, "a", false, true, 0, "vip a has 0 of 1 reals that it needs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := allPassing(mustParse(t, three(tc.vips)))
			for _, r := range tc.failing {
				in.probe("f", r, probe.Failing)
			}
			list := in.health()
			if len(list) != 1 {
				t.Fatalf("%d addresses", len(list))
			}
			h := list[0]
			if h.VIP != tc.vip || h.Fit() != tc.fit || h.Full.met(h) != tc.full || h.Share != tc.share || h.why() != tc.why || !h.Known || h.Reals != 3 {
				t.Errorf("%+v, fit %v, full %v, because %q", h, h.Fit(), h.Full.met(h), h.why())
			}
		})
	}
}

// Flows are counted once for each farm of an address, however many VIPs lead to it; an agent that does not say leaves the
// number unknown.
func TestFlowsOfAddress(t *testing.T) {
	in := allPassing(mustParse(t, strings.Replace(threeReals, "VIPS",
		"{name: a, address: 203.0.113.10, port: 25, farm: f}\n    - {name: b, address: 203.0.113.10, port: 26, farm: f}", 1)))
	if h := in.health()[0]; h.Flows != nil {
		t.Errorf("%d flows that nobody counted", *h.Flows)
	}
	for i, name := range []string{"r1", "r2", "r3"} {
		in.agents[realID{"f", name}] = agentView{flows: flowCount{known: true, left: i + 1}}
	}
	if h := in.health()[0]; h.Flows == nil || *h.Flows != 6 {
		t.Errorf("flows %v, want 6", h.Flows)
	}
}

const threeReals = `
lb:
  uplinks: [eth1]
  hash_key: "000102030405060708090a0b0c0d0e0f"
  farms:
    - name: f
      probes: [{type: tcp, port: 25}]
      reals:
        - {name: r1, address: 198.51.100.7}
        - {name: r2, address: 198.51.100.8}
        - {name: r3, address: 198.51.100.9, weight: 2}
  vips:
    - VIPS
`

// The lease is renewed each second, and not by probes that hang.
func TestLeaseNeedsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.start()
		told := func() int {
			r.ann.mu.Lock()
			defer r.ann.mu.Unlock()
			return r.ann.times
		}
		probing := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				r.probe("mx1", probe.Passing)
				r.probe("mx2", probe.Passing)
			}
		}
		before := told()
		probing(20 * time.Second)
		if n := told() - before; n < 18 || n > 22 {
			t.Errorf("told %d times within 20 s", n)
		}
		time.Sleep(time.Minute) // no result comes
		before = told()
		time.Sleep(time.Minute)
		if n := told() - before; n != 0 {
			t.Errorf("told %d times though the probes hang", n)
		}
		before = told()
		probing(5 * time.Second)
		if told() == before {
			t.Error("not told when probes go on")
		}
		r.end()
	})
}
