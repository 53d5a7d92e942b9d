package imapd

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"anycastle/mailroles/link"
)

// How long a peer may say nothing.
const (
	handshakeTime = 10 * time.Second // in the TLS handshake, as a whole
	loginTime     = 30 * time.Second // before the front end has named the user
	idleTime      = 35 * time.Minute // between two commands, and in IDLE (RFC 9051 section 5.4 asks for 30 minutes)
	stallTime     = 2 * time.Minute  // within a command or a literal
	writeTime     = 2 * time.Minute  // while it takes nothing
)

// Answers are kept until that many bytes wait, or until there is nothing to do but to wait for the client.
const (
	flushSize = 16 << 10
	keptSize  = 4 << 10 // the most room that stays with an idle session
)

// errEnding says that the session is to end, here between two commands.
var errEnding = errors.New("imapd: session ends")

// done is what ends IDLE.
var done = []byte("DONE\r\n")

// guard stands between the client and the library. It reads whole commands, over TLS, and hands them on one at a time,
// so that it knows where each begins and ends. What the library gets is one line without literals.
//
// The library calls Read from one goroutine, which also runs the session. Write may come from another while the client
// idles.
type guard struct {
	net.Conn  // *tls.Conn
	br        *bufio.Reader
	maxAppend int64 // largest message that APPEND takes, in bytes
	onClose   func()
	closing   sync.Once
	serving   func() error // nil while answers may be given
	moving

	// of the library's goroutine
	out    []byte      // what the library gets next
	idling bool        // the library waits for DONE
	upload *upload     // of the APPEND that the library has; nil for none
	long   imap.NumSet // stands for $ in the command that the library has; nil: $ is the result that was saved
	save   bool        // the command is a SEARCH that saves its result, and shows nothing

	mu     sync.Mutex
	rests  bool   // between two commands, or in IDLE
	ending string // why the session is to end when it rests; empty while it is not
	user   string // empty before login

	write    sync.Mutex // guards what is below
	command  command    // that the library has
	answered bool       // the library has said something to it
	verdict  string     // stands in for the library's tagged answer; empty for none
	mute     bool       // the next ESEARCH answer is not shown
	caps     string     // what is offered after login; empty before
	waiting  []byte     // for the client
	midline  bool       // the last of it is no whole line
	partial  bool       // some of the answer has been sent
	over     bool       // the client has been told BYE, or is gone
}

func newGuard(conn net.Conn, maxAppend int64, onClose func()) *guard {
	g := &guard{Conn: conn, maxAppend: maxAppend, onClose: onClose, serving: func() error { return nil }}
	g.br = bufio.NewReader(wire{g})
	return g
}

func (g *guard) handshake() error {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	return g.Conn.(*tls.Conn).HandshakeContext(ctx)
}

// welcome notes who has logged in.
func (g *guard) welcome(user, caps string) {
	g.mu.Lock()
	g.user = user
	g.mu.Unlock()
	g.write.Lock()
	g.caps = caps
	g.write.Unlock()
}

// who gives the user, or "" before login.
func (g *guard) who() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.user
}

