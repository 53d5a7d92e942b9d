package rhi

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
	"anycastle/rhi/bfd"
)

// rounds is how often an event is measured.
const rounds = 20

// fastBFD is the interval of BFD where it is measured.
const fastBFD = 100 * time.Millisecond

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

// newBenchRouter starts a router, frr or bird, and the node with its session, and with BFD if the interval is not 0.
func newBenchRouter(t testing.TB, name string, family Family, interval time.Duration, multiplier int) *benchRouter {
	t.Helper()
	lb, ns := newNode(t, "lb"), netnstest.New(t)
	ends, six := dualLink(t, lb, ns, 1)
	if family == IPv6 {
		ends = six
	}
	r := &benchRouter{lb: lb}
	asn, more := 65002, ""
	if interval > 0 {
		more = fmt.Sprintf(", bfd: {interval: %v, multiplier: %d}", interval, multiplier)
	}
	if name == "frr" {
		asn, more = 65001, strings.Replace(more, "bfd: {", fmt.Sprintf("bfd: {multihop: true, local: %q, ", ends[0]), 1)
		r.router = newFRR(t, ns, name, frrWithBFD(ends[0], interval, multiplier), "bfdd")
	} else {
		r.router = newBIRD(t, ns, name, birdWithBFD(ends[0], interval, multiplier))
	}
	r.text = fmt.Sprintf(`
rhi:
  asn: 65011
  router_id: 198.51.100.11
  neighbors: [{name: router, address: %q, asn: %d, password: secret%s}]
`, ends[1], asn, more)
	r.start()
	return r
}

func (r *benchRouter) start() {
	r.lb.t.Helper()
	r.lb.start(r.text)
	eventually(r.lb.t, "session up", soon, r.up)
}

// up says whether BGP is, and BFD where there is some.
func (r *benchRouter) up() bool {
	for _, s := range r.lb.bfd() {
		if s.State != bfd.Up {
			return false
		}
	}
	return r.lb.up("router")
}

// BenchmarkRHI gives how long after an event the kernel of a router of others has another route: median and worst of some
// rounds. The events are those that a balancer meets: it announces, withdraws, is killed; its link loses all packets without
// a sign, and passes them again after two seconds.
func BenchmarkRHI(b *testing.B) {
	for _, name := range []string{"bird", "frr"} {
		for _, e := range []struct {
			name  string
			bfd   time.Duration // its interval; 0: none
			round func(r *benchRouter, n *routeNews) time.Duration
		}{
			{"announce", 0, func(r *benchRouter, n *routeNews) time.Duration {
				began := time.Now()
				r.lb.set(vip)
				took := n.after(n.set, began)
				r.lb.set()
				n.after(n.remove, began)
				return took
			}},
			{"withdraw", 0, func(r *benchRouter, n *routeNews) time.Duration {
				began := time.Now()
				r.lb.set(vip)
				n.after(n.set, began)
				time.Sleep(200 * time.Millisecond) // the router is at rest
				began = time.Now()
				r.lb.set()
				return n.after(n.remove, began)
			}},
			{"kill-9", 0, func(r *benchRouter, n *routeNews) time.Duration {
				began := time.Now()
				r.lb.set(vip)
				n.after(n.set, began)
				began = time.Now()
				r.lb.end(syscall.SIGKILL)
				took := n.after(n.remove, began)
				r.start()
				return took
			}},
			{"silent-loss/bfd=100ms*3", fastBFD, func(r *benchRouter, n *routeNews) time.Duration {
				lost, _ := r.cut(n)
				return lost
			}},
			{"healed/bfd=100ms*3", fastBFD, func(r *benchRouter, n *routeNews) time.Duration {
				_, back := r.cut(n)
				return back
			}},
		} {
			b.Run(e.name+"/peer="+name, func(b *testing.B) {
				r := newBenchRouter(b, name, IPv4, e.bfd, 3)
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

// cut has the link lose everything for two seconds, and gives how long after that the route was gone, and after the end of it
// back.
func (r *benchRouter) cut(n *routeNews) (lost, back time.Duration) {
	began := time.Now()
	r.lb.set(vip)
	if r.router.kernelHop(vip) == "" {
		n.after(n.set, began)
	}
	eventually(r.lb.t, "sessions up", soon, r.up)
	time.Sleep(500 * time.Millisecond) // both ends are at rest
	began = time.Now()
	heal := r.lb.deafen()
	lost = n.after(n.remove, began)
	time.Sleep(2 * time.Second)
	began = time.Now()
	heal()
	return lost, n.after(n.set, began)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
