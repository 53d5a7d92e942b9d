package rhi

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func newRole(t *testing.T) *Role {
	t.Helper()
	cfg, err := decode("node.yml", []byte(goodNode))
	if err != nil {
		t.Fatal(err)
	}
	return New(*cfg, Options{Registry: prometheus.NewRegistry()})
}

func TestLostPeerIsRenewedOnceInAHoldTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRole(t)
		core := r.cfg.Neighbors[0]
		step := func(state, reason string) bool {
			todo := r.notePeer(peerChange{address: core.Address, state: state, reason: reason})
			if todo.renew != nil && todo.renew.Name != core.Name || todo.drop.IsValid() {
				t.Errorf("is to do %+v, want %+v renewed at most", todo, core)
			}
			return todo.renew != nil
		}
		<-time.After(time.Minute) // of the test's own clock
		for _, s := range []struct {
			wait          time.Duration
			state, reason string
			renew         bool
			up, downs     float64
		}{
			{0, "active", "", false, 0, 0},
			{0, "idle", "bad-peer-as", false, 0, 0},
			{0, established, "", false, 1, 0},
			{0, "idle", "hold-timer-expired", true, 0, 1},
			{time.Second, established, "", false, 1, 1},
			{time.Second, "idle", "read-failed", false, 0, 2},
			{r.cfg.Hold, established, "", false, 1, 2},
			{0, "idle", "read-failed", true, 0, 3},
		} {
			<-time.After(s.wait)
			if got := step(s.state, s.reason); got != s.renew {
				t.Errorf("%+v: renew is %v", s, got)
			}
			up, downs := testutil.ToFloat64(r.metrics.sessionUp.WithLabelValues("core")), testutil.ToFloat64(r.metrics.sessionDowns.WithLabelValues("core"))
			if up != s.up || downs != s.downs {
				t.Errorf("%+v: metrics say up %v, downs %v", s, up, downs)
			}
			if p := r.Status().Peers[0]; p.State != s.state || s.reason != "" && p.LastError != s.reason || s.wait+time.Minute < time.Since(p.Since) {
				t.Errorf("%+v: show peer: %+v", s, p)
			}
		}
		if todo := r.notePeer(peerChange{address: addrs("192.0.2.99")[0], state: established}); todo.renew != nil {
			t.Error("renews a peer that is none")
		}
	})
}

func TestReasonBeforeTheFirstSession(t *testing.T) {
	t.Parallel()
	r := newRole(t)
	for i, want := range []string{noDial, noAnswer} { // the first neighbor is passive
		shown := func() string { return r.Status().Peers[i].LastError }
		if got := shown(); got != want {
			t.Errorf("at first: %q, want %q", got, want)
		}
		r.notePeer(peerChange{address: r.cfg.Neighbors[i].Address, state: established})
		if got := shown(); got != "" {
			t.Errorf("while the session is up: %q", got)
		}
	}
}

func TestSilentPeers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRole(t)
		core := r.cfg.Neighbors[0]
		for _, s := range []struct {
			state string
			wait  time.Duration
			stuck int
		}{
			{"active", time.Hour, 0},
			{"opensent", r.cfg.Hold, 0},
			{"openconfirm", r.cfg.Hold + 1, 1},
			{"opensent", r.cfg.Hold + 1, 1},
			{established, time.Hour, 0},
		} {
			r.notePeer(peerChange{address: core.Address, state: s.state})
			<-time.After(s.wait)
			if got := r.overduePeers(); len(got) != s.stuck {
				t.Errorf("%v in %s: %v, want %d", s.wait, s.state, got, s.stuck)
			}
			if got := r.overduePeers(); len(got) != 0 {
				t.Errorf("asked again at once: %v", got)
			}
		}
	})
}

// A peer that sends too many prefixes is kept down, and let in again after a while.
func TestHeldPeer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRole(t)
		core := r.cfg.Neighbors[0]
		<-time.After(time.Hour)
		r.notePeer(peerChange{address: core.Address, state: established})
		if todo := r.notePeer(peerChange{address: core.Address, state: "idle", reason: "read-failed", limit: true}); todo != (repair{}) {
			t.Errorf("is to do %+v, want nothing at first", todo)
		}
		if got := r.Status().Peers[0].LastError; !strings.Contains(got, "max_prefixes") {
			t.Errorf("show peer: %q", got)
		}
		<-time.After(limitHold)
		if todo := r.overduePeers(); len(todo) != 0 {
			t.Errorf("too early: %+v", todo)
		}
		<-time.After(time.Second)
		if todo := r.overduePeers(); len(todo) != 1 || todo[0].renew.Name != core.Name {
			t.Errorf("is to do %+v, want %s renewed", todo, core.Name)
		}
		if todo := r.overduePeers(); len(todo) != 0 {
			t.Errorf("again: %+v", todo)
		}
	})
}

