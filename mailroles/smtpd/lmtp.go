package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"anycastle/mailroles/directory"
	"anycastle/mailroles/store"
)

// Store is the Handler of a store: it writes messages into the INBOX of mailboxes of its LUN.
type Store struct {
	LUN       string
	Directory *directory.Directory
	Mail      *store.Store
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
	return &storeTx{Store: s, env: env, boxes: map[string]string{}}, nil
}

// Rcpt implements Transaction.
func (t *storeTx) Rcpt(ctx context.Context, to Recipient) error {
	m, err := t.Directory.Mailbox(ctx, to.Address)
	if errors.Is(err, directory.ErrUnknown) || err == nil && m.LUN != t.LUN {
		return errUnknown
	}
	t.boxes[to.Address] = m.Address
	return err
}

// Close implements Transaction.
func (t *storeTx) Close() {}

// Deliver implements Transaction. The message gets a Return-Path field on top (RFC 5321 section 4.4).
func (t *storeTx) Deliver(context.Context) map[string]error {
	done := map[string]error{} // by mailbox: two spellings may mean the same
	results := map[string]error{}
	for _, to := range t.env.To {
		box := t.boxes[to.Address]
		err, again := done[box]
		if !again {
			if err = t.deliver(box, t.env); err != nil {
				t.Log.Error("message not stored", "mailbox", box, "err", err)
			}
			done[box] = err
		}
		results[to.Address] = err
	}
	return results
}

func (s *Store) deliver(to string, env *Envelope) error {
	box, err := s.Mail.Mailbox(to)
	if err != nil {
		return err
	}
	path := fmt.Sprintf("Return-Path: <%s>\r\n", env.From)
	again, err := box.Deliver(store.Incoming{
		Body: io.MultiReader(strings.NewReader(path), env.Body.Reader()),
		Size: int64(len(path)) + env.Body.Size(),
		Tx:   env.Tx,
	})
	if again {
		s.Log.Debug("message was stored before", "mailbox", to)
	}
	return err
}
