package client

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// imapConn speaks as much IMAP as a session needs that looks at no message: lines without literals. A library would say
// that a session is over, but not whether the server said BYE, and take two goroutines for each.
type imapConn struct {
	*lineConn
	tags int
}

func newIMAPConn(conn net.Conn) *imapConn {
	return &imapConn{lineConn: &lineConn{conn: conn, r: bufio.NewReaderSize(conn, longestAnswer)}}
}

func (c *imapConn) greeting(until time.Time) error {
	line, err := c.line(until)
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
	for {
		line, err := c.line(until)
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
