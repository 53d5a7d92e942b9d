package imapd

import (
	"context"
	"errors"
	"sync"

	"github.com/emersion/go-imap/v2"

	"anycastle/mailroles/store"
)

const byeMoving = "[UNAVAILABLE] Mailbox is moving, log in again"

// Answers while another replica of the LUN is to be asked, or this one a little later.
var (
	errMoving = no(imap.ResponseCodeUnavailable, "Mailbox is moving, try again now")
	errUnfit  = no(imap.ResponseCodeUnavailable, "Mailbox cannot be changed now, try again later")
	errAbsent = no(imap.ResponseCodeUnavailable, "Message is on its way here, try again later")
)

// Hold has front ends take all sessions away, each when no command of it is at work, and lets nobody log in until release is
// called. A session of a front end that does not know how ends with BYE. Hold returns when no session is left, or ctx ends.
func (s *Server) Hold(ctx context.Context) (release func()) {
	s.mu.Lock()
	s.holds++
	for g := range s.guards {
		// while it is in the list, it is counted in open
		s.open.Go(func() { s.hold(g) })
	}
	s.mu.Unlock()
	for s.inUse() {
		select {
		case <-s.left:
			continue
		case <-ctx.Done():
		}
		break
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.holds--
	})
}

func (s *Server) hold(g *guard) {
	if g.who() != "" && !g.hold() {
		g.end(byeMoving)
	}
}

// inUse reports whether anybody is logged in.
func (s *Server) inUse() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for g := range s.guards {
		if g.who() != "" {
			return true
		}
	}
	return false
}

// held reports whether sessions are being taken away.
func (s *Server) held() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds > 0
}

// passing gives the answer to an error of a replica that may not, or cannot, do what was asked; nil for other errors.
func (s *session) passing(err error) *imap.Error {
	switch {
	case errors.Is(err, store.ErrPassive):
		s.guard.end(byeMoving)
		return errMoving
	case errors.Is(err, store.ErrAlone), errors.Is(err, store.ErrUnfit):
		return errUnfit
	case errors.Is(err, store.ErrMissing):
		return errAbsent
	}
	return nil
}
