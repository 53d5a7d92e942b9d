package client

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"time"
)

// longestAnswer bounds a line of a server. A session that looks at no message gets short ones.
const longestAnswer = 8192

// lineConn is a connection whose server says lines, asked or not.
type lineConn struct {
	conn net.Conn
	r    *bufio.Reader
	part string // of a line, read when a deadline passed
}

func (c *lineConn) send(line string) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	_, err := c.conn.Write([]byte(line + "\r\n"))
	return err
}

// line reads one, without its end.
func (c *lineConn) line(until time.Time) (string, error) {
	if err := c.conn.SetReadDeadline(until); err != nil {
		return "", err
	}
	return c.next()
}

// next reads a line under the deadline that there is. A deadline that passes loses nothing.
func (c *lineConn) next() (string, error) {
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

// quiet listens for a time, or until ctx is done. It gives the line that comes meanwhile; none, which is as it should be, is "".
func (c *lineConn) quiet(ctx context.Context, d time.Duration) (string, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		return "", err
	}
	defer wake(ctx, c.conn.SetReadDeadline)()
	line, err := c.next()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", nil
	}
	return line, err
}

// wake lets a deadline pass when ctx is done. The caller ends that before it sets another.
func wake(ctx context.Context, set func(time.Time) error) (end func()) {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = set(time.Unix(1, 0)) // it fails only when the connection is closed, and then nobody waits
	})
	return func() {
		if !stop() {
			<-woken
		}
	}
}
