package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
		h := &held{every: noopEvery, conn: &lineConn{conn: near, r: bufio.NewReader(near)}}
		asked, err := h.stay(ctx)
		if err == nil || reason(err) != ReasonTimeout || asked.Sub(start) != noopEvery || time.Since(start) != noopEvery+answerTime {
			t.Errorf("%v; asked after %v, noticed after %v", err, asked.Sub(start), time.Since(start))
		}
		near.Close()
		far.Close()
	})
}

func TestHeldSessionThatIsEnded(t *testing.T) {
	for answer, want := range map[string]string{"421 going away": ReasonBye, "500 what": ReasonProtocol} {
		near, far := net.Pipe()
		go func() {
			bufio.NewReader(far).ReadString('\n')
			fmt.Fprintf(far, "%s\r\n", answer)
			far.Close()
		}()
		h := &held{every: noopEvery, conn: &lineConn{conn: near, r: bufio.NewReader(near)}}
		if _, err := h.stay(t.Context()); err == nil || reason(err) != want {
			t.Errorf("%s: %v, want %s", answer, err, want)
		}
		near.Close()
	}
}

func TestCrowdHoldsAll(t *testing.T) {
	mx := newMX(t, "220 mx1.example.org ESMTP")
	ctx, cancel := context.WithCancel(t.Context())
	if err := Crowd(ctx, mx.addr(), 20, cancel); err != nil {
		t.Error(err)
	}
	mx.Close()
	mx.cut()
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := Crowd(ctx, mx.addr(), 2, func() { t.Error("all are there, with nobody to take them") }); err == nil || !strings.Contains(err.Error(), "0 of 2") {
		t.Errorf("error is %v", err)
	}
}

// idleServer is a store that takes anybody, and does what a test says once a session is in IDLE.
func idleServer(t *testing.T, conf *tls.Config, inIdle func(n int, c net.Conn, done func() bool)) *fake {
	sessions := make(chan int, 1)
	sessions <- 0
	return newFake(t, func(raw net.Conn) {
		c := tls.Server(raw, conf)
		n := <-sessions
		sessions <- n + 1
		fmt.Fprint(c, "* OK [CAPABILITY IMAP4rev1 IDLE] ready\r\n")
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			tag, command, _ := strings.Cut(lines.Text(), " ")
			switch {
			case command == `LOGIN "alice@example.org" "a\\b\"c"`, command == "NOOP":
				fmt.Fprintf(c, "%s OK done\r\n", tag)
			case command == "SELECT INBOX":
				fmt.Fprintf(c, "* 3 EXISTS\r\n* FLAGS (\\Seen)\r\n%s OK [READ-WRITE] done\r\n", tag)
			case command == "IDLE":
				fmt.Fprint(c, "+ idling\r\n* 4 EXISTS\r\n")
				inIdle(n, raw, func() bool {
					if !lines.Scan() || lines.Text() != "DONE" {
						return false
					}
					fmt.Fprintf(c, "* 5 EXISTS\r\n%s OK done\r\n", tag)
					return true
				})
			case command == "LOGOUT":
				fmt.Fprintf(c, "* BYE\r\n%s OK\r\n", tag)
				return
			case command == "BYE": // a test's own
				fmt.Fprint(c, "* BYE going\r\n")
				return
			default:
				fmt.Fprintf(c, "%s NO [UNAVAILABLE]\r\n", tag)
			}
		}
	})
}

var idler = Account{Address: "alice@example.org", Password: `a\b"c`, LUN: "lun-east"}

func idlePod(f *fake) Targets {
	return onePod(Pod{Pod: "1", IMAPS: f.addr(), Names: Names{IMAP: "imap.mail.example.org"}, Mailboxes: []Account{idler}})
}

func TestIdleSessionStaysThroughDoneAndNoop(t *testing.T) {
	server, trusting := certificates(t)
	rounds := make(chan struct{}, 100)
	f := idleServer(t, server, func(_ int, _ net.Conn, done func() bool) {
		if done() {
			rounds <- struct{}{}
		}
	})
	l, stop := startLoad(t, Config{Idle: 1, TLS: trusting, Targets: idlePod(f)})
	<-rounds
	<-rounds
	stop()
	events := l.all()
	if len(events) != 1 || !events[0].OK || events[0].Kind != KindIdle || events[0].To != idler.Address || events[0].LUN != "lun-east" || events[0].ID != "1/0" {
		t.Errorf("events %+v, want that the session was opened and nothing else", events)
	}
}

