package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config says what the client does.
type Config struct {
	VIP   string      // host:port of the SMTP VIP
	IMAP  string      // host:port of the IMAP VIP
	Sites []string    // host:port of each site's own SMTP VIP
	Name  string      // the DNS name that leads to an SMTP VIP
	DNS   []string    // host:port of the name's servers
	TLS   *tls.Config // trusts the lab's CA
	Every time.Duration
	// Every is the time from one new VIP connection to the next; names are asked for every tenth as often.

	Held      int           // sessions held open
	MailEvery time.Duration // time from one message to the next; 0 sends none
	Mailboxes []Account     // who gets mail, in turn
}

// Account is a mailbox of the lab.
type Account struct{ Address, Password string }

// Bounds of one attempt. A first SYN that is lost is sent again after one second; by then the attempt has failed, so
// that no outage hides behind the kernel's patience.
const (
	attemptTime = 900 * time.Millisecond
	noopEvery   = 100 * time.Millisecond
	noopTime    = 10 * time.Second
	dnsTime     = 300 * time.Millisecond
)

// Load runs until ctx is done, then waits for what is under way.
func Load(ctx context.Context, cfg Config, log *Log) error {
	var wg sync.WaitGroup
	r := &resolver{servers: cfg.DNS}
	wg.Go(func() {
		every(ctx, &wg, cfg.Every, func() {
			e := Event{Start: time.Now(), Kind: KindVIP}
			var err error
			e.Server, err = greet(ctx, cfg.VIP)
			record(ctx, log, e, err)
		})
	})
	wg.Go(func() {
		every(ctx, &wg, 10*cfg.Every, func() {
			e := Event{Start: time.Now(), Kind: KindName}
			addr, err := r.lookup(ctx, cfg.Name)
			if err == nil {
				e.Answer = addr.String()
				e.Server, err = greet(ctx, net.JoinHostPort(e.Answer, "25"))
			}
			record(ctx, log, e, err)
		})
	})
	for i := range cfg.Held {
		wg.Go(func() { hold(ctx, cfg.VIP, strconv.Itoa(i), log) })
	}
	if cfg.MailEvery > 0 {
		wg.Go(func() { sendAll(ctx, cfg, log) })
	}
	wg.Wait()
	return log.Err()
}

// every starts f in its own goroutine at each tick, counted in wg.
func every(ctx context.Context, wg *sync.WaitGroup, d time.Duration, f func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			wg.Go(f)
		}
	}
}

// record writes an event unless the client itself was stopped meanwhile: that is no failure of the VIP.
func record(ctx context.Context, log *Log, e Event, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	log.Add(e, err)
}

// greet opens a connection, reads the SMTP banner and gives the host named in it.
func greet(ctx context.Context, addr string) (string, error) {
	conn, _, server, err := open(ctx, addr)
	if err != nil {
		return "", err
	}
	// RST rather than FIN: thousands of ports in TIME_WAIT would run the client out of them
	if tc, ok := conn.(*net.TCPConn); ok {
		err = tc.SetLinger(0)
	}
	return server, errors.Join(err, conn.Close())
}

func open(ctx context.Context, addr string) (net.Conn, *bufio.Reader, string, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, "", err
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		conn.Close()
		return nil, nil, "", err
	}
	r := bufio.NewReader(conn)
	banner, err := r.ReadString('\n')
	if err == nil && !strings.HasPrefix(banner, "220 ") {
		err = fmt.Errorf("banner %q", banner)
	}
	if err != nil {
		conn.Close()
		return nil, nil, "", err
	}
	server, _, _ := strings.Cut(strings.TrimSpace(banner[4:]), " ")
	return conn, r, server, nil
}

// hold keeps one session open by a NOOP every so often. When it breaks, that is an event, and so is its return.
func hold(ctx context.Context, addr, id string, log *Log) {
	for ctx.Err() == nil {
		e := Event{Start: time.Now(), Kind: KindHeld, ID: id}
		conn, r, server, err := open(ctx, addr)
		if err != nil {
			// new connections are counted elsewhere; a held one counts when it breaks
			wait(ctx, noopEvery)
			continue
		}
		e.Server = server
		record(ctx, log, e, nil)
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		e.Start = time.Now()
		err = noops(ctx, conn, r)
		stop()
		conn.Close()
		if err != nil {
			record(ctx, log, e, err)
		}
	}
}

func noops(ctx context.Context, conn net.Conn, r *bufio.Reader) error {
	for ctx.Err() == nil {
		if err := conn.SetDeadline(time.Now().Add(noopTime)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("NOOP\r\n")); err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, "250") {
			return fmt.Errorf("NOOP answered %q", line)
		}
		wait(ctx, noopEvery)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