// A peer without a hold time is kept down for as long, unless BFD watches it.
func TestPeerWithoutHoldTimeIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRole(t)
		core := r.cfg.Neighbors[0]
		if todo := r.noteNoHold(core.Address); todo != (repair{}) {
			t.Errorf("without a session: %+v", todo)
		}
		r.notePeer(peerChange{address: core.Address, state: established})
		if todo := r.noteNoHold(core.Address); todo != (repair{hold: core.Address}) {
			t.Errorf("is to do %+v", todo)
		}
		if todo := r.notePeer(peerChange{address: core.Address, state: "idle", reason: "admin-down"}); todo != (repair{}) {
			t.Errorf("is to do %+v after its end", todo)
		}
		if p := r.Status().Peers[0]; p.State != "idle" || !strings.Contains(p.LastError, "hold time 0") {
			t.Errorf("show peer: %+v", p)
		}
		<-time.After(limitHold + time.Second)
		if todo := r.overduePeers(); len(todo) != 1 || todo[0].renew.Name != core.Name {
			t.Errorf("is to do %+v, want %s renewed", todo, core.Name)
		}
		r.peers[core.Address].BFD = &BFD{}
		r.notePeer(peerChange{address: core.Address, state: established})
		if todo := r.noteNoHold(core.Address); todo != (repair{}) {
			t.Errorf("with BFD: %+v", todo)
		}
	})
	cfg, err := decode("node.yml", []byte(richNode))
	if err != nil {
		t.Fatal(err)
	}
	r, rack := New(*cfg, Options{}), addrs("192.0.2.1")[0]
	r.notePeer(peerChange{address: rack, state: established})
	for range 2 {
		if todo := r.noteNoHold(rack); todo.hold.IsValid() {
			t.Errorf("a dynamic peer: %+v", todo)
		}
		if todo := r.notePeer(peerChange{address: rack, state: "opensent"}); todo != (repair{drop: rack}) {
			t.Errorf("a dynamic peer that comes back: %+v", todo)
		}
	}
}

func TestDynamicSessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg, err := decode("node.yml", []byte(richNode))
		if err != nil {
			t.Fatal(err)
		}
		r := New(*cfg, Options{})
		step := func(address, state string, limit bool) (dropped bool) {
			todo := r.notePeer(peerChange{address: addrs(address)[0], state: state, limit: limit})
			if todo.renew != nil {
				t.Errorf("%s %s: renews %+v", address, state, todo.renew)
			}
			return todo.drop.IsValid()
		}
		for _, s := range []struct {
			address, state string
			limit, dropped bool
			shown          int
			up, refused    float64
		}{
			{"192.0.2.1", "opensent", false, false, 1, 0, 0},
			{"192.0.2.2", "opensent", false, false, 2, 0, 0},
			{"192.0.2.2", established, false, false, 2, 1, 0},
			{"192.0.2.3", "opensent", false, false, 3, 1, 0},
			{"192.0.2.4", "opensent", false, true, 3, 1, 1},     // one too many
			{"192.0.2.4", "idle", false, true, 3, 1, 1},         // its end
			{"192.0.2.4", "active", false, false, 3, 1, 1},      // and what may come after
			{"198.51.100.9", established, false, true, 3, 1, 1}, // in no range
			{"192.0.2.1", "idle", false, true, 2, 1, 1},         // never came up
			{"192.0.2.2", "idle", true, true, 2, 0, 1},          // too many prefixes: stays to be seen
			{"192.0.2.2", "opensent", false, true, 2, 0, 1},
		} {
			if got := step(s.address, s.state, s.limit); got != s.dropped {
				t.Errorf("%+v: dropped is %v", s, got)
			}
			if got := len(r.Status().Peers) - len(cfg.Neighbors); got != s.shown {
				t.Errorf("%+v: shows %d", s, got)
			}
			up, refused := testutil.ToFloat64(r.metrics.sessionUp.WithLabelValues("racks")), testutil.ToFloat64(r.metrics.peersRefused.WithLabelValues("racks"))
			if up != s.up || refused != s.refused {
				t.Errorf("%+v: metrics say up %v, refused %v", s, up, refused)
			}
		}
		<-time.After(limitHold + time.Second)
		if todo := r.overduePeers(); len(todo) != 2 { // the held one, and 192.0.2.3, which said nothing
			t.Errorf("is to do %+v", todo)
		}
		if got := len(r.Status().Peers) - len(cfg.Neighbors); got != 0 {
			t.Errorf("still shows %d", got)
		}
	})
}

func TestSet(t *testing.T) {
	t.Parallel()
	r := newRole(t)
	if err := r.set(t.Context(), prefixes(vip)); err != nil {
		t.Errorf("before Run: %v", err)
	}
	for _, bad := range []string{"::ffff:203.0.113.10/128", "203.0.113.10/24"} {
		if err := r.set(t.Context(), prefixes(bad)); err == nil {
			t.Errorf("takes %s", bad)
		}
	}
	if r.health[prefixes(vip)[0]] == nil || len(r.health) != 1 {
		t.Errorf("kept %v, want what the last good call gave", r.health)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.set(done, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	r.cfg.ASN = 0 // which Validate would not take
	if err := r.Run(t.Context()); err == nil {
		t.Fatal("runs without an AS number")
	}
	if err := r.set(t.Context(), nil); !errors.Is(err, errStopped) {
		t.Errorf("after a Run that could not begin: %v", err)
	}
}