func TestIdleSessionBreaks(t *testing.T) {
	server, trusting := certificates(t)
	for want, end := range map[string]func(c net.Conn){
		ReasonReset:  func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() },
		ReasonClosed: func(c net.Conn) { c.Close() },
	} {
		t.Run(want, func(t *testing.T) {
			f := idleServer(t, server, func(n int, c net.Conn, done func() bool) {
				if n == 0 {
					end(c)
					return
				}
				done()
			})
			l, _ := startLoad(t, Config{Idle: 1, TLS: trusting, Targets: idlePod(f)})
			broken := l.await(t, KindIdle, false)
			if broken.Reason != want || !broken.Reconnect || broken.ID != "1/0" {
				t.Errorf("event %+v, want %s and a reconnection", broken, want)
			}
			l.awaitThat(t, "session opened again", func(e Event) bool { return e.Kind == KindIdle && e.OK && !e.Start.Before(broken.End) })
		})
	}
}

// scripted is the end of an imapConn whose other end says one text and then nothing.
func scripted(t *testing.T, text string, then func(far net.Conn)) *imapConn {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		go func() { // take what the client says
			for buf := make([]byte, 100); ; {
				if _, err := far.Read(buf); err != nil {
					return
				}
			}
		}()
		far.Write([]byte(text))
		if then != nil {
			then(far)
		}
	}()
	t.Cleanup(func() {
		near.Close()
		far.Close()
		<-done
	})
	return newIMAPConn(near)
}

func TestIMAPAnswers(t *testing.T) {
	hangUp := func(far net.Conn) { far.Close() }
	for name, c := range map[string]struct {
		text string
		then func(net.Conn)
		want string
	}{
		"OK":                   {"* 3 EXISTS\r\nc1 OK done\r\n", nil, ""},
		"NO":                   {"c1 NO [UNAVAILABLE] later\r\n", nil, ReasonTempFail},
		"BAD":                  {"c1 BAD what\r\n", nil, ReasonProtocol},
		"BYE":                  {"* 3 EXISTS\r\n* BYE going\r\n", nil, ReasonBye},
		"answer to another":    {"c9 OK done\r\n", nil, ReasonProtocol},
		"closed":               {"* 3 EXI", hangUp, ReasonClosed},
		"hangs":                {"* 3 EXISTS\r\n", nil, ReasonTimeout},
		"a line without end":   {"* " + strings.Repeat("x", 2*longestAnswer), nil, ReasonProtocol},
		"go on, unasked":       {"+ go on\r\n", nil, ReasonProtocol},
		"tag that begins ours": {"c11 OK done\r\n", nil, ReasonProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			err := scripted(t, c.text, c.then).command("NOOP", time.Now().Add(50*time.Millisecond))
			if (err == nil) != (c.want == "") || err != nil && reason(err) != c.want {
				t.Errorf("%v, want reason %q", err, c.want)
			}
		})
	}
}

// A BYE in IDLE is noticed at once, and one that comes in two parts, with a pause between them, is whole.
func TestRestNoticesBye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go func() {
			far.Write([]byte("* BYE go"))
			time.Sleep(idleTime + idleTime/2)
			far.Write([]byte("ing\r\n"))
		}()
		s := &idle{c: newIMAPConn(near)}
		if err := s.rest(t.Context()); err != nil {
			t.Errorf("%v, with half a line", err)
		}
		if err := s.rest(t.Context()); err == nil || reason(err) != ReasonBye || !strings.Contains(err.Error(), "going") {
			t.Errorf("%v, want BYE", err)
		}
		near.Close()
		far.Close()
	})
}

func FuzzIMAPAnswer(f *testing.F) {
	for _, text := range []string{"* 3 EXISTS\r\nc1 OK done\r\n", "c1 NO\r\n", "* BYE\r\n", "+\r\n", "\n\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		near, far := net.Pipe()
		defer near.Close()
		go func() {
			far.Write(text)
			far.Close()
		}()
		c := newIMAPConn(near)
		if err := c.answered("c1", time.Now().Add(time.Second)); err != nil && reason(err) == "" {
			t.Errorf("no reason for %v", err)
		}
	})
}
