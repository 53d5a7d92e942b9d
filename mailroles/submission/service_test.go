package submission

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/xdg-go/scram"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/internal/proctest"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/link"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/tally"
	"anycastle/mailroles/throttle"
)

const (
	alice    = "alice@example.org" // on lun-east
	bob      = "bob@example.org"   // on lun-west
	staff    = "staff@example.org" // an alias of both
	board    = "board@example.org" // a group that takes no mail from either
	password = "correct horse \"battery\" \u00bd staple"
	// asciiPassword is as good, for clients that know no other letters
	asciiPassword = "correct horse battery staple"
)

// people is a Directory of two users and an alias. alice may send as sales@example.net too.
type people struct {
	keys directory.Keys
	err  error // what it says to all questions, if it is not nil
	hash func(s string) bool
}

func newPeople(t *testing.T) *people {
	t.Helper()
	client, err := scram.SHA256.NewClient(alice, password, "")
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "saltsalt", Iters: 4096})
	if err != nil {
		t.Fatal(err)
	}
	return &people{
		keys: directory.Keys{Salt: []byte("saltsalt"), Iterations: 4096, StoredKey: made.StoredKey, ServerKey: made.ServerKey},
		hash: func(s string) bool { return s == password || s == asciiPassword },
	}
}

func (p *people) Authenticate(ctx context.Context, user, password string) (directory.Mailbox, error) {
	m, err := p.Mailbox(ctx, user)
	if errors.Is(err, directory.ErrUnknown) || err == nil && !p.hash(password) {
		return directory.Mailbox{}, directory.ErrLogin
	}
	return m, err
}

func (p *people) HasKeys() bool { return true }

func (p *people) SCRAM(_ context.Context, user string) (directory.Keys, error) {
	if p.err != nil {
		return directory.Keys{}, p.err
	}
	if user != alice {
		none := make([]byte, 32)
		return directory.Keys{Salt: []byte("fakefake"), Iterations: 4096, StoredKey: none, ServerKey: none}, directory.ErrLogin
	}
	return p.keys, nil
}

func (p *people) Mailbox(_ context.Context, address string) (directory.Mailbox, error) {
	lun, ok := map[string]string{alice: "lun-east", bob: "lun-west"}[strings.ToLower(address)]
	if p.err != nil {
		return directory.Mailbox{}, p.err
	}
	if !ok {
		return directory.Mailbox{}, directory.ErrUnknown
	}
	return directory.Mailbox{Address: strings.ToLower(address), LUN: lun}, nil
}

func (p *people) ResolveFrom(ctx context.Context, _, address string) ([]directory.Mailbox, error) {
	if address == board {
		return nil, directory.ErrSender
	}
	if address != staff {
		m, err := p.Mailbox(ctx, address)
		return []directory.Mailbox{m}, err
	}
	a, _ := p.Mailbox(ctx, alice)
	b, err := p.Mailbox(ctx, bob)
	return []directory.Mailbox{a, b}, err
}

func (p *people) MaySend(_ context.Context, m directory.Mailbox, from string) (bool, error) {
	from = strings.ToLower(from)
	return from == m.Address || m.Address == alice && from == "sales@example.net", p.err
}

func (p *people) Local(_ context.Context, domain string) (bool, error) {
	return strings.ToLower(domain) == "example.org", p.err
}

// handed is what a Store was given.
type handed struct {
	addr netip.AddrPort
	link.Message
	to   []link.Recipient
	text string
}

// notes is a Store that keeps what it is given.
type notes struct {
	mu    sync.Mutex
	all   []handed
	asked int
	say   func(addr netip.AddrPort, to link.Recipient) error // nil: all is well
}

func (n *notes) answer(addr netip.AddrPort, to []link.Recipient) []error {
	results := make([]error, len(to))
	for i, r := range to {
		if n.say != nil {
			results[i] = n.say(addr, r)
		}
	}
	return results
}

