package gss

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/gss/decide"
	"anycastle/internal/mtlstest"
	"anycastle/internal/porttest"
	"anycastle/internal/probe"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// running is a GSS on loopback whose answers are TCP listeners of the test.
type running struct {
	*GSS
	addr string // of its UDP and TCP sockets
}

// startRunning runs a GSS whose answers 127.0.0.1 and 127.0.0.2 are probed on the ports.
func startRunning(t *testing.T, eastPort, westPort uint16, settings ...func(*Config)) *running {
	t.Helper()
	cfg := mustDecode(t, nodeFile)
	for i, port := range []uint16{eastPort, westPort} {
		a := &cfg.Answers[i]
		a.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 1)})}
		a.FailBack = 0
		p := &a.Probes[0]
		p.Port, p.Interval, p.Timeout = port, 100*time.Millisecond, 100*time.Millisecond
	}
	for _, set := range settings {
		set(&cfg)
	}
	g, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	g.engine.next.config.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")} // any free port, which Validate refuses
	for i := range g.engine.next.config.ListenTLS {
		g.engine.next.config.ListenTLS[i] = g.engine.next.config.Listen[0]
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
	r := &running{GSS: g}
	waitFor(t, "the sockets", func() bool { return g.Healthy() == nil })
	r.addr = g.Server().Listen[0].String()
	return r
}

// waitFor waits until the condition holds.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

func (r *running) ask(t *testing.T, network string) string {
	t.Helper()
	m, _, err := (&dns.Client{Net: network, Timeout: patience}).Exchange(question("smtp.mail.example.org.", dns.TypeA), r.addr)
	if err != nil {
		t.Fatal(err)
	}
	text := dns.RcodeToString[m.Rcode]
	for _, rr := range m.Answer {
		text += " " + rr.(*dns.A).A.String()
	}
	return text
}

// newSite is a site that has its port until the test ends, also while it is down.
func newSite(t *testing.T, ip string) net.Listener {
	t.Helper()
	return site(t, porttest.Free(t, ip).String())
}

// site is a TCP listener that accepts and closes.
func site(t *testing.T, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln
}

func portOf(ln net.Listener) uint16 { return uint16(ln.Addr().(*net.TCPAddr).Port) }

func TestFailoverOnRealSockets(t *testing.T) {
	east, west := newSite(t, "127.0.0.1"), newSite(t, "127.0.0.2")
	r := startRunning(t, portOf(east), portOf(west))
	answer := func(want string) {
		t.Helper()
		waitFor(t, want, func() bool { return r.ask(t, "udp") == want })
		if got := r.ask(t, "tcp"); got != want {
			t.Errorf("over TCP the answer is %q, want %q", got, want)
		}
	}
	answer("NOERROR 127.0.0.1")
	east.Close()
	answer("NOERROR 127.0.0.2")
	west.Close()
	waitFor(t, "the loss of both sites", func() bool { return r.Rules()[1].Basis == decide.LastGood })
	answer("NOERROR 127.0.0.2")
	site(t, east.Addr().String())
	answer("NOERROR 127.0.0.1")
}

// Nothing is bound before every answer has been probed, so that no resolver is sent to a dead site by a fresh start.
func TestNoAnswerBeforeTheFirstRound(t *testing.T) {
	release := make(chan struct{})
	cfg := mustDecode(t, nodeFile)
	for i := range cfg.Answers {
		cfg.Answers[i].Probes[0].Interval, cfg.Answers[i].Probes[0].Timeout = patience, patience
	}
	g, err := New(cfg, Options{Probe: func(ctx context.Context, t probe.Target, _ *probe.Advice) error {
		if t.Addr.Addr().String() == west {
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	g.engine.next.config.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	waitFor(t, "the first answer's probe", func() bool { return !g.Answers()[0].Probes[0].LastProbe.IsZero() })
	if s := g.Server(); !errors.Is(g.Healthy(), ErrNotReady) || len(s.Listen) != 0 || s.Generation != 0 {
		t.Errorf("with one of two answers probed the status is %+v", s)
	}
	close(release)
	waitFor(t, "the sockets", func() bool { return g.Healthy() == nil })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run ended with %v", err)
	}
}

func TestAddressThatCannotBeListenedOn(t *testing.T) {
	taken := newSite(t, "127.0.0.1").Addr().String()
	for listen, mend := range map[string]string{
		taken:               "another program, or another user's, answers there",
		"198.51.100.7:5353": "no interface of this node has it",
	} {
		cfg := mustDecode(t, strings.Replace(nodeFile, "198.51.100.7:53", listen, 1))
		for i := range cfg.Answers {
			cfg.Answers[i].Probes[0].Interval, cfg.Answers[i].Probes[0].Timeout = time.Second, time.Second
		}
		g, err := New(cfg, Options{Probe: (&sites{}).probe})
		if err != nil {
			t.Fatal(err)
		}
		err = g.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "answer on TCP") || !strings.Contains(err.Error(), listen) || !strings.Contains(err.Error(), mend) {
			t.Errorf("%s: Run ended with %v", listen, err)
		}
	}
}

func TestUDPReplyLeavesFromTheAddressAsked(t *testing.T) {
	r := startRunning(t, 1, 1)
	conn, err := net.Dial("udp", r.addr) // a connected socket takes packets from this address only
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	for _, junk := range [][]byte{nil, []byte("x"), packed(t, &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}})} {
		if _, err := conn.Write(junk); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Write(packed(t, question("web.mail.example.org.", dns.TypeA))); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if got := render(t, buf[:n]); !strings.HasSuffix(got, "\nweb.mail.example.org. 5 IN A 192.0.2.80") {
		t.Errorf("the first reply is\n%s", got)
	}
}

func frame(wire []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
}

func readFrame(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(patience))
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	wire := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, wire); err != nil {
		t.Fatal(err)
	}
	return wire
}

