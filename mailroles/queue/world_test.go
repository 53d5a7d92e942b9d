package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"

	"anycastle/internal/proctest"
	"anycastle/mailroles/mtasts"
	"anycastle/mailroles/queue/mx"
	"anycastle/mailroles/queue/remote"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/spool"
)

// world is what is around a queue: a DNS server, hosts, mailboxes at home.
type world struct {
	t   *testing.T
	dir string
	log *proctest.Transcript

	mu      sync.Mutex
	zone    []dns.RR
	broken  map[string]bool           // names whose questions nobody can answer
	hosts   map[netip.AddrPort]string // where a host of the world really listens
	dials   map[netip.AddrPort]int
	home    []letter // reports in mailboxes at home
	homeErr error
	dns     netip.AddrPort
	change  func(*Options) // of the next queue
}

// letter is a message as somebody got it.
type letter struct {
	from, to string
	mail     smtp.MailOptions
	rcpt     smtp.RcptOptions
	text     string
	secure   bool
	user     string
}

const (
	alice = "alice@home.example" // has a mailbox at home
	hello = "From: alice@home.example\r\nSubject: hello\r\n\r\nHello.\r\n"
)

func newWorld(t *testing.T, records ...string) *world {
	t.Helper()
	w := &world{
		t: t, dir: filepath.Join(t.TempDir(), ".queue"), log: &proctest.Transcript{}, broken: map[string]bool{},
		hosts: map[netip.AddrPort]string{}, dials: map[netip.AddrPort]int{}, change: func(*Options) {},
	}
	w.publish(records...)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.dns = netip.MustParseAddrPort(pc.LocalAddr().String())
	up, done := make(chan struct{}), make(chan error, 1)
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(w.answer), NotifyStartedFunc: func() { close(up) }}
	go func() { done <- srv.ActivateAndServe() }()
	<-up
	t.Cleanup(func() {
		if err := errors.Join(srv.Shutdown(), <-done); err != nil {
			t.Error(err)
		}
	})
	return w
}

// publish adds records.
func (w *world) publish(records ...string) {
	w.t.Helper()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			w.t.Fatalf("%s: %v", text, err)
		}
		w.mu.Lock()
		w.zone = append(w.zone, rr)
		w.mu.Unlock()
	}
}

func (w *world) answer(rw dns.ResponseWriter, q *dns.Msg) {
	w.mu.Lock()
	m := new(dns.Msg).SetReply(q)
	name := strings.ToLower(q.Question[0].Name)
	m.Rcode = dns.RcodeNameError
	for _, rr := range w.zone {
		if rr.Header().Name == name {
			m.Rcode = dns.RcodeSuccess
			if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	if w.broken[name] {
		m.Rcode, m.Answer = dns.RcodeServerFailure, nil
	}
	w.mu.Unlock()
	_ = rw.WriteMsg(m) // a client that went away is in order
}

// dial reaches a host of the world; one that is not there refuses.
func (w *world) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	w.dials[addr]++
	real, ok := w.hosts[addr]
	w.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", real)
}

func (w *world) dialed(addr string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dials[netip.MustParseAddrPort(addr)]
}

// Deliver implements Home: alice is at home.
func (w *world) Deliver(_ context.Context, address, tx string, size int64, body func() (io.ReadCloser, error)) error {
	if address != alice {
		return ErrElsewhere
	}
	r, err := body()
	if err != nil {
		return err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(text)) != size {
		w.t.Errorf("a report has %d bytes and says %d", len(text), size)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.homeErr != nil {
		return w.homeErr
	}
	if slices.ContainsFunc(w.home, func(l letter) bool { return tx != "" && l.mail.EnvelopeID == tx }) {
		return nil // a repetition
	}
	w.home = append(w.home, letter{to: address, text: string(text), mail: smtp.MailOptions{EnvelopeID: tx}})
	return nil
}

// reports gives what is in alice's mailbox.
func (w *world) reports() []letter {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.home)
}

// open opens the world's queue, with short times.
func (w *world) open() (*Queue, error) {
	short := 5 * time.Second
	opt := Options{
		Dir: w.dir, Hostname: "mail.home.example", Home: w, Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Resolver: &mx.Resolver{Servers: []netip.AddrPort{w.dns}}, Policies: noPolicies{}, Dial: w.dial,
		Own:   func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("198.51.100.1")}, nil },
		Times: remote.Times{Dial: short, Greeting: short, Command: short, Block: short, Final: short},
	}
	opt.Config.SetDefaults()
	opt.Config.RetryMin, opt.Config.RetryMax = 20*time.Millisecond, 100*time.Millisecond
	w.change(&opt)
	return Open(opt)
}

type noPolicies struct{}

func (noPolicies) Policy(context.Context, string) (mtasts.Policy, bool) {
	return mtasts.Policy{}, false
}

// run opens the queue and runs it until the test ends, or stop is called.
func (w *world) run() (q *Queue, stop func()) {
	w.t.Helper()
	q, err := w.open()
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	w.t.Cleanup(stop)
	return q, stop
}

// message is what a test queues.
type message struct {
	from, tx, text, hold string
	mail                 smtp.MailOptions
	to                   []smtpd.Recipient
}

func to(addresses ...string) []smtpd.Recipient {
	var list []smtpd.Recipient
	for _, a := range addresses {
		list = append(list, smtpd.Recipient{Address: a})
	}
	return list
}

// put hands a message to the queue as the LMTP server does, and gives the answers.
func put(t *testing.T, q *Queue, m message) (map[string]error, error) {
	t.Helper()
	if m.text == "" {
		m.text = hello
	}
	body, err := spool.Fill("", strings.NewReader(m.text))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	env := &smtpd.Envelope{From: m.from, Options: m.mail, Tx: m.tx, Hold: m.hold, Head: "Received: from x by y; now\r\n", Body: body}
	tx, err := Handler{q}.Begin(t.Context(), env)
	if err != nil {
		return nil, err
	}
	defer tx.Close()
	for _, r := range m.to {
		if err := tx.Rcpt(t.Context(), r); err != nil {
			return nil, err
		}
		env.To = append(env.To, r)
	}
	return tx.Deliver(t.Context()), nil
}

// mustPut is put of what must be taken.
func mustPut(t *testing.T, q *Queue, m message) {
	t.Helper()
	results, err := put(t, q, m)
	for to, e := range results {
		if e != nil {
			err = fmt.Errorf("%s: %w", to, e)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fail has nobody able to answer questions about a name.
func (w *world) fail(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken[name] = true
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// empty waits until the queue has nothing left.
func empty(t *testing.T, q *Queue) {
	t.Helper()
	waitFor(t, "an empty queue", func() bool { return q.Summary().Entries == 0 })
}

// only gives the one recipient of the one entry.
func only(t *testing.T, q *Queue) RecipientStatus {
	t.Helper()
	list := q.Status()
	if len(list) != 1 || len(list[0].Recipients) != 1 {
		t.Fatalf("the queue has %+v, want one entry with one recipient", list)
	}
	return list[0].Recipients[0]
}

// files gives the names in a folder of the queue.
func (w *world) files(dir string) []string {
	w.t.Helper()
	list, err := os.ReadDir(filepath.Join(w.dir, dir))
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, f := range list {
		all = append(all, f.Name())
	}
	return all
}
