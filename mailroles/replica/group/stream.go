package group

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// stream gives the library connections that others made and that it makes. It closes them all at the end, which ends
// the library's goroutines that serve them.
type stream struct {
	self     string
	conns    <-chan net.Conn
	dial     func(ctx context.Context, member string) (net.Conn, error)
	patience time.Duration
	ctx      context.Context // ends with the run of the group

	mu   sync.Mutex
	open map[*held]bool
	wg   sync.WaitGroup // one for each connection that is open
}

// Accept waits for a connection of another member.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case c, ok := <-s.conns:
		if ok {
			return s.hold(c, "")
		}
		<-s.ctx.Done()
	case <-s.ctx.Done():
	}
	return nil, net.ErrClosed
}

// Dial makes a connection to another member.
func (s *stream) Dial(to raft.ServerAddress, patience time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	c, err := s.dial(ctx, string(to))
	if err != nil {
		return nil, err
	}
	return s.hold(c, string(to))
}

func (s *stream) hold(c net.Conn, to string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	h := &held{Conn: c, s: s, to: to}
	s.open[h] = true
	s.wg.Add(1)
	return h, nil
}

// Close closes all connections. The context has ended before.
func (s *stream) Close() error {
	s.end(func(*held) bool { return true })
	return nil
}

// cut closes the connections that were made to a member, so that new ones are.
func (s *stream) cut(member string) { s.end(func(h *held) bool { return h.to == member }) }

// end closes connections under their users, who then close them too, which counts.
func (s *stream) end(which func(*held) bool) {
	s.mu.Lock()
	var all []*held
	for h := range s.open {
		if which(h) {
			all = append(all, h)
		}
	}
	s.mu.Unlock()
	for _, h := range all {
		_ = h.Conn.Close()
	}
}

// Addr gives this member's name, which is its address for the library.
func (s *stream) Addr() net.Addr { return name(s.self) }

type name string

func (name) Network() string  { return "member" }
func (n name) String() string { return string(n) }

// held is a connection with a bound on each write: the library has none for answers.
type held struct {
	net.Conn
	s    *stream
	to   string // the member that it was made to; empty: it was made to this one
	once sync.Once
}

// Write writes within the bound.
func (h *held) Write(b []byte) (int, error) {
	if err := h.SetWriteDeadline(time.Now().Add(h.s.patience)); err != nil {
		return 0, err
	}
	return h.Conn.Write(b)
}

// Close closes the connection.
func (h *held) Close() error {
	err := h.Conn.Close()
	h.once.Do(func() {
		h.s.mu.Lock()
		delete(h.s.open, h)
		h.s.mu.Unlock()
		h.s.wg.Done()
	})
	return err
}
