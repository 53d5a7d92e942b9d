package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anycastle/internal/mtlstest"
)

// fake is a server whose every connection is handed to serve, and closed after it.
type fake struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newFake(t *testing.T, serve func(net.Conn)) *fake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{Listener: ln}
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
				serve(c)
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

func (f *fake) addr() netip.AddrPort { return f.Addr().(*net.TCPAddr).AddrPort() }

// cut closes the connections that there are.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.Close()
	}
}

// newMX greets with the banner, and answers every line with 250.
func newMX(t *testing.T, banner string) *fake {
	t.Helper()
	return newFake(t, func(c net.Conn) {
		fmt.Fprintf(c, "%s\r\n", banner)
		for s := bufio.NewScanner(c); s.Scan(); {
			fmt.Fprintf(c, "250 ok\r\n")
		}
	})
}

// logged gathers the events of a log as they are written.
type logged struct {
	mu     sync.Mutex
	events []Event
	news   chan struct{}
}

func newLogged() *logged { return &logged{news: make(chan struct{}, 1)} }

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

func (l *logged) all() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Event(nil), l.events...)
}

// await waits for an event of the kind and outcome.
func (l *logged) await(t *testing.T, kind string, ok bool) Event {
	t.Helper()
	return l.awaitThat(t, fmt.Sprintf("%s event with ok=%v", kind, ok), func(e Event) bool { return e.Kind == kind && e.OK == ok })
}

func (l *logged) awaitThat(t *testing.T, what string, is func(Event) bool) Event {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		for _, e := range l.all() {
			if is(e) {
				return e
			}
		}
		select {
		case <-l.news:
		case <-deadline:
			t.Fatalf("no %s among %d events", what, len(l.all()))
		}
	}
}

// startLoad runs Load until stop is called, or the test ends.
func startLoad(t *testing.T, cfg Config) (l *logged, stop func()) {
	t.Helper()
	if cfg.Every == 0 {
		cfg.Every = 5 * time.Millisecond
	}
	l = newLogged()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Load(ctx, cfg, NewLog(l)) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return l, stop
}

// certificates gives the TLS configs of servers and of clients that trust them.
func certificates(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	ca := mtlstest.NewCA(t)
	ca.Names = []string{"*.mail.example.org"}
	files := ca.Node(t, "node")
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	client, err = Trust(files.CA)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}, client
}

// serveDNS answers every question with rcode and, if it is not empty, an address.
func serveDNS(t *testing.T, rcode int, address string) netip.AddrPort {
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
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// silent is an address to which nobody answers, though packets are taken.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}
