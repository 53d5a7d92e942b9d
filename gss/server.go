package gss

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"anycastle/gss/limit"
	"anycastle/gss/message"
)

const (
	idleTime   = 10 * time.Second       // for the next query of a connection, and for the client to take a reply
	errorPause = 100 * time.Millisecond // after an error of a socket that is not closed, such as no free descriptor

	// At the end: for what the kernel has of connections and queries already, and at most for the replies to those.
	lastLook    = 100 * time.Millisecond
	lastReplies = time.Second

	usualQuery = 512 // octets; a connection keeps that much
)

// server moves messages between connections and respond.
type server struct {
	log     *slog.Logger
	metrics *metrics
	limiter func() *limit.Limiter
	respond respond
	conns   connSet
}

// respond gives the reply to a message, or the last message of it, and has more send those before; nil: no reply, and the connection is
// of no use any more. It must not panic.
type respond func(wire []byte, via message.Transport, from netip.AddrPort, more func([]byte) bool) []byte

// listener is one address that takes connections.
type listener struct {
	*net.TCPListener
	tls *tls.Config // nil: plain TCP
}

// bind opens TCP on every address, or none. A successor, of the same user, may listen on them too, so that no query is lost
// in a restart.
func bind(ctx context.Context, addrs []netip.AddrPort, secure *tls.Config) (_ []listener, err error) {
	var list []listener
	defer func() {
		if err != nil {
			closeAll(list)
		}
	}()
	lc := net.ListenConfig{Control: sharePort}
	for _, a := range addrs {
		ln, err := lc.Listen(ctx, "tcp", a.String())
		if err != nil {
			return nil, bindError("TCP", err)
		}
		list = append(list, listener{ln.(*net.TCPListener), secure})
	}
	return list, nil
}

// sharePort lets several sockets listen on one port.
func sharePort(_, _ string, conn syscall.RawConn) (err error) {
	failed := conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(failed, err)
}

func bindError(protocol string, err error) error {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		err = fmt.Errorf("%w: no interface of this node has it; mend gss.listen or give the node the address", err)
	case errors.Is(err, unix.EADDRINUSE):
		err = fmt.Errorf("%w: another program, or another user's, answers there; stop it or mend gss.listen", err)
	}
	return fmt.Errorf("answer on %s: %w", protocol, err)
}

func (l listener) addr() netip.AddrPort {
	a := l.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func closeAll(list []listener) {
	for _, l := range list {
		l.Close()
	}
}

// serve answers on the listeners until ctx is done. Then it takes the connections that are there, answers what has come on
// all, and closes them.
func (s *server) serve(ctx context.Context, list []listener) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range list {
		g.Go(func() error { return s.serveListener(ctx, l) })
	}
	g.Go(func() error {
		<-ctx.Done()
		for _, l := range list {
			_ = l.SetDeadline(time.Now().Add(lastLook)) // no error, but where it is closed already
		}
		s.conns.stop(time.Now().Add(2 * lastLook)) // who is taken last gets lastLook too
		return ctx.Err()
	})
	return g.Wait()
}

func (s *server) serveListener(ctx context.Context, l listener) error {
	var wg sync.WaitGroup
	defer func() {
		l.Close()
		cut := time.AfterFunc(lastReplies, s.conns.closeAll)
		defer cut.Stop()
		wg.Wait()
	}()
	for {
		conn, err := l.Accept()
		if err != nil {
			if err := s.pause(ctx, err); err != nil {
				return err
			}
			continue
		}
		from := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		place := s.open(from.Addr().Unmap())
		if place == nil {
			conn.Close()
			continue
		}
		s.conns.add(conn, place)
		s.metrics.conns.Inc()
		wg.Go(func() {
			defer s.metrics.conns.Dec()
			defer place.Close()
			defer s.conns.remove(conn)
			if l.tls == nil {
				s.serveConn(conn, conn, message.TCP, from)
				return
			}
			secured := tls.Server(conn, l.tls)
			defer secured.Close()
			s.serveConn(secured, conn, message.TLS, from)
		})
	}
}

