package imapd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// pipes is a listener whose connections are in memory.
type pipes struct {
	conns  chan net.Conn
	closed context.Context
	close  context.CancelFunc
}

func newPipes() *pipes {
	ctx, cancel := context.WithCancel(context.Background())
	return &pipes{conns: make(chan net.Conn), closed: ctx, close: cancel}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed.Done():
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close()
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial gives the client's end of a new connection.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// FuzzSession sends whatever it likes to a server, after login. The server must neither hang nor lose step, and store
// only messages that came whole.
func FuzzSession(f *testing.F) {
	for _, text := range []string{
		"a SELECT INBOX\r\nb FETCH 1:* (FLAGS BODY[])\r\nc LOGOUT\r\n",
		"a APPEND INBOX {5}\r\nhello\r\nb APPEND INBOX {5+}\r\nhello\r\nc SELECT INBOX\r\nd IDLE\r\ndone\r\n",
		"a APPEND INBOX UTF8 (~{5+}\r\nhello)\r\nb APPEND INBOX {5+}\r\nhello {3+}\r\nabc\r\nc NOOP\r\n",
		"a APPEND INBOX {5} \r\nhello\r\nb LIST \"\" {005+} \r\nhello\r\n",
		"a APPEND INBOX {500+}\r\nhello\r\n", "a APPEND {5+}\r\nINBOX {99999999999+}\r\n", "a LIST \"\" {5000+}\r\nx\r\n",
		"a SELECT INBOX\r\nb UID SEARCH RETURN (SAVE) OR SUBJECT x NOT TEXT {3+}\r\nabc\r\nc FETCH $ ALL\r\nd IDLE\r\nx\r\n",
		"a ENABLE IMAP4rev2\r\nb STATUS INBOX (MESSAGES)\r\nc LIST (SUBSCRIBED) \"\" (% *) RETURN (STATUS (SIZE))\r\n",
		"a CREATE \"x\r\n\" \r\nb ID NIL\r\nc\r\n\r\n* NOOP\r\n", "a SELECT INBOX\r\nb STORE 1 +FLAGS (k \\Deleted)\r\nc CLOSE\r\n",
	} {
		f.Add([]byte(text))
	}
	s := newSite(f, func(s *Server) { s.opt.Grace = 100 * time.Millisecond })
	p := newPipes()
	ctx, cancel := context.WithCancel(context.Background())
	server := NewServer(s.server.opt)
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, p) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Errorf("run: %v", err)
		}
	})
	f.Fuzz(func(t *testing.T, input []byte) {
		s.t = t
		said := s.converse(t, tls.Client(p.dial(), s.client), input)
		checkLines(t, input, said)
		s.checkStored(input)
		s.log.check(t)
	})
}

// converse logs in, sends the input, and gives all that is answered until the session ends.
func (s *site) converse(t *testing.T, conn *tls.Conn, input []byte) []byte {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		// a session that has ended takes no more
		_, _ = fmt.Fprintf(conn, "login AUTHENTICATE EXTERNAL %s\r\n%s", base64.StdEncoding.EncodeToString([]byte(user)), input)
		_ = conn.CloseWrite()
	}()
	said, err := io.ReadAll(conn)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Fatalf("session hangs after %q", said)
	}
	conn.Close()
	<-sent
	_, said, ok := bytes.Cut(said, []byte("\r\nlogin OK "))
	if !ok {
		t.Fatal("no login")
	}
	return said
}

// checkLines holds the tags of answers against those of the input's lines.
func checkLines(t *testing.T, input, said []byte) {
	lines := strings.Split(string(said), "\r\n")[1:] // behind the login's
	tags := []string{"*", "+"}
	for _, line := range strings.Split(string(input), "\n") {
		tag, _, _ := strings.Cut(line, " ")
		tags = append(tags, strings.TrimSuffix(tag, "\r"))
	}
	skip := 0 // bytes of literals
	for _, line := range lines {
		if skip > 0 {
			if skip -= len(line) + 2; skip >= 0 {
				continue
			}
			line = line[len(line)+skip+2:]
			skip = 0
		} else if tag, _, _ := strings.Cut(line, " "); line != "" && !slices.Contains(tags, tag) {
			t.Fatalf("answer out of step: %q in %q", line, said)
		}
		if a := announcement([]byte(line)); a != nil && strings.HasPrefix(line, "* ") {
			skip = int(a.size)
		}
	}
}

// checkStored finds each stored message in the input, whole and with a command's end behind it; and starts anew.
func (s *site) checkStored(input []byte) {
	t := s.t
	folders, err := s.box.Folders()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range folders {
		for _, text := range s.stored(name) {
			whole := false
			announced := regexp.MustCompile(fmt.Sprintf(`\{0*%d\+?\} ?\r?\n`, len(text)))
			for _, at := range announced.FindAllIndex(input, -1) {
				rest, ok := bytes.CutPrefix(input[at[1]:], []byte(text))
				end := strings.TrimLeft(string(rest[:min(len(rest), 4)]), " )\r")
				whole = whole || ok && strings.HasPrefix(end, "\n")
			}
			if !whole {
				t.Fatalf("folder %s holds %q, which did not come whole", name, text)
			}
		}
		if name != "INBOX" {
			if err := s.box.Delete(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.empty()
}

func (s *site) empty() {
	f, err := s.box.Folder("INBOX")
	if err != nil {
		s.t.Fatal(err)
	}
	var uids []uint32
	for _, m := range f.Snapshot().Messages {
		uids = append(uids, m.UID)
	}
	err = f.SetFlags(uids, deleteAll)
	if err == nil {
		err = f.Expunge(func(uint32) bool { return true })
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
