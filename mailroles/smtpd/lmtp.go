package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/directory"
	"anycastle/mailroles/link"
	"anycastle/mailroles/store"
)

// QuarantineFolder is where a store keeps messages that a filter wants kept apart.
const QuarantineFolder = "Quarantine"

// Mailboxes knows the mailboxes of all LUNs.
type Mailboxes interface {
	// Mailbox finds one by its own address; the error is directory.ErrUnknown when there is none.
	Mailbox(ctx context.Context, address string) (directory.Mailbox, error)
}

// Notifier tells senders that their mail was delivered (RFC 3461 section 6.2).
type Notifier interface {
	// Delivered has a report made for the recipients, who all asked for it. The message is stored already.
	Delivered(ctx context.Context, env *Envelope, to []Recipient) error
}

// Store is the Handler of a store: it writes messages into the INBOX of mailboxes of its LUN, and those to be kept apart
// into the Quarantine folder.
type Store struct {
	LUN       string
	Directory Mailboxes
	Mail      *store.Store
	Limit     func(directory.Mailbox) store.Limit // of a mailbox; nil for no limits
	Notifier  Notifier                            // nil: nobody is told
	Log       *slog.Logger
}

// storeTx is a message on its way into a store.
type storeTx struct {
	*Store
	env   *Envelope
	boxes map[string]string // the one spelling of a mailbox, by the front end's
}

// Begin implements Handler.
func (s *Store) Begin(_ context.Context, env *Envelope) (Transaction, error) {
	if err := s.Mail.Serving(); err != nil {
		return nil, err
	}
	return &storeTx{Store: s, env: env, boxes: map[string]string{}}, nil
}

// Rcpt implements Transaction. That a mailbox is unknown, or on another LUN, is a temporary matter: the front end knows it to be
// here, so its directory and this one are not of the same time.
func (t *storeTx) Rcpt(ctx context.Context, to Recipient) error {
	m, err := t.Directory.Mailbox(ctx, to.Address)
	switch {
	case errors.Is(err, directory.ErrUnknown):
		t.Log.Warn("front end has a mailbox here that this node's directory does not know", "mailbox", to.Address)
		return errNotYet
	case err != nil:
		return err
	case m.LUN != t.LUN:
		t.Log.Warn("front end has a mailbox here that this node's directory has elsewhere", "mailbox", to.Address, "lun", m.LUN)
		return errMoved
	}
	t.boxes[to.Address] = m.Address
	if t.Limit == nil {
		return nil
	}
	box, err := t.Mail.Mailbox(m.Address)
	if err != nil {
		t.Log.Error("mailbox not opened", "mailbox", m.Address, "err", err)
		return err
	}
	box.SetLimit(t.Limit(m))
	if err := box.Fits(max(1, t.env.Options.Size)); err != nil {
		return errors.Join(errFull, err)
	}
	return nil
}

// Close implements Transaction.
func (t *storeTx) Close() {}

// Deliver implements Transaction. The message gets a Return-Path field on top (RFC 5321 section 4.4).
func (t *storeTx) Deliver(ctx context.Context) map[string]error {
	done := map[string]error{} // by mailbox: two spellings may mean the same
	results := map[string]error{}
	var tell []Recipient
	for _, to := range t.env.To {
		box := t.boxes[to.Address]
		err, seen := done[box]
		if !seen {
			var again bool
			again, err = t.deliver(box, t.env)
			if done[box] = err; err == nil && !again && slices.Contains(to.Options.Notify, smtp.DSNNotifySuccess) {
				tell = append(tell, to)
			}
		}
		results[to.Address] = err
	}
	if t.Notifier != nil && len(tell) > 0 {
		if err := t.Notifier.Delivered(ctx, t.env, tell); err != nil {
			t.Log.Warn("no report of a delivery", "err", err) // it is delivered nevertheless
		}
	}
	return results
}

// deliver stores the message in one mailbox. again says that it was there already.
func (s *Store) deliver(to string, env *Envelope) (again bool, err error) {
	box, err := s.Mail.Mailbox(to)
	if err != nil {
		s.Log.Error("mailbox not opened", "mailbox", to, "err", err)
		return false, err
	}
	path := fmt.Sprintf("Return-Path: <%s>\r\n", link.Path(env.From))
	in := store.Incoming{
		Body: io.MultiReader(strings.NewReader(path), env.Body.Reader()),
		Size: int64(len(path)) + env.Body.Size(),
		Tx:   env.Tx,
	}
	if env.Hold != "" {
		in.Folder = QuarantineFolder
	}
	again, err = box.Deliver(in)
	switch {
	case again:
		s.Log.Debug("message was stored before", "mailbox", to)
	case errors.Is(err, store.ErrQuota):
		err = errors.Join(errFull, err)
	case isMoving(err):
		s.Log.Warn("message not stored by this replica", "mailbox", to, "err", err)
	case err != nil:
		s.Log.Error("message not stored", "mailbox", to, "err", err)
	}
	return again, err
}
