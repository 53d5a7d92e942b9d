package lb

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/vipreport"

	"golang.org/x/sync/errgroup"
)

const (
	maxSelectors     = 64 // that listen at once: there are fewer sites
	maxReportConns   = 128
	maxCheckConns    = 64               // of one VIP's agent-check
	reportHandshake  = 5 * time.Second  // of who connects
	reportWriteTime  = 2 * time.Second  // for one report; who reads more slowly is dropped
	reportSendBuffer = 64 << 10         // so that who does not read is found out soon
	reportExpires    = 3 * time.Second  // of a report that is not followed by another
	acceptPause      = time.Second / 10 // after an error that says that too much is open
)

// selector is one site selector that listens.
type selector struct {
	SelectorStatus
}

// SelectorStatus is one row of `show selector`: who is told how the VIPs stand.
type SelectorStatus struct {
	Name    string         `json:"name"` // by its certificate
	Address netip.AddrPort `json:"address"`
	Since   time.Time      `json:"since"`
	Last    time.Time      `json:"last"`    // when it was told last
	Reports int            `json:"reports"` // that it was sent
}

// Selectors gives the site selectors that listen, by name and address.
func (l *LB) Selectors() []SelectorStatus {
	list := []SelectorStatus{}
	if l.reporter == nil {
		return list
	}
	l.reporter.mu.Lock()
	defer l.reporter.mu.Unlock()
	for s := range l.reporter.selectors {
		list = append(list, s.SelectorStatus)
	}
	slices.SortFunc(list, func(a, b SelectorStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address))
	})
	return list
}

// reportListeners are the sockets of those who are told how the VIPs stand.
type reportListeners struct {
	*reporter
	reports net.Listener // nil: site selectors are not told
	tls     *tls.Config
	clients []string                // who may listen; none: all of the CA
	checks  map[string]net.Listener // by VIP
}

// listenReports opens the sockets.
func (l *LB) listenReports(ctx context.Context, cfg *Config) (*reportListeners, error) {
	ls := &reportListeners{reporter: l.reporter, checks: map[string]net.Listener{}}
	if err := ls.open(ctx, cfg); err != nil {
		ls.close()
		return nil, err
	}
	return ls, nil
}

func (ls *reportListeners) open(ctx context.Context, cfg *Config) error {
	listen := func(where, key string) (net.Listener, error) {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", where)
		if err != nil {
			return nil, fmt.Errorf("listen for those who ask how VIPs stand (%s): %w; stop what listens there, or give another port", key, err)
		}
		return ln, nil
	}
	if r := cfg.Report; r != nil {
		material, err := mtls.Load(*cfg.TLS, ls.lb.log)
		if err != nil {
			return err
		}
		ls.tls, ls.clients = vipreport.Offer(material.Server()), r.Clients
		if ls.reports, err = listen(r.Listen.String(), "lb.report.listen"); err != nil {
			return err
		}
	}
	for vip, at := range cfg.agentChecks() {
		ln, err := listen(at.String(), "agent_check of vip "+vip)
		if err != nil {
			return err
		}
		ls.checks[vip] = ln
	}
	return nil
}

func (ls *reportListeners) close() {
	if ls.reports != nil {
		ls.reports.Close()
	}
	for _, ln := range ls.checks {
		ln.Close()
	}
}

// serve tells whoever asks until ctx is done. It adds what it starts to g.
func (ls *reportListeners) serve(ctx context.Context, g *errgroup.Group) {
	if ls.reporter == nil {
		return
	}
	g.Go(func() error { ls.run(ctx); return nil })
	if ls.reports != nil {
		g.Go(func() error {
			return acceptAll(ctx, ls.reports, maxReportConns, ls.turnAway, func(c net.Conn) { ls.answer(ctx, c) })
		})
	}
	for vip, ln := range ls.checks {
		g.Go(func() error {
			return acceptAll(ctx, ln, maxCheckConns, ls.turnAway, func(c net.Conn) { ls.check(c, vip) })
		})
	}
}

// acceptAll has each connection handled, at most so many at once, until ctx is done, and waits for all. Those beyond are turned
// away. handle need not close its connection, and must end when that is closed.
func acceptAll(ctx context.Context, ln net.Listener, most int, turnAway func(), handle func(net.Conn)) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	free := make(chan struct{}, most)
	for {
		c, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept at %v: %w", ln.Addr(), err)
		case err != nil: // too many files are open, or the client has gone already
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		select {
		case free <- struct{}{}:
		default:
			turnAway()
			c.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-free }()
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			handle(c)
		})
	}
}

func (r *reporter) turnAway() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused++
}

