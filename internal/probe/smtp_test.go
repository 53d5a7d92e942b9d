package probe

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// mailbox is a session of an SMTP server that knows one recipient and takes nothing.
type mailbox struct {
	t    *testing.T
	from string
}

func (m *mailbox) Mail(from string, _ *smtp.MailOptions) error { m.from = from; return nil }

func (m *mailbox) Rcpt(to string, _ *smtp.RcptOptions) error {
	if m.from != "" {
		m.t.Errorf("the probe's mail is from %q", m.from)
	}
	if to != "postmaster@example.org" {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	return nil
}

func (m *mailbox) Data(io.Reader) error {
	m.t.Error("the probe sends a message")
	return errors.New("not taken")
}

func (*mailbox) Reset()        {}
func (*mailbox) Logout() error { return nil }

// startSMTP runs the library's server.
func startSMTP(t *testing.T, conf *tls.Config, lmtp, implicit bool) netip.AddrPort {
	t.Helper()
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailbox{t: t}, nil }))
	s.Domain, s.LMTP, s.TLSConfig, s.ErrorLog = "mx.example.org", lmtp, conf, log.New(io.Discard, "", 0)
	ln, addr := listen(t, "127.0.0.1:0")
	if implicit {
		ln, s.TLSConfig = tls.NewListener(ln, conf), nil
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(ln) })
	t.Cleanup(func() { s.Close(); serving.Wait() })
	return addr
}

func TestSMTP(t *testing.T) {
	conf, files := certificates(t)
	verified := Config{TLS: "starttls", CA: files.CA, ServerName: "mx.example.org"}
	for name, tc := range map[string]struct {
		lmtp, implicit, noTLS bool
		config                Config
		want                  string
	}{
		"plain":                 {config: Config{}},
		"recipient":             {config: Config{Rcpt: "postmaster@example.org"}},
		"no recipient":          {config: Config{Rcpt: "nobody@example.org"}, want: "RCPT TO:<nobody@example.org> 550 5.1.1 no such user, want 250"},
		"STARTTLS":              {config: verified},
		"STARTTLS, recipient":   {config: Config{TLS: "starttls", Insecure: true, Rcpt: "postmaster@example.org"}},
		"STARTTLS, name":        {config: Config{TLS: "starttls", CA: files.CA, ServerName: "example.org"}, want: "handshake: tls: failed to verify certificate: x509: certificate is valid for mx.example.org, not example.org"},
		"STARTTLS, expires":     {config: Config{TLS: "starttls", Insecure: true, MinValidity: 2 * time.Hour}, want: `handshake: certificate of "CN=mx" expires`},
		"STARTTLS not offered":  {noTLS: true, config: verified, want: "STARTTLS is not offered"},
		"implicit TLS":          {implicit: true, config: Config{TLS: "implicit", CA: files.CA, ServerName: "mx.example.org", Rcpt: "postmaster@example.org"}},
		"implicit TLS to plain": {config: Config{TLS: "implicit", Insecure: true}, want: "handshake: tls: first record does not look like a TLS handshake"},
		"LMTP":                  {lmtp: true, config: Config{Type: "lmtp", Rcpt: "postmaster@example.org"}},
		"LMTP, no recipient":    {lmtp: true, config: Config{Type: "lmtp", Rcpt: "nobody@example.org"}, want: "RCPT TO:<nobody@example.org> 550 5.1.1 no such user, want 250"},
		"LMTP, STARTTLS":        {lmtp: true, config: Config{Type: "lmtp", TLS: "starttls", Insecure: true}},
		"LMTP to SMTP":          {config: Config{Type: "lmtp"}, want: "LHLO 500 5.5.1 This is not a LMTP server, want 250"},
		"SMTP to LMTP":          {lmtp: true, config: Config{}, want: "EHLO 500 5.5.1 This is a LMTP server, use LHLO, want 250"},
	} {
		t.Run(name, func(t *testing.T) {
			serverTLS := conf
			if tc.noTLS {
				serverTLS = nil
			}
			addr := startSMTP(t, serverTLS, tc.lmtp, tc.implicit)
			cfg := tc.config
			cfg.Timeout = long
			if cfg.Type == "" {
				cfg.Type = "smtp"
			}
			_, err := try(t.Context(), t, cfg, addr)
			wants(t, err, cfg, addr, tc.want)
		})
	}
}

