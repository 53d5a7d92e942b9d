package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClosed is when the group was closed.
var ErrClosed = errors.New("wire: group is closed")

// GroupOptions name a LUN and its members. All but Era must be given.
type GroupOptions struct {
	LUN     string
	Members map[string]string // address, by name; this node may be among them
	Era     func() uint64     // asked at each connection; nil: always 0
}

// Group is one LUN of a node. It is safe for concurrent use.
type Group struct {
	node   *Node
	opt    GroupOptions
	queues map[Kind]chan net.Conn
	done   chan struct{} // closed by Close

	mu     sync.Mutex
	closed bool
	open   map[*Conn]struct{}
	seq    uint64 // of connections
}

// Conn is a connection between two replicas. Taking it from Accept or Dial makes it the taker's to close.
type Conn struct {
	net.Conn
	Peer string // member at the other end
	Kind Kind
	Era  uint64 // of the member that dialled

	raw      net.Conn // below TLS
	group    *Group
	accepted bool
	seq      uint64
	once     sync.Once
}

// Peer gives the member at the other end of a connection that came from Accept or Dial, and "" for others.
func Peer(c net.Conn) string {
	if conn, ok := c.(*Conn); ok {
		return conn.Peer
	}
	return ""
}

// Close ends the connection at once. It does not say so in TLS first, as that may have to wait for a peer that hangs: what
// is said over the connection must have ends of its own.
func (c *Conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		c.group.mu.Lock()
		delete(c.group.open, c)
		c.group.mu.Unlock()
		err = c.raw.Close()
	})
	return err
}

// Accept gives the connections that members of the LUN have made for a kind. All are of type *Conn. One that nobody takes
// in time is closed. The channel is never closed.
func (g *Group) Accept(kind Kind) <-chan net.Conn { return g.queues[kind] }

// Dial connects to a member. It takes no longer than the node's Timeout. The error is ErrRefused if the member does not
// want the connection: it has another era, does not have the LUN, or has too many connections. The connection is a *Conn.
func (g *Group) Dial(ctx context.Context, kind Kind, member string) (net.Conn, error) {
	addr, ok := g.opt.Members[member]
	if !ok {
		return nil, fmt.Errorf("dial %s of %s: it is no member", member, g.opt.LUN)
	}
	ctx, cancel := context.WithTimeout(ctx, g.node.opt.Timeout)
	defer cancel()
	era := g.opt.Era()
	conn, err := g.node.dial(ctx, addr, preamble{LUN: g.opt.LUN, Kind: kind, From: g.node.opt.Self, Era: era})
	if err != nil {
		return nil, fmt.Errorf("dial %s of %s for %s: %w", member, g.opt.LUN, kind, err)
	}
	if err := named(conn.ConnectionState(), member); err != nil {
		return nil, errors.Join(fmt.Errorf("dial %s of %s for %s: %w", member, g.opt.LUN, kind, err), conn.NetConn().Close())
	}
	c := &Conn{Conn: conn, Peer: member, Kind: kind, Era: era, raw: conn.NetConn(), group: g}
	if _, err := g.enter(c); err != nil {
		return nil, errors.Join(err, c.raw.Close())
	}
	return c, nil
}

// enter notes a connection. For one that was accepted it gives the oldest of the same member and kind if that is one too
// many: its other end is most likely gone.
func (g *Group) enter(c *Conn) (surplus *Conn, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("enter %s: %w", g.opt.LUN, ErrClosed)
	}
	g.seq++
	c.seq = g.seq
	g.open[c] = struct{}{}
	if !c.accepted {
		return nil, nil
	}
	n := 0
	for other := range g.open {
		if !other.accepted || other.Peer != c.Peer || other.Kind != c.Kind {
			continue
		}
		n++
		if surplus == nil || other.seq < surplus.seq {
			surplus = other
		}
	}
	if n <= maxConns {
		return nil, nil
	}
	return surplus, nil
}

// Close leaves the LUN: all its connections are closed, and no other is taken or made.
func (g *Group) Close() {
	g.node.leave(g)
	g.mu.Lock()
	open := g.open
	if !g.closed {
		g.closed = true
		g.open = nil // enter adds none any more
		close(g.done)
	}
	g.mu.Unlock()
	for c := range open {
		c.Close()
	}
}

// dial connects, shows who this is, and waits for the answer.
func (n *Node) dial(ctx context.Context, addr string, p preamble) (*tls.Conn, error) {
	raw, err := n.dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	n.watch(raw)
	conn := tls.Client(raw, n.opt.Client)
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	answer, err := introduce(conn, p)
	if err == nil {
		err = parseAnswer(answer)
	}
	if !stop() {
		err = errors.Join(ctx.Err(), err) // the deadline may be set to the past from now on
	}
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, conn.SetDeadline(time.Time{})
}

func introduce(conn *tls.Conn, p preamble) (answer string, err error) {
	if _, err := conn.Write([]byte(p.String() + "\n")); err != nil {
		return "", fmt.Errorf("say who this is: %w", err)
	}
	if answer, err = readLine(conn); err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	return answer, nil
}

// watch has the kernel end a connection once its other end has not confirmed for the node's Timeout what it was sent, or
// that it is there.
func (n *Node) watch(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2})
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		// without it the deadlines of the kinds tell, which is as soon
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(n.opt.Timeout.Milliseconds()))
	})
}
