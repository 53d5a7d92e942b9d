package lb

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/internal/mesh"
	"anycastle/internal/probe"
	"anycastle/internal/wholefile"

	"github.com/google/go-cmp/cmp"
)

func (r *running) order(real string, kind Kind, d time.Duration) Order {
	r.t.Helper()
	o := Order{Farm: "smtp", Real: real, Kind: kind, By: "root"}
	if d > 0 {
		o.Deadline = time.Now().Add(d)
	}
	o, err := r.lb.Order(o)
	check(r.t, err)
	return o
}

func (r *running) state(real string) RealStatus {
	synctest.Wait()
	for _, s := range r.lb.Reals() {
		if s.Name == real {
			return s
		}
	}
	return RealStatus{}
}

func TestLoopDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.start()
		r.order("mx1", KindDrain, 10*time.Minute)
		r.expect("forget flows", "table 0 of [2] before [1 2]")
		if !r.logged("msg=order", "new=drain", "by root") {
			t.Error("the order is not in the log")
		}
		d := r.lb.Drains()
		if len(d) != 1 || d[0].Real != "mx1" || d[0].Safe || d[0].State != StateDraining || time.Until(d[0].Deadline) != 10*time.Minute {
			t.Errorf("drains %+v", d)
		}
		if f := r.lb.Farms()[0]; f.ActiveReals != 1 || f.Moving == 0 {
			t.Errorf("farm %+v, want one real in service and slots in transition", f)
		}
		<-time.After(10*time.Minute + time.Second)
		r.expect("table 0 of [2]")
		if d := r.lb.Drains(); len(d) != 1 || !d[0].Safe || !strings.Contains(d[0].Why, "the deadline has passed") {
			t.Errorf("drains %+v", d)
		}
		if !r.logged("old=draining", "new=suspended", "the deadline has passed") {
			t.Error("the end of the drain is not in the log")
		}
		r.order("mx1", KindActivate, 0)
		r.expect("forget flows", "table 0 of [1 2] before [2]")
		if s := r.state("mx1"); s.State != StateJoining || s.PrimaryWeight != 1 || s.SecondaryWeight != 0 || time.Until(s.Until) != time.Hour {
			t.Errorf("status %+v", s)
		}
		<-time.After(time.Hour + time.Second)
		r.expect("table 0 of [1 2]")
		if len(r.lb.Drains()) != 0 {
			t.Errorf("drains %+v after it was activated", r.lb.Drains())
		}
		r.end()
	})
}

// TestLoopTakesDrainBack has flows that began elsewhere followed from before the table no longer leads to them, until after
// there are none.
func TestLoopTakesDrainBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.start()
		r.order("mx1", KindDrain, 10*time.Minute)
		r.expect("forget flows", "table 0 of [2] before [1 2]")
		<-time.After(time.Minute)
		r.order("mx1", KindActivate, 0)
		r.expect("vip 203.0.113.10:25 to 0, following", "table 0 of [1 2]")
		<-time.After(time.Hour + time.Second)
		r.expect("vip 203.0.113.10:25 to 0")
		r.end()
	})
}

func TestOrdersAreRefused(t *testing.T) {
	lb, err := New(*mustParse(t, valid), Options{})
	check(t, err)
	for _, tc := range []struct {
		order Order
		want  string
	}{
		{Order{Farm: "smtp", Real: "mx3", Kind: KindDrain}, `farm "smtp" has no real "mx3"; ` + "`anycastle show real` lists"},
		{Order{Farm: "imap", Real: "mx1", Kind: KindDrain}, `farm "imap" has no real "mx1"`},
		{Order{Farm: "smtp", Real: "mx1", Kind: "stop"}, `kind "stop" is none of`},
		{Order{Farm: "smtp", Real: "mx1", Kind: KindDrain, Deadline: time.Now().AddDate(1, 0, 0)}, "is more than 168h0m0s away"},
		{Order{Farm: "smtp", Real: "mx1", Kind: KindDrain, Deadline: time.Now().Add(-time.Second)}, "a drain needs a deadline after its beginning"},
		{Order{Farm: "smtp", Real: "mx1", Kind: KindSuspend, Why: "a\nb"}, "`why` is not text"},
	} {
		if _, err := lb.Order(tc.order); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %s", tc.order, err, tc.want)
		}
	}
	o, err := lb.Order(Order{Farm: "smtp", Real: "mx1", Kind: KindDrain})
	check(t, err)
	if o.Deadline.Sub(o.Since) != time.Hour {
		t.Errorf("a drain without a deadline has %v", o.Deadline.Sub(o.Since))
	}
}

