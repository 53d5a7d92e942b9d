package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Config says what the client does.
type Config struct {
	Targets
	TLS *tls.Config // trusts the lab's authority; see Trust

	Every       time.Duration // from one new SMTP VIP connection to the next
	Held        int           // SMTP sessions held open, for each pod
	Idle        int           // IMAP sessions in IDLE, for each pod
	MailEvery   time.Duration // from one message to the next for the same mailbox; 0 sends none
	SubmitEvery time.Duration // from one submitted message to the next of the same user; 0 submits none
}

// How often a new connection is tried, in units of Config.Every.
const (
	vipsEvery  = 10
	nameEvery  = 10
	namesEvery = 100
)

// Bounds of one attempt. A first SYN that is lost is sent again after one second; by then the attempt has failed, so
// that no outage hides behind the kernel's patience.
const (
	attemptTime = 900 * time.Millisecond
	answerTime  = 10 * time.Second // for the answer to a command in a session, and for a message
)

// Slowest bounds how long an attempt of the kinds vip, vips, name and names is under way.
const Slowest = 3 * attemptTime

// Load runs until ctx is done, then sees through what is under way: an attempt cut short would hide its failure.
func Load(ctx context.Context, cfg Config, log *Log) error {
	var wg sync.WaitGroup
	l := &load{cfg: cfg, log: log, wg: &wg, names: newResolver(cfg.Targets), ports: newPorts()}
	for _, p := range cfg.Pods {
		l.connect(ctx, p)
		l.lookUp(ctx, p)
		l.sessions(ctx, p)
		l.mail(ctx, p)
	}
	wg.Wait()
	return log.Err()
}

// load is one run of Load.
type load struct {
	cfg   Config
	log   *Log
	wg    *sync.WaitGroup // of all that runs
	names *resolver
	ports *ports
}

// connect starts new connections to the VIPs of a pod.
func (l *load) connect(ctx context.Context, p Pod) {
	for _, v := range []struct {
		kind, service string
		addr          netip.AddrPort
		banner        string
		units         time.Duration
	}{
		{KindVIP, "", p.SMTP, bannerSMTP, 1},
		{KindVIPs, ServiceSubmission, p.Submission, bannerSMTP, vipsEvery},
		{KindVIPs, ServiceIMAP, p.IMAP, bannerIMAP, vipsEvery},
	} {
		if !v.addr.IsValid() {
			continue
		}
		l.every(ctx, v.units*l.cfg.Every, func(ctx context.Context) {
			e := Event{Start: time.Now(), Kind: v.kind, Pod: p.Pod, Service: v.service}
			var err error
			e.Server, err = greet(ctx, l.ports, v.addr, v.banner)
			l.log.Add(e, err)
		})
	}
}

// lookUp starts questions for the names of a pod, and connections to the answers.
func (l *load) lookUp(ctx context.Context, p Pod) {
	for _, n := range []struct {
		kind, service, name string
		port                uint16
		banner              string
		units               time.Duration
	}{
		{KindName, "", p.Names.SMTP, portOr(p.SMTP, 25), bannerSMTP, nameEvery},
		{KindNames, ServiceSubmission, p.Names.Submission, portOr(p.Submission, 587), bannerSMTP, namesEvery},
		{KindNames, ServiceIMAP, p.Names.IMAP, portOr(p.IMAP, 143), bannerIMAP, namesEvery},
	} {
		if n.name == "" || l.names.nobody() {
			continue
		}
		l.every(ctx, n.units*l.cfg.Every, func(ctx context.Context) {
			e := Event{Start: time.Now(), Kind: n.kind, Pod: p.Pod, Service: n.service}
			addr, way, err := l.names.lookup(ctx, n.name)
			e.Way = way
			if err == nil {
				e.Answer = addr.String()
				e.Server, err = greet(ctx, l.ports, netip.AddrPortFrom(addr, n.port), n.banner)
			}
			l.log.Add(e, err)
		})
	}
}

func portOr(a netip.AddrPort, port uint16) uint16 {
	if a.IsValid() {
		return a.Port()
	}
	return port
}

// sessions starts those that are to stay open.
func (l *load) sessions(ctx context.Context, p Pod) {
	id := func(i int) string { return p.Pod + "/" + strconv.Itoa(i) }
	for i := range l.cfg.Held {
		if p.SMTP.IsValid() {
			l.wg.Go(func() {
				keep(ctx, l.log, Event{Kind: KindHeld, Pod: p.Pod, ID: id(i)}, &held{ports: l.ports, addr: p.SMTP, every: noopEvery})
			})
		}
	}
	for i := range l.cfg.Idle {
		if p.IMAPS.IsValid() && len(p.Mailboxes) > 0 {
			box := p.Mailboxes[i%len(p.Mailboxes)]
			e := Event{Kind: KindIdle, Pod: p.Pod, ID: id(i), To: box.Address, LUN: box.LUN}
			s := &idle{ports: l.ports, addr: p.IMAPS, conf: tlsFor(l.cfg.TLS, p, ServiceIMAP), box: box}
			l.wg.Go(func() { keep(ctx, l.log, e, s) })
		}
	}
}

// every starts f at each tick, each time on its own. f is given a context that outlives the load.
func (l *load) every(ctx context.Context, d time.Duration, f func(context.Context)) {
	through := context.WithoutCancel(ctx)
	l.wg.Go(func() {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.wg.Go(func() { f(through) })
			}
		}
	})
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// dial opens a TCP connection with a deadline for all that comes.
func dial(ctx context.Context, from *ports, addr netip.AddrPort, within time.Duration) (net.Conn, error) {
	until := time.Now().Add(within)
	conn, err := from.dial(ctx, net.Dialer{Deadline: until}, addr.String())
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(until); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
