package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"os"
	"strings"
	"time"
)

const (
	idleTime = time.Second            // in IDLE, until DONE and NOOP
	openTime = answerTime             // to connect, log in and open INBOX: a front end may wait for a LUN that moves
	byeTime  = 500 * time.Millisecond // for the answer to LOGOUT
)

// idle is an IMAP session over TLS that waits in IDLE, with DONE and NOOP every so often.
type idle struct {
	addr netip.AddrPort
	conf *tls.Config
	box  Account
	c    *imapConn
}

// open connects, logs in and opens INBOX.
func (s *idle) open(ctx context.Context) (server string, err error) {
	conn, err := dial(ctx, s.addr, openTime)
	if err != nil {
		return "", err
	}
	s.c = newIMAPConn(tls.Client(conn, s.conf))
	// an attempt to open is given up when the load ends: it is no event
	defer wake(ctx, conn.SetDeadline)()
	until := time.Now().Add(openTime)
	err = s.c.greeting(until)
	for _, command := range []string{"LOGIN " + quote(s.box.Address) + " " + quote(s.box.Password), "SELECT INBOX"} {
		if err == nil {
			err = s.c.command(command, until)
		}
	}
	if err != nil {
		conn.Close()
	}
	return "", err
}

func (s *idle) close() { s.c.conn.Close() }

// stay is in IDLE by turns until ctx is done, then says LOGOUT.
func (s *idle) stay(ctx context.Context) (asked time.Time, err error) {
	for {
		asked = time.Now()
		tag, err := s.c.begin("IDLE")
		if err == nil {
			err = s.c.continued(asked.Add(answerTime))
		}
		if err != nil {
			return asked, err
		}
		if err := s.rest(ctx); err != nil {
			return time.Now(), err // nothing was asked: it broke by itself
		}
		asked = time.Now()
		if err = s.c.send("DONE"); err == nil {
			err = s.c.answered(tag, asked.Add(answerTime))
		}
		if err == nil {
			asked = time.Now()
			err = s.c.command("NOOP", asked.Add(answerTime))
		}
		if err != nil {
			return asked, err
		}
		if ctx.Err() != nil {
			// the session has answered to the end; how it goes is no matter
			_ = s.c.command("LOGOUT", time.Now().Add(byeTime))
			return asked, nil
		}
	}
}

// rest reads what comes until idleTime is over or ctx is done.
func (s *idle) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, idleTime)
	defer cancel()
	defer wake(ctx, s.c.conn.SetReadDeadline)()
	return s.c.untilWoken()
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

// untilWoken reads lines until the read deadline passes, which is no error.
func (c *imapConn) untilWoken() error {
	for {
		line, err := c.line()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, "* BYE") {
			return bye(line)
		}
	}
}
