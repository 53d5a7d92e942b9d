package balancer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/gss/decide"
	"anycastle/internal/probe"
)

func agentConfig(every time.Duration) *probe.Config {
	p := &probe.Config{}
	p.SetDefaults()
	p.Type, p.Interval, p.Timeout = "agent-check", every, every/2
	return p
}

func TestWhatAnAgentSays(t *testing.T) {
	at := netip.MustParseAddrPort("198.51.100.40:5025")
	for name, tc := range map[string]struct {
		advice probe.Advice
		want   decide.Report
	}{
		"at first":    {probe.Advice{Weight: 100}, decide.Report{Capacity: 100}},
		"less weight": {probe.Advice{Weight: 75, Admin: probe.AdminReady}, decide.Report{Used: 25, Capacity: 100}},
		"more weight": {probe.Advice{Weight: 300}, decide.Report{Capacity: 100}},
		"no weight":   {probe.Advice{}, decide.Report{Used: 100, Capacity: 100, Draining: true}},
		"drain":       {probe.Advice{Weight: 100, Admin: probe.AdminDrain}, decide.Report{Capacity: 100, Draining: true}},
		"maint":       {probe.Advice{Weight: 100, Admin: probe.AdminMaint}, decide.Report{Capacity: 100, Draining: true, Out: true, Why: "maint"}},
		"down":        {probe.Advice{Weight: 100, Down: "down (disk)"}, decide.Report{Capacity: 100, Out: true, Why: "down (disk)"}},
	} {
		s := said{agent: Agent{Answer: "a", Address: at}, advice: tc.advice, at: start}
		tc.want.From, tc.want.At = "agent 198.51.100.40:5025", start
		if diff := cmp.Diff(tc.want, s.report()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestAgents asks real sockets.
func TestAgents(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	line := "up 40%"
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			fmt.Fprintln(c, line)
			mu.Unlock()
			c.Close()
		}
	})
	changed := make(chan struct{}, 100)
	a := NewAgents(nil, func() { changed <- struct{}{} })
	at := netip.MustParseAddrPort(ln.Addr().String())
	if err := a.SetAgents([]Agent{{"smtp", at, agentConfig(40 * time.Millisecond)}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { a.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	next := func() decide.Report {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatal("no change was told")
		}
		return a.Reports()["smtp"][0]
	}
	if r := next(); r.Used != 60 || r.Capacity != 100 || r.Out {
		t.Errorf("at first %+v", r)
	}
	mu.Lock()
	line = "down #disk"
	mu.Unlock()
	if r := next(); !r.Out || r.Why != "down (disk)" || len(a.Silent()) > 0 {
		t.Errorf("down %+v, silent %v", r, a.Silent())
	}
	ln.Close()
	serving.Wait()
	for len(a.Silent()) == 0 {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-changed:
			t.Error("that it does not answer is told as a change")
		}
	}
	last := a.Reports()["smtp"][0]
	if !last.Out || time.Since(last.At) > 10*time.Second {
		t.Errorf("when it does not answer %+v", last)
	}
}

// TestAgentsAge has an agent fall silent: what it said last stays, with its time.
func TestAgentsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var fail error
		a := NewAgents(func(_ context.Context, _ probe.Target, said *probe.Advice) error {
			mu.Lock()
			defer mu.Unlock()
			if fail == nil {
				said.Weight = 10
			}
			return fail
		}, func() {})
		agent := Agent{"smtp", netip.MustParseAddrPort("198.51.100.40:5025"), agentConfig(time.Second)}
		if err := a.SetAgents([]Agent{agent}); err != nil {
			t.Fatal(err)
		}
		if len(a.Reports()) > 0 {
			t.Error("one that was not asked yet reports")
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { a.Run(ctx) })
		<-time.After(5500 * time.Millisecond)
		last := a.Reports()["smtp"][0].At
		if age := time.Since(last); age > time.Second || age < 0 {
			t.Errorf("it is %v old", age)
		}
		mu.Lock()
		fail = errors.New("connection refused")
		mu.Unlock()
		<-time.After(time.Minute)
		if r := a.Reports()["smtp"][0]; !r.At.Equal(last) || r.Used != 90 || a.Silent()["smtp"] == nil {
			t.Errorf("a minute later %+v, silent %v", r, a.Silent())
		}
		if err := a.SetAgents([]Agent{agent}); err != nil || len(a.Reports()) != 1 {
			t.Errorf("set again, %v: %+v", err, a.Reports())
		}
		agent.Address = netip.MustParseAddrPort("198.51.100.41:5025")
		if err := a.SetAgents([]Agent{agent}); err != nil || len(a.Reports()) != 0 {
			t.Errorf("another reports %v: %+v", err, a.Reports())
		}
		cancel()
		wg.Wait()
	})
}