// TestRestartKeepsTheTable ends a process in the middle of transitions of every kind; the next one, which has the file,
// makes the same table.
func TestRestartKeepsTheTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	const third = "        - {name: mx3, address: 198.51.100.11}\n  vips:\n"
	text := strings.Replace(valid, "  vips:\n", third, 1)
	synctest.Test(t, func(t *testing.T) {
		r := runLoopWith(t, text, newFakePlane(), nil)
		hops := map[netip.Addr]Hop{addr("198.51.100.9"): testHop, addr("198.51.100.10"): testHop, addr("198.51.100.11"): testHop}
		r.hops(hops)
		r.probe("mx1", probe.Passing)
		r.probe("mx2", probe.Passing)
		r.probe("mx3", probe.Failing)
		r.order("mx1", KindDrain, 20*time.Minute)
		<-time.After(time.Minute)
		r.probe("mx3", probe.Passing)
		synctest.Wait()
		before := r.plane.slots[0]
		primary, secondary := named(before)
		if !slices.Equal(primary, []uint16{2, 3}) || !slices.Equal(secondary, []uint16{1, 2}) {
			t.Fatalf("the table has %v before %v", primary, secondary)
		}
		r.end()
		check(t, r.lb.data.Save(file))
		r.plane.take()

		<-time.After(5 * time.Minute)
		data := mesh.NewMap("lb", nil)
		check(t, data.Load(file))
		again := runLoopWith(t, text, r.plane, data)
		again.hops(hops)
		again.expect()
		for _, name := range []string{"mx1", "mx2", "mx3"} {
			again.probe(name, probe.Passing)
		}
		synctest.Wait()
		if !slices.Equal(again.plane.slots[0], before) {
			t.Errorf("the table became %v", again.plane.take())
		}
		if s := again.state("mx1"); s.State != StateDraining || time.Until(s.Until) != 14*time.Minute {
			t.Errorf("status %+v", s)
		}
		if s := again.state("mx3"); s.State != StateJoining || time.Until(s.Until) != 55*time.Minute {
			t.Errorf("status %+v", s)
		}
		again.end()
	})
}

// TestAnotherLBTakesOver starts a second LB beside one that is in the middle of a transition, with what the mesh tells.
func TestAnotherLBTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := runLoop(t)
		first.start()
		first.probe("mx2", probe.Failing)
		<-time.After(time.Minute)
		first.probe("mx2", probe.Passing)
		synctest.Wait()
		<-time.After(time.Minute)
		second := runLoopWith(t, valid, newFakePlane(), first.lb.data, first.lb.node)
		second.hops(hopsOfBoth)
		second.probe("mx1", probe.Passing)
		second.probe("mx2", probe.Passing)
		synctest.Wait()
		if !slices.Equal(second.plane.slots[0], first.plane.slots[0]) {
			t.Errorf("another table: %v", second.plane.take())
		}
		// an order to one reaches the other
		first.order("mx1", KindDrain, time.Minute)
		<-time.After(orderDelay)
		synctest.Wait()
		if a, b := first.state("mx1").State, second.state("mx1").State; a != StateDraining || b != StateDraining {
			t.Errorf("mx1 is %s here and %s there", a, b)
		}
		if d := second.lb.Drains(); len(d) != 1 || !slices.Equal(d[0].WaitsFor, slices.Sorted(slices.Values([]string{first.lb.node, "lb2"}))) {
			t.Errorf("drains %+v", d)
		}
		first.end()
		second.end()
	})
}

// TestTwoLBsStartTogether has the first go on alone, for the second is not there in time, and tell its states one by one
// just when the second gives up waiting.
func TestTwoLBsStartTogether(t *testing.T) {
	const inMesh = "  mesh: {name: lb2, listen: 198.51.100.2:7946, key: 000102030405060708090a0b0c0d0e0f, join: [198.51.100.1:7946]}\n  farms:"
	synctest.Test(t, func(t *testing.T) {
		first := runLoop(t)
		first.start()
		told := first.lb.data.Snapshot()
		data := mesh.NewMap("lb1", nil)
		second := runLoopWith(t, strings.Replace(valid, "  farms:", inMesh, 1), newFakePlane(), data, first.lb.node)
		second.hops(hopsOfBoth)
		second.probe("mx1", probe.Passing)
		second.probe("mx2", probe.Passing)
		second.expect(realSteps...)
		for i, item := range told {
			<-time.After(peerGrace - 10*time.Millisecond) // the rest comes after the end of that
			check(t, data.Set(item.Key, item.Value))
			synctest.Wait()
			if i < len(told)-1 {
				second.expect()
			}
		}
		second.expect(installed...)
		for _, real := range []string{"mx1", "mx2"} {
			if a, b := first.state(real), second.state(real); a.State != StateActive || b.State != StateActive {
				t.Errorf("%s is %s here and %s there", real, a.State, b.State)
			}
		}
		first.end()
		second.end()
	})
}