// end ends the session with BYE, at once if it rests, else when the command is done.
func (g *guard) end(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ending == "" {
		g.ending = why
	}
	if g.rests {
		// a connection that is gone ends by itself
		_ = g.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// wire is the connection as the guard's buffer reads it: nothing is waited for while the client waits for an answer.
type wire struct{ *guard }

// Read implements io.Reader.
func (w wire) Read(p []byte) (int, error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	if err := w.await(); err != nil {
		return 0, err
	}
	return w.Conn.Read(p)
}

func (g *guard) await() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	limit := stallTime
	if g.rests {
		limit = idleTime
		if g.ending != "" {
			return errEnding
		}
	}
	if g.user == "" {
		limit = loginTime
	}
	return g.Conn.SetReadDeadline(time.Now().Add(limit))
}

// rest waits for the first byte of a command, or of a line in IDLE.
func (g *guard) rest() error {
	g.mu.Lock()
	g.rests = true
	ending := g.ending != ""
	if g.wanted {
		g.write.Lock()
		g.tellHold()
		g.write.Unlock()
	}
	g.mu.Unlock()
	var err error
	if !ending {
		_, err = g.br.Peek(1)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rests = false
	if ending || err != nil && g.ending != "" {
		return errEnding
	}
	return err
}

// Read implements net.Conn.
func (g *guard) Read(p []byte) (int, error) {
	for len(g.out) == 0 {
		if err := g.next(); err != nil {
			g.bye(err)
			if !g.idling {
				return 0, io.EOF
			}
			// the library does not wait for the session to end IDLE unless it reads DONE
			g.idling, g.out = false, done
		}
	}
	n := copy(p, g.out)
	g.out = g.out[n:]
	return n, nil
}

// bye tells the client why the session ends, where there is something to tell, and nothing after that.
func (g *guard) bye(err error) {
	text := ""
	switch {
	case errors.Is(err, errEnding):
		g.mu.Lock()
		text = g.ending
		g.mu.Unlock()
	case errors.Is(err, errLiteral):
		text = "[TOOBIG] Literal is too large"
	case errors.Is(err, os.ErrDeadlineExceeded):
		text = "[UNAVAILABLE] Time is up"
	}
	g.write.Lock()
	defer g.write.Unlock()
	if g.over {
		return
	}
	g.gives = errors.Is(err, errDetached)
	if text != "" {
		g.waiting = fmt.Appendf(g.waiting, "* BYE %s\r\n", text)
	}
	// the session ends whether or not this reaches the client
	_ = g.send()
	g.over = true
}

// Write implements net.Conn.
func (g *guard) Write(p []byte) (int, error) {
	g.write.Lock()
	defer g.write.Unlock()
	if g.over {
		return 0, net.ErrClosed
	}
	g.waiting = append(g.waiting, g.edit(p)...)
	g.midline = p[len(p)-1] != '\n'
	if g.due {
		g.tellHold()
	}
	if len(g.waiting) >= flushSize {
		g.partial = true
		if err := g.send(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// say writes lines of our own. The library has no answer half written while it reads, or while the session runs.
func (g *guard) say(format string, args ...any) {
	g.write.Lock()
	defer g.write.Unlock()
	g.waiting = fmt.Appendf(g.waiting, format+"\r\n", args...)
}

// hush drops the answer of a search that shows nothing.
func (g *guard) hush() {
	g.write.Lock()
	defer g.write.Unlock()
	g.mute = true
}

// flush sends what waits for the client.
func (g *guard) flush() error {
	g.write.Lock()
	defer g.write.Unlock()
	return g.send()
}

func (g *guard) send() error {
	if g.over {
		return net.ErrClosed
	}
	if len(g.waiting) == 0 {
		return nil
	}
	passive := g.mayAnswer()
	if len(g.waiting) == 0 {
		return passive
	}
	err := g.Conn.SetWriteDeadline(time.Now().Add(writeTime))
	if err == nil {
		_, err = g.Conn.Write(g.waiting)
	}
	err = cmp.Or(passive, err)
	g.waiting = g.waiting[:0]
	if cap(g.waiting) > keptSize {
		g.waiting = nil
	}
	g.over = g.over || err != nil
	return err
}

// mayAnswer puts BYE in the place of what is to be sent, if it must not be: another replica may know better. In the middle of an
// answer there is nothing to say.
func (g *guard) mayAnswer() error {
	if g.gives {
		return nil
	}
	err := g.serving()
	if err == nil {
		return nil
	}
	g.over = true
	g.waiting = g.waiting[:0]
	if !g.partial {
		g.waiting = append(g.waiting, "* BYE "+byeMoving+"\r\n"...)
	}
	return err
}

var (
	capsForm  = regexp.MustCompile(`CAPABILITY [^\]\r]*`)
	serverBug = []byte("NO [SERVERBUG] Internal server error\r\n")
)

// edit puts right what the library says.
func (g *guard) edit(p []byte) []byte {
	first := !g.answered
	g.answered = true
	answer, tagged := bytes.CutPrefix(p, []byte(g.command.tag+" "))
	switch {
	case g.replays:
		return nil
	case g.command.name == "": // the greeting
		return bytes.Replace(p, []byte("[CAPABILITY "), []byte("[CAPABILITY "+link.HoldCommand+" "), 1)
	case g.caps != "" && (g.command.name == "CAPABILITY" || g.command.name == "AUTHENTICATE"):
		return capsForm.ReplaceAllLiteral(p, []byte("CAPABILITY "+g.caps))
	case tagged && g.verdict != "":
		return []byte(g.command.tag + " " + g.verdict + "\r\n")
	case tagged && first && bytes.Equal(answer, serverBug):
		return []byte(g.command.tag + " " + g.command.unread() + "\r\n")
	case g.mute && bytes.HasPrefix(p, []byte("* ESEARCH")):
		g.mute = false
		return nil
	}
	return p
}

// SetReadDeadline implements net.Conn. The guard has deadlines of its own.
func (g *guard) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (g *guard) SetWriteDeadline(time.Time) error { return nil }

// Close implements net.Conn.
func (g *guard) Close() error {
	// what has been answered is sent, if the client takes it
	_ = g.flush()
	g.closing.Do(g.onClose)
	return g.Conn.Close()
}
