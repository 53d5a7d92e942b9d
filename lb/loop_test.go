package lb

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/internal/mesh"
	"anycastle/internal/probe"

	"github.com/google/go-cmp/cmp"
)

// running is a loop on fakes.
type running struct {
	t     *testing.T
	lb    *LB
	plane *fakePlane
	ann   *fakeAnnouncer
	watch *fakeWatchers
	log   journal
	stop  context.CancelFunc
	done  chan error
	loop  *loop
}

// fakeWatchers note what they are to look at.
type fakeWatchers struct {
	mu      sync.Mutex
	targets []probe.Target
	addrs   []netip.Addr
	asked   int   // calls of SetAddrs
	fail    error // of SetTargets
	hurried []string
}

func (f *fakeWatchers) ProbeNow(names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hurried = append(f.hurried, names...)
}

// probedNow gives the targets that were to be probed at once since the last call.
func (f *fakeWatchers) probedNow() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.hurried = nil }()
	return f.hurried
}

func (f *fakeWatchers) SetTargets(targets []probe.Target) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.targets = targets
	return nil
}

func (f *fakeWatchers) SetAddrs(addrs []netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addrs = addrs
	f.asked++
}

func (f *fakeWatchers) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, t := range f.targets {
		names = append(names, t.Name)
	}
	return names
}

// runLoop starts a loop for the two reals of the valid config. Call it in a synctest bubble, and end it with stop.
func runLoop(t *testing.T) *running { return runLoopWith(t, valid, newFakePlane(), nil) }

// runLoopWith goes on from what an earlier loop has left. With others, the names of LBs whose states are in data, it is lb2.
func runLoopWith(t *testing.T, text string, plane *fakePlane, data *mesh.Map, others ...string) *running {
	t.Helper()
	r := &running{t: t, plane: plane, ann: &fakeAnnouncer{plane: plane}, watch: &fakeWatchers{}, done: make(chan error, 1)}
	var err error
	r.lb, err = New(*mustParse(t, text), Options{Announcer: r.ann, Log: slog.New(slog.NewTextHandler(&r.log, nil))})
	check(t, err)
	if data != nil {
		r.lb.data = data
	}
	have, err := plane.Read()
	check(t, err)
	if len(others) > 0 {
		r.lb.node = "lb2"
	}
	l := newLoop(r.lb, plane, have)
	l.store.here = func() map[string]bool {
		here := map[string]bool{}
		for _, name := range others {
			here[name] = true
		}
		return here
	}
	stored, unwatch := r.lb.data.Watch()
	l.watch = watchers{probes: r.watch, hops: r.watch, stored: stored}
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = func() { cancel(); unwatch() }
	r.lb.setRunning(true)
	r.loop = l
	go func() { r.done <- l.run(ctx) }()
	return r
}

func (r *running) hops(hops map[netip.Addr]Hop) { r.lb.events <- hopsEvent(hops) }

// probe has all probes of a real that runs give a state.
func (r *running) probe(real string, state probe.State) {
	r.t.Helper()
	synctest.Wait()
	r.report(realID{"smtp", real}, state)
}

func (r *running) report(id realID, state probe.State) {
	r.t.Helper()
	var err error
	if state == probe.Failing {
		err = errors.New("connection refused")
	}
	some := false
	r.watch.mu.Lock()
	targets := r.watch.targets
	r.watch.mu.Unlock()
	for _, t := range targets {
		if parseTargetID(t.Name).realID == id {
			some = true
			r.lb.events <- resultEvent(probe.Result{Target: t, State: state, Changed: true, Err: err, At: time.Now(), Advice: probe.Advice{Weight: 100}})
		}
	}
	if !some {
		r.t.Errorf("%v is not probed; those that are: %q", id, r.watch.names())
	}
}

// expect compares what was done since the last call.
func (r *running) expect(want ...string) {
	r.t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, r.plane.take()); diff != "" {
		r.t.Errorf("steps (-want +got):\n%s", diff)
	}
	if len(r.plane.broken) > 0 {
		r.t.Error(strings.Join(r.plane.broken, "; "))
		r.plane.broken = nil
	}
}

// logged says whether a line of the log holds all of the words.
func (r *running) logged(words ...string) bool {
	synctest.Wait()
	for _, line := range r.log.take() {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}

func (r *running) end() {
	r.t.Helper()
	r.stop()
	check(r.t, <-r.done)
}

var (
	hopsOfBoth = map[netip.Addr]Hop{addr("198.51.100.9"): testHop, addr("198.51.100.10"): testHop}
	realSteps  = []string{"real 1 = 198.51.100.9", "real 2 = 198.51.100.10"}
	installed  = []string{"table 0 of [1 2]", "vip 203.0.113.10:25 to 0", "address 203.0.113.10", "announce [203.0.113.10/32]"}
)

// start brings both reals into service.
func (r *running) start() {
	r.t.Helper()
	r.hops(hopsOfBoth)
	r.expect(realSteps...) // their probes need them
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
		if s := r.lb.Reals()[0]; s.State != StateFailed || s.Why != "connection refused" || s.Slots != 0 {
			t.Errorf("status %+v", s)
		}
		r.probe("mx1", probe.Passing)
		r.expect("table 0 of [1]", "address 203.0.113.10", "announce [203.0.113.10/32]")
		if s := r.lb.Reals()[0]; s.State != StateActive || s.Share != 1 {
			t.Errorf("status %+v", s)
		}
		r.end()
		r.expect("announce []") // and the table stays
	})
}

