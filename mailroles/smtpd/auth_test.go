package smtpd

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/xdg-go/scram"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/tally"
)

const (
	user   = "alice@example.org"
	secret = "p\u00e4ss IX" // as it is compared; typed it may look otherwise
)

// people is an Auth that knows one user.
type people struct {
	block chan struct{} // closed when a check has begun that does not end by itself; nil: checks end
	err   error
	keys  Keys
}

func newPeople(t *testing.T) *people {
	t.Helper()
	client, err := scram.SHA256.NewClient(user, secret, "")
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt", Iters: 4096})
	if err != nil {
		t.Fatal(err)
	}
	return &people{keys: Keys{
		Address: user, Salt: []byte("salt"), Iterations: 4096, StoredKey: made.StoredKey, ServerKey: made.ServerKey,
	}}
}

func (p *people) Mechanisms() []string { return []string{SCRAM, Plain, Login} }

func (p *people) Password(ctx context.Context, _ netip.Addr, name, password string) (string, error) {
	if p.block != nil {
		close(p.block)
		<-ctx.Done()
		return "", ctx.Err()
	}
	if p.err != nil {
		return "", p.err
	}
	if form, _ := Prepare(password); name != user || form != secret {
		return "", directory.ErrLogin
	}
	return user, nil
}

func (p *people) Keys(_ context.Context, name string) (Keys, error) {
	if name != user {
		return Keys{Salt: []byte("fake"), Iterations: 4096, StoredKey: make([]byte, 32), ServerKey: make([]byte, 32)}, p.err
	}
	return p.keys, p.err
}

func (p *people) Prove(_ context.Context, _ netip.Addr, _ string, verify func() error) error {
	return errors.Join(p.err, verify())
}

// authServer serves with an Auth.
func authServer(t *testing.T, auth Auth, implicit bool) (addr string, server *Server) {
	t.Helper()
	return handlerServer(t, auth, taker{}, implicit)
}

func handlerServer(t *testing.T, auth Auth, handler Handler, implicit bool) (addr string, server *Server) {
	t.Helper()
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "node"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server = NewServer(Options{
		Hostname: "mx.example.org", PublicTLS: material.Public(), MaxSize: 1 << 20, MaxSessions: 10,
		Handler: handler, Auth: auth, Log: slog.New(slog.DiscardHandler), Tally: &tally.Tally{},
	})
	if implicit {
		ln = ImplicitTLS(ln)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String(), server
}

func dialTLS(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// scramClient makes a sasl.Client of the library's own.
type scramClient struct{ talk *scram.ClientConversation }

func newSCRAMClient(t *testing.T, name, password, identity string) sasl.Client {
	t.Helper()
	client, err := scram.SHA256.NewClient(name, password, identity)
	if err != nil {
		t.Fatal(err)
	}
	return &scramClient{client.NewConversation()}
}

func (c *scramClient) Start() (string, []byte, error) {
	first, err := c.talk.Step("")
	return SCRAM, []byte(first), err
}

func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	response, err := c.talk.Step(string(challenge))
	return []byte(response), err
}

func TestLogins(t *testing.T) {
	for _, tc := range []struct {
		name   string
		client sasl.Client
		code   int // 0 for a login
	}{
		{"plain", sasl.NewPlainClient("", user, secret), 0},
		{"plain, own identity", sasl.NewPlainClient(user, user, secret), 0},
		{"plain, other forms of the same letters", sasl.NewPlainClient("", user, "pa\u0308ss\u00a0I\u00adX"), 0},
		{"plain, another's identity", sasl.NewPlainClient("bob@example.org", user, secret), 535},
		{"plain, wrong password", sasl.NewPlainClient("", user, "wrong"), 535},
		{"plain, no password", sasl.NewPlainClient("", user, ""), 535},
		{"plain, forbidden character", sasl.NewPlainClient("", user, secret+"\x07"), 535},
		{"plain, long password", sasl.NewPlainClient("", user, strings.Repeat("x", maxSecret+1)), 535},
		{"plain, no UTF-8", sasl.NewPlainClient("", user, "p\xe4ss IX"), 535},
		{"plain, malformed", sasl.NewPlainClient("", user, secret+"\x00more"), 501},
		{"login", sasl.NewLoginClient(user, secret), 0},
		{"login, wrong password", sasl.NewLoginClient(user, "wrong"), 535},
		{"scram", newSCRAMClient(t, user, secret, ""), 0},
		{"scram, own identity", newSCRAMClient(t, user, secret, user), 0},
		{"scram, another's identity", newSCRAMClient(t, user, secret, "bob@example.org"), 535},
		{"scram, wrong password", newSCRAMClient(t, user, "wrong", ""), 535},
		{"scram, unknown user", newSCRAMClient(t, "bob@example.org", secret, ""), 535},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr, server := authServer(t, newPeople(t), true)
			c := smtp.NewClient(dialTLS(t, addr))
			defer c.Close()
			err := c.Auth(tc.client)
			var reply *smtp.SMTPError
			switch {
			case tc.code == 0 && err != nil:
				t.Errorf("login: %v", err)
			case tc.code != 0 && (!errors.As(err, &reply) || reply.Code != tc.code):
				t.Errorf("got %v, want %d", err, tc.code)
			}
			if err := c.Auth(sasl.NewLoginClient(user, secret)); tc.code == 0 && (!errors.As(err, &reply) || reply.Code != 503) {
				t.Errorf("second login: %v, want 503", err)
			}
			if n := server.opt.Tally.Counts().Rejects["login"]; tc.code == 535 && n == 0 {
				t.Error("the refusal was not counted")
			}
		})
	}
}

