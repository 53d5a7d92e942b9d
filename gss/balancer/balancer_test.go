package balancer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/internal/vipreport"
)

var (
	start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	lb1   = Balancer{Name: "lb1", Site: "east", Address: netip.MustParseAddrPort("198.51.100.1:6088")}
	lb2   = Balancer{Name: "lb2", Address: netip.MustParseAddrPort("198.51.100.3:6088")}
	smtp  = Subject{Answer: "smtp-east", Site: "east", Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.11")}}
)

func vip(name, addr string) vipreport.VIP {
	return vipreport.VIP{
		Name: name, Address: netip.MustParseAddr(addr), Protocol: "tcp", Port: "25", State: vipreport.Active, InService: 2, Reals: 2,
		Flows: vipreport.NotCounted, Route: vipreport.RouteAnnounced,
	}
}

func reportOf(whole bool, vips ...vipreport.VIP) vipreport.Report {
	return vipreport.Report{Since: start, Expires: 3 * time.Second, Whole: whole, VIPs: vips}
}

// farEnd is where a Set dials, without TLS.
type farEnd struct {
	mu    sync.Mutex
	times []time.Time // that it was dialled
	conn  net.Conn    // the balancer's end of the last connection; nil: none was taken
	fail  error
	close bool // at once
}

func (f *farEnd) dial(context.Context, netip.AddrPort) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times = append(f.times, time.Now())
	if f.fail != nil {
		return nil, f.fail
	}
	here, there := net.Pipe()
	if f.conn = there; f.close {
		there.Close()
	}
	return here, nil
}

func (f *farEnd) set(fail error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *farEnd) say(t *testing.T, r vipreport.Report) {
	t.Helper()
	lines, err := r.Lines()
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, string(lines))
}

func (f *farEnd) write(t *testing.T, text string) {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	conn := f.conn
	f.mu.Unlock()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// hear runs a Set in a bubble.
func hear(t *testing.T, f *farEnd, changed func(), list ...Balancer) *Set {
	t.Helper()
	s := New(Options{Dial: f.dial, Changed: changed})
	s.SetBalancers(list)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	synctest.Wait()
	return s
}

func TestSetHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		news := 0
		f := &farEnd{}
		s := hear(t, f, func() { news++ }, lb1)
		is := func() Status { return s.Status()[0] }
		if is().Connected || len(s.Reports([]Subject{smtp}, 3*time.Second)) > 0 {
			t.Errorf("before it speaks: %+v", is())
		}
		f.say(t, reportOf(true, vip("smtp", "203.0.113.11"), vip("other", "203.0.113.12")))
		if r := s.Reports([]Subject{smtp}, 3*time.Second)["smtp-east"]; len(r) != 1 || r[0].Out || !r[0].At.Equal(time.Now()) || r[0].From != "lb1" || news != 1 {
			t.Errorf("in service, it is told %d times and reported as %+v", news, r)
		}
		<-time.After(time.Second)
		said := time.Now()
		f.say(t, reportOf(true, vip("smtp", "203.0.113.11"), vip("other", "203.0.113.12")))
		busy := vip("smtp", "203.0.113.11")
		busy.PacketsPerSecond, busy.BytesPerSecond = 7, 700
		f.say(t, reportOf(true, busy, vip("other", "203.0.113.12")))
		if news != 1 || s.Reports([]Subject{smtp}, 3*time.Second)["smtp-east"][0].At != said {
			t.Errorf("signs of life are told as %d changes", news)
		}
		failed := vip("smtp", "203.0.113.11")
		failed.State, failed.Why = vipreport.Failed, "too few"
		f.say(t, reportOf(false, failed))
		if r := s.Reports([]Subject{smtp}, 3*time.Second)["smtp-east"]; !r[0].Out || r[0].Why != "failed: too few" || news != 2 {
			t.Errorf("out of service, it is told %d times and reported as %+v", news, r)
		}
		if st := is(); !st.Connected || st.VIPs != 2 || st.Reports != 4 || st.Err != nil {
			t.Errorf("status %+v", st)
		}
		f.say(t, reportOf(true, vip("other", "203.0.113.12")))
		if r := s.Reports([]Subject{smtp}, 3*time.Second); len(r) != 0 || news != 3 {
			t.Errorf("a VIP that has gone is told %d times and reported as %+v", news, r)
		}
	})
}

