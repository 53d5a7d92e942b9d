package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	maxConns     = 32 // accepted connections of one kind from one member
	maxKnown     = 64 // connections from one address of a member that have not said yet who they are
	maxStrangers = 32 // and from all other addresses together
	waiting      = 16 // connections of a kind that nobody has taken yet
)

// Options say who a node is. Self, Server and Client must be given.
type Options struct {
	Self    string        // name of this node among the members of its LUNs
	Server  *tls.Config   // must ask for and verify certificates: that of mtls.Material.Server
	Client  *tls.Config   // that of mtls.Material.ClientOfAny
	Timeout time.Duration // for a connection to be made, and to be found dead; default 2 s
	Log     *slog.Logger  // nil: silent
}

// Node is the end of one process. It is safe for concurrent use.
type Node struct {
	opt    Options
	dialer net.Dialer
	made   time.Time

	mu       sync.Mutex
	groups   map[string]*Group
	pending  map[netip.Addr]int // connections that have not said who they are, by address; strangers at the zero address
	unopened map[net.Conn]struct{}
}

// New makes a node. Nothing has to be closed.
func New(opt Options) (*Node, error) {
	if !isToken(opt.Self) {
		return nil, fmt.Errorf("make node: %q is no name for one", opt.Self)
	}
	if err := ownName(opt.Client, opt.Self); err != nil {
		return nil, fmt.Errorf("make node %s: %w", opt.Self, err)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 2 * time.Second
	}
	return &Node{
		opt: opt, made: time.Now(), groups: map[string]*Group{}, pending: map[netip.Addr]int{}, unopened: map[net.Conn]struct{}{},
	}, nil
}

// Made gives when the node was made: a time that all LUNs of the process have in common.
func (n *Node) Made() time.Time { return n.made }

// Join begins to talk about a LUN. The error is one of the options, or that the LUN is joined already.
func (n *Node) Join(opt GroupOptions) (*Group, error) {
	if !isToken(opt.LUN) {
		return nil, fmt.Errorf("join: %q is no name of a LUN", opt.LUN)
	}
	for name := range opt.Members {
		if !isToken(name) {
			return nil, fmt.Errorf("join %s: %q is no name of a member", opt.LUN, name)
		}
	}
	opt.Members = maps.Clone(opt.Members)
	if opt.Era == nil {
		opt.Era = func() uint64 { return 0 }
	}
	g := &Group{node: n, opt: opt, queues: map[Kind]chan net.Conn{}, done: make(chan struct{}), open: map[*Conn]struct{}{}}
	for _, k := range kinds {
		g.queues[k] = make(chan net.Conn, waiting)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.groups[opt.LUN] != nil {
		return nil, fmt.Errorf("join %s: it is joined already", opt.LUN)
	}
	n.groups[opt.LUN] = g
	return g, nil
}

func (n *Node) leave(g *Group) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.groups[g.opt.LUN] == g {
		delete(n.groups, g.opt.LUN)
	}
}

// Serve takes connections until ctx ends, and closes ln. Groups and the connections they were given go on.
func (n *Node) Serve(ctx context.Context, ln net.Listener) error {
	var opening sync.WaitGroup
	defer opening.Wait()
	defer context.AfterFunc(ctx, func() {
		ln.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		for c := range n.unopened {
			c.Close()
		}
	})()
	var pause time.Duration
	for {
		c, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept replicas: %w", err)
		case err != nil: // out of file descriptors, or the like
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			n.opt.Log.Warn("no connection accepted", "err", err, "pause", pause)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
		from, ok := n.admit(ctx, c)
		if !ok {
			c.Close()
			continue
		}
		opening.Go(func() {
			defer n.dismiss(c, from)
			n.open(c)
		})
	}
}

// admit counts a connection before its certificate is seen: strangers cannot keep members out.
func (n *Node) admit(ctx context.Context, c net.Conn) (from netip.Addr, ok bool) {
	from, limit := netip.Addr{}, maxStrangers
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil && n.isMember(at.Addr().Unmap()) {
		from, limit = at.Addr().Unmap(), maxKnown
	}
	if n.pending[from] >= limit || ctx.Err() != nil {
		return from, false
	}
	n.pending[from]++
	n.unopened[c] = struct{}{}
	return from, true
}

// isMember says whether an address is that of a member of any LUN.
func (n *Node) isMember(addr netip.Addr) bool {
	for _, g := range n.groups {
		for _, at := range g.opt.Members {
			if ap, err := netip.ParseAddrPort(at); err == nil && ap.Addr().Unmap() == addr {
				return true
			}
		}
	}
	return false
}

func (n *Node) dismiss(c net.Conn, from netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.unopened, c)
	if n.pending[from]--; n.pending[from] == 0 {
		delete(n.pending, from)
	}
}

// open shakes hands, reads the preamble, and hands the connection over.
func (n *Node) open(raw net.Conn) {
	n.watch(raw)
	raw.SetDeadline(time.Now().Add(n.opt.Timeout))
	conn := tls.Server(raw, n.opt.Server)
	p, g, err := n.meet(conn)
	if err != nil {
		n.opt.Log.Debug("connection refused", "peer", raw.RemoteAddr().String(), "err", err)
		raw.Close()
		return
	}
	c := &Conn{Conn: conn, Peer: p.From, Kind: p.Kind, Era: p.Era, raw: raw, group: g, accepted: true}
	surplus, err := g.enter(c)
	if err != nil {
		raw.Close()
		return
	}
	if surplus != nil {
		n.opt.Log.Warn("oldest of too many connections closed", "lun", g.opt.LUN, "peer", p.From, "kind", string(p.Kind))
		surplus.Close()
	}
	raw.SetDeadline(time.Time{})
	wait := time.NewTimer(n.opt.Timeout)
	defer wait.Stop()
	select {
	case g.queues[p.Kind] <- c:
		return
	case <-wait.C:
		n.opt.Log.Warn("nobody takes a connection", "lun", g.opt.LUN, "peer", p.From, "kind", string(p.Kind))
	case <-g.done:
	}
	c.Close()
}

// meet answers the preamble.
func (n *Node) meet(conn *tls.Conn) (preamble, *Group, error) {
	line, err := readLine(conn)
	if err != nil {
		return preamble{}, nil, fmt.Errorf("read preamble: %w", err)
	}
	p, err := parsePreamble(line)
	var g *Group
	if err == nil {
		g, err = n.judge(p)
	}
	if err == nil {
		err = named(conn.ConnectionState(), p.From)
	}
	answer := "ok\n"
	if err != nil {
		answer = "no " + err.Error()
		answer = answer[:min(len(answer), maxLine-1)] + "\n"
	}
	if _, sent := conn.Write([]byte(answer)); sent != nil {
		err = errors.Join(err, fmt.Errorf("answer: %w", sent))
	}
	if err != nil {
		return p, nil, errors.Join(err, conn.CloseWrite())
	}
	return p, g, nil
}

// judge finds the group that a preamble means.
func (n *Node) judge(p preamble) (*Group, error) {
	n.mu.Lock()
	g := n.groups[p.LUN]
	n.mu.Unlock()
	if g == nil {
		return nil, fmt.Errorf("LUN %s is not here", p.LUN)
	}
	if _, ok := g.opt.Members[p.From]; !ok {
		return nil, fmt.Errorf("%s is no member of %s", p.From, p.LUN)
	}
	if era := g.opt.Era(); era != p.Era && p.Kind != Hello {
		return nil, fmt.Errorf("era of %s is %d here", p.LUN, era)
	}
	return g, nil
}
