package rhi

import (
	"bufio"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/daemon"
)

// sent asks the speaker's process what a peer was last sent of a prefix.
func (n *node) sent(prefix, peer string) Sent {
	var list []Sent
	_ = daemon.Get(n.t.Context(), n.dir, "rhi", "/v1/sent", &list)
	for _, s := range list {
		if s.Prefix.String() == prefix && s.Peer == peer {
			return s
		}
	}
	return Sent{}
}

// acknowledged waits until a peer's TCP has what was last sent of a prefix, and checks the stamps.
func (n *node) acknowledged(prefix, peer, kind, words string) Sent {
	n.t.Helper()
	var s Sent
	eventually(n.t, fmt.Sprintf("%s: %s of %s acknowledged by %s", n.name, kind, prefix, peer), soon, func() bool {
		s = n.sent(prefix, peer)
		return s.Kind == kind && s.Sent == words && !s.Acknowledged.IsZero()
	})
	stamps := []time.Time{s.Cause, s.Decided, s.At, s.Written, s.Acknowledged}
	if s.Decided.IsZero() {
		stamps = stamps[2:]
	}
	for i, at := range stamps[1:] {
		if at.Before(stamps[i]) {
			n.t.Errorf("stamps out of order: %+v", s)
		}
	}
	if took := s.Acknowledged.Sub(s.Begun()); took > soon {
		n.t.Errorf("%v from the decision to the acknowledgment: %+v", took, s)
	}
	n.t.Logf("%s of %s at %s: set out after %v, written after %v, acknowledged %v later", kind, prefix, peer, s.At.Sub(s.Begun()), s.Written.Sub(s.At), s.Acknowledged.Sub(s.Written))
	return s
}

// metrics reads the samples of the speaker's process whose names begin so.
func (n *node) metrics(prefix string) map[string]string {
	n.t.Helper()
	body, err := daemon.Stream(n.t.Context(), n.dir, "rhi", "GET", "/metrics", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	defer body.Close()
	found := map[string]string{}
	for in := bufio.NewScanner(body); in.Scan(); {
		if name, value, ok := strings.Cut(in.Text(), " "); ok && strings.HasPrefix(name, prefix) {
			found[name] = value
		}
	}
	return found
}

// Each step of a prefix is stamped at each peer that it concerns, over IPv4 and IPv6, with passwords, at FRR and BIRD.
func TestStampsAtFRRAndBIRD(t *testing.T) {
	t.Parallel()
	for _, family := range []Family{IPv4, IPv6} {
		t.Run("over "+string(family), func(t *testing.T) {
			t.Parallel()
			lb, frr, _, _ := ladderRig(t, family)
			for _, prefix := range []string{vip, vip6} {
				lb.set(prefix)
				lb.acknowledged(prefix, "frr", kindAnnounce, "announced")
				s := lb.acknowledged(prefix, "bird", kindAnnounce, "announced")
				if s.Why != "asked for" || s.Group != "core" || s.Cause.IsZero() || s.Decided.IsZero() {
					t.Errorf("got %+v", s)
				}
				lb.set(prefix + "@isp=2")
				lb.acknowledged(prefix, "frr", kindChange, "prepend 3")
				if now := lb.sent(prefix, "bird"); now != s {
					t.Errorf("bird: was %+v, is %+v, though nothing changes for it", s, now)
				}
				lb.set(prefix + "@isp=4,core=1")
				lb.acknowledged(prefix, "frr", kindWithdraw, "withdrawn")
				lb.acknowledged(prefix, "bird", kindChange, "med 0, gshut")
				frr.hasNot(prefix)
				lb.set()
				if s := lb.acknowledged(prefix, "bird", kindWithdraw, "withdrawn"); !s.Decided.IsZero() || s.Why != "" {
					t.Errorf("what is no longer asked for has no stamps: %+v", s)
				}
			}
			steps := lb.metrics("anycastle_rhi_transition_seconds_count")
			t.Log(steps)
			for what, want := range map[string]string{
				`step="written",kind="announce"`: "4", `step="acknowledged",kind="announce"`: "4", `step="all",kind="change"`: "4",
				`step="decision",kind="withdraw"`: "2", `step="acknowledged",kind="withdraw"`: "4",
			} {
				step, kind, _ := strings.Cut(what, ",")
				if got := steps[fmt.Sprintf("anycastle_rhi_transition_seconds_count{%s,%s}", kind, step)]; got != want {
					t.Errorf("%s: %s were counted, want %s", what, got, want)
				}
			}
		})
	}
}

// A peer whose acknowledgments are lost has what it was sent written, and acknowledged once they come through again. What
// a session that comes up is sent is noted as such, and what one that goes down loses.
func TestStampsOfADeafNode(t *testing.T) {
	t.Parallel()
	router, lb := newNode(t, "router"), newNode(t, "lb")
	link(t, router, lb, 1)
	patient := func(text string) string { return strings.Replace(text, "hold: 3s", "hold: 60s", 1) }
	router.start(patient(routerOfTwo))
	lb.start(patient(balancer(1, "192.0.2.2")))
	lb.set("203.0.113.11/32")
	eventually(t, "session up", soon, func() bool { return lb.up("router") })
	lb.acknowledged("203.0.113.11/32", "router", sessionUp, "announced")

	lb.nft("add table inet deaf; add chain inet deaf in { type filter hook input priority 0; policy drop; }")
	lb.set("203.0.113.11/32", vip)
	eventually(t, "route at the router", soon, func() bool { return router.kernel(vip) != "" })
	eventually(t, "written", soon, func() bool { return !lb.sent(vip, "router").Written.IsZero() })
	lb.set("203.0.113.11/32")
	eventually(t, "withdrawal written", soon, func() bool { s := lb.sent(vip, "router"); return s.Kind == kindWithdraw && !s.Written.IsZero() })
	if s := lb.sent(vip, "router"); !s.Acknowledged.IsZero() {
		t.Errorf("acknowledged, though no packet of the router came through: %+v", s)
	}
	lb.nft("delete table inet deaf")
	eventually(t, "acknowledged", soon, func() bool { return !lb.sent(vip, "router").Acknowledged.IsZero() })
	if s := lb.sent(vip, "router"); s.Sent != "withdrawn" || s.Acknowledged.Before(s.Written) {
		t.Errorf("got %+v", s)
	}
	router.end(syscall.SIGKILL)
	eventually(t, "session down", soon, func() bool { return lb.sent("203.0.113.11/32", "router").Kind == sessionDown })
	if s := lb.sent(vip, "router"); s.Kind != kindWithdraw {
		t.Errorf("what was withdrawn before: %+v", s)
	}
}
