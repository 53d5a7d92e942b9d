package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
)

// admit has the screen look at a client before it sees the banner. It is false for one that was refused and is gone;
// otherwise release is to be called when the session has ended.
func (s *Server) admit(ctx context.Context, g *guard) (release func(), ok bool) {
	if s.opt.Screen == nil {
		return func() {}, true
	}
	start := time.Now()
	release, err := s.opt.Screen.Admit(ctx, remoteAddr(g), g.early)
	s.opt.Tally.Observe("screen", time.Since(start))
	if err == nil {
		return release, true
	}
	var refusal *smtp.SMTPError
	if !errors.As(err, &refusal) {
		refusal = reply(421, 4, 3, 0, "Service is not available, try again later")
		s.opt.Log.Warn("client not screened", "peer", g.RemoteAddr().String(), "err", err)
	}
	s.opt.Tally.Reject("screen")
	if s.turnAway(g.Conn, g.secure, refusal) {
		linger(g.Conn)
	}
	g.Close()
	return nil, false
}

// turnAway says a refusal in the place of the banner, unless the client waits for TLS. It is a courtesy: a client that
// cannot be told sees the connection close.
func (s *Server) turnAway(conn net.Conn, secure bool, r *smtp.SMTPError) (told bool) {
	if secure || s.link || conn.SetWriteDeadline(time.Now().Add(bannerTime)) != nil {
		return false
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, r.Message)
	_, err := fmt.Fprintf(conn, "%d %d.%d.%d %s %s\r\n",
		r.Code, r.EnhancedCode[0], r.EnhancedCode[1], r.EnhancedCode[2], s.opt.Hostname, text)
	return err == nil
}

// linger waits a moment for the client to end. What it sent and nobody read would have the kernel take the refusal back.
func linger(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	if conn.SetReadDeadline(time.Now().Add(bannerTime)) == nil {
		// whatever ends it is the end
		_, _ = io.CopyN(io.Discard, conn, maxLine)
	}
}
