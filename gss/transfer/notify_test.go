package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// listener is a secondary that notifications go to.
type listener struct {
	t    *testing.T
	keys Keys

	mu      sync.Mutex
	open    int // sockets, and the most that there were at once
	most    int
	heard   []string                                     // "seconds: serial"
	respond func(n int, q *dns.Msg, s *Signature) []byte // nil: nothing
}

func (l *listener) dial(_ context.Context, network, _ string) (net.Conn, error) {
	if network != "udp" {
		l.t.Errorf("it is told over %s", network)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open++
	l.most = max(l.most, l.open)
	return &socket{to: l, replies: make(chan []byte, 1), closed: make(chan struct{})}, nil
}

// hear takes a message and gives the reply.
func (l *listener) hear(wire []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var q dns.Msg
	if err := q.Unpack(wire); err != nil || len(q.Answer) != 1 {
		l.t.Errorf("it is told %x: %v", wire, err)
		return nil
	}
	var s *Signature
	if q.IsTsig() != nil {
		s = l.keys.Check(wire, time.Now())
	}
	soa, _ := q.Answer[0].(*dns.SOA)
	if q.Opcode != dns.OpcodeNotify || !q.Authoritative || q.Question[0].Qtype != dns.TypeSOA || soa == nil {
		l.t.Errorf("the notification is %v", &q)
		return nil
	}
	l.heard = append(l.heard, fmt.Sprintf("%v: %d", time.Since(start), soa.Serial))
	return l.respond(len(l.heard)-1, &q, s)
}

// socket is a connected UDP socket. (A net.Pipe starts a goroutine when a deadline passes, and thousands of them in a bubble
// are more than the race detector bears.)
type socket struct {
	net.Conn
	to       *listener
	replies  chan []byte
	closed   chan struct{}
	deadline time.Time
	once     sync.Once
}

func (s *socket) SetDeadline(t time.Time) error { s.deadline = t; return nil }

func (s *socket) Write(b []byte) (int, error) {
	if reply := s.to.hear(b); reply != nil {
		s.replies <- reply
	}
	return len(b), nil
}

func (s *socket) Read(b []byte) (int, error) {
	late := time.NewTimer(time.Until(s.deadline))
	defer late.Stop()
	select {
	case reply := <-s.replies:
		return copy(b, reply), nil
	case <-s.closed:
		return 0, net.ErrClosed
	case <-late.C:
		return 0, os.ErrDeadlineExceeded
	}
}

func (s *socket) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.to.mu.Lock()
		defer s.to.mu.Unlock()
		s.to.open--
	})
	return nil
}

// acknowledge is the reply, with a code.
func acknowledge(t *testing.T, q *dns.Msg, s *Signature, rcode int) []byte {
	t.Helper()
	m := new(dns.Msg).SetRcode(q, rcode)
	m.Authoritative = true
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return s.Sign(wire, time.Now())
}

func TestNotifier(t *testing.T) {
	key := testKey("key.example.org.")
	for name, tc := range map[string]struct {
		key     *Key
		respond func(t *testing.T, n int, q *dns.Msg, s *Signature) []byte
		heard   []string
		err     error // of what is observed
	}{
		"heard": {nil, func(t *testing.T, n int, q *dns.Msg, s *Signature) []byte {
			return acknowledge(t, q, s, dns.RcodeSuccess)
		}, []string{"0s: 1"}, nil},
		"heard, signed": {key, func(t *testing.T, n int, q *dns.Msg, s *Signature) []byte {
			return acknowledge(t, q, s, dns.RcodeSuccess)
		}, []string{"0s: 1"}, nil},
		"not signed": {key, func(t *testing.T, n int, q *dns.Msg, s *Signature) []byte {
			if n == 0 {
				s = nil
			}
			return acknowledge(t, q, s, dns.RcodeSuccess)
		}, []string{"0s: 1", "2s: 1"}, nil},
		"heard the third time": {nil, func(t *testing.T, n int, q *dns.Msg, s *Signature) []byte {
			if n < 2 {
				return nil
			}
			return acknowledge(t, q, s, dns.RcodeSuccess)
		}, []string{"0s: 1", "2s: 1", "6s: 1"}, nil},
		"another's reply": {nil, func(t *testing.T, n int, q *dns.Msg, s *Signature) []byte {
			if n == 0 {
				q.Id++
			}
			return acknowledge(t, q, s, dns.RcodeSuccess)
		}, []string{"0s: 1", "2s: 1"}, nil},
		"refused": {nil, func(t *testing.T, n int, q *dns.Msg, s *Signature) []byte {
			return acknowledge(t, q, s, dns.RcodeNotAuth)
		}, []string{"0s: 1"}, ErrRefused},
		"silent": {nil, func(t *testing.T, n int, q *dns.Msg, s *Signature) []byte {
			return nil
		}, []string{"0s: 1", "2s: 1", "6s: 1", "14s: 1", "30s: 1", "1m2s: 1"}, errSome},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &listener{t: t, keys: Keys{key.Name: key}}
				l.respond = func(n int, q *dns.Msg, s *Signature) []byte { return tc.respond(t, n, q, s) }
				var observed []error
				n := NewNotifier(NotifierOptions{
					Log: quiet, Dial: l.dial, Random: func() float64 { return 0 }, Observe: func(_ string, err error) { observed = append(observed, err) },
				})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); n.Run(ctx) }()
				n.Notify(version(t, 1).SOA(), []Peer{peer(tc.key)})
				time.Sleep(10 * time.Minute)
				cancel()
				<-ended
				if fmt.Sprint(l.heard) != fmt.Sprint(tc.heard) {
					t.Errorf("it is told at %v, want %v", l.heard, tc.heard)
				}
				if len(observed) != 1 || (observed[0] != nil) != (tc.err != nil) || tc.err != errSome && !errors.Is(observed[0], tc.err) {
					t.Errorf("observed is %v, want %v", observed, tc.err)
				}
				if len(n.running)+len(n.pending) > 0 {
					t.Error("something is left to be told")
				}
			})
		})
	}
}

// errSome stands for any error.
var errSome = errors.New("some error")

// What is newer takes the place of what was to be told.
func TestNotifierTellsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{t: t, respond: func(int, *dns.Msg, *Signature) []byte { return nil }}
		n := NewNotifier(NotifierOptions{Log: quiet, Dial: l.dial, Random: func() float64 { return 0 }})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); n.Run(ctx) }()
		to := []Peer{peer(nil)}
		n.Notify(version(t, 1).SOA(), to)
		time.Sleep(3 * time.Second)
		n.Notify(version(t, 2).SOA(), to)
		time.Sleep(4 * time.Second)
		cancel()
		<-ended
		if want := "[0s: 1 2s: 1 3s: 2 5s: 2]"; fmt.Sprint(l.heard) != want {
			t.Errorf("it is told at %v, want %v", l.heard, want)
		}
	})
}

// However many there are to be told, few sockets are open at once.
func TestNotifierIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{t: t, respond: func(int, *dns.Msg, *Signature) []byte { return nil }}
		n := NewNotifier(NotifierOptions{Log: quiet, Dial: l.dial, Random: func() float64 { return 0 }})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); n.Run(ctx) }()
		var to []Peer
		for i := range 3 * maxNotify {
			to = append(to, Peer{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 53)})
		}
		n.Notify(version(t, 1).SOA(), to)
		time.Sleep(10 * time.Minute)
		cancel()
		<-ended
		if l.most != maxNotify || l.open != 0 || len(l.heard) != notifyTries*len(to) {
			t.Errorf("%d sockets are open at once, and %d messages came", l.most, len(l.heard))
		}
	})
}
