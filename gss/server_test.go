package gss

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// startConn serves one end of a pipe and gives the other, and a channel that says when serving ended.
func startConn(respond func([]byte, transport) []byte) (client net.Conn, ended <-chan time.Time) {
	client, inside := net.Pipe()
	s := &server{log: slog.New(slog.DiscardHandler), metrics: newMetrics(nil), respond: respond}
	done := make(chan time.Time, 1)
	go func() {
		s.serveConn(inside)
		inside.Close()
		done <- time.Now()
	}()
	return client, done
}

func echo(wire []byte, _ transport) []byte { return bytes.Clone(wire) }

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
				conn, ended := startConn(echo)
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
		conn, ended := startConn(echo)
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

func TestLongestQuietConnectionMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set connSet
		var conns []net.Conn
		for range maxConns {
			a, b := net.Pipe()
			defer b.Close()
			if set.add(a) {
				t.Fatal("a connection had to go before the set was full")
			}
			conns = append(conns, a)
			<-time.After(time.Millisecond)
		}
		set.touch(conns[0])
		a, b := net.Pipe()
		defer b.Close()
		if !set.add(a) || len(set.used) != maxConns {
			t.Errorf("%d connections are held, want %d", len(set.used), maxConns)
		}
		if _, err := conns[1].Read(nil); err != io.ErrClosedPipe {
			t.Errorf("the connection that was quiet longest gives %v, want it closed", err)
		}
		if err := conns[0].SetDeadline(time.Now()); err != nil {
			t.Errorf("the connection that was used last gives %v, want it open", err)
		}
		set.closeAll()
	})
}
