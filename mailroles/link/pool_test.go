package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
)

// fakeStore is an LMTP server that does as it is told.
type fakeStore struct {
	t        *testing.T
	ln       net.Listener
	material *mtls.Material
	pool     *Pool
	addr     netip.AddrPort
	open     sync.WaitGroup

	mu      sync.Mutex
	conns   []net.Conn        // all that there ever were
	said    []string          // all commands
	bodies  []string          // those that came whole
	answers map[string]string // to commands that begin so, other than the usual; "" hangs up
	once    map[string]string // the same, for the first such command
}

func newFakeStore(t *testing.T) *fakeStore {
	t.Helper()
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "node"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeStore{t: t, material: material, ln: tls.NewListener(ln, material.Server()), answers: map[string]string{}, once: map[string]string{}}
	s.addr = netip.MustParseAddrPort(ln.Addr().String())
	s.pool = NewPool("mx.example.org", material.ClientOfAny(), slog.New(slog.DiscardHandler))
	s.open.Go(func() { s.accept(s.ln) })
	t.Cleanup(func() {
		s.pool.Close()
		s.ln.Close()
		s.open.Wait()
	})
	return s
}

func (s *fakeStore) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		s.open.Go(func() { s.serve(conn) })
	}
}

func (s *fakeStore) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	taken, begun := 0, false
	fmt.Fprint(conn, "220 store\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		answer := s.answer(line)
		if answer == "" {
			return
		}
		if line == "DATA" && taken == 0 {
			answer = "503 5.5.1 no recipients"
		}
		fmt.Fprint(conn, answer+"\r\n")
		switch {
		case strings.HasPrefix(line, "MAIL"):
			taken, begun = 0, answer[0] == '2'
		case strings.HasPrefix(line, "RCPT") && begun && answer[0] == '2':
			taken++
		case line == "DATA" && answer[0] == '3' && !s.body(conn, r, taken):
			return
		}
	}
}

// answer takes a command down and gives what is said to it.
func (s *fakeStore) answer(line string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, line)
	for begin, answer := range s.once {
		if strings.HasPrefix(line, begin) {
			delete(s.once, begin)
			return answer
		}
	}
	for begin, answer := range s.answers {
		if strings.HasPrefix(line, begin) {
			return answer
		}
	}
	switch {
	case strings.HasPrefix(line, "LHLO"):
		return "250-store\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 SMTPUTF8"
	case line == "DATA":
		return "354 go"
	}
	return "250 2.0.0 ok"
}

// body reads a message; it is false when the connection has to end.
func (s *fakeStore) body(conn net.Conn, r *bufio.Reader, taken int) bool {
	var text strings.Builder
	for !strings.HasSuffix("\r\n"+text.String(), "\r\n.\r\n") {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		text.WriteString(line)
	}
	s.mu.Lock()
	s.bodies = append(s.bodies, strings.TrimSuffix(text.String(), ".\r\n"))
	s.mu.Unlock()
	for i := range taken {
		answer := s.answer(fmt.Sprintf("(reply %d)", i))
		if answer == "" {
			return false
		}
		fmt.Fprint(conn, answer+"\r\n")
	}
	return true
}

func (s *fakeStore) set(begin, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[begin] = answer
}

func (s *fakeStore) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

func (s *fakeStore) count() (conns, bodies int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), len(s.bodies)
}

// names makes recipients.
func names(list ...string) (to []Recipient) {
	for _, n := range list {
		to = append(to, Recipient{Address: n + "@example.org"})
	}
	return to
}

func message(body string) Message {
	return Message{From: "x@example.org", Head: "Received: now\r\n", Body: func() io.Reader { return strings.NewReader(body) }}
}

// codes sums results up: 250 for none, the refusal's code, or 0 for what is not known.
func codes(results []error) (list []int) {
	for _, err := range results {
		var refusal *smtp.SMTPError
		switch {
		case err == nil:
			list = append(list, 250)
		case errors.As(err, &refusal):
			list = append(list, refusal.Code)
		default:
			list = append(list, 0)
		}
	}
	return list
}