func (n *notes) Ask(_ context.Context, addr netip.AddrPort, _ link.Message, to []link.Recipient) []error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	return n.answer(addr, to)
}

func (n *notes) Deliver(_ context.Context, addr netip.AddrPort, m link.Message, to []link.Recipient) []error {
	body, err := io.ReadAll(m.Body())
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		return []error{err}
	}
	n.all = append(n.all, handed{addr, m, to, m.Head + string(body)})
	return n.answer(addr, to)
}

// at gives what was handed to an address, and forgets it.
func (n *notes) at(t *testing.T, addr netip.AddrPort) handed {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, h := range n.all {
		if h.addr == addr {
			n.all = append(n.all[:i], n.all[i+1:]...)
			return h
		}
	}
	t.Fatalf("nothing was handed to %s", addr)
	return handed{}
}

var luns = map[string]LUN{
	"lun-east": {LMTP: netip.MustParseAddrPort("192.0.2.1:2424"), Queue: netip.MustParseAddrPort("192.0.2.1:2425")},
	"lun-west": {LMTP: netip.MustParseAddrPort("192.0.2.2:2424"), Queue: netip.MustParseAddrPort("192.0.2.2:2425")},
}

// service is a submission service on loopback.
type service struct {
	t          *testing.T
	plain, tls string // where it listens, with STARTTLS and with TLS from the first byte
	ca         string // file
	store      notes
	people     *people
	handler    *Handler
	login      *Login
	log        proctest.Transcript
	tally      tally.Tally
}

func newService(t *testing.T, change func(*Config)) *service {
	t.Helper()
	var c Config
	c.SetDefaults()
	c.MaxSize = 1 << 20
	if change != nil {
		change(&c)
	}
	files := mtlstest.NewCA(t).Node(t, "node")
	material, err := mtls.Load(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, ca: files.CA, people: newPeople(t)}
	log := slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.handler, err = NewHandler(c, Options{Hostname: "mx.example.org", Directory: s.people, Store: &s.store, LUNs: luns, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	s.login = &Login{Directory: s.people, Throttle: &throttle.Logins{}, SCRAM: c.SCRAM}
	server := smtpd.NewServer(smtpd.Options{
		Hostname: "mx.example.org", PublicTLS: material.Public(),
		MaxSize: c.MaxSize, MaxSessions: c.MaxSessions, MaxRcpts: c.MaxRecipients,
		Handler: s.handler, Judge: s.handler, Auth: s.login, DSN: true, Log: log, Tally: &s.tally,
	})
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	plain, secure := listen(), listen()
	s.plain, s.tls = plain.Addr().String(), secure.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, plain, smtpd.ImplicitTLS(secure)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// dial opens a session over TLS, in which nobody is logged in.
func (s *service) dial() *smtp.Client {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.tls, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	c := smtp.NewClient(conn)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// as opens a session in which a user is logged in.
func (s *service) as(user string) *smtp.Client {
	s.t.Helper()
	c := s.dial()
	if err := c.Auth(sasl.NewPlainClient("", user, password)); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// expect checks an error for a reply; code 0 means none.
func expect(t *testing.T, what string, err error, code int, enhanced smtp.EnhancedCode) {
	t.Helper()
	var reply *smtp.SMTPError
	switch {
	case code == 0 && err != nil:
		t.Errorf("%s: %v", what, err)
	case code != 0 && (!errors.As(err, &reply) || reply.Code != code || reply.EnhancedCode != enhanced):
		t.Errorf("%s: %v, want %d %v", what, err, code, enhanced)
	}
}

const greeting = "From: Alice <alice@example.org>\r\nTo: undisclosed-recipients:;\r\nSubject: hello\r\n" +
	"Date: Fri, 21 Nov 1997 09:55:06 -0600\r\nMessage-ID: <1@example.org>\r\n\r\nHello.\r\n"
