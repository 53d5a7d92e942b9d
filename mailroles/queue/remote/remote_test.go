package remote

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/internal/mtlstest"
)

// server answers by a script, the same for each connection, and keeps what it was told.
type server struct {
	t      *testing.T
	addr   netip.AddrPort
	script []string // "COMMAND => REPLY"; the first whose COMMAND begins what was said counts, and is used up if it ends in !
	tls    *tls.Config

	mu   sync.Mutex
	said [][]string // by connection
}

// usual is how a server answers that takes everything; a script goes before it.
var usual = []string{
	"(connect) => 220 mx ready", "EHLO => 250-mx\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-dsn\r\n250 SMTPUTF8", "HELO => 250 mx", "MAIL => 250 2.1.0 Ok",
	"RCPT => 250 2.1.5 Ok", "DATA => 354 Go on", ". => 250 2.0.0 Queued", "QUIT => 221 Bye", "STARTTLS => 220 Go on", "AUTH => 235 2.7.0 Welcome",
}

func serve(t *testing.T, config *tls.Config, script ...string) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, addr: netip.MustParseAddrPort(ln.Addr().String()), script: slices.Concat(script, usual), tls: config}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.said = append(s.said, nil)
			nr := len(s.said) - 1
			s.mu.Unlock()
			open.Go(func() { s.talk(conn, nr) })
		}
	})
	t.Cleanup(func() { ln.Close(); open.Wait() })
	return s
}

// talk holds one conversation. "close" as a reply ends it, "text:..." is sent as it is.
func (s *server) talk(conn net.Conn, nr int) {
	defer func() { conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second)) // a test that hangs shall fail
	r := bufio.NewReader(conn)
	line := "(connect)"
	for {
		reply := s.reply(line)
		if reply == "close" {
			return
		}
		if text, ok := strings.CutPrefix(reply, "text:"); ok {
			_, _ = io.WriteString(conn, text)
		} else if _, err := io.WriteString(conn, reply+"\r\n"); err != nil {
			return
		}
		if line == "STARTTLS" && strings.HasPrefix(reply, "220") {
			secured := tls.Server(conn, s.tls)
			if secured.Handshake() != nil {
				return
			}
			conn, r = secured, bufio.NewReader(secured)
		}
		var err error
		if line == "DATA" && strings.HasPrefix(reply, "354") {
			line, err = readBody(r)
		} else if line, err = r.ReadString('\n'); err == nil {
			line = strings.TrimSuffix(line, "\r\n")
		}
		if err != nil {
			line += "(cut off)"
		}
		s.mu.Lock()
		s.said[nr] = append(s.said[nr], line)
		s.mu.Unlock()
		if err != nil {
			return
		}
		if strings.HasSuffix(line, "\r\n.\r\n") {
			line = "."
		}
	}
}

// readBody reads to the dot alone.
func readBody(r *bufio.Reader) (string, error) {
	body := ""
	for !strings.HasSuffix("\r\n"+body, "\r\n.\r\n") {
		line, err := r.ReadString('\n')
		if body += line; err != nil {
			return body, err
		}
	}
	return body, nil
}

func (s *server) reply(line string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, step := range s.script {
		begin, reply, _ := strings.Cut(step, " => ")
		once := strings.HasSuffix(begin, "!")
		if strings.HasPrefix(line, strings.TrimSuffix(begin, "!")) {
			if once {
				s.script = slices.Delete(s.script, i, i+1)
			}
			return reply
		}
	}
	return "500 What?"
}

// conversations gives what was said, without the time that a QUIT takes.
func (s *server) conversations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, said := range s.said {
		said = slices.DeleteFunc(slices.Clone(said), func(l string) bool { return l == "QUIT" || l == "(cut off)" })
		all = append(all, strings.Join(said, "|"))
	}
	return all
}

func client() *Client {
	short := 2 * time.Second
	return &Client{
		Hostname: "mail.example.org", Log: slog.New(slog.DiscardHandler),
		Times: Times{Dial: short, Greeting: short, Command: short, Block: short, Final: short},
		Dial: func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
		},
	}
}

