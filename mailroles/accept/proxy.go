package accept

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// headerTime bounds the wait for a header.
	headerTime = 10 * time.Second
	// maxWaiting bounds the connections whose header is awaited at a time.
	maxWaiting = 4096
)

// errCrowd says that too many connections wait for their header.
var errCrowd = errors.New("accept: too many connections have not sent their PROXY header yet")

// errNothing says that a peer has closed without a word, as probes do.
var errNothing = errors.New("accept: peer said nothing")

// need says what a peer begins with.
type need int

const (
	noHeader need = iota
	mustHeader
	mayHeader // it is told by the first byte, which is never that of TLS
)

// Refused is told of a connection that was closed for want of a sound header. It may be called concurrently.
type Refused func(peer net.Addr, err error)

// Proxied gives a listener that takes the client's address from the PROXY header, version 1 or 2, which peers in from
// must send, and within 10 s. Of any other peer a header is not believed and not even looked for: it goes to the server,
// as what the client says first. A header that the proxy sends for itself (LOCAL, UNKNOWN) leaves its own address.
// Close of the listener closes ln too.
func Proxied(ln net.Listener, from []netip.Prefix, refused Refused) net.Listener {
	if len(from) == 0 {
		return ln
	}
	return newListener(ln, refused, func(peer netip.Addr) need {
		if slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(peer) }) {
			return mustHeader
		}
		return noHeader
	})
}

// Linked gives a listener for peers that speak TLS, of whom each may send a PROXY header first: a front end proves by its
// certificate afterwards that it may say whom it speaks for. Without one, its own address stands.
func Linked(ln net.Listener, refused Refused) net.Listener {
	return newListener(ln, refused, func(netip.Addr) need { return mayHeader })
}

// listener reads headers beside the accept loop, so that who is slow keeps nobody else waiting.
type listener struct {
	net.Listener
	refused Refused
	needs   func(peer netip.Addr) need

	begin   sync.Once
	ready   chan net.Conn
	failed  chan error
	done    chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	waiting map[net.Conn]struct{}
}

func newListener(ln net.Listener, refused Refused, needs func(netip.Addr) need) *listener {
	return &listener{
		Listener: ln, refused: refused, needs: needs,
		ready: make(chan net.Conn), failed: make(chan error), done: make(chan struct{}), waiting: map[net.Conn]struct{}{},
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	l.begin.Do(func() { l.running.Go(l.run) })
	select {
	case conn := <-l.ready:
		return conn, nil
	case err := <-l.failed:
		return nil, err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It waits for all that the listener has begun.
func (l *listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return net.ErrClosed
	}
	l.closed = true
	close(l.done)
	for conn := range l.waiting {
		conn.Close()
	}
	l.mu.Unlock()
	l.begin.Do(func() {}) // nobody begins any more
	err := l.Listener.Close()
	l.running.Wait()
	return err
}

// run accepts until the listener is closed or fails for good.
func (l *listener) run() {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			select {
			case l.failed <- err:
			case <-l.done:
				return
			}
			if !passes(err) {
				return
			}
			continue
		}
		need := l.needs(peerOf(conn))
		if need == noHeader {
			l.hand(conn)
			continue
		}
		if err := l.await(conn); err != nil {
			l.refuse(conn, err)
			continue
		}
		l.running.Go(func() { l.read(conn, need) })
	}
}

// await takes a connection in whose header is to come.
func (l *listener) await(conn net.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	if len(l.waiting) >= maxWaiting {
		return errCrowd
	}
	l.waiting[conn] = struct{}{}
	return nil
}

// read reads a connection's header and hands the connection on.
func (l *listener) read(conn net.Conn, need need) {
	known, err := identify(conn, need)
	l.mu.Lock()
	delete(l.waiting, conn)
	l.mu.Unlock()
	if err != nil {
		l.refuse(conn, err)
		return
	}
	l.hand(known)
}

func (l *listener) refuse(conn net.Conn, err error) {
	conn.Close()
	select {
	case <-l.done: // it is not the peer's fault
	default:
		if !errors.Is(err, errNothing) {
			l.refused(conn.RemoteAddr(), err)
		}
	}
}

func (l *listener) hand(conn net.Conn) {
	select {
	case l.ready <- conn:
	case <-l.done:
		conn.Close()
	}
}

// identify reads what a peer begins with, and gives the connection as it is behind that.
func identify(conn net.Conn, need need) (net.Conn, error) {
	if err := conn.SetReadDeadline(time.Now().Add(headerTime)); err != nil {
		return nil, err
	}
	var first [1]byte
	if _, err := conn.Read(first[:]); err == io.EOF || errors.Is(err, syscall.ECONNRESET) {
		return nil, errNothing
	} else if err != nil {
		return nil, fmt.Errorf("read PROXY header: %w", err)
	}
	known := &proxied{Conn: conn}
	if need == mayHeader && first[0] != signature1[0] && first[0] != signature2[0] {
		known.head = first[:]
	} else {
		client, err := readHeader(first[0], conn)
		if err != nil {
			return nil, err
		}
		known.client = client
	}
	return known, conn.SetReadDeadline(time.Time{})
}

func peerOf(conn net.Conn) netip.Addr {
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// proxied is a connection behind its header.
type proxied struct {
	net.Conn
	client net.Addr // nil: the peer is the client
	head   []byte   // read already, and not of a header
}

// RemoteAddr implements net.Conn.
func (p *proxied) RemoteAddr() net.Addr {
	if p.client != nil {
		return p.client
	}
	return p.Conn.RemoteAddr()
}

// Read implements net.Conn.
func (p *proxied) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// SyscallConn implements syscall.Conn. What has been read already is not seen through it.
func (p *proxied) SyscallConn() (syscall.RawConn, error) {
	c, ok := p.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return c.SyscallConn()
}
