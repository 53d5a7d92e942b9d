package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	// idleTime is after what time an idle connection is not used any more: the server may have left it.
	idleTime = time.Minute
	// avoidTime is for how long a server that failed is only tried after all others.
	avoidTime = 30 * time.Second
	// awayTime is for how long nobody is asked after all servers have failed: callers are not to queue up behind them.
	awayTime = 2 * time.Second
)

// pool holds connections to one of several servers.
type pool struct {
	cfg   LDAPConfig
	bind  bool // as bind_dn: for searches, and not for logins
	log   *slog.Logger
	slots chan struct{}

	mu      sync.Mutex
	idle    []idleConn
	avoid   []time.Time // by server: until when
	away    time.Time   // until when nobody is asked
	failure error       // why; nil after a connection
	server  string      // the last that was reached
	closed  bool
}

type idleConn struct {
	conn *ldap.Conn
	at   time.Time
}

func newPool(cfg LDAPConfig, bind bool, log *slog.Logger) *pool {
	return &pool{
		cfg: cfg, bind: bind, log: log,
		slots: make(chan struct{}, cfg.Connections), avoid: make([]time.Time, len(cfg.URLs)),
	}
}

// do runs fn on a connection. When an idle one has been left by its server, fn runs again, on a new one; and when a server
// does not answer, or says that it cannot, at the next. An error that is no answer of a server is a temporary one.
func (p *pool) do(ctx context.Context, fn func(*ldap.Conn) error) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return fmt.Errorf("wait for a connection to LDAP: %w", ctx.Err())
	}
	if conn := p.take(); conn != nil {
		err := fn(conn)
		if p.done(conn, err) {
			return err
		}
	}
	var failed error
	for range p.cfg.URLs {
		conn, server, err := p.dial(ctx)
		if err != nil {
			return errors.Join(failed, err)
		}
		failed = fn(conn)
		if p.done(conn, failed) {
			return failed
		}
		p.fails(server, failed)
		failed = fmt.Errorf("ask LDAP at %s: %w", p.cfg.URLs[server], failed)
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

// fails notes that a server was reached and did not do its part.
func (p *pool) fails(server int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.After(p.avoid[server]) {
		p.avoid[server] = now.Add(avoidTime)
		p.log.Warn("LDAP server does not answer", "server", p.cfg.URLs[server], "err", err)
	}
}

// take gives an idle connection, nil when there is none.
func (p *pool) take() *ldap.Conn {
	p.mu.Lock()
	var late []*ldap.Conn
	var got *ldap.Conn
	for len(p.idle) > 0 && got == nil {
		last := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if time.Since(last.at) > idleTime || last.conn.IsClosing() {
			late = append(late, last.conn)
			continue
		}
		got = last.conn
	}
	p.mu.Unlock()
	for _, c := range late {
		_ = c.Close() // nothing is under way on it
	}
	return got
}

// done says whether the server has answered, if only by an error; the connection can be used again then. That it is busy is
// no answer.
func (p *pool) done(conn *ldap.Conn, err error) bool {
	var result *ldap.Error
	answered := err == nil || errors.As(err, &result) && result.ResultCode < ldap.ErrorNetwork
	busy := answered && err != nil && (result.ResultCode == ldap.LDAPResultBusy || result.ResultCode == ldap.LDAPResultUnavailable)
	p.mu.Lock()
	keep := answered && !busy && !p.closed && !conn.IsClosing()
	if keep {
		p.idle = append(p.idle, idleConn{conn, time.Now()})
	}
	p.mu.Unlock()
	if !keep {
		_ = conn.Close() // what it was used for has failed, which is told
	}
	return answered && !busy
}

// dial reaches the first server that it can, and says which.
func (p *pool) dial(ctx context.Context) (conn *ldap.Conn, server int, err error) {
	p.mu.Lock()
	if time.Now().Before(p.away) || p.closed {
		defer p.mu.Unlock()
		return nil, 0, fmt.Errorf("ask LDAP: %w", p.failure)
	}
	var order, later []int
	for i, until := range p.avoid {
		if time.Now().Before(until) {
			later = append(later, i)
		} else {
			order = append(order, i)
		}
	}
	p.mu.Unlock()
	var errs []error
	for _, i := range append(order, later...) {
		conn, err := p.open(ctx, p.cfg.URLs[i])
		if err == nil {
			p.reached(i)
			return conn, i, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", p.cfg.URLs[i], err))
		if ctx.Err() != nil {
			return nil, 0, errors.Join(errs...) // the caller gave up, and not the server
		}
		p.mu.Lock()
		p.avoid[i] = time.Now().Add(avoidTime)
		p.mu.Unlock()
	}
	err = errors.Join(errs...)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failure == nil {
		p.log.Error("no LDAP server can be asked", "err", err)
	}
	p.failure, p.away = err, time.Now().Add(awayTime)
	return nil, 0, fmt.Errorf("ask LDAP: %w", err)
}

func (p *pool) reached(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != p.cfg.URLs[i] || p.failure != nil {
		p.log.Info("LDAP server is asked", "server", p.cfg.URLs[i], "old", p.server)
	}
	p.server, p.failure, p.away, p.avoid[i] = p.cfg.URLs[i], nil, time.Time{}, time.Time{}
}

// open connects to one server.
func (p *pool) open(ctx context.Context, server string) (*ldap.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := p.cfg.tls(u.Hostname())
	if err != nil {
		return nil, err
	}
	network, address := dialAddress(u)
	var raw net.Conn
	if raw, err = (&net.Dialer{}).DialContext(ctx, network, address); err != nil {
		return nil, err
	}
	raw = timedConn{raw, p.cfg.Timeout}
	deadline, _ := ctx.Deadline()
	err = raw.SetDeadline(deadline) // the library sets none while TLS begins
	secure := raw
	if u.Scheme == "ldaps" && err == nil {
		c := tls.Client(raw, tlsConfig)
		if secure, err = c, c.HandshakeContext(ctx); err != nil {
			err = fmt.Errorf("begin TLS: %w", err)
		}
	}
	if err != nil {
		_ = raw.Close() // a handshake that took too long has closed it, and why it is not used is told
		return nil, err
	}
	conn := ldap.NewConn(secure, u.Scheme == "ldaps")
	conn.SetTimeout(p.cfg.Timeout)
	conn.Start()
	if u.Scheme == "ldap" && p.cfg.StartTLS {
		err = conn.StartTLS(tlsConfig)
	}
	if err == nil && p.bind {
		err = p.login(conn)
	}
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close() // as above: the library closes what it cannot read from
		return nil, err
	}
	return conn, nil
}

// login binds as who searches.
func (p *pool) login(conn *ldap.Conn) error {
	if p.cfg.BindDN == "" {
		return nil
	}
	password, err := p.cfg.password()
	if err != nil {
		return err
	}
	if err := conn.Bind(p.cfg.BindDN, password); err != nil {
		return fmt.Errorf("bind as %s: %v", p.cfg.BindDN, err) // its code is no answer to what the caller asks
	}
	return nil
}

func dialAddress(u *url.URL) (network, address string) {
	if u.Scheme == "ldapi" {
		return "unix", u.Path
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme]
	}
	return "tcp", net.JoinHostPort(u.Hostname(), port)
}

// timedConn bounds each write: the library waits for as long as one takes.
type timedConn struct {
	net.Conn
	timeout time.Duration
}

func (c timedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// state gives the server that was reached last, and why none can be now.
func (p *pool) state() (server string, failure error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server, p.failure
}

// close ends idle connections; those in use end when they are given back.
func (p *pool) close() error {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed, p.failure = nil, true, errors.New("the directory is closed")
	p.mu.Unlock()
	var errs []error
	for _, i := range idle {
		if !i.conn.IsClosing() {
			errs = append(errs, i.conn.Close())
		}
	}
	return errors.Join(errs...)
}
