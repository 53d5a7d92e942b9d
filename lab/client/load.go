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
	MailEvery time.Duration // time from one message to the next for the same mailbox; 0 sends none
	Mailboxes []Account     // who gets mail
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

// Load runs until ctx is done, then sees through what is under way: an attempt cut short would hide its failure.
func Load(ctx context.Context, cfg Config, log *Log) error {
	var wg sync.WaitGroup
	through := context.WithoutCancel(ctx)
	r := &resolver{servers: cfg.DNS}
	wg.Go(func() {
		every(ctx, &wg, cfg.Every, func() {
			e := Event{Start: time.Now(), Kind: KindVIP}
			var err error
			e.Server, err = greet(through, cfg.VIP)
			log.Add(e, err)
		})
	})
	wg.Go(func() {
		every(ctx, &wg, 10*cfg.Every, func() {
			e := Event{Start: time.Now(), Kind: KindName}
			addr, err := r.lookup(through, cfg.Name)
			if err == nil {
				e.Answer = addr.String()
				e.Server, err = greet(through, net.JoinHostPort(e.Answer, "25"))
			}
			log.Add(e, err)
		})
	})
	for i := range cfg.Held {
		wg.Go(func() { hold(ctx, cfg.VIP, strconv.Itoa(i), log) })
	}
	if cfg.MailEvery > 0 {
		for _, box := range cfg.Mailboxes {
			wg.Go(func() { sendAll(ctx, cfg, box.Address, log) })
		}
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
		log.Add(e, nil)
		e.Start, err = noops(ctx, conn, r)
		conn.Close()
		if err != nil {
			log.Add(e, err)
		}
	}
}

// noops asks until ctx is done or an answer fails to come, and says when the last question was sent.
func noops(ctx context.Context, conn net.Conn, r *bufio.Reader) (asked time.Time, err error) {
	for ctx.Err() == nil {
		asked = time.Now()
		if err := conn.SetDeadline(asked.Add(noopTime)); err != nil {
			return asked, err
		}
		if _, err := conn.Write([]byte("NOOP\r\n")); err != nil {
			return asked, err
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return asked, err
		}
		if !strings.HasPrefix(line, "250") {
			return asked, fmt.Errorf("NOOP answered %q", line)
		}
		wait(ctx, noopEvery)
	}
	return asked, nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
