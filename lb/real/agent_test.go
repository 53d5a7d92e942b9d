package real

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/lb/agent"
)

var loopback4 = netip.MustParseAddr("127.0.0.1")

// fakeSource is a real whose counts a test sets.
type fakeSource struct {
	mu     sync.Mutex
	r      agent.Report
	urgent uint64
	err    error
	listed chan struct{} // a list waits for it; nil: none does
}

func newFakeSource() *fakeSource {
	return &fakeSource{r: agent.Report{At: time.Now(), Since: time.Now(), VIPs: []agent.Port{
		{Address: vip1, Protocol: agent.TCP, Port: 25, Listening: true},
	}}}
}

func (f *fakeSource) report(time.Duration) (agent.Report, uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.r, f.urgent, f.err
}

func (f *fakeSource) list(limit int) ([]agent.Flow, error) {
	if f.listed != nil {
		<-f.listed
	}
	list := []agent.Flow{}
	for i := range min(limit, 3) {
		list = append(list, agent.Flow{
			Client: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.7"), uint16(4242+i)), VIP: netip.AddrPortFrom(vip1, 25), Protocol: agent.TCP,
		})
	}
	return list, f.err
}

func (f *fakeSource) change(what func(*fakeSource)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what(f)
}

// running is a server of a test, and what a load balancer needs for it.
type running struct {
	t      *testing.T
	server *server
	source *fakeSource
	addr   string
	client *tls.Config
	stop   func()
}

