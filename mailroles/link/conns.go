package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"
)

// begin says the first commands of a transaction on a connection that the caller puts back or drops. No byte of a message
// has gone out before it, so an idle connection that turns out to have ended costs nothing but a new one. Unless it is the last
// try, the server has less time.
func (p *Pool) begin(ctx context.Context, addr netip.AddrPort, lines []string, t turn) (*conn, []reply, error) {
	stale, within := staleTime, commandTime
	if !t.last {
		stale, within = probeTime, quickTime
	}
	c, err := p.take(ctx, addr)
	if err != nil {
		return nil, nil, err
	}
	if c != nil && t.again {
		c.Close() // it makes room for a new one
		c = nil
	}
	if c != nil {
		replies, err := c.begin(ctx, stale, lines)
		if err == nil {
			return c, replies, nil
		}
		p.log.Debug("idle link was stale", "peer", addr.String(), "err", err)
		c.Close()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			p.forget(addr)
		}
	}
	if c, err = p.dial(ctx, addr, within); err != nil {
		p.release(addr)
		return nil, nil, fmt.Errorf("reach %s: %w", addr, err)
	}
	replies, err := c.begin(ctx, within, lines)
	if err != nil {
		p.drop(addr, c)
		return nil, nil, fmt.Errorf("talk to %s: %w", addr, err)
	}
	return c, replies, nil
}

// begin says the first commands of a transaction, after the end of one that was left open.
func (c *conn) begin(ctx context.Context, within time.Duration, lines []string) ([]reply, error) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if !c.dirty {
		return c.say(within, lines...)
	}
	replies, err := c.say(within, append([]string{"RSET"}, lines...)...)
	if err != nil {
		return nil, err
	}
	c.dirty = false
	return replies[1:], replies[0].err()
}

// take waits for a slot, and gives an idle connection; nil when there is none.
func (p *Pool) take(ctx context.Context, addr netip.AddrPort) (*conn, error) {
	p.mu.Lock()
	to := p.peers[addr]
	if to == nil {
		to = &peer{slots: make(chan struct{}, maxConns)}
		p.peers[addr] = to
	}
	p.mu.Unlock()
	timer := time.NewTimer(commandTime)
	defer timer.Stop()
	select {
	case to.slots <- struct{}{}:
	case <-timer.C:
		return nil, fmt.Errorf("link: all %d connections to %s are in use", maxConns, addr)
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a connection to %s: %w", addr, ctx.Err())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		<-to.slots
		return nil, ErrClosed
	}
	last := len(to.idle) - 1
	if last < 0 {
		return nil, nil
	}
	c := to.idle[last]
	to.idle = to.idle[:last]
	c.idle.Stop()
	return c, nil
}

// put gives a connection back for reuse.
func (p *Pool) put(addr netip.AddrPort, c *conn) {
	defer p.release(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return
	}
	to := p.peers[addr]
	to.idle = append(to.idle, c)
	c.idle = time.AfterFunc(idleTime, func() { p.expire(to, c) })
}

// drop closes a connection whose state is not known.
func (p *Pool) drop(addr netip.AddrPort, c *conn) {
	c.Close()
	p.release(addr)
}

func (p *Pool) release(addr netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	<-p.peers[addr].slots
}

// expire closes a connection that was idle for too long, unless somebody has just taken it.
func (p *Pool) expire(to *peer, c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(to.idle, c); i >= 0 {
		to.idle = slices.Delete(to.idle, i, i+1)
		c.Close()
	}
}

// forget closes the idle connections to an address: one of them has ended, and the others are of the same server.
func (p *Pool) forget(addr netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to := p.peers[addr]
	for _, c := range to.idle {
		c.idle.Stop()
		c.Close()
	}
	to.idle = nil
}

// dial opens and greets.
func (p *Pool) dial(ctx context.Context, addr netip.AddrPort, within time.Duration) (*conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, min(shakeTime, within))
	defer cancel()
	tcp, err := Dial(dialCtx, addr, dialTime)
	if err != nil {
		return nil, err
	}
	raw := tls.Client(tcp, p.tlsFor(addr))
	if err := raw.HandshakeContext(dialCtx); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	c, err := newConn(raw, p.hostname, within)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}

// tlsFor is what a connection to an address says of TLS: unless a server is named, that its certificate has the address.
func (p *Pool) tlsFor(addr netip.AddrPort) *tls.Config {
	if p.tls.ServerName != "" {
		return p.tls
	}
	c := p.tls.Clone()
	c.ServerName = addr.Addr().String()
	return c
}
