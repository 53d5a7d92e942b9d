package rhi

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// rounds is how often an event is measured.
const rounds = 20

// routeNews tells when the kernel of a namespace sets and removes the route to a prefix.
type routeNews struct {
	t      testing.TB
	set    chan time.Time
	remove chan time.Time
}

func (f *foreign) routeNews(prefix string) *routeNews {
	f.t.Helper()
	n := &routeNews{f.t, make(chan time.Time, 64), make(chan time.Time, 64)}
	news, done := make(chan netlink.RouteUpdate, 64), make(chan struct{})
	f.ns.Do(func() error { return netlink.RouteSubscribe(news, done) })
	ended := make(chan struct{})
	go func() { // ends when the subscription does
		defer close(ended)
		for u := range news {
			if u.Dst == nil || u.Dst.String() != prefix {
				continue
			}
			to := n.set
			if u.Type == unix.RTM_DELROUTE {
				to = n.remove
			}
			select {
			case to <- time.Now():
			default: // nobody waits for it
			}
		}
	}()
	f.t.Cleanup(func() { close(done); <-ended })
	return n
}

// after gives how long after a moment the next news came.
func (n *routeNews) after(news chan time.Time, since time.Time) time.Duration {
	n.t.Helper()
	for {
		select {
		case at := <-news:
			if d := at.Sub(since); d >= 0 {
				return d
			}
		case <-time.After(soon):
			n.t.Fatal("no news of the route")
		}
	}
}

// benchRouter is a node with one router of others.
type benchRouter struct {
	lb     *node
	router *foreign
	text   string
}

var benchRouters = map[string]func(t testing.TB, ns *netnstest.NS, node string) *foreign{
	"frr": func(t testing.TB, ns *netnstest.NS, node string) *foreign {
		return newFRR(t, ns, "frr", frrConfig(node, "secret"))
	},
	"bird": func(t testing.TB, ns *netnstest.NS, node string) *foreign {
		return newBIRD(t, ns, "bird", birdConfig(node, "secret"))
	},
}

func newBenchRouter(t testing.TB, name string) *benchRouter {
	t.Helper()
	lb, ns := newNode(t, "lb"), netnstest.New(t)
	four, _ := dualLink(t, lb, ns, 1)
	asn := map[string]int{"frr": 65001, "bird": 65002}[name]
	r := &benchRouter{lb: lb, router: benchRouters[name](t, ns, four[0]), text: fmt.Sprintf(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  neighbors: [{name: router, address: %s, asn: %d, password: secret}]
`, four[1], asn)}
	r.start()
	return r
}

func (r *benchRouter) start() {
	r.lb.t.Helper()
	r.lb.start(r.text)
	eventually(r.lb.t, "session up", soon, func() bool { return r.lb.up("router") })
}

// BenchmarkRHI gives how long after an event the kernel of a router of others has another route: median and worst of some
// rounds. The events are those that a balancer meets: it announces, withdraws, is killed.
func BenchmarkRHI(b *testing.B) {
	for _, name := range []string{"bird", "frr"} {
		for _, e := range []struct {
			name  string
			round func(r *benchRouter, n *routeNews) time.Duration
		}{
			{"announce", func(r *benchRouter, n *routeNews) time.Duration {
				began := time.Now()
				r.lb.set(vip)
				took := n.after(n.set, began)
				r.lb.set()
				n.after(n.remove, began)
				return took
			}},
			{"withdraw", func(r *benchRouter, n *routeNews) time.Duration {
				began := time.Now()
				r.lb.set(vip)
				n.after(n.set, began)
				time.Sleep(200 * time.Millisecond) // the router is at rest
				began = time.Now()
				r.lb.set()
				return n.after(n.remove, began)
			}},
			{"kill-9", func(r *benchRouter, n *routeNews) time.Duration {
				began := time.Now()
				r.lb.set(vip)
				n.after(n.set, began)
				began = time.Now()
				r.lb.end(syscall.SIGKILL)
				took := n.after(n.remove, began)
				r.start()
				return took
			}},
		} {
			b.Run(e.name+"/peer="+name, func(b *testing.B) {
				r := newBenchRouter(b, name)
				n := r.router.routeNews(vip)
				var took []time.Duration
				for b.Loop() {
					for range rounds {
						took = append(took, e.round(r, n))
					}
				}
				slices.Sort(took)
				b.ReportMetric(0, "ns/op") // that of all rounds says nothing
				b.ReportMetric(milliseconds(took[len(took)/2]), "median_ms")
				b.ReportMetric(milliseconds(took[len(took)-1]), "worst_ms")
				b.ReportMetric(float64(len(took)), "rounds")
			})
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
