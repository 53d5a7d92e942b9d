package inject

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anycastle/rhi/decide"
)

// An order about a site, given at any balancer, moves the VIPs of that site and no others, and is taken back by a later one.
func TestDrainSite(t *testing.T) {
	east, west := pair(t, "")
	o, err := west.Order(Order{Site: "east", Kind: decide.KindDrain, By: "ops", Why: "power works"})
	if err != nil || o.Since.IsZero() {
		t.Fatalf("%+v, %v", o, err)
	}
	east.reaches(vip, decide.PlaceDraining)
	if r := east.speaker.rung(vip); r != 2 {
		t.Errorf("draining at rung %d", r)
	}
	if west.place(vip) != decide.PlaceFull {
		t.Errorf("west is at %s", west.place(vip))
	}
	// no agent counts the flows: it would wait for the deadline
	flowless := []Service{{Prefix: vip, Health: decide.Health{Known: true, InService: 2, Reals: 2, Share: 1}, Flows: decide.Flows{Known: true}}}
	east.stop()
	reaches := func(want decide.Place) {
		t.Helper()
		eventually(t, fmt.Sprintf("east is at %s", want), func() bool {
			if err := east.Set(t.Context(), flowless); err != nil {
				t.Fatal(err)
			}
			return east.place(vip) == want
		})
	}
	reaches(decide.PlaceWithdrawn)
	if why := east.Announcements()[0].Why; !strings.Contains(why, "power works: drained; west-lb1 holds") {
		t.Errorf("with no flow left it is withdrawn because %s", why)
	}
	if _, err := east.Order(Order{Kind: decide.KindActivate}); err != nil {
		t.Fatal(err)
	}
	reaches(decide.PlaceFull)
}

func TestOrdersThatAreRefused(t *testing.T) {
	b := start(t, balancerOptions{name: "lb1", site: "east"})
	b.reaches(vip, decide.PlaceFull)
	long := strings.Repeat("w", maxWords+1)
	for _, tc := range []struct {
		o    Order
		want string
	}{
		{Order{Kind: "stop"}, `"stop" is no order`},
		{Order{Kind: decide.KindDrain, Site: "eest"}, `no balancer of site "eest" was heard; there are ["east"]`},
		{Order{Kind: decide.KindDrain, VIP: netip.MustParsePrefix("203.0.113.99/32")}, "no balancer announces 203.0.113.99/32"},
		{Order{Kind: decide.KindDrain, VIP: netip.MustParsePrefix("203.0.113.9/24")}, "is no prefix of a VIP"},
		{Order{Kind: decide.KindWithdraw, Deadline: time.Now().Add(time.Hour)}, "only a drain has a deadline"},
		{Order{Kind: decide.KindDrain, Deadline: time.Now().Add(-time.Hour)}, "use one within"},
		{Order{Kind: decide.KindAnnounce, Force: true}, "only a drain or withdraw can be forced"},
		{Order{Kind: decide.KindDrain, Why: long}, "one line of at most 200 bytes"},
		{Order{Kind: decide.KindDrain, By: "a\nb"}, "one line of at most 200 bytes"},
		{Order{Kind: decide.KindDrain, Site: "ea/st"}, "is no name of a site"},
	} {
		if _, err := b.Order(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want %q in it", tc.o, err, tc.want)
		}
	}
	if n := len(b.Orders()); n != 0 {
		t.Errorf("%d orders stand", n)
	}
}

// The newer of two orders counts, and one about the whole site takes the place of those about its VIPs.
func TestNewerOrderCounts(t *testing.T) {
	b := start(t, balancerOptions{name: "lb1", site: "east"})
	b.reaches(vip, decide.PlaceFull)
	give := func(o Order) {
		t.Helper()
		if _, err := b.Order(o); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // the next one is given later
	}
	stands := func() decide.Kind { return b.orders().of("east", vip).Kind }
	give(Order{Kind: decide.KindDrain})
	give(Order{Kind: decide.KindAnnounce, VIP: vip})
	if k := stands(); k != decide.KindAnnounce || b.orders().of("east", other4).Kind != decide.KindDrain {
		t.Errorf("%s stands", k)
	}
	give(Order{Kind: decide.KindActivate})
	if k := stands(); k != decide.KindActivate || len(b.Orders()) != 1 {
		t.Errorf("%s stands, of %d", k, len(b.Orders()))
	}
}

