package lb

import (
	"strings"
	"testing"
	"testing/synctest"

	"anycastle/internal/probe"
)

// TestLoopWithRefusedAddress must announce the addresses that can be, and say of the other why not.
func TestLoopWithRefusedAddress(t *testing.T) {
	const six = "    - {name: smtp6, address: \"2001:db8:10::10\", port: 25, farm: smtp}\n"
	const why = "no neighbor for it; add one"
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, valid+six, newFakePlane(), nil)
		r.ann.refuse = why
		r.hops(hopsOfBoth)
		r.probe("mx1", probe.Passing)
		r.probe("mx2", probe.Passing)
		synctest.Wait()
		steps := r.plane.take()
		if last := steps[len(steps)-1]; last != "announce [203.0.113.10/32 2001:db8:10::10/128]" {
			t.Errorf("the last step is %q", last)
		}
		vips := r.lb.VIPs()
		if v := vips[0]; !v.Announced || v.Reason != "enough reals in service" {
			t.Errorf("IPv4: %+v", v)
		}
		if v := vips[1]; v.Announced || v.Reason != why {
			t.Errorf("IPv6: %+v, want the reason %q", v, why)
		}
		if log := strings.Join(r.log.take(), ""); strings.Count(log, "address fit to be announced") != 2 {
			t.Errorf("log: %s", log)
		}
		r.end()
		if log := strings.Join(r.log.take(), ""); strings.Count(log, "address not fit to be announced") != 2 {
			t.Errorf("log of the end: %s", log)
		}
	})
}
