package imapd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxNonSync is the most bytes of a literal that is sent without waiting (LITERAL-, RFC 7888 section 5).
	maxNonSync = 4096
	// handshakeTime bounds the TLS handshake, for which the library has no deadline.
	handshakeTime = 10 * time.Second
	// tailLen is enough of a line's end to hold the longest literal announcement.
	tailLen = 32
)

// errLiteral says that the client sends a literal that the server will not take. What follows cannot be told from
// commands, so the session must end.
var errLiteral = errors.New("imapd: non-synchronising literal is too large")

var literalForm = regexp.MustCompile(`\{([0-9]{1,20})(\+?)\}\r?\n$`)

// guard reads ahead of the library, over TLS, and follows where lines and literals end. The library's one goroutine
// calls Read and the session; only Write may come from another, while the client idles and no literal is open.
type guard struct {
	net.Conn // *tls.Conn
	br       *bufio.Reader
	onClose  func()

	tail    []byte       // end of the present line
	literal int64        // bytes of the present literal that are still to come
	waiting atomic.Int64 // size of a literal that the client announced, and sends once the server agrees; -1 for none
	closing sync.Once
}

func newGuard(conn net.Conn, onClose func()) *guard {
	g := &guard{Conn: conn, br: bufio.NewReader(conn), onClose: onClose}
	g.waiting.Store(-1)
	return g
}

func (g *guard) handshake() error {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	return g.Conn.(*tls.Conn).HandshakeContext(ctx)
}

// Read implements net.Conn.
func (g *guard) Read(p []byte) (int, error) {
	if _, err := g.br.Peek(1); err != nil {
		return 0, err
	}
	b, err := g.br.Peek(min(g.br.Buffered(), len(p)))
	if err != nil {
		return 0, err
	}
	n, err := g.follow(b)
	if err != nil {
		// the session ends whether or not this reaches the client
		_, _ = fmt.Fprintf(g.Conn, "* BYE [TOOBIG] Literals without a wait are limited to %d bytes\r\n", maxNonSync)
		g.Conn.Close()
		return 0, err
	}
	copy(p, b[:n])
	return g.br.Discard(n)
}

// follow steps through b and says how much of it the library may have: all, or up to a literal that needs the
// server's consent first, or up to a literal's end, so that lineEnds can look behind it.
func (g *guard) follow(b []byte) (int, error) {
	g.waiting.Store(-1) // the library has answered, or it would not read on
	for i := 0; i < len(b); {
		if g.literal > 0 {
			skip := min(g.literal, int64(len(b)-i))
			g.literal -= skip
			i += int(skip)
			if g.literal == 0 {
				return i, nil
			}
			continue
		}
		g.tail = append(g.tail, b[i])
		if len(g.tail) > tailLen {
			g.tail = g.tail[1:]
		}
		i++
		if b[i-1] != '\n' {
			continue
		}
		if err := g.endLine(); err != nil {
			return 0, err
		}
		if g.waiting.Load() >= 0 {
			return i, nil
		}
	}
	return len(b), nil
}

// endLine looks for a literal announcement at the end of a line.
func (g *guard) endLine() error {
	m := literalForm.FindSubmatch(g.tail)
	g.tail = g.tail[:0]
	if m == nil {
		return nil
	}
	size, err := strconv.ParseInt(string(m[1]), 10, 64)
	switch {
	case len(m[2]) == 0 && err == nil:
		g.waiting.Store(size)
	case len(m[2]) == 0:
		return nil // the library refuses the number, and nothing follows it
	case err != nil || size > maxNonSync:
		return errLiteral
	default:
		g.literal = size
	}
	return nil
}

// Write implements net.Conn. A continuation request is the server's consent to a literal.
func (g *guard) Write(p []byte) (int, error) {
	if size := g.waiting.Swap(-1); size >= 0 && strings.HasPrefix(string(p), "+") {
		g.literal = size
	}
	return g.Conn.Write(p)
}

// lineEnds reports whether the command ends behind the literal that the library has just read. It waits for the bytes
// that tell.
func (g *guard) lineEnds() (bool, error) {
	b, err := g.br.Peek(1)
	if err != nil || b[0] == '\n' {
		return err == nil, err
	}
	if b, err = g.br.Peek(2); err != nil {
		return false, err
	}
	switch string(b) {
	case "\r\n", ")\r", ")\n": // a parenthesis ends APPEND's UTF8 (~{…}), RFC 6855 section 4
		return true, nil
	}
	return false, nil
}

// Close implements net.Conn.
func (g *guard) Close() error {
	g.closing.Do(g.onClose)
	return g.Conn.Close()
}
