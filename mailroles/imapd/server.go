package imapd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"anycastle/mailroles/accept"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/store"
	"anycastle/mailroles/tally"
)

const (
	// grace is Options.Grace when that is not given.
	grace = 5 * time.Second
	// keepAlive is how often a client that idles hears something. Address translators forget connections that are silent
	// for 5 minutes.
	keepAlive = 2 * time.Minute
	// watchTime is how often the directory is asked whether mailboxes are still of this LUN.
	watchTime = 30 * time.Second
)

// Options say how a Server serves.
type Options struct {
	LUN         string
	Directory   *directory.Directory
	Mail        *store.Store
	LinkTLS     *tls.Config // mutual TLS
	MaxSize     int64       // largest message that APPEND takes, in bytes
	MaxSessions int
	Grace       time.Duration // of commands that are under way when Run ends; 5 s when 0
	Log         *slog.Logger
	Tally       *tally.Tally
}

// Server serves IMAP. It is used for one Run.
type Server struct {
	opt       Options
	lib       *imapserver.Server
	caps      string // offered after login
	keepAlive time.Duration
	watchTime time.Duration
	ctx       context.Context // of sessions; outlives Run's by the grace
	open      sync.WaitGroup  // connections

	mu     sync.Mutex
	ending bool
	holds  int // see Hold
	guards map[*guard]struct{}
	left   chan struct{} // holds something when one of them has gone
}

// NewServer makes a server.
func NewServer(opt Options) *Server {
	s := &Server{opt: opt, keepAlive: keepAlive, watchTime: watchTime, guards: map[*guard]struct{}{}, left: make(chan struct{}, 1)}
	s.caps = capabilities(s.appendLimit())
	s.lib = imapserver.New(&imapserver.Options{
		NewSession: s.newSession,
		// what the library goes by; clients are told what capabilities says
		Caps: imap.CapSet{
			imap.CapIMAP4rev1:   {},
			imap.CapIMAP4rev2:   {},
			imap.CapLiteralPlus: {},
		},
		Logger: slog.NewLogLogger(opt.Log.Handler(), slog.LevelDebug),
		// The library knows TLS by the connection's type, which the guard hides. There is no session without
		// TLS: newSession completes the handshake.
		InsecureAuth: true,
	})
	return s
}

// appendLimit gives the largest message that can be announced.
func (s *Server) appendLimit() uint32 { return uint32(min(s.opt.MaxSize, math.MaxUint32)) }

// Run serves the listeners until ctx ends, and closes them. Then idle sessions get BYE at once, and the others when their
// command is done, for which they have Options.Grace. What was not answered with OK may or may not be done.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	sessions, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s.ctx = sessions
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	var linked []net.Listener
	for _, ln := range listeners {
		link := accept.Linked(ln, s.refused)
		linked = append(linked, link)
		serving.Go(func() { failed <- s.lib.Serve(&listener{Listener: link, server: s}) })
	}
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	serving.Go(func() { s.watch(watching) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	unwatch()
	for _, ln := range linked {
		if cerr := ln.Close(); cerr != nil {
			s.opt.Log.Debug("close listener", "err", cerr)
		}
	}
	s.end()
	serving.Wait()
	timer := time.AfterFunc(cmp.Or(s.opt.Grace, grace), cut)
	defer timer.Stop()
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

// end lets no session begin another command.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	for g := range s.guards {
		g.end(byeEnding)
	}
}

const byeEnding = "[UNAVAILABLE] Server is going away, log in again"

// watch ends sessions whose mailbox is of another LUN by now.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(s.watchTime)
	defer tick.Stop()
	for {
		changed := s.opt.Directory.Changed()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
		s.mu.Lock()
		guards := slices.Collect(maps.Keys(s.guards))
		s.mu.Unlock()
		moved := map[string]bool{}
		for _, g := range guards {
			user := g.who()
			gone, asked := moved[user]
			if !asked && user != "" {
				m, err := s.opt.Directory.Mailbox(ctx, user)
				gone = errors.Is(err, directory.ErrUnknown) || err == nil && m.LUN != s.opt.LUN
				moved[user] = gone
			}
			if gone {
				g.end("[UNAVAILABLE] Mailbox has moved, log in again")
			}
		}
	}
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
		return l.server.guard(conn), nil
	}
}

// guard takes a connection in.
func (s *Server) guard(conn net.Conn) *guard {
	// the library does not wait for connections
	s.open.Add(1)
	stop := context.AfterFunc(s.ctx, func() { conn.Close() })
	g := newGuard(tls.Server(conn, s.opt.LinkTLS), s.opt.MaxSize, func() { stop(); s.opt.Tally.Close() })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guards[g] = struct{}{}
	if s.ending {
		g.end(byeEnding)
	}
	return g
}

// leave lets go of a connection whose session is over.
func (s *Server) leave(g *guard) {
	s.mu.Lock()
	delete(s.guards, g)
	s.mu.Unlock()
	select {
	case s.left <- struct{}{}:
	default:
	}
	s.open.Done()
}

func (s *Server) newSession(c *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
	g := c.NetConn().(*guard)
	if err := g.handshake(); err != nil {
		s.leave(g)
		return nil, nil, fmt.Errorf("greet front end: %w", err)
	}
	s.opt.Log.Debug("session begins", "client", g.RemoteAddr().String()) // as its front end says, which has proved itself
	ses := &session{server: s, conn: c, guard: g}
	g.detach, g.serving = ses.state, s.opt.Mail.Serving
	return ses, nil, nil
}
