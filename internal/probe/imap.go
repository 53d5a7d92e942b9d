package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxResponses is how many responses may come before the one that ends a command.
const maxResponses = 1000

// imapProbe is the probe of IMAP.
type imapProbe struct {
	config   *Config
	tls      *tls.Config // nil: never
	password string
}

func newIMAP(c *Config, tls *tls.Config) (*imapProbe, error) {
	p := &imapProbe{config: c, tls: tls}
	if c.User == "" {
		return p, nil
	}
	var err error
	if p.password, err = loadPassword(c.Password); err != nil {
		return nil, fmt.Errorf("password_file: %w", err)
	}
	return p, nil
}

func (p *imapProbe) probe(ctx context.Context, t Target, _ *Advice) error {
	conn, err := t.dial(ctx, "tcp")
	if err != nil {
		return err
	}
	defer conn.Close()
	s := &imapTalk{talk: newTalk(conn, p.config.Timeout)}
	if err := p.session(s); err != nil {
		return p.hide(err)
	}
	// a reset instead of LOGOUT would be a line in the target's log; how it answers is no matter any more
	_ = s.command("LOGOUT", "LOGOUT")
	return nil
}

func (p *imapProbe) session(s *imapTalk) error {
	if p.config.TLS == "implicit" {
		if err := s.startTLS(p.tls); err != nil {
			return err
		}
	}
	if err := s.greeting(); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if p.config.TLS == "starttls" {
		if err := s.command("STARTTLS", "STARTTLS"); err != nil {
			return err
		}
		if err := s.startTLS(p.tls); err != nil {
			return err
		}
	}
	if p.config.User == "" {
		// a greeting alone may come from a proxy whose server is dead
		return s.command("CAPABILITY", "CAPABILITY")
	}
	if err := s.command("LOGIN", "LOGIN", p.config.User, p.password); err != nil {
		return err
	}
	if p.config.Mailbox == "" {
		return nil
	}
	return s.command("SELECT", "SELECT", p.config.Mailbox)
}

// hide takes the password out of a reason, should the target have said it.
func (p *imapProbe) hide(err error) error {
	if p.password == "" || !strings.Contains(err.Error(), p.password) {
		return err
	}
	return &failure{strings.ReplaceAll(err.Error(), p.password, "(password)"), err}
}

// imapTalk is a conversation in commands and responses (RFC 9051).
type imapTalk struct {
	*talk
	commands int
}

// greeting reads the first response.
func (s *imapTalk) greeting() error {
	r, err := s.response()
	if err != nil {
		return err
	}
	switch word, _, _ := strings.Cut(r.text, " "); {
	case r.tag == "*" && strings.EqualFold(word, "OK"), r.tag == "*" && strings.EqualFold(word, "PREAUTH"):
		return nil
	}
	return fmt.Errorf("%s %s, want * OK", r.tag, r.text)
}

// command sends a command with strings for arguments and reads until it has ended well. what names it to people:
// arguments are not for their eyes.
func (s *imapTalk) command(what, name string, args ...string) error {
	s.commands++
	tag := "a" + strconv.Itoa(s.commands)
	line := tag + " " + name
	for _, a := range args {
		if quotable(a) {
			line += ` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a) + `"`
			continue
		}
		if err := s.send(fmt.Sprintf("%s {%d}\r\n", line, len(a))); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if err := s.until("+", tag); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		line = a
	}
	if err := s.send(line + "\r\n"); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := s.until(tag, tag); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// quotable says whether a text may stand between quotes.
func quotable(s string) bool { return !strings.ContainsFunc(s, unprintable) }

// until reads responses up to the one that is awaited: "+", or the tag's OK.
func (s *imapTalk) until(awaited, tag string) error {
	for range maxResponses {
		r, err := s.response()
		if err != nil {
			return err
		}
		word, _, _ := strings.Cut(r.text, " ")
		switch {
		case r.tag == tag && awaited == tag && strings.EqualFold(word, "OK"):
			return nil
		case r.tag == tag:
			return fmt.Errorf("%s, want OK", r.text)
		case r.tag == "+" && awaited == "+":
			return nil
		case r.tag == "*" && strings.EqualFold(word, "BYE"):
			return errors.New(r.text)
		case r.tag != "*":
			return fmt.Errorf("%q was not asked for", r.tag+" "+r.text)
		}
	}
	return fmt.Errorf("more than %d responses", maxResponses)
}

// imapResponse is one response. Literals are left out of its text.
type imapResponse struct{ tag, text string }

func (s *imapTalk) response() (imapResponse, error) {
	line, err := s.line()
	if err != nil {
		return imapResponse{}, err
	}
	tag, text, _ := strings.Cut(string(line), " ")
	if tag == "" {
		return imapResponse{}, fmt.Errorf("%q is no response", line)
	}
	r := imapResponse{tag, text}
	for {
		n, ok := literal(line)
		if !ok {
			return r, nil
		}
		if err := s.skip(n); err != nil {
			return r, err
		}
		// what follows a literal belongs to the response and is never looked at
		if line, err = s.line(); err != nil {
			return r, err
		}
	}
}

// literal says how long a literal that a line announces at its end is: {12}, {12+} or, of binary data, ~{12}.
func literal(line []byte) (int, bool) {
	open := bytes.LastIndexByte(line, '{')
	if open < 0 || line[len(line)-1] != '}' {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(string(line[open+1:len(line)-1]), "+"), 10, 31)
	return int(n), err == nil
}
