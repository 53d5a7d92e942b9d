package gss

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/gss/balancer"
	"anycastle/gss/decide"
	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/internal/vipreport"
)

// lbs are balancers that a Set dials without TLS.
type lbs struct {
	mu    sync.Mutex
	conns map[netip.AddrPort]net.Conn // the balancers' ends
	dead  map[netip.AddrPort]bool
}

func (l *lbs) dial(_ context.Context, to netip.AddrPort) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead[to] {
		return nil, errors.New("no route to host")
	}
	here, there := net.Pipe()
	l.conns[to] = there
	return here, nil
}

var (
	lb1 = netip.MustParseAddrPort("198.51.100.1:6088")
	lb2 = netip.MustParseAddrPort("198.51.100.3:6088")
)

// told is a GSS that probes, and whose balancers tell of east.
type told struct {
	*probing
	lbs  *lbs
	end  func()
	stop map[netip.AddrPort]func() // of each balancer's signs of life
}

// startTold runs one in a synctest bubble.
func startTold(t *testing.T, settings ...func(*Config)) *told {
	t.Helper()
	d := &told{lbs: &lbs{conns: map[netip.AddrPort]net.Conn{}, dead: map[netip.AddrPort]bool{}}, stop: map[netip.AddrPort]func(){}}
	d.probing = newProbing(t, d.lbs.dial, func(c *Config) {
		files := mtlstest.NewCA(t).Node(t, "gss")
		c.TLS = &files
		c.Balancers = []balancer.Balancer{{Name: "lb1", Site: "east", Address: lb1}, {Name: "lb2", Site: "east", Address: lb2}}
		for i := range c.Answers {
			c.Answers[i].FailBack = 0
		}
		for _, set := range settings {
			set(c)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.engine.tellers.run(ctx) })
	d.run()
	d.end = sync.OnceFunc(func() {
		for _, stop := range d.stop {
			stop()
		}
		cancel()
		wg.Wait()
		d.probing.end()
	})
	synctest.Wait()
	return d
}

// smtp is how the VIP of the answer smtp-east stands.
func smtp(change func(*vipreport.VIP)) vipreport.VIP {
	v := vipreport.VIP{
		Name: "smtp", Address: netip.MustParseAddr(east), Protocol: "tcp", Port: "25", State: vipreport.Active, InService: 2, Reals: 2,
		Flows: 100, Capacity: 1000, Route: vipreport.RouteAnnounced,
	}
	change(&v)
	return v
}

func failed(v *vipreport.VIP)   { v.State, v.Why, v.InService = vipreport.Failed, "no real", 0 }
func active(*vipreport.VIP)     {}
func draining(v *vipreport.VIP) { v.Draining = true }
func flows(n int) func(v *vipreport.VIP) {
	return func(v *vipreport.VIP) { v.Flows = n }
}

// says has a balancer say how its VIP stands, at once and each second.
func (d *told) says(lb netip.AddrPort, change func(*vipreport.VIP)) {
	d.t.Helper()
	if stop := d.stop[lb]; stop != nil {
		stop()
	}
	r := vipreport.Report{Since: clock, Expires: 3 * time.Second, Whole: true, VIPs: []vipreport.VIP{smtp(change)}}
	lines, err := r.Lines()
	if err != nil {
		d.t.Fatal(err)
	}
	d.lbs.mu.Lock()
	conn := d.lbs.conns[lb]
	d.lbs.mu.Unlock()
	ctx, cancel := context.WithCancel(d.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for tick := time.NewTicker(vipreport.Beat); ; {
			conn.SetWriteDeadline(time.Now().Add(time.Second))
			conn.Write(lines)
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	})
	d.stop[lb] = func() { cancel(); wg.Wait() }
	synctest.Wait()
}

// dies ends a balancer without a word.
func (d *told) dies(lb netip.AddrPort) {
	d.stop[lb]()
	d.lbs.mu.Lock()
	defer d.lbs.mu.Unlock()
	d.lbs.dead[lb] = true
	d.lbs.conns[lb].Close()
}

func (d *told) expect(what string, place decide.Place) {
	d.t.Helper()
	synctest.Wait()
	a := d.Answers()[0]
	want := map[bool]string{true: east, false: west}[place == decide.Serving]
	if got := d.ask(); a.Place != place || got != want {
		d.t.Errorf("%s: smtp-east is %s (%s) and the answer %s, want %s and %s", what, a.Place, a.Why, got, place, want)
	}
}

func TestBalancersWordAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startTold(t)
		defer d.end()
		d.says(lb1, active)
		d.says(lb2, active)
		d.after(2 * time.Second)
		d.expect("at first", decide.Serving)
		d.says(lb1, failed)
		d.says(lb2, failed)
		d.after(time.Hour)
		d.expect("with probes that pass for an hour", decide.Serving)
		a := d.Answers()[0]
		if len(a.Reports) != 2 || a.Reports[0].From != "lb1" || a.Reports[0].State != "out" || a.Reports[0].Why != "failed: no real" || !a.Reports[0].Fresh {
			t.Errorf("reports %+v", a.Reports)
		}
		if other := d.Answers()[1]; len(other.Reports) > 0 {
			t.Errorf("the other site has the reports %+v", other.Reports)
		}
	})
}

