package smtpd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/spool"
)

// Replies of the session. The library sends any other error as a permanent one.
var (
	errTemporary = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Not stored, try again later"}
	errCutOff    = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "Message was cut off, send it again"}
	errUnknown   = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such mailbox here"}
	errEarly     = &smtp.SMTPError{Code: 503, EnhancedCode: smtp.EnhancedCode{5, 5, 1}, Message: "Message was sent before the reply to DATA"}
	errSender    = &smtp.SMTPError{Code: 553, EnhancedCode: smtp.EnhancedCode{5, 6, 7}, Message: "Sender address is not ASCII"}
	errLongLine  = &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "Message has a line that is too long"}
	errBareLine  = &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "Message has a CR or LF alone; lines end in CRLF"}
)

// reasons are the words under which refusals are counted, by reply code.
var reasons = map[int]string{
	450: "rate", 451: "temporary", 503: "early", 530: "not-logged-in", 550: "unknown-recipient", 552: "too-large", 553: "sender", 554: "content",
}

// ErrDiscard says that a filter wants a message accepted and dropped.
var ErrDiscard = errors.New("smtpd: discard the message")

// session is one client's conversation after EHLO. The library calls it from one goroutine at a time.
type session struct {
	server  *Server
	conn    *smtp.Conn
	guard   *guard
	client  Client
	filters Filtering // nil for none

	user         string // address of the mailbox that is logged in; empty before
	failedLogins int

	env *Envelope // nil outside a transaction
	tx  Transaction
	raw []string // recipients as the client wrote them, as often as it did
}

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	ses := &session{server: s, conn: c, guard: guardOf(c.Conn())}
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
	if s.tx != nil {
		s.tx.Close()
	}
	if s.filters != nil && s.env != nil {
		s.filters.Reset()
	}
	s.env, s.tx, s.raw = nil, nil, nil
}

// Logout implements smtp.Session.
func (s *session) Logout() error {
	s.Reset()
	if s.filters != nil {
		s.filters.Close()
	}
	return nil
}

// Mail implements smtp.Session.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	s.Reset()
	// SMTPUTF8 is not offered, but the library lets such addresses through
	if strings.ContainsFunc(from, func(r rune) bool { return r < ' ' || r > '~' }) {
		return s.refuse(errSender)
	}
	env := &Envelope{Client: s.client, User: s.user, From: from, Options: *opts}
	env.Helo = s.conn.Hostname() // a later EHLO may have named another
	if s.server.opt.LinkTLS != nil && isTransactionID(opts.EnvelopeID) {
		env.Tx = opts.EnvelopeID
	}
	tx, err := s.server.opt.Handler.Begin(s.server.deliver, env)
	if err != nil {
		return s.refuse(err)
	}
	s.env, s.tx = env, tx
	if s.filters != nil {
		if err := s.filters.Mail(s.server.deliver, env); err != nil {
			s.Reset()
			return s.refuse(err)
		}
	}
	return nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, opts *smtp.RcptOptions) error {
	rcpt := Recipient{Address: to}
	if opts != nil {
		rcpt.Options = *opts
	}
	if err := s.tx.Rcpt(s.server.deliver, rcpt); err != nil {
		return s.refuse(err)
	}
	if s.filters != nil {
		if err := s.filters.Rcpt(s.server.deliver, s.env, rcpt); err != nil {
			return s.refuse(err)
		}
	}
	s.raw = append(s.raw, to)
	if !slices.ContainsFunc(s.env.To, func(r Recipient) bool { return r.Address == to }) {
		s.env.To = append(s.env.To, rcpt)
	}
	return nil
}

// Data implements smtp.Session: one reply for all recipients, so 250 only when all of them have the message.
func (s *session) Data(r io.Reader) error {
	results, err := s.receive(r)
	if errors.Is(err, ErrDiscard) {
		s.server.opt.Tally.Reject("discarded")
		return nil
	}
	if err != nil {
		return s.refuse(err)
	}
	for _, err := range results {
		if err != nil {
			// the sender repeats it for all; the stores know those that they have by the transaction id
			return s.refuse(errTemporary)
		}
	}
	s.server.opt.Tally.Done()
	return nil
}

// LMTPData implements smtp.LMTPSession: a reply for each recipient.
func (s *session) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	results, err := s.receive(r)
	if err != nil {
		return s.refuse(err)
	}
	for _, raw := range s.raw {
		err := results[raw]
		if err != nil {
			err = s.refuse(err)
		} else {
			s.server.opt.Tally.Done()
		}
		status.SetStatus(raw, err)
	}
	return nil
}