const letter = "Subject: x\r\n\r\n.dot\r\n"

func message(to ...string) *Message {
	m := &Message{From: "a@example.org", Size: int64(len(letter)), Body: strings.NewReader(letter)}
	for _, a := range to {
		m.To = append(m.To, Recipient{Address: a})
	}
	return m
}

func TestMessageArrivesAsItIs(t *testing.T) {
	s := serve(t, nil)
	m := message("b@example.net", "c@example.net")
	m.EightBit, m.UTF8, m.Return, m.EnvID = true, true, "HDRS", "id+2B1"
	m.To[1].Notify, m.To[1].ORcpt = "SUCCESS,FAILURE", "rfc822;c@example.com"
	out := client().Send(t.Context(), Host{Name: "mx", Addr: s.addr}, m)
	taken := Reply{Code: 250, Status: "2.0.0", Text: "Queued"}
	if diff := cmp.Diff(Outcome{Replies: []Reply{taken, taken}, Sent: true, DSN: true}, out); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
	want := []string{"EHLO mail.example.org|MAIL FROM:<a@example.org> SIZE=20 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+2B1|RCPT TO:<b@example.net>|" +
		"RCPT TO:<c@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;c@example.com|DATA|Subject: x\r\n\r\n..dot\r\n.\r\n"}
	if diff := cmp.Diff(want, s.conversations()); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

// flat tells an outcome in one line.
func flat(out Outcome) string {
	var parts []string
	for _, r := range out.Replies {
		if r.Code != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", r.Code, r.Status))
		} else {
			parts = append(parts, "-")
		}
	}
	if failed := (*Failure)(nil); errors.As(out.Err, &failed) {
		parts = append(parts, "at "+string(failed.At))
	}
	if out.Unsure {
		parts = append(parts, "unsure")
	}
	return strings.Join(parts, ", ")
}

func TestOddReplies(t *testing.T) {
	long := strings.Repeat("250-x\r\n", 200) + "250 x"
	for _, tc := range []struct {
		name   string
		script []string
		want   string
	}{
		{"each recipient its own", []string{"RCPT! => 550 5.1.1 No such user", "RCPT! => 450 4.2.1 Later"}, "550 5.1.1, 450 4.2.1, 250 2.0.0"},
		{"no recipient, no DATA", []string{"RCPT => 550 No", "DATA => close"}, "550 , 550 , 550 "},
		{"greeting is temporary", []string{"(connect) => 421 4.3.2 Busy"}, "-, -, -, at greeting"},
		{"greeting is permanent", []string{"(connect) => 554 No SMTP here"}, "-, -, -, at greeting"},
		{"no greeting", []string{"(connect) => close"}, "-, -, -, at greeting"},
		{"not SMTP", []string{"(connect) => SSH-2.0-x"}, "-, -, -, at greeting"},
		{"an endless line", []string{"(connect) => 220 " + strings.Repeat("x", 10_000)}, "-, -, -, at greeting"},
		{"endless lines", []string{"EHLO => " + long}, "-, -, -, at hello"},
		{"codes that differ", []string{"EHLO => 250-a\r\n251 b"}, "-, -, -, at hello"},
		{"only HELO", []string{"EHLO => 500 What?"}, "250 2.0.0, 250 2.0.0, 250 2.0.0"},
		{"EHLO is temporary", []string{"EHLO => 450 Later"}, "-, -, -, at hello"},
		{"sender refused", []string{"MAIL => 553 5.7.1 Not you"}, "553 5.7.1, 553 5.7.1, 553 5.7.1"},
		{"sender refused for now", []string{"MAIL => 451 4.7.1 Greylisted"}, "-, -, -, at envelope"},
		{"421 within the recipients", []string{"RCPT! => 250 Ok", "RCPT => 421 Bye"}, "-, -, -, at envelope"},
		{"hangs up within the recipients", []string{"RCPT! => 550 No", "RCPT => close"}, "550 , -, -, at envelope"},
		{"one recipient too many", []string{"RCPT! => 250 Ok", "RCPT => 552 Too many"}, "250 2.0.0, 452 4.5.3, 452 4.5.3"},
		{"mailbox full", []string{"RCPT => 552 5.2.2 Full"}, "552 5.2.2, 552 5.2.2, 552 5.2.2"},
		{"DATA refused", []string{"DATA => 554 5.5.1 No valid recipients"}, "554 5.5.1, 554 5.5.1, 554 5.5.1"},
		{"DATA refused for now", []string{"DATA => 451 Later"}, "-, -, -, at envelope"},
		{"250 to DATA", []string{"DATA => 250 Ok"}, "451 4.5.0, 451 4.5.0, 451 4.5.0"},
		{"message refused", []string{". => 554 5.7.1 Spam"}, "554 5.7.1, 554 5.7.1, 554 5.7.1"},
		{"message refused for now", []string{". => 450-4.7.1 a\r\n450 4.7.1 b"}, "450 4.7.1, 450 4.7.1, 450 4.7.1"},
		{"421 to the message is an answer", []string{". => 421 4.3.2 Bye"}, "421 4.3.2, 421 4.3.2, 421 4.3.2"},
		{"hangs up after the message", []string{". => close"}, "-, -, -, at body, unsure"},
		{"354 to the message", []string{". => 354 Go on"}, "-, -, -, at body, unsure"},
		{"too large, as it says", []string{"EHLO => 250-mx\r\n250 SIZE 19"}, "552 5.3.4, 552 5.3.4, 552 5.3.4"},
		{"silent", []string{"MAIL => text:"}, "-, -, -, at envelope"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, nil, tc.script...)
			c := client()
			if tc.name == "silent" {
				c.Times.Command = 50 * time.Millisecond
			}
			out := c.Send(t.Context(), Host{Name: "mx", Addr: s.addr}, message("a@x.example", "b@x.example", "c@x.example"))
			if got := flat(out); got != tc.want {
				t.Errorf("got %s (%v), want %s", got, out.Err, tc.want)
			}
		})
	}
}