func TestDamagedStateFile(t *testing.T) {
	dir := t.TempDir()
	lb, err := New(*mustParse(t, valid), Options{})
	check(t, err)
	held, err := lb.openState(filepath.Join(dir, "lb")) // a first start
	check(t, err)
	check(t, held.Close())
	check(t, os.WriteFile(filepath.Join(dir, stateFile), []byte("{}"), 0o600))
	for range 2 { // what is refused is not held
		_, err = lb.openState(dir)
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, stateFile)+" is damaged") || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("error %v, want the file and the mend", err)
		}
	}
	_, err = lb.openState("/proc/nowhere")
	if err == nil || !strings.Contains(err.Error(), "lb.state_dir") {
		t.Errorf("error %v, want the key to change", err)
	}
}

// TestStateOfAnotherProcess starts a balancer with the state of one that runs.
func TestStateOfAnotherProcess(t *testing.T) {
	cfg := mustParse(t, valid)
	cfg.StateDir = t.TempDir()
	path := filepath.Join(cfg.StateDir, stateFile)
	first, err := New(*cfg, Options{})
	check(t, err)
	held, err := first.openState(cfg.StateDir)
	check(t, err)
	before, err := os.Stat(path)
	check(t, err)
	second, err := New(*cfg, Options{PinDir: t.TempDir()}) // where it can pin nothing
	check(t, err)
	err = second.Run(t.Context())
	if !errors.Is(err, wholefile.ErrHeld) || !strings.Contains(err.Error(), "stop that one, or give this one another directory with lb.state_dir") {
		t.Errorf("the second ends with %v", err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the second has replaced the state of the first: %v", err)
	}
	select {
	case <-second.Taken():
		t.Error("the second says that it has them")
	default:
	}
	check(t, held.Close())
	held, err = second.openState(cfg.StateDir)
	check(t, err)
	check(t, held.Close())
}

func TestReload(t *testing.T) {
	with := func(old, new string) Config {
		text := strings.Replace(valid, old, new, 1)
		if text == valid {
			t.Fatalf("%q is not in the valid file", old)
		}
		return *mustParse(t, text)
	}
	const mx1 = "        - {name: mx1, address: 198.51.100.9}\n"
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.start()
		for _, tc := range []struct{ key, old, new string }{
			{"uplinks", "[eth1]", "[eth1, eth2]"}, {"hash_key", "0e0f", "0e10"}, {"state_dir", "  farms:", "  state_dir: /tmp\n  farms:"},
		} {
			if err := r.lb.Reload(t.Context(), with(tc.old, tc.new)); err == nil || !strings.Contains(err.Error(), "lb."+tc.key+" has changed") {
				t.Errorf("another %s: %v", tc.key, err)
			}
		}
		r.watch.fail = errors.New("ca.pem: no such file")
		if err := r.lb.Reload(t.Context(), with(mx1, "")); err == nil || !strings.Contains(err.Error(), "ca.pem") {
			t.Errorf("probes that cannot be: %v", err)
		}
		r.expect()
		if len(r.lb.Reals()) != 2 {
			t.Error("a config that was refused is shown")
		}
		r.watch.fail = nil

		// a real comes
		check(t, r.lb.Reload(t.Context(), with(mx1, mx1+"        - {name: mx3, address: 198.51.100.11}\n")))
		r.expect("real 3 = 198.51.100.11")
		hops := map[netip.Addr]Hop{addr("198.51.100.9"): testHop, addr("198.51.100.10"): testHop, addr("198.51.100.11"): testHop}
		r.hops(hops)
		r.expect("real 3 = 198.51.100.11")
		r.probe("mx3", probe.Passing)
		r.expect("forget flows", "table 0 of [1 2 3] before [1 2]")

		// one goes, and drains
		check(t, r.lb.Reload(t.Context(), with(mx1, "")))
		r.expect("vip 203.0.113.10:25 to 0, following", "table 0 of [2] before [1 2]")
		if names := r.watch.names(); !slices.Equal(names, []string{"smtp/mx2/0/203.0.113.10"}) {
			t.Errorf("%q are probed", names)
		}
		var states []string
		for _, s := range r.lb.Reals() {
			states = append(states, s.Name+" "+string(s.State))
		}
		if diff := cmp.Diff([]string{"mx2 active", "mx1 draining", "mx3 draining"}, states); diff != "" {
			t.Errorf("reals (-want +got):\n%s", diff)
		}
		<-time.After(time.Hour + time.Second)
		r.expect("table 0 of [2]", "vip 203.0.113.10:25 to 0", "real 1 gone", "real 3 gone")
		r.end()
		if err := r.lb.Reload(t.Context(), with(mx1, "")); !errors.Is(err, ErrNotRunning) {
			t.Errorf("reload after the end: %v", err)
		}
	})
}
