package gss

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/gss/decide"
	"anycastle/gss/message"
	"anycastle/gss/udp"
	"anycastle/internal/probe"
)

// clock is when tests decide that let no time pass.
var clock = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// passing gives the state of an answer's probes.
func passing(failing []string, answer string) (probe.State, error) {
	if slices.Contains(failing, answer) {
		return probe.Failing, errors.New("no route to host")
	}
	return probe.Passing, nil
}

func faults(d *deciding) float64 { return testutil.ToFloat64(d.metrics.faults) }

// sites is a prober for tests: what is out fails.
type sites struct {
	mu   sync.Mutex
	out  []string // addresses
	slow string   // one whose probe takes a while
	errs map[string]error

	agent func(said *probe.Advice) error // what every agent says
}

func (s *sites) set(out ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = out
}

// fail has the probes of an address fail with an error; nil: they no longer do.
func (s *sites) fail(addr string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = map[string]error{addr: err}
}

func (s *sites) probe(_ context.Context, t probe.Target, said *probe.Advice) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Config.Type == "agent-check" && s.agent != nil {
		return s.agent(said)
	}
	if t.Addr.Addr().String() == s.slow {
		s.mu.Unlock()
		<-time.After(t.Config.Timeout / 2)
		s.mu.Lock()
	}
	if err := s.errs[t.Addr.Addr().String()]; err != nil {
		return err
	}
	if slices.Contains(s.out, t.Addr.Addr().String()) {
		return errors.New("no route to host")
	}
	return nil
}

const (
	east = "203.0.113.110"
	west = "203.0.113.210"
)

// probing is a GSS that probes and decides and does not listen, in a synctest bubble.
type probing struct {
	*GSS
	t     *testing.T
	sites *sites
	log   *bytes.Buffer
	reg   *prometheus.Registry
	end   func()
}

func startProbing(t *testing.T, out ...string) *probing {
	t.Helper()
	p := newProbing(t, nil)
	p.sites.set(out...)
	p.run()
	return p
}

// newProbing makes one that does not run yet.
func newProbing(t *testing.T, dial func(context.Context, netip.AddrPort) (net.Conn, error), settings ...func(*Config)) *probing {
	t.Helper()
	p := &probing{t: t, sites: &sites{}, log: &bytes.Buffer{}, reg: prometheus.NewRegistry()}
	text := slog.NewTextHandler(p.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	cfg := mustDecode(t, nodeFile)
	cfg.Answers[0].Addresses = cfg.Answers[0].Addresses[:1]
	for _, set := range settings {
		set(&cfg)
	}
	var err error
	if p.GSS, err = New(cfg, Options{Log: slog.New(text), Registry: p.reg, Probe: p.sites.probe, dial: dial}); err != nil {
		t.Fatal(err)
	}
	return p
}

// run has it probe, decide and give signs of life until end.
func (p *probing) run() { p.runAs(p.engine.run) }

// runAs has it probe, and do what decide does, until end.
func (p *probing) runAs(decide func(context.Context)) {
	ctx, cancel := context.WithCancel(p.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { p.engine.prober.Run(ctx) })
	wg.Go(func() { decide(ctx) })
	p.end = sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// after lets the bubble's clock run.
func (p *probing) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// slowly has replies take a while to be made.
func slowly(while time.Duration) func(context.Context, *serving, decide.Decision) (*snapshot, error) {
	return func(ctx context.Context, from *serving, d decide.Decision) (*snapshot, error) {
		<-time.After(while)
		return newSnapshot(ctx, from, d)
	}
}

// ask gives the addresses that smtp is answered with.
func (p *probing) ask() string {
	p.t.Helper()
	var m dns.Msg
	wire := p.respond(packed(p.t, question("smtp.mail.example.org.", dns.TypeA)), message.UDP, netip.MustParseAddrPort("198.51.100.99:53"))
	if err := m.Unpack(wire); err != nil {
		p.t.Fatal(err)
	}
	if m.Rcode != dns.RcodeSuccess || !m.Authoritative {
		p.t.Fatalf("reply is\n%v", &m)
	}
	var addrs []string
	for _, rr := range m.Answer {
		addrs = append(addrs, rr.(*dns.A).A.String())
	}
	return strings.Join(addrs, " ")
}

func TestAnswersFollowHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		for i, step := range []struct {
			out   []string
			wait  time.Duration
			want  string
			basis decide.Basis
		}{
			{nil, 300 * time.Millisecond, east, decide.ByHealth},
			{[]string{east}, 500 * time.Millisecond, east, decide.ByHealth}, // one failure of the two that count
			{[]string{east}, 500 * time.Millisecond, west, decide.ByHealth},
			{[]string{east, west}, 1000 * time.Millisecond, west, decide.ByHealth},
			{[]string{east, west}, 500 * time.Millisecond, west, decide.LastGood},
			{[]string{east, west}, time.Hour, west, decide.LastGood},
			{[]string{west}, 2 * time.Second, east, decide.ByWaiting}, // better one that waits to fail back than one that is out
			{[]string{west}, 10 * time.Second, east, decide.ByHealth},
			{nil, time.Minute, east, decide.ByHealth}, // west is back, and not needed
			{[]string{east}, time.Second, west, decide.ByHealth},
			{nil, 9 * time.Second, west, decide.ByHealth}, // east waits
			{nil, 2 * time.Second, east, decide.ByHealth},
		} {
			p.sites.set(step.out...)
			p.after(step.wait)
			r := p.Rules()[1]
			if got := p.ask(); got != step.want || r.Basis != step.basis {
				t.Errorf("step %d, out %v for %v: answer %s by %s (%s); want %s by %s", i, step.out, step.wait, got, r.Basis, r.Why,
					step.want, step.basis)
			}
		}
	})
}

func TestAllOutFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t, east, west)
		defer p.end()
		p.after(2 * time.Second)
		if got := p.ask(); got != east+" "+west {
			t.Errorf("answer is %q, want the whole group", got)
		}
		p.sites.set(east)
		p.after(2 * time.Second)
		if got := p.ask(); got != west {
			t.Errorf("answer is %q, want %q", got, west)
		}
	})
}

func TestStatusLogAndMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t, east)
		defer p.end()
		if r, s := p.Rules()[0], p.Server(); s.Generation != 0 || len(r.Answers) != 0 || r.Why != ErrNotReady.Error() || p.Healthy() == nil {
			t.Errorf("before the first probe the rule is %+v", r)
		}
		start := time.Now().UTC()
		p.after(300 * time.Millisecond)
		p.end()
		a := p.Answers()[0]
		const why = "fails from gss-east (tcp 203.0.113.110:25: no route to host)"
		if a.Place != decide.Out || a.Why != why || a.Since != start || a.Probes[0].Probe != "tcp 203.0.113.110:25" ||
			a.Probes[0].Why != "no route to host" || a.Site != "east" {
			t.Errorf("the answer is %+v", a)
		}
		r := p.Rules()
		if len(r) != 4 || r[1].Why != "clause 1: nearest of group smtp; smtp-east is out ("+why+")" || r[1].Clause != 1 || r[2].Near != "branch" ||
			r[1].Since != start || r[1].TTL != 2 {
			t.Errorf("the rules are %+v", r)
		}
		wantSites := []SiteStatus{{Site: "east", Serving: []string{}, Others: []SiteAnswer{{"smtp-east", decide.Out}}}, {Site: "west", Serving: []string{"smtp-west"}, Others: []SiteAnswer{}}}
		if diff := cmp.Diff(wantSites, p.Sites()); diff != "" {
			t.Errorf("sites (-want +got):\n%s", diff)
		}
		for _, want := range []string{
			`level=INFO msg="probe state changed" answer=smtp-east probe=tcp address=203.0.113.110:25 new=failing cause="no route to host"`,
			`level=INFO msg="answer moved" answer=smtp-east old="" new=out cause="` + why + `"`,
			`level=INFO msg="rule changed its answer" rule=smtp old=[] new=[smtp-west] basis=health generation=1`,
		} {
			if !strings.Contains(p.log.String(), want) {
				t.Errorf("the log\n%s\nhas no line %s", p.log, want)
			}
		}
		p.ask()
		p.respond([]byte("short"), message.TCP, netip.AddrPort{})
		wantMetrics := `
# HELP anycastle_gss_dropped_total Messages that were given no reply, by transport and reason.
# TYPE anycastle_gss_dropped_total counter
anycastle_gss_dropped_total{reason="short",transport="tcp"} 1
# HELP anycastle_gss_queries_total DNS queries answered, by transport and response code.
# TYPE anycastle_gss_queries_total counter
anycastle_gss_queries_total{rcode="NOERROR",transport="udp"} 1
# HELP anycastle_gss_rule_ttl_seconds TTL of a rule's answers at this moment.
# TYPE anycastle_gss_rule_ttl_seconds gauge
anycastle_gss_rule_ttl_seconds{rule="lab"} 60
anycastle_gss_rule_ttl_seconds{rule="mx"} 2
anycastle_gss_rule_ttl_seconds{rule="smtp"} 2
`
		if err := testutil.GatherAndCompare(p.reg, strings.NewReader(wantMetrics), "anycastle_gss_dropped_total",
			"anycastle_gss_queries_total", "anycastle_gss_rule_ttl_seconds"); err != nil {
			t.Error(err)
		}
	})
}

