package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// fakeMX greets, and answers NOOP until it is told to cut its sessions.
type fakeMX struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newFakeMX(t *testing.T, banner string) *fakeMX {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeMX{Listener: ln}
	f.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, c)
			f.mu.Unlock()
			f.wg.Go(func() {
				defer c.Close()
				c.Write([]byte(banner + "\r\n"))
				for s := bufio.NewScanner(c); s.Scan(); {
					c.Write([]byte("250 ok\r\n"))
				}
			})
		}
	})
	t.Cleanup(func() {
		f.Close()
		f.cut()
		f.wg.Wait()
	})
	return f
}

func (f *fakeMX) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.Close()
	}
}

// logged gathers the events of a log as they are written.
type logged struct {
	mu     sync.Mutex
	events []Event
	news   chan struct{}
}

func (l *logged) Write(p []byte) (int, error) {
	var e Event
	if err := json.Unmarshal(p, &e); err != nil {
		return 0, err
	}
	l.mu.Lock()
	l.events = append(l.events, e)
	l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

// await waits for an event of the kind and outcome.
func (l *logged) await(t *testing.T, kind string, ok bool) Event {
	t.Helper()
	return l.awaitThat(t, fmt.Sprintf("%s event with ok=%v", kind, ok), func(e Event) bool { return e.Kind == kind && e.OK == ok })
}

func (l *logged) awaitThat(t *testing.T, what string, is func(Event) bool) Event {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		l.mu.Lock()
		for _, e := range l.events {
			if is(e) {
				l.mu.Unlock()
				return e
			}
		}
		l.mu.Unlock()
		select {
		case <-l.news:
		case <-deadline:
			t.Fatalf("no %s", what)
		}
	}
}

func TestLoadTellsWhoAnsweredAndWhatBroke(t *testing.T) {
	mx := newFakeMX(t, "220 mx1.example.org ESMTP")
	l := &logged{news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Load(ctx, Config{VIP: mx.Addr().String(), Every: 5 * time.Millisecond, Held: 2}, NewLog(l))
	}()
	if e := l.await(t, KindVIP, true); e.Server != "mx1.example.org" || e.End.Before(e.Start) {
		t.Errorf("event %+v, want one of mx1.example.org that ends after it began", e)
	}
	l.await(t, KindHeld, true)
	mx.cut()
	if e := l.await(t, KindHeld, false); e.Err == "" {
		t.Error("a broken session does not say why")
	}
	mx.Close()
	l.awaitThat(t, "refused connection", func(e Event) bool { return e.Kind == KindVIP && strings.Contains(e.Err, "refused") })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// When the client is told to stop, an attempt that nobody answers is seen through: it counts as failed, not as never made.
func TestStoppedLoadHidesNoFailure(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // its backlog takes connections; nobody greets them
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l := &logged{news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Load(ctx, Config{VIP: ln.Addr().String(), Every: 5 * time.Millisecond}, NewLog(l))
	}()
	if _, err := ln.Accept(); err != nil { // an attempt is under way
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	l.await(t, KindVIP, false)
}

// A session whose NOOP was not answered when the client is told to stop is waited for, and broken from that NOOP on.
func TestHeldSessionThatHangsIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			s := bufio.NewScanner(far)
			s.Scan()
			far.Write([]byte("250 ok\r\n"))
			s.Scan() // the second stays without an answer
			cancel()
		}()
		start := time.Now()
		asked, err := noops(ctx, near, bufio.NewReader(near))
		if err == nil || asked.Sub(start) != noopEvery || time.Since(start) != noopEvery+noopTime {
			t.Errorf("%v; asked after %v, noticed after %v", err, asked.Sub(start), time.Since(start))
		}
		near.Close()
		far.Close()
	})
}

// A mailbox whose store is away holds up its own mail and no other.
func TestMailForOneMailboxDoesNotWaitForAnother(t *testing.T) {
	mx := newFakeMX(t, "220 mx1.example.org ESMTP") // it knows no STARTTLS: every attempt fails
	l := &logged{news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		boxes := []Account{{Address: "alice@example.org"}, {Address: "bob@example.org"}}
		done <- Load(ctx, Config{VIP: mx.Addr().String(), Every: time.Second, MailEvery: time.Millisecond, Mailboxes: boxes}, NewLog(l))
	}()
	l.awaitThat(t, "mail for alice", func(e Event) bool { return e.To == "alice@example.org" })
	l.awaitThat(t, "mail for bob", func(e Event) bool { return e.To == "bob@example.org" })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestGreetWantsABanner(t *testing.T) {
	mx := newFakeMX(t, "554 go away")
	if _, err := greet(t.Context(), mx.Addr().String()); err == nil || !strings.Contains(err.Error(), "554") {
		t.Errorf("error is %v", err)
	}
}

// serveDNS answers every question with rcode and, if it is not empty, an address.
func serveDNS(t *testing.T, rcode int, address string) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	srv := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetRcode(q, rcode)
		if address != "" {
			rr, err := dns.NewRR(q.Question[0].Name + " 5 IN A " + address)
			if err != nil {
				t.Error(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		if err := w.WriteMsg(m); err != nil {
			t.Error(err)
		}
	})}
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := srv.Shutdown(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return pc.LocalAddr().String()
}

func TestResolverGoesToTheNextServerAndStays(t *testing.T) {
	r := &resolver{servers: []string{serveDNS(t, dns.RcodeServerFailure, ""), serveDNS(t, dns.RcodeSuccess, "203.0.113.11")}}
	addr, err := r.lookup(t.Context(), "smtp.mail.example.org")
	if err != nil || addr.String() != "203.0.113.11" {
		t.Fatalf("answer %v, %v", addr, err)
	}
	if r.good != 1 {
		t.Errorf("asks server %d first, want the one that answered", r.good)
	}
	r = &resolver{servers: r.servers[:1]}
	if _, err := r.lookup(t.Context(), "smtp.mail.example.org"); err == nil || !strings.Contains(err.Error(), "SERVFAIL") {
		t.Errorf("error is %v", err)
	}
}

func TestComposedMessageIsHardToCarry(t *testing.T) {
	msg := compose("id@example.net", "alice@example.org", 100_000)
	if len(msg) < 100_000 {
		t.Errorf("%d bytes, want at least the size asked for", len(msg))
	}
	for _, part := range []string{"\r\n.\r\n", "\r\n..two", "Grüße", strings.Repeat("x", 998), "Message-ID: <id@example.net>"} {
		if !bytes.Contains(msg, []byte(part)) {
			t.Errorf("no %.20q in it", part)
		}
	}
	if bytes.Contains(bytes.ReplaceAll(msg, []byte("\r\n"), nil), []byte("\n")) {
		t.Error("a bare line feed, which SMTP does not allow")
	}
}
