package smtpd

import (
	"crypto/tls"
	"io"
	"log/slog"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
)

// newTLSServer is a server that offers STARTTLS.
func newTLSServer(t *testing.T) testServer {
	t.Helper()
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "node"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return newTestServer(func(o *Options) { o.PublicTLS = material.Public() })
}

// secure goes on under TLS after STARTTLS.
func (c *client) secure() {
	c.t.Helper()
	conn := tls.Client(c.raw, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.over(conn)
}

func TestClientThatSpeaksLikeAServer(t *testing.T) {
	for _, tc := range []struct {
		name  string
		greet bool
	}{{"before EHLO", false}, {"after EHLO", true}} {
		t.Run(tc.name, func(t *testing.T) {
			s := newTLSServer(t)
			c := s.dialTCP(t)
			c.expect(220)
			if tc.greet {
				c.say(250, "EHLO client.example.org")
			}
			c.say(220, "STARTTLS")
			c.secure()
			if err := c.raw.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			// what the server says after a chunk of BDAT
			if _, err := io.WriteString(c.raw, "250 2.0.0 Continue\r\n"); err != nil {
				t.Fatal(err)
			}
			c.expect(501)
			c.say(221, "QUIT")
			s.open.Wait()
		})
	}
}

func TestSTARTTLSWithinABody(t *testing.T) {
	s := newTLSServer(t)
	c := s.dialTCP(t)
	c.expect(220)
	c.say(250, "EHLO client.example.org")
	c.envelope("a@example.org")
	c.say(250, "BDAT 14\r\nSubject: x\r\n")
	c.say(220, "STARTTLS")
	c.secure()
	if err := c.raw.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c.expect(421)
	c.gone()
	s.open.Wait()
	s.expectMail(t)
}
