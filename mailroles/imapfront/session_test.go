package imapfront

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/mailroles/tally"
)

// script is a connection whose client says what is written down, and then closes.
type script struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4242} }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(203, 0, 113, 10), Port: 143} }

// FuzzSession has a client say anything before its login. No store is reached, so the session goes on after a login.
func FuzzSession(f *testing.F) {
	for _, text := range []string{
		"a CAPABILITY\r\nb NOOP\r\nc ID (\"name\" \"x\")\r\nd LOGOUT\r\n",
		"a LOGIN " + alice + " " + secret + "\r\nb LOGIN " + alice + " wrong\r\n",
		"a LOGIN {17+}\r\n" + alice + " {6}\r\n" + secret + "\r\n",
		"a AUTHENTICATE PLAIN\r\nAHgAeQ==\r\nb AUTHENTICATE PLAIN =\r\nc AUTHENTICATE PLAIN *\r\n",
		"a AUTHENTICATE LOGIN\r\neA==\r\neQ==\r\nb AUTHENTICATE LOGIN eA==\r\n*\r\n",
		"a STARTTLS\r\nb NOOP\r\n",
		"\r\n a\r\na\r\na b c\r\n" + strings.Repeat("x", 9000),
	} {
		f.Add([]byte(text), true)
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, secure bool) {
		var counts tally.Tally
		s := NewServer(Options{Directory: newBook(), PublicTLS: &tls.Config{}, Log: slog.New(slog.DiscardHandler), Tally: &counts})
		conn := &script{in: bytes.NewReader(text)}
		store, _ := newSession(s, conn, secure).untilLogin(t.Context())
		if store != nil {
			t.Fatal("somebody is at a store that is not there")
		}
		if !secure && counts.Counts().Rejects["password"]+counts.Counts().Rejects["unavailable"] > 0 {
			t.Fatal("a password was looked at without TLS")
		}
		said, _, _ := strings.Cut(conn.out.String(), "OK Begin TLS\r\n")
		lines := strings.SplitAfter(said, "\r\n")
		if last := lines[len(lines)-1]; last != "" && last != said && !strings.HasPrefix(last, "* ") && len(last) > 66 {
			t.Fatalf("it ends in %q", last)
		}
		for _, line := range lines[:len(lines)-1] {
			if strings.ContainsAny(strings.TrimSuffix(line, "\r\n"), "\r\n\x00") || !strings.Contains(line, " ") {
				t.Fatalf("reply %q", line)
			}
		}
		if most := 3*bytes.Count(text, []byte{'\n'}) + 3; len(lines) > most {
			t.Fatalf("%d lines in reply to %q", len(lines), text)
		}
		ended := strings.Contains(said, "* BYE") || strings.Contains(conn.out.String(), "Begin TLS")
		if _, err := conn.in.ReadByte(); err == nil && !ended {
			t.Fatalf("the session ended before the client did, with %q", said)
		}
	})
}

// TestHandshakeThatNeverEnds has clients of a TLS port say nothing, or a part of what a handshake begins with.
func TestHandshakeThatNeverEnds(t *testing.T) {
	for name, said := range map[string]string{"nothing": "", "a part": "\x16\x03\x01\x02\x00\x01"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var counts tally.Tally
				s := NewServer(Options{Directory: newBook(), Log: slog.New(slog.DiscardHandler), Tally: &counts})
				client, conn := net.Pipe()
				defer client.Close()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_, _ = newSession(s, tls.Server(conn, &tls.Config{}), true).untilLogin(t.Context())
				}()
				if _, err := io.WriteString(client, said); err != nil {
					t.Fatal(err)
				}
				select {
				case <-ended:
				case <-time.After(loginTime + time.Second):
					t.Errorf("the session goes on after %v", loginTime)
					conn.Close()
					<-ended
				}
			})
		})
	}
}
