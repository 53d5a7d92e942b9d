package smtpd

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/link"
)

// ErrDiscard says that a filter wants a message accepted and dropped.
var ErrDiscard = errors.New("smtpd: discard the message")

// session is one client's conversation after EHLO. The library calls it from one goroutine, but for the body that comes by
// BDAT: that is received by another, which RSET neither stops nor waits for.
type session struct {
	server  *Server
	conn    *smtp.Conn
	guard   *guard
	client  Client
	filters Filtering // nil for none

	user         string // address of the mailbox that is logged in; empty before
	failedLogins int

	mu    sync.Mutex // held while a body is received, and while what is below is given up
	env   *Envelope  // nil outside a transaction
	tx    Transaction
	raw   []string      // recipients as the client wrote them, as often as it did
	begun chan struct{} // closed when the body of the transaction is being received

	pipe atomic.Pointer[io.PipeReader] // the body, when it comes by BDAT; set before begun is closed
}

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	ses := &session{server: s, conn: c, guard: guardOf(c.Conn())}
	ses.guard.wire.chunk = func() { <-ses.begun }
	ses.client = Client{Addr: remoteAddr(ses.guard), Helo: c.Hostname()}
	if state, ok := c.TLSConnectionState(); ok {
		ses.client.TLS = true
		ses.client.TLSVersion = strings.Replace(tls.VersionName(state.Version), " ", "v", 1)
		ses.client.Cipher = tls.CipherSuiteName(state.CipherSuite)
	}
	if s.opt.Filters != nil {
		var err error
		if ses.filters, err = s.opt.Filters.Open(s.deliver, ses.client); err != nil {
			return nil, ses.refuse(err)
		}
	}
	return ses, nil
}

// Reset implements smtp.Session.
func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx != nil {
		s.tx.Close()
	}
	if s.filters != nil && s.env != nil {
		s.filters.Reset()
	}
	if pipe := s.pipe.Swap(nil); pipe != nil {
		awaitClose(pipe)
	}
	s.env, s.tx, s.raw = nil, nil, nil
}

// awaitClose waits until the library's other goroutine is done with a BDAT body, the writing end of which is closed. The
// last thing that it does is to close the reading end, right after it has said how the body was received; one that is
// late would say so of the next body.
func awaitClose(r *io.PipeReader) {
	for {
		if _, err := r.Read(nil); err == io.ErrClosedPipe {
			return
		}
		runtime.Gosched()
	}
}

// Logout implements smtp.Session. At STARTTLS the library comes here in the middle of a BDAT body, which nobody would end.
func (s *session) Logout() error {
	if pipe := s.pipe.Load(); pipe != nil {
		s.guard.end()
		pipe.CloseWithError(smtp.ErrDataReset) // never an error
	}
	s.Reset()
	if s.filters != nil {
		s.filters.Close()
	}
	return nil
}

// Mail implements smtp.Session.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	if s.env != nil { // the library would go on with the recipients of the message before
		return s.refuse(errNested, "sender", from)
	}
	if err := checkAddress(from, opts.UTF8); from != "" && err != nil {
		return s.refuse(err, "sender", from)
	}
	if !s.server.gate.pass() {
		return s.refuse(errMoving, "sender", from)
	}
	env := &Envelope{Client: s.client, User: s.user, From: from, Options: *opts}
	env.Helo = s.conn.Hostname() // a later EHLO may have named another
	if s.server.link {
		if err := env.takeFields(); err != nil {
			return s.refuse(errors.Join(errEnvelope, err), "sender", from)
		}
	}
	tx, err := s.server.opt.Handler.Begin(s.server.deliver, env)
	if err != nil {
		return s.refuse(err, "sender", from)
	}
	s.env, s.tx, s.begun = env, tx, make(chan struct{})
	if s.filters != nil {
		if err := s.filters.Mail(s.server.deliver, env); err != nil {
			s.Reset()
			return s.refuse(err, "sender", from)
		}
	}
	return nil
}

// takeFields reads what a front end adds to MAIL.
func (e *Envelope) takeFields() error {
	f, err := link.ParseFields(e.Options.EnvelopeID)
	if err != nil {
		return err
	}
	e.Tx, e.Options.EnvelopeID = f.Tx, f.EnvelopeID
	if f.Hold {
		e.Hold = "as the front end says"
	}
	if e.Options.Auth != nil {
		e.User = *e.Options.Auth
	}
	return nil
}

// checkAddress refuses what cannot be passed on. The library lets other characters than ASCII through, asked for or not.
func checkAddress(address string, utf8 bool) error {
	switch {
	case !link.IsPath(address):
		return errSyntax
	case !utf8 && !link.IsASCII(address):
		return errNotASCII
	}
	return nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, opts *smtp.RcptOptions) error {
	if err := checkAddress(to, s.env.Options.UTF8); err != nil {
		return s.refuse(err, "sender", s.env.From, "recipients", []string{to})
	}
	rcpt := Recipient{Address: to}
	if opts != nil {
		rcpt.Options = *opts
	}
	if err := s.tx.Rcpt(s.server.deliver, rcpt); err != nil {
		return s.refuse(err, "sender", s.env.From, "recipients", []string{to})
	}
	if s.filters != nil {
		if err := s.filters.Rcpt(s.server.deliver, s.env, rcpt); err != nil {
			return s.refuse(err, "sender", s.env.From, "recipients", []string{to})
		}
	}
	s.raw = append(s.raw, to)
	if !slices.ContainsFunc(s.env.To, func(r Recipient) bool { return r.Address == to }) {
		s.env.To = append(s.env.To, rcpt)
	}
	return nil
}

func remoteAddr(conn net.Conn) netip.Addr {
	if a, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		return a.Addr().Unmap()
	}
	return netip.Addr{}
}
