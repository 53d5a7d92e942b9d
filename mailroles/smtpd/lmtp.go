package smtpd

import (
	"context"
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

// Known implements Handler.
func (s *Store) Known(address string) (string, bool) {
	m, ok := s.Directory.Lookup(address)
	return m.Address, ok && m.LUN == s.LUN
}

// Deliver implements Handler. The message gets a Return-Path field on top (RFC 5321 section 4.4).
func (s *Store) Deliver(_ context.Context, env *Envelope) map[string]error {
	results := map[string]error{}
	for _, to := range env.To {
		err := s.deliver(to, env)
		if err != nil {
			s.Log.Error("message not stored", "mailbox", to, "err", err)
		}
		results[to] = err
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
