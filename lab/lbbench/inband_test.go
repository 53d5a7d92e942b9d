package lbbench

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestAgentsAreFasterThanProbes has clients come to four reals: one whose server accepts nothing, one whose server dies, one
// that begins to reset what it accepts, and one that is well. Probes come every 5 s, and have just been there each time.
func TestAgentsAreFasterThanProbes(t *testing.T) {
	t.Parallel()
	const interval = 5 * time.Second
	c := newControl(t, 1, 4, "      probes: [{type: tcp, interval: 5s, timeout: 1s}]\n")
	c.listen("mx1", "mx4")
	c.hang("mx2")
	resets := c.reset("mx3")
	c.up("mx2", "mx3", "lb1")
	c.expectStates([]string{"lb1"}, "mx1 active", "mx2 active", "mx3 active", "mx4 active")
	c.route("lb1")
	for _, name := range []string{"mx1", "mx2", "mx3", "mx4"} {
		eventually(t, "the agent on "+name+" reports", func() bool { return c.real("lb1", name).Flows != nil })
	}
	// out waits until a real is, and sees to it that no probe has had to do with it
	out := func(name string, since time.Time, why ...string) {
		t.Helper()
		eventually(t, name+" is out", func() bool { return c.real("lb1", name).State == "failed" })
		took := time.Since(since)
		r := c.real("lb1", name)
		if !strings.HasPrefix(r.Why, "agent: ") || !strings.Contains(r.Why, why[0]) && !strings.Contains(r.Why, why[len(why)-1]) {
			t.Errorf("%s is out because %q, want an agent that says %q", name, r.Why, why)
		}
		if p := c.probe(name); p.At.After(since) || p.Last != "ok" {
			t.Errorf("a probe of %s was there at %v and found %s, %v after that", name, p.At, p.Last, p.At.Sub(since))
		}
		if took > interval/2 {
			t.Errorf("%s was out after %v, where probes come every %v", name, took, interval)
		}
		t.Logf("%s was out after %v: %s", name, took.Round(time.Millisecond), r.Why)
	}

	c.justProbed("mx2")
	began := time.Now()
	c.ask()
	out("mx2", began, "accept queue overflow", "without answer")
	c.justProbed("mx1")
	died := time.Now()
	c.servers["mx1"].stop()
	out("mx1", died, "refused ")
	if out := c.mustRun("lb1", "show", "real"); !strings.Contains(out, "agent: refused ") {
		t.Errorf("show real does not say why:\n%s", out)
	}
	c.expectStates([]string{"lb1"}, "mx3 active", "mx4 active")

	c.justProbed("mx3")
	turn := c.probe("mx3").At
	resets.Store(true)
	eventually(t, "another probe of mx3", func() bool { return c.probe("mx3").At.After(turn) })
	if early := c.probe("mx3").At.Sub(turn); early > interval-time.Second {
		t.Errorf("while mx3 resets connections its next probe came after %v, want it before its turn", early)
	}
	c.expectStates([]string{"lb1"}, "mx4 active")
}

// probe gives the row of a real's only probe.
func (c *control) probe(real string) probeRow {
	p, _ := row(show[probeRow](c, "lb1", "probe"), func(p probeRow) bool { return p.Real == real })
	return p
}

// justProbed waits until reals have been probed, so that the next probe is far.
func (c *control) justProbed(reals ...string) {
	c.t.Helper()
	for _, name := range reals {
		eventually(c.t, name+" has just been probed", func() bool { return time.Since(c.probe(name).At) < time.Second })
	}
}

// ask has clients come until the test ends, whatever becomes of them.
func (c *control) ask() {
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	c.t.Cleanup(func() { cancel(); asking.Wait() })
	for range 4 {
		asking.Go(func() {
			c.client.Do(func() error {
				d := net.Dialer{Timeout: 200 * time.Millisecond, Control: resetOnClose}
				for tick := time.NewTicker(10 * time.Millisecond); ; {
					if conn, err := d.DialContext(ctx, "tcp4", vipTarget); err == nil {
						conn.Close()
					}
					select {
					case <-ctx.Done():
						tick.Stop()
						return nil
					case <-tick.C:
					}
				}
			})
		})
	}
}

// listener25 listens on port 25 of a host until the test ends.
func (c *control) listener25(host string) *net.TCPListener {
	c.t.Helper()
	var ln *net.TCPListener
	c.hosts[host].Do(func() (err error) {
		ln, err = net.ListenTCP("tcp4", &net.TCPAddr{Port: 25})
		return err
	})
	c.t.Cleanup(func() { ln.Close() })
	return ln
}

// hang listens on a host and accepts nothing.
func (c *control) hang(host string) {
	c.t.Helper()
	raw, err := c.listener25(host).SyscallConn()
	check(c.t, err)
	var listens error
	check(c.t, raw.Control(func(fd uintptr) { listens = syscall.Listen(int(fd), 8) })) // a second listen changes the queue
	check(c.t, listens)
}

// reset listens on a host, and resets what it accepts once it is told to.
func (c *control) reset(host string) *atomic.Bool {
	c.t.Helper()
	ln, now := c.listener25(host), &atomic.Bool{}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			if now.Load() {
				_ = conn.SetLinger(0) // an end of the connection in between does the same
			}
			conn.Close()
		}
	})
	c.t.Cleanup(func() { ln.Close(); serving.Wait() })
	return now
}
