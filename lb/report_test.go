package lb

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/internal/probe"
	"anycastle/internal/vipreport"
)

// telling is a config whose VIP is asked how it stands. It needs no certificate.
var telling = strings.Replace(valid, "port: 25,", "port: 25, agent_check: \":5025\",", 1)

// fakeRouter is an Announcer that knows the routes that a test gives it.
type fakeRouter struct {
	*fakeAnnouncer
	mu      sync.Mutex
	routes  map[netip.Prefix]Route
	changed func()
}

func (f *fakeRouter) Routes() map[netip.Prefix]Route {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.routes
}

func (f *fakeRouter) Watch(changed func()) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = changed
	return func() {}
}

func (f *fakeRouter) set(p netip.Prefix, r Route) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.routes = map[netip.Prefix]Route{p: r}
	f.changed()
}

// told is a loop on fakes with a site selector that listens to it, in a synctest bubble.
type told struct {
	*running
	router  *fakeRouter
	reports chan heardReport
	end     func()
}

type heardReport struct {
	vipreport.Report
	at time.Time
}

func listen(t *testing.T, text string) *told {
	t.Helper()
	l := &told{running: runLoopWith(t, text, newFakePlane(), nil), reports: make(chan heardReport, 100)}
	l.router = &fakeRouter{fakeAnnouncer: l.ann}
	synctest.Wait() // the loop does not use what is replaced
	l.lb.opts.Announcer = l.router
	ctx, cancel := context.WithCancel(t.Context())
	here, there := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { l.lb.reporter.run(ctx) })
	s := &selector{}
	if !l.lb.reporter.enter(s) {
		t.Fatal("there is no room for one site selector")
	}
	wg.Go(func() { l.lb.reporter.leave(s, l.lb.reporter.stream(ctx, there, s)) })
	wg.Go(func() {
		defer close(l.reports)
		for stream := vipreport.NewStream(here); ; {
			r, err := stream.Next()
			if err != nil {
				return
			}
			l.reports <- heardReport{r, time.Now()}
		}
	})
	end := l.running.end
	l.end = sync.OnceFunc(func() {
		cancel()
		here.Close()
		wg.Wait()
		end()
	})
	return l
}

// next gives the next report, which must have come at once, in this instant of the bubble's clock.
func (l *told) next(whole bool) vipreport.Report {
	l.t.Helper()
	synctest.Wait()
	select {
	case r := <-l.reports:
		if r.Whole != whole || !r.at.Equal(time.Now()) {
			l.t.Errorf("report of %v ago, whole %v, want one of now, whole %v: %+v", time.Since(r.at), r.Whole, whole, r.VIPs)
		}
		if r.Expires != reportExpires || r.Since.IsZero() {
			l.t.Errorf("report of a process of %v that holds for %v", r.Since, r.Expires)
		}
		return r.Report
	default:
		l.t.Fatal("no report came")
		return vipreport.Report{}
	}
}

// beat lets a second pass in which probes go on, and gives the one report that it brings.
func (l *told) beat() vipreport.Report {
	l.t.Helper()
	<-time.After(vipreport.Beat / 2)
	l.probe("mx1", probe.Passing)
	<-time.After(vipreport.Beat / 2)
	return l.next(true)
}

// vipOf gives the one VIP of a report.
func vipOf(t *testing.T, r vipreport.Report) vipreport.VIP {
	t.Helper()
	if len(r.VIPs) != 1 {
		t.Fatalf("%d VIPs in %+v", len(r.VIPs), r)
	}
	return r.VIPs[0]
}

func TestSelectorHearsOfEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t, telling)
		defer l.end()
		if r := l.next(true); len(r.VIPs) != 0 {
			t.Errorf("before anything is known: %+v", r.VIPs)
		}
		<-time.After(300 * time.Millisecond)
		l.start()
		want := vipreport.VIP{
			Name: "smtp", Address: addr("203.0.113.10"), Protocol: "tcp", Port: "25", State: vipreport.Active, InService: 2, Reals: 2,
			Flows: vipreport.NotCounted,
		}
		first := l.next(false)
		if diff := cmp.Diff(want, vipOf(t, first), comparable); diff != "" {
			t.Errorf("in service (-want +got):\n%s", diff)
		}
		<-time.After(700 * time.Millisecond)
		if v := vipOf(t, l.next(true)); v != want {
			t.Errorf("the sign of life says %+v", v)
		}
		<-time.After(100 * time.Millisecond)
		l.probe("mx1", probe.Failing)
		second := l.next(false)
		if v := vipOf(t, second); v.State != vipreport.Active || v.InService != 1 || second.Generation <= first.Generation {
			t.Errorf("with one real: generation %d after %d, %+v", second.Generation, first.Generation, v)
		}
		l.probe("mx2", probe.Failing)
		if v := vipOf(t, l.next(false)); v.State != vipreport.Failed || v.Why != "vip smtp has 0 of 1 reals that it needs" || v.Draining {
			t.Errorf("with no real: %+v", v)
		}
		l.probe("mx1", probe.Passing)
		if v := vipOf(t, l.next(false)); v.State != vipreport.Active {
			t.Errorf("with one real again: %+v", v)
		}
		l.order("mx1", KindDrain, time.Minute)
		if v := vipOf(t, l.next(false)); v.State != vipreport.Failed || !v.Draining {
			t.Errorf("with the last real draining: %+v", v)
		}
		l.order("mx1", KindSuspend, 0)
		l.next(false)
		l.order("mx2", KindSuspend, 0)
		if v := vipOf(t, l.next(false)); v.State != vipreport.Suspended || v.Draining {
			t.Errorf("with all suspended: %+v", v)
		}
	})
}

func TestSelectorHearsOfRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t, telling)
		defer l.end()
		l.next(true)
		l.start()
		if v := vipOf(t, l.next(false)); v.Route != vipreport.RouteUnknown {
			t.Errorf("before it is decided about: %+v", v)
		}
		vip := netip.MustParsePrefix("203.0.113.10/32")
		for _, tc := range []struct {
			r    Route
			want vipreport.VIP
		}{
			{Route{Announced: true, Why: "2 of 2 reals"}, vipreport.VIP{Route: vipreport.RouteAnnounced}},
			{Route{Announced: true, Draining: true, Why: "order"}, vipreport.VIP{Route: vipreport.RouteAnnounced, Draining: true}},
			{Route{Draining: true, Why: "order\ndrain"}, vipreport.VIP{Route: vipreport.RouteWithdrawn, RouteWhy: "order drain", Draining: true}},
			{Route{Why: "it learns"}, vipreport.VIP{Route: vipreport.RouteWithdrawn, RouteWhy: "it learns"}},
		} {
			l.router.set(vip, tc.r)
			v := vipOf(t, l.next(false))
			got := vipreport.VIP{Route: v.Route, RouteWhy: v.RouteWhy, Draining: v.Draining}
			if got != tc.want || v.State != vipreport.Active {
				t.Errorf("%+v is told as %+v, want %+v", tc.r, v, tc.want)
			}
		}
		l.router.set(vip, Route{Why: "it learns"})
		synctest.Wait()
		if len(l.reports) > 0 {
			t.Errorf("what is no change is told: %+v", <-l.reports)
		}
	})
}

// TestSelectorHearsWhatIsForwarded counts the packets of a VIP, which are no change that cannot wait.
func TestSelectorHearsWhatIsForwarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t, telling)
		defer l.end()
		l.next(true)
		l.start()
		l.next(false)
		c := &fakeCounters{}
		l.lb.mu.Lock()
		l.lb.view.counters = c
		l.lb.mu.Unlock()
		for range 4 { // the reporter's beat may come before or after the stream's
			c.add(500, 60_000)
			l.beat()
		}
		c.add(500, 60_000)
		if v := vipOf(t, l.beat()); v.PacketsPerSecond != 500 || v.BytesPerSecond != 60_000 {
			t.Errorf("it forwards %v packets and %v bytes a second, want 500 and 60000", v.PacketsPerSecond, v.BytesPerSecond)
		}
		if s := l.lb.Selectors(); len(s) != 1 || s[0].Reports != 7 || time.Since(s[0].Last) > time.Second {
			t.Errorf("site selectors %+v", s)
		}
		l.end()
		if s := l.lb.Selectors(); len(s) != 0 {
			t.Errorf("after the end: %+v", s)
		}
	})
}

// fakeCounters counts what a test says.
type fakeCounters struct {
	counters
	mu             sync.Mutex
	packets, bytes uint64
}

func (c *fakeCounters) add(packets, bytes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets, c.bytes = c.packets+packets, c.bytes+bytes
}

func (c *fakeCounters) Forwarded(vipEntry) (packets, bytes uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.packets, c.bytes, nil
}

// TestSelectorHearsNothingFromALoopThatHangs: its word must age, as if the balancer were dead.
func TestSelectorHearsNothingFromALoopThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t, telling)
		defer l.end()
		l.next(true)
		l.start()
		l.next(false)
		for range 10 {
			l.beat()
		}
		last := time.Now()
		<-time.After(time.Minute) // without a result of any probe
		for len(l.reports) > 0 {
			if r := <-l.reports; r.at.Sub(last) > 5*time.Second {
				t.Errorf("%v after the last probe it still says %+v", r.at.Sub(last), r.VIPs)
			}
		}
		if _, ok := l.lb.reporter.find("smtp"); ok {
			t.Error("an agent-check is answered")
		}
		l.probe("mx1", probe.Failing)
		if v := vipOf(t, l.next(false)); v.InService != 1 {
			t.Errorf("when it goes on: %+v", v)
		}
	})
}

func TestSlowSelectorIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := New(*mustParse(t, telling), Options{})
		check(t, err)
		_, there := net.Pipe() // nobody reads at the other end
		s := &selector{}
		l.reporter.enter(s)
		start := time.Now()
		err = l.reporter.stream(t.Context(), there, s)
		l.reporter.leave(s, err)
		if took := time.Since(start); took != reportWriteTime || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("dropped after %v: %v", took, err)
		}
		if n, slow, _, _ := l.reporter.asked(); n != 0 || slow != 1 {
			t.Errorf("%d listen and %d were dropped", n, slow)
		}
	})
}

func TestPick(t *testing.T) {
	a, b := vipreport.VIP{Name: "a", PacketsPerSecond: 1}, vipreport.VIP{Name: "b", Flows: 7}
	failed := vipreport.VIP{Name: "a", State: vipreport.Failed, Flows: 9}
	before := func(vips ...vipreport.VIP) map[string]vipreport.VIP {
		m := map[string]vipreport.VIP{}
		for _, v := range vips {
			m[v.Name] = v.Steady()
		}
		return m
	}
	for name, tc := range map[string]struct {
		told  map[string]vipreport.VIP
		is    []vipreport.VIP
		all   bool
		whole bool
		want  []vipreport.VIP
	}{
		"at first":          {before(), []vipreport.VIP{a, b}, true, true, []vipreport.VIP{a, b}},
		"none, all":         {before(), nil, true, true, nil},
		"no change":         {before(a, b), []vipreport.VIP{a, b}, false, false, nil},
		"another load":      {before(b), []vipreport.VIP{{Name: "b", Flows: 8}}, false, false, nil},
		"a change":          {before(a, b), []vipreport.VIP{failed, b}, false, false, []vipreport.VIP{failed}},
		"one more":          {before(b), []vipreport.VIP{a, b}, false, false, []vipreport.VIP{{Name: "a"}}},
		"one less":          {before(a, b), []vipreport.VIP{b}, false, true, []vipreport.VIP{b}},
		"one for another":   {before(a), []vipreport.VIP{b}, false, true, []vipreport.VIP{b}},
		"sign of life":      {before(a, b), []vipreport.VIP{a, b}, true, true, []vipreport.VIP{a, b}},
		"one less, and all": {before(a, b), []vipreport.VIP{b}, true, true, []vipreport.VIP{b}},
	} {
		whole, got := pick(tc.told, tc.is, tc.all)
		if diff := cmp.Diff(tc.want, got, comparable); diff != "" || whole != tc.whole {
			t.Errorf("%s: whole %v (-want +got):\n%s", name, whole, diff)
		}
	}
}

func TestCapacityAndFlows(t *testing.T) {
	cfg := mustParse(t, withTLS(t, strings.Replace(valid, "    - name: smtp\n", "    - name: smtp\n      capacity: 1000\n      agent: {}\n", 1)))
	in := newInputs(cfg)
	mx1, mx2 := addr("198.51.100.9"), addr("198.51.100.10")
	l := &LB{cfg: cfg}
	for _, tc := range []struct {
		mx1, mx2        State
		counted         bool
		flows, capacity int
		percent         int
	}{
		{StateActive, StateActive, true, 300, 1000, 70},
		{StateActive, StateActive, false, vipreport.NotCounted, 1000, 100},
		{StateFailed, StateActive, true, 300, 750, 45}, // mx2 has three quarters of the weight
		{StateActive, StateFailed, true, 300, 250, 1},  // more than it can hold
		{StateActive, StateFailed, false, vipreport.NotCounted, 250, 50},
		{StateFailed, StateFailed, true, 300, 0, 1},
	} {
		in.states["smtp"] = farmState{mx1: {State: tc.mx1}, mx2: {State: tc.mx2}}
		in.agents = map[realID]agentView{
			{"smtp", "mx1"}: {flows: flowCount{known: true, left: 100}}, {"smtp", "mx2"}: {flows: flowCount{known: tc.counted, left: 200}},
		}
		v := in.reportVIPs()[0]
		if v.Flows != tc.flows || v.Capacity != tc.capacity || l.percent(v) != tc.percent {
			t.Errorf("%+v: %d flows of %d, %d %%", tc, v.Flows, v.Capacity, l.percent(v))
		}
	}
}
