package smtpd

import (
	"context"
	"net/netip"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/spool"
)

// Handler takes messages from a Server. Its methods are called concurrently. An error of its methods, or of those below,
// that is no *smtp.SMTPError is a matter of this server, so it is answered as a temporary one.
type Handler interface {
	// Begin opens a transaction for the sender of env, which has no recipients yet and no body. An error refuses MAIL.
	Begin(ctx context.Context, env *Envelope) (Transaction, error)
}

// Transaction is one message on its way in. One goroutine at a time uses it.
type Transaction interface {
	// Rcpt takes a recipient, or refuses it.
	Rcpt(ctx context.Context, to Recipient) error
	// Deliver stores the message for each recipient of the envelope, which is whole now. By address it gives nil for
	// those that have it durably, and an error for each of the others.
	Deliver(ctx context.Context) map[string]error
	// Close ends the transaction. It is called once, whatever happened before.
	Close()
}

// Screen judges a source before it sees the banner.
type Screen interface {
	// Admit lets a client in, or refuses it. early waits for as long as it is told, and reports whether the client spoke
	// meanwhile. release is called when an admitted session ends.
	Admit(ctx context.Context, client netip.Addr, early func(context.Context, time.Duration) bool) (release func(), err error)
}

// Filters watch sessions and messages pass, and may refuse them: see package milter.
type Filters interface {
	// Open begins with a client that has named itself. An error refuses EHLO.
	Open(ctx context.Context, client Client) (Filtering, error)
}

// Filtering is the filters' part in one session. One goroutine at a time uses it.
type Filtering interface {
	// Mail and Rcpt see the envelope grow. An error refuses the command.
	Mail(ctx context.Context, env *Envelope) error
	Rcpt(ctx context.Context, env *Envelope, to Recipient) error
	// Message sees the whole message, and may change all of it: recipients, head, body and hold. It closes a body that it
	// replaces. ErrDiscard accepts the message and drops it.
	Message(ctx context.Context, env *Envelope) error
	// Reset ends the present transaction, if any.
	Reset()
	// Close ends the session.
	Close()
}

// Judge holds a message against what its sender's domain says of its mail.
type Judge interface {
	// Judge adds what it found to the envelope's head. An error refuses the message.
	Judge(ctx context.Context, env *Envelope) error
}

// Client is who speaks to a server.
type Client struct {
	Addr       netip.Addr
	Helo       string // what the client calls itself; not to be trusted
	TLS        bool
	TLSVersion string // "TLSv1.3"; empty without TLS
	Cipher     string // "TLS_AES_128_GCM_SHA256"; empty without TLS
}

// Recipient is one recipient, as the client wrote it.
type Recipient struct {
	Address string
	Options smtp.RcptOptions
}

// Envelope is a message with what is known of its way here.
type Envelope struct {
	Client
	User    string // address of the mailbox that logged in; empty for a stranger
	From    string // as the client wrote it; empty for a bounce
	Options smtp.MailOptions
	To      []Recipient // those that were taken, each spelling once
	Tx      string      // transaction id, see transactionID; empty before the body is there, and for none
	Head    string      // fields that go on top of the body, each with its CRLF
	Hold    string      // why a filter wants the message kept apart; empty when none does
	Body    *spool.Spool
	sum     [32]byte // SHA-256 of the body as it was received
}
