package inject

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"anycastle/internal/wholefile"
	"anycastle/rhi"
	"anycastle/rhi/decide"
)

// A VIP that is fit is announced once it has learned, and one that nobody takes is not.
func TestAnnounces(t *testing.T) {
	b := start(t, balancerOptions{name: "lb1", site: "east", learn: 2 * time.Second})
	six := netip.MustParsePrefix("2001:db8::10/128")
	b.serve(2, six)
	eventually(t, "it learns", func() bool { on, why := b.Standing(vip); return !on && strings.Contains(why, "it learns") })
	b.reaches(vip, decide.PlaceFull)
	if on, why := b.Standing(vip); !on || !strings.Contains(why, "2 of 2 reals") || b.speaker.rung(vip) != 0 {
		t.Errorf("announced %v at rung %d, %q", on, b.speaker.rung(vip), why)
	}
	if on, why := b.Standing(six); on || why != "nobody takes it" || b.speaker.rung(six) >= 0 {
		t.Errorf("IPv6: announced %v, %q", on, why)
	}
	b.serve(2, other4)
	b.reaches(other4, decide.PlaceFull)
	b.mu.Lock()
	delete(b.reals, other4)
	b.mu.Unlock()
	b.tell()
	if b.speaker.rung(other4) >= 0 {
		t.Error("a VIP that the balancer has no more is announced")
	}
}

// A health engine that says the same again renews its lease, and has nothing decided anew; one that was silent for half of it
// does, as does one that says something else.
func TestRenewal(t *testing.T) {
	b := start(t, balancerOptions{name: "lb1", site: "east"})
	b.reaches(vip, decide.PlaceFull)
	b.end()
	looks := func() (n int) { b.speaker.set(func() { n = b.speaker.looks }); return n }
	b.Injector.mu.Lock()
	b.ended = false // Set works on, and nothing else does
	b.Injector.mu.Unlock()
	b.tell()
	before := looks()
	b.tell()
	if n := looks() - before; n != 0 {
		t.Errorf("%d looks at the tables for a renewal", n)
	}
	b.Injector.mu.Lock()
	for p, v := range b.services {
		v.Health.Lease = v.Health.Lease.Add(-2 * time.Second)
		b.services[p] = v
	}
	b.Injector.mu.Unlock()
	b.tell()
	late := looks()
	b.serve(1, vip)
	if late == before || looks() == late {
		t.Errorf("%d looks after a silence, and %d for a change", late-before, looks()-late)
	}
}

// With nobody to ask, a VIP that is not fit stays at the end of the ladder and says so; or goes, where that was said.
func TestNobodyToAsk(t *testing.T) {
	for _, tc := range []struct {
		gates string
		place decide.Place
		rung  int
	}{{"", decide.PlaceLast, 2}, {", alone: true", decide.PlaceWithdrawn, withdrawn}} {
		b := start(t, balancerOptions{name: "lb1", site: "east", gates: tc.gates})
		b.reaches(vip, decide.PlaceFull)
		b.serve(0, vip)
		if b.place(vip) != tc.place || b.speaker.rung(vip) != tc.rung {
			t.Errorf("%q: when Set is back it is at %s, rung %d", tc.gates, b.place(vip), b.speaker.rung(vip))
		}
		if alarms := b.Announcements()[0].Alarms; (len(alarms) > 0) != (tc.place == decide.PlaceLast) {
			t.Errorf("%q: alarms %q", tc.gates, alarms)
		}
		b.serve(2, vip)
		b.reaches(vip, decide.PlaceFull)
	}
}

// A balancer that hangs loses its VIPs: to the end of the ladder, and to nobody if another one holds.
func TestHungEngine(t *testing.T) {
	east, _ := pair(t, ", lease: 2s")
	east.stop()
	east.reaches(vip, decide.PlaceWithdrawn)
	if why := east.Announcements()[0].Why; !strings.Contains(why, "hangs") || !strings.Contains(why, "west-lb1 holds") {
		t.Errorf("because %q", why)
	}
}

// The site that fails is withdrawn at once, since the other one holds for it; then that one stays whatever happens to it,
// until the first is back.
func TestNeverBothWithdrawn(t *testing.T) {
	east, west := pair(t, "")
	eventually(t, "east is let go", func() bool { return east.gate("let go") == "yes" })
	east.serve(0, vip)
	if p := east.place(vip); p != decide.PlaceWithdrawn {
		t.Errorf("when Set is back east is at %s", p)
	}
	west.serve(0, vip)
	west.reaches(vip, decide.PlaceLast)
	time.Sleep(2 * time.Second)
	if p := west.place(vip); p != decide.PlaceLast && east.place(vip) == decide.PlaceWithdrawn {
		t.Errorf("both are withdrawn: west at %s", p)
	}
	east.serve(2, vip)
	east.reaches(vip, decide.PlaceFull)
}

