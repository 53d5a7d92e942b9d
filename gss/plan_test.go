package gss

import (
	"context"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/gss/decide"
	"anycastle/internal/mesh"
	"anycastle/internal/probe"
)

const south = "203.0.113.77"

// withSouth is the config of a probing GSS with a third answer, whose probe may think for so long.
func withSouth(p *probing, timeout time.Duration) Config {
	cfg := mustDecode(p.t, nodeFile)
	cfg.StateDir = p.engine.next.config.StateDir
	cfg.Answers[0].Addresses = cfg.Answers[0].Addresses[:1]
	more := cfg.Answers[1]
	more.Name, more.Site, more.Addresses = "smtp-south", "south", []netip.Addr{netip.MustParseAddr(south)}
	of := more.Probes[0]
	of.Interval, of.Timeout = timeout, timeout
	more.Probes = []probe.Config{of}
	cfg.Answers = append(cfg.Answers, more)
	return cfg
}

// An answer that a reload brings holds up no decision about the others, however long its first probe takes.
func TestNewAnswerThatIsProbedSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.after(2 * time.Second)
		p.sites.mu.Lock()
		p.sites.slow = south
		p.sites.mu.Unlock()
		if err := p.Reload(withSouth(p, time.Minute)); err != nil {
			t.Fatal(err)
		}
		p.after(time.Second)
		const waits = "waits for the first result of tcp 203.0.113.77:25; until then the former config is decided by"
		if a := p.Answers()[2]; a.Why != waits || a.Place != "" {
			t.Errorf("the new answer is %q: %s", a.Place, a.Why)
		}
		p.sites.set(east)
		p.after(1500 * time.Millisecond)
		if got := p.ask(); got != west {
			t.Errorf("east is out, and the answer is %s", got)
		}
		p.after(time.Minute)
		if a := p.Answers()[2]; a.Place != decide.Serving {
			t.Errorf("once probed the new answer is %q: %s", a.Place, a.Why)
		}
	})
}

// What cannot be probed at all counts as out after a while.
func TestAnswerThatCannotBeProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.after(2 * time.Second)
		p.sites.fail(south, syscall.EMFILE)
		if err := p.Reload(withSouth(p, 500*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		former := p.engine.current.Load().serving
		p.after(leastWait - 100*time.Millisecond)
		if p.engine.current.Load().serving != former {
			t.Error("the new config is decided by before its answers are probed")
		}
		p.after(200 * time.Millisecond)
		const why = "was never probed: tcp 203.0.113.77:25: too many open files"
		a := p.Answers()[2]
		if _, told := p.views(a.Name); a.Place != decide.Out || !strings.Contains(a.Why, why) || told != decide.NoView {
			t.Errorf("the new answer is %q: %s; others are told %q", a.Place, a.Why, told)
		}
		const want = `level=WARN msg="answer not probed in time" answer=smtp-south counts_as=failing cause="tcp 203.0.113.77:25: too many`
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("the log\n%s\nhas no line %s", p.log, want)
		}
		p.sites.fail(south, nil)
		p.after(time.Second)
		if a = p.Answers()[2]; a.Place == decide.Out {
			t.Errorf("probed at last it is still %q: %s", a.Place, a.Why)
		}
	})
}

// A start does not wait for ever either.
func TestStartWithAnAnswerThatCannotBeProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbing(t, nil)
		p.sites.fail(west, syscall.EAGAIN)
		p.run()
		defer p.end()
		p.after(time.Second)
		const others = "the first round of probes has not ended: it waits for smtp-west"
		const own = "waits for the first result of tcp 203.0.113.210:25: resource temporarily unavailable"
		if a := p.Answers(); p.engine.current.Load() != nil || a[0].Why != others || a[1].Why != own {
			t.Errorf("after a second the answers are %+v", a)
		}
		p.after(leastWait)
		if got := p.ask(); got != east || p.Answers()[1].Place != decide.Out {
			t.Errorf("after %v the answer is %s, and west %s", leastWait, got, p.Answers()[1].Place)
		}
	})
}

