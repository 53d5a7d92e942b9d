package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/bpf"
	"anycastle/internal/flowhash"
	"anycastle/internal/probe"
)

// randomFarm writes a config with some of ten reals. Its one VIP is tcp port 25 of 203.0.113.10.
func randomFarm(t *testing.T, rng *rand.Rand, hash string) *Config {
	t.Helper()
	var reals strings.Builder
	for i, n := range rng.Perm(10)[:1+rng.IntN(6)] {
		fmt.Fprintf(&reals, "        - {name: mx%d, address: %v, weight: %d}\n", i, testAddr(n), 1+rng.IntN(3))
	}
	return mustParse(t, fmt.Sprintf(`lb:
  uplinks: [eth1]
  hash_key: "000102030405060708090a0b0c0d0e0f"
  farms:
    - name: smtp
      probes: [{type: tcp}]
      reals:
%s  vips:
    - {name: smtp, address: 203.0.113.10, port: 25, farm: smtp, %s}
`, reals.String(), hash))
}

// winners builds the table of a config's only farm by itself, and gives the real that holds each slot.
func winners(cfg *Config) []netip.Addr {
	logs := newLogTable()
	var reals []weighed
	for _, r := range cfg.Farms[0].Reals {
		reals = append(reals, weighed{r.Address, r.Weight})
	}
	var of []candidate
	for i, w := range weigh(logs, reals) {
		of = append(of, candidate{reals[i].addr, w, w, uint16(i + 1)})
	}
	var list []netip.Addr
	for _, s := range (&tableBuilder{logs: logs}).build(of) {
		list = append(list, reals[s.primary-1].addr)
	}
	return list
}

// TestDiffIsTheTables compares the figures with tables that are built from the two configs alone.
func TestDiffIsTheTables(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 14))
	some := 0
	for range 8 {
		old, next := randomFarm(t, rng, "hash: flow"), randomFarm(t, rng, "hash: flow")
		a, b := winners(old), winners(next)
		moved := 0
		for i := range a {
			if a[i] != b[i] {
				moved++
			}
		}
		d := Compare(old, next)
		var f FarmDiff
		if len(d.Farms) > 0 {
			f = d.Farms[0]
		}
		if f.Moved != moved || f.MovedNow != moved || f.Transition != moved || f.MovedShare != float64(moved)/65536 {
			t.Fatalf("%+v to %+v: %d slots move, said are %d, %d at once, %d in transition", old.Farms[0].Reals, next.Farms[0].Reals,
				moved, f.Moved, f.MovedNow, f.Transition)
		}
		if d.Refused != "" || d.Flows != nil || d.Harms() != (len(d.VIPs) > 0) {
			t.Fatalf("%+v", d)
		}
		for _, v := range d.VIPs { // none of the old reals is there any more
			if v.Breaks > 0 || !strings.Contains(v.Withheld, "until new reals pass their probes: vip smtp has 0 of 1 reals") {
				t.Fatalf("%+v", v)
			}
		}
		if moved > 0 {
			some++
			if left := time.Until(f.Until); left > time.Hour || left < 50*time.Minute || f.Method != Tracked {
				t.Errorf("by %s for %v", f.Method, left)
			}
		}
		held := 0
		for _, r := range f.Reals {
			held += r.After - r.Slots
		}
		if held != 0 {
			t.Errorf("reals hold %d slots more in the end", held)
		}
	}
	if some < 6 {
		t.Errorf("%d of 8 moved anything", some)
	}
}

// TestFlowsMoveAsTheirSlotsDo compares what is said of flows with their slots in tables of their own.
func TestFlowsMoveAsTheirSlotsDo(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 71))
	vip := addrPort("203.0.113.10:25")
	sees := map[string]int{}
	for range 8 {
		hashes := []string{"hash: flow", "hash: source, source_prefix: 24", "hash: source"}
		oldHash, nextHash := hashes[rng.IntN(3)], hashes[rng.IntN(3)]
		old, next := randomFarm(t, rng, oldHash), randomFarm(t, rng, nextHash)
		a, b := winners(old), winners(next)
		s := atRest(old)
		c := s.compare(next)
		for range 300 {
			f := flow{netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(rng.IntN(256)), byte(rng.IntN(256))}), uint16(1+rng.IntN(65535))), vip, protoTCP}
			was, is := slotBy(old, oldHash, f), slotBy(next, nextHash, f)
			at := a[was]
			got := fateOf(liveFlow{flow: f, at: at}, c.then)
			// what is not stored goes to the secondary, which a slot has by the old table, until the transition ends
			want := "stays"
			switch {
			case a[is] != at:
				want = "breaks"
			case b[is] != at:
				want = "later"
			}
			said := "stays"
			if got.phase != nil && got.phase.soon {
				said = "breaks"
			} else if got.phase != nil {
				said = "later"
			}
			if said != want || got.phase != nil && !got.phase.soon && (got.to != b[is] || got.phase.at.Before(s.at.Add(59*time.Minute))) {
				t.Fatalf("%s to %s: %+v of slots %d and %d at %v %s, want %s; %+v", oldHash, nextHash, f, was, is, at, said, want, got.phase)
			}
			sees[want]++
		}
	}
	for _, what := range []string{"stays", "later", "breaks"} {
		if sees[what] < 50 {
			t.Errorf("saw %v", sees)
		}
	}
}