func TestPipelinedQueriesOverTCP(t *testing.T) {
	r := startRunning(t, 1, 1)
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var all []byte
	for id := range uint16(50) {
		m := question("web.mail.example.org.", dns.TypeA)
		m.Id = id
		all = append(all, frame(packed(t, m))...)
	}
	half := len(all)/2 + 7 // in the middle of a query
	for _, part := range [][]byte{all[:half], all[half:]} {
		if _, err := conn.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	for id := range 50 {
		wire := readFrame(t, conn)
		if got := binary.BigEndian.Uint16(wire); int(got) != id || wire[3]&0xf != dns.RcodeSuccess {
			t.Errorf("reply %d has the ID %d", id, got)
		}
	}
	if _, err := conn.Write(frame([]byte("junk"))); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, context.DeadlineExceeded) || err == nil {
		t.Errorf("after junk the connection gives %d bytes and %v, want its end", n, err)
	}
}

func TestIdleConnectionsLockNobodyOut(t *testing.T) {
	const most = 40
	r := startRunning(t, 1, 1, func(c *Config) { c.Limits.NetworkConnections = most })
	for i := range most + 10 {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer conn.Close()
	}
	if got := r.ask(t, "tcp"); !strings.HasPrefix(got, "NOERROR") {
		t.Errorf("answer is %q", got)
	}
	waitFor(t, "evictions", func() bool { return testutil.ToFloat64(r.metrics.evicted) >= 11 })
	waitFor(t, "the evicted to be gone", func() bool { return testutil.ToFloat64(r.metrics.conns) <= most })
}

// The same questions over TLS (RFC 7858): who dials gets the certificate, ALPN, keepalive and padding.
func TestDNSOverTLS(t *testing.T) {
	ca := mtlstest.NewCA(t)
	files := ca.Node(t, "gss")
	east := newSite(t, "127.0.0.1")
	r := startRunning(t, portOf(east), portOf(east), func(c *Config) {
		c.ListenTLS, c.TLS = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:853")}, &files
		c.checked = nil
	})
	text, err := os.ReadFile(files.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	secure := &tls.Config{RootCAs: roots, ServerName: "mx.example.org", NextProtos: []string{"dot"}}
	c := &dns.Client{Net: "tcp-tls", Timeout: patience, TLSConfig: secure}
	m := question("smtp.mail.example.org.", dns.TypeA)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}, &dns.EDNS0_PADDING{Padding: make([]byte, 20)}}
	reply, _, err := c.Exchange(m, r.Server().ListenTLS[0].String())
	if err != nil {
		t.Fatal(err)
	}
	if len(reply.Answer) != 1 || reply.Answer[0].(*dns.A).A.String() != "127.0.0.1" {
		t.Errorf("the reply is\n%v", reply)
	}
	reply.Compress = true // as it came
	wire, err := reply.Pack()
	if err != nil {
		t.Fatal(err)
	}
	options := map[uint16]bool{}
	for _, o := range reply.IsEdns0().Option {
		options[o.Option()] = true
	}
	if len(wire)%468 != 0 || !options[dns.EDNS0TCPKEEPALIVE] || !options[dns.EDNS0PADDING] {
		t.Errorf("a reply of %d octets with the options %v", len(wire), options)
	}
	if got := r.ask(t, "tcp"); got != "NOERROR 127.0.0.1" {
		t.Errorf("over TCP beside it: %s", got)
	}
	dig, err := exec.LookPath("dig")
	if err != nil {
		if os.Getenv("ANYCASTLE_TEST_ROOT") != "" {
			t.Fatal("dig is not here; .ci/packages installs it")
		}
		t.Skip("dig is not here")
	}
	out, err := exec.CommandContext(t.Context(), dig, "@127.0.0.1", "-p", fmt.Sprint(r.Server().ListenTLS[0].Port()), "+tls-ca="+files.CA,
		"+tls-hostname=mx.example.org", "+short", "smtp.mail.example.org", "A").CombinedOutput()
	if err != nil || string(out) != "127.0.0.1\n" {
		t.Errorf("dig over TLS says %q, %v", out, err)
	}
}