func TestWhatAServerCannotTake(t *testing.T) {
	s := serve(t, nil, "EHLO => 250 mx")
	for want, change := range map[string]func(*Message){
		"554 5.6.3": func(m *Message) { m.EightBit = true },
		"550 5.6.7": func(m *Message) { m.UTF8 = true },
	} {
		m := message("a@x.example")
		change(m)
		out := client().Send(t.Context(), Host{Name: "mx", Addr: s.addr}, m)
		if got := flat(out); got != want || !out.Replies[0].Local || out.DSN {
			t.Errorf("got %s, %+v; want %s", got, out, want)
		}
	}
	for _, said := range s.conversations() {
		if said != "EHLO mail.example.org" {
			t.Errorf("said %q", said)
		}
	}
}

// failing gives some bytes and then an error.
func failing() io.Reader {
	return io.MultiReader(strings.NewReader("Subject: half\r\n"), errReader{})
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("disk is broken") }

func TestHalfABodyHasNoEnd(t *testing.T) {
	s := serve(t, nil)
	m := message("a@x.example")
	m.Body = failing()
	out := client().Send(t.Context(), Host{Name: "mx", Addr: s.addr}, m)
	if flat(out) != "-, at body" || !strings.Contains(out.Err.Error(), "disk is broken") {
		t.Errorf("outcome %+v", out)
	}
	for _, said := range s.conversations() {
		if strings.HasSuffix(said, ".\r\n") {
			t.Errorf("half a message was ended: %q", said)
		}
	}
}

