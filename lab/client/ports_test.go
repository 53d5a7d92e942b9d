package client

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// A port that a connection has had comes up again only when all others have been, whatever became of the connection, and one
// that is taken is passed over.
func TestPortsComeOneAfterTheOther(t *testing.T) {
	f := newFake(t, func(c net.Conn) { fmt.Fprint(c, "220 mx.example.org\r\n") })
	p := newPorts()
	conn, err := dial(t.Context(), p, f.addr(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // it keeps its port until the end
	before := offset(conn)
	p.last.Add(numPorts - 2) // the same one comes next
	seen := map[int]bool{before: true}
	for range 50 {
		if _, err := greet(t.Context(), p, f.addr(), bannerSMTP); err != nil {
			t.Fatal(err)
		}
		conn, err := dial(t.Context(), p, f.addr(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		now := offset(conn)
		if seen[now] {
			t.Fatalf("port %d comes again", firstPort+now)
		}
		seen[now] = true
		// others may have some of the ports between, on a machine that does other things too
		if d := (now - before + numPorts) % numPorts; d > 500 {
			t.Errorf("port %d after %d", firstPort+now, firstPort+before)
		}
		before = now
	}
}

func offset(c net.Conn) int { return c.LocalAddr().(*net.TCPAddr).Port - firstPort }
