package milter

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/spool"
)

// fake is a milter that does what its script says. It hears every command.
type fake struct {
	version, actions, flags uint32
	// script gives what is written when a command has come; nil for no more answers. gone ends the connection after it.
	script func(code byte, data []byte) (say []byte, gone bool)

	mu    sync.Mutex
	heard []string // "C unknown 4 0 192.0.2.7", macros as "{C} j=mx"
	conns int
}

func newFake(script func(code byte, data []byte) ([]byte, bool)) *fake {
	return &fake{version: 6, actions: 0x7f, script: script}
}

// obliging goes on at each step.
func obliging(code byte, _ []byte) ([]byte, bool) {
	if code == cmdMacro || code == cmdAbort || code == cmdQuit {
		return nil, code == cmdQuit
	}
	return packet(ansContinue), false
}

// on answers one command with packets, and obliges at the others.
func on(command byte, say ...[]byte) func(byte, []byte) ([]byte, bool) {
	return func(code byte, data []byte) ([]byte, bool) {
		if code == command {
			return slices.Concat(say...), false
		}
		return obliging(code, data)
	}
}

func packet(code byte, parts ...string) []byte {
	data := strings.Join(parts, "")
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(data)))
	return append(append(b, code), data...)
}

func number(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

// options is the answer to the offer.
func (f *fake) options() []byte {
	return packet(cmdOptions, number(f.version), number(f.actions), number(f.flags))
}

// dial connects to the fake.
func (f *fake) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	f.mu.Lock()
	f.conns++
	f.mu.Unlock()
	go f.serve(far)
	return near, nil
}

// serve answers one connection.
func (f *fake) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		p := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(r, p); err != nil {
			return
		}
		f.note(p[0], p[1:])
		say, gone := f.script(p[0], p[1:])
		if p[0] == cmdOptions && say != nil && string(say) == string(packet(ansContinue)) {
			say = f.options()
		}
		if len(say) > 0 {
			if _, err := c.Write(say); err != nil {
				return
			}
		}
		if gone {
			return
		}
	}
}

func (f *fake) note(code byte, data []byte) {
	text := strings.ReplaceAll(strings.TrimSuffix(string(data), "\x00"), "\x00", "|")
	switch code {
	case cmdMacro:
		text = fmt.Sprintf("{%c} %s", text[0], text[1:])
	case cmdOptions:
		text = "O"
	case cmdBody:
		text = fmt.Sprintf("B %d", len(data))
	default:
		text = strings.TrimSpace(string(code) + " " + text)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, text)
}

// commands are the codes of what was heard, without macros.
func (f *fake) commands() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, h := range f.heard {
		if h[0] != '{' {
			b.WriteByte(h[0])
		}
	}
	return b.String()
}

func (f *fake) said() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.heard)
}

// chainOf makes a chain of fakes called m1, m2...; their time-out is a minute.
func chainOf(edit func(*Config), fakes ...*fake) *Chain {
	var list []Config
	for i := range fakes {
		c := Config{Timeout: time.Minute, OnFailure: Tempfail}
		c.Name, c.Addr = fmt.Sprintf("m%d", i+1), fmt.Sprintf("192.0.2.1:%d", i+1)
		if edit != nil {
			edit(&c)
		}
		list = append(list, c)
	}
	return New(list, Options{
		Hostname: "mx.example.org", Daemon: "smtp", MaxSize: 1 << 20, Log: slog.New(slog.DiscardHandler),
		dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, _ := strings.Cut(addr, ":")
			return fakes[port[0]-'1'].dial(ctx, network, addr)
		},
	})
}

// letter is what the tests send, unless they say otherwise.
const letter = "Received: from here\r\n\tby there\r\nSubject:  two spaces\r\nsubject: another\r\nX-Note: caf\xe9\r\n\r\nHello,\r\nworld.\r\n"

func newEnvelope(t testing.TB, head, body string) *smtpd.Envelope {
	t.Helper()
	kept, err := spool.Fill(t.TempDir(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	env := &smtpd.Envelope{
		Client: smtpd.Client{Addr: netip.MustParseAddr("192.0.2.7"), Helo: "client.example"},
		From:   "x@example.net",
		Head:   head,
		Body:   kept,
	}
	t.Cleanup(func() { env.Body.Close() })
	return env
}

// whole gives the message of an envelope as it would be delivered.
func whole(t testing.TB, env *smtpd.Envelope) string {
	t.Helper()
	text, err := io.ReadAll(env.Body.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return env.Head + string(text)
}

// openSession begins a session with a client.
func openSession(t testing.TB, c *Chain) smtpd.Filtering {
	t.Helper()
	s, err := c.Open(t.Context(), smtpd.Client{Addr: netip.MustParseAddr("192.0.2.7"), Helo: "client.example"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// transact takes an envelope through a session, to a@example.org and b@example.org, and says which call refused it.
func transact(ctx context.Context, s smtpd.Filtering, env *smtpd.Envelope) (call string, err error) {
	defer s.Reset()
	if err := s.Mail(ctx, env); err != nil {
		return "mail", err
	}
	for _, a := range []string{"a@example.org", "b@example.org"} {
		to := smtpd.Recipient{Address: a}
		if err := s.Rcpt(ctx, env, to); err != nil {
			return "rcpt", err
		}
		env.To = append(env.To, to)
	}
	return "message", s.Message(ctx, env)
}
