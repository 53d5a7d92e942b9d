package gss

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/gss/limit"
	"anycastle/gss/message"
)

// startConn serves one end of a pipe and gives the other, and a channel that says when serving ended.
func startConn(t *testing.T, respond respond) (client net.Conn, ended <-chan time.Time) {
	client, inside := net.Pipe()
	s := &server{log: slog.New(slog.DiscardHandler), metrics: newMetrics(nil), limiter: testLimiter(t, nil), respond: respond}
	done := make(chan time.Time, 1)
	go func() {
		s.serveConn(inside, inside, message.TCP, netip.AddrPort{})
		inside.Close()
		done <- time.Now()
	}()
	return client, done
}

func echo(wire []byte, _ message.Transport, _ netip.AddrPort, _ func([]byte) bool) []byte {
	return bytes.Clone(wire)
}

func TestSlowClientsLoseTheirConnection(t *testing.T) {
	for name, client := range map[string]func(net.Conn){
		"silent":          func(net.Conn) {},
		"stops in length": func(c net.Conn) { c.Write([]byte{0}) },
		"drips a query": func(c net.Conn) {
			c.Write([]byte{0, 100})
			for range 100 {
				<-time.After(idleTime * 3 / 10)
				if _, err := c.Write([]byte{0}); err != nil {
					return
				}
			}
		},
		"takes no reply": func(c net.Conn) { c.Write(frame([]byte("query"))) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				conn, ended := startConn(t, echo)
				client(conn)
				if took := (<-ended).Sub(start); took != idleTime {
					t.Errorf("the connection was held for %v, want %v", took, idleTime)
				}
				conn.Close()
			})
		})
	}
}

func TestPatientClientKeepsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, ended := startConn(t, echo)
		for range 5 {
			<-time.After(idleTime - time.Second)
			if _, err := conn.Write(frame([]byte("query"))); err != nil {
				t.Fatal(err)
			}
			reply := make([]byte, 7)
			if _, err := io.ReadFull(conn, reply); err != nil || !bytes.Equal(reply, frame([]byte("query"))) {
				t.Fatalf("reply is %x, %v", reply, err)
			}
		}
		conn.Close()
		<-ended
	})
}

// testLimiter has the limits that are the defaults but for what set changes.
func testLimiter(t *testing.T, set func(*limit.Config)) func() *limit.Limiter {
	t.Helper()
	var cfg limit.Config
	cfg.SetDefaults()
	if set != nil {
		set(&cfg)
	}
	l := limit.New(cfg, limit.Random(), time.Now())
	return func() *limit.Limiter { return l }
}

func TestLongestQuietConnectionMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 5
		s := &server{metrics: newMetrics(nil), limiter: testLimiter(t, func(c *limit.Config) { c.Connections = most })}
		from := netip.MustParseAddr("192.0.2.1")
		var conns []net.Conn
		for range most {
			a, b := net.Pipe()
			defer b.Close()
			place := s.open(from)
			if place == nil || testutil.ToFloat64(s.metrics.evicted) > 0 {
				t.Fatal("a connection had to go before all places were taken")
			}
			s.conns.add(a, place)
			conns = append(conns, a)
			<-time.After(time.Millisecond)
		}
		s.conns.touch(conns[0])
		if s.open(from) == nil || len(s.conns.used) != most-1 {
			t.Errorf("%d connections are held, want %d and a new one", len(s.conns.used), most-1)
		}
		if _, err := conns[1].Read(nil); err != io.ErrClosedPipe {
			t.Errorf("the connection that was quiet longest gives %v, want it closed", err)
		}
		if err := conns[0].SetDeadline(time.Now()); err != nil {
			t.Errorf("the connection that was used last gives %v, want it open", err)
		}
		s.conns.closeAll()
	})
}

// Who fills the places of a network locks its neighbours out no more than others.
func TestQuietConnectionOfTheNetworkMakesRoom(t *testing.T) {
	limits := testLimiter(t, func(c *limit.Config) { c.Connections, c.NetworkConnections = 10, 3 })
	s := &server{metrics: newMetrics(nil), limiter: limits}
	open := func(from string) net.Conn {
		place := s.open(netip.MustParseAddr(from))
		if place == nil {
			t.Fatalf("a connection from %s is refused", from)
		}
		a, b := net.Pipe()
		t.Cleanup(func() { a.Close(); b.Close() })
		s.conns.add(a, place)
		return a
	}
	isOpen := func(c net.Conn) bool { return c.SetDeadline(time.Time{}) == nil }
	elsewhere := open("198.51.100.1")
	first, second := open("192.0.2.1"), open("192.0.2.1")
	open("192.0.2.1")
	s.conns.touch(first)
	open("192.0.2.200")
	if isOpen(second) || !isOpen(first) || !isOpen(elsewhere) {
		t.Errorf("open are the first: %v, the second: %v, one of another network: %v; want the second closed", isOpen(first), isOpen(second), isOpen(elsewhere))
	}
	if n := testutil.ToFloat64(s.metrics.evicted); n != 1 || len(s.conns.used) != 4 {
		t.Errorf("%v are evicted and %d are left", n, len(s.conns.used))
	}
	// those of other limits, before a reload, would make no room
	s.limiter = testLimiter(t, func(c *limit.Config) { c.Connections, c.NetworkConnections = 1, 1 })
	open("192.0.2.1")
	open("192.0.2.1")
	if n := testutil.ToFloat64(s.metrics.evicted); n != 2 || !isOpen(first) {
		t.Errorf("%v are evicted; the first of old is open: %v", n, isOpen(first))
	}
}
