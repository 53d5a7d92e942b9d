package milter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
	"anycastle/mailroles/milter"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/tally"
)

// recorder is a Handler that keeps what it is given.
type recorder struct {
	mu  sync.Mutex
	got []delivery
}

type delivery struct{ From, To, Hold, Text string }

type recording struct {
	*recorder
	env *smtpd.Envelope
}

func (r *recorder) Begin(_ context.Context, env *smtpd.Envelope) (smtpd.Transaction, error) {
	return recording{r, env}, nil
}

func (recording) Rcpt(context.Context, smtpd.Recipient) error { return nil }

func (recording) Close() {}

func (r recording) Deliver(context.Context) map[string]error {
	text, err := io.ReadAll(r.env.Body.Reader())
	d := delivery{From: r.env.From, Hold: r.env.Hold, Text: r.env.Head + string(text)}
	results := map[string]error{}
	for _, to := range r.env.To {
		d.To += to.Address
		results[to.Address] = err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, d)
	return results
}

// take gives what has been delivered since it was last called.
func (r *recorder) take() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = nil
	return got
}

// mx is an SMTP server that passes messages by milters.
type mx struct {
	recorder
	addr  string
	chain *milter.Chain
}

func newMX(t *testing.T, list ...milter.Config) *mx {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	m := &mx{chain: milter.New(list, milter.Options{Hostname: "mx.example.org", Daemon: "smtp", MaxSize: 50 << 20, Log: log})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	proctest.Check(t, err)
	m.addr = ln.Addr().String()
	srv := smtpd.NewServer(smtpd.Options{
		Hostname: "mx.example.org", MaxSize: 50 << 20, MaxSessions: 10, Handler: m, Filters: m.chain, Log: log, Tally: &tally.Tally{},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, s := range m.chain.Status() {
			if s.Connections != 0 {
				t.Errorf("%d connections to %s are left", s.Connections, s.Name)
			}
		}
	})
	return m
}

// client opens a session.
func (m *mx) client(t *testing.T) *smtp.Client {
	t.Helper()
	c, err := smtp.Dial(m.addr)
	proctest.Check(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// send gives the code of the reply to a message, 250 when it is taken.
func send(t *testing.T, c *smtp.Client, text string) int {
	t.Helper()
	err := c.SendMail("x@example.net", []string{"a@example.org"}, strings.NewReader(text))
	var reply *smtp.SMTPError
	switch {
	case err == nil:
		return 250
	case errors.As(err, &reply):
		t.Logf("refused: %v", err)
		proctest.Check(t, c.Reset())
		return reply.Code
	}
	t.Fatal(err)
	return 0
}

// daemon is a program that listens on a socket.
func daemon(t *testing.T, ns *netnstest.NS, dir, socket string, argv ...string) *proctest.Process {
	t.Helper()
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) { // of one that was killed
		t.Fatal(err)
	}
	start := time.Now()
	p := proctest.Start(t, ns, argv[0], dir, argv...)
	proctest.Eventually(t, socket+" is open", func() bool {
		if p.Ended() {
			t.Fatalf("%s has ended", argv[0])
		}
		conn, err := net.Dial("unix", socket)
		if err == nil {
			err = conn.Close()
		}
		return err == nil
	})
	t.Logf("%v is ready after %v", argv, time.Since(start).Round(time.Millisecond))
	return p
}

// rspamdConf is rspamd without its rules, which take seconds to compile: the pattern that tests it is built in.
const rspamdConf = `options {
  control_socket = "$DBDIR/control.sock mode=0600";
  tempdir = "$DBDIR";
  hs_cache_dir = "$DBDIR/";
  url_tld = "$DBDIR/tld.dat";
  filters = "";
  disable_hyperscan = true;
}
logging { type = "console"; level = "notice"; }
lua = "$RULESDIR/rspamd.lua";
actions { reject = 15; add_header = 6; }
modules { path = "$PLUGINSDIR/milter_headers.lua"; }
milter_headers { use = ["x-spamd-bar", "x-spam-status"]; skip_local = false; }
worker "rspamd_proxy" {
  bind_socket = "$DBDIR/rspamd.sock mode=0600";
  milter = yes;
  timeout = 120s;
  count = 1;
  upstream "local" { self_scan = yes; default = yes; }
}
`

// rspamd gives a start of rspamd, which gives its end, and its config here. Its processes are in a namespace that ends
// with the first of them.
func rspamd(t *testing.T, ns *netnstest.NS) (start func() (kill func()), c milter.Config) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "rspamd.conf"), rspamdConf)
	write(t, filepath.Join(dir, "tld.dat"), "org\nnet\n")
	socket := filepath.Join(dir, "rspamd.sock")
	argv := []string{"unshare", "--pid", "--fork", "--kill-child", "rspamd", "-f", "-i", "-u", "root", "-g", "root"}
	argv = append(argv, "-c", filepath.Join(dir, "rspamd.conf"))
	for _, name := range []string{"RUNDIR", "DBDIR", "LOGDIR", "LOCAL_CONFDIR"} {
		argv = append(argv, "--var="+name+"="+dir)
	}
	start = func() func() {
		outside := daemon(t, ns, dir, socket, argv...)
		kill := sync.OnceFunc(func() {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", outside.PID()))
			proctest.Check(t, err)
			first, err := strconv.Atoi(strings.TrimSpace(string(text)))
			proctest.Check(t, err)
			proctest.Check(t, syscall.Kill(first, syscall.SIGKILL))
			_ = outside.Wait() // it tells of the kill
		})
		t.Cleanup(kill)
		return kill
	}
	return start, milter.Config{Name: "rspamd", Addr: "unix:" + socket, Timeout: time.Minute, OnFailure: milter.Tempfail}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	proctest.Check(t, os.WriteFile(file, []byte(text), 0o644))
}

