package lb

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sync/errgroup"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/internal/porttest"
	"anycastle/internal/probe"
	"anycastle/internal/vipreport"
)

var loopback = config.ListenAddr{Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1})} // and any free port, which no node file may have

// asked is a balancer's listeners on loopback, without a loop: a test says how the VIPs stand.
type asked struct {
	*reportListeners
	t   *testing.T
	ca  *mtlstest.CA
	reg *prometheus.Registry
}

// serveReports has an LB with a VIP be asked, by those of the names.
func serveReports(t *testing.T, clients ...string) *asked {
	t.Helper()
	a := &asked{t: t, ca: mtlstest.NewCA(t), reg: prometheus.NewPedanticRegistry()}
	cfg := mustParse(t, valid)
	files := a.ca.Node(t, "lb1")
	cfg.TLS, cfg.Report, cfg.VIPs[0].AgentCheck = &files, &Report{loopback, clients}, config.ListenAddr{Addr: loopback.Addr, Port: porttest.Free(t, "127.0.0.1").Port()}
	l, err := New(*cfg, Options{Registry: a.reg})
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	a.reportListeners, err = l.listenReports(ctx, cfg)
	check(t, err)
	var g errgroup.Group
	a.serve(ctx, &g)
	t.Cleanup(func() {
		cancel()
		check(t, g.Wait())
	})
	return a
}

// stands says how the VIP stands.
func (a *asked) stands(v vipreport.VIP) {
	v.Name, v.Address, v.Protocol, v.Port = "smtp", addr("203.0.113.10"), "tcp", "25"
	a.reporter.set([]vipreport.VIP{v})
}

// call listens with the settings of a link.
func (a *asked) call(settings *tls.Config) (*tls.Conn, error) {
	a.t.Helper()
	settings.ServerName = "127.0.0.1"
	raw, err := net.Dial("tcp", a.reports.Addr().String())
	check(a.t, err)
	a.t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(raw, settings)
	return conn, conn.Handshake()
}

func (a *asked) link(files mtls.Files) *tls.Config {
	a.t.Helper()
	return vipreport.Ask(loadMTLS(a.t, files).Client())
}

func TestReportsOverTLS(t *testing.T) {
	a := serveReports(t)
	conn, err := a.call(a.link(a.ca.Node(t, "gss-east")))
	check(t, err)
	stream := vipreport.NewStream(conn)
	if r, err := stream.Next(); err != nil || !r.Whole || len(r.VIPs) > 0 {
		t.Fatalf("at first: %+v, %v", r, err)
	}
	worst, atOnce := time.Duration(0), 0
	for i := range 20 {
		sent := time.Now()
		a.stands(vipreport.VIP{State: vipreport.Active, InService: i, Reals: 20})
		for {
			r, err := stream.Next()
			check(t, err)
			if len(r.VIPs) == 1 && r.VIPs[0].InService == i { // a sign of life with what was before may come between
				if !r.Whole {
					atOnce++
				}
				break
			}
		}
		worst = max(worst, time.Since(sent))
	}
	t.Logf("a change was heard after %v at most", worst)
	if atOnce <= 10 { // a beat may be due at the same moment as a change
		t.Errorf("%d of 20 changes were told as such, and not with the next beat", atOnce)
	}
	if s := a.lb.Selectors(); len(s) != 1 || s[0].Name != "gss-east" || s[0].Reports < 20 || s[0].Address.String() != conn.LocalAddr().String() {
		t.Errorf("site selectors %+v", s)
	}
	conn.Close()
	eventually(t, "it is noticed that nobody listens", func() bool { return len(a.lb.Selectors()) == 0 })
}

