package smtpd

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/accept"
	"anycastle/mailroles/tally"
)

const (
	// MaxRecipients is the most recipients of one message.
	MaxRecipients = 100
	// maxLine bounds a line. RFC 5321 asks for 1,000 bytes; real mail has longer ones, and they pass.
	maxLine = 64 << 10
	// linkRoom is what a message may grow between the front end's size check and the store's.
	linkRoom = 64 << 10
	// grace is how long running transactions may go on after the end has been asked for, unless an option says it.
	grace = 5 * time.Second
	// bannerTime bounds the refusal of a session before it has begun.
	bannerTime = time.Second
)

// Options say how a Server serves.
type Options struct {
	Hostname    string
	PublicTLS   *tls.Config // SMTP: for STARTTLS
	LinkTLS     *tls.Config // LMTP: mutual TLS from the first byte. Exactly one of the two is set
	MaxSize     int64       // largest message in bytes
	MaxSessions int         // sessions at a time, with those that wait for the Screen
	MaxRcpts    int         // most recipients of one message; MaxRecipients when 0
	Handler     Handler
	Screen      Screen        // nil for none
	Filters     Filters       // nil for none
	Judge       Judge         // nil for none
	Auth        Auth          // nil for none: nobody logs in
	DSN         bool          // SMTP: offer RFC 3461; the Handler then sees to reports. LMTP always does
	Grace       time.Duration // for transactions under way at the end; 5 s when 0
	Log         *slog.Logger
	Tally       *tally.Tally
}

// ImplicitTLS makes a listener on which SMTP clients speak TLS from the first byte (RFC 8314), with Options.PublicTLS.
func ImplicitTLS(ln net.Listener) net.Listener { return implicitTLS{ln} }

type implicitTLS struct{ net.Listener }

// Server serves SMTP or LMTP. It is used for one Run.
type Server struct {
	opt  Options
	link bool // LMTP

	deliver context.Context // of deliveries; outlives Run's by the grace
	open    sync.WaitGroup  // connections and transactions
	gate    gate            // see Hold

	mu     sync.Mutex
	ending bool
	guards map[*guard]struct{}
}

// NewServer makes a server.
func NewServer(opt Options) *Server {
	return &Server{opt: opt, link: opt.LinkTLS != nil, guards: map[*guard]struct{}{}}
}

// Run serves the listeners until ctx ends, and closes them. Then idle sessions get 421 at once, and transactions under
// way may finish for the grace.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	deliver, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.deliver = deliver
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, ln := range listeners {
		serving.Go(func() { failed <- s.accept(ctx, ln) })
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
	s.end()
	serving.Wait()
	timer := time.AfterFunc(cmp.Or(s.opt.Grace, grace), func() {
		stop()
		for _, g := range s.remaining() {
			g.Close()
		}
	})
	defer timer.Stop()
	s.open.Wait()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// end lets no session begin another transaction.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	s.gate.end()
	for g := range s.guards {
		g.end()
	}
}

func (s *Server) remaining() []*guard {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.guards))
}

// accept bounds the sessions and puts a guard under each.
func (s *Server) accept(ctx context.Context, ln net.Listener) error {
	_, secure := ln.(implicitTLS)
	return accept.Loop(ctx, ln, func(conn net.Conn) {
		if g := s.guard(conn); g != nil {
			g.secure = secure
			s.open.Go(func() { s.serve(ctx, g) })
		} else {
			s.opt.Tally.Reject("too-many-sessions")
			s.turnAway(conn, secure, reply(421, 4, 3, 2, "Too many sessions, try again later"))
			conn.Close()
		}
	})
}

// serve runs one session, in a library server of its own: what the session's wire must see, only a server can show.
func (s *Server) serve(ctx context.Context, g *guard) {
	release, ok := s.admit(ctx, g)
	if !ok {
		return
	}
	defer release()
	lib := s.library(g)
	// its error is that there is no second connection
	_ = lib.Serve(&single{guard: g, conn: s.tls(g)})
	// it waits for the session's goroutine, and the listener that it closes has nothing to close
	_ = lib.Shutdown(context.Background())
}

// tls puts TLS on a guard whose client begins with it.
func (s *Server) tls(g *guard) net.Conn {
	switch {
	case s.opt.LinkTLS != nil:
		return tls.Server(g, s.opt.LinkTLS)
	case g.secure:
		return tls.Server(g, s.opt.PublicTLS)
	}
	return g
}

func (s *Server) library(g *guard) *smtp.Server {
	lib := smtp.NewServer(smtp.BackendFunc(s.newSession))
	lib.Domain = s.opt.Hostname
	lib.TLSConfig = s.opt.PublicTLS
	lib.MaxMessageBytes = s.opt.MaxSize
	lib.MaxLineLength = maxLine
	lib.MaxRecipients = cmp.Or(s.opt.MaxRcpts, MaxRecipients)
	lib.EnableSMTPUTF8 = true
	lib.EnableDSN = s.opt.DSN || s.link // on the link ENVID carries more
	lib.ErrorLog = slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelDebug)
	lib.Debug = &g.wire
	lib.WriteTimeout = idleTime // see guard.SetWriteDeadline
	if s.link {
		lib.LMTP = true
		lib.MaxMessageBytes += linkRoom
		lib.MaxLineLength += linkRoom
	}
	return lib
}

// single is a listener with one connection, and closed with it.
type single struct {
	*guard
	conn net.Conn // the guard, or TLS on it; nil once it has been accepted
}

// Accept implements net.Listener.
func (l *single) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	<-l.gone
	return nil, net.ErrClosed
}

// Addr implements net.Listener.
func (l *single) Addr() net.Addr { return l.LocalAddr() }

// guard takes a connection in; nil when there are too many.
func (s *Server) guard(conn net.Conn) *guard {
	if !s.opt.Tally.Open(s.opt.MaxSessions) {
		return nil
	}
	g := &guard{Conn: conn, idleTime: idleTime, gone: make(chan struct{})}
	if !s.link { // a front end asks for as many mailboxes as it likes
		g.wire.tooMany = g.end
	}
	g.onClose = func() {
		s.mu.Lock()
		delete(s.guards, g)
		s.mu.Unlock()
		s.opt.Tally.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guards[g] = struct{}{}
	g.ending = s.ending
	return g
}
