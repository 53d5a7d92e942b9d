package udp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"anycastle/internal/netnstest"
)

// patience bounds every wait for what must come.
const patience = 20 * time.Second

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// echo is a handler that gives queries back. Their first octet says how: 'f' fast, 's' slow, 'h' slow and only once held is
// closed, 'n' slow without a reply, and any other not at all.
type echo struct {
	held  chan struct{}
	mu    sync.Mutex
	begun map[int]int // batches of each lane
}

type echoLane struct {
	e *echo
	i int
}

func newEcho() *echo { return &echo{held: make(chan struct{}), begun: map[int]int{}} }

func (e *echo) Lane(i int) Lane { return &echoLane{e, i} }

func (l *echoLane) Begin(time.Time) {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	l.e.begun[l.i]++
}

func (l *echoLane) Fast(dst, query []byte, _ netip.AddrPort) (int, Verdict) {
	if len(query) == 0 {
		return 0, Dropped
	}
	switch query[0] {
	case 'f':
		return copy(dst, query), Answered
	case 's', 'h', 'n':
		return 0, Slow
	}
	return 0, Dropped
}

func (e *echo) Slow(dst, query []byte, _ netip.AddrPort) int {
	switch query[0] {
	case 'h':
		<-e.held
	case 'n':
		return 0
	}
	return copy(dst, query)
}

// listen opens a server.
func listen(t testing.TB, cfg Config, h Handler) *Server {
	t.Helper()
	if cfg.Listen == nil {
		cfg.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	}
	s, err := Listen(cfg, h)
	check(t, err)
	t.Cleanup(s.Close)
	return s
}

// listenIn opens an echo server in a namespace.
func listenIn(t testing.TB, ns *netnstest.NS, cfg Config) (s *Server) {
	t.Helper()
	ns.Do(func() (err error) { s, err = Listen(cfg, newEcho()); return err })
	t.Cleanup(s.Close)
	return s
}

// serve has a server serve until the test ends or stop is called, which gives what Serve gave.
func serve(t testing.TB, s *Server) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }() // waited for by stop
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("Serve does not end")
		}
	})
	t.Cleanup(func() {
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	return stop
}

// dial gives a client that hears the address alone which it asks.
func dial(t testing.TB, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	check(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// dialIn is dial in a namespace.
func dialIn(t testing.TB, ns *netnstest.NS, to netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	ns.Do(func() (err error) { c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)); return err })
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t testing.TB, c *net.UDPConn, query string) {
	t.Helper()
	_, err := c.Write([]byte(query))
	check(t, err)
}

func expect(t testing.TB, c *net.UDPConn, want string) {
	t.Helper()
	check(t, c.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("no reply %q: %v", want, err)
	}
	if got := string(buf[:n]); got != want {
		t.Fatalf("reply %q, want %q", got, want)
	}
}

// total adds up the counters of all sockets.
func total(s *Server) (sum Counters) {
	for _, c := range s.Counters() {
		sum.Received += c.Received
		sum.Fast += c.Fast
		sum.Slow += c.Slow
		sum.ReceiveErrors += c.ReceiveErrors
		sum.Overflowed += c.Overflowed
		for i, n := range c.Dropped {
			sum.Dropped[i] += n
		}
		for i, n := range c.Batches {
			sum.Batches[i] += n
		}
	}
	return sum
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}
