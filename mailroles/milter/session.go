package milter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/smtpd"
)

// session is one client's milters.
type session struct {
	chain  *Chain
	client smtpd.Client
	links  []*link

	id      string // of the transaction, for the milters' logs
	discard bool   // a milter wants the message dropped
}

// Mail implements smtpd.Filtering.
func (s *session) Mail(ctx context.Context, env *smtpd.Envelope) error {
	s.id, s.discard = rand.Text()[:16], false
	for _, l := range s.links {
		l.begin()
		if err := s.step(ctx, l, func(ctx context.Context) (answer, error) { return l.mail(ctx, s, env) }); err != nil {
			return err
		}
	}
	return nil
}

// Rcpt implements smtpd.Filtering.
func (s *session) Rcpt(ctx context.Context, _ *smtpd.Envelope, to smtpd.Recipient) error {
	for _, l := range s.links {
		if err := s.step(ctx, l, func(ctx context.Context) (answer, error) { return l.rcpt(ctx, s, to) }); err != nil {
			return err
		}
	}
	return nil
}

// Message implements smtpd.Filtering.
func (s *session) Message(ctx context.Context, env *smtpd.Envelope) error {
	for _, l := range s.links {
		var c *changes
		err := s.step(ctx, l, func(ctx context.Context) (a answer, err error) {
			a, c, err = l.message(ctx, s, env)
			return a, err
		})
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		if err := c.message.apply(c); err != nil {
			l.log.Error("message not changed as the milter asked", "id", s.id, "err", err)
			return fmt.Errorf("change message: %w", err)
		}
		if len(env.To) == 0 {
			s.discard = true
		}
	}
	if s.discard {
		return smtpd.ErrDiscard
	}
	return nil
}

// step has one milter speak, unless it has no part in the transaction any more. What it says ends the transaction for
// the client (an error), for this milter, or for all of them (discard).
func (s *session) step(ctx context.Context, l *link, speak func(context.Context) (answer, error)) error {
	if s.discard || l.state == stateOver {
		return l.failed
	}
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	a, err := speak(ctx)
	if err != nil {
		return s.fail(ctx, l, err)
	}
	if a.code != ansContinue {
		l.worked(l.log)
	}
	switch {
	case a.refusal != nil:
		l.count(verdictOf(a.refusal))
		l.log.Debug("milter refuses", "id", s.id, "stage", l.stage, "code", a.refusal.Code)
		if l.stage != stageRcpt {
			l.state = stateOver
		}
		return a.refusal
	case a.code == ansDiscard:
		l.count(verdictDiscard)
		l.state, s.discard = stateOver, true
	case a.code == ansAccept:
		l.count(verdictAccept)
		l.state = stateOver
	}
	return nil
}

// fail takes a milter out of the transaction that has not answered, or not as it should.
func (s *session) fail(ctx context.Context, l *link, err error) error {
	var reply *smtp.SMTPError
	switch {
	case errors.As(err, &reply): // the message's fault
		return reply
	case errors.Is(err, errOurs):
		l.log.Error("message not shown to the milter", "id", s.id, "err", err)
		l.drop()
		l.state, l.failed = stateOver, err
		return err
	case errors.Is(ctx.Err(), context.Canceled): // we end; it is not the milter's fault
		l.drop()
		l.state, l.failed = stateOver, errUnavailable
		return errUnavailable
	case isLate(ctx):
		err = fmt.Errorf("no answer within %v: %w", l.Timeout, err)
	}
	l.drop()
	l.state = stateOver
	l.broke(l.log, l.stage, err)
	if l.OnFailure == Accept {
		return nil
	}
	l.failed = errUnavailable
	return errUnavailable
}

// Reset implements smtpd.Filtering.
func (s *session) Reset() {
	for _, l := range s.links {
		l.reset()
	}
}

// Close implements smtpd.Filtering.
func (s *session) Close() {
	for _, l := range s.links {
		l.close()
	}
}

// macros gives what a milter may ask of Sendmail's names at a command, each name followed by its value.
func (s *session) macros(code byte, env *smtpd.Envelope, rcpt string) []string {
	switch code {
	case cmdConnect:
		list := []string{"j", s.chain.opt.Hostname, "{daemon_name}", s.chain.opt.Daemon, "v", "anycastle"}
		if s.client.Addr.IsValid() {
			from := s.client.Addr.String()
			list = append(list, "_", unknownName+" ["+from+"]", "{client_addr}", from, "{client_name}", unknownName)
		}
		return list
	case cmdHelo:
		if s.client.TLS {
			return []string{"{tls_version}", s.client.TLSVersion, "{cipher}", s.client.Cipher}
		}
		return nil
	case cmdMail:
		list := append([]string{"i", s.id}, addressMacros("mail", env.From)...)
		if env.User != "" {
			list = append(list, "{auth_authen}", env.User)
		}
		return list
	case cmdRcpt:
		return append([]string{"i", s.id}, addressMacros("rcpt", rcpt)...)
	}
	return []string{"i", s.id}
}

// addressMacros gives an address and its parts.
func addressMacros(kind, address string) []string {
	host := address[strings.LastIndexByte(address, '@')+1:]
	return []string{"{" + kind + "_addr}", clip(address), "{" + kind + "_host}", clip(host), "{" + kind + "_mailer}", "smtp"}
}

// clip keeps the macros of an endless address, and the endless name of a field, within a packet.
func clip(s string) string { return s[:min(len(s), 512)] }
