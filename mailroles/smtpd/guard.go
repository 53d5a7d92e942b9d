package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// idleTime is how long a peer may say nothing, in a body as between commands (RFC 5321 section 4.5.3.2.7).
const idleTime = 5 * time.Minute

// guard lies between the socket and the server library (below TLS, where there is TLS). It turns idle time into an
// error, and can end the conversation at the next command: a Read that fails with a time-out makes the library answer
// 421 and close.
type guard struct {
	net.Conn
	onClose func()
	gone    chan struct{} // closed after onClose
	secure  bool          // the client begins with TLS
	wire    wire
	ahead   []byte // read from the client before the banner, and not yet by the library

	mu       sync.Mutex
	busy     bool // a message is on its way; do not interrupt
	ending   bool // no further command
	probing  bool // Read only tells whether the peer has ended
	eof      bool // the peer has ended
	failed   bool // a Read of the library has
	closed   bool
	idleTime time.Duration
	cut      context.CancelFunc // of what is to end with the last command; nil when there is nothing
}

// Read implements net.Conn.
func (g *guard) Read(p []byte) (int, error) {
	if err := g.beforeRead(); err != nil {
		return 0, err
	}
	if len(g.ahead) > 0 {
		n := copy(p, g.ahead)
		g.ahead = g.ahead[n:]
		return n, nil
	}
	n, err := g.Conn.Read(p)
	if err != nil {
		g.mu.Lock()
		g.eof = g.eof || err == io.EOF
		g.failed = true
		g.mu.Unlock()
	}
	return n, err
}

// hasFailed reports whether a Read has. The library takes the part of a line that came before the error for a command, so what
// follows is no message.
func (g *guard) hasFailed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed
}

func (g *guard) beforeRead() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.probing && g.eof:
		return io.EOF
	case g.probing:
		return os.ErrDeadlineExceeded
	case g.ending && !g.busy:
		g.failed = true
		return os.ErrDeadlineExceeded
	}
	return g.Conn.SetReadDeadline(time.Now().Add(g.idleTime))
}

// Write implements net.Conn.
func (g *guard) Write(p []byte) (int, error) {
	if err := g.Conn.SetWriteDeadline(time.Now().Add(g.idleTime)); err != nil {
		return 0, err
	}
	g.wire.written.Store(true)
	return g.Conn.Write(p)
}

// SetWriteDeadline implements net.Conn. The library calls it before each reply; the time itself is for Write to set.
func (g *guard) SetWriteDeadline(time.Time) error {
	g.wire.replying.Store(true)
	return nil
}

// early waits for as long as it is told, and reports whether the client spoke meanwhile. It keeps what the client said
// for Read, and ends with ctx. With TLS it is for the client to speak first.
func (g *guard) early(ctx context.Context, wait time.Duration) bool {
	if g.secure || len(g.ahead) > 0 || !g.listen(wait) {
		return len(g.ahead) > 0
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		// an error means that the connection is closed, which is what is wanted
		_ = g.Conn.SetReadDeadline(time.Unix(1, 0))
	})
	var buf [512]byte
	n, _ := g.Conn.Read(buf[:]) // Read will have its error again
	if !stop() {
		<-woken
	}
	g.ahead = append(g.ahead, buf[:n]...)
	return n > 0
}

// listen sets the time of early's Read, unless the end has come.
func (g *guard) listen(wait time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.ending && g.Conn.SetReadDeadline(time.Now().Add(wait)) == nil
}

// Close implements net.Conn. The library closes more than once.
func (g *guard) Close() error {
	err := g.Conn.Close()
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	g.mu.Unlock()
	if first {
		g.onClose()
		close(g.gone)
	}
	return err
}

// begin marks that a message is on its way.
func (g *guard) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = true
}

func (g *guard) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
}

// end lets no further command in, and wakes a Read that waits for one.
func (g *guard) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ending = true
	if g.cut != nil {
		g.cut()
	}
	if !g.busy {
		// an error means that the connection is closed, which is what is wanted
		_ = g.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// untilEnd gives a context that ends with ctx, or as soon as no further command is let in. There is one at a time.
func (g *guard) untilEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut = cancel
	if g.ending {
		cancel()
	}
	return ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.cut = nil
		cancel()
	}
}

// peerEnded reports whether the peer has closed its side, be it by TCP or by TLS. conn is the connection that the
// library reads from, g what is below it; the library must not be reading. Bytes that a TLS peer has sent ahead may be
// lost by asking, so the conversation then ends after the present reply.
func (g *guard) peerEnded(conn net.Conn) bool {
	g.mu.Lock()
	g.probing = true
	g.mu.Unlock()
	var one [1]byte
	n, err := conn.Read(one[:])
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = false
	g.ending = g.ending || n > 0
	return n == 0 && !errors.Is(err, os.ErrDeadlineExceeded)
}

// guardOf finds the guard below the library's connection.
func guardOf(conn net.Conn) *guard {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	return conn.(*guard)
}
