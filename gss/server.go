package gss

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	maxConns   = 256                    // TCP connections at a time, over all addresses
	idleTime   = 10 * time.Second       // for the next query of a TCP connection, and for the client to take a reply
	errorPause = 100 * time.Millisecond // after an error of a socket that is not closed, such as no free descriptor
)

// server moves messages between sockets and respond.
type server struct {
	log     *slog.Logger
	metrics *metrics
	respond func(wire []byte, via transport) []byte // nil: no reply; must not panic
	conns   connSet
}

// endpoint is one address that is served.
type endpoint struct {
	udp *net.UDPConn
	tcp *net.TCPListener
}

// bind opens UDP and TCP on every address, or none. Each socket has its own address, so a reply leaves from the
// address that was asked.
func bind(ctx context.Context, addrs []netip.AddrPort) (_ []endpoint, err error) {
	var eps []endpoint
	defer func() {
		if err != nil {
			closeAll(eps)
		}
	}()
	var lc net.ListenConfig
	for _, a := range addrs {
		ln, err := lc.Listen(ctx, "tcp", a.String())
		if err != nil {
			return nil, bindError("TCP", err)
		}
		ep := endpoint{tcp: ln.(*net.TCPListener)}
		eps = append(eps, ep)
		pc, err := lc.ListenPacket(ctx, "udp", ep.addr().String())
		if err != nil {
			return nil, bindError("UDP", err)
		}
		eps[len(eps)-1].udp = pc.(*net.UDPConn)
	}
	return eps, nil
}

func bindError(protocol string, err error) error {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		err = fmt.Errorf("%w: no interface of this node has it; mend gss.listen or give the node the address", err)
	case errors.Is(err, unix.EADDRINUSE):
		err = fmt.Errorf("%w: another program answers there; stop it or mend gss.listen", err)
	}
	return fmt.Errorf("answer on %s: %w", protocol, err)
}

func (e endpoint) addr() netip.AddrPort {
	a := e.tcp.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func closeAll(eps []endpoint) {
	for _, e := range eps {
		e.tcp.Close()
		if e.udp != nil {
			e.udp.Close()
		}
	}
}

// serve answers on the endpoints until ctx is done, then closes them and every connection.
func (s *server) serve(ctx context.Context, eps []endpoint) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, e := range eps {
		for range runtime.GOMAXPROCS(0) {
			g.Go(func() error { return s.serveUDP(ctx, e.udp) })
		}
		g.Go(func() error { return s.serveTCP(ctx, e.tcp) })
	}
	g.Go(func() error {
		<-ctx.Done()
		closeAll(eps)
		return ctx.Err()
	})
	return g.Wait()
}

func (s *server) serveUDP(ctx context.Context, conn *net.UDPConn) error {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if err := s.pause(ctx, "udp", err); err != nil {
				return err
			}
			continue
		}
		if reply := s.respond(buf[:n], overUDP); reply != nil {
			// a reply that cannot leave is a lost packet, which the resolver asks for again
			_, _ = conn.WriteToUDPAddrPort(reply, from)
		}
	}
}

func (s *server) serveTCP(ctx context.Context, ln *net.TCPListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.conns.closeAll()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if err := s.pause(ctx, "tcp", err); err != nil {
				return err
			}
			continue
		}
		if s.conns.add(conn) {
			s.metrics.evicted.Inc()
		}
		s.metrics.conns.Inc()
		wg.Go(func() {
			defer s.metrics.conns.Dec()
			defer s.conns.remove(conn)
			s.serveConn(conn)
		})
	}
}

// pause waits a moment after an error of a listening socket. It gives an error when the socket is closed, nil when
// the caller should go on.
func (s *server) pause(ctx context.Context, transport string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("answer on %s: %w", transport, err)
	}
	s.log.Warn("listening socket gave an error", "transport", transport, "err", err)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(errorPause):
		return nil
	}
}

// serveConn answers the connection's queries one after the other (RFC 7766 section 6.2) until the client closes it,
// is idle or slow, or sends what deserves no reply.
func (s *server) serveConn(conn net.Conn) {
	buf := make([]byte, 2+64<<10)
	for {
		// one deadline for all of a query: a client that sends a byte now and then gains no time by it
		if conn.SetDeadline(time.Now().Add(idleTime)) != nil {
			return
		}
		if _, err := io.ReadFull(conn, buf[:2]); err != nil {
			return
		}
		wire := buf[:binary.BigEndian.Uint16(buf)]
		if _, err := io.ReadFull(conn, wire); err != nil {
			return
		}
		reply := s.respond(wire, overTCP)
		if reply == nil || conn.SetDeadline(time.Now().Add(idleTime)) != nil {
			return
		}
		// length and message in one segment: RFC 7766 section 8
		framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply)))
		if _, err := conn.Write(append(framed, reply...)); err != nil {
			return
		}
		s.conns.touch(conn)
	}
}

// connSet bounds the open connections. When it is full, the one that has been quiet longest makes room: clients that
// hold connections without using them cannot lock others out.
type connSet struct {
	mu   sync.Mutex
	used map[net.Conn]time.Time // when it last had a reply, or was opened
}

// add puts a connection in and says whether another had to go.
func (c *connSet) add(conn net.Conn) (evicted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used == nil {
		c.used = map[net.Conn]time.Time{}
	}
	if len(c.used) >= maxConns {
		var quiet net.Conn
		for other, at := range c.used {
			if quiet == nil || at.Before(c.used[quiet]) {
				quiet = other
			}
		}
		quiet.Close()
		delete(c.used, quiet)
		evicted = true
	}
	c.used[conn] = time.Now()
	return evicted
}

func (c *connSet) touch(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.used[conn]; ok {
		c.used[conn] = time.Now()
	}
}

func (c *connSet) remove(conn net.Conn) {
	conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.used, conn)
}

func (c *connSet) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.used {
		conn.Close()
	}
}
