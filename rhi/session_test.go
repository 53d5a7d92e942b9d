package rhi

import (
	"context"
	"errors"
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
			n, renew := r.notePeer(peerChange{address: core.Address, state: state, reason: reason})
			if renew && n != core {
				t.Errorf("renews %+v, want %+v", n, core)
			}
			return renew
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
		if _, renew := r.notePeer(peerChange{address: addrs("192.0.2.99")[0], state: established}); renew {
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

func TestStuckPeers(t *testing.T) {
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
			if got := r.stuckPeers(); len(got) != s.stuck {
				t.Errorf("%v in %s: %v, want %d", s.wait, s.state, got, s.stuck)
			}
			if got := r.stuckPeers(); len(got) != 0 {
				t.Errorf("asked again at once: %v", got)
			}
		}
	})
}

func TestSet(t *testing.T) {
	t.Parallel()
	r := newRole(t)
	if err := r.Set(t.Context(), prefixes(vip)); err != nil {
		t.Errorf("before Run: %v", err)
	}
	for _, bad := range []string{"::ffff:203.0.113.10/128", "203.0.113.10/24"} {
		if err := r.Set(t.Context(), prefixes(bad)); err == nil {
			t.Errorf("takes %s", bad)
		}
	}
	if !r.health.has(prefixes(vip)[0]) || len(r.health) != 1 {
		t.Errorf("kept %v, want what the last good call gave", r.health)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Set(done, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	r.cfg.ASN = 0 // which Validate would not take
	if err := r.Run(t.Context()); err == nil {
		t.Fatal("runs without an AS number")
	}
	if err := r.Set(t.Context(), nil); !errors.Is(err, errStopped) {
		t.Errorf("after a Run that could not begin: %v", err)
	}
}
