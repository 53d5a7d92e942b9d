package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// maxReplyLines bounds one reply.
const maxReplyLines = 100

// smtpProbe is the probe of SMTP and of LMTP.
type smtpProbe struct {
	config *Config
	tls    *tls.Config // nil: never
}

func (p *smtpProbe) probe(ctx context.Context, t Target, _ *Advice) error {
	conn, err := t.dial(ctx, "tcp")
	if err != nil {
		return err
	}
	defer conn.Close()
	s := &smtpTalk{talk: newTalk(conn, p.config.Timeout)}
	if p.config.TLS == "implicit" {
		if err := s.startTLS(p.tls); err != nil {
			return err
		}
	}
	if _, err := s.expect("banner", 220); err != nil {
		return err
	}
	if err := p.greet(s); err != nil {
		return err
	}
	if p.config.Rcpt != "" {
		if err := s.recipient(p.config.Rcpt); err != nil {
			return err
		}
	}
	// a reset instead of QUIT would be a line in the target's log; how it answers is no matter any more
	if err := s.send("QUIT\r\n"); err == nil {
		_, _ = s.reply()
	}
	return nil
}

// greet says EHLO or LHLO, and again in TLS if that is wanted.
func (p *smtpProbe) greet(s *smtpTalk) error {
	hello := "EHLO"
	if p.config.Type == "lmtp" {
		hello = "LHLO"
	}
	greeting := hello + " " + addressLiteral(s.conn.LocalAddr())
	r, err := s.command(greeting, hello, 250)
	if err != nil || p.config.TLS != "starttls" {
		return err
	}
	if !r.offers("STARTTLS") {
		return errors.New("STARTTLS is not offered")
	}
	if _, err := s.command("STARTTLS", "STARTTLS", 220); err != nil {
		return err
	}
	if err := s.startTLS(p.tls); err != nil {
		return err
	}
	_, err = s.command(greeting, hello+" in TLS", 250)
	return err
}

// addressLiteral names this end of a connection as RFC 5321 section 4.1.3 has it, for who has no name.
func addressLiteral(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return "localhost"
	}
	addr := ap.Addr().Unmap().WithZone("")
	if addr.Is6() {
		return "[IPv6:" + addr.String() + "]"
	}
	return "[" + addr.String() + "]"
}

// smtpTalk is a conversation in commands and replies.
type smtpTalk struct{ *talk }

// smtpReply is a reply of one or more lines.
type smtpReply struct {
	code  int
	lines []string // without codes
}

// String gives the reply's first line.
func (r smtpReply) String() string { return fmt.Sprintf("%03d %s", r.code, r.lines[0]) }

// offers says whether a reply to EHLO names an extension.
func (r smtpReply) offers(extension string) bool {
	for _, l := range r.lines[1:] {
		word, _, _ := strings.Cut(l, " ")
		if strings.EqualFold(word, extension) {
			return true
		}
	}
	return false
}

// reply reads one reply.
func (s *smtpTalk) reply() (smtpReply, error) {
	var r smtpReply
	for {
		line, err := s.line()
		if err != nil {
			return r, err
		}
		code, text, more, err := parseReplyLine(line)
		switch {
		case err != nil:
			return r, err
		case len(r.lines) > 0 && code != r.code:
			return r, fmt.Errorf("a reply that begins with %d and goes on with %d", r.code, code)
		case len(r.lines) == maxReplyLines:
			return r, fmt.Errorf("a reply of more than %d lines", maxReplyLines)
		}
		r.code, r.lines = code, append(r.lines, text)
		if !more {
			return r, nil
		}
	}
}

// parseReplyLine takes a line of a reply apart: code, text, and whether more lines follow (RFC 5321 section 4.2).
func parseReplyLine(line []byte) (code int, text string, more bool, err error) {
	if len(line) < 3 {
		return 0, "", false, fmt.Errorf("%q is no reply", line)
	}
	for _, d := range line[:3] {
		if d < '0' || d > '9' {
			return 0, "", false, fmt.Errorf("%q is no reply", line)
		}
		code = code*10 + int(d-'0')
	}
	if code < 200 || code > 599 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, "", false, fmt.Errorf("%q is no reply", line)
	}
	if len(line) == 3 {
		return code, "", false, nil
	}
	return code, string(line[4:]), line[3] == '-', nil
}

// expect reads a reply that must have the code. what names it to people.
func (s *smtpTalk) expect(what string, want int) (smtpReply, error) {
	r, err := s.reply()
	if err != nil {
		return r, fmt.Errorf("%s: %w", what, err)
	}
	if r.code != want {
		return r, fmt.Errorf("%s %v, want %d", what, r, want)
	}
	return r, nil
}

func (s *smtpTalk) command(line, what string, want int) (smtpReply, error) {
	if err := s.send(line + "\r\n"); err != nil {
		return smtpReply{}, fmt.Errorf("%s: %w", what, err)
	}
	return s.expect(what, want)
}

// recipient asks whether mail for the address would be taken, and takes the question back.
func (s *smtpTalk) recipient(address string) error {
	if _, err := s.command("MAIL FROM:<>", "MAIL FROM:<>", 250); err != nil {
		return err
	}
	rcpt := "RCPT TO:<" + address + ">"
	if err := s.send(rcpt + "\r\n"); err != nil {
		return fmt.Errorf("%s: %w", rcpt, err)
	}
	r, err := s.reply()
	if err != nil {
		return fmt.Errorf("%s: %w", rcpt, err)
	}
	if r.code != 250 && r.code != 251 {
		return fmt.Errorf("%s %v, want 250", rcpt, r)
	}
	_, err = s.command("RSET", "RSET", 250)
	return err
}
