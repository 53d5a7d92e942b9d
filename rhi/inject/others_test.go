package inject

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anycastle/internal/mesh"
	"anycastle/rhi/decide"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func report(generation int64) decide.Report {
	return decide.Report{Generation: generation, Role: decide.Primary, Place: decide.PlaceFull, Announced: true, Healthy: true}
}

// say gives the one telling that says something of the VIP.
func say(t *testing.T, boot, number, generation int64) []byte {
	t.Helper()
	number--
	texts, err := encodeTellings("west", boot, &number, map[netip.Prefix]decide.Report{vip: report(generation)})
	if err != nil || len(texts) != 1 {
		t.Fatalf("%d tellings, %v", len(texts), err)
	}
	return texts[0]
}

// Nothing that is over comes back: neither late packets, nor recorded ones, nor what another process said.
func TestTellingsInOrder(t *testing.T) {
	o := newOthers("east")
	generation := func() int64 { return o.of(vip, nil, noon)["west-lb1"].Report.Generation }
	take := func(after time.Duration, boot, number, gen int64) (bool, error) {
		return o.take("west-lb1", say(t, boot, number, gen), noon.Add(after))
	}
	for _, step := range []struct {
		what              string
		after             time.Duration
		boot, number, gen int64
		refused, news     bool
		want              int64
	}{
		{"the first", 0, 100, 1, 50, false, true, 50},
		{"a newer one", 1 * time.Second, 100, 3, 52, false, true, 52},
		{"a late one", 2 * time.Second, 100, 2, 51, false, false, 52},
		{"the late one again", 2 * time.Second, 100, 2, 51, true, false, 52},
		{"a recorded one", 3 * time.Second, 100, 3, 52, true, false, 52},
		{"a later telling with an older report", 4 * time.Second, 100, 4, 51, false, false, 52},
		{"a sign of life after silence", 4 * time.Second, 100, 5, 52, false, true, 52},
		{"a sign of life in time", 5 * time.Second, 100, 6, 52, false, false, 52},
		{"another process", 5 * time.Second, 200, 1, 40, false, true, 40},
		{"the process before", 6 * time.Second, 100, 9, 60, true, false, 40},
		{"a clock that was set back, after silence", 30 * time.Second, 150, 1, 30, false, true, 30},
	} {
		news, err := take(step.after, step.boot, step.number, step.gen)
		if (err != nil) != step.refused || news != step.news {
			t.Errorf("%s: news %v, %v", step.what, news, err)
		}
		if got := generation(); got != step.want {
			t.Errorf("%s: generation %d, want %d", step.what, got, step.want)
		}
	}
	if _, err := o.take("east", say(t, 1, 1, 1), noon); err == nil {
		t.Error("taken from itself")
	}
}

// A telling that is overtaken may be the only one with a report: what it says of another VIP counts.
func TestOvertakenTelling(t *testing.T) {
	o, number := newOthers("east"), int64(0)
	var texts [][]byte
	for _, p := range []netip.Prefix{vip, other4} {
		list, err := encodeTellings("west", 1, &number, map[netip.Prefix]decide.Report{p: report(5)})
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, list...)
	}
	for _, i := range []int{1, 0} {
		if _, err := o.take("west-lb1", texts[i], noon); err != nil {
			t.Error(err)
		}
	}
	if len(o.elsewhere(vip)) != 1 || len(o.elsewhere(other4)) != 1 {
		t.Error("a report was lost")
	}
}

// Who is not heard for long makes room, but is never forgotten by one that holds for it.
func TestOthersAreBounded(t *testing.T) {
	o := newOthers("east")
	for n := range maxOthers + 1 {
		_, err := o.take(fmt.Sprintf("lb%d", n), say(t, 1, 1, 1), noon)
		if (err != nil) != (n == maxOthers) {
			t.Errorf("balancer %d: %v", n, err)
		}
	}
	if _, err := o.take("late", say(t, 1, 1, 1), noon.Add(2*forget)); err != nil {
		t.Errorf("no room was made: %v", err)
	}
	later := noon.Add(4 * forget)
	if sites := o.of(vip, map[string]int64{"late": 7, "never": 8}, later); len(sites) != 2 || sites["late"].Report == nil || sites["never"].Report != nil {
		t.Errorf("held for: %v", sites)
	}
	if sites := o.of(vip, nil, later); len(sites) != 0 {
		t.Errorf("not heard for hours: %v", sites)
	}
}

// Many reports are cut into packets, and arrive as they were.
func TestTellingsFitPackets(t *testing.T) {
	reports := map[netip.Prefix]decide.Report{}
	for n := range 100 {
		r := report(int64(n + 1))
		r.Holds = map[string]int64{"a-balancer-with-a-long-name": 1234567890123456789, "another": int64(n + 1)}
		reports[netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(n)}), 128)] = r
	}
	number := int64(0)
	texts, err := encodeTellings(strings.Repeat("s", 64), noon.UnixNano(), &number, reports)
	if err != nil {
		t.Fatal(err)
	}
	o := newOthers("east")
	for _, text := range texts {
		if len(text) > mesh.MaxTold {
			t.Errorf("a telling of %d bytes", len(text))
		}
		if _, err := o.take("west-lb1", text, noon); err != nil {
			t.Error(err)
		}
	}
	for prefix, want := range reports {
		if got := o.of(prefix, nil, noon)["west-lb1"].Report; got == nil || got.Generation != want.Generation || len(got.Holds) != 2 {
			t.Errorf("%v: %+v", prefix, got)
		}
	}
	if len(texts) > 30 {
		t.Errorf("%d packets for 100 VIPs", len(texts))
	}
	huge := report(1)
	huge.Sees = map[string]bool{}
	for n := range 20 {
		huge.Sees[fmt.Sprintf("%s%d", strings.Repeat("n", 40), n)] = true
	}
	reports = map[netip.Prefix]decide.Report{vip: huge, other4: report(1)}
	if texts, err := encodeTellings("s", 1, &number, reports); len(texts) != 1 || !strings.Contains(string(texts[0]), other4.String()) || err == nil {
		t.Errorf("beside a report that does not fit: %q, %v", texts, err)
	}
	if texts, err := encodeTellings("s", 1, &number, nil); len(texts) != 1 || err != nil {
		t.Errorf("no sign of life without VIPs: %q, %v", texts, err)
	}
}

func FuzzTelling(f *testing.F) {
	number := int64(0)
	texts, _ := encodeTellings("west", 1, &number, map[netip.Prefix]decide.Report{vip: report(1)})
	f.Add(texts[0])
	f.Add([]byte(`{"site":"west","boot":1,"number":1}`))
	f.Add([]byte(`{"site":"west","boot":1,"number":1,"vips":[{"vip":"203.0.113.10/31","report":{}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		o := newOthers("east")
		if _, err := o.take("west-lb1", text, noon); err != nil {
			return
		}
		for _, e := range o.elsewhere(vip) {
			if e.Announced && e.Place == decide.PlaceWithdrawn {
				t.Errorf("taken: %s", text)
			}
		}
		if sites := o.sites(time.Second, noon); len(sites) != 1 {
			t.Errorf("sites %v", sites)
		}
	})
}
