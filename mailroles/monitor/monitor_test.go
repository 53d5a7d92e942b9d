package monitor

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/internal/porttest"
	"anycastle/internal/probe"
	"anycastle/internal/proctest"
)

// fast is a probe that decides within 40 ms on an idle machine.
func fast() *probe.Config {
	return &probe.Config{Type: "tcp", Interval: 20 * time.Millisecond, Timeout: 20 * time.Millisecond, Fail: 2, Pass: 1}
}

// server listens on loopback until it is closed. It may be opened again at the same place.
type server struct {
	t    *testing.T
	ln   net.Listener
	addr Address
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, addr: Address{porttest.Free(t, "127.0.0.1")}}
	s.open()
	t.Cleanup(func() { s.ln.Close() })
	return s
}

func (s *server) open() {
	s.t.Helper()
	var err error
	if s.ln, err = net.Listen("tcp", s.addr.String()); err != nil {
		s.t.Fatal(err)
	}
}

// lines is a log that a test may read meanwhile.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// start runs a monitor until the test ends.
func start(t *testing.T, c Config, opt Options) *Monitor {
	t.Helper()
	m, err := New(c, opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Healthy(); err == nil {
		t.Error("it calls itself healthy before it runs")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	<-m.Ready()
	return m
}

// becomes waits until a target is in a state.
func becomes(t *testing.T, m *Monitor, name string, state probe.State) TargetStatus {
	t.Helper()
	var is TargetStatus
	proctest.Eventually(t, name+" is "+state.String(), func() bool {
		for _, s := range m.Targets() {
			if s.Name == name {
				is = s
			}
		}
		return is.State == state
	})
	return is
}

// metric gives the line of a metric of a target, without its labels; empty if there is none.
func metric(t *testing.T, text, name, target string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "anycastle_monitor_target_"+name+"{") && strings.Contains(line, `target="`+target+`"`) {
			return strings.TrimSpace(line[strings.LastIndex(line, "}")+1:])
		}
	}
	return ""
}

