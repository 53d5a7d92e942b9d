package queue

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// host is an SMTP server of the world that keeps what it takes.
type host struct {
	*smtp.Server
	rcpt func(to string) error // nil: takes all
	data func(n int) error     // of the n-th message, from 1; nil: takes all

	mu      sync.Mutex
	letters []letter
	bodies  int
}

// serve puts a host at an address of the world.
func (w *world) serve(addr string, change func(*host)) *host {
	w.t.Helper()
	h := &host{}
	h.Server = smtp.NewServer(h)
	h.Domain, h.AllowInsecureAuth, h.EnableSMTPUTF8, h.MaxMessageBytes = "host.example", true, true, 1<<20
	h.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if change != nil {
		change(h)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.Serve(ln) }()
	w.t.Cleanup(func() { h.Close(); <-done })
	w.mu.Lock()
	w.hosts[netip.MustParseAddrPort(addr)] = ln.Addr().String()
	w.mu.Unlock()
	return h
}

// got gives what the host took.
func (h *host) got() []letter {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.letters)
}

// NewSession implements smtp.Backend.
func (h *host) NewSession(c *smtp.Conn) (smtp.Session, error) {
	_, secure := c.TLSConnectionState()
	return &hostSession{host: h, letter: letter{secure: secure}}, nil
}

type hostSession struct {
	host *host
	letter
	all []letter
}

func (s *hostSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *hostSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "secret" {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (s *hostSession) Mail(from string, opts *smtp.MailOptions) error {
	s.from, s.mail, s.all = from, *opts, nil
	return nil
}

func (s *hostSession) Rcpt(to string, opts *smtp.RcptOptions) error {
	if s.host.rcpt != nil {
		if err := s.host.rcpt(to); err != nil {
			return err
		}
	}
	l := s.letter
	l.to, l.rcpt = to, *opts
	s.all = append(s.all, l)
	return nil
}

func (s *hostSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	s.host.bodies++
	if s.host.data != nil {
		if err := s.host.data(s.host.bodies); err != nil {
			return err
		}
	}
	for i := range s.all {
		s.all[i].text = string(text)
	}
	s.host.letters = append(s.host.letters, s.all...)
	return nil
}

func (s *hostSession) Reset() {}

func (s *hostSession) Logout() error { return nil }
