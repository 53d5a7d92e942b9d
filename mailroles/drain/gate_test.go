package drain

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A server that comes back to a gate while others are turned away there hears that it is closed.
func TestServerComesBackToAClosedGate(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(ln, "bye\r\n")
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	var leaving sync.WaitGroup
	leaving.Go(g.turnAway)
	defer leaving.Wait()
	defer g.end()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if text, err := io.ReadAll(conn); err != nil || string(text) != "bye\r\n" {
		t.Fatalf("who is turned away hears %q, %v", text, err)
	}
	got := make(chan error, 1)
	leaving.Go(func() {
		_, err := g.Accept()
		got <- err
	})
	select {
	case err := <-got:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("the server hears %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the server hears nothing")
	}
}
