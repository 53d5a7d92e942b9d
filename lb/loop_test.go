package lb

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/internal/probe"

	"github.com/google/go-cmp/cmp"
)

// running is a loop on fakes.
type running struct {
	t       *testing.T
	lb      *LB
	plane   *fakePlane
	ann     *fakeAnnouncer
	results chan probe.Result
	hops    chan map[netip.Addr]Hop
	stop    context.CancelFunc
	done    chan error
}

// runLoop starts a loop for the two reals of the valid config. Call it in a synctest bubble, and end it with stop.
func runLoop(t *testing.T) *running {
	plane := newFakePlane()
	r := &running{t: t, plane: plane, ann: &fakeAnnouncer{plane: plane},
		results: make(chan probe.Result), hops: make(chan map[netip.Addr]Hop), done: make(chan error, 1)}
	var err error
	r.lb, err = New(*mustParse(t, valid), Options{Announcer: r.ann})
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	l := &loop{LB: r.lb, plane: plane, have: newTables(),
		in: newInputs(r.lb.cfg)}
	go func() { r.done <- l.run(ctx, r.results, r.hops) }()
	return r
}

func (r *running) probe(real string, state probe.State) {
	var err error
	if state == probe.Failing {
		err = errors.New("connection refused")
	}
	r.results <- probe.Result{Target: probe.Target{Name: targetID{realID{"smtp", real}, 0}.String(), Config: &probe.Config{Type: "tcp"}}, State: state, Changed: true, Err: err}
}

// expect compares what was done since the last call.
func (r *running) expect(want ...string) {
	r.t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, r.plane.take()); diff != "" {
		r.t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func (r *running) end() {
	r.t.Helper()
	r.stop()
	check(r.t, <-r.done)
}

var (
	hopsOfBoth = map[netip.Addr]Hop{addr("198.51.100.9"): testHop, addr("198.51.100.10"): testHop}
	installed  = []string{
		"real 1 = 198.51.100.9", "real 2 = 198.51.100.10", "table 0 of [1 2]",
		"vip 203.0.113.10:25 to 0", "address 203.0.113.10", "announce [203.0.113.10/32]",
	}
)

// start brings both reals into service.
func (r *running) start() {
	r.t.Helper()
	r.hops <- hopsOfBoth
	r.probe("mx1", probe.Passing)
	r.expect() // nothing before the last first probe is in
	r.probe("mx2", probe.Passing)
	r.expect(installed...)
}

func TestLoopAnnouncesLastAndWithdrawsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.start()
		r.probe("mx1", probe.Failing)
		r.expect("table 0 of [2]")
		r.probe("mx2", probe.Failing)
		r.expect("announce []", "table 0 of [0]", "address 203.0.113.10, out of service")
		if v := r.lb.VIPs()[0]; v.Announced || v.Reason != "vip smtp has 0 of 1 reals that it needs" {
			t.Errorf("status %+v", v)
		}
		if s := r.lb.Reals()[0]; s.State != "failed" || s.Why != "connection refused" || s.Slots != 0 {
			t.Errorf("status %+v", s)
		}
		r.probe("mx1", probe.Passing)
		r.expect("table 0 of [1]", "address 203.0.113.10", "announce [203.0.113.10/32]")
		if s := r.lb.Reals()[0]; s.State != "active" || s.Share != 1 {
			t.Errorf("status %+v", s)
		}
		r.end()
		r.expect("announce []") // and the table stays
	})
}

// TestLoopWaitsForNextHop has all probes done before the first look for next hops: what an earlier process installed
// must not be emptied meanwhile.
func TestLoopWaitsForNextHop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.probe("mx1", probe.Passing)
		r.probe("mx2", probe.Passing)
		r.expect()
		r.hops <- map[netip.Addr]Hop{addr("198.51.100.9"): {Why: "no route"}, addr("198.51.100.10"): {Why: "no route"}}
		r.expect("real 1 = 198.51.100.9", "real 2 = 198.51.100.10", "table 0 of [0]",
			"vip 203.0.113.10:25 to 0", "address 203.0.113.10, out of service")
		if s := r.lb.Reals()[0]; s.State != "failed" || s.Why != "next hop unresolved: no route" {
			t.Errorf("status %+v", s)
		}
		r.hops <- hopsOfBoth
		r.expect("real 1 = 198.51.100.9", "real 2 = 198.51.100.10", "table 0 of [1 2]", "address 203.0.113.10", "announce [203.0.113.10/32]")
		r.end()
	})
}

// TestLoopTakesWhatWaits has both reals fail before the loop gets to run.
func TestLoopTakesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.start()
		r.ann.busy = make(chan struct{}) // holds the loop in its withdrawal
		r.probe("mx1", probe.Failing)
		r.expect("table 0 of [2]")
		r.probe("mx2", probe.Failing)
		synctest.Wait()
		var wg sync.WaitGroup
		for _, name := range []string{"mx1", "mx2"} {
			wg.Go(func() { r.probe(name, probe.Passing) })
		}
		synctest.Wait()
		close(r.ann.busy)
		wg.Wait()
		r.expect("announce []", "table 0 of [0]", "address 203.0.113.10, out of service", "table 0 of [1 2]", "address 203.0.113.10", "announce [203.0.113.10/32]")
		r.end()
	})
}

// TestLoopWithoutAnnouncer must not say of an address that it is announced.
func TestLoopWithoutAnnouncer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.lb.opts.Announcer = nil
		r.hops <- hopsOfBoth
		r.probe("mx1", probe.Passing)
		r.probe("mx2", probe.Passing)
		r.expect(installed[:len(installed)-1]...)
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

// TestLoopTriesAgain fails each step of the first install in turn, the announcement last.
func TestLoopTriesAgain(t *testing.T) {
	for n := range installed {
		synctest.Test(t, func(t *testing.T) {
			r := runLoop(t)
			if n == len(installed)-1 {
				r.ann.fail = true
			} else {
				r.plane.failAt = n + 1
			}
			r.hops <- hopsOfBoth
			r.probe("mx1", probe.Passing)
			r.probe("mx2", probe.Passing)
			r.expect(append([]string(nil), installed[:n]...)...)
			<-time.After(2 * retryAfter) // of the bubble's clock
			want := installed[n:]
			if n == len(installed)-1 {
				// what a Set that did not succeed has told routers is not known: it is withdrawn first
				want = append([]string{"announce []"}, want...)
			}
			r.expect(want...)
			r.end()
		})
	}
}