func TestWhoMayListen(t *testing.T) {
	a := serveReports(t, "gss-east")
	stranger := mtlstest.NewCA(t).Node(t, "gss-east")
	other := a.link(stranger)
	other.RootCAs = loadMTLS(t, a.ca.Node(t, "x")).Client().RootCAs // it knows us; we do not know it
	plain := loadMTLS(t, a.ca.Node(t, "gss-east")).Client()
	plain.NextProtos = []string{"h2"}
	anonymous := a.link(a.ca.Node(t, "gss-east"))
	anonymous.Certificates = nil
	for name, tc := range map[string]struct {
		settings *tls.Config
		may      bool
	}{
		"named":                 {a.link(a.ca.Node(t, "gss-east")), true},
		"not named":             {a.link(a.ca.Node(t, "gss-west")), false},
		"of another CA":         {other, false},
		"without certificate":   {anonymous, false},
		"with another protocol": {plain, false},
	} {
		_, _, before, _ := a.asked()
		conn, err := a.call(tc.settings)
		if err == nil {
			_, err = vipreport.NewStream(conn).Next() // with TLS 1.3 a client hears of a refusal only here
		}
		if (err == nil) != tc.may {
			t.Errorf("%s: %v", name, err)
		}
		if !tc.may {
			eventually(t, name+" is counted", func() bool { _, _, now, _ := a.asked(); return now == before+1 })
		}
	}
	check(t, testutil.GatherAndCompare(a.reg, strings.NewReader(`
# HELP anycastle_lb_agent_checks_total Agent-checks of the VIP that were answered.
# TYPE anycastle_lb_agent_checks_total counter
anycastle_lb_agent_checks_total{vip="smtp"} 0
# HELP anycastle_lb_selectors_lost_total Site selectors that were dropped as too slow.
# TYPE anycastle_lb_selectors_lost_total counter
anycastle_lb_selectors_lost_total 0
# HELP anycastle_lb_selectors_refused_total Connections that ask how VIPs stand and were turned away: by their certificate, or as too many.
# TYPE anycastle_lb_selectors_refused_total counter
anycastle_lb_selectors_refused_total 4
`), "anycastle_lb_agent_checks_total", "anycastle_lb_selectors_lost_total", "anycastle_lb_selectors_refused_total"))
	problems, err := testutil.GatherAndLint(a.reg)
	check(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestNoMoreThanSoManyListen(t *testing.T) {
	a := serveReports(t)
	for range maxSelectors {
		a.enter(&selector{})
	}
	conn, err := a.call(a.link(a.ca.Node(t, "gss-east")))
	check(t, err)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("one more is turned away with %v", err)
	}
	for range maxReportConns { // that say nothing
		raw, err := net.Dial("tcp", a.reports.Addr().String())
		check(t, err)
		defer raw.Close()
	}
	_, _, before, _ := a.asked()
	eventually(t, "connections beyond the most are closed at once", func() bool {
		raw, err := net.Dial("tcp", a.reports.Addr().String())
		check(t, err)
		defer raw.Close()
		raw.SetReadDeadline(time.Now().Add(time.Second))
		_, err = raw.Read(make([]byte, 1))
		_, _, now, _ := a.asked()
		return err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && now > before
	})
}

// TestSelectorThatDoesNotRead fills a socket: with more VIPs than its buffers hold.
func TestSelectorThatDoesNotRead(t *testing.T) {
	t.Parallel()
	a := serveReports(t)
	var many []vipreport.VIP
	for i := range vipreport.MaxVIPs {
		many = append(many, vipreport.VIP{Name: fmt.Sprintf("vip%d", i), Address: addr("203.0.113.10"), Protocol: "tcp", Port: "25",
			State: vipreport.Failed, Why: strings.Repeat("x", vipreport.MaxWords), RouteWhy: strings.Repeat("y", vipreport.MaxWords)})
	}
	a.reporter.set(many)
	if _, err := a.call(a.link(a.ca.Node(t, "gss-east"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is dropped as too slow", func() bool { n, slow, _, _ := a.asked(); return slow == 1 && n == 0 })
}

func TestListenersThatCannotBe(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer taken.Close()
	cfg := mustParse(t, valid)
	cfg.VIPs[0].AgentCheck = config.ListenAddr{Addr: loopback.Addr, Port: netip.MustParseAddrPort(taken.Addr().String()).Port()}
	l, err := New(*cfg, Options{})
	check(t, err)
	if _, err := l.listenReports(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "agent_check of vip smtp") {
		t.Errorf("error %v", err)
	}
}

// line asks as HAProxy does, with and without something to say.
func (a *asked) line(says string) string {
	a.t.Helper()
	conn, err := net.Dial("tcp", a.checks["smtp"].Addr().String())
	check(a.t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(conn, says)
	check(a.t, err)
	text, err := io.ReadAll(bufio.NewReader(conn))
	check(a.t, err)
	return string(text)
}

// TestAgentCheckIsAnswered asks by hand, and as our own probe does.
func TestAgentCheckIsAnswered(t *testing.T) {
	a := serveReports(t)
	for range 20 {
		for _, says := range []string{"", "hello\n"} { // what is sent is read, or closing would reset the connection
			if got := a.line(says); got != "" {
				t.Errorf("before anything is known it says %q", got)
			}
		}
	}
	results := make(chan probe.Result, 100)
	p := &probe.Config{}
	p.SetDefaults()
	p.Type, p.Interval, p.Timeout = "agent-check", 20*time.Millisecond, 20*time.Millisecond
	runner := probe.NewRunner(nil, func(r probe.Result) { results <- r })
	at := netip.MustParseAddrPort(a.checks["smtp"].Addr().String())
	check(t, runner.SetTargets([]probe.Target{{Name: "smtp", Addr: at, Config: p}}))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		runner.Run(ctx)
		close(results)
	})
	defer func() {
		cancel()
		for range results {
		}
		wg.Wait()
	}()
	for _, tc := range []struct {
		v    vipreport.VIP
		line string
		want probe.Advice
	}{
		{vipreport.VIP{State: vipreport.Active, InService: 3, Reals: 4}, "ready up 75%\n", probe.Advice{Weight: 75, Admin: probe.AdminReady}},
		{vipreport.VIP{State: vipreport.Failed, Why: "too few"}, "down #too few\n", probe.Advice{Weight: 75, Admin: probe.AdminReady, Down: "down (too few)"}},
		{vipreport.VIP{State: vipreport.Suspended}, "maint\n", probe.Advice{Weight: 75, Admin: probe.AdminMaint, Down: "down (too few)"}},
		{vipreport.VIP{State: vipreport.Active, InService: 4, Reals: 4, Draining: true}, "up drain\n", probe.Advice{Weight: 75, Admin: probe.AdminDrain}},
		{vipreport.VIP{State: vipreport.Active, InService: 4, Reals: 4}, "ready up 100%\n", probe.Advice{Weight: 100, Admin: probe.AdminReady}},
	} {
		a.stands(tc.v)
		eventually(t, "it says "+tc.line, func() bool { return a.line("hello\n") == tc.line })
		deadline := time.After(patience)
		for got := (probe.Advice{}); got != tc.want; {
			select {
			case r := <-results:
				got = r.Advice
			case <-deadline:
				t.Fatalf("of %q our own probe makes %+v, want %+v", tc.line, got, tc.want)
			}
		}
	}
	if _, _, _, checked := a.asked(); checked["smtp"] < 10 {
		t.Errorf("%d answers are counted", checked["smtp"])
	}
}

// TestHAProxyAsks has HAProxy follow a VIP by its agent-check.
func TestHAProxyAsks(t *testing.T) {
	binary, err := exec.LookPath("haproxy")
	if err != nil {
		if os.Getenv("CI") != "" || os.Getenv("ANYCASTLE_TEST_ROOT") != "" {
			t.Fatal(err)
		}
		t.Skip("haproxy is not installed")
	}
	a := serveReports(t)
	a.stands(vipreport.VIP{State: vipreport.Active, InService: 4, Reals: 4})
	dir := t.TempDir()
	socket := filepath.Join(dir, "stats")
	_, port, err := net.SplitHostPort(a.checks["smtp"].Addr().String())
	check(t, err)
	file := filepath.Join(dir, "haproxy.cfg")
	check(t, os.WriteFile(file, fmt.Appendf(nil, `global
  stats socket %s
defaults
  mode tcp
  timeout connect 1s
  timeout client 1s
  timeout server 1s
backend smtp
  server site 127.0.0.1:25 weight 100 agent-check agent-addr 127.0.0.1 agent-port %s agent-inter 50ms agent-send hello\n
`, socket, port), 0o600))
	cmd := exec.Command(binary, "-db", "-f", file)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	check(t, cmd.Start())
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy:\n%s", log.String())
		}
	}()
	// states are those of HAProxy's management guide, `show servers state`: 2 is running, 0 is stopped; flags of admin: 1 maintenance,
	// 8 drain
	for _, tc := range []struct {
		name                 string
		v                    vipreport.VIP
		state, admin, weight string
	}{
		{"part of the weight", vipreport.VIP{State: vipreport.Active, InService: 3, Reals: 4}, "2", "0", "75"},
		{"failed", vipreport.VIP{State: vipreport.Failed, Why: "too few"}, "0", "0", "75"},
		{"all of the weight", vipreport.VIP{State: vipreport.Active, InService: 4, Reals: 4}, "2", "0", "100"},
		{"draining", vipreport.VIP{State: vipreport.Active, InService: 4, Reals: 4, Draining: true}, "2", "8", "100"},
		{"not draining", vipreport.VIP{State: vipreport.Active, InService: 2, Reals: 4}, "2", "0", "50"},
		{"suspended", vipreport.VIP{State: vipreport.Suspended}, "0", "1", "50"},
		{"active again", vipreport.VIP{State: vipreport.Active, InService: 1, Reals: 1}, "2", "0", "100"},
	} {
		a.stands(tc.v)
		got := ""
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		for want := tc.state + " " + tc.admin + " " + tc.weight; got != want && ctx.Err() == nil; {
			got = haproxyServer(socket)
			select {
			case <-ctx.Done():
				t.Errorf("%s: HAProxy has state, admin and weight %s, want %s", tc.name, got, want)
			case <-time.After(5 * time.Millisecond):
			}
		}
		cancel()
	}
}

// haproxyServer gives operational state, administrative state and weight of the one server; empty: HAProxy does not answer.
func haproxyServer(socket string) string {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return ""
	}
	defer conn.Close()
	io.WriteString(conn, "show servers state smtp\n")
	text, _ := io.ReadAll(conn)
	for line := range strings.Lines(string(text)) {
		// be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight
		if f := strings.Fields(line); len(f) > 8 && f[3] == "site" {
			return f[5] + " " + f[6] + " " + f[7]
		}
	}
	return ""
}