// TestLoopTakesOverLast has the program of another version forward packets until all tables are filled, also when one
// cannot be filled at first.
func TestLoopTakesOverLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plane := newFakePlane()
		plane.behind = true
		r := runLoopWith(t, valid, plane, nil)
		r.hops(hopsOfBoth)
		r.expect(realSteps...)
		r.probe("mx1", probe.Passing)
		r.expect()
		plane.failAt = 2
		r.probe("mx2", probe.Passing)
		r.expect(installed[0])
		<-time.After(2 * retryAfter)
		r.expect(installed[1], installed[2], "take over", installed[3])
		if !r.logged("program replaced", "uplink=eth1") {
			t.Error("it is not logged")
		}
		r.end()
	})
}

// TestLoopStartsWithoutHops must not install reals that lead nowhere over those that an earlier process has left.
func TestLoopStartsWithoutHops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := runLoop(t)
		first.start()
		first.end()
		first.expect("announce []")
		r := runLoopWith(t, valid, first.plane, nil)
		r.expect()
		r.hops(hopsOfBoth)
		r.expect()
		r.probe("mx1", probe.Passing)
		r.probe("mx2", probe.Passing)
		r.expect("table 0 of [1 2]", "announce [203.0.113.10/32]") // what is in a table is not read at a start
		r.end()
	})
}

// TestLoopWaitsForNextHop has a real whose next hop does not come at once, as with ARP, and one whose does never.
func TestLoopWaitsForNextHop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.hops(map[netip.Addr]Hop{addr("198.51.100.9"): {Why: "asking"}, addr("198.51.100.10"): {Why: "no route"}})
		r.expect(realSteps...)
		if names := r.watch.names(); len(names) > 0 {
			t.Errorf("%q are probed, though they cannot be reached", names)
		}
		<-time.After(time.Second)
		r.hops(map[netip.Addr]Hop{addr("198.51.100.9"): testHop, addr("198.51.100.10"): {Why: "no route"}})
		r.expect("real 1 = 198.51.100.9")
		r.probe("mx1", probe.Passing)
		r.expect() // the other may still come
		<-time.After(hopGrace)
		r.probe("mx2", probe.Failing)
		r.expect("table 0 of [1]", "vip 203.0.113.10:25 to 0", "address 203.0.113.10", "announce [203.0.113.10/32]")
		r.probe("mx2", probe.Passing)
		r.expect()
		if s := r.lb.Reals()[1]; s.State != StateFailed || s.Why != "next hop unresolved: no route" {
			t.Errorf("status %+v", s)
		}
		r.hops(hopsOfBoth)
		r.expect("real 2 = 198.51.100.10", "forget flows", "table 0 of [1 2] before [1]")
		r.end()
	})
}

// TestLoopAsksForHopsOnce: a Resolver answers each time that it is given addresses, and an answer must not be a reason to
// give them again.
func TestLoopAsksForHopsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.start()
		for range 3 {
			r.hops(hopsOfBoth)
			r.hops(map[netip.Addr]Hop{addr("198.51.100.9"): testHop, addr("198.51.100.10"): {Why: "no route"}})
		}
		synctest.Wait()
		if r.watch.asked != 1 {
			t.Errorf("addresses were given %d times, want once", r.watch.asked)
		}
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
			wg.Go(func() { r.report(realID{"smtp", name}, probe.Passing) })
		}
		synctest.Wait()
		close(r.ann.busy)
		wg.Wait()
		r.expect("announce []", "table 0 of [0]", "address 203.0.113.10, out of service",
			"table 0 of [1 2]", "address 203.0.113.10", "announce [203.0.113.10/32]")
		r.end()
	})
}

// TestLoopTriesAgain fails each step of the first install in turn, the announcement last.
func TestLoopTriesAgain(t *testing.T) {
	steps := append(append([]string(nil), realSteps...), installed...)
	for n := range steps {
		synctest.Test(t, func(t *testing.T) {
			r := runLoop(t)
			if n == len(steps)-1 {
				r.ann.fail = true
			} else {
				r.plane.failAt = n + 1
			}
			r.hops(hopsOfBoth)
			synctest.Wait()
			got := r.plane.take()
			if n < len(realSteps) {
				<-time.After(2 * retryAfter) // of the bubble's clock
				synctest.Wait()
				got = append(got, r.plane.take()...)
			}
			r.probe("mx1", probe.Passing)
			r.probe("mx2", probe.Passing)
			<-time.After(2 * retryAfter)
			synctest.Wait()
			got = append(got, r.plane.take()...)
			want := append([]string(nil), steps...)
			if n == len(steps)-1 {
				// what a Set that did not succeed has told routers is not known: it is withdrawn first
				want = append(want[:n], "announce []", steps[n])
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("with step %d failing (-want +got):\n%s", n, diff)
			}
			r.end()
		})
	}
}