// answer lets a site selector listen, if it may.
func (ls *reportListeners) answer(ctx context.Context, raw net.Conn) {
	log := ls.lb.log.With("peer", raw.RemoteAddr())
	if t, ok := raw.(*net.TCPConn); ok {
		t.SetWriteBuffer(reportSendBuffer)
	}
	conn := tls.Server(raw, ls.tls)
	raw.SetDeadline(time.Now().Add(reportHandshake))
	if err := conn.HandshakeContext(ctx); err != nil {
		ls.turnAway()
		log.Debug("a connection for reports is not taken", "err", err) // whoever connects can fill the log
		return
	}
	name, may := ls.mayListen(conn.ConnectionState())
	if !may {
		ls.turnAway()
		log.Warn("a certificate that is not among lb.report.clients is turned away", "name", name)
		return
	}
	from, _ := netip.ParseAddrPort(raw.RemoteAddr().String())
	s := &selector{SelectorStatus{Name: name, Address: from, Since: now()}}
	if !ls.enter(s) {
		log.Warn("a site selector is turned away, as too many listen", "name", name, "most", maxSelectors)
		return
	}
	log.Info("site selector listens", "name", name)
	err := ls.streamUntilGone(ctx, conn, s)
	ls.leave(s, err)
	log.Info("site selector listens no more", "name", name, "cause", err)
}

// mayListen gives the name of a certificate, and whether it may listen.
func (ls *reportListeners) mayListen(state tls.ConnectionState) (name string, may bool) {
	cert := state.PeerCertificates[0] // the handshake demands one
	names := append([]string{cert.Subject.CommonName}, cert.DNSNames...)
	name = clipTo(names[0], maxName)
	if len(ls.clients) == 0 {
		return name, true
	}
	for _, n := range names {
		if slices.Contains(ls.clients, n) {
			return clipTo(n, maxName), true
		}
	}
	return name, false
}

func (r *reporter) enter(s *selector) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.selectors) >= maxSelectors {
		r.refused++
		return false
	}
	r.selectors[s] = true
	return true
}

func (r *reporter) leave(s *selector, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.selectors, s)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r.slow++
	}
}

var (
	errStopping = errors.New("the balancer stops")
	errSpoke    = errors.New("it spoke, where it is to listen")
)

// streamUntilGone is stream, but notices at once that the site selector has gone. It closes conn.
func (r *reporter) streamUntilGone(ctx context.Context, conn net.Conn, s *selector) error {
	ctx, gone := context.WithCancelCause(ctx)
	conn.SetDeadline(time.Time{}) // that of the handshake
	var reading sync.WaitGroup
	reading.Go(func() {
		_, err := conn.Read(make([]byte, 1))
		gone(cmp.Or(err, errSpoke))
	})
	defer reading.Wait()
	defer conn.Close()
	return r.stream(ctx, conn, s)
}

// stream tells a site selector how the VIPs stand, until something is wrong with it or ctx is done. It always gives a reason.
func (r *reporter) stream(ctx context.Context, conn net.Conn, s *selector) error {
	beats := time.NewTicker(vipreport.Beat)
	defer beats.Stop()
	told, whole := map[string]vipreport.VIP{}, true
	for {
		st := r.statement()
		report := vipreport.Report{Since: r.since, Generation: st.generation, Expires: reportExpires}
		report.Whole, report.VIPs = pick(told, st.vips, whole)
		if !st.hangs && (report.Whole || len(report.VIPs) > 0) {
			if err := r.send(conn, &report, s); err != nil {
				return err
			}
		}
		clear(told)
		for _, v := range st.vips {
			told[v.Name] = v.Steady()
		}
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			return errStopping
		case <-beats.C:
			whole = true
		case <-st.changed:
			whole = false
		}
	}
}

// pick gives what of the VIPs is to be told to who was told something before: all of them if one has gone, as that cannot be said
// otherwise.
func pick(told map[string]vipreport.VIP, is []vipreport.VIP, all bool) (whole bool, list []vipreport.VIP) {
	known := 0
	for _, v := range is {
		was, ok := told[v.Name]
		if ok {
			known++
		}
		if !ok || was != v.Steady() {
			v.PacketsPerSecond, v.BytesPerSecond = 0, 0
			list = append(list, v)
		}
	}
	if all || known < len(told) {
		return true, is
	}
	return false, list
}

func (r *reporter) send(conn net.Conn, report *vipreport.Report, s *selector) error {
	lines, err := report.Lines()
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(reportWriteTime)); err != nil {
		return err
	}
	if _, err := conn.Write(lines); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Last = now()
	s.Reports++
	return nil
}

// check answers one agent-check of a VIP. While nothing is known, or the loop hangs, it says nothing, which is no news to who asks.
func (r *reporter) check(conn net.Conn, vip string) {
	conn.SetDeadline(time.Now().Add(time.Second))
	if v, ok := r.find(vip); ok {
		if _, err := conn.Write([]byte(r.lb.agentLine(v) + "\n")); err != nil {
			r.lb.log.Log(context.Background(), slog.LevelDebug, "answer an agent-check", "vip", vip, "err", err)
			return
		}
		r.mu.Lock()
		r.checked[vip]++
		r.mu.Unlock()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		t.CloseWrite()
		// what HAProxy sends (agent-send) is read and left alone: with it unread, closing would reset what it is to read
		t.Read(make([]byte, 1024))
	}
}
