package drain

import (
	"io"
	"net"
	"sync"
	"time"
)

// farewellTime bounds what is said to somebody who is turned away.
const farewellTime = time.Second

// gate is a listener that its server closes while the socket stays open.
type gate struct {
	net.Listener
	farewell string

	accepting chan struct{} // full while somebody accepts
	once      sync.Once     // of shut
	shut      chan struct{} // closed when the server has closed the gate, or nobody needs it any more
}

func newGate(ln net.Listener, farewell string) *gate {
	return &gate{Listener: ln, farewell: farewell, accepting: make(chan struct{}, 1), shut: make(chan struct{})}
}

func (g *gate) isShut() bool {
	select {
	case <-g.shut:
		return true
	default:
		return false
	}
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case g.accepting <- struct{}{}:
		defer func() { <-g.accepting }()
	case <-g.shut: // others may be turned away already, until its server has ended
	}
	if g.isShut() {
		return nil, net.ErrClosed
	}
	conn, err := g.Listener.Accept()
	if g.isShut() {
		if err == nil {
			g.leave(conn)
		}
		return nil, net.ErrClosed
	}
	return conn, err
}

// Close implements net.Listener. The socket stays open if who waits at it can be woken.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.shut) })
	if ln, ok := g.Listener.(deadliner); ok {
		return ln.SetDeadline(time.Unix(1, 0))
	}
	return g.Listener.Close()
}

// end closes the socket.
func (g *gate) end() error {
	g.once.Do(func() { close(g.shut) })
	return g.Listener.Close()
}

// deadliner is a listener whose Accept can be woken.
type deadliner interface{ SetDeadline(time.Time) error }

// turnAway says farewell to who connects after the server has closed the gate, until the socket is closed.
func (g *gate) turnAway() {
	<-g.shut
	g.accepting <- struct{}{} // the server has been woken
	defer func() { <-g.accepting }()
	ln, ok := g.Listener.(deadliner)
	if !ok || ln.SetDeadline(time.Time{}) != nil {
		return
	}
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return
		}
		g.leave(conn)
	}
}

// leave says farewell to somebody.
func (g *gate) leave(conn net.Conn) {
	defer conn.Close()
	if g.farewell == "" || conn.SetWriteDeadline(time.Now().Add(farewellTime)) != nil {
		return
	}
	// a courtesy; who cannot be told sees the connection close
	_, _ = io.WriteString(conn, g.farewell)
}
