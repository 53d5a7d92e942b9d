package imapfront

import (
	"bytes"
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

// writeTime bounds a reply before login.
const writeTime = 30 * time.Second

// Directory knows the mailboxes.
type Directory interface {
	// Authenticate finds the mailbox of a user who knows its password. The error is directory.ErrLogin for who does not;
	// any other means that nobody can tell now.
	Authenticate(ctx context.Context, user, password string) (directory.Mailbox, error)
	// Mailbox finds a mailbox by its address. The error is directory.ErrUnknown when there is none.
	Mailbox(ctx context.Context, address string) (directory.Mailbox, error)
}

// Throttle slows down and refuses who guesses passwords. Its methods are called concurrently.
type Throttle interface {
	// Check says how long a login has to wait before it is tried, and whether it may be tried at all.
	Check(source netip.Addr, account string) (wait time.Duration, ok bool)
	// One of these settles each login that Check has let through. Undecided is one of which nobody can tell.
	Failed(source netip.Addr, account string)
	Succeeded(source netip.Addr, account string)
	Undecided(source netip.Addr, account string)
}

// Options say how a Server serves.
type Options struct {
	Directory   Directory
	Changed     func() <-chan struct{}    // gives a channel that is closed when the directory next changes; nil: nobody tells
	LUNs        map[string]netip.AddrPort // where each LUN's store takes IMAP
	PublicTLS   *tls.Config
	LinkTLS     *tls.Config
	Throttle    Throttle // nil for none
	MaxSessions int
	Grace       time.Duration // how long a session may take to end when the role does; 0 for 30 s
	Idle        time.Duration // how long a client that is logged in may say nothing; 0 for 35 min
	Retry       time.Duration // how long a login waits for its LUN to have an active store; 0 for 8 s
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
	opt     Options
	open    sync.WaitGroup
	bufs    sync.Pool                // of *[bigRoom]byte
	redials map[string]chan struct{} // by LUN; each holds one for each session that is taken to its store

	mu     sync.Mutex
	joined map[*joined]struct{}
	ending bool
	sweeps int // how often the sessions were compared with the directory
}

// NewServer makes a server.
func NewServer(opt Options) *Server {
	if opt.Grace == 0 {
		opt.Grace = 30 * time.Second
	}
	if opt.Idle == 0 {
		opt.Idle = spliceIdle
	}
	if opt.Retry == 0 {
		opt.Retry = retryTime
	}
	s := &Server{opt: opt, joined: map[*joined]struct{}{}, redials: map[string]chan struct{}{}}
	for lun := range opt.LUNs {
		s.redials[lun] = make(chan struct{}, maxRedials)
	}
	s.bufs.New = func() any { return new([bigRoom]byte) }
	return s
}

// Run serves the listeners until ctx ends, and closes them. Sessions get BYE then: before login at once, after it when no
// command is at work, or at the end of the grace between any two lines.
func (s *Server) Run(ctx context.Context, listeners ...Listener) error {
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, ln := range listeners {
		serving.Go(func() { failed <- s.accept(ctx, hard, ln) })
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	serving.Go(func() { s.followMoves(following) })
	serving.Go(func() { s.giveBack(following) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop()
	for _, ln := range listeners {
		if cerr := ln.Close(); cerr != nil {
			s.opt.Log.Debug("close listener", "err", cerr)
		}
	}
	s.end()
	serving.Wait()
	timer := time.AfterFunc(s.opt.Grace, cut)
	defer timer.Stop()
	s.open.Wait()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// end asks for the end of all sessions that are logged in, and of those that are about to be.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	for j := range s.joined {
		j.end(byeEnding, s.patience())
	}
}

// patience is how long a session may wait for the end of a command, so that the end of a line can be waited for too.
func (s *Server) patience() time.Duration { return max(0, s.opt.Grace-lineTime) }

func (s *Server) accept(ctx, hard context.Context, ln Listener) error {
	return accept.Loop(ctx, ln, func(conn net.Conn) {
		if !s.opt.Tally.Open(s.opt.MaxSessions) {
			s.opt.Tally.Reject("too-many-sessions")
			conn.Close()
			return
		}
		s.open.Go(func() {
			if !s.serve(ctx, hard, conn, ln.TLS) {
				conn.Close()
				s.opt.Tally.Close()
			}
		})
	})
}

// serve runs a client's session until login. If that succeeds others go on with it, and it gives true.
func (s *Server) serve(ctx, hard context.Context, conn net.Conn, secure bool) bool {
	defer context.AfterFunc(hard, func() { conn.Close() })()
	peer := conn.RemoteAddr()
	if secure {
		conn = tls.Server(conn, s.opt.PublicTLS)
	}
	c := newSession(s, conn, secure)
	store, err := c.untilLogin(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		s.opt.Log.Debug("session ended before login", "peer", peer.String(), "err", err)
	}
	if store == nil {
		return false
	}
	if err := s.join(ctx, c, store); err != nil {
		s.opt.Log.Error("session cannot be joined to its store", "err", err)
		store.NetConn().Close()
		return false
	}
	return true
}

// join has a session go on with its store. The goroutine that has talked until login ends, and with it the stack that the
// handshake has made large.
func (s *Server) join(ctx context.Context, c *session, store *storeConn) error {
	j, err := s.newJoined(c.mailbox, c.conn.(*tls.Conn), store)
	if err != nil {
		return err
	}
	ahead, _ := c.rd.br.Peek(c.rd.br.Buffered())
	ahead = bytes.Clone(ahead) // the buffer that it is in may go
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined[j] = struct{}{}
	j.run(s.open.Go, ahead, store.ahead, func() {
		s.mu.Lock()
		delete(s.joined, j)
		s.mu.Unlock()
		s.opt.Tally.Close()
	})
	switch {
	case s.ending:
		j.end(byeEnding, s.patience())
	case s.sweeps != c.sweeps: // the directory was asked before it changed
		s.open.Go(func() { s.endMoved(ctx, []*joined{j}) })
	}
	return nil
}
