package decide

import (
	"net/netip"
	"testing"
	"time"
)

// Where nobody else is to be asked, a VIP that is unfit is withdrawn and comes back; as soon as another site is known, that
// one is asked after all.
func TestNobodyElseIsAsked(t *testing.T) {
	prefix := netip.MustParsePrefix("203.0.113.10/32")
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, alone := range []bool{true, false} {
		in := Inputs{Site: "a", Boot: now, Config: Defaults(DefaultGroup("isp", 2)), VIPs: map[netip.Prefix]VIP{}}
		in.Config.Alone = alone
		state := State{}
		at := func(after time.Duration, inService int, sites map[string]Site) Decision {
			then := now.Add(after)
			in.VIPs[prefix] = VIP{Role: Primary, Sites: sites, Sent: Sent{Known: true, Peers: 1},
				Health: Health{Known: true, InService: inService, Reals: 2, Share: float64(inService) / 2, Lease: then}}
			var ds Decisions
			state, ds = Next(state, in, then)
			return ds.VIPs[prefix]
		}
		at(0, 2, nil)
		if d := at(11*time.Second, 2, nil); d.Place != PlaceFull {
			t.Fatalf("alone %v: at %s: %s", alone, d.Place, d.Why)
		}
		want := PlaceLast
		if alone {
			want = PlaceWithdrawn
		}
		if d := at(20*time.Second, 0, nil); d.Place != want {
			t.Errorf("alone %v, unfit: at %s, want %s: %s", alone, d.Place, want, d.Why)
		}
		if d := at(21*time.Second, 0, map[string]Site{"b": {Role: Primary}}); d.Place != PlaceLast {
			t.Errorf("alone %v, unfit, another site known and never heard: at %s, want last: %s", alone, d.Place, d.Why)
		}
		at(60*time.Second, 2, nil)
		if d := at(80*time.Second, 2, nil); d.Place != PlaceFull && d.Place != PlaceParked {
			t.Errorf("alone %v, fit again: at %s: %s", alone, d.Place, d.Why)
		}
	}
}
