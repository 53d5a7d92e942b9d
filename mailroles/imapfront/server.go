package imapfront

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"anycastle/mailroles/accept"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/tally"
)

const (
	// grace is how long joined sessions may go on after the end has been asked for.
	grace = 5 * time.Second
	// writeTime bounds a reply before login.
	writeTime = 30 * time.Second
)

// Options say how a Server serves.
type Options struct {
	Directory   *directory.Directory
	LUNs        map[string]netip.AddrPort // where each LUN's store takes IMAP
	PublicTLS   *tls.Config
	LinkTLS     *tls.Config
	MaxSessions int
	Log         *slog.Logger
	Tally       *tally.Tally
}

// Listener is a socket to serve.
type Listener struct {
	net.Listener
	TLS bool // TLS from the first byte, instead of STARTTLS
}

// Server is an IMAP front end. It is used for one Run.
type Server struct {
	opt  Options
	open sync.WaitGroup
}

// NewServer makes a server.
func NewServer(opt Options) *Server { return &Server{opt: opt} }

// Run serves the listeners until ctx ends, and closes them. Sessions before login get BYE at once; others are cut off
// unless they end within 5 s.
func (s *Server) Run(ctx context.Context, listeners ...Listener) error {
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, ln := range listeners {
		serving.Go(func() { failed <- s.accept(ctx, hard, ln) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	for _, ln := range listeners {
		if cerr := ln.Close(); cerr != nil {
			s.opt.Log.Debug("close listener", "err", cerr)
		}
	}
	serving.Wait()
	if n := s.opt.Tally.Counts().Sessions; n > 0 {
		s.opt.Log.Info("role ends when its sessions have ended, or after the grace", "sessions", n, "grace", grace)
	}
	timer := time.AfterFunc(grace, cut)
	defer timer.Stop()
	s.open.Wait()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func (s *Server) accept(ctx, hard context.Context, ln Listener) error {
	return accept.Loop(ctx, ln, func(conn net.Conn) {
		if !s.opt.Tally.Open(s.opt.MaxSessions) {
			s.opt.Tally.Reject("too-many-sessions")
			conn.Close()
			return
		}
		s.open.Go(func() {
			defer s.opt.Tally.Close()
			s.serve(ctx, hard, conn, ln.TLS)
		})
	})
}

// serve runs one client's session.
func (s *Server) serve(ctx, hard context.Context, conn net.Conn, secure bool) {
	defer conn.Close()
	defer context.AfterFunc(hard, func() { conn.Close() })()
	if secure {
		conn = tls.Server(conn, s.opt.PublicTLS)
	}
	c := newSession(s, conn, secure)
	store, err := c.untilLogin(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		s.opt.Log.Debug("session ended before login", "peer", conn.RemoteAddr().String(), "err", err)
	}
	if store == nil {
		return
	}
	defer store.Close()
	defer context.AfterFunc(hard, func() { store.Close() })()
	splice(c.conn, c.rd.br, store)
}
