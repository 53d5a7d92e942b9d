package link

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
)

// Times of a connection.
const (
	dialTime    = 5 * time.Second  // to connect
	shakeTime   = 15 * time.Second // to connect, and for the TLS handshake, with a server that is slow because many come
	commandTime = 30 * time.Second // for the replies to commands, and for each piece of a message to go
	staleTime   = 5 * time.Second  // the same for the first commands after a time of silence
	storeTime   = 60 * time.Second // from the final dot to the last reply
)

// conn is one LMTP connection. One goroutine at a time uses it.
type conn struct {
	net.Conn
	text  textproto.Reader
	idle  *time.Timer // runs while nobody uses it
	dirty bool        // a transaction is open that nobody wants
}

// reply is one answer of a server.
type reply struct {
	code int
	text string
}

// err gives nil for a reply of success, and the store's refusal for another.
func (r reply) err() error {
	switch r.code / 100 {
	case 2:
		return nil
	case 4, 5:
	default:
		return fmt.Errorf("link: store says %d %q", r.code, r.text)
	}
	e := &smtp.SMTPError{Code: r.code, Message: r.text}
	code, rest, _ := strings.Cut(r.text, " ")
	parts := strings.Split(code, ".")
	if len(parts) != len(e.EnhancedCode) {
		return e
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil {
			return e
		}
		e.EnhancedCode[i] = n
	}
	e.Message = rest
	return e
}

// newConn greets the store on a fresh connection.
func newConn(raw net.Conn, hostname string, within time.Duration) (*conn, error) {
	c := &conn{Conn: raw, text: textproto.Reader{R: bufio.NewReader(raw)}}
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	banner, err := c.reply()
	if err != nil {
		return nil, err
	}
	if err := banner.err(); err != nil {
		return nil, err
	}
	replies, err := c.say(within, "LHLO "+hostname)
	if err != nil {
		return nil, err
	}
	if err := replies[0].err(); err != nil {
		return nil, err
	}
	for _, need := range []string{"PIPELINING", "8BITMIME", "DSN", "SMTPUTF8"} {
		if !strings.Contains("\n"+replies[0].text+"\n", "\n"+need+"\n") {
			return nil, errNoOffer
		}
	}
	return c, nil
}

func (c *conn) reply() (reply, error) {
	code, text, err := c.text.ReadResponse(0)
	return reply{code, text}, err
}

// say sends commands in one piece and reads a reply to each, within the time.
func (c *conn) say(within time.Duration, lines ...string) ([]reply, error) {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c.Conn, strings.Join(lines, "\r\n")+"\r\n"); err != nil {
		return nil, err
	}
	replies := make([]reply, len(lines))
	for i := range replies {
		var err error
		if replies[i], err = c.reply(); err != nil {
			return nil, err
		}
		if replies[i].code == 421 { // the store ends, and answers nothing more
			return nil, fmt.Errorf("%w: %s", errEnding, replies[i].text)
		}
	}
	return replies, nil
}

// errEnding is for a store that is about to end.
var errEnding = errors.New("link: the store ends the connection")

// send sends a body with its final dot, and reads as many replies as the store took recipients. It gives those that came
// before an error. Unless it is the last try, the store has less time.
func (c *conn) send(body io.Reader, recipients int, last bool) ([]reply, error) {
	w := newDotWriter(deadlineWriter{c})
	if _, err := io.Copy(w, body); err != nil {
		return nil, err
	}
	if err := w.end(); err != nil {
		return nil, err
	}
	within := storeTime
	if !last {
		within = replyTime
	}
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	var replies []reply
	for range recipients {
		r, err := c.reply()
		if err != nil {
			return replies, err
		}
		replies = append(replies, r)
	}
	return replies, nil
}

// deadlineWriter gives each piece its own time.
type deadlineWriter struct{ net.Conn }

// Write implements io.Writer.
func (w deadlineWriter) Write(p []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(commandTime)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

// dotWriter writes the lines of a body as RFC 5321 section 4.5.2 has them. A LF alone, which a filter may have left behind,
// becomes CRLF.
type dotWriter struct {
	w    *bufio.Writer
	last byte // of what was written; 0 before the first
}

func newDotWriter(w io.Writer) *dotWriter { return &dotWriter{w: bufio.NewWriterSize(w, 32<<10)} }

// Write implements io.Writer.
func (d *dotWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if p[0] == '.' && (d.last == '\n' || d.last == 0) {
			d.w.WriteByte('.')
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			d.w.Write(p)
			d.last = p[len(p)-1]
			break
		}
		before := d.last
		if end > 0 {
			before = p[end-1]
		}
		d.w.Write(p[:end])
		if before != '\r' {
			d.w.WriteByte('\r')
		}
		d.w.WriteByte('\n')
		d.last = '\n'
		p = p[end+1:]
	}
	// the writer keeps its first error, and gives it here
	_, err := d.w.Write(nil)
	return n, err
}

// end writes the final dot, and what the last line lacks.
func (d *dotWriter) end() error {
	switch d.last {
	case '\n', 0:
	case '\r':
		d.w.WriteByte('\n')
	default:
		d.w.WriteString("\r\n")
	}
	d.w.WriteString(".\r\n")
	return d.w.Flush()
}
