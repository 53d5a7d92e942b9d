package imapfront

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/mailroles/accept"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/tally"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

const (
	alice  = "alice@example.org"
	secret = "sesame"
)

// book is a directory that a test changes.
type book struct {
	mu      sync.Mutex
	luns    map[string]string // of each mailbox
	err     error             // of every look-up by address
	changed chan struct{}
}

func newBook() *book {
	return &book{luns: map[string]string{alice: "lun-east"}, changed: make(chan struct{})}
}

func (b *book) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *book) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *book) Mailbox(_ context.Context, address string) (directory.Mailbox, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lun, ok := b.luns[address]
	switch {
	case b.err != nil:
		return directory.Mailbox{}, b.err
	case !ok:
		return directory.Mailbox{}, directory.ErrUnknown
	}
	return directory.Mailbox{Address: address, LUN: lun}, nil
}

func (b *book) Authenticate(_ context.Context, user, password string) (directory.Mailbox, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lun, ok := b.luns[user]
	if !ok || password != secret {
		return directory.Mailbox{}, directory.ErrLogin
	}
	return directory.Mailbox{Address: user, LUN: lun}, nil
}

// side is one end of a session, by hand.
type side struct {
	t     testing.TB
	conn  *tls.Conn
	br    *bufio.Reader
	from  string // a client's address, as a store hears it
	state string // of the session that comes to a store from another
}

func newSide(t testing.TB, conn *tls.Conn) *side {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &side{t: t, conn: conn, br: bufio.NewReader(conn), from: conn.RemoteAddr().String()}
}

func (s *side) write(text string) {
	s.t.Helper()
	s.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(s.conn, text); err != nil {
		s.t.Fatal(err)
	}
}

// expect reads exactly this.
func (s *side) expect(text string) {
	s.t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(s.br, got); err != nil || string(got) != text {
		s.t.Fatalf("read %.300q, %v; want %.300q", got[:n], err, text)
	}
}

// over reads to the end, and gives what there was.
func (s *side) over() string {
	s.t.Helper()
	text, err := io.ReadAll(s.br)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		s.t.Fatalf("the session goes on after %q", text)
	}
	return string(text)
}

// silent makes sure that nothing comes for a while.
func (s *side) silent() {
	s.t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if b, err := s.br.Peek(1); err == nil {
		rest, _ := s.br.Peek(s.br.Buffered())
		s.t.Fatalf("%q%q came, and nothing should", b, rest)
	}
	// a buffered reader keeps its error
	s.br = bufio.NewReader(s.conn)
	s.conn.SetReadDeadline(time.Now().Add(patience))
}

// stores serves a LUN: each session comes out of the channel as it is after login.
func stores(t testing.TB, config *tls.Config, greet func(*side) error) (netip.AddrPort, <-chan *side) {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := accept.Linked(raw, func(_ net.Addr, err error) { t.Error(err) })
	sessions := make(chan *side, 16)
	var serving sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	serving.Go(func() {
		_ = accept.Loop(ctx, ln, func(conn net.Conn) {
			serving.Go(func() {
				s := newSide(t, tls.Server(conn, config))
				t.Cleanup(func() { s.conn.Close() })
				if greet(s) == nil {
					sessions <- s
				}
			})
		})
	})
	t.Cleanup(func() { cancel(); ln.Close(); serving.Wait() })
	return netip.MustParseAddrPort(raw.Addr().String()), sessions
}

// greet takes the front end's login.
func greet(s *side) error {
	if _, err := io.WriteString(s.conn, "* OK store\r\n"); err != nil {
		return err
	}
	line, err := s.br.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "front AUTHENTICATE EXTERNAL ") {
		return fmt.Errorf("login is %q: %v", line, err)
	}
	s.from = s.conn.RemoteAddr().String()
	_, err = io.WriteString(s.conn, "front OK [CAPABILITY IMAP4rev1] logged in\r\n")
	return err
}

// rig is a front end before two LUNs.
type rig struct {
	t      testing.TB
	book   *book
	tally  tally.Tally
	server *Server
	addr   string
	stores map[string]<-chan *side
	stop   func() // ends Run, and does not wait
	done   chan error
}

func newRig(t testing.TB, change func(*Options), greeting ...func(*side) error) *rig {
	t.Helper()
	greeting = append(greeting, greet)
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "node"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, book: newBook(), stores: map[string]<-chan *side{}, done: make(chan error, 1)}
	opt := Options{
		Directory: r.book, Changed: r.book.Changed, LUNs: map[string]netip.AddrPort{},
		PublicTLS: material.Public(), LinkTLS: material.ClientOfAny(),
		MaxSessions: 100, Log: slog.New(slog.DiscardHandler), Tally: &r.tally,
	}
	for _, lun := range []string{"lun-east", "lun-west"} {
		opt.LUNs[lun], r.stores[lun] = stores(t, material.Server(), greeting[0])
	}
	if change != nil {
		change(&opt)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	ended := make(chan struct{})
	r.server = NewServer(opt)
	go func() {
		defer close(ended)
		r.done <- r.server.Run(ctx, Listener{Listener: ln, TLS: true})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return r
}

// connect reads the greeting.
func (r *rig) connect() *side {
	r.t.Helper()
	conn, err := tls.Dial("tcp", r.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	s := newSide(r.t, conn)
	if line, err := s.br.ReadString('\n'); err != nil || !strings.HasPrefix(line, "* OK ") {
		r.t.Fatalf("greeting is %q, %v", line, err)
	}
	return s
}

// login logs alice in, and gives both ends of the session.
func (r *rig) login(lun string) (client, store *side) {
	r.t.Helper()
	client = r.connect()
	client.write("l LOGIN " + alice + " " + secret + "\r\n")
	client.expect("l OK [CAPABILITY IMAP4rev1] logged in\r\n")
	return client, r.session(lun)
}

// session gives the store's end of a session that has begun.
func (r *rig) session(lun string) *side {
	r.t.Helper()
	select {
	case s := <-r.stores[lun]:
		return s
	case <-time.After(patience):
		r.t.Fatalf("no session at %s", lun)
		return nil
	}
}

// ended waits for the end of Run.
func (r *rig) ended() {
	r.t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		if err != nil {
			r.t.Error(err)
		}
	case <-time.After(patience):
		r.t.Error("Run goes on")
	}
}