// A query that finds a bug costs itself only.
func TestPanicIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.after(time.Second)
		p.end()
		good := p.engine.current.Load()
		p.engine.current.Store(nil)
		for range 2 {
			wire := packed(t, question("smtp.mail.example.org.", dns.TypeA))
			if reply := p.respond(wire, message.UDP, netip.MustParseAddrPort("192.0.2.1:53")); reply != nil {
				t.Errorf("reply is %x, want none", reply)
			}
		}
		l := p.Lane(0)
		l.Begin(time.Now())
		if n, v := l.Fast(make([]byte, 512), packed(t, question("smtp.mail.example.org.", dns.TypeA)), netip.MustParseAddrPort("192.0.2.1:53")); n != 0 || v != udp.Dropped {
			t.Errorf("the fast path gives %d octets and %v, want nothing", n, v)
		}
		p.engine.current.Store(good)
		if got := p.ask(); got != east {
			t.Errorf("after a panic the answer is %q", got)
		}
		if n := strings.Count(p.log.String(), "level=ERROR"); n != 1 || testutil.ToFloat64(p.metrics.faults) != 3 {
			t.Errorf("%d errors in the log and %v in the metrics, want 1 and 3", n, testutil.ToFloat64(p.metrics.faults))
		}
	})
}

// Orders and what was decided last survive a restart.
func TestRestart(t *testing.T) {
	d := newDeciding(t, nodeFile, "smtp-east")
	dir := t.TempDir()
	if err := d.engine.load(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := d.engine.order(Order{Kind: decide.KindSuspend, Answer: "smtp-east"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.engine.keep(ctx, dir); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	next, err := New(mustDecode(t, nodeFile), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := next.engine.load(dir); err != nil {
		t.Fatal(err)
	}
	after := &deciding{next, t}
	after.see("smtp-east", "smtp-west")
	if r := after.Rules()[1]; r.Basis != decide.LastGood || r.Answers[0].Answer != "smtp-west" {
		t.Errorf("with all out it is answered with %+v by %s", r.Answers, r.Basis)
	}
	if o := after.Orders(); len(o) != 1 || o[0].Answer != "smtp-east" {
		t.Errorf("orders are %+v", o)
	}
	if g := after.Server().Generation; g < 2 {
		t.Errorf("the generation is %d: it begins anew", g)
	}
}

// A directory that cannot be used is told of with the key that gives another.
func TestStateThatCannotBeKept(t *testing.T) {
	d := newDeciding(t, nodeFile)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const mend = "; let this user write there, or give another directory with gss.state_dir"
	if err := d.engine.load(file); err == nil || !strings.HasSuffix(err.Error(), mend) {
		t.Errorf("a file instead: %v", err)
	}
	if err := d.engine.keep(t.Context(), filepath.Join(file, "below")); err == nil || !strings.HasPrefix(err.Error(), "write orders: ") || !strings.HasSuffix(err.Error(), mend) {
		t.Errorf("no directory: %v", err)
	}
}
