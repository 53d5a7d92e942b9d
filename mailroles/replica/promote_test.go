package replica

import (
	"strings"
	"testing"
	"time"

	"anycastle/internal/proctest"
)

// promote has a site that is alone go on.
func (r *rig) promote(name string) *running {
	r.t.Helper()
	n := r.running[name]
	for deadline := time.Now().Add(proctest.Patience); ; {
		p, err := n.Promote(r.t.Context(), true, "test")
		if err == nil && p.Done {
			return n
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("promote %s: %+v, %v", name, p, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// A replica that was promoted goes on alone, and says that only its site has what it takes, until one of the other site is back.
func TestPromoted(t *testing.T) {
	r := newRig(t, Wait)
	r.start(everybody...)
	for i := range 3 {
		r.deliver(r.active(), i) // on a busy machine another one may be active by now
	}
	for _, name := range []string{"west-store1", "west-standby", "east-standby"} {
		r.follows(name, r.active())
	}
	r.stop("east-store1", "east-standby", "witness")
	west := r.promote("west-store1")
	for i := 3; i < 6; i++ {
		r.deliver(west, i)
	}
	if s := west.Status(); s.Era != 2 || s.TwoSite.Operations == 0 || s.TwoSite.State != Exposed {
		t.Errorf("era %d, two sites %+v; want era 2, and exposed operations", s.Era, s.TwoSite)
	}
	p, err := west.Promote(t.Context(), false, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range p.Safe {
		if strings.Contains(line, "at both sites") {
			t.Errorf("promised after a promotion: %q", line)
		}
	}
	r.start("east-store1", "witness")
	r.follows("east-store1", r.active())
	r.deliver(r.active(), 6)
	proctest.Eventually(t, "no exposure any more", func() bool { return r.active().Status().TwoSite.Since.IsZero() }) // the other site is heard of a moment later
}

// When the old site and the witness find a quorum of their own after a promotion, they go on only until they hear of it.
func TestTheOldEraEndsWhenItHearsOfTheNewOne(t *testing.T) {
	r := newRig(t, Wait)
	r.start(everybody...)
	first := r.active()
	r.deliver(first, 0)
	for _, name := range []string{"west-store1", "west-standby", "east-standby"} {
		r.follows(name, first)
	}
	r.stop(everybody...)
	r.start("west-store1")
	r.promote("west-store1")
	r.deliver(r.active(), 1)
	r.stop("west-store1")
	r.start("east-store1", "east-standby", "west-standby", "witness")
	old := r.active()
	r.deliver(old, 2)
	r.start("west-store1")
	west := r.running["west-store1"]
	r.follows("east-store1", west)
	r.follows("west-standby", west)
	if !west.Active() {
		t.Error("the one that was promoted is not active")
	}
}