// metrics asks for all.
func metrics(t *testing.T, m *Monitor) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// TestLUNMoves has the service address of a LUN go from one store to another: one target, one name, two changes.
func TestLUNMoves(t *testing.T) {
	lun, other := serve(t), serve(t)
	var log lines
	m := start(t, Config{Targets: []Target{
		{Name: "lun-east", Address: lun.addr, Probe: fast(), Labels: map[string]string{"kind": "lun"}},
		{Name: "mx1", Address: other.addr, Probe: fast(), Labels: map[string]string{"site": "east"}},
	}}, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	becomes(t, m, "lun-east", probe.Passing)
	lun.ln.Close()
	if s := becomes(t, m, "lun-east", probe.Failing); !strings.Contains(s.Why, "connection refused") || s.Changes != 1 {
		t.Errorf("failing: %+v", s)
	}
	if v := metric(t, metrics(t, m), "up", "lun-east"); v != "0" {
		t.Errorf("up is %q while it fails", v)
	}
	lun.open()
	s := becomes(t, m, "lun-east", probe.Passing)
	if s.Changes != 2 || s.Why != "" || s.Failures < 2 || s.Since.IsZero() || s.Labels["kind"] != "lun" {
		t.Errorf("passing again: %+v", s)
	}
	becomes(t, m, "mx1", probe.Passing)
	text := metrics(t, m)
	for name, want := range map[string]string{"up": "1", "changes_total": "2"} {
		if v := metric(t, text, name, "lun-east"); v != want {
			t.Errorf("%s is %q, want %s", name, v, want)
		}
	}
	for _, name := range []string{"duration_seconds", "last_change_time_seconds", "probes_total", "failures_total"} {
		if metric(t, text, name, "lun-east") == "" {
			t.Errorf("%s is missing", name)
		}
	}
	for _, want := range []string{`kind="lun",probe="tcp",site="",target="lun-east"`, `kind="",probe="tcp",site="east",target="mx1"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no metric has %s", want)
		}
	}
	for _, want := range []string{
		`level=INFO msg="target changed" target=lun-east`, "old=unknown new=passing", "level=WARN", "old=passing new=failing", "old=failing new=passing", "kind=lun",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not have %q:\n%s", want, log.String())
		}
	}
}

func TestReloadKeepsCounts(t *testing.T) {
	a, b := serve(t), serve(t)
	target := Target{Name: "a", Address: a.addr, Probe: fast()}
	m := start(t, Config{Targets: []Target{target, {Name: "gone", Address: b.addr, Probe: fast()}}}, Options{})
	becomes(t, m, "a", probe.Passing)
	a.ln.Close()
	before := becomes(t, m, "a", probe.Failing)

	target.Labels = map[string]string{"kind": "real"}
	if err := m.Reload(Config{Targets: []Target{target, {Name: "new", Address: b.addr, Probe: fast()}}}); err != nil {
		t.Fatal(err)
	}
	if s := m.Targets()[0]; s.State != probe.Failing || !s.Since.Equal(before.Since) || s.Changes != 1 || s.Labels["kind"] != "real" {
		t.Errorf("after a reload: %+v, before: %+v", s, before)
	}
	becomes(t, m, "new", probe.Passing)
	if text := metrics(t, m); metric(t, text, "up", "gone") != "" || metric(t, text, "changes_total", "a") != "1" {
		t.Errorf("metrics after a reload:\n%s", text)
	}

	target.Address = b.addr // the name goes to another address: its counts stay, its state is to be found out
	if err := m.Reload(Config{Targets: []Target{target}}); err != nil {
		t.Fatal(err)
	}
	if s := becomes(t, m, "a", probe.Passing); s.Changes != 1 || s.Address != b.addr.String() || s.Probes <= before.Probes {
		t.Errorf("at another address: %+v", s)
	}

	for _, c := range []Config{{}, {Targets: []Target{target, target}}, {Targets: []Target{target}, Listen: &config.ListenAddr{Port: 1}}} {
		if err := m.Reload(c); err == nil {
			t.Errorf("a reload of %+v is taken", c)
		}
	}
	if len(m.Targets()) != 1 {
		t.Errorf("a refused reload has changed the targets: %+v", m.Targets())
	}
}

// TestLateResultIsOfNoOne has results arrive for targets that a reload has taken away or moved.
func TestLateResultIsOfNoOne(t *testing.T) {
	m, err := New(Config{Targets: []Target{{Name: "a", Address: Address{netip.MustParseAddrPort("192.0.2.1:25")}}}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	m.take(probe.Result{Target: probe.Target{Name: "gone"}, State: probe.Passing})
	m.take(probe.Result{Target: probe.Target{Name: "a", Addr: netip.MustParseAddrPort("192.0.2.2:25")}, State: probe.Passing})
	if s := m.Targets()[0]; s.State != probe.Unknown || s.Probes != 0 {
		t.Errorf("a is %+v", s)
	}
	close(m.ready)
	m.take(probe.Result{Target: m.watched["a"].target.probed(), Ours: true, Err: io.ErrNoProgress})
	if err := m.Healthy(); err == nil || !strings.Contains(err.Error(), "cannot probe a") {
		t.Errorf("health of a monitor that cannot probe: %v", err)
	}
	if s := m.Targets()[0]; s.State != probe.Unknown || !strings.HasPrefix(s.Why, "cannot probe: ") {
		t.Errorf("a is %+v", s)
	}
	m.take(probe.Result{Target: m.watched["a"].target.probed(), State: probe.Passing})
	if err := m.Healthy(); err != nil {
		t.Error(err)
	}
}

// TestListens asks over mutual TLS, and without a certificate.
func TestListens(t *testing.T) {
	ca := mtlstest.NewCA(t)
	load := func(name string) *mtls.Material {
		material, err := mtls.Load(ca.Node(t, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		return material
	}
	server := serve(t)
	addrs := make(chan string, 1)
	listen := func(ctx context.Context, network, _ string) (net.Listener, error) {
		ln, err := (&net.ListenConfig{}).Listen(ctx, network, "127.0.0.1:0")
		if err == nil {
			addrs <- ln.Addr().String()
		}
		return ln, err
	}
	at := config.AnyAddr(9110)
	c := Config{Listen: &at, Targets: []Target{{Name: "a", Address: server.addr, Probe: fast()}}}
	if _, err := New(c, Options{}); err == nil {
		t.Error("it would listen without TLS")
	}
	m := start(t, c, Options{TLS: load("monitor"), Listen: listen})
	becomes(t, m, "a", probe.Passing)
	base := "https://" + <-addrs
	get := func(config *tls.Config, path string) (string, error) {
		transport := &http.Transport{TLSClientConfig: config}
		defer transport.CloseIdleConnections()
		client := http.Client{Transport: transport}
		resp, err := client.Get(base + path)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return string(text), err
	}
	prometheus := load("prometheus").Client()
	if text, err := get(prometheus, "/metrics"); err != nil || metric(t, text, "up", "a") != "1" {
		t.Errorf("/metrics: %v\n%s", err, text)
	}
	if text, err := get(prometheus, "/healthz"); err != nil || text != "ok\n" {
		t.Errorf("/healthz: %q, %v", text, err)
	}
	var list []TargetStatus
	if text, err := get(prometheus, "/v1/target"); err != nil || json.Unmarshal([]byte(text), &list) != nil || len(list) != 1 {
		t.Errorf("/v1/target: %q, %v", text, err)
	}
	stranger := prometheus.Clone()
	stranger.Certificates = nil
	if text, err := get(stranger, "/metrics"); err == nil {
		t.Errorf("whoever has no certificate is told %q", text)
	}
}