// gate says whether a gate of the VIP holds: "yes" or "no".
func (b *balancer) gate(name string) string {
	rows, err := b.Explain(vip, "")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, r := range rows {
		if r.What == name {
			return r.Says
		}
	}
	return "none"
}

// A balancer that ends takes leave: whoever rests on it is back long before its silence would tell.
func TestFarewell(t *testing.T) {
	east, west := pair(t, "")
	eventually(t, "east is let go", func() bool { return east.gate("let go") == "yes" })
	east.serve(0, vip)
	east.reaches(vip, decide.PlaceWithdrawn)
	west.stop()
	if err := west.Set(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	east.reaches(vip, decide.PlaceLast)
	if d := time.Since(began); d > 3*time.Second { // of silence it would take five
		t.Errorf("back after %v", d)
	}
}

// What our own BGP tables say is asked: who announces there or nowhere is not who says so.
func TestWatchedTable(t *testing.T) {
	for _, name := range []string{"west-lb1", "west"} { // the balancer, or all of its site
		east, _ := pair(t, "")
		east.speaker.set(func() {
			east.speaker.watched = map[string]rhi.Watched{name: {Known: true, At: time.Now().Add(time.Second), Prefixes: map[netip.Prefix]bool{}}}
		})
		east.serve(0, vip)
		east.reaches(vip, decide.PlaceLast)
		if why := east.Announcements()[0].Why; !strings.Contains(why, "our BGP tables do not have it") {
			t.Errorf("%s is watched: because %q", name, why)
		}
	}
}

// A speaker that is broken is tried again.
func TestBrokenSpeaker(t *testing.T) {
	b := start(t, balancerOptions{name: "lb1", site: "east"})
	b.reaches(vip, decide.PlaceFull)
	b.speaker.set(func() { b.speaker.fail = true })
	b.mu.Lock()
	b.reals[vip] = 0
	b.mu.Unlock()
	if err := b.Set(t.Context(), []Service{{Prefix: vip, Health: decide.Health{Known: true, Reals: 2}}}); err == nil {
		t.Error("no error of a broken speaker")
	}
	b.speaker.set(func() { b.speaker.fail = false })
	eventually(t, "announced at the end of the ladder", func() bool { return b.speaker.rung(vip) == 2 })
}

// What was decided, and orders, outlive the process.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rhi")
	b := start(t, balancerOptions{name: "lb1", site: "east", dir: dir})
	b.reaches(vip, decide.PlaceFull)
	for range 2 {
		b.serve(0, vip)
		b.serve(2, vip)
	}
	if _, err := b.Order(Order{Kind: decide.KindDrain, By: "ops", Why: "new kernel"}); err != nil {
		t.Fatal(err)
	}
	flaps := b.Announcements()[0].Flaps
	b.end()
	again := start(t, balancerOptions{name: "lb1", site: "east", dir: dir})
	eventually(t, "decided", func() bool { return len(again.Announcements()) == 1 })
	if got := again.Announcements()[0].Flaps; got != flaps || flaps == 0 {
		t.Errorf("%d flaps, want %d", got, flaps)
	}
	if o := again.Orders(); len(o) != 1 || o[0].Why != "new kernel" {
		t.Errorf("orders %+v", o)
	}
	again.reaches(vip, decide.PlaceLast) // drained before it was there, and nobody lets it go
	if !slices.ContainsFunc(again.Announcements()[0].Alarms, func(a string) bool { return strings.Contains(a, "no other balancer lets it go") }) {
		t.Errorf("alarms %q", again.Announcements()[0].Alarms)
	}
}

// An Injector without a place for its files says so.
func TestNoStateDir(t *testing.T) {
	i, err := New(parse(t, balancerOptions{name: "lb1", site: "east", role: "primary", dir: "/dev/null/rhi"}), &fakeSpeaker{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := i.Run(ctx); err == nil || !strings.Contains(err.Error(), "give another with rhi.state_dir") {
		t.Errorf("got %v", err)
	}
}

// One of another process that has the same files reads and writes none of them.
func TestStateOfAnotherProcess(t *testing.T) {
	o := balancerOptions{name: "lb1", site: "east", role: "primary", dir: t.TempDir()}
	first, err := New(parse(t, o), &fakeSpeaker{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	held, err := first.hold()
	if err != nil {
		t.Fatal(err)
	}
	second, err := New(parse(t, o), &fakeSpeaker{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := second.Run(ctx); !errors.Is(err, wholefile.ErrHeld) || !strings.Contains(err.Error(), "another directory with rhi.state_dir") {
		t.Errorf("the second ends with %v", err)
	}
	for _, name := range []string{ordersFile, stateFile} {
		if _, err := os.Stat(filepath.Join(o.dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
}