// While a new config waits for its first probes, what it has changed or left out goes on being probed and answered.
func TestFormerConfigGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.after(2 * time.Second)
		p.sites.fail("203.0.113.111", syscall.EMFILE)
		cfg := mustDecode(t, strings.NewReplacer(east, "203.0.113.111", "      near: [{sources: branch, sites: [west]}]\n", "",
			"balance: nearest", "balance: ordered").Replace(nodeFile))
		cfg.StateDir = p.engine.next.config.StateDir
		cfg.Answers[0].Addresses = cfg.Answers[0].Addresses[:1]
		if err := p.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		p.after(time.Second)
		if got := p.ask(); got != east || len(p.Rules()) != 4 {
			t.Errorf("the new address is not probed yet, and the answer is %s by %d rules", got, len(p.Rules()))
		}
		p.sites.set(east)
		p.after(1500 * time.Millisecond)
		if got := p.ask(); got != west {
			t.Errorf("the old address is out, and the answer is %s", got)
		}
		p.sites.fail("203.0.113.111", nil)
		p.after(15 * time.Second)
		if got := p.ask(); got != "203.0.113.111" {
			t.Errorf("the new address passes, and the answer is %s", got)
		}
	})
}

// An error of this machine's own, such as too few descriptors, is no sign that the answer is out; nor that it is not.
func TestErrorsOfThisMachineCastNoDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.after(2 * time.Second)
		p.sites.fail(east, syscall.ENOBUFS)
		p.after(2 * time.Second)
		a := p.Answers()[0]
		if len(a.Votes.Doubt) > 0 || a.Place != decide.Serving || a.Probes[0].Why != "no buffer space available" {
			t.Errorf("the answer is %+v", a)
		}
		p.sites.fail(east, nil)
		p.sites.set(east)
		p.after(500 * time.Millisecond)
		p.sites.fail(east, syscall.ENOBUFS)
		p.after(500 * time.Millisecond)
		p.engine.mu.Lock()
		defer p.engine.mu.Unlock()
		if seen := p.engine.watched["smtp-east"].seen(); !seen.Failed || seen.Why != "tcp 203.0.113.110:25: no route to host" {
			t.Errorf("a probe has failed, and one could not be made: %+v", seen)
		}
	})
}

// While the replies of a decision are made ready, probe results are taken, and the others hear that this GSS lives.
func TestReplyMakingHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbing(t, nil, func(c *Config) {
			c.Mesh = &mesh.Config{Listen: netip.MustParseAddrPort("198.51.100.7:7946"), Key: make(mesh.Key, 32)}
		})
		making, made := make(chan struct{}), make(chan struct{})
		p.engine.build = func(ctx context.Context, from *serving, d decide.Decision) (*snapshot, error) {
			if d.Generation == 2 {
				close(making)
				<-made
			}
			return newSnapshot(ctx, from, d)
		}
		p.run()
		defer p.end()
		p.after(2 * time.Second)
		p.sites.set(east)
		<-making
		done := func() (probed time.Time, told int64) {
			p.engine.mu.Lock()
			defer p.engine.mu.Unlock()
			return p.engine.watched["smtp-west"].targets[0].last, p.engine.number
		}
		probed, told := done()
		p.after(5 * time.Second)
		later, now := done()
		if later.Sub(probed) < 4*time.Second || now < told+9 || p.ask() != east {
			t.Errorf("in 5s the last probe moved by %v, %d were told, and the answer is %s", later.Sub(probed), now-told, p.ask())
		}
		close(made)
		synctest.Wait()
		if got := p.ask(); got != west {
			t.Errorf("then the answer is %s", got)
		}
	})
}

// The last first result that was awaited wakes who waits for it, though the answer is known to fail before it.
func TestLastFirstResultOfAnAnswerThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbing(t, nil, func(c *Config) {
			c.Answers[0].Addresses = []netip.Addr{netip.MustParseAddr(east), netip.MustParseAddr("203.0.113.111")}
			for i := range c.Answers {
				c.Answers[i].Probes[0].Interval, c.Answers[i].Probes[0].Timeout = 5*time.Second, 4*time.Second
			}
		})
		p.sites.set(east)
		p.sites.slow = "203.0.113.111" // takes 2s
		p.run()
		defer p.end()
		p.after(3 * time.Second)
		if p.engine.current.Load() == nil {
			t.Errorf("all was probed, and nothing is answered: %+v", p.Answers())
		}
	})
}
