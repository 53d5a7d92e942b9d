package smtpd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/spool"
)

// Data implements smtp.Session: one reply for all recipients, so 250 only when all of them have the message.
func (s *session) Data(r io.Reader) error {
	defer s.lock(r)()
	results, err := s.receive(r)
	if errors.Is(err, ErrDiscard) {
		s.server.opt.Tally.Reject("discarded")
		return nil
	}
	if err != nil {
		return s.refuseBody(err)
	}
	list := make([]error, len(s.env.To))
	for i, to := range s.env.To {
		list[i] = resultOf(results, to.Address)
	}
	if err := combine(list); err != nil {
		return s.refuseBody(err)
	}
	s.server.opt.Tally.Done()
	s.guard.wire.forgive()
	return nil
}

// LMTPData implements smtp.LMTPSession: a reply for each recipient.
func (s *session) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	defer s.lock(r)()
	results, err := s.receive(r)
	if err != nil {
		return s.refuseBody(err)
	}
	for _, raw := range s.raw {
		err := resultOf(results, raw)
		if err != nil {
			err = s.refuse(err, "sender", s.env.From, "recipients", []string{raw})
		} else {
			s.server.opt.Tally.Done()
		}
		status.SetStatus(raw, err)
	}
	return nil
}

// lock keeps the transaction, whose body it is, as it is until the returned function is called.
func (s *session) lock(body io.Reader) (unlock func()) {
	s.mu.Lock()
	if pipe, bdat := body.(*io.PipeReader); bdat { // only BDAT comes through a pipe
		s.pipe.Store(pipe)
	}
	close(s.begun)
	return s.mu.Unlock
}

// resultOf gives the result of a recipient. One that a handler has forgotten has not got the message.
func resultOf(results map[string]error, address string) error {
	if err, ok := results[address]; ok {
		return err
	}
	return errTemporary
}

// receive reads the body, makes sure that it is whole and sound, and has it delivered.
func (s *session) receive(r io.Reader) (map[string]error, error) {
	s.guard.begin()
	s.server.open.Add(1)
	defer s.server.open.Done()
	defer s.guard.done()
	body := &bodyReader{r: r, sum: sha256.New()}
	if s.guard.hasFailed() {
		s.guard.end()
		return nil, errCutOff
	}
	bdat := s.pipe.Load() != nil
	if !bdat && !s.guard.wire.begin() {
		return nil, errEarly
	}
	done, ok := s.server.gate.begin()
	if !ok {
		s.guard.end() // the body stays unread
		return nil, errMoving
	}
	defer done()
	kept, err := spool.Fill("", body)
	bareCR := !bdat && s.guard.wire.end()
	if err != nil {
		return nil, s.bodyError(err)
	}
	if bareCR {
		return nil, errors.Join(errBareLine, kept.Close())
	}
	// the library ends a BDAT body that is cut off like a whole one
	if bdat && (s.guard.hasFailed() || s.guard.peerEnded(s.conn.Conn())) {
		return nil, errors.Join(errCutOff, kept.Close())
	}
	s.env.Body = kept
	defer func() { s.env.Body.Close() }() // by then it may be another one
	body.sum.Sum(s.env.sum[:0])
	return s.deliver()
}

// deliver has a whole message judged, filtered and stored. On the link that has been done, so it is only stored.
func (s *session) deliver() (map[string]error, error) {
	ctx := s.server.deliver
	if s.server.link {
		return s.store(), nil
	}
	h, err := scanHeader(s.env.Body.Reader(), s.server.opt.Hostname)
	if err != nil {
		return nil, err
	}
	if h.hops > maxHops {
		return nil, errLoop
	}
	if h.named || h.hops > 0 {
		s.env.Tx = transactionID(s.env)
	}
	if j := s.server.opt.Judge; j != nil {
		if err := s.timed("judge", func() error { return j.Judge(ctx, s.env) }); err != nil {
			return nil, err
		}
	}
	// after the judge, since a signature may cover them; before the filters, which may add their own
	if err := s.cut(h.ours); err != nil {
		return nil, err
	}
	if s.filters != nil {
		before := slices.Clone(s.env.To)
		if err := s.timed("filters", func() error { return s.filters.Message(ctx, s.env) }); err != nil {
			return nil, err
		}
		if err := s.takeAdded(ctx, before); err != nil {
			return nil, err
		}
	}
	return s.store(), nil
}

// timed does one leg of the work, and counts how long it took.
func (s *session) timed(leg string, work func() error) error {
	start := time.Now()
	defer func() { s.server.opt.Tally.Observe(leg, time.Since(start)) }()
	return work()
}

// store has the message stored for its recipients, the last leg.
func (s *session) store() map[string]error {
	start := time.Now()
	defer func() { s.server.opt.Tally.Observe("store", time.Since(start)) }()
	return s.tx.Deliver(s.server.deliver)
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
	if s.env.To = to; len(to) > 0 {
		return nil
	}
	if refused != nil {
		return refused
	}
	return ErrDiscard // all were taken off
}

// cut takes sections out of the body: what a stranger says in our name about a sender (RFC 8601 section 5).
func (s *session) cut(parts []section) error {
	if len(parts) == 0 {
		return nil
	}
	body, err := without(s.env.Body, parts)
	if err != nil {
		return err
	}
	old := s.env.Body
	s.env.Body = body
	return old.Close()
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

// transactionID names what is delivered: the sender and the content. A message without Message-ID, and without the trace of a
// server that would send it again, gets none, because two of them may be alike and both meant. Neither this server nor the
// recipient is part of it: a retry may come over another MX, and the store keeps ids by mailbox, so that a retry to some of
// the recipients is recognised too.
func transactionID(env *Envelope) string {
	sum := sha256.Sum256(append(env.sum[:], env.From...))
	return hex.EncodeToString(sum[:16])
}
