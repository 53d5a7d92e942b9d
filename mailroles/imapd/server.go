package imapd

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"anycastle/mailroles/accept"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/store"
	"anycastle/mailroles/tally"
)

// Options say how a Server serves.
type Options struct {
	LUN         string
	Directory   *directory.Directory
	Mail        *store.Store
	LinkTLS     *tls.Config // mutual TLS
	MaxSize     int64       // largest message that APPEND takes, in bytes
	MaxSessions int
	Log         *slog.Logger
	Tally       *tally.Tally
}

// Server serves IMAP. It is used for one Run.
type Server struct {
	opt  Options
	lib  *imapserver.Server
	ctx  context.Context // of Run
	open sync.WaitGroup  // connections
}

// NewServer makes a server.
func NewServer(opt Options) *Server {
	s := &Server{opt: opt}
	s.lib = imapserver.New(&imapserver.Options{
		NewSession: s.newSession,
		Caps: imap.CapSet{
			imap.CapIMAP4rev1:  {},
			imap.CapNamespace:  {},
			imap.CapUIDPlus:    {},
			imap.CapMove:       {},
			imap.CapESearch:    {},
			imap.CapStatusSize: {},
			imap.CapChildren:   {},
		},
		Logger: slog.NewLogLogger(opt.Log.Handler(), slog.LevelDebug),
		// The library knows TLS by the connection's type, which the guard hides. There is no session without
		// TLS: newSession completes the handshake.
		InsecureAuth: true,
	})
	return s
}

// Run serves the listeners until ctx ends, and closes them. Sessions are then cut off; what was not answered with OK
// may or may not be done.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	s.ctx = ctx
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, ln := range listeners {
		serving.Go(func() { failed <- s.lib.Serve(&listener{Listener: accept.Linked(ln, s.refused), server: s}) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cut()
	if cerr := s.lib.Close(); cerr != nil {
		s.opt.Log.Debug("close listeners", "err", cerr)
	}
	serving.Wait()
	s.open.Wait()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// refused counts a connection that began with neither a PROXY header nor TLS.
func (s *Server) refused(peer net.Addr, err error) {
	s.opt.Tally.Reject("proxy-header")
	s.opt.Log.Debug("front end refused", "peer", peer.String(), "err", err)
}

// listener bounds the sessions and puts TLS and a guard under each.
type listener struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		opt := &l.server.opt
		if !opt.Tally.Open(opt.MaxSessions) {
			opt.Tally.Reject("too-many-sessions")
			conn.Close()
			continue
		}
		// the library does not close, nor wait for, a connection that it has only begun to serve
		l.server.open.Add(1)
		stop := context.AfterFunc(l.server.ctx, func() { conn.Close() })
		return newGuard(tls.Server(conn, opt.LinkTLS), func() { stop(); opt.Tally.Close() }), nil
	}
}

func (s *Server) newSession(c *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
	g := c.NetConn().(*guard)
	if err := g.handshake(); err != nil {
		s.open.Done()
		return nil, nil, fmt.Errorf("greet front end: %w", err)
	}
	s.opt.Log.Debug("session begins", "client", g.RemoteAddr().String()) // as its front end says, which has proved itself
	return &session{server: s, conn: c, guard: g}, nil, nil
}
