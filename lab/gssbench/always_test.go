package gssbench

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"anycastle/internal/proctest"
)

// hazard is something in which no client may be given an error, or nothing.
type hazard struct {
	name string
	run  func(w *world)
}

func hazards() []hazard {
	return []hazard{{"all-out", allOut}, {"restart", restartEach}, {"reload", reloadAll}, {"partition", partition}}
}

// allOut has both VIPs be silent, while the site selectors are well.
func allOut(w *world) {
	heal := w.lose("oifname { vip-east, vip-west } drop")
	for _, site := range places()[:2] {
		w.waitPlace(site, "out", places()...)
	}
	pause(w.t, 3*time.Second) // longer than a TTL while something is out
	heal()
	for _, site := range places()[:2] {
		w.waitPlace(site, "serving", places()...)
	}
}

// restartEach stops each site selector, and starts it again a second later.
func restartEach(w *world) {
	for _, place := range places() {
		w.gss[place].Stop()
		pause(w.t, time.Second)
		w.startGSS(place)
		w.waitGSS(place)
		w.waitRoute("east")
	}
	w.waitCounted(len(places()))
}

// reloadAll has all site selectors read their node files again and again, at once.
func reloadAll(w *world) {
	var wg sync.WaitGroup
	errs := make([]error, len(places()))
	for i, place := range places() {
		wg.Go(func() {
			for until := time.Now().Add(2 * time.Second); time.Now().Before(until) && errs[i] == nil; {
				errs[i] = w.reload(place)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		proctest.Check(w.t, err)
	}
}

// partition leaves each site selector alone, so that each decides by itself in the end.
func partition(w *world) {
	heal := w.lose("meta l4proto { tcp, udp } th dport 7946 drop")
	w.waitCounted(1)
	pause(w.t, 2*time.Second)
	heal()
	w.waitCounted(len(places()))
}

// verdict is what the clients of a resolver met in a hazard.
type verdict struct {
	row string
	faults
}

// endure goes through all hazards, under questions of two clients of each resolver: one asks for a name that the resolver keeps
// for its TTL, the other for a new name each time, which the resolver has to ask for.
func endure(t testing.TB, list []*resolver) (verdicts []verdict) {
	t.Helper()
	w := newWorld(t, hostsOf(list)...)
	w.startAll()
	clients := map[*resolver][]*client{}
	for _, r := range list {
		w.startResolver(r)
		clients[r] = []*client{
			w.startClient(r.host(), "127.0.0.1:53", false, func(int) string { return steered }),
			w.startClient(r.host(), "127.0.0.1:53", false, func(n int) string { return fmt.Sprintf("n%d.%s", n, steered) }),
		}
	}
	for _, r := range list {
		for _, c := range clients[r] {
			proctest.Eventually(t, r.host()+" is told of east", func() bool { return c.settled("east") })
		}
	}
	var began, ended []time.Time
	for _, h := range hazards() {
		began = append(began, time.Now())
		h.run(w)
		ended = append(ended, time.Now())
	}
	for _, list := range clients { // all that was asked in the hazards has been answered, or will not be
		for _, c := range list {
			proctest.Eventually(t, c.host+" has no question left", func() bool { return c.oldest().After(ended[len(ended)-1]) })
		}
	}
	for i, h := range hazards() {
		for _, r := range list {
			v := verdict{row: r.row(h.name)}
			for _, c := range clients[r] {
				v.faults = v.faults.and(c.faults(began[i], ended[i]))
			}
			verdicts = append(verdicts, v)
		}
	}
	return verdicts
}

// TestNeverAnError has two resolvers endure all hazards. BenchmarkAlways has all.
func TestNeverAnError(t *testing.T) {
	t.Parallel()
	for _, v := range endure(t, append(resolvers(false, "unbound", "bind"), ofOwn(false, "unbound")...)) {
		t.Logf("%s: %v", v.row, v.faults)
		if v.faults.any() || v.questions < 10 {
			t.Errorf("%s: %v", v.row, v.faults)
		}
	}
}

// BenchmarkAlways has all resolvers endure all hazards, and fails if a client of one was given an error or nothing.
func BenchmarkAlways(b *testing.B) {
	for _, v := range endure(b, slices.Concat(resolvers(false), resolvers(true), ofOwn(false), ofOwn(true))) {
		b.Run(v.row, func(b *testing.B) {
			b.ReportMetric(0, "ns/op") // that of all hazards says nothing
			v.report(b)
			if v.any() {
				b.Errorf("%v", v.faults)
			}
		})
	}
	b.Logf("load: %s", load())
}