func serveAgent(t *testing.T) *running {
	t.Helper()
	ca := mtlstest.NewCA(t)
	cfg := AgentConfig{Listen: config.ListenAddr{Addr: loopback4}, TLS: ca.Host(t, "mx1", []netip.Addr{loopback4})}
	ln, err := listenAgent(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, source: newFakeSource(), addr: ln.Addr().String(), client: clientTLS(t, ca.Host(t, "lb1", nil))}
	r.server = &server{source: r.source, healthy: func() error {
		_, _, err := r.source.report(0)
		return err
	}, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.run(ctx, ln) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server ended with %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func clientTLS(t *testing.T, f mtls.Files) *tls.Config {
	t.Helper()
	m, err := mtls.Load(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m.Client()
}

// get asks for a path; the caller closes the answer's body.
func (r *running) get(path string, with *tls.Config) (*http.Response, error) {
	client := http.Client{Transport: &http.Transport{TLSClientConfig: with, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "https://"+r.addr+path, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// answer asks for a path and reads all of the answer.
func (r *running) answer(path string) (int, string) {
	r.t.Helper()
	res, err := r.get(path, r.client)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// stream reads reports until the test ends.
func (r *running) stream(query string) *agent.Stream {
	r.t.Helper()
	res, err := r.get("/v1/report"+query, r.client)
	if err != nil || res.StatusCode != http.StatusOK {
		r.t.Fatalf("%+v, %v", res, err)
	}
	r.t.Cleanup(func() { res.Body.Close() })
	return agent.NewStream(res.Body)
}

func TestAgentAsksForCertificates(t *testing.T) {
	r := serveAgent(t)
	anonymous := r.client.Clone()
	anonymous.Certificates = nil
	stranger := clientTLS(t, mtlstest.NewCA(t).Host(t, "lb1", nil))
	stranger.RootCAs = r.client.RootCAs
	old := r.client.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, with := range map[string]*tls.Config{"no certificate": anonymous, "another CA": stranger, "TLS 1.2": old} {
		if res, err := r.get("/healthz", with); err == nil {
			res.Body.Close()
			t.Errorf("%s: answered %s", name, res.Status)
		}
	}
	if code, text := r.answer("/healthz"); code != http.StatusOK || text != "ok\n" {
		t.Errorf("healthz: %d %q", code, text)
	}
	plain, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	fmt.Fprintf(plain, "GET /healthz HTTP/1.0\r\n\r\n")
	text, _ := io.ReadAll(plain)
	if strings.Contains(string(text), "ok") {
		t.Errorf("without TLS: %q", text)
	}
}

func TestAgentAnswers(t *testing.T) {
	r := serveAgent(t)
	for _, tc := range []struct {
		path, want string
		code       int
	}{
		{"/v1/flows?limit=1", `[{"client":"192.0.2.7:4242","vip":"203.0.113.10:25","protocol":"tcp"}]` + "\n", 200},
		{"/v1/flows?limit=0", "limit is a number from 1 to 1048576\n", 400},
		{"/v1/flows?limit=x", "limit is a number from 1 to 1048576\n", 400},
		{"/v1/report?every=19ms", "every is a duration from 20ms to 10s\n", 400},
		{"/v1/report?every=11s", "every is a duration from 20ms to 10s\n", 400},
		{"/v1/report?every=50", "every is a duration from 20ms to 10s\n", 400},
		{"/v1/elsewhere", "404 page not found\n", 404},
	} {
		if code, text := r.answer(tc.path); code != tc.code || text != tc.want {
			t.Errorf("%s: %d %q, want %d %q", tc.path, code, text, tc.code, tc.want)
		}
	}
	if _, text := r.answer("/v1/flows"); strings.Count(text, "client") != 3 {
		t.Errorf("flows: %s", text)
	}
	r.source.change(func(f *fakeSource) { f.err = errors.New("no kernel") })
	for path, code := range map[string]int{"/healthz": 503, "/v1/flows": 500} {
		if got, text := r.answer(path); got != code || !strings.Contains(text, "no kernel") {
			t.Errorf("%s without reports: %d %q", path, got, text)
		}
	}
	// who gets nothing knows that nothing is known
	if code, text := r.answer("/v1/report"); code != 200 || text != "" {
		t.Errorf("report that cannot be made: %d %q", code, text)
	}
}

func TestReportsComeInTurnAndEarlier(t *testing.T) {
	r := serveAgent(t)
	often := r.stream("?every=20ms")
	for range 5 {
		if got, err := often.Next(); err != nil || len(got.VIPs) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	seldom := r.stream("?every=10s")
	start := time.Now()
	if _, err := seldom.Next(); err != nil {
		t.Fatal(err)
	}
	r.source.change(func(f *fakeSource) {
		f.urgent++
		f.r.VIPs = []agent.Port{{Address: vip1, Protocol: agent.TCP, Port: 25, Refused: 3}}
	})
	got, err := seldom.Next()
	if err != nil || got.VIPs[0].Refused != 3 {
		t.Errorf("after a refusal: %+v, %v", got, err)
	}
	if took := time.Since(start); took >= 10*time.Second {
		t.Errorf("a report about refusals came after %v, when it was its turn", took)
	}
	r.source.change(func(f *fakeSource) { f.err = errors.New("no kernel") })
	for err == nil { // what was on its way comes
		_, err = often.Next()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("when no report can be made the stream ends with %v", err)
	}
}

func TestReadersAreBounded(t *testing.T) {
	r := serveAgent(t)
	for range maxStreams {
		if _, err := r.stream("?every=10s").Next(); err != nil {
			t.Fatal(err)
		}
	}
	if code, text := r.answer("/v1/report"); code != http.StatusServiceUnavailable || !strings.Contains(text, "32 load balancers") {
		t.Errorf("one more: %d %q", code, text)
	}
	if code, _ := r.answer("/healthz"); code != http.StatusOK {
		t.Errorf("healthz beside them: %d", code)
	}
}

func TestListsAreBounded(t *testing.T) {
	r := serveAgent(t)
	r.source.listed = make(chan struct{})
	var asking sync.WaitGroup
	for range maxLists {
		asking.Go(func() {
			if code, text := r.answer("/v1/flows"); code != http.StatusOK {
				t.Errorf("%d %q", code, text)
			}
		})
	}
	eventually(t, "lists are made", func() bool { return r.server.lists.Load() == maxLists })
	if code, text := r.answer("/v1/flows"); code != http.StatusServiceUnavailable {
		t.Errorf("one more: %d %q", code, text)
	}
	close(r.source.listed)
	asking.Wait()
	if code, _ := r.answer("/v1/flows"); code != http.StatusOK {
		t.Errorf("after them: %d", code)
	}
}

// TestConnectionsAreBounded opens as many as may be, says nothing on them, and opens one more.
func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &boundedListener{Listener: inner, free: make(chan struct{}, 2)}
	defer ln.Close()
	accepted := make(chan net.Conn, 4)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	})
	defer accepting.Wait()
	defer inner.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		return c
	}
	dial()
	dial()
	first := <-accepted
	<-accepted
	if _, err := dial().Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one too many: %v", err)
	}
	first.Close()
	first.Close() // gives back one place all the same
	dial()
	<-accepted
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("a place was given back twice")
	}
}

// TestSlowReaderIsDropped asks for reports and reads none.
func TestSlowReaderIsDropped(t *testing.T) {
	r := serveAgent(t)
	r.source.change(func(f *fakeSource) { // large ones, so that buffers are full soon
		p := f.r.VIPs[0]
		for i := range agent.MaxPorts - 1 {
			p.Port = uint16(1000 + i)
			f.r.VIPs = append(f.r.VIPs, p)
		}
	})
	raw, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.(*net.TCPConn).SetReadBuffer(4096)
	with := r.client.Clone()
	with.ServerName = "127.0.0.1"
	conn := tls.Client(raw, with)
	fmt.Fprintf(conn, "GET /v1/report?every=20ms HTTP/1.1\r\nHost: mx1\r\n\r\n")
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if n := r.server.streams.Load(); n != 1 {
		t.Fatalf("%d readers, want one", n)
	}
	eventually(t, "slow reader dropped", func() bool { return r.server.streams.Load() == 0 })
}

// TestAgentEndsWhole ends a server with readers, one of which does not read, and looks for what it leaves.
func TestAgentEndsWhole(t *testing.T) {
	before := runtime.NumGoroutine()
	r := serveAgent(t)
	var readers []*agent.Stream
	for range 3 {
		reader := r.stream("?every=20ms")
		if _, err := reader.Next(); err != nil {
			t.Fatal(err)
		}
		readers = append(readers, reader)
	}
	silent, err := net.Dial("tcp", r.addr) // no handshake
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r.stop()
	if n := r.server.streams.Load(); n != 0 {
		t.Errorf("%d streams run on", n)
	}
	if c, err := net.Dial("tcp", r.addr); err == nil {
		c.Close()
		t.Error("it still listens")
	}
	for _, reader := range readers { // their own goroutines end when they have noticed
		for err == nil {
			_, err = reader.Next()
		}
		err = nil
	}
	eventually(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= before })
}

func TestAgentPortIsTaken(t *testing.T) {
	r := serveAgent(t)
	addr := netip.MustParseAddrPort(r.addr)
	cfg := AgentConfig{
		Listen: config.ListenAddr{Addr: addr.Addr(), Port: addr.Port()},
		TLS:    mtlstest.NewCA(t).Host(t, "mx1", []netip.Addr{loopback4}),
	}
	if _, err := listenAgent(t.Context(), cfg, nil); err == nil || !strings.Contains(err.Error(), "real.agent.listen") {
		t.Errorf("error %v, want one that names the key", err)
	}
}
