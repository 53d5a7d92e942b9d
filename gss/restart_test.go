package gss

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/message"
)

// What has come over a connection when the server is told to end is answered, and so is who connects a moment later.
func TestLastQueriesOverTCPAreAnswered(t *testing.T) {
	list, err := bind(t.Context(), []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	begun, goOn := make(chan struct{}, 10), make(chan struct{})
	s := &server{log: slog.New(slog.DiscardHandler), metrics: newMetrics(nil), limiter: testLimiter(t, nil)}
	s.respond = func(wire []byte, _ message.Transport, _ netip.AddrPort, _ func([]byte) bool) []byte {
		begun <- struct{}{}
		<-goOn
		return bytes.Clone(wire)
	}
	dial := func(queries ...string) net.Conn {
		conn, err := net.Dial("tcp", list[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range queries {
			if _, err := conn.Write(frame([]byte(q))); err != nil {
				t.Fatal(err)
			}
		}
		return conn
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.serve(ctx, list) }()
	busy, idle := dial("one", "two", "three"), dial()
	<-begun
	cancel()
	late := dial("late")
	close(goOn)
	for conn, want := range map[net.Conn][]string{busy: {"one", "two", "three"}, late: {"late"}, idle: nil} {
		for _, q := range want {
			if got := readFrame(t, conn); string(got) != q {
				t.Errorf("the reply is %q, want %q", got, q)
			}
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("a connection has %d octets more, %v; want its end", n, err)
		}
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("serve ended with %v", err)
	}
}

// A client that takes no reply does not hold up the end.
func TestSlowClientsDoNotHoldUpTheEnd(t *testing.T) {
	list, err := bind(t.Context(), []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{log: slog.New(slog.DiscardHandler), metrics: newMetrics(nil), limiter: testLimiter(t, nil)}
	stuck := make(chan struct{}, 1)
	s.respond = func(_ []byte, _ message.Transport, _ netip.AddrPort, more func([]byte) bool) []byte {
		for more(make([]byte, 60_000)) {
			select {
			case stuck <- struct{}{}:
			default:
			}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.serve(ctx, list) }()
	conn, err := net.Dial("tcp", list[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(frame([]byte("query"))); err != nil {
		t.Fatal(err)
	}
	<-stuck
	start := time.Now()
	cancel()
	<-ended
	if took := time.Since(start); took > lastReplies+time.Second {
		t.Errorf("the end took %v", took)
	}
}

// One GSS follows another on the same addresses, some times over, and every query has its reply.
func TestRestartLosesNoQuery(t *testing.T) {
	start := func(listen netip.AddrPort) (at netip.AddrPort, stop func()) {
		cfg := mustDecode(t, nodeFile)
		cfg.Limits.ResponsesPerSecond, cfg.Limits.TCPQueriesPerSecond, cfg.StateDir = 0, 0, t.TempDir()
		g, err := New(cfg, Options{})
		if err != nil {
			t.Fatal(err)
		}
		g.engine.next.config.Listen = []netip.AddrPort{listen}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		waitFor(t, "the sockets", func() bool { return g.Healthy() == nil })
		return g.Server().Listen[0], func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run ended with %v", err)
			}
		}
	}
	at, stop := start(netip.MustParseAddrPort("127.0.0.1:0"))
	var asked [2]atomic.Uint64
	ctx, cancel := context.WithCancel(t.Context())
	var askers sync.WaitGroup
	for i, network := range []string{"udp", "tcp"} {
		askers.Go(func() {
			for ; ctx.Err() == nil; asked[i].Add(1) {
				c := &dns.Client{Net: network, Timeout: patience}
				query := question("web.mail.example.org.", dns.TypeA)
				m, _, err := c.Exchange(query, at.String())
				if err != nil && network == "tcp" {
					m, _, err = c.Exchange(query, at.String()) // RFC 7766 section 6.2.4: a connection may end at any time
				}
				if err != nil || len(m.Answer) != 1 {
					t.Errorf("%s: %v, %v", network, m, err)
				}
			}
		})
	}
	for range 4 {
		before := [2]uint64{asked[0].Load(), asked[1].Load()}
		waitFor(t, "queries", func() bool { return asked[0].Load() > before[0]+20 && asked[1].Load() > before[1]+20 })
		_, next := start(at)
		stop()
		stop = next
	}
	cancel()
	askers.Wait()
	stop()
}
