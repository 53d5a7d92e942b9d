package mailroles_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/mailroles"
	"anycastle/mailroles/submission"
)

// sink is an LMTP server that keeps all mail, in the place of stores and queues.
type sink struct {
	mu   sync.Mutex
	mail map[string][]string // by recipient
}

type sinkSession struct {
	sink *sink
	to   []string
}

func (s *sinkSession) Reset()                                    { s.to = nil }
func (s *sinkSession) Logout() error                             { return nil }
func (s *sinkSession) Mail(string, *smtp.MailOptions) error      { return nil }
func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error { s.to = append(s.to, to); return nil }

func (s *sinkSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	for _, to := range s.to {
		s.sink.mail[to] = append(s.sink.mail[to], string(text))
	}
	return err
}

// take gives a recipient's mail, and forgets it.
func (s *sink) take(to string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.mail[to]
	delete(s.mail, to)
	return list
}

// runSink serves the places by mutual TLS.
func (s *site) runSink(places ...string) *sink {
	s.t.Helper()
	material, err := mtls.Load(s.base.TLS, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	k := &sink{mail: map[string][]string{}}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: k}, nil }))
	server.LMTP, server.EnableDSN, server.EnableSMTPUTF8 = true, true, true
	server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	var serving sync.WaitGroup
	for _, place := range places {
		ln, err := s.listen(s.t.Context(), "tcp", s.addrs[place].String())
		if err != nil {
			s.t.Fatal(err)
		}
		serving.Go(func() { server.Serve(tls.NewListener(ln, material.Server())) })
	}
	s.t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	return k
}

// newSubmissionSite is a site with places for a submission service and queues.
func newSubmissionSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	for _, name := range []string{"submission", "submissions", "lun-east/queue", "lun-west/queue"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.addrs[name] = netip.MustParseAddrPort(ln.Addr().String())
		s.ready[ln.Addr().String()] = ln
		t.Cleanup(func() { ln.Close() })
	}
	for i := range s.base.LUNs {
		s.base.LUNs[i].Queue = s.addrs[s.base.LUNs[i].Name+"/queue"]
	}
	s.base.Submission = &submission.Config{}
	s.base.Submission.SetDefaults()
	s.base.Submission.Listen = []config.ListenAddr{s.at("submission")}
	s.base.Submission.TLSListen = []config.ListenAddr{s.at("submissions")}
	return s
}

// submit logs in and sends a message.
func (s *site) submit(place, user string, to []string, msg string) error {
	s.t.Helper()
	var c *smtp.Client
	var err error
	if place == "submissions" {
		c, err = smtp.DialTLS(s.addrs[place].String(), clientTLS)
	} else {
		c, err = smtp.DialStartTLS(s.addrs[place].String(), clientTLS)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", user, password)); err != nil {
		return err
	}
	return c.SendMail(user, to, strings.NewReader(msg))
}

func TestSubmissionPassesMailOnByLUN(t *testing.T) {
	s := newSubmissionSite(t)
	stores := s.runSink("lun-east/lmtp", "lun-west/lmtp")
	queues := map[string]*sink{"lun-east": s.runSink("lun-east/queue"), "lun-west": s.runSink("lun-west/queue")}
	role, err := mailroles.NewSubmission(s.base, s.options())
	stop := s.run(role, err)
	for place, sender := range map[string]string{"submission": alice, "submissions": bob} {
		msg := strings.Replace(greeting, "x@example.org", sender, 1)
		if err := s.submit(place, sender, []string{alice, bob, "x@example.com"}, msg); err != nil {
			t.Fatalf("%s: %v\n%s", place, err, s.log)
		}
		lun := map[string]string{alice: "lun-east", bob: "lun-west"}[sender]
		for _, got := range [][]string{stores.take(alice), stores.take(bob), queues[lun].take("x@example.com")} {
			if len(got) != 1 || !strings.HasSuffix(got[0], msg) || strings.Contains(got[0], "127.0.0.1") {
				t.Errorf("%s: %q was handed on, want once and with no address of the client", place, got)
			}
		}
	}
	if err := s.submit("submission", "alice@example.net", nil, ""); err == nil {
		t.Error("an unknown user logged in")
	}
	status := role.Status().(mailroles.SubmissionStatus)
	if status.Deliveries != 2 || status.Rejects["login"] != 1 || len(status.LUNs) != 4 {
		t.Errorf("status is %+v", status)
	}
	stop()
	if role.Healthy() == nil {
		t.Error("it is healthy after its end")
	}
	if strings.Contains(s.log.String(), "correct horse") {
		t.Error("the password is in the log")
	}
}

func TestSubmissionWithoutAQueueAcknowledgesNothing(t *testing.T) {
	s := newSubmissionSite(t)
	stores := s.runSink("lun-east/lmtp", "lun-west/lmtp")
	s.mu.Lock()
	at := s.addrs["lun-east/queue"].String()
	s.ready[at].Close() // nobody is to wait in its backlog
	delete(s.ready, at)
	s.mu.Unlock()
	role, err := mailroles.NewSubmission(s.base, s.options())
	s.run(role, err)
	msg := strings.Replace(greeting, "x@example.org", alice, 1)
	err = s.submit("submission", alice, []string{bob, "x@example.com"}, msg)
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) || reply.Code != 451 {
		t.Errorf("queue is away: %v, want 451", err)
	}
	queue := s.runSink("lun-east/queue")
	if err := s.submit("submission", alice, []string{bob, "x@example.com"}, msg); err != nil {
		t.Error(err)
	}
	// a real store knows the second by its transaction id
	if got := stores.take(bob); len(got) != 2 {
		t.Errorf("bob's store got %d messages, want both", len(got))
	}
	if got := queue.take("x@example.com"); len(got) != 1 {
		t.Errorf("the queue got %d messages, want 1", len(got))
	}
}

func TestSubmissionReload(t *testing.T) {
	s := newSubmissionSite(t)
	s.runSink("lun-east/lmtp", "lun-west/lmtp")
	role, err := mailroles.NewSubmission(s.base, s.options())
	s.run(role, err)
	changed := func(change func(*mailroles.Config)) mailroles.Config {
		c := s.base
		sub := *s.base.Submission
		c.Submission, c.LUNs = &sub, slices.Clone(c.LUNs)
		change(&c)
		return c
	}
	for name, c := range map[string]mailroles.Config{
		"no section":     changed(func(c *mailroles.Config) { c.Submission = nil }),
		"another port":   changed(func(c *mailroles.Config) { c.Submission.Listen = nil }),
		"another store":  changed(func(c *mailroles.Config) { c.LUNs[0].LMTP = c.LUNs[1].LMTP }),
		"a missing file": changed(func(c *mailroles.Config) { c.Submission.DKIM.Keys = []submission.DKIMKey{{File: "/none"}} }),
	} {
		if err := role.Reload(t.Context(), c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	msg := strings.Replace(greeting, "x@example.org", alice, 1)
	if err := s.submit("submission", alice, []string{bob}, msg); err != nil {
		t.Fatal(err)
	}
	if err := role.Reload(t.Context(), changed(func(c *mailroles.Config) { c.Submission.MessagesPerHour = 1 })); err != nil {
		t.Fatal(err)
	}
	var reply *smtp.SMTPError
	if err := s.submit("submission", alice, []string{bob}, msg); !errors.As(err, &reply) || reply.Code != 450 {
		t.Errorf("second message in an hour: %v, want 450", err)
	}
}
