package smtpd

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEarlyTalkerKeepsItsWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		screen := &fakeScreen{wait: time.Minute}
		s := newTestServer(func(o *Options) { o.Screen = screen })
		c := s.dial(t, false)
		start := time.Now()
		c.write("EHLO client.example.org\r\nMAIL FROM:<x@example.org>\r\n")
		c.expect(220)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the screen heard of it after %v", waited)
		}
		c.expect(250)
		c.expect(250)
		c.say(250, "RCPT TO:<a@example.org>")
		c.data(250, plain)
		if screen.released.Load() != 0 {
			t.Error("the screen was told of the end before it")
		}
		c.say(221, "QUIT")
		s.open.Wait()
		if screen.released.Load() != 1 {
			t.Errorf("the screen was told of the end %d times", screen.released.Load())
		}
		s.expectMail(t, plain)
	})
}

func TestScreenRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		screen := &fakeScreen{wait: time.Minute, refuse: reply(554, 5, 7, 1, "You spoke\r\nbefore your time")}
		s := newTestServer(func(o *Options) { o.Screen = screen })
		c := s.dial(t, false)
		c.write("EHLO client.example.org\r\n")
		if text := c.expect(554); text != "5.7.1 mx.example.org You spoke  before your time" {
			t.Errorf("refusal says %q", text)
		}
		c.gone()
		screen.refuse = errors.New("resolver is away")
		c = s.dial(t, false)
		c.write("EHLO client.example.org\r\n")
		if text := c.expect(421); strings.Contains(text, "resolver") {
			t.Errorf("refusal says %q", text)
		}
		c.gone()
		s.open.Wait()
		counts := s.opt.Tally.Counts()
		if counts.Rejects["screen"] != 2 || counts.Sessions != 0 || screen.released.Load() != 0 {
			t.Errorf("counted %+v, and %d ends were told to the screen", counts, screen.released.Load())
		}
	})
}

func TestScreenedSessionsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(func(o *Options) { o.Screen, o.MaxSessions = &fakeScreen{wait: time.Minute}, 2 })
		s.dial(t, false)
		s.dial(t, false)
		if s.guard(nil) != nil {
			t.Error("a third session was let in while two wait for the screen")
		}
		s.end()
		s.open.Wait()
	})
}

func TestEndWakesTheScreen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(func(o *Options) { o.Screen = &fakeScreen{wait: time.Hour} })
		c := s.dial(t, false)
		synctest.Wait()
		start := time.Now()
		s.end()
		c.expect(220)
		c.expect(421)
		c.gone()
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the end came after %v", waited)
		}
		s.open.Wait()
	})
}

// wrapped is a listener whose connections are of a type of its own, as those behind a proxy are.
type wrapped struct{ net.Listener }

func (w wrapped) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	return struct{ net.Conn }{conn}, err
}

func TestRefusalOutlivesWhatWasSentAhead(t *testing.T) {
	for name, wrap := range map[string]func(net.Listener) net.Listener{
		"direct":         func(ln net.Listener) net.Listener { return ln },
		"behind a proxy": func(ln net.Listener) net.Listener { return wrapped{ln} },
	} {
		t.Run(name, func(t *testing.T) { refusalOutlives(t, wrap) })
	}
}

func refusalOutlives(t *testing.T, wrap func(net.Listener) net.Listener) {
	t.Helper()
	s := newTestServer(func(o *Options) { o.Screen = &fakeScreen{wait: time.Minute, refuse: reply(554, 5, 7, 1, "You spoke")} })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, wrap(ln)) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// more than the screen reads: without care the kernel would take the refusal back
	if _, err := io.WriteString(conn, strings.Repeat("EHLO client.example.org\r\n", 1000)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil || string(text) != "554 5.7.1 mx.example.org You spoke\r\n" {
		t.Errorf("the client hears %q, %v", text, err)
	}
	conn.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
