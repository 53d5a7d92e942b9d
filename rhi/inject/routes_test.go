package inject

import (
	"net/netip"
	"strings"
	"testing"

	"anycastle/rhi/decide"
)

// What is told of a route is what peers have, and not what was decided.
func TestRoutes(t *testing.T) {
	b := start(t, balancerOptions{name: "lb1", site: "east"})
	moved := make(chan struct{}, 1)
	b.Injector.mu.Lock()
	b.moved = func() {
		select {
		case moved <- struct{}{}:
		default:
		}
	}
	b.Injector.mu.Unlock()
	six := netip.MustParsePrefix("2001:db8::10/128")
	b.serve(2, six)
	is := func(p netip.Prefix, announced, draining bool, why string) {
		t.Helper()
		want := Route{announced, draining, why}
		got := Route{}
		eventually(t, want.Why, func() bool {
			got = b.Routes()[p]
			return got.Announced == announced && got.Draining == draining && strings.Contains(got.Why, why)
		})
		select {
		case <-moved:
		default:
			t.Errorf("that it is %+v was not told", got)
		}
	}
	b.reaches(vip, decide.PlaceFull)
	is(vip, true, false, "2 of 2 reals")
	b.serve(2, other4)
	is(six, false, false, "nobody takes it")
	b.speaker.set(func() { b.speaker.peers = 0 })
	b.Kick()
	is(vip, false, false, "no established peer takes it")
	b.speaker.set(func() { b.speaker.peers = 1 })
	b.Kick()
	is(vip, true, false, "2 of 2 reals")
	if _, err := b.Order(Order{Site: "east", Kind: decide.KindDrain, Force: true}); err != nil {
		t.Fatal(err)
	}
	is(vip, true, true, "")
	if _, err := b.Order(Order{Site: "east", Kind: decide.KindWithdraw, Force: true}); err != nil {
		t.Fatal(err)
	}
	is(vip, false, true, "order withdraw")
}