func TestExplain(t *testing.T) {
	east, west := pair(t, "")
	eventually(t, "east is let go", func() bool { return east.gate("let go") == "yes" })
	says := func(b *balancer, supposed, what string) string {
		t.Helper()
		rows, err := b.Explain(vip, supposed)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if r.What == what {
				return r.Says + " " + r.Detail
			}
		}
		return "nothing"
	}
	for _, tc := range []struct {
		b                    *balancer
		supposed, what, want string
	}{
		{east, "", "place", "full 2 of 2 reals"},
		{east, "", "group default", "announced plainly is sent: announced"},
		{west, "", "group default", "rung 1 is sent: med 100, prepend 1"},
		{east, "", "balancer west-lb1", "yes west-lb1 (backup) is at full"},
		{east, "", "peer core", "established since 00:00:00Z, last error: was lost"},
		{east, "", "sent to core", "announced at 12:00:00.000Z, written after 1ms, acknowledged after 2ms: fit"},
		{east, "reals=0", "sent to core", "nothing"},
		{east, "reals=0", "place", "withdrawn 0 of 2 reals in service, 0% of the capacity; wanted: 1; west-lb1 holds"},
		{east, "reals=0", "group default", "withdrawn is sent: withdrawn"},
		{west, "reals=0", "place", "last 0 of 2 reals"},
		{east, "balancer=west-lb1", "let go", "no it would stay at the end of the ladder: west-lb1 was not heard"},
		{east, "hang", "place", "withdrawn the health engine hangs"},
		{east, "unchecked", "place", "full health cannot be checked now"},
		{east, "drain", "place", "draining order drain: supposed"},
		{east, "peers=0", "sent", "no stood announced at 0 peers"},
	} {
		if got := says(tc.b, tc.supposed, tc.what); !strings.Contains(got, tc.want) {
			t.Errorf("%s, if %q: %s: %q, want %q in it", tc.b.name, tc.supposed, tc.what, got, tc.want)
		}
	}
	if east.place(vip) != decide.PlaceFull || len(east.Orders()) > 0 {
		t.Error("a question has moved the VIP")
	}
	for supposed, want := range map[string]string{"reals=x": "want reals=NUMBER", "rain": "is nothing that can be supposed", "balancer=north": "no balancer \"north\" was heard"} {
		if _, err := east.Explain(vip, supposed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", supposed, err)
		}
	}
	if _, err := east.Explain(other4, ""); err == nil {
		t.Error("explained a VIP that is not there")
	}
	if rows, err := east.Explain(netip.Prefix{}, ""); err != nil || len(rows) == 0 {
		t.Errorf("all VIPs: %d rows, %v", len(rows), err)
	}
}

func FuzzOrder(f *testing.F) {
	o := Order{Site: "east", VIP: vip, Kind: decide.KindDrain, Since: noon, Deadline: noon.Add(time.Hour), By: "ops", Why: "works"}
	text, err := json.Marshal(o)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(o.key(), text)
	f.Add("order/east/*", []byte(`{"site":"east","kind":"withdraw","since":"2026-11-28T12:00:00Z","force":true}`))
	f.Fuzz(func(t *testing.T, key string, text []byte) {
		o, err := decodeOrder(key, text)
		if err != nil {
			return
		}
		again, err := json.Marshal(o)
		if err != nil {
			t.Fatalf("%s decodes and does not encode: %v", text, err)
		}
		if back, err := decodeOrder(key, again); err != nil || back != o {
			t.Errorf("%s is %+v and then %+v, %v", text, o, back, err)
		}
	})
}