// open gives a connection its place among those that are open. When there is none left, of all or for its network, the one
// of these that has been quiet longest makes room: clients that hold connections without using them cannot lock others out.
func (s *server) open(from netip.Addr) *limit.Conn {
	l := s.limiter()
	place, why := l.Open(time.Now(), from)
	if place == nil && s.conns.evict(func(c *limit.Conn) bool { return l.MakesRoom(c, from, why) }) {
		s.metrics.evicted.Inc()
		place, _ = l.Open(time.Now(), from)
	}
	return place
}

// pause waits a moment after an error of a listening socket. It gives an error when the socket is closed, nil when
// the caller should go on.
func (s *server) pause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("answer on TCP: %w", err)
	}
	s.log.Warn("listening socket gave an error", "transport", "tcp", "err", err)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(errorPause):
		return nil
	}
}

// serveConn answers the connection's queries one after the other (RFC 7766 section 6.2) until the client closes it,
// is idle or slow, or sends what deserves no reply. A reply waits for nothing but the processor, so that another order would
// gain a client nothing; and one who sends many queries and reads no reply takes the memory of one. known is what the set of
// connections knows it by.
func (s *server) serveConn(conn, known net.Conn, via message.Transport, from netip.AddrPort) {
	buf := make([]byte, usualQuery)
	for {
		// one deadline for all of a query: a client that sends a byte now and then gains no time by it
		if !s.conns.await(conn, time.Now().Add(idleTime)) {
			return
		}
		if _, err := io.ReadFull(conn, buf[:2]); err != nil {
			return
		}
		wire := buf
		if n := int(binary.BigEndian.Uint16(buf)); n <= len(buf) {
			wire = buf[:n]
		} else {
			wire = make([]byte, n)
		}
		if _, err := io.ReadFull(conn, wire); err != nil {
			return
		}
		if !s.limiter().Query(time.Now(), from.Addr().Unmap(), true) {
			return
		}
		send := func(reply []byte) bool { return s.send(conn, known, reply) }
		if reply := s.respond(wire, via, from, send); reply == nil || !send(reply) {
			return
		}
	}
}

// send sends one message, and says whether the client has taken it.
func (s *server) send(conn, known net.Conn, reply []byte) bool {
	if conn.SetWriteDeadline(time.Now().Add(idleTime)) != nil {
		return false
	}
	// length and message in one segment: RFC 7766 section 8
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply)))
	if _, err := conn.Write(append(framed, reply...)); err != nil {
		return false
	}
	s.conns.touch(known)
	return true
}

// connSet are the open connections, and when each was last of use.
type connSet struct {
	mu   sync.Mutex
	used map[net.Conn]*use
	end  time.Time // when the last query may come; zero: it is not known yet
}

// use is what is known of an open connection.
type use struct {
	at    time.Time // when it last had a reply, or was opened
	place *limit.Conn
}

func (c *connSet) add(conn net.Conn, place *limit.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used == nil {
		c.used = map[net.Conn]*use{}
	}
	c.used[conn] = &use{time.Now(), place}
}

// await gives a connection until a time for its next query, and says whether it is open.
func (c *connSet) await(conn net.Conn, until time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.end.IsZero() {
		until = c.end
	}
	return conn.SetDeadline(until) == nil
}

// stop has no connection wait for queries after the time.
func (c *connSet) stop(end time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = end
	for conn := range c.used {
		_ = conn.SetReadDeadline(end) // no error, but where it is closed already
	}
}

// evict closes the connection that has been quiet longest of those that would make room, and says whether there was one.
func (c *connSet) evict(makesRoom func(*limit.Conn) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var quiet net.Conn
	for other, u := range c.used {
		if makesRoom(u.place) && (quiet == nil || u.at.Before(c.used[quiet].at)) {
			quiet = other
		}
	}
	if quiet == nil {
		return false
	}
	quiet.Close()
	c.used[quiet].place.Close() // at once: who serves it is about to do it too
	delete(c.used, quiet)
	return true
}

func (c *connSet) touch(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u := c.used[conn]; u != nil {
		u.at = time.Now()
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
