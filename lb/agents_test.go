package lb

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/lb/agent"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fakeAgent serves what a test tells it to.
type fakeAgent struct {
	*httptest.Server
	target netip.AddrPort

	mu     sync.Mutex
	report agent.Report
	raw    string // in place of a report
	quiet  bool   // nothing after the first report
	asked  []string
}

func newFakeAgent(t *testing.T, material *mtls.Material) *fakeAgent {
	t.Helper()
	f := &fakeAgent{report: agent.Report{At: agentTime, Since: agentTime, VIPs: []agent.Port{smtpPort}}}
	f.Server = httptest.NewUnstartedServer(f)
	f.TLS = material.Server()
	f.StartTLS()
	t.Cleanup(f.Close)
	f.target = netip.MustParseAddrPort(f.Listener.Addr().String())
	return f
}

// ServeHTTP implements http.Handler.
func (f *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.URL.String())
	f.mu.Unlock()
	switch r.URL.Path {
	case "/v1/flows":
		fmt.Fprint(w, `[{"client":"192.0.2.7:4242","vip":"203.0.113.25:25","protocol":"tcp"}]`)
		return
	case "/v1/report":
	default:
		http.NotFound(w, r)
		return
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		f.mu.Lock()
		f.report.At = f.report.At.Add(10 * time.Millisecond)
		line, err := f.report.Line()
		if f.raw != "" {
			line = []byte(f.raw)
		}
		quiet := f.quiet
		f.mu.Unlock()
		if err == nil {
			_, err = w.Write(line)
		}
		if err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		if quiet {
			<-r.Context().Done()
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func (f *fakeAgent) change(what func(*fakeAgent)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what(f)
}

// reading is a reader of a test and what it has reported.
type reading struct {
	*agents
	t       *testing.T
	updates chan agentUpdate
	stop    func()
}

// flows asks an agent for flows.
func (r *reading) flows(of netip.AddrPort, limit int) (list []agent.Flow, err error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	_, err = r.Flows(ctx, of, limit, func(f agent.Flow) error {
		list = append(list, f)
		return nil
	})
	return list, err
}

func readAgents(t *testing.T, with func() *tls.Config, targets ...netip.AddrPort) *reading {
	t.Helper()
	r := newReading(t, agentOptions{TLS: with})
	r.run(targets)
	return r
}

func newReading(t *testing.T, opts agentOptions) *reading {
	r := &reading{t: t, updates: make(chan agentUpdate, 10000)}
	opts.Log = slog.New(slog.DiscardHandler)
	opts.Report = func(u agentUpdate) { r.updates <- u }
	r.agents = newAgents(opts)
	return r
}

// run reads targets until the test ends or stop is called.
func (r *reading) run(targets []netip.AddrPort) {
	r.SetTargets(targets)
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run ended with %v", err)
		}
	})
	r.t.Cleanup(r.stop)
}

