package mailroles_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/internal/mtls"
	"anycastle/mailroles"
	"anycastle/mailroles/queue"
)

// relay is a smarthost that keeps what it takes, and takes nothing for nobody@.
type relay struct {
	mu    sync.Mutex
	texts []string
}

func (r *relay) NewSession(*smtp.Conn) (smtp.Session, error) { return &relaySession{relay: r}, nil }

type relaySession struct{ relay *relay }

func (s *relaySession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *relaySession) Reset()                               {}
func (s *relaySession) Logout() error                        { return nil }

func (s *relaySession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such user"}
	}
	return nil
}

func (s *relaySession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	s.relay.texts = append(s.relay.texts, string(text))
	return err
}

func (r *relay) got() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.texts)
}

// runRelay starts a relay by TLS with the site's certificate.
func (s *site) runRelay() (*relay, string) {
	s.t.Helper()
	cert, err := tls.LoadX509KeyPair(s.base.TLS.Cert, s.base.TLS.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	r := &relay{}
	srv := smtp.NewServer(r)
	srv.Domain, srv.TLSConfig = "relay.example.net", &tls.Config{Certificates: []tls.Certificate{cert}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	s.t.Cleanup(func() { srv.Close(); <-done })
	return r, ln.Addr().String()
}

// runQueue starts the store of lun-east with a queue that sends by way of a smarthost.
func (s *site) runQueue(smarthost string) (*mailroles.Store, *prometheus.Registry) {
	s.t.Helper()
	cfg := s.base
	cfg.Store = &mailroles.StoreConfig{}
	cfg.Store.SetDefaults()
	cfg.Store.LUN, cfg.Store.Path = "lun-east", filepath.Join(s.dir, "lun-east")
	cfg.Store.LMTPListen, cfg.Store.IMAPListen, cfg.Store.QueueListen = s.at("lun-east/lmtp"), s.at("lun-east/imap"), s.at("lun-east/queue")
	cfg.Store.Queue.Smarthost = &queue.Smarthost{Host: smarthost, CA: s.base.TLS.CA}
	cfg.Store.Queue.Resolvers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")} // nobody asks
	opt, reg := s.options(), prometheus.NewRegistry()
	opt.Registry = reg
	role, err := mailroles.NewStore(cfg, opt)
	s.run(role, err)
	return role, reg
}

// queueMail hands a message to the queue as a front end does, and gives the answers by recipient.
func (s *site) queueMail(from string, to []string, msg string) map[string]error {
	s.t.Helper()
	material, err := mtls.Load(s.base.TLS, s.options().Log)
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", s.addrs["lun-east/queue"].String(), material.ClientOfAny())
	if err != nil {
		s.t.Fatal(err)
	}
	c := smtp.NewClientLMTP(conn)
	defer c.Close()
	if err := c.Mail(from, nil); err != nil {
		s.t.Fatal(err)
	}
	answers := map[string]error{}
	for _, a := range to {
		if err := c.Rcpt(a, nil); err != nil {
			answers[a] = err
		}
	}
	if len(answers) == len(to) {
		return answers
	}
	w, err := c.Data()
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(w, msg); err != nil {
		s.t.Fatal(err)
	}
	taken, err := w.CloseWithLMTPResponse()
	for _, a := range to {
		if _, ok := taken[a]; !ok && answers[a] == nil {
			answers[a] = err
		}
	}
	return answers
}

func TestQueueOfAStore(t *testing.T) {
	s := newSubmissionSite(t)
	r, addr := s.runRelay()
	role, reg := s.runQueue(addr)
	s.runIMAP()
	for a, err := range s.queueMail(alice, []string{"x@elsewhere.example", "nobody@elsewhere.example"}, greeting) {
		t.Errorf("%s: %v", a, err)
	}
	if got := s.queueMail(alice, []string{"x@elsewhere..example"}, greeting); got["x@elsewhere..example"] == nil {
		t.Error("what is no address is taken")
	}
	waitFor(t, "an empty queue", func() bool { return len(role.Queue().([]queue.Status)) == 0 && r.got() == 1 })
	mail := s.mailIn(alice) // the report on nobody@
	if len(mail) != 1 || !strings.HasPrefix(mail[0], "Return-Path: <>\r\nFrom: Mail Delivery System <mailer-daemon@mx.example.org>\r\n") ||
		!strings.Contains(mail[0], "Final-Recipient: rfc822; nobody@elsewhere.example\r\nAction: failed\r\nStatus: 5.1.1\r\n") {
		t.Errorf("alice has %q", mail)
	}
	st := role.Status().(mailroles.StoreStatus).Queue
	if st == nil || st.Delivered != 1 || st.Bounced["rejected"] != 1 || st.Reports["failed"] != 1 || st.Server.Done != 2 {
		t.Errorf("status %+v", st)
	}
	const want = `
# HELP anycastle_queue_bounces_total Recipients that failed, since the start, by reason.
# TYPE anycastle_queue_bounces_total counter
anycastle_queue_bounces_total{reason="rejected"} 1
# HELP anycastle_queue_deliveries_total Recipients whose hosts took a message, since the start.
# TYPE anycastle_queue_deliveries_total counter
anycastle_queue_deliveries_total 1
# HELP anycastle_queue_entries Messages in the queue, by state.
# TYPE anycastle_queue_entries gauge
anycastle_queue_entries{state="held"} 0
anycastle_queue_entries{state="waiting"} 0
`
	names := []string{"anycastle_queue_bounces_total", "anycastle_queue_deliveries_total", "anycastle_queue_entries"}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) != 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

// A report finds its way to a mailbox of another LUN, not to what other sites would call our MX.
func TestReportGoesToTheSendersLUN(t *testing.T) {
	s := newSubmissionSite(t)
	r, addr := s.runRelay()
	role, _ := s.runQueue(addr)
	s.runStore("lun-west")
	s.runIMAP()
	s.queueMail(bob, []string{"nobody@elsewhere.example"}, greeting)
	waitFor(t, "an empty queue", func() bool { return len(role.Queue().([]queue.Status)) == 0 })
	mail := s.mailIn(bob)
	if len(mail) != 1 || !strings.HasPrefix(mail[0], "Return-Path: <>\r\nFrom: Mail Delivery System") || r.got() != 0 {
		t.Errorf("bob has %q, the relay %d", mail, r.got())
	}
}

// What a user submits for another site goes by way of the queue of his LUN.
func TestSubmittedMailLeaves(t *testing.T) {
	s := newSubmissionSite(t)
	r, addr := s.runRelay()
	role, _ := s.runQueue(addr)
	s.run(mailroles.NewSubmission(s.base, s.options()))
	s.runIMAP()
	msg := strings.Replace(greeting, "x@example.org", alice, 1)
	if err := s.submit("submission", alice, []string{alice, "x@elsewhere.example", "nobody@elsewhere.example"}, msg); err != nil {
		t.Fatalf("%v\n%s", err, s.log)
	}
	waitFor(t, "an empty queue", func() bool { return len(role.Queue().([]queue.Status)) == 0 && r.got() == 1 })
	mail := s.mailIn(alice) // the message, and the report on nobody@
	if len(mail) != 2 || !strings.HasSuffix(mail[0], msg) || !strings.Contains(mail[1], "nobody@elsewhere.example\r\nAction: failed\r\n") {
		t.Errorf("alice has %q", mail)
	}
	if !strings.HasSuffix(r.texts[0], msg) {
		t.Errorf("the relay has %q", r.texts[0])
	}
}

func TestQueueTakesOrders(t *testing.T) {
	s := newSubmissionSite(t)
	role, _ := s.runQueue("127.0.0.1:1") // where nobody is
	s.queueMail(alice, []string{"x@elsewhere.example"}, greeting)
	waitFor(t, "an attempt", func() bool {
		list := role.Queue().([]queue.Status)
		return len(list) == 1 && list[0].Recipients[0].Attempts == 1
	})
	order := func(text string) string {
		t.Helper()
		w := httptest.NewRecorder()
		role.QueueOrders()["POST /v1/queue-order"](w, httptest.NewRequest(http.MethodPost, "/v1/queue-order", strings.NewReader(text)))
		return fmt.Sprint(w.Code, " ", strings.TrimSpace(w.Body.String()))
	}
	if got := order(`{"order": "delete", "id": "all"}`); got != `200 {"entries":1}` {
		t.Errorf("delete: %s", got)
	}
	if got := order(`{"order": "flush", "id": "1"}`); !strings.HasPrefix(got, "422 the queue has no entry") {
		t.Errorf("flush of none: %s", got)
	}
	// at once, or when the attempt that has been counted is written down
	waitFor(t, "an empty queue", func() bool { return len(role.Queue().([]queue.Status)) == 0 })
}

func TestStoreWithoutAQueue(t *testing.T) {
	s := newSite(t)
	role, _ := s.runStore("lun-west")
	if list, ok := role.Queue().([]queue.Status); !ok || len(list) != 0 || role.Status().(mailroles.StoreStatus).Queue != nil {
		t.Errorf("queue: %+v", role.Queue())
	}
	w := httptest.NewRecorder()
	role.QueueOrders()["POST /v1/queue-order"](w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"order": "flush", "id": "all"}`)))
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "LUN lun-west has no queue") {
		t.Errorf("order: %d %s", w.Code, w.Body)
	}
}