// virus and spam are the patterns by which scanners are tested. They are in pieces, so that no scanner minds this file.
var (
	virus = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-` + `ANTIVIRUS-TEST-FILE!$H+H*`
	spam  = `XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-` + `ANTI-UBE-TEST-EMAIL*C.34X`
)

const ordinary = "From: x@example.net\r\nTo: a@example.org\r\nSubject: lunch\r\n\tat noon\r\nMessage-ID: <1@example.net>\r\n" +
	"Date: Sun, 29 Nov 2026 12:00:00 +0000\r\n\r\nSee you.\r\n\r\n.. and caf\xe9\r\n"

func TestRspamd(t *testing.T) {
	ns := netnstest.New(t)
	start, config := rspamd(t, ns)
	m := newMX(t, config)
	c := m.client(t)
	if code := send(t, c, ordinary); code != 451 {
		t.Errorf("before rspamd runs: %d", code)
	}
	kill := start()
	for range 2 { // over one connection
		if code := send(t, c, ordinary); code != 250 {
			t.Fatalf("ordinary message: %d", code)
		}
		checkAdded(t, m.take(), ordinary, "X-Spamd-Bar:", "X-Spam-Status: No")
		if code := send(t, c, ordinary+spam+"\r\n"); code != 554 && code != 550 {
			t.Errorf("GTUBE: %d", code)
		}
	}
	large := ordinary + strings.Repeat("All work and no play makes Jack a dull boy.\r\n", 100_000)
	if code := send(t, c, large); code != 250 {
		t.Errorf("large message: %d", code)
	}
	checkAdded(t, m.take(), large, "X-Spamd-Bar:")
	kill()
	if code := send(t, c, ordinary); code != 451 {
		t.Errorf("rspamd was killed: %d", code)
	}
	start()
	if code := send(t, c, ordinary); code != 250 {
		t.Errorf("rspamd is back: %d", code)
	}
	checkAdded(t, m.take(), ordinary, "X-Spamd-Bar:")
	st := m.chain.Status()[0]
	t.Logf("%+v", st)
	if st.State != milter.StateOK || st.Verdicts["accept"] != 4 || st.Verdicts["reject"] != 2 || st.Failures["connect"] != 2 {
		t.Errorf("status: %+v", st)
	}
}

func TestRspamdThenClamAV(t *testing.T) {
	ns := netnstest.New(t)
	startRspamd, first := rspamd(t, ns)
	startClamd, startMilter, second := clamav(t, ns)
	startRspamd()
	startClamd()
	startMilter()
	m := newMX(t, first, second)
	m.untilClean(t, m.client(t))
	var wg sync.WaitGroup
	for range 4 {
		c := m.client(t)
		wg.Go(func() {
			for _, tc := range []struct {
				more string
				code int
			}{{"", 250}, {virus + "\r\n", 550}, {spam + "\r\n", 554}, {"", 250}} {
				err := c.SendMail("x@example.net", []string{"a@example.org"}, strings.NewReader(ordinary+tc.more))
				var reply *smtp.SMTPError
				if errors.As(err, &reply); (reply == nil) != (tc.code == 250) || reply != nil && (reply.Code != tc.code || c.Reset() != nil) {
					t.Errorf("%q: %v, want %d", tc.more, err, tc.code)
				}
			}
		})
	}
	wg.Wait()
	got := m.take()
	if len(got) != 8 {
		t.Errorf("%d messages, want 8", len(got))
	}
	for _, d := range got {
		checkAdded(t, []delivery{d}, ordinary, "X-Spamd-Bar:", "X-Virus-Status: Clean")
	}
	for _, st := range m.chain.Status() {
		t.Logf("%+v", st)
	}
}

// checkAdded makes sure that one message came, as it was sent but for fields that have been added.
func checkAdded(t *testing.T, got []delivery, sent string, fields ...string) {
	t.Helper()
	if len(got) != 1 {
		t.Fatalf("%d messages came", len(got))
	}
	sentHead, sentBody, _ := strings.Cut(sent, "\r\n\r\n")
	head, body, _ := strings.Cut(got[0].Text, "\r\n\r\n")
	if body != sentBody || got[0].From != "x@example.net" || got[0].To != "a@example.org" || got[0].Hold != "" {
		t.Errorf("came changed: %+v", got[0])
	}
	for _, f := range fields {
		if strings.Count("\r\n"+head, "\r\n"+f) != 1 {
			t.Errorf("field %s is not there once: %s", f, head)
		}
	}
	var kept bytes.Buffer
	for line := range strings.SplitSeq(head, "\r\n") {
		if !strings.HasPrefix(line, "X-") {
			kept.WriteString("\r\n" + line)
		}
	}
	if kept.String() != "\r\n"+sentHead {
		t.Errorf("header came as %q", head)
	}
}