func (s *fakeStore) deliver(want string, to ...string) {
	s.t.Helper()
	results := s.pool.Deliver(s.t.Context(), s.addr, message("Subject: x\r\n\r\n.\r\n"), names(to...))
	if got := fmt.Sprint(codes(results)); got != want {
		s.t.Errorf("delivery to %v gave %s, want %s", to, got, want)
	}
}

func (s *fakeStore) ask(want string, to ...string) {
	s.t.Helper()
	if got := fmt.Sprint(codes(s.pool.Ask(s.t.Context(), s.addr, message(""), names(to...)))); got != want {
		s.t.Errorf("asking for %v gave %s, want %s", to, got, want)
	}
}

func TestConnectionsAreReused(t *testing.T) {
	s := newFakeStore(t)
	s.ask("[250 250]", "alice", "bob")
	s.deliver("[250 250]", "alice", "bob")
	s.deliver("[250]", "alice")
	s.ask("[250]", "alice")
	if conns, bodies := s.count(); conns != 1 || bodies != 2 {
		t.Errorf("%d connections carried %d messages, want 1 and 2", conns, bodies)
	}
	if s.bodies[0] != "Received: now\r\nSubject: x\r\n\r\n..\r\n" {
		t.Errorf("the store got %q", s.bodies[0])
	}
}

func TestEachRecipientHasItsResult(t *testing.T) {
	s := newFakeStore(t)
	s.set("RCPT TO:<full@", "452 4.2.2 over quota")
	s.set("RCPT TO:<gone@", "550 5.1.1 no such mailbox")
	s.ask("[250 452 550]", "alice", "full", "gone")
	s.set("(reply 1)", "552 5.3.4 too large")
	s.deliver("[550 250 452 552]", "gone", "alice", "full", "bob")
	s.set("DATA", "503 5.5.1 no recipients")
	s.deliver("[550 452]", "gone", "full")
	s.set("DATA", "354 go")
	s.set("(reply 1)", "250 2.0.0 ok")
	s.deliver("[250]", "alice") // the transaction that ended without a body is gone
	s.set("MAIL", "451 4.3.0 not now")
	s.set("DATA", "503 5.5.1 no sender")
	s.deliver("[451 451]", "alice", "bob")
	if conns, _ := s.count(); conns != 1 {
		t.Errorf("refusals took %d connections, want 1", conns)
	}
	s.set("MAIL", "250 ok")
	var refusal *smtp.SMTPError
	results := s.pool.Ask(t.Context(), s.addr, message(""), names("full"))
	if !errors.As(results[0], &refusal) || refusal.EnhancedCode != (smtp.EnhancedCode{4, 2, 2}) || refusal.Message != "over quota" {
		t.Errorf("refusal came as %#v", results[0])
	}
}

func TestManyRecipientsAreSplit(t *testing.T) {
	s := newFakeStore(t)
	s.set("RCPT TO:<n149@", "452 4.2.2 over quota")
	var to []string
	for i := range 250 {
		to = append(to, fmt.Sprintf("n%d", i))
	}
	results := s.pool.Deliver(t.Context(), s.addr, message("Subject: x\r\n\r\n"), names(to...))
	for i, code := range codes(results) {
		if want := map[bool]int{true: 452, false: 250}[i == 149]; code != want {
			t.Errorf("recipient %d: %d, want %d", i, code, want)
		}
	}
	if _, bodies := s.count(); bodies != 3 || len(results) != 250 {
		t.Errorf("%d transactions and %d results, want 3 and 250", bodies, len(results))
	}
}

func TestStaleConnectionIsReplaced(t *testing.T) {
	s := newFakeStore(t)
	s.ask("[250]", "alice")
	s.hangUp()
	s.deliver("[250]", "alice")
	if conns, bodies := s.count(); conns != 2 || bodies != 1 {
		t.Errorf("%d connections carried %d messages, want 2 and 1", conns, bodies)
	}
	// a store that ends says so to the first command
	s.pool.retryTime = 0
	s.set("MAIL", "421 4.3.2 ending")
	s.deliver("[0]", "alice")
	if conns, _ := s.count(); conns != 3 {
		t.Errorf("%d connections, want one more after 421, and no third try", conns)
	}
	s.set("MAIL", "250 ok")
	s.deliver("[250]", "alice")
}

