package gss

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/internal/probe"
)

func TestOrdered(t *testing.T) {
	group := []string{"a", "b", "c"}
	for name, tc := range map[string]struct {
		passing  string
		lastGood []string
		want     choice
		reason   string
	}{
		"first":            {"abc", nil, choice{[]string{"a"}, ByHealth}, "a is first in the group and passes"},
		"second":           {"bc", []string{"a"}, choice{[]string{"b"}, ByHealth}, "b is the first that passes: a fails (no a)"},
		"last":             {"c", []string{"a"}, choice{[]string{"c"}, ByHealth}, "c is the first that passes: a fails (no a); b fails (no b)"},
		"none, known good": {"", []string{"b"}, choice{[]string{"b"}, LastGood}, "none of 3 answers passes; keeping the one that passed last: a fails (no a); b fails (no b); c fails (no c)"},
		"none ever":        {"", nil, choice{group, WholeGroup}, "none of 3 answers passes and none has since the start; answering with all: a fails (no a); b fails (no b); c fails (no c)"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ordered(group, func(n string) bool { return strings.Contains(tc.passing, n) }, tc.lastGood)
			if !got.equal(tc.want) {
				t.Errorf("choice is %v, want %v", got, tc.want)
			}
			if r := got.reason(group, func(n string) string { return "no " + n }); r != tc.reason {
				t.Errorf("reason is %q, want %q", r, tc.reason)
			}
		})
	}
}

// sites is a prober for tests: what is out fails.
type sites struct {
	mu  sync.Mutex
	out map[string]bool // by address
}

func (s *sites) set(out ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = map[string]bool{}
	for _, a := range out {
		s.out[a] = true
	}
}

func (s *sites) probe(_ context.Context, t probe.Target, _ *probe.Advice) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out[t.Addr.Addr().String()] {
		return errors.New("no route to host")
	}
	return nil
}

const (
	east = "203.0.113.110"
	west = "203.0.113.210"
)

// probing is a GSS that probes and does not listen, in a synctest bubble.
type probing struct {
	*GSS
	sites *sites
	log   *bytes.Buffer
	reg   *prometheus.Registry
	end   func()
}

func startProbing(t *testing.T, out ...string) *probing {
	t.Helper()
	p := &probing{sites: &sites{}, log: &bytes.Buffer{}, reg: prometheus.NewRegistry()}
	p.sites.set(out...)
	text := slog.NewTextHandler(p.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	cfg := mustDecode(t, strings.Replace(nodeFile, "probe: {port: 25}", "probe: {port: 25, interval: 500ms, timeout: 400ms, fail: 3}", 1))
	var err error
	if p.GSS, err = New(cfg, Options{Log: slog.New(text), Registry: p.reg, Probe: p.sites.probe}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- probe.Run(ctx, p.health.targets(), p.GSS.probe, p.health.report) }()
	p.end = func() { cancel(); <-done }
	return p
}

// after lets the bubble's clock run.
func (p *probing) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// ask gives the addresses that smtp is answered with.
func (p *probing) ask(t *testing.T) string {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(p.respond(wireOf(t, question("smtp.mail.example.org.", dns.TypeA)), overUDP)); err != nil {
		t.Fatal(err)
	}
	if m.Rcode != dns.RcodeSuccess || !m.Authoritative {
		t.Fatalf("reply is\n%v", &m)
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
		for _, step := range []struct {
			out        []string
			wait       time.Duration
			want       string
			generation uint64
			basis      Basis
		}{
			{nil, 300 * time.Millisecond, east, 1, ByHealth},
			{[]string{east}, 500 * time.Millisecond, east, 1, ByHealth}, // one failure of the two that count
			{[]string{east}, 500 * time.Millisecond, west, 2, ByHealth},
			{[]string{east, west}, 1000 * time.Millisecond, west, 2, ByHealth},
			{[]string{east, west}, 500 * time.Millisecond, west, 3, LastGood},
			{[]string{east, west}, time.Hour, west, 3, LastGood},
			{[]string{west}, time.Second, east, 4, ByHealth},
			{nil, time.Minute, east, 4, ByHealth}, // west is back, and not needed
			{[]string{west}, time.Minute, east, 4, ByHealth},
		} {
			p.sites.set(step.out...)
			p.after(step.wait)
			s := p.Status()
			if got := p.ask(t); got != step.want || s.Generation != step.generation || s.Groups[0].Basis != step.basis {
				t.Errorf("out %v for %v: answer %s, generation %d by %s; want %s, %d by %s", step.out, step.wait, got, s.Generation,
					s.Groups[0].Basis, step.want, step.generation, step.basis)
			}
		}
	})
}

func TestAllOutFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t, east, west)
		defer p.end()
		p.after(time.Second)
		if got := p.ask(t); got != east+" "+west {
			t.Errorf("answer is %q, want the whole group", got)
		}
		p.sites.set(east)
		p.after(time.Second)
		if got := p.ask(t); got != west {
			t.Errorf("answer is %q, want %q", got, west)
		}
	})
}

func TestStatusLogAndMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t, east)
		before := p.Status()
		if r := before.Rules[0]; before.Generation != 0 || len(r.Addresses) != 0 || r.Why != ErrNotReady.Error() || p.Healthy() == nil {
			t.Errorf("before the first probe the status is %+v", before)
		}
		start := time.Now()
		p.after(300 * time.Millisecond)
		p.end()
		const why = "west-smtp is the first that passes: east-smtp fails (no route to host)"
		later := start.Add(25 * time.Millisecond) // the second of two targets is half a tenth of its interval behind
		want := Status{
			Zone: "mail.example.org", Serial: 1, Listen: []netip.AddrPort{}, Generation: 1,
			Answers: []AnswerStatus{
				{"east-smtp", netip.MustParseAddr(east), "tcp " + east + ":25", probe.Failing, "no route to host", start, start},
				{"west-smtp", netip.MustParseAddr(west), "tcp " + west + ":25", probe.Passing, "", later, later},
			},
			Groups: []GroupStatus{{"smtp", Ordered, []string{"east-smtp", "west-smtp"}, []string{"west-smtp"}, ByHealth, why, later}},
			Rules:  []RuleStatus{{"smtp.mail.example.org", "smtp", Ordered, []netip.Addr{netip.MustParseAddr(west)}, ByHealth, why, later}},
		}
		if diff := cmp.Diff(want, p.Status(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		wantLog := `level=INFO msg="answer changed state" answer=east-smtp probe=203.0.113.110:25 old=unknown new=failing cause="no route to host"
level=INFO msg="answer changed state" answer=west-smtp probe=203.0.113.210:25 old=unknown new=passing cause="probe passed"
level=INFO msg="rule changed its answer" rule=smtp.mail.example.org group=smtp old=[] new=[203.0.113.210] basis=health cause="answer west-smtp is passing: probe passed"
`
		if diff := cmp.Diff(wantLog, p.log.String()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
		p.ask(t)
		p.respond([]byte("short"), overTCP)
		wantMetrics := `
# HELP anycastle_gss_answer_passing 1 while the answer's probe passes, 0 while it fails.
# TYPE anycastle_gss_answer_passing gauge
anycastle_gss_answer_passing{answer="east-smtp"} 0
anycastle_gss_answer_passing{answer="west-smtp"} 1
# HELP anycastle_gss_dropped_total Messages that were given no reply, by transport.
# TYPE anycastle_gss_dropped_total counter
anycastle_gss_dropped_total{transport="tcp"} 1
# HELP anycastle_gss_queries_total DNS queries answered, by transport and response code.
# TYPE anycastle_gss_queries_total counter
anycastle_gss_queries_total{rcode="NOERROR",transport="udp"} 1
`
		if err := testutil.GatherAndCompare(p.reg, strings.NewReader(wantMetrics), "anycastle_gss_answer_passing",
			"anycastle_gss_dropped_total", "anycastle_gss_queries_total"); err != nil {
			t.Error(err)
		}
	})
}

func TestChangesOfBasisAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		p.after(300 * time.Millisecond)
		for _, out := range [][]string{{east, west}, nil} {
			p.sites.set(out...)
			p.after(3 * time.Second)
		}
		p.end()
		var rules []string
		for line := range strings.Lines(p.log.String()) {
			if strings.Contains(line, "rule=") {
				rules = append(rules, line[:strings.Index(line, " group=")])
			}
		}
		// east fails first, by its lower count, and west after it; west comes back behind east
		want := []string{
			`level=INFO msg="rule changed its answer" rule=smtp.mail.example.org`,
			`level=INFO msg="rule changed its answer" rule=smtp.mail.example.org`,
			`level=WARN msg="rule has no passing answer" rule=smtp.mail.example.org`,
			`level=INFO msg="rule changed its answer" rule=smtp.mail.example.org`,
		}
		if diff := cmp.Diff(want, rules); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

// A query that finds a bug costs itself only.
func TestPanicIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		p.after(time.Second)
		p.end()
		good := p.zone
		p.zone = nil
		for range 2 {
			if reply := p.respond(wireOf(t, question("smtp.mail.example.org.", dns.TypeA)), overUDP); reply != nil {
				t.Errorf("reply is %x, want none", reply)
			}
		}
		p.zone = good
		if got := p.ask(t); got != east {
			t.Errorf("after a panic the answer is %q", got)
		}
		if n := strings.Count(p.log.String(), "level=ERROR"); n != 1 || testutil.ToFloat64(p.metrics.faults) != 2 {
			t.Errorf("%d errors in the log and %v in the metrics, want 1 and 2", n, testutil.ToFloat64(p.metrics.faults))
		}
	})
}
