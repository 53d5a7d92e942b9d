package group

import (
	"context"
	"errors"
	"net"
	"sync"
)

// network joins the members of a test. A way that is cut swallows what is sent, as a network does.
type network struct {
	mu    sync.Mutex
	ways  map[[2]string]bool // cut
	conns map[string]chan net.Conn
	open  map[*wire]bool
}

func (n *network) dial(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		n.mu.Lock()
		cut := n.ways[[2]string{from, to}] || n.ways[[2]string{to, from}]
		accept := n.conns[to]
		n.mu.Unlock()
		if accept == nil {
			return nil, errors.New("connection refused")
		}
		if cut {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		here, there, err := tcpPair()
		if err != nil {
			return nil, err
		}
		a, b := &wire{Conn: here, n: n, way: [2]string{from, to}}, &wire{Conn: there, n: n, way: [2]string{to, from}}
		n.mu.Lock()
		n.open[a], n.open[b] = true, true
		n.mu.Unlock()
		select {
		case accept <- b:
			return a, nil
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), a.Close(), b.Close())
		}
	}
}

func tcpPair() (here, there net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if here, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	there, err = l.Accept()
	return here, there, err
}

// wire is one end of a connection. Once something was swallowed nothing more gets through, as the rest makes no sense.
type wire struct {
	net.Conn
	n    *network
	way  [2]string
	lost bool
}

func (w *wire) Write(b []byte) (int, error) {
	w.n.mu.Lock()
	w.lost = w.lost || w.n.ways[w.way]
	lost := w.lost
	w.n.mu.Unlock()
	if lost {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (w *wire) Close() error {
	w.n.mu.Lock()
	delete(w.n.open, w)
	w.n.mu.Unlock()
	return w.Conn.Close()
}

// cut cuts or mends the way from one member to another.
func (n *network) cut(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ways[[2]string{from, to}] = cut
}

// isolate cuts or mends all ways of a member.
func (c *cluster) isolate(name string, cut bool) {
	for _, m := range c.members {
		c.net.cut(name, m.Name, cut)
		c.net.cut(m.Name, name, cut)
	}
}