func TestMessageIsSentOnceWhenNoTimeIsLeft(t *testing.T) {
	s := newFakeStore(t)
	s.pool.retryTime = 0
	s.ask("[250]", "alice")
	s.set("(reply 1)", "")
	s.deliver("[250 0 0]", "alice", "bob", "carol") // alice has it; of the others nobody knows
	if conns, bodies := s.count(); conns != 1 || bodies != 1 {
		t.Errorf("%d connections carried %d messages, want 1 and 1", conns, bodies)
	}
	s.deliver("[250]", "alice")
	if conns, _ := s.count(); conns != 2 {
		t.Errorf("%d connections, want 2: the broken one must not be used again", conns)
	}
}

// broken is a body that cannot be read to its end.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("disk") }

func TestBodyThatCannotBeReadIsNotEnded(t *testing.T) {
	s := newFakeStore(t)
	m := message("")
	m.Body = func() io.Reader { return io.MultiReader(strings.NewReader("Subject: x\r\n\r\nhalf\r\n"), broken{}) }
	if got := codes(s.pool.Deliver(t.Context(), s.addr, m, names("alice"))); got[0] != 0 {
		t.Errorf("result is %d, want one that says nothing", got[0])
	}
	if conns, _ := s.count(); conns != 1 {
		t.Errorf("%d connections, want 1: trying again is of no use", conns)
	}
	s.deliver("[250]", "alice")
	if conns, bodies := s.count(); conns != 2 || bodies != 1 {
		t.Errorf("%d connections carried %d whole messages, want 2 and 1", conns, bodies)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	s := newFakeStore(t)
	s.pool.retryTime = 0 // a try that a slow machine has take seconds is not given up for one with another connection
	var group sync.WaitGroup
	for range 4 * maxConns {
		group.Go(func() { s.deliver("[250]", "alice") })
	}
	group.Wait()
	if conns, bodies := s.count(); conns > maxConns || bodies != 4*maxConns {
		t.Errorf("%d connections carried %d messages, want at most %d and %d", conns, bodies, maxConns, 4*maxConns)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	s := newFakeStore(t)
	for range maxConns {
		if _, err := s.pool.take(t.Context(), s.addr); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if results := s.pool.Ask(ctx, s.addr, message(""), names("alice")); !errors.Is(results[0], context.DeadlineExceeded) {
		t.Errorf("waiting ended with %v", results[0])
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	s := newFakeStore(t)
	s.ask("[250]", "alice")
	to := s.pool.peers[s.addr]
	c := to.idle[0]
	s.pool.expire(to, c) // what its timer does
	if _, err := c.Write([]byte("NOOP\r\n")); !errors.Is(err, net.ErrClosed) || len(to.idle) != 0 {
		t.Errorf("an idle connection is still open: %v", err)
	}
	s.pool.expire(to, c)
	if !c.idle.Stop() {
		t.Error("no timer ran for the idle connection")
	}
	s.ask("[250]", "alice")
	c = to.idle[0]
	s.pool.Close()
	if _, err := c.Write([]byte("NOOP\r\n")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed pool has an open connection: %v", err)
	}
	if results := s.pool.Ask(t.Context(), s.addr, message(""), names("alice")); !errors.Is(results[0], ErrClosed) {
		t.Errorf("a closed pool answers %v", results[0])
	}
}

func TestServerThatIsNoStoreIsRefused(t *testing.T) {
	s := newFakeStore(t)
	s.set("LHLO", "250-store\r\n250 PIPELINING")
	s.deliver("[0]", "alice")
	if results := s.pool.Ask(t.Context(), s.addr, message(""), names("alice")); !errors.Is(results[0], errNoOffer) {
		t.Errorf("asking gave %v", results[0])
	}
}
