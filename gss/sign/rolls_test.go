package sign

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// step lets some time pass.
func (w *sim) step(orders bool) bool {
	switch w.rnd.IntN(4) {
	case 0:
		w.now = w.now.Add(time.Second + w.upTo(time.Minute))
	case 1:
		w.now = w.now.Add(time.Second + w.upTo(4*time.Hour))
	case 2:
		w.now = w.now.Add(w.upTo(24 * time.Hour))
	default: // the moment that was waited for
		if w.last.Next.After(w.now) && w.last.Next.Sub(w.now) < 100*time.Hour {
			w.now = w.last.Next
		}
	}
	if w.chance(3) {
		w.scan()
	}
	w.register()
	if !w.check() {
		return false
	}
	if orders {
		w.order()
	}
	var o *Observation
	if w.chance(3) {
		o = w.observe()
	}
	if !w.chance(4) || o != nil {
		w.act(o)
	}
	return w.check()
}

// order is what people do.
func (w *sim) order() {
	if !w.chance(60) {
		return
	}
	switch w.rnd.IntN(6) {
	case 0, 1:
		w.note("roll")
		w.state = w.state.AskRoll()
	case 2:
		if ids := slices.Sorted(maps.Keys(w.state.Keys)); len(ids) > 0 {
			id := ids[w.rnd.IntN(len(ids))]
			w.note("%s is compromised", id)
			w.state = w.state.Compromise(id)
		}
	case 3:
		insecure := w.policy.Insecure
		w.policy = w.randomPolicy()
		w.policy.Insecure = insecure
		w.note("policy %+v", w.policy)
		w.act(nil)
		w.serve(w.last) // with the new TTLs
	case 4:
		w.policy.Insecure = !w.policy.Insecure
		w.note("insecure %v", w.policy.Insecure)
	default:
		w.policy.Algorithm = dns.ECDSAP256SHA256 + dns.ED25519 - w.policy.Algorithm
		w.note("algorithm %d", w.policy.Algorithm)
	}
}

func (w *sim) run(steps int) bool {
	for range steps {
		if !w.step(true) {
			return false
		}
	}
	return true
}

func (w *sim) fatal(seed uint64) {
	w.t.Helper()
	for _, line := range w.trail {
		w.t.Log(line)
	}
	w.t.Fatalf("seed %d, after %v: %s", seed, w.now.Sub(epoch), w.failed)
}

const simSeeds = 6

func TestEachCacheValidatesAtEachMoment(t *testing.T) {
	t.Parallel()
	rolls, years := 0, time.Duration(0)
	for seed := range uint64(simSeeds) {
		w := newSim(t, seed, lies{})
		if !w.run(2000) {
			w.fatal(seed)
		}
		// left alone, it comes to an end
		w.policy.Insecure, w.policy.Lifetime = false, 0
		for range 1500 {
			if !w.step(false) {
				w.fatal(seed)
			}
		}
		only := []string{w.state.Goal}
		d := w.last
		if !same(d.DNSKEY, only) || !same(d.Data, only) || len(d.Keys) != 1 || d.Keys[0].State != Active || !d.Next.IsZero() {
			w.failed = fmt.Sprintf("it has not come to rest: %+v", d)
			w.fatal(seed)
		}
		if w.algs[w.state.Goal] != w.policy.Algorithm {
			t.Errorf("seed %d: key %s is not of the algorithm %d", seed, w.state.Goal, w.policy.Algorithm)
		}
		rolls += w.rolls
		years += w.now.Sub(epoch)
	}
	t.Logf("%d keys became active in %.0f years", rolls, years.Hours()/24/365)
	if rolls < 5*simSeeds {
		t.Errorf("only %d keys became active: the simulation shows too little", rolls)
	}
}

// TestSimulationSeesFaults shows that the simulation would fail: where things take longer than the policy says, some
// cache does not validate.
func TestSimulationSeesFaults(t *testing.T) {
	t.Parallel()
	for name, truth := range map[string]lies{
		"servers are late":           {propagation: 100 * time.Hour},
		"the parent is late":         {parent: 200 * time.Hour},
		"TTLs are greater":           {dataTTL: 100 * time.Hour},
		"TTLs of keys are greater":   {keyTTL: 100 * time.Hour},
		"TTLs of DS are greater":     {parentTTL: 200 * time.Hour},
		"the parent goes back again": {unordered: true},
		"servers are stuck silently": {silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20) {
				if w := newSim(t, seed, truth); !w.run(1500) {
					return
				}
			}
			t.Error("no cache was ever wrong")
		})
	}
}