// TestSetLoses: what was said last stays with its time, whatever happens to the connection.
func TestSetLoses(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		lose       func(t *testing.T, f *farEnd)
	}{
		{"closed", "EOF", func(_ *testing.T, f *farEnd) { f.conn.Close() }},
		{"silent", "it says nothing for 3s", func(_ *testing.T, f *farEnd) { <-time.After(silence) }},
		{"slower than it may be", "it says nothing for 3s", func(t *testing.T, f *farEnd) {
			f.write(t, "{")
			<-time.After(2 * time.Second)
			f.write(t, " ")
			<-time.After(time.Second)
		}},
		{"junk", "invalid character", func(t *testing.T, f *farEnd) { f.write(t, "HTTP/1.1 400 Bad Request\n") }},
		{"a report that cannot be", "is no state", func(t *testing.T, f *farEnd) {
			f.say(t, reportOf(true, vipreport.VIP{Name: "a", Address: netip.MustParseAddr("192.0.2.1"), Protocol: "tcp", Port: "1"}))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &farEnd{}
				s := hear(t, f, nil, lb1)
				f.say(t, reportOf(true, vip("smtp", "203.0.113.11")))
				said := time.Now()
				f.set(errors.New("connection refused"))
				tc.lose(t, f)
				synctest.Wait()
				st := s.Status()[0]
				if st.Connected || st.Lost != 1 || st.Err == nil || !strings.Contains(st.Err.Error(), tc.want) {
					t.Errorf("status %+v, want %s", st, tc.want)
				}
				<-time.After(time.Minute)
				if r := s.Reports([]Subject{smtp}, 3*time.Second)["smtp-east"]; len(r) != 1 || r[0].Out || !r[0].At.Equal(said) {
					t.Errorf("a minute later it is reported as %+v", r)
				}
				f.mu.Lock()
				for i := 1; i < len(f.times); i++ {
					if gap := f.times[i].Sub(f.times[i-1]); i > 1 && gap > time.Second || i > 10 && gap < retryLast {
						t.Errorf("try %d comes %v after the one before", i, gap)
					}
				}
				f.fail = nil
				f.mu.Unlock()
				<-time.After(time.Second)
				f.say(t, reportOf(true, vip("smtp", "203.0.113.11")))
				if st := s.Status()[0]; !st.Connected || st.Err != nil || !st.Since.Equal(time.Now()) {
					t.Errorf("heard again: %+v", st)
				}
			})
		})
	}
}

// TestConnectionsThatEndAtOnce are no reason to dial without a pause.
func TestConnectionsThatEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farEnd{close: true}
		hear(t, f, nil, lb1)
		<-time.After(time.Minute)
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.times) > 125 || len(f.times) < 60 {
			t.Errorf("%d connections in a minute", len(f.times))
		}
	})
}

func TestSetBalancers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farEnd{}
		s := hear(t, f, nil, lb1)
		f.say(t, reportOf(true, vip("smtp", "203.0.113.11")))
		s.SetBalancers([]Balancer{lb2, lb1})
		f.say(t, reportOf(true, vip("smtp", "203.0.113.11"))) // lb2's, which was dialled last
		if r := s.Reports([]Subject{smtp}, 3*time.Second)["smtp-east"]; len(r) != 2 || r[0].From != "lb2" || r[1].From != "lb1" {
			t.Errorf("two report %+v", r)
		}
		moved := lb1
		moved.Address = netip.MustParseAddrPort("198.51.100.9:6088")
		s.SetBalancers([]Balancer{moved})
		synctest.Wait()
		if r := s.Reports([]Subject{smtp}, 3*time.Second); len(r) != 0 {
			t.Errorf("one that has gone, and one that is another, report %+v", r)
		}
		if st := s.Status(); len(st) != 1 || st[0].Connected || st[0].Address != moved.Address {
			t.Errorf("status %+v", st)
		}
	})
}

