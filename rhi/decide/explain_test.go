package decide

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rows gives what is explained of vipA as text.
func rows(all []Row) []string {
	var lines []string
	for _, r := range all {
		if r.VIP == vipA {
			lines = append(lines, strings.Join([]string{r.What, r.Says, r.Detail}, " | "))
		}
	}
	return lines
}

func TestExplain(t *testing.T) {
	w := pair(t)
	w.setHealth(1, bad)
	w.tick()
	in := w.inputs(w.sites[1])
	before, state := in.clone(), w.sites[1].state
	got := rows(Explain(state, in, w.now))
	for i, line := range got { // how long ago depends on the network
		if head, rest, ok := strings.Cut(line, ", generation "); ok {
			_, rest, _ = strings.Cut(rest, " ago")
			got[i] = head + rest
		}
	}
	want := []string{
		"place | last | 0 of 4 reals in service, 0% of the capacity; wanted: 1; held: a wants to be let go itself",
		"group core | rung 1 | ",
		"group isp | rung 3 | ",
		"order | yes | none",
		"lease | yes | the health engine spoke at 12:00:15Z; 3s is allowed",
		"checked | yes | health could be checked",
		"reals | no | 0 of 4 reals in service, 0% of the capacity; wanted: 1",
		"learn | yes | until 12:00:10Z",
		"hold-down | no | until 12:00:25Z; 1 flaps so far, each doubles it to 5m0s at most, 5m0s of calm halve it",
		"damping | yes | penalty 500; parks at 1500, moves again at 750",
		"fail-back | yes | nothing to wait for",
		"balancer a | yes | a (primary) is at full, our BGP tables have its route: it could carry the VIP",
		"let go | no | it would stay at the end of the ladder: a wants to be let go itself",
		"cap | yes | 4 of 4 withdrawals for health are left for this minute",
		"sent | yes | stood announced at 2 peers when it was last read back",
		"alarm |  | held at the end of the ladder, no other balancer lets it go: a wants to be let go itself",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !reflect.DeepEqual(before, in) {
		t.Error("Explain changed its inputs")
	}
}

// TestWhatIf asks and changes nothing.
func TestWhatIf(t *testing.T) {
	w := pair(t)
	s := w.sites[0]
	in := w.inputs(s)
	before, state := in.clone(), s.state
	kept, err := state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Inputs)
		place  Place
		why    string
	}{
		{"nothing", func(*Inputs) {}, PlaceFull, "4 of 4"},
		{"all reals fail", func(in *Inputs) { v := in.VIPs[vipA]; v.Health = bad; v.Health.Lease = w.now; in.VIPs[vipA] = v },
			PlaceWithdrawn, "b holds"},
		{"all reals fail, and b is not heard", func(in *Inputs) {
			v := in.VIPs[vipA]
			v.Health, v.Health.Lease = bad, w.now
			b := v.Sites["b"]
			b.Heard = w.now.Add(-time.Minute)
			v.Sites["b"], in.VIPs[vipA] = b, v
		}, PlaceLast, "b was not heard since"},
		{"all reals fail, and b is sick", func(in *Inputs) {
			v := in.VIPs[vipA]
			v.Health, v.Health.Lease = bad, w.now
			v.Sites["b"].Report.Healthy = false
			in.VIPs[vipA] = v
		}, PlaceLast, "b is not healthy"},
		{"a drain is ordered", func(in *Inputs) { in.Order = &Order{Kind: KindDrain, Since: w.now} }, PlaceDraining, "order drain"},
	} {
		d := WhatIf(state, in, c.change, w.now).VIPs[vipA]
		if d.Place != c.place || !strings.Contains(d.Why, c.why) {
			t.Errorf("%s: %s because %q, want %s because %q", c.name, d.Place, d.Why, c.place, c.why)
		}
	}
	if again, err := state.Encode(); err != nil || string(again) != string(kept) || !reflect.DeepEqual(before, in) {
		t.Errorf("WhatIf changed what it was given")
	}
}

func TestConfigCheck(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string // empty: nothing is wrong
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Groups = append(c.Groups, Group{Name: "plain"}) }, ""},
		{func(c *Config) { c.Cap, c.Failback, c.Settle = 0, 0, 0 }, ""},
		{func(c *Config) { c.Groups = append(c.Groups, Group{Name: "isp"}) }, `two groups are called "isp"`},
		{func(c *Config) { c.Groups[0].Rungs = 17 }, "use 0 to 16"},
		{func(c *Config) { c.Groups[0].Parked = 4 }, "parked is rung 4; use 0 to 3"},
		{func(c *Config) { c.Lease = 0 }, "lease is 0s; use more than 0"},
		{func(c *Config) { c.HoldDownMax = time.Second }, "raise it"},
		{func(c *Config) { c.Failback = -1 }, "neither can be negative"},
		{func(c *Config) { c.Cap = -1 }, "cap is -1"},
		{func(c *Config) { c.Damping.Change = 0 }, "use more than 0"},
		{func(c *Config) { c.Damping.Park = 1000 }, "raise it"},
	} {
		cfg := Defaults(DefaultGroup("isp", 3))
		c.change(&cfg)
		err := cfg.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", cfg, err, c.want)
		}
	}
}

func TestRungs(t *testing.T) {
	g := DefaultGroup("isp", 3)
	for _, c := range []struct {
		place           Place
		primary, backup Rung
	}{
		{PlaceFull, 0, 1}, {PlaceDegraded, 2, 2}, {PlaceDraining, 3, 3}, {PlaceParked, 3, 3}, {PlaceLast, 3, 3}, {PlaceWithdrawn, Withdrawn, Withdrawn},
	} {
		if a, b := g.rung(c.place, Primary), g.rung(c.place, Backup); a != c.primary || b != c.backup {
			t.Errorf("%s: %v, and of a backup %v; want %v and %v", c.place, a, b, c.primary, c.backup)
		}
	}
	if r := DefaultGroup("plain", 0).rung(PlaceLast, Backup); r != 0 {
		t.Errorf("a ladder without rungs has %v", r)
	}
}
