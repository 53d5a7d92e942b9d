package gss

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/gss/balancer"
	"anycastle/gss/decide"
	"anycastle/internal/mesh"
	"anycastle/internal/probe"
)

// While a former config is decided by, the others are told at once of what its answers' probes say, and of answers that only the
// newest has; not of what the newest has in the place of an answer.
func TestToldWhileTheFormerIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbing(t, nil, func(c *Config) {
			c.Mesh = &mesh.Config{Listen: netip.MustParseAddrPort("198.51.100.7:7946"), Key: make(mesh.Key, 32)}
		})
		p.run()
		defer p.end()
		p.after(2 * time.Second)
		p.sites.fail(south, syscall.EMFILE) // so that the newest is not decided by
		cfg := withSouth(p, 500*time.Millisecond)
		cfg.Mesh = p.engine.next.config.Mesh
		cfg.Answers[0].Addresses = []netip.Addr{netip.MustParseAddr("203.0.113.111")}
		if err := p.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		p.after(time.Second)
		for _, tc := range []struct {
			name, target string
			state        probe.State
			want         int64 // tellings
		}{
			{"the newest address of an answer", "smtp-east/203.0.113.111:25/0", probe.Failing, 0},
			{"the former", "smtp-east/203.0.113.110:25/0", probe.Failing, 1},
			{"an answer of both", "smtp-west/203.0.113.210:25/0", probe.Failing, 1},
			{"an answer of the newest", "smtp-south/203.0.113.77:25/0", probe.Failing, 1},
		} {
			p.engine.mu.Lock()
			before := p.engine.number
			target := probe.Target{Name: tc.target, Config: &p.engine.next.config.Answers[0].Probes[0]}
			p.engine.mu.Unlock()
			p.engine.report(probe.Result{Target: target, At: time.Now(), State: tc.state, Err: errors.New("no route to host")})
			p.engine.mu.Lock()
			if got := p.engine.number - before; got != tc.want {
				t.Errorf("a result of %s is told %d times, want %d", tc.name, got, tc.want)
			}
			p.engine.mu.Unlock()
		}
	})
}

// While a former config is decided by, its balancers and its load.fresh count, and those of the newest are heard already.
func TestBalancersWhileTheFormerIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startTold(t, func(c *Config) { c.Load.Fresh = time.Minute })
		defer d.end()
		d.says(lb1, draining)
		d.says(lb2, draining)
		d.after(2 * time.Second)
		d.expect("at first", decide.Draining)
		d.sites.fail(south, syscall.EMFILE)
		cfg := withSouth(d.probing, 500*time.Millisecond)
		cfg.TLS = d.engine.next.config.TLS
		cfg.Answers[0].VIP, cfg.Answers[0].FailBack = "imap", 0
		moved := balancer.Balancer{Name: "lb1", Site: "east", Address: netip.MustParseAddrPort("198.51.100.9:6088")}
		cfg.Balancers = []balancer.Balancer{moved}
		if err := d.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		d.says(moved.Address, active)
		d.stop[lb1]() // it was heard within load.fresh
		d.after(4 * time.Second)
		d.expect("by the former balancers", decide.Draining)
		if list := d.Balancers(); len(list) != 2 || list[0].Address != lb1 {
			t.Errorf("the balancers are %+v", list)
		}
		d.after(2 * time.Second)
		d.expect("by the newest", decide.Serving)
		if list := d.Balancers(); len(list) != 1 || list[0].Address != moved.Address || time.Since(list[0].Since) < 5*time.Second {
			t.Errorf("then the balancers are %+v", list)
		}
	})
}