// certified gives a server's TLS for mx.example.org, and the pool that knows its CA.
func certified(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	files := mtlstest.NewCA(t).Node(t, "mx")
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(files.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &tls.Config{Certificates: []tls.Certificate{cert}}, roots
}

func TestTLS(t *testing.T) {
	config, roots := certified(t)
	offer := "EHLO => 250-mx\r\n250 STARTTLS"
	for _, tc := range []struct {
		name   string
		script []string
		host   Host
		want   string
		state  string
		dials  int
	}{
		{"offered, nobody checks", []string{offer}, Host{Name: "other.example"}, "250 2.0.0", "TLS 1.3", 1},
		{"verified", []string{offer}, Host{Name: "mx.example.org", Verify: true, Roots: roots}, "250 2.0.0", "TLS 1.3, verified", 1},
		{"another name", []string{offer}, Host{Name: "other.example", Verify: true, Roots: roots}, "-, at tls", "", 1},
		{"unknown CA", []string{offer}, Host{Name: "mx.example.org", Verify: true}, "-, at tls", "", 1},
		{"not offered, and wanted", nil, Host{Name: "mx.example.org", Verify: true, Roots: roots}, "-, at tls", "", 1},
		{"refused, and wanted", []string{offer, "STARTTLS => 454 4.7.0 Not now"}, Host{Name: "mx.example.org", Verify: true, Roots: roots}, "-, at tls", "", 1},
		{"refused, done without", []string{offer, "STARTTLS => 454 4.7.0 Not now"}, Host{Name: "mx"}, "250 2.0.0", "", 2},
		{"words in its mouth", []string{offer, "STARTTLS => 220 Go on\r\n250 mx"}, Host{Name: "mx", Verify: true, Roots: roots}, "-, at tls", "", 1},
		{"breaks the handshake, done without", []string{offer, "STARTTLS => text:220 Go\r\n"}, Host{Name: "mx"}, "250 2.0.0", "", 2},
		{"login", []string{offer}, Host{Name: "mx.example.org", Verify: true, Roots: roots, User: "u", Password: "secret"}, "250 2.0.0", "TLS 1.3, verified", 1},
		{"wrong password", []string{offer, "AUTH => 535 5.7.8 No"}, Host{Name: "mx.example.org", Verify: true, Roots: roots, User: "u", Password: "secret"}, "-, at login", "", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, config, tc.script...)
			tc.host.Addr = s.addr
			c := client()
			c.Times.Command = 500 * time.Millisecond // of the handshake that never ends
			out := c.Send(t.Context(), tc.host, message("a@x.example"))
			if got := flat(out); got != tc.want || out.State != tc.state || len(s.conversations()) != tc.dials {
				t.Errorf("got %s (%v) by %q in %d connections; want %s by %q in %d", got, out.Err, out.State, len(s.conversations()), tc.want, tc.state, tc.dials)
			}
			if out.Err != nil && strings.Contains(out.Err.Error(), "secret") {
				t.Errorf("the password is in %q", out.Err)
			}
		})
	}
	t.Run("no login in clear", func(t *testing.T) {
		s := serve(t, config, offer)
		out := client().Send(t.Context(), Host{Name: "mx", Addr: s.addr, User: "u", Password: "secret"}, message("a@x.example"))
		if flat(out) != "-, at login" || strings.Contains(strings.Join(s.conversations(), ""), "AUTH") {
			t.Errorf("outcome %+v, said %q", out, s.conversations())
		}
	})
}

func TestCancelEndsAConversation(t *testing.T) {
	s := serve(t, nil, "MAIL => text:")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	c := client()
	c.Times.Command = time.Minute
	start := time.Now()
	if out := c.Send(ctx, Host{Name: "mx", Addr: s.addr}, message("a@x.example")); out.Err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("after %v: %+v", time.Since(start), out)
	}
}

func FuzzReply(f *testing.F) {
	f.Add("250-a\r\n250 2.0.0 b\r\n")
	f.Add("550 5.1.1 No\r\n")
	f.Add("354\n")
	f.Fuzz(func(t *testing.T, text string) {
		reply, lines, err := readReply(bufio.NewReaderSize(strings.NewReader(text), maxReplyLine))
		if err != nil {
			return
		}
		if reply.Code < 200 || reply.Code > 599 || len(lines) == 0 || strings.ContainsAny(reply.String(), "\r\n") || len(reply.Text) > maxReplyText+3 {
			t.Errorf("%q gives %+v", text, reply)
		}
	})
}
