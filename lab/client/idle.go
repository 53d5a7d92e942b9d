package client

import (
	"context"
	"crypto/tls"
	"net/netip"
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
	ports *ports
	addr  netip.AddrPort
	conf  *tls.Config
	box   Account
	c     *imapConn
}

// open connects, logs in and opens INBOX.
func (s *idle) open(ctx context.Context) (server string, err error) {
	conn, err := dial(ctx, s.ports, s.addr, openTime)
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

// rest takes what comes until idleTime is over or ctx is done.
func (s *idle) rest(ctx context.Context) error {
	for until := time.Now().Add(idleTime); ; {
		line, err := s.c.quiet(ctx, time.Until(until))
		if err != nil || line == "" {
			return err
		}
		if strings.HasPrefix(line, "* BYE") {
			return bye(line)
		}
	}
}
