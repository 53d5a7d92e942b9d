package imapd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/store"
	"anycastle/mailroles/tally"
)

const (
	user    = "alice@example.org"
	maxSize = 100_000 // of a message
	hello   = "Subject: hello\r\n\r\nHello.\r\n"
)

// site is a server on loopback, with a store.
type site struct {
	t      testing.TB
	server *Server
	mail   *store.Store
	box    *store.Mailbox
	dir    *directory.Directory
	boxes  string // the mailboxes file
	tally  tally.Tally
	addr   string
	client *tls.Config
	log    panicLog
	stop   func() // ends the server, and waits
}

// panicLog looks for panics, which the library survives and logs.
type panicLog struct{ seen atomic.Pointer[string] }

// Write implements io.Writer.
func (l *panicLog) Write(p []byte) (int, error) {
	if text := string(p); strings.Contains(text, "panic ") {
		l.seen.Store(&text)
	}
	return len(p), nil
}

func (l *panicLog) check(t testing.TB) {
	if text := l.seen.Swap(nil); text != nil {
		t.Errorf("server panics: %s", *text)
	}
}

// newSite runs a server that change may have altered.
func newSite(t testing.TB, change func(*Server)) *site {
	t.Helper()
	s := &site{t: t, boxes: filepath.Join(t.TempDir(), "mailboxes.yml")}
	s.assign("lun-east", "")
	var err error
	if s.dir, err = directory.Open(directory.Config{File: s.boxes}, []string{"lun-east", "lun-west"}, nil); err != nil {
		t.Fatal(err)
	}
	if s.mail, err = store.Open(t.TempDir(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.mail.Close() })
	if s.box, err = s.mail.Mailbox(user); err != nil {
		t.Fatal(err)
	}
	link, err := mtls.Load(mtlstest.NewCA(t).Node(t, "node"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.client = link.Client()
	s.client.ServerName = "127.0.0.1"
	s.server = NewServer(Options{
		LUN: "lun-east", Directory: s.dir, Mail: s.mail, LinkTLS: link.Server(), MaxSize: maxSize, MaxSessions: 100,
		Log: slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Tally: &s.tally,
	})
	t.Cleanup(func() { s.log.check(t) })
	if change != nil {
		change(s.server)
	}
	s.run()
	return s
}

func (s *site) run() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.server.Run(ctx, ln) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("run: %v", err)
		}
	})
	s.t.Cleanup(s.stop)
}

// assign writes the directory's file: the user's mail is on lun. more are further keys.
func (s *site) assign(lun, more string) {
	s.t.Helper()
	salt := []byte("saltsaltsaltsalt")
	b64 := base64.RawStdEncoding.EncodeToString
	hash := "$argon2id$v=19$m=8,t=1,p=1$" + b64(salt) + "$" + b64(argon2.IDKey([]byte("x"), salt, 1, 8, 1, 32))
	text := fmt.Sprintf("mailboxes:\n  - {address: %s, password: %q, lun: %s%s}\n", user, hash, lun, more)
	if err := os.WriteFile(s.boxes, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// put delivers messages.
func (s *site) put(texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		if _, err := s.box.Deliver(store.Incoming{Body: strings.NewReader(text), Size: int64(len(text))}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// stored gives the texts of a folder's messages.
func (s *site) stored(name string) []string {
	s.t.Helper()
	f, err := s.box.Folder(name)
	if err != nil {
		s.t.Fatal(err)
	}
	var texts []string
	for _, m := range f.Snapshot().Messages {
		file, err := f.Open(m.UID)
		if err != nil {
			s.t.Fatal(err)
		}
		text := make([]byte, m.Size)
		_, err = file.ReadAt(text, 0)
		file.Close()
		if err != nil && m.Size > 0 {
			s.t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

// talk is a session by hand.
type talk struct {
	t    testing.TB
	conn net.Conn
	br   *bufio.Reader
}

// connect opens a session as a front end does.
func (s *site) connect() *talk {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.addr, s.client)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	k := &talk{t: s.t, conn: conn, br: bufio.NewReader(conn)}
	k.expect("* OK")
	return k
}

// login opens the user's session.
func (s *site) login() *talk {
	s.t.Helper()
	k := s.connect()
	k.write("login AUTHENTICATE EXTERNAL " + base64.StdEncoding.EncodeToString([]byte(user)) + "\r\n")
	k.expect("login OK")
	return k
}

// selected opens the user's session and INBOX.
func (s *site) selected() *talk {
	s.t.Helper()
	k := s.login()
	k.ask("sel SELECT INBOX", "sel OK")
	return k
}

// patience is how long the server may be silent, or take nothing, however much it is asked for in all.
const patience = 20 * time.Second

func (k *talk) write(text string) {
	k.t.Helper()
	if err := k.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		k.t.Fatal(err)
	}
	if _, err := k.conn.Write([]byte(text)); err != nil {
		k.t.Fatal(err)
	}
}

func (k *talk) line() (string, error) {
	if err := k.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	line, err := k.br.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// expect reads lines up to one that starts with prefix, and gives that one.
func (k *talk) expect(prefix string) string {
	k.t.Helper()
	lines := k.until(prefix)
	return lines[len(lines)-1]
}

// until reads lines up to one that starts with prefix, and gives all.
func (k *talk) until(prefix string) []string {
	k.t.Helper()
	var seen []string
	for {
		line, err := k.line()
		if err != nil {
			k.t.Fatalf("want %q: %v after %q", prefix, err, seen)
		}
		if seen = append(seen, line); strings.HasPrefix(line, prefix) {
			return seen
		}
	}
}

// ask sends a command and gives the lines before its answer, which must start with want.
func (k *talk) ask(command, want string) []string {
	k.t.Helper()
	tag, _, _ := strings.Cut(command, " ")
	k.write(command + "\r\n")
	lines := k.until(tag + " ")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, want) {
		k.t.Fatalf("%.200s: %s, want %s", command, last, want)
	}
	return lines[:len(lines)-1]
}

// ended reads to the end of the session, and gives what was said.
func (k *talk) ended() []string {
	k.t.Helper()
	var seen []string
	for {
		line, err := k.line()
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				k.t.Fatal("session goes on")
			}
			return seen
		}
		seen = append(seen, line)
	}
}

// gone waits until the server has no session.
func (s *site) gone() {
	s.t.Helper()
	s.wait("the sessions' end", func() bool { return s.tally.Counts().Sessions == 0 })
}

func (s *site) wait(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.After(15 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("waited in vain for %s", what)
		}
	}
}
