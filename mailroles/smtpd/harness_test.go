package smtpd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"anycastle/internal/proctest"
	"anycastle/mailroles/tally"
)

// recorder is a Handler that keeps what it is given.
type recorder struct {
	rcpt    func(Recipient) error            // nil: takes all
	deliver func(*Envelope) map[string]error // nil: has it for all

	mu   sync.Mutex
	got  []string   // bodies with their heads
	envs []Envelope // of the same
}

// recorderTx is a message on its way into a recorder.
type recorderTx struct {
	*recorder
	env *Envelope
}

func (r *recorder) Begin(_ context.Context, env *Envelope) (Transaction, error) {
	return recorderTx{r, env}, nil
}

func (r recorderTx) Rcpt(_ context.Context, to Recipient) error {
	if r.rcpt == nil {
		return nil
	}
	return r.rcpt(to)
}

func (r recorderTx) Deliver(context.Context) map[string]error {
	if r.recorder.deliver != nil {
		return r.recorder.deliver(r.env)
	}
	text, err := io.ReadAll(r.env.Body.Reader())
	results := map[string]error{}
	for _, to := range r.env.To {
		results[to.Address] = err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got, r.envs = append(r.got, r.env.Head+string(text)), append(r.envs, *r.env)
	return results
}

func (r recorderTx) Close() {}

// all gives what was delivered.
func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.got...)
}

// taker is a Handler that takes everything.
type taker struct{}

func (taker) Begin(context.Context, *Envelope) (Transaction, error) { return taker{}, nil }

func (taker) Rcpt(context.Context, Recipient) error { return nil }

func (taker) Deliver(context.Context) map[string]error { return nil }

func (taker) Close() {}

// testServer is a Server for connections that a test makes.
type testServer struct {
	*Server
	*recorder
	log *proctest.Transcript
}

func newTestServer(change func(*Options)) testServer {
	s := testServer{recorder: &recorder{}, log: &proctest.Transcript{}}
	opt := Options{
		Hostname:    "mx.example.org",
		MaxSize:     1 << 20,
		MaxSessions: 10,
		Handler:     s.recorder,
		Log:         slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Tally:       &tally.Tally{},
	}
	if change != nil {
		change(&opt)
	}
	s.Server = NewServer(opt)
	s.Server.deliver = context.Background()
	return s
}

// client is a conversation by hand.
type client struct {
	*textproto.Conn
	t   *testing.T
	raw net.Conn
}

// dial begins a session on a pipe; secure is for TLS from the first byte.
func (s testServer) dial(t *testing.T, secure bool) *client {
	t.Helper()
	near, far := net.Pipe()
	return s.begin(t, near, far, secure)
}

// dialTCP is dial over loopback, which ends as a network does.
func (s testServer) dialTCP(t *testing.T) *client {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return s.begin(t, near, far, false)
}

// begin has the far end of a connection served.
func (s testServer) begin(t *testing.T, near, far net.Conn, secure bool) *client {
	t.Helper()
	g := s.guard(far)
	if g == nil {
		t.Fatal("too many sessions")
	}
	g.secure = secure
	s.open.Go(func() { s.serve(t.Context(), g) })
	t.Cleanup(func() { near.Close() })
	return &client{textproto.NewConn(near), t, near}
}

// hello begins a session and gets as far as EHLO's reply, which it gives.
func (s testServer) hello(t *testing.T) (*client, string) {
	t.Helper()
	c := s.dial(t, false)
	c.expect(220)
	return c, c.say(250, "EHLO client.example.org")
}

func (c *client) expect(code int) string {
	c.t.Helper()
	_, text, err := c.ReadResponse(code)
	if err != nil {
		c.t.Fatalf("want reply %d: %v", code, err)
	}
	return text
}

// say sends lines in one piece, and expects one reply. It gives its text.
func (c *client) say(code int, lines string) string {
	c.t.Helper()
	c.write(lines + "\r\n")
	return c.expect(code)
}

// write sends from beside, since a pipe has no room and the server answers in between.
func (c *client) write(text string) {
	go io.WriteString(c.raw, text)
}

// over goes on with the conversation on another connection.
func (c *client) over(conn net.Conn) { c.raw, c.Conn = conn, textproto.NewConn(conn) }

func (c *client) envelope(to ...string) {
	c.t.Helper()
	c.say(250, "MAIL FROM:<x@example.org>")
	for _, a := range to {
		c.say(250, "RCPT TO:<"+a+">")
	}
}

// data sends a message and gives the reply to it.
func (c *client) data(code int, text string) string {
	c.t.Helper()
	c.say(354, "DATA")
	return c.say(code, text+".")
}

// gone expects the end of the conversation.
func (c *client) gone() {
	c.t.Helper()
	if line, err := c.ReadLine(); err != io.EOF && err != io.ErrClosedPipe {
		c.t.Errorf("conversation goes on: %q, %v", line, err)
	}
}

// hops is a header that has been through n servers.
func hops(n int) string {
	return strings.Repeat("Received: from a by b; now\r\n", n)
}

func (s testServer) expectMail(t *testing.T, want ...string) {
	t.Helper()
	if got := s.all(); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("delivered %q, want %q", got, want)
	}
}