// next waits for an update of which something is true.
func (r *reading) next(what string, cond func(agentUpdate) bool) agentUpdate {
	r.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case u := <-r.updates:
			if cond(u) {
				return u
			}
		case <-timeout:
			r.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func reportsCome(u agentUpdate) bool { return u.Err == nil }
func unknown(u agentUpdate) bool     { return u.Err != nil }

func loadMTLS(t *testing.T, f mtls.Files) *mtls.Material {
	t.Helper()
	m, err := mtls.Load(f, nil)
	check(t, err)
	return m
}

// pair gives what an agent on 127.0.0.1 and a balancer prove themselves with.
func pair(t *testing.T) (onReal, onLB *mtls.Material) {
	t.Helper()
	ca := mtlstest.NewCA(t)
	return loadMTLS(t, ca.Node(t, "mx1")), loadMTLS(t, ca.Host(t, "lb1", nil))
}

func TestAgentsReport(t *testing.T) {
	onReal, onLB := pair(t)
	f := newFakeAgent(t, onReal)
	start := time.Now()
	r := readAgents(t, onLB.Client, f.target)
	u := r.next("a first report", func(agentUpdate) bool { return true })
	if u.Err != nil || u.Target != f.target || u.At.Before(start) || len(u.Report.VIPs) != 1 || u.Verdicts != nil {
		t.Errorf("first update %+v", u)
	}
	f.change(func(f *fakeAgent) {
		f.report.VIPs = []agent.Port{portWith(func(p *agent.Port) { p.Refused, p.Listening = 3, false })}
	})
	u = r.next("a verdict", func(u agentUpdate) bool { return u.Verdicts != nil })
	v := u.Verdicts[0]
	if v.Kind != verdictRefused || !v.Conclusive || v.Port != smtpPort.Key() || !strings.HasPrefix(v.Why, "agent: refused 3 connections to 203.0.113.25:25 in ") {
		t.Errorf("verdict %+v", v)
	}
	u = r.next("an update with nothing new", func(agentUpdate) bool { return true })
	if u.Verdicts != nil || u.Err != nil {
		t.Errorf("it was said before: %+v", u)
	}
	flows, err := r.flows(f.target, 5)
	want := []agent.Flow{{Client: netip.MustParseAddrPort("192.0.2.7:4242"), VIP: smtpPort.Key().VIP, Protocol: agent.TCP}}
	if diff := cmp.Diff(want, flows, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" || err != nil {
		t.Errorf("flows, %v (-want +got):\n%s", err, diff)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff([]string{"/v1/report?every=50ms", "/v1/flows?limit=5"}, f.asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

// TestLostAgentIsUnknown has an agent go, come back on the same port, fall silent and speak nonsense.
func TestLostAgentIsUnknown(t *testing.T) {
	onReal, onLB := pair(t)
	f := newFakeAgent(t, onReal)
	r := readAgents(t, onLB.Client, f.target)
	first := r.next("a first report", reportsCome)
	f.CloseClientConnections()
	gone := r.next("an end", unknown)
	if gone.Verdicts != nil || gone.At.Before(first.At) || len(gone.Report.VIPs) != 1 {
		t.Errorf("what is unknown keeps its age and no verdict: %+v", gone)
	}
	r.next("it is back", reportsCome)

	f.change(func(f *fakeAgent) { f.quiet = true })
	if u := r.next("silence", unknown); !errors.Is(u.Err, errSilent) {
		t.Errorf("silence is %v", u.Err)
	}
	f.change(func(f *fakeAgent) { f.quiet, f.raw = false, `{"at":`+"\n" })
	if u := r.next("nonsense", func(u agentUpdate) bool { return unknown(u) && !errors.Is(u.Err, errSilent) }); !strings.Contains(u.Err.Error(), "read a report") {
		t.Errorf("nonsense is %v", u.Err)
	}
	f.change(func(f *fakeAgent) { f.raw = "" })
	r.next("it is back again", reportsCome)
	f.Listener.Close()
	f.CloseClientConnections()
	r.next("nobody listens", func(u agentUpdate) bool { return unknown(u) && strings.Contains(u.Err.Error(), "refused") })
}

func TestAgentsProveThemselves(t *testing.T) {
	onReal, onLB := pair(t)
	stranger, _ := pair(t)
	ca := mtlstest.NewCA(t)
	elsewhere := loadMTLS(t, ca.Host(t, "mx2", []netip.Addr{netip.MustParseAddr("198.51.100.9")}))
	sameCA := loadMTLS(t, ca.Host(t, "lb1", nil))
	for _, tc := range []struct {
		name   string
		server *mtls.Material
		client func() *tls.Config
		want   string
	}{
		{"another CA", stranger, onLB.Client, "unknown authority"},
		{"another address", elsewhere, sameCA.Client, "not 127.0.0.1"},
		{"balancer without certificate", onReal, func() *tls.Config { return &tls.Config{RootCAs: onLB.Client().RootCAs} }, "certificate required"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFakeAgent(t, tc.server)
			f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
			r := readAgents(t, tc.client, f.target)
			u := r.next("an update", func(agentUpdate) bool { return true })
			if u.Err == nil || !strings.Contains(u.Err.Error(), tc.want) || !u.At.IsZero() {
				t.Errorf("update %+v, want an error with %s", u, tc.want)
			}
		})
	}
}

// TestAgentsFollowCertificates replaces the CA and every certificate under streams that are open, and then ends those.
func TestAgentsFollowCertificates(t *testing.T) {
	ca := mtlstest.NewCA(t)
	f := newFakeAgent(t, loadMTLS(t, ca.Node(t, "mx1")))
	f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	r := readAgents(t, loadMTLS(t, ca.Host(t, "lb1", nil)).Client, f.target)
	r.next("reports", reportsCome)
	ca.Replace(t)
	f.CloseClientConnections()
	r.next("an agent of the CA before", func(u agentUpdate) bool { return unknown(u) && strings.Contains(u.Err.Error(), "unknown authority") })
	ca.Node(t, "mx1")
	ca.Host(t, "lb1", nil)
	r.next("reports with the certificates of the other CA", reportsCome)
}

func TestAgentThatRefuses(t *testing.T) {
	onReal, onLB := pair(t)
	for name, handler := range map[string]http.HandlerFunc{
		"an error": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "32 read already", http.StatusServiceUnavailable)
		},
		"another's answer": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://192.0.2.1/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeAgent(t, onReal)
			f.Config.Handler = handler
			r := readAgents(t, onLB.Client, f.target)
			if u := r.next("an update", func(agentUpdate) bool { return true }); u.Err == nil || !strings.Contains(u.Err.Error(), "the agent answers ") {
				t.Errorf("update %+v", u)
			}
		})
	}
}

// TestAgentTargetsChange reads one, then another, and ends.
func TestAgentTargetsChange(t *testing.T) {
	onReal, onLB := pair(t)
	before := runtime.NumGoroutine()
	first, second := newFakeAgent(t, onReal), newFakeAgent(t, onReal)
	r := readAgents(t, onLB.Client, first.target)
	from := func(f *fakeAgent) func(agentUpdate) bool {
		return func(u agentUpdate) bool { return u.Target == f.target }
	}
	r.next("the first one's", from(first))
	r.SetTargets([]netip.AddrPort{first.target, second.target})
	r.next("the second one's", from(second))
	first.mu.Lock()
	streams := len(first.asked)
	first.mu.Unlock()
	if streams != 1 {
		t.Errorf("the stream that was there was opened %d times", streams)
	}
	r.SetTargets([]netip.AddrPort{second.target})
	eventually(t, "the first one's stream is closed", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.readers) == 1
	})
	r.stop()
	r.SetTargets([]netip.AddrPort{first.target}) // starts nothing any more
	for len(r.updates) > 0 {
		<-r.updates
	}
	first.Close()
	second.Close()
	eventually(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= before })
	if n := len(r.updates); n != 0 {
		t.Errorf("%d updates after the end", n)
	}
}

// TestAgentThatAnswersNothing accepts a connection and no more.
func TestAgentThatAnswersNothing(t *testing.T) {
	_, onLB := pair(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer ln.Close()
	r := readAgents(t, onLB.Client, netip.MustParseAddrPort(ln.Addr().String()))
	if u := r.next("an update", func(agentUpdate) bool { return true }); u.Err == nil || !strings.Contains(u.Err.Error(), "TLS handshake timeout") {
		t.Errorf("update %+v", u)
	}
}