func TestSMTPReplies(t *testing.T) {
	conf, _ := certificates(t)
	ehlo := []string{">220 mx.example.org", "<EHLO [127.0.0.1]", ">250-mx.example.org", ">250-starttls", ">250 SIZE"}
	rcpt := Config{Rcpt: "postmaster@example.org"}
	start := Config{TLS: "starttls", Insecure: true}
	with := func(more ...string) []string { return append(ehlo[:len(ehlo):len(ehlo)], more...) }
	for name, tc := range map[string]struct {
		config Config
		lines  []string
		want   string
	}{
		"banner of several lines": {Config{}, with("<QUIT", ">221 bye"), ""},
		"banner 554":              {Config{}, []string{">554 5.3.2 no service"}, "banner 554 5.3.2 no service, want 220"},
		"banner 220 later":        {Config{}, []string{">220-one", ">554 two"}, "banner: a reply that begins with 220 and goes on with 554"},
		"banner is none":          {Config{}, []string{">SSH-2.0-OpenSSH"}, `banner: "SSH-2.0-OpenSSH" is no reply`},
		"code alone":              {Config{}, []string{">220", "<EHLO", ">250", "<QUIT", "END"}, ""},
		"EHLO refused":            {Config{}, []string{">220 x", "<EHLO", ">502 no"}, "EHLO 502 no, want 250"},
		"QUIT unanswered":         {Config{}, with("<QUIT", "END"), ""},
		"STARTTLS":                {start, with("<STARTTLS", ">220 go", "TLS", "<EHLO", ">250 x", "<QUIT", "END"), ""},
		"STARTTLS refused":        {start, with("<STARTTLS", ">454 4.7.0 later"), "STARTTLS 454 4.7.0 later, want 220"},
		"STARTTLS with more":      {start, with("<STARTTLS", ">220 go\r\n250 injected"), "14 bytes in clear after the reply to STARTTLS"},
		"EHLO in TLS":             {start, with("<STARTTLS", ">220 go", "TLS", "<EHLO", ">421 x"), "EHLO in TLS 421 x, want 250"},
		"recipient":               {rcpt, with("<MAIL FROM:<>", ">250 x", "<RCPT TO:<postmaster@example.org>", ">251 moved", "<RSET", ">250 x", "<QUIT", ">221 x"), ""},
		"greylisted":              {rcpt, with("<MAIL FROM:<>", ">250 x", "<RCPT TO:<postmaster@example.org>", ">451 4.7.1 later"), "RCPT TO:<postmaster@example.org> 451 4.7.1 later, want 250"},
		"sender refused":          {rcpt, with("<MAIL FROM:<>", ">452 4.3.1 disk full"), "MAIL FROM:<> 452 4.3.1 disk full, want 250"},
		"RSET refused":            {rcpt, with("<MAIL", ">250 x", "<RCPT", ">250 x", "<RSET", ">500 x"), "RSET 500 x, want 250"},
		"closed at RCPT":          {rcpt, with("<MAIL FROM:<>", ">250 x", "<\x00"), "RCPT TO:<postmaster@example.org>: "},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, script(conf, tc.lines...))
			cfg := tc.config
			cfg.Type, cfg.Timeout = "smtp", long
			_, err := try(t.Context(), t, cfg, addr)
			wants(t, err, cfg, addr, tc.want)
		})
	}
}

// A probe leaves in good order: QUIT is said and its answer read before the connection is reset.
func TestSMTPSaysQuit(t *testing.T) {
	said := make(chan string, 1)
	addr := serve(t, func(c net.Conn) {
		script(nil, ">220 x", "<EHLO", ">250 x")(&quitter{Conn: c, said: said})
	})
	if _, err := try(t.Context(), t, Config{Type: "smtp", Timeout: long}, addr); err != nil {
		t.Fatal(err)
	}
	if got := <-said; got != "QUIT\r\n" {
		t.Errorf("the last that the target hears is %q, want QUIT", got)
	}
}

// quitter answers QUIT and tells what it heard last.
type quitter struct {
	net.Conn
	said chan string
	last []byte
}

func (q *quitter) Read(p []byte) (int, error) {
	n, err := q.Conn.Read(p)
	if n > 0 {
		q.last = bytes.Clone(p[:n])
		if bytes.HasPrefix(q.last, []byte("QUIT")) {
			io.WriteString(q.Conn, "221 bye\r\n")
		}
	}
	if err != nil {
		q.said <- string(q.last)
	}
	return n, err
}

// The deadline holds within TLS as well, and whoever drips is no faster there.
func TestSMTPHangsInTLS(t *testing.T) {
	conf, _ := certificates(t)
	for name, more := range map[string][]string{"hangs": nil, "half a line": {">250-"}} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, script(conf, append([]string{">220 x", "<EHLO", ">250-x", ">250 STARTTLS", "<STARTTLS", ">220 go", "TLS", "<EHLO"}, more...)...))
			cfg := Config{Type: "smtp", TLS: "starttls", Insecure: true, Timeout: 3 * time.Second}
			_, err := try(t.Context(), t, cfg, addr)
			wants(t, err, cfg, addr, "EHLO in TLS: no answer within 3s")
		})
	}
}

func TestAddressLiteral(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:25": "[192.0.2.1]", "[2001:db8::1]:25": "[IPv6:2001:db8::1]", "[fe80::1%eth0]:25": "[IPv6:fe80::1]",
		"[::ffff:192.0.2.1]:25": "[192.0.2.1]",
	} {
		if got := addressLiteral(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))); got != want {
			t.Errorf("%s is written %s, want %s", addr, got, want)
		}
	}
}

func FuzzSMTPReply(f *testing.F) {
	for _, seed := range []string{"220 x\r\n", "220\r\n", "250-a\r\n250-STARTTLS\r\n250 b\n", "250-a\r\n251 b\r\n", "999 x\r\n", "22", "\r\n",
		strings.Repeat("250-x\r\n", 200), strings.Repeat("2", 5000)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		source := bytes.NewReader(in)
		s := &smtpTalk{&talk{in: bufio.NewReaderSize(source, maxLine), left: maxTalk}}
		r, err := s.reply()
		if used := len(in) - source.Len(); used > maxTalk+2*maxLine {
			t.Errorf("%d bytes are read for a reply", used)
		}
		if err != nil {
			return
		}
		if r.code < 200 || r.code > 599 || len(r.lines) == 0 || len(r.lines) > maxReplyLines {
			t.Errorf("%q is read as %+v", in, r)
		}
		r.offers("STARTTLS")
		// what was read is what stands there
		if !bytes.HasPrefix(in, []byte(r.String()[:3])) || !bytes.Contains(in, []byte(r.lines[0])) {
			t.Errorf("%q is read as %v", in, r)
		}
	})
}