// receive reads the body, makes sure that it is whole and sound, and has it delivered.
func (s *session) receive(r io.Reader) (map[string]error, error) {
	s.guard.begin()
	s.server.open.Add(1)
	defer s.server.open.Done()
	defer s.guard.done()
	body := &bodyReader{r: r, sum: sha256.New()}
	_, bdat := r.(*io.PipeReader) // only BDAT comes through a pipe
	watched := !bdat && s.server.opt.LinkTLS == nil
	if watched && !s.guard.wire.begin() {
		return nil, errEarly
	}
	kept, err := spool.Fill("", body)
	bareCR := watched && s.guard.wire.end()
	if err != nil {
		return nil, s.bodyError(err)
	}
	if bareCR {
		return nil, errors.Join(errBareLine, kept.Close())
	}
	// the library ends a BDAT body that is cut off like a whole one
	if bdat && s.guard.peerEnded(s.conn.Conn()) {
		return nil, errors.Join(errCutOff, kept.Close())
	}
	s.env.Body = kept
	defer func() { s.env.Body.Close() }() // by then it may be another one
	body.sum.Sum(s.env.sum[:0])
	return s.deliver()
}

// deliver has a whole message judged, filtered and stored.
func (s *session) deliver() (map[string]error, error) {
	ctx := s.server.deliver
	if j := s.server.opt.Judge; j != nil {
		if err := j.Judge(ctx, s.env); err != nil {
			return nil, err
		}
	}
	if s.filters != nil {
		before := slices.Clone(s.env.To)
		if err := s.filters.Message(ctx, s.env); err != nil {
			return nil, err
		}
		if err := s.takeAdded(ctx, before); err != nil {
			return nil, err
		}
	}
	return s.tx.Deliver(ctx), nil
}

// takeAdded tells the transaction of the recipients that filters have added. One that is refused for good is left out:
// the message is not the client's fault, and those that it named want it.
func (s *session) takeAdded(ctx context.Context, before []Recipient) error {
	var to []Recipient
	var refused *smtp.SMTPError
	for _, r := range s.env.To {
		if !slices.ContainsFunc(before, func(b Recipient) bool { return b.Address == r.Address }) {
			err := s.tx.Rcpt(ctx, r)
			if errors.As(err, &refused) && !refused.Temporary() {
				s.server.opt.Log.Warn("recipient of a filter is refused", "recipient", r.Address, "err", err)
				continue
			}
			if err != nil {
				return err
			}
		}
		to = append(to, r)
	}
	if len(to) == 0 && refused != nil {
		return refused
	}
	s.env.To = to
	return nil
}

// bodyError sorts out why a body could not be read. Unless the library has read to the body's end, nothing that
// follows may be taken for a command.
func (s *session) bodyError(err error) error {
	var reply *smtp.SMTPError
	var ours *fs.PathError
	switch {
	case errors.As(err, &reply):
		return reply
	case errors.Is(err, smtp.ErrTooLongLine):
		return errLongLine
	case errors.As(err, &ours): // the library goes on to the body's end
		s.server.opt.Log.Error("message not kept", "err", err)
		return errTemporary
	}
	if !errors.Is(err, smtp.ErrDataReset) { // RSET in the middle of a BDAT body, or a closed connection
		s.guard.end()
	}
	s.server.opt.Log.Debug("message was cut off", "peer", s.guard.RemoteAddr().String(), "err", err)
	return errCutOff
}

// refuse counts a refusal and makes sure that it is a reply: any other error is a matter of this server, so temporary.
func (s *session) refuse(err error) error {
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) {
		reply = errTemporary
	}
	reason, ok := reasons[reply.Code]
	switch {
	case reply.Code == 550 && reply.EnhancedCode[1] == 7: // security or policy, RFC 3463 section 3.8
		reason = "policy"
	case !ok:
		reason = "other"
	}
	s.server.opt.Tally.Reject(reason)
	return reply
}

func remoteAddr(conn net.Conn) netip.Addr {
	if a, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		return a.Addr().Unmap()
	}
	return netip.Addr{}
}

// bodyReader refuses a CR or LF alone, and sums up the body.
type bodyReader struct {
	r   io.Reader
	sum interface {
		io.Writer
		Sum([]byte) []byte
	}
	cr bool // the last byte was CR
}

// Read implements io.Reader.
func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	for _, c := range p[:n] {
		if (c == '\n') != b.cr {
			return 0, errBareLine
		}
		b.cr = c == '\r'
	}
	b.sum.Write(p[:n])
	if err == io.EOF && b.cr {
		return 0, errBareLine
	}
	return n, err
}

// transactionID names what is delivered: the sender and the content. A message without Message-ID gets none, because
// two of them may be alike and both meant. The recipient is not part of it: the store keeps ids by mailbox, so that a
// retry to some of the recipients is recognised too.
func transactionID(env *Envelope) (string, error) {
	head := make([]byte, spool.MemoryLimit)
	n, err := io.ReadFull(env.Body.Reader(), head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	head, _, _ = bytes.Cut(head[:n], []byte("\r\n\r\n"))
	if !bytes.Contains(bytes.ToLower(append([]byte("\r\n"), head...)), []byte("\r\nmessage-id:")) {
		return "", nil
	}
	sum := sha256.Sum256(append(env.sum[:], env.From...))
	return hex.EncodeToString(sum[:16]), nil
}

func isTransactionID(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 16 && s == strings.ToLower(s)
}