func slotBy(cfg *Config, hash string, f flow) uint32 {
	key := flowhash.Key(cfg.HashKey)
	switch {
	case strings.Contains(hash, "24"):
		return flowhash.Slot(flowhash.OfSource(key, netip.PrefixFrom(f.client.Addr(), 24)))
	case strings.Contains(hash, "source"):
		return flowhash.Slot(flowhash.OfSource(key, netip.PrefixFrom(f.client.Addr(), 32)))
	}
	return flowhash.Slot(flowhash.Of(key, f.client, f.vip, f.proto))
}

// TestReloadDoesWhatDiffSays compares predictions with what a loop then installs, at once and when its transitions end.
func TestReloadDoesWhatDiffSays(t *testing.T) {
	const three = "reals: [{name: mx1, address: 198.51.100.9}, {name: mx2, address: 198.51.100.10}, {name: mx3, address: 198.51.100.11}]"
	for _, tc := range []struct {
		name, old, new string
		drains         bool // mx3, before
	}{
		{"one goes", mx2Line, "", false},
		{"one goes while another drains", mx2Line, "", true},
		{"one comes", "{name: mx1, address: 198.51.100.9}", "{name: mx1, address: 198.51.100.9}, {name: mx4, address: 198.51.100.12}", false},
		{"a weight while one drains", "address: 198.51.100.9}", "address: 198.51.100.9, weight: 3}", true},
		{"one goes and one comes with a weight", three,
			"reals: [{name: mx1, address: 198.51.100.9, weight: 2}, {name: mx3, address: 198.51.100.11}, {name: mx5, address: 198.51.100.13}]", false},
		{"another farm for a VIP", "port: 143, farm: mail", "port: 143, farm: dns", false},
		{"another hash and no other VIP", smtpLine, "    - {name: smtp, address: 203.0.113.10, port: 25, farm: mail, hash: source}\n", false},
		{"another method while one drains", "transition: {method: second-chance, time: 1h}", "transition: {method: tracked, time: 2h}", true},
		{"a VIP goes", smtpLine, "", false},
		{"nothing while one drains", three, three, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			withMailAndDNS(t, func(t *testing.T, r *running, _ *fakeLists) {
				if tc.drains {
					_, err := r.lb.Order(Order{Farm: "mail", Real: "mx3", Kind: KindDrain})
					check(t, err)
					<-time.After(20 * time.Minute) // of the test's own clock
				}
				r.followsPrediction(r.edited(tc.old, tc.new))
			})
		})
	}
}

// followsPrediction reloads, and compares each phase with what is installed then.
func (r *running) followsPrediction(cfg *Config) {
	r.t.Helper()
	s, err := r.lb.snapshot(r.t.Context())
	check(r.t, err)
	phases := s.predict(cfg)
	check(r.t, r.lb.Reload(r.t.Context(), *cfg))
	synctest.Wait()
	r.compareWith("at once", phases[0])
	r.passNew()
	r.compareWith("with new reals", phases[1])
	for i, p := range phases[2:] {
		<-time.After(time.Until(p.at) + time.Second)
		synctest.Wait()
		r.compareWith(fmt.Sprintf("phase %d", i+2), p)
	}
	<-time.After(24 * time.Hour)
	synctest.Wait()
	r.compareWith("a day later", phases[len(phases)-1])
}

// passNew has the reals that the reload brought pass.
func (r *running) passNew() {
	r.t.Helper()
	hops := map[netip.Addr]Hop{}
	check(r.t, r.lb.ask(r.t.Context(), func(l *loop) {
		for _, a := range l.in.addresses() {
			hops[a] = testHop
		}
	}))
	r.hops(hops)
	synctest.Wait()
	var unknown []realID
	check(r.t, r.lb.ask(r.t.Context(), func(l *loop) {
		for _, f := range l.in.cfg.Farms {
			for _, real := range f.Reals {
				for _, t := range l.in.farms[f.Name].targets[real.Name] {
					if id := (realID{f.Name, real.Name}); l.in.probes[t.id].state == probe.Unknown {
						unknown = append(unknown, id)
						break
					}
				}
			}
		}
	}))
	for _, id := range unknown {
		r.report(id, probe.Passing)
	}
	synctest.Wait()
}

// compareWith compares what is installed with a phase, by addresses.
func (r *running) compareWith(when string, p *phase) {
	r.t.Helper()
	var have tables
	check(r.t, r.lb.ask(r.t.Context(), func(*loop) { have = r.plane.clone() })) // the loop's own goroutine writes it
	is, want := have.allVIPs(), p.allVIPs()
	if len(is) != len(want) {
		r.t.Fatalf("%s: VIPs %v, said were %v", when, is, want)
	}
	var installed [bpf.MaxReals]netip.Addr
	for i, e := range have.reals {
		installed[i] = e.addr
	}
	compared := map[[2]uint32]bool{}
	for key, e := range want {
		got, ok := is[key]
		if !ok || got.secondChance != e.secondChance || got.followAll != e.followAll || got.sourceBits != e.sourceBits {
			r.t.Fatalf("%s: %v is %+v, said was %+v", when, key, got, e)
		}
		farms := [2]uint32{got.farm, e.farm}
		if compared[farms] {
			continue
		}
		compared[farms] = true
		now, said := have.slots[got.farm], p.slots[e.farm]
		for i := range said {
			if installed[now[i].primary] != p.addrs[said[i].primary] || installed[now[i].secondary] != p.addrs[said[i].secondary] {
				r.t.Fatalf("%s: slot %d of %v is %v, said was %v", when, i, key, now[i], said[i])
			}
		}
	}
}