// TestBalancersWordAndAProbe measures how fast an answer is out, in either order of the two witnesses, with probes that are far
// apart: the one that has to agree is made at once.
func TestBalancersWordAndAProbe(t *testing.T) {
	slow := func(c *Config) {
		for i := range c.Answers {
			p := &c.Answers[i].Probes[0]
			p.Interval, p.Timeout, p.Fail = 10*time.Second, 400*time.Millisecond, 5
		}
	}
	t.Run("the balancers first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := startTold(t, slow)
			defer d.end()
			d.says(lb1, active)
			d.says(lb2, active)
			d.after(100 * time.Second)
			d.expect("at first", decide.Serving)
			d.sites.set(east)
			d.after(100 * time.Millisecond)
			d.says(lb1, failed)
			d.after(100 * time.Millisecond)
			d.expect("with a balancer that has it in service", decide.Serving)
			d.says(lb2, failed)
			d.after(time.Millisecond)
			d.expect("a millisecond later", decide.Out)
			d.says(lb2, active)
			d.expect("with one balancer that takes it back", decide.Serving)
		})
	})
	t.Run("the probe first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := startTold(t, slow)
			defer d.end()
			d.says(lb1, active)
			d.says(lb2, active)
			d.after(100 * time.Second)
			d.sites.set(east)
			d.after(11 * time.Second)
			d.expect("with one failed probe of five that count", decide.Serving)
			d.says(lb1, failed)
			d.says(lb2, failed)
			d.expect("at once", decide.Out)
		})
	})
}

// TestBalancerThatDies: its report ages, and its silence means nothing.
func TestBalancerThatDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startTold(t)
		defer d.end()
		d.says(lb1, flows(400))
		d.says(lb2, flows(400))
		d.after(2 * time.Second)
		headroom := func(want string) {
			t.Helper()
			got := "none"
			if h := d.Answers()[0].Headroom; h != nil {
				got = fmt.Sprintf("%.1f", *h)
			}
			if got != want {
				t.Errorf("headroom is %s, want %s", got, want)
			}
		}
		headroom("0.6")
		d.says(lb2, failed) // and so says that half is lost, before it dies
		d.dies(lb2)
		d.dies(lb1)
		d.after(2 * time.Second)
		headroom("0.6")
		d.expect("while what they said counts", decide.Serving)
		d.after(1500 * time.Millisecond)
		headroom("none")
		d.expect("when it counts no more", decide.Serving)
		d.after(time.Hour)
		d.expect("an hour later", decide.Serving)
		if b := d.Balancers()[0]; b.Heard || b.Name != "lb1" || b.Err != "no route to host" || b.VIPs != 1 {
			t.Errorf("balancer %+v", b)
		}
		if r := d.Answers()[0].Reports; len(r) != 2 || r[0].Fresh {
			t.Errorf("reports %+v", r)
		}
		if err := testutil.GatherAndCompare(d.reg, strings.NewReader(`
# HELP anycastle_gss_balancer_connected 1 while the balancer is heard.
# TYPE anycastle_gss_balancer_connected gauge
anycastle_gss_balancer_connected{balancer="lb1"} 0
anycastle_gss_balancer_connected{balancer="lb2"} 0
`), "anycastle_gss_balancer_connected"); err != nil {
			t.Error(err)
		}
		d.sites.set(east)
		d.after(2 * time.Second)
		d.expect("when probes fail", decide.Out)
	})
}

func TestBalancersDrainAndAreFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startTold(t)
		defer d.end()
		d.says(lb1, active)
		d.says(lb2, active)
		d.after(time.Second)
		d.says(lb1, draining)
		d.expect("with one that drains", decide.Serving)
		d.says(lb2, draining)
		d.expect("with both draining", decide.Draining)
		d.says(lb1, active)
		d.says(lb2, active)
		d.expect("and no more", decide.Serving)
		d.says(lb1, flows(990))
		d.expect("half full", decide.Serving)
		d.says(lb2, flows(900))
		d.expect("full", decide.Hot)
		d.says(lb1, flows(700))
		d.expect("between the limits", decide.Hot)
		d.says(lb2, flows(700))
		d.expect("below both", decide.Serving)
	})
}

// TestReloadOfBalancers takes a balancer out of the config, and what it said with it.
func TestReloadOfBalancers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startTold(t)
		defer d.end()
		d.says(lb1, active)
		d.says(lb2, draining)
		d.after(time.Second)
		d.expect("at first", decide.Serving)
		cfg := d.engine.serving().config
		cfg.Balancers = cfg.Balancers[1:]
		if err := d.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		d.after(time.Second)
		d.expect("without the one that serves", decide.Draining)
		cfg = d.engine.serving().config
		cfg.Answers = slices.Clone(cfg.Answers)
		cfg.Answers[0].VIP = "imap"
		if err := d.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		d.after(time.Second)
		d.expect("as another VIP", decide.Serving)
	})
}

// TestBalancerOverTLS runs a whole GSS on loopback, with a balancer that proves itself.
func TestBalancerOverTLS(t *testing.T) {
	ca := mtlstest.NewCA(t)
	eastSite, westSite := newSite(t, "127.0.0.1"), newSite(t, "127.0.0.2")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	on, err := mtls.Load(ca.Node(t, "lb1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	says := make(chan vipreport.VIP)
	var serving sync.WaitGroup
	serving.Go(func() {
		raw, err := ln.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		conn := tls.Server(raw, vipreport.Offer(on.Server()))
		for v := range says {
			v.Address = netip.MustParseAddr("127.0.0.1")
			r := vipreport.Report{Since: clock, Expires: time.Minute, Whole: true, VIPs: []vipreport.VIP{v}}
			if lines, err := r.Lines(); err == nil {
				_, err = conn.Write(lines)
				if err != nil {
					return
				}
			}
		}
	})
	defer serving.Wait()
	defer close(says)
	defer ln.Close()
	r := startRunning(t, portOf(eastSite), portOf(westSite), func(c *Config) {
		files := ca.Node(t, "gss")
		c.TLS, c.Load.Fresh = &files, time.Minute
		c.Balancers = []balancer.Balancer{{Name: "lb1", Site: "east", Address: netip.MustParseAddrPort(ln.Addr().String())}}
		for i := range c.Answers {
			p := &c.Answers[i].Probes[0]
			p.Interval, p.Timeout, p.Fail = 10*time.Second, time.Second, 5
		}
	})
	says <- smtp(active)
	waitFor(t, "the balancer's report", func() bool { return len(r.Answers()[0].Reports) == 1 })
	if b := r.Balancers(); len(b) != 1 || !b[0].Heard || b[0].VIPs != 1 {
		t.Errorf("balancers %+v", b)
	}
	waitFor(t, "east", func() bool { return r.ask(t, "udp") == "NOERROR 127.0.0.1" })
	eastSite.Close()
	begin := time.Now()
	says <- smtp(failed)
	waitFor(t, "west", func() bool { return r.ask(t, "udp") == "NOERROR 127.0.0.2" })
	took := time.Since(begin)
	t.Logf("out after %v", took)
	if took > time.Second {
		t.Errorf("a site that its balancer calls out, and a probe finds dead, is given for %v more", took)
	}
}
