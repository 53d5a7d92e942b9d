package smtpd

import (
	"errors"
	"fmt"

	"github.com/emersion/go-smtp"
)

// Replies of the session. The library sends any other error as a permanent one.
var (
	errTemporary = reply(451, 4, 3, 0, "Not stored, try again later")
	errCutOff    = reply(451, 4, 4, 2, "Message was cut off, send it again")
	errUnknown   = reply(550, 5, 1, 1, "No such mailbox here")
	errSyntax    = reply(501, 5, 1, 3, "Bad address syntax")
	errEnvelope  = reply(501, 5, 5, 4, "ENVID has a field that is not known")
	errNested    = reply(503, 5, 5, 1, "The sender is named already; RSET comes before another")
	errEarly     = reply(503, 5, 5, 1, "Message was sent before the reply to DATA")
	errNotASCII  = reply(553, 5, 6, 7, "Address is not ASCII and SMTPUTF8 was not asked for")
	errLongLine  = reply(554, 5, 6, 0, "Message has a line that is too long")
	errBareLine  = reply(554, 5, 6, 0, "Message has a CR or LF alone; lines end in CRLF")
	errLoop      = reply(554, 5, 4, 6, "Message has been through too many servers, it seems to loop")
)

// Replies of the handlers.
var (
	errAway   = reply(451, 4, 4, 1, "Mailbox is not reached now, try again later")
	errMember = reply(451, 4, 2, 4, "Not every mailbox behind the address takes mail now, try again later")
	errMoved  = reply(451, 4, 4, 4, "Mailbox is on another LUN, try again later")
	errNotYet = reply(451, 4, 4, 4, "Mailbox is not known to its LUN now, try again later")
	errFull   = reply(452, 4, 2, 2, "Mailbox is full")
)

func reply(code, class, subject, detail int, text string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{class, subject, detail}, Message: text}
}

// reasons are the words under which refusals are counted, by reply code.
var reasons = map[int]string{
	450: "rate", 451: "temporary", 452: "full", 501: "syntax", 503: "sequence", 530: "not-logged-in",
	550: "unknown-recipient", 552: "too-large", 553: "sender", 554: "content",
}

// reason gives the word for a reply.
func reason(r *smtp.SMTPError) string {
	switch word, ok := reasons[r.Code]; {
	case (r.Code == 550 || r.Code == 554) && r.EnhancedCode[1] == 7: // security or policy status (RFC 3463 section 3.8)
		return "policy"
	case ok:
		return word
	default:
		return "other"
	}
}

// refuse counts a refusal and makes sure that it is a reply: any other error is a matter of this server, so temporary. The log
// has what was refused, and why.
func (s *session) refuse(err error, what ...any) error {
	var r *smtp.SMTPError
	switch {
	case errors.As(err, &r):
	case isMoving(err):
		r = errMoving
	default:
		r = errTemporary
	}
	s.server.opt.Tally.Reject(reason(r))
	what = append([]any{"peer", s.client.Addr}, what...)
	if s.user != "" {
		what = append(what, "user", s.user)
	}
	what = append(what, "code", r.Code, "reply", r.Message)
	if err != error(r) {
		what = append(what, "err", err)
	}
	s.server.opt.Log.Info("mail refused", what...)
	if r.Code == 421 {
		s.guard.end() // which is what it says
	}
	return r
}

// refuseBody refuses a message after its body, for all recipients. There is no envelope any more when the connection has failed
// before a BDAT body began.
func (s *session) refuseBody(err error) error {
	if s.env == nil {
		return s.refuse(err)
	}
	return s.refuse(err, "sender", s.env.From, "recipients", addresses(s.env.To))
}

func addresses(to []Recipient) []string {
	list := make([]string, len(to))
	for i, r := range to {
		list[i] = r.Address
	}
	return list
}

// isSettled reports whether it is known that a message is not stored, and would not be next time either: the refusal is
// definite, or the mailbox has no room for the message.
func isSettled(r *smtp.SMTPError) bool {
	return r.Code/100 == 5 || r.EnhancedCode == errFull.EnhancedCode
}

// combine makes one result of those of several mailboxes, or of several recipients, after a message was sent to them:
//
//   - nil when all have it;
//   - an error that is no reply, or a temporary reply, when it is not known of one whether it has it or will take it. The
//     sender comes again, and those that have the message know it by its transaction id;
//   - the refusal when nobody has it, and it is settled that some never will;
//   - a definite refusal when that is settled for some while others have it. Stores remember transaction ids for a time
//     only: a sender that is told to come again and again would store it again and again with the others. It is told the
//     whole truth instead, and tells its user.
func combine(results []error) error {
	var refusal *smtp.SMTPError
	stored := 0
	for _, err := range results {
		var r *smtp.SMTPError
		switch {
		case err == nil:
			stored++
		case !errors.As(err, &r) || !isSettled(r):
			return err
		case refusal == nil:
			refusal = r
		}
	}
	switch {
	case refusal == nil:
		return nil
	case stored == 0:
		return refusal
	}
	code := refusal.Code
	if code/100 == 4 {
		code = 552
	}
	text := fmt.Sprintf("%s (%d of %d; the others have the message)", refusal.Message, len(results)-stored, len(results))
	return reply(code, 5, refusal.EnhancedCode[1], refusal.EnhancedCode[2], text)
}

// combineAsked makes one answer to RCPT of those of the mailboxes behind the address, before any message was sent:
// nil when all would take it, the refusal when it is a single mailbox or all say the same, and else a temporary reply.
// A mailbox that cannot take part keeps the whole group waiting, since 250 would lose its copy.
func combineAsked(results []error) error {
	var refusal *smtp.SMTPError
	taken := 0
	for _, err := range results {
		var r *smtp.SMTPError
		switch {
		case err == nil:
			taken++
		case !errors.As(err, &r):
			return errors.Join(errAway, err)
		case refusal == nil || r.Code/100 == 4:
			refusal = r
		}
	}
	switch {
	case refusal == nil:
		return nil
	case taken > 0 && refusal.Code/100 == 5:
		return errMember
	}
	return refusal
}