// script sends lines and expects a reply code after each.
func script(t *testing.T, conn net.Conn, steps ...any) {
	t.Helper()
	c := textproto.NewConn(conn)
	for i := 0; i < len(steps); i += 2 {
		line, code := steps[i].(string), steps[i+1].(int)
		if line != "" {
			if err := c.PrintfLine("%s", line); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := c.ReadResponse(code); err != nil {
			t.Fatalf("%q: want %d: %v", line, code, err)
		}
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestLoginIsOfferedOverTLSOnly(t *testing.T) {
	addr, _ := authServer(t, newPeople(t), false)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := smtp.NewClient(conn)
	defer c.Close()
	if ok, _ := c.Extension("AUTH"); ok {
		t.Error("AUTH is offered in clear")
	}
	var reply *smtp.SMTPError
	if err := c.Auth(sasl.NewPlainClient("", user, secret)); !errors.As(err, &reply) || reply.Code != 523 {
		t.Errorf("AUTH in clear: %v, want 523", err)
	}
	conn, err = net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err = smtp.NewClientStartTLS(conn, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, offered := c.Extension("AUTH")
	if got := strings.Fields(offered); !slices.Equal(got, []string{SCRAM, Plain, Login}) {
		t.Errorf("over TLS %v is offered", got)
	}
	if err := c.Auth(sasl.NewPlainClient("", user, secret)); err != nil {
		t.Error(err)
	}
	addr, _ = authServer(t, nil, true)
	c = smtp.NewClient(dialTLS(t, addr))
	defer c.Close()
	if ok, _ := c.Extension("AUTH"); ok {
		t.Error("AUTH is offered without an Auth")
	}
	if err := c.Auth(sasl.NewPlainClient("", user, secret)); !errors.As(err, &reply) || reply.Code != 502 {
		t.Errorf("AUTH without an Auth: %v, want 502", err)
	}
}

func TestLoginExchanges(t *testing.T) {
	first, last := b64("n,,n="+user+",r=abc"), b64("c=biws,r=abc,p="+b64("no proof"))
	for name, steps := range map[string][]any{
		"unknown mechanism":    {"AUTH CRAM-MD5", 504},
		"no initial response":  {"AUTH PLAIN", 334, b64("\x00" + user + "\x00" + secret), 235},
		"login step by step":   {"AUTH LOGIN", 334, b64(user), 334, b64(secret), 235},
		"given up":             {"AUTH LOGIN", 334, "*", 501, "NOOP", 250},
		"scram step by step":   {"AUTH SCRAM-SHA-256", 334, first, 334, last, 535},
		"scram, nonsense":      {"AUTH SCRAM-SHA-256", 334, b64("nonsense"), 501},
		"scram, given up":      {"AUTH SCRAM-SHA-256 " + first, 334, "*", 501, "NOOP", 250},
		"scram with binding":   {"AUTH SCRAM-SHA-256 " + b64("p=tls-unique,,n="+user+",r=abc"), 501},
		"scram, forbidden":     {"AUTH SCRAM-SHA-256 " + b64("n,,n=\x07,r=abc"), 334, last, 535},
		"in a transaction":     {"MAIL FROM:<x@example.org>", 250, "AUTH PLAIN", 503, "RCPT TO:<y@example.org>", 250},
		"four wrong passwords": {"AUTH PLAIN " + b64("\x00a\x00b"), 535, "AUTH PLAIN " + b64("\x00a\x00b"), 535, "AUTH PLAIN " + b64("\x00a\x00b"), 535, "NOOP", 421},
		"greeted again":        {"AUTH PLAIN " + b64("\x00"+user+"\x00"+secret), 235, "EHLO y", 250, "AUTH PLAIN", 503},
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := authServer(t, newPeople(t), true)
			script(t, dialTLS(t, addr), append([]any{"", 220, "EHLO x", 250}, steps...)...)
		})
	}
}

func TestLoginsSentAheadAreNotAllChecked(t *testing.T) {
	addr, server := authServer(t, newPeople(t), true)
	conn := dialTLS(t, addr)
	script(t, conn, "", 220, "EHLO x", 250)
	if _, err := io.WriteString(conn, strings.Repeat("AUTH PLAIN "+b64("\x00a\x00b")+"\r\n", 50)); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(all), "535 "); n != maxLogins {
		t.Errorf("%d logins were checked, want %d:\n%s", n, maxLogins, all)
	}
	if n := server.opt.Tally.Counts().Rejects["login"]; n != maxLogins {
		t.Errorf("%d refusals were counted, want %d", n, maxLogins)
	}
}

func TestLoginThatCannotBeCheckedIsATemporaryMatter(t *testing.T) {
	for name, client := range map[string]sasl.Client{
		"plain": sasl.NewPlainClient("", user, secret), "login": sasl.NewLoginClient(user, secret), "scram": newSCRAMClient(t, user, secret, ""),
	} {
		p := newPeople(t)
		p.err = errors.New("directory is away")
		addr, _ := authServer(t, p, true)
		c := smtp.NewClient(dialTLS(t, addr))
		defer c.Close()
		var reply *smtp.SMTPError
		if err := c.Auth(client); !errors.As(err, &reply) || reply.Code != 454 || strings.Contains(reply.Message, "directory") {
			t.Errorf("%s: %v, want 454 and no more than that", name, err)
		}
	}
}

func TestEndCutsALoginThatWaits(t *testing.T) {
	p := newPeople(t)
	p.block = make(chan struct{})
	addr, server := authServer(t, p, true)
	conn := dialTLS(t, addr)
	script(t, conn, "", 220, "EHLO x", 250)
	if _, err := io.WriteString(conn, "AUTH PLAIN "+b64("\x00"+user+"\x00"+secret)+"\r\n"); err != nil {
		t.Fatal(err)
	}
	<-p.block
	start := time.Now()
	server.end()
	script(t, conn, "", 454, "", 421)
	if waited := time.Since(start); waited > grace {
		t.Errorf("the end took %v", waited)
	}
}

func TestUserIsToldToTheHandler(t *testing.T) {
	h := &noter{}
	addr, _ := handlerServer(t, newPeople(t), h, true)
	script(t, dialTLS(t, addr), "", 220, "EHLO x", 250, "MAIL FROM:<x@example.org>", 250, "RSET", 250,
		"AUTH PLAIN "+b64("\x00"+user+"\x00"+secret), 235, "MAIL FROM:<x@example.org>", 250)
	if want := []string{"", user}; !slices.Equal(h.users, want) {
		t.Errorf("users of the transactions are %q, want %q", h.users, want)
	}
}

// noter is a Handler that notes who sends.
type noter struct {
	taker
	users []string
}

func (n *noter) Begin(_ context.Context, env *Envelope) (Transaction, error) {
	n.users = append(n.users, env.User)
	return n, nil
}
