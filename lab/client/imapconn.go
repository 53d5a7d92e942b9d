package client

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// longestAnswer bounds a line of a server. A session that looks at no message gets short ones.
const longestAnswer = 8192

// imapConn speaks as much IMAP as a session needs that looks at no message: lines without literals. A library would say
// that a session is over, but not whether the server said BYE, and take two goroutines for each.
type imapConn struct {
	conn net.Conn
	r    *bufio.Reader
	part string // of a line, read when a deadline passed
	tags int
}

func newIMAPConn(conn net.Conn) *imapConn {
	return &imapConn{conn: conn, r: bufio.NewReaderSize(conn, longestAnswer)}
}

// line reads one, without its end. A deadline that passes loses nothing.
func (c *imapConn) line() (string, error) {
	b, err := c.r.ReadSlice('\n')
	c.part += string(b)
	if errors.Is(err, bufio.ErrBufferFull) || len(c.part) > longestAnswer {
		return "", &failure{ReasonProtocol, "a line without end"}
	}
	if err != nil {
		return "", err
	}
	line := strings.TrimRight(c.part, "\r\n")
	c.part = ""
	return line, nil
}

func (c *imapConn) greeting(until time.Time) error {
	if err := c.conn.SetReadDeadline(until); err != nil {
		return err
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	return checkBanner(line, bannerIMAP)
}

// begin sends a command and gives its tag.
func (c *imapConn) begin(command string) (tag string, err error) {
	c.tags++
	tag = "c" + strconv.Itoa(c.tags)
	return tag, c.send(tag + " " + command)
}

func (c *imapConn) send(line string) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	_, err := c.conn.Write([]byte(line + "\r\n"))
	return err
}

// command sends one and waits for its OK.
func (c *imapConn) command(command string, until time.Time) error {
	tag, err := c.begin(command)
	if err != nil {
		return err
	}
	return c.answered(tag, until)
}

// answered reads until the OK of a command.
func (c *imapConn) answered(tag string, until time.Time) error {
	return c.await(tag+" ", until)
}

// continued reads until the server asks to go on.
func (c *imapConn) continued(until time.Time) error {
	return c.await("+", until)
}

// await reads until a line that begins so. If that is a command's answer it must be OK.
func (c *imapConn) await(begins string, until time.Time) error {
	if err := c.conn.SetReadDeadline(until); err != nil {
		return err
	}
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		rest, ours := strings.CutPrefix(line, begins)
		switch {
		case ours && (begins == "+" || strings.HasPrefix(rest, "OK")):
			return nil
		case ours && strings.HasPrefix(rest, "NO"):
			return &failure{ReasonTempFail, fmt.Sprintf("answered %q", line)}
		case strings.HasPrefix(line, "* BYE"):
			return bye(line)
		case ours || !strings.HasPrefix(line, "* "):
			return &failure{ReasonProtocol, fmt.Sprintf("answered %q", line)}
		}
	}
}

func bye(line string) error {
	return &failure{ReasonBye, fmt.Sprintf("the server says %q", line)}
}

// quote writes a string of IMAP.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
