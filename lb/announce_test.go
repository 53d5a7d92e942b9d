package lb

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// TestLoopWithoutAnnouncer must not say of an address that it is announced.
func TestLoopWithoutAnnouncer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.lb.opts.Announcer = nil
		r.hops(hopsOfBoth)
		r.probe("mx1", probe.Passing)
		r.probe("mx2", probe.Passing)
		r.expect(append(append([]string(nil), realSteps...), installed[:len(installed)-1]...)...)
		if v := r.lb.VIPs()[0]; v.Announced || v.ActiveReals != 2 || v.Reason != "this process announces nothing" {
			t.Errorf("status %+v", v)
		}
		r.end()
	})
}

// TestLoopWithBrokenAnnouncer must not leave the table of the last real that is in service to one that failed before.
func TestLoopWithBrokenAnnouncer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.start()
		r.ann.fail = true
		r.probe("mx1", probe.Failing)
		r.expect("table 0 of [2]")
		r.probe("mx2", probe.Failing)
		r.expect("table 0 of [0]", "address 203.0.113.10, out of service")
		if !r.lb.VIPs()[0].Announced {
			t.Error("not said to be announced, though the withdrawal did not succeed")
		}
		<-time.After(2 * retryAfter)
		r.expect("announce []")
		r.end()
	})
}