// server speaks as a balancer does.
func server(t *testing.T, settings *tls.Config, speak func(net.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer raw.Close()
				defer context.AfterFunc(ctx, func() { raw.Close() })()
				conn := tls.Server(raw, settings)
				if conn.Handshake() == nil {
					speak(conn)
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		ln.Close()
		serving.Wait()
	})
	return netip.MustParseAddrPort(ln.Addr().String())
}

func material(t *testing.T, f mtls.Files) *mtls.Material {
	t.Helper()
	m, err := mtls.Load(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestOverTLS hears a balancer through real sockets, and none that is not what it is to be.
func TestOverTLS(t *testing.T) {
	ca, other := mtlstest.NewCA(t), mtlstest.NewCA(t)
	says := make(chan vipreport.Report)
	speak := func(conn net.Conn) {
		for r := range says {
			lines, err := r.Lines()
			if err != nil {
				t.Error(err)
			}
			conn.Write(lines)
		}
	}
	hang := func(conn net.Conn) { conn.Read(make([]byte, 1)) }
	good := vipreport.Offer(material(t, ca.Node(t, "lb1")).Server())
	list := []Balancer{
		{Name: "right", Address: server(t, good, speak)},
		{Name: "of another CA", Address: server(t, vipreport.Offer(material(t, other.Node(t, "lb2")).Server()), hang)},
		{Name: "of another address", Address: server(t, vipreport.Offer(material(t, ca.Host(t, "lb3", []netip.Addr{lb1.Address.Addr()})).Server()), hang)},
		{Name: "an agent of a real", Address: server(t, material(t, ca.Node(t, "mx1")).Server(), hang)},
	}
	changed := make(chan struct{}, 1)
	s := New(Options{TLS: material(t, ca.Node(t, "gss")).Client, Changed: func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}})
	s.SetBalancers(list)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	defer close(says)
	worst, atOnce := time.Duration(0), 0
	for i := range 20 {
		v := vip("smtp", "203.0.113.11")
		v.InService, v.Reals = i, 20
		says <- reportOf(i == 0, v)
		sent := time.Now()
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatalf("change %d is not heard: %+v", i, s.Status()[0])
		}
		if i > 0 { // the first waits for the handshake
			took := time.Since(sent)
			if worst = max(worst, took); took < vipreport.Beat/2 {
				atOnce++
			}
		}
		if r := s.Reports([]Subject{smtp}, time.Second)["smtp-east"]; len(r) != 1 || r[0].InService != i {
			t.Fatalf("change %d is reported as %+v", i, r)
		}
	}
	t.Logf("a change was heard after %v at most", worst)
	if atOnce <= 10 { // on a busy machine one or the other takes longer
		t.Errorf("%d of 19 changes were heard at once, and not with a beat", atOnce)
	}
	for i, want := range map[int]string{1: "unknown authority", 2: "certificate is valid for 198.51.100.1, not 127.0.0.1", 3: vipreport.ErrProtocol.Error()} {
		var st Status
		for deadline := time.Now().Add(10 * time.Second); st.Err == nil && time.Now().Before(deadline); {
			select {
			case <-time.After(5 * time.Millisecond):
				st = s.Status()[i]
			case <-ctx.Done():
			}
		}
		if st.Connected || st.Err == nil || !strings.Contains(st.Err.Error(), want) {
			t.Errorf("%s: %+v, want %s", list[i].Name, st, want)
		}
	}
}

// TestHandshakeThatHangs must not hold a reader.
func TestHandshakeThatHangs(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	o := Options{TLS: func() *tls.Config { return &tls.Config{} }}
	begin := time.Now()
	_, err = o.dialTLS(t.Context(), netip.MustParseAddrPort(ln.Addr().String()))
	if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), "no TLS handshake within") || took > 3*patience {
		t.Errorf("after %v: %v", took, err)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v is taken for a silent stream", err)
	}
}
