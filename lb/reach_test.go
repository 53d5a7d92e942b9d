package lb

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

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

// TestIPv6Fits gives mx1 a way that takes one byte too little for an IPv6 VIP, and then enough.
func TestIPv6Fits(t *testing.T) {
	const vip6 = "    - {name: smtp6, address: \"2001:db8:25::25\", port: 25, farm: smtp}\n"
	for _, c := range []struct {
		name    string
		forward Forward
		second  bool
		v6      bool // the real
		grows   int
	}{
		{"l2", ForwardL2, false, false, 0},
		{"ipip over IPv4", ForwardIPIP, false, false, 20},
		{"ipip over IPv6", ForwardIPIP, false, true, 40},
		{"gue over IPv4", ForwardGUE, false, false, 32},
		{"gue over IPv6", ForwardGUE, false, true, 52},
		{"gue with a second hop over IPv4", ForwardGUE, true, false, 40},
		{"gue with a second hop over IPv6", ForwardGUE, true, true, 72},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := valid + vip6
			if c.second {
				text = strings.Replace(text, "- name: smtp\n", "- name: smtp\n      agent: {}\n      transition: {method: second-chance}\n", 1)
				text = withTLS(t, text)
			}
			text = strings.Replace(text, "- name: smtp\n", fmt.Sprintf("- name: smtp\n      forward: %s\n", c.forward), 1)
			mx1 := "198.51.100.9"
			if c.v6 {
				mx1 = "2001:db8:7::9"
				text = strings.ReplaceAll(text, "198.51.100.9", `"2001:db8:7::9"`)
				text = strings.ReplaceAll(text, "198.51.100.10", `"2001:db8:7::10"`)
			}
			in := allPassing(mustParse(t, text))
			for _, mtu := range []int{1280 + c.grows - 1, 1280 + c.grows} {
				hop, want, why := in.hops[addr(mx1)], StateActive, ""
				hop.MTU = mtu
				if mtu < 1280+c.grows {
					want = StateFailed
					why = fmt.Sprintf("mtu %d leaves 1279 bytes for IPv6 to 2001:db8:25::25, which needs 1280; raise the mtu towards the real to %d", mtu, mtu+1)
				}
				in.hops[addr(mx1)] = hop
				in.evolve(epoch)
				if rec := in.states["smtp"][addr(mx1)]; rec.State.inService() != (want == StateActive) || why != "" && rec.Why != why {
					t.Errorf("mtu %d: mx1 is %s: %s; want %s: %s", mtu, rec.State, rec.Why, want, why)
				}
			}
		})
	}
	t.Run("no IPv6 VIP", func(t *testing.T) {
		in := allPassing(mustParse(t, valid))
		hop := testHop
		hop.MTU = 1280
		in.hops[addr("198.51.100.9")] = hop
		in.evolve(epoch)
		if rec := in.states["smtp"][addr("198.51.100.9")]; rec.State != StateActive {
			t.Errorf("mx1 is %s: %s", rec.State, rec.Why)
		}
	})
}

func TestRealThatDoesNotFitIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, valid+"    - {name: smtp6, address: \"2001:db8:25::25\", port: 25, farm: smtp}\n", newFakePlane(), nil)
		small := testHop
		small.MTU = 1290
		r.hops(map[netip.Addr]Hop{addr("198.51.100.9"): small, addr("198.51.100.10"): testHop})
		r.probe("mx1", probe.Passing)
		r.probe("mx2", probe.Passing)
		synctest.Wait()
		if s := r.lb.Reals()[0]; s.State != StateFailed || !strings.Contains(s.Why, "raise the mtu towards the real to 1300") {
			t.Errorf("show real: %+v", s)
		}
		r.hops(hopsOfBoth)
		synctest.Wait()
		if s := r.lb.Reals()[0]; !s.State.inService() {
			t.Errorf("show real with a larger mtu: %+v", s)
		}
		r.end()
	})
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
