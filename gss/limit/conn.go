package limit

import (
	"net/netip"
	"sync"
	"time"
)

// Conn is a connection's place among those that are open.
type Conn struct {
	limiter *Limiter
	network netip.Prefix

	mu     sync.Mutex
	closed bool
}

// Open gives a connection from the address its place, or nil and the limit that it is beyond. Who gets nil closes the
// connection, or one that makes room, and asks again.
func (l *Limiter) Open(now time.Time, from netip.Addr) (*Conn, Reason) {
	number := l.network(from)
	network := l.prefix(number)
	l.connMu.Lock()
	defer l.connMu.Unlock()
	why := reasons
	switch {
	case l.conns >= l.cfg.Connections:
		why = Connection
	case l.networks[network] >= l.cfg.NetworkConnections:
		why = NetworkConnection
	}
	if why == Connection || why == NetworkConnection && !l.exempt(from) {
		if l.note(now, number, number, why) {
			return nil, why
		}
	}
	l.conns++
	l.networks[network]++
	return &Conn{limiter: l, network: network}, 0
}

// MakesRoom says whether a connection from the address, which is beyond the limit, could be opened if this one were closed.
func (l *Limiter) MakesRoom(c *Conn, from netip.Addr, beyond Reason) bool {
	return c.limiter == l && (beyond == Connection || c.network == l.prefix(l.network(from)))
}

// Close gives the place back. It may be called more than once.
func (c *Conn) Close() {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return
	}
	l := c.limiter
	l.connMu.Lock()
	defer l.connMu.Unlock()
	l.conns--
	if l.networks[c.network]--; l.networks[c.network] == 0 {
		delete(l.networks, c.network)
	}
}
